//! `artstore audit accept-stream`: continues a log whose checkpoint does not fit its stream, if every row
//! agrees with its message. A checkpoint identifies its stream by the time of its creation and its last
//! event, so the projector halts where the stream was recreated or the checkpoint was changed.

use artstore_runtime::count::{by, counted};
use std::process::ExitCode;

use anyhow::bail;
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::runtime::checkpoint::{self, Checkpoint};
use artstore_schemas::source::Source;
use chrono::{DateTime, SubsecRound as _, Utc};
use clap::Args;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::database::{database, reached};
use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError};
use crate::operator;
use artstore_verification::audit::against;
use artstore_verification::audit::facts::End;

/// Which log, and why.
#[derive(Debug, Args)]
pub struct AcceptStream {
    /// The stream of the log: ARTSTORE_ADMIN, or an element's name, admin or query
    #[arg(long, value_parser = crate::names::stream)]
    stream: String,
    /// What happened to the stream or the checkpoint: this goes into the log
    #[arg(long, value_parser = reason)]
    reason: String,
    #[command(flatten)]
    audit: AuditSettings,
}

impl AcceptStream {
    /// Which log.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }
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
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore audit accept-stream")?)
        .await?
        .patient();
    let mut connection = reached(&database(config)?).await?;
    let known = checkpoint::load(&mut connection, AuditLog::NAME, stream).await?;
    let size = End::read(&mut connection, stream)
        .await?
        .map(|end| end.size);
    if known.is_none() && size.is_none() {
        return Err(ConfigError(format!("--stream: there is no log of {stream}")).into());
    }
    let size = size.unwrap_or(0);
    let info = bus.stream_info(stream).await?;
    let last = info.state.last_sequence;
    if last < size {
        bail!(
            "the log of {stream} has {}, the stream ends at message {last}: nothing was \
             changed. Start its relay (artstore run relay), which publishes what the source still \
             has, and run the same command again",
            counted(size, "row")
        );
    }
    let fits = fitting(&bus, &source, size, info.created).await?;
    if known.as_ref().is_some_and(|known| fits.is(known)) {
        println!(
            "the checkpoint of the log of {stream} fits its rows and the stream: there is nothing to accept"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let range = (1, size);
    let report = against::check(&mut connection, &bus, &source, &trusted, range, |_| {}).await?;
    let differ = report.findings.len() + report.gone;
    if differ > 0 || report.derived != size {
        let first = report.findings.iter().next();
        bail!(
            "{} of {} not what the messages of this {stream} say{}: nothing was changed, and \
             the log can't continue with it. Restore the stream that it is of from a backup. Until then \
             its rows can be read and proven as before (artstore audit verify --no-bus --stream \
             {stream}; artstore audit export --format jsonl --stream {stream})",
            differ.max(size.saturating_sub(report.derived)),
            format_args!("{} {}", counted(size, "row"), by(size, "is", "are")),
            first.map_or_else(String::new, |finding| format!(" ({})", finding.text)),
        );
    }
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
            "created_before": known.as_ref().map(|known| known.stream_created_at),
            "created": fits.created,
            "checkpoint_before": known.as_ref().map(|known| known.last_sequence),
            "operator": operator,
        }),
        request_id: None,
        traceparent: None,
    };
    let mut transaction = connection.begin().await?;
    if !fits.store(&mut transaction, stream, known.as_ref()).await? {
        bail!("the checkpoint of {stream} was moved meanwhile: nothing was changed; try again");
    }
    let actor = operator::actor("audit accept-stream");
    outbox::insert_once(&mut transaction, Uuid::new_v4(), &actor, &event).await?;
    transaction.commit().await?;
    connection.close().await?;
    println!(
        "{stream}: {} compared, and what its messages say. Its log continues from row {}; that this was \
         accepted is recorded as audit_stream_accepted in the log of the admin module",
        counted(size, "row"),
        size + 1
    );
    Ok(ExitCode::SUCCESS)
}

/// The checkpoint that fits a log and its stream.
struct Fitting {
    sequence: u64,
    event: Option<Uuid>,
    /// When the stream was created, as PostgreSQL keeps it.
    created: DateTime<Utc>,
    /// What the last message states of the source; none: there is no readable one.
    source: Option<(i64, String)>,
}

/// The checkpoint behind the last row.
async fn fitting(
    bus: &Bus,
    source: &Source,
    size: u64,
    created: DateTime<Utc>,
) -> anyhow::Result<Fitting> {
    let message = bus.message_at(&source.stream(), size).await?;
    let envelope = message.and_then(|message| message.envelope());
    Ok(Fitting {
        sequence: size,
        event: envelope.as_ref().map(|envelope| envelope.id),
        created: created.trunc_subsecs(6),
        source: match (size, envelope) {
            (0, _) => Some((0, String::new())),
            (_, envelope) => envelope.map(|e| (e.high_water_mark, e.gaps.to_string())),
        },
    })
}

impl Fitting {
    fn is(&self, known: &Checkpoint) -> bool {
        let event = self.event == known.last_event_id || self.source.is_none();
        self.sequence == known.last_sequence && self.created == known.stream_created_at && event
    }

    /// Stores it in the place of the known one. False: that one was moved meanwhile.
    async fn store(
        &self,
        transaction: &mut PgConnection,
        stream: &str,
        known: Option<&Checkpoint>,
    ) -> anyhow::Result<bool> {
        let sequence = i64::try_from(self.sequence)?;
        let (high, gaps) = self.source.clone().unzip();
        let done = match known {
            // What the messages state about the source is published again, and may differ.
            Some(known) => sqlx::query(
                "update public.projection_checkpoints set last_sequence = $3, \
                     last_event_id = $4, stream_created_at = $5, \
                     source_high = coalesce($6, source_high), \
                     source_missing = coalesce($7, source_missing), \
                     generation = generation + 1, updated_at = now() \
                 where projection = $1 and stream = $2 and generation = $8 and last_sequence = $9 \
                     and stream_created_at = $10",
            )
            .bind(AuditLog::NAME)
            .bind(stream)
            .bind(sequence)
            .bind(self.event)
            .bind(self.created)
            .bind(high)
            .bind(gaps)
            .bind(known.generation)
            .bind(i64::try_from(known.last_sequence)?)
            .bind(known.stream_created_at),
            None => sqlx::query(
                "insert into public.projection_checkpoints \
                     (projection, stream, version, last_sequence, last_event_id, stream_created_at, \
                      source_high, source_missing, generation, parks_in_row) \
                 values ($1, $2, $8, $3, $4, $5, coalesce($6, 0), coalesce($7, ''), 1, 0) \
                 on conflict (projection, stream) do nothing",
            )
            .bind(AuditLog::NAME)
            .bind(stream)
            .bind(sequence)
            .bind(self.event)
            .bind(self.created)
            .bind(high)
            .bind(gaps)
            .bind(i32::try_from(AuditLog::VERSION)?),
        };
        Ok(done.execute(transaction).await?.rows_affected() == 1)
    }
}
