//! `artstore audit accept-stream`: continues a log whose stream was recreated, if every row still
//! agrees with its message. A checkpoint identifies its stream by the time of its creation, so the
//! projector halts at another one, whatever that contains.

use artstore_runtime::count::{by, counted};
use std::process::ExitCode;

use anyhow::bail;
use artstore_bus::bus::Bus;
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::runtime::checkpoint;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use chrono::SubsecRound as _;
use clap::Args;
use serde_json::json;
use sqlx::Connection as _;
use uuid::Uuid;

use super::database::{database, reached};
use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError};
use crate::operator;
use artstore_verification::audit::against;
use artstore_verification::audit::facts::End;
use artstore_verification::reader;

/// Which log, and why.
#[derive(Debug, Args)]
pub struct AcceptStream {
    /// The stream that was made again: ARTSTORE_ADMIN, or an element's name, admin or query
    #[arg(long, value_parser = crate::names::stream)]
    stream: String,
    /// What happened to it: this goes into the log
    #[arg(long, value_parser = reason)]
    reason: String,
    #[command(flatten)]
    audit: AuditSettings,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say what happened to the stream".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// Runs the command. Event and checkpoint are written together, or nothing is.
pub async fn run(config: &Config, command: &AcceptStream) -> anyhow::Result<ExitCode> {
    let stream = &command.stream;
    let source = Source::of_stream(stream)
        .ok_or_else(|| ConfigError(format!("--stream: {stream} is no stream of a source")))?;
    let trusted = command.audit.trusted()?;
    let bus = Bus::connect(&config.bus("artstore audit accept-stream"))
        .await?
        .patient();
    let mut connection = reached(&database(config)?).await?;
    let known = checkpoint::load(&mut connection, AuditLog::NAME, stream).await?;
    let (Some(known), Some(end)) = (known, End::read(&mut connection, stream).await?) else {
        return Err(ConfigError(format!("--stream: there is no log of {stream}")).into());
    };
    let info = bus.stream_info(stream).await?;
    // As PostgreSQL keeps it.
    let created = info.created.trunc_subsecs(6);
    if created == known.stream_created_at {
        println!("{stream} is the stream that its log is of: there is nothing to accept");
        return Ok(ExitCode::SUCCESS);
    }
    let (size, last) = (end.size, info.state.last_sequence);
    if last < size {
        bail!(
            "the log of {stream} has {}, the stream ends at message {last}: nothing was \
             changed. Start its relay (artstore run relay), which publishes what the source still \
             has, and run the same command again",
            counted(size, "row")
        );
    }
    let range = (1, size);
    let report = against::check(&mut connection, &bus, &source, &trusted, range, |_| {}).await?;
    let differ = report.findings.len() + report.gone;
    if differ > 0 || report.derived != size {
        let first = report.findings.iter().next();
        bail!(
            "{} of {} not what the messages of this {stream} say{}: nothing was changed, and \
             the log can't go on with it. Restore the stream that it is of from a backup. Until then \
             its rows can be read and proven as before (artstore audit verify --no-bus --stream \
             {stream}; artstore audit export --format jsonl --stream {stream})",
            differ.max(size.saturating_sub(report.derived)),
            format_args!("{} {}", counted(size, "row"), by(size, "is", "are")),
            first.map_or_else(String::new, |finding| format!(" ({})", finding.text)),
        );
    }
    let message = reader::message(&bus, &source, size).await?;
    let envelope = message.and_then(|message| Envelope::from_headers(&message.headers).ok());
    let operator = operator::operator(&mut connection).await?;
    let event = OutboxInsert {
        entity: "audit".to_owned(),
        action: "stream-accepted".to_owned(),
        ordering_key: None,
        subject: Some(stream.clone()),
        data: json!({
            "stream": stream,
            "reason": command.reason,
            "rows": size,
            "created_before": known.stream_created_at,
            "created": created,
            "operator": operator,
        }),
        request_id: None,
        traceparent: None,
    };
    let mut transaction = connection.begin().await?;
    // What the messages state about the source is published again, and may differ.
    let moved = sqlx::query(
        "update public.projection_checkpoints set stream_created_at = $3, \
             source_high = coalesce($4, source_high), source_missing = coalesce($5, source_missing), \
             generation = generation + 1, updated_at = now() \
         where projection = $1 and stream = $2 and generation = $6 and last_sequence = $7 \
             and stream_created_at = $8",
    )
    .bind(AuditLog::NAME)
    .bind(stream)
    .bind(created)
    .bind(envelope.as_ref().map(|envelope| envelope.high_water_mark))
    .bind(envelope.as_ref().map(|envelope| envelope.gaps.to_string()))
    .bind(known.generation)
    .bind(i64::try_from(size)?)
    .bind(known.stream_created_at)
    .execute(&mut *transaction)
    .await?;
    if moved.rows_affected() != 1 {
        bail!("the checkpoint of {stream} was moved meanwhile: nothing was changed; try again");
    }
    let actor = operator::actor("audit accept-stream");
    outbox::insert_once(&mut transaction, Uuid::new_v4(), &actor, &event).await?;
    transaction.commit().await?;
    connection.close().await?;
    println!(
        "{stream}: {} compared, and what its messages say. Its log goes on from row {}; that the stream \
         was made again is recorded as audit_stream_accepted in the log of the admin module",
        counted(size, "row"),
        size + 1
    );
    Ok(ExitCode::SUCCESS)
}
