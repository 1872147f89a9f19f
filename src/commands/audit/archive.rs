//! `artstore audit archive`.

use artstore_runtime::count::counted;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_projectors::audit_log::chain::origin_hash;
use artstore_projectors::audit_log::head::Head;
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::{published, store};
use artstore_runtime::crash;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::database::{database, reached};
use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError};
use crate::day_or_time;
use crate::names;
use crate::operator;
use artstore_verification::audit::archive::check::{Checked, check};
use artstore_verification::audit::archive::range::{self, End};
use artstore_verification::audit::archive::recorded::{self, Recorded};
use artstore_verification::audit::archive::write::{self, Wanted};
use artstore_verification::audit::archive::{Archived, LEAST_RETENTION, remove};

/// How often the log is asked for the event.
const LOOK: Duration = Duration::from_millis(200);

/// What goes into an archive.
#[derive(Debug, Args)]
pub struct Archive {
    /// Rows of before this day or time: 2019-01-31, or 2019-01-31T12:00:00Z. Not younger than the
    /// retention
    #[arg(long, value_parser = day_or_time::first)]
    before: DateTime<Utc>,
    /// The folder that gets a folder for each archive
    #[arg(long)]
    to: PathBuf,
    /// Only of these streams: ARTSTORE_ADMIN, or an element's name, admin or query
    #[arg(long, value_parser = names::stream)]
    stream: Vec<String>,
    /// Only show what would be archived
    #[arg(long)]
    dry_run: bool,
    /// How many seconds the event of the archive may take to come into the log
    #[arg(long, default_value_t = 120)]
    wait: u64,
    /// How many days audit rows are kept: 2555 or more
    #[arg(long, env = "SECURITY_AUDIT_RETENTION_DAYS", default_value_t = LEAST_RETENTION)]
    retention_days: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

impl Archive {
    /// Or it only shows.
    pub(super) fn changes(&self) -> bool {
        !self.dry_run
    }
}

/// Refuses what is younger than the retention.
fn retention(command: &Archive) -> Result<(), ConfigError> {
    let days = command.retention_days;
    if days < LEAST_RETENTION {
        return Err(ConfigError(format!(
            "SECURITY_AUDIT_RETENTION_DAYS={days}: audit rows are kept for at least \
             {LEAST_RETENTION} days"
        )));
    }
    let kept =
        chrono::TimeDelta::try_days(days).and_then(|days| Utc::now().checked_sub_signed(days));
    match kept {
        Some(kept) if command.before <= kept => Ok(()),
        kept => Err(ConfigError(format!(
            "--before {}: audit rows are kept for {days} days{}; nothing was done",
            command.before.format("%Y-%m-%dT%H:%M:%SZ"),
            kept.map_or_else(String::new, |kept| format!(
                ", the last moment that may be given is {}",
                kept.format("%Y-%m-%dT%H:%M:%SZ")
            ))
        ))),
    }
}

/// An archive of this run.
struct Made {
    archived: Archived,
    folder: PathBuf,
    checked: Checked,
}

/// Runs `archive`. Each step can be repeated: whoever was interrupted gives the same command again.
pub async fn run(config: &Config, command: &Archive) -> anyhow::Result<ExitCode> {
    retention(command)?;
    let trusted = command.audit.trusted()?;
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore audit archive")?).await?;
    let mut connection = reached(&database(config)?).await?;
    // One at a time: a second one would record what the first has not removed.
    let locked: bool = sqlx::query_scalar(
        "select pg_try_advisory_lock(hashtext('artstore'), hashtext('audit archive'))",
    )
    .fetch_one(&mut connection)
    .await?;
    ensure!(
        locked,
        "another `audit archive` is at work on this database"
    );

    let mut before = recorded::read(&mut connection, &trusted).await?;
    if !command.dry_run {
        // An earlier run did not wait for its event: what is archived next continues after it.
        if let Some(event) = pending(&mut connection, &before).await? {
            wait(&mut connection, &bus, command, &trusted, event).await?;
            before = recorded::read(&mut connection, &trusted).await?;
        }
        finish(&mut connection, command, &trusted, &before).await?;
    }
    let wanted = wanted(&mut connection, &bus, command, &trusted, &before).await?;
    if command.dry_run || wanted.is_empty() {
        if command.json {
            let ranges = wanted
                .iter()
                .map(|w| json!({"stream": w.stream, "first": w.first, "last": w.last}));
            println!(
                "{:#}",
                json!({"archived": [], "would": ranges.collect::<Vec<_>>()})
            );
        } else if wanted.is_empty() {
            println!("There is nothing to archive.");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut made = Vec::new();
    for wanted in &wanted {
        made.push(make(&mut connection, command, &trusted, wanted).await?);
    }
    let event = record(&mut connection, command, &before, &made).await?;
    crash::point("audit.archive.recorded");
    wait(&mut connection, &bus, command, &trusted, event).await?;
    for made in &made {
        take_out(&mut connection, command, &made.archived, &made.folder).await?;
    }
    if command.json {
        let archived: Vec<_> = made
            .iter()
            .map(|made| json!({"folder": made.folder, "manifest": made.checked.manifest, "digest": made.archived.digest}))
            .collect();
        println!("{:#}", json!({"event": event, "archived": archived}));
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest event of an archive, where it is not yet in the log under a head.
async fn pending(
    connection: &mut PgConnection,
    recorded: &Recorded,
) -> Result<Option<Uuid>, sqlx::Error> {
    let newest: Option<Uuid> = sqlx::query_scalar(
        "select event_id from public.event_outbox where entity = 'audit' and action = 'archived' \
         order by position desc limit 1",
    )
    .fetch_optional(connection)
    .await?;
    let is_unfit = |event| {
        recorded
            .unfit
            .iter()
            .any(|unfit| unfit.event == Some(event))
    };
    Ok(newest.filter(|event| recorded.event != Some(*event) && !is_unfit(*event)))
}

/// Removes what an earlier run has recorded and not removed.
async fn finish(
    connection: &mut PgConnection,
    command: &Archive,
    trusted: &[VerifierKey],
    recorded: &Recorded,
) -> anyhow::Result<()> {
    for archived in recorded.archives.values() {
        if remove::left(connection, archived).await? == 0 {
            continue;
        }
        let folder = archived.path(&command.to);
        let checked = checked(command, trusted, &folder).with_context(|| {
            format!(
                "rows up to {} of {} are recorded as archived (digest {}) and are still there: give \
                 --to with the folder of that archive",
                archived.last, archived.stream, archived.digest
            )
        })?;
        ensure!(
            checked.digest == archived.digest,
            "{} is not the archive that was recorded: its digest is {}, not {}; nothing was removed",
            folder.display(),
            checked.digest,
            archived.digest
        );
        take_out(connection, command, archived, &folder).await?;
    }
    Ok(())
}

/// What may go, of each stream.
async fn wanted(
    connection: &mut PgConnection,
    bus: &Bus,
    command: &Archive,
    trusted: &[VerifierKey],
    recorded: &Recorded,
) -> anyhow::Result<Vec<Wanted>> {
    let streams: Vec<String> =
        sqlx::query_scalar("select stream from public.audit_trees order by 1")
            .fetch_all(&mut *connection)
            .await?;
    for stream in &command.stream {
        if !streams.contains(stream) {
            return Err(ConfigError(format!("--stream {stream}: there is no log of it")).into());
        }
    }
    let mut wanted = Vec::new();
    for stream in streams {
        if !command.stream.is_empty() && !command.stream.contains(&stream) {
            continue;
        }
        let Some(tip) = store::tip(connection, &stream).await? else {
            continue;
        };
        let published = match published::last(bus, &stream).await?.note {
            Some(note) => {
                let head = Head::open(&note, trusted);
                let (head, _) =
                    head.with_context(|| format!("the last head of {stream} on the bus"))?;
                head.size
            }
            None => 0,
        };
        if published > tip.size {
            if !command.json {
                println!(
                    "{stream}: nothing; its log catches up with the last published head ({published})"
                );
            }
            continue;
        }
        let done = recorded.archives.get(&stream);
        let archived = done.map_or(0, |done| done.last);
        let (last, end) =
            range::end(connection, &stream, archived, published, command.before).await?;
        let why = match end {
            End::Young(row, Some(time)) => format!("row {row} is of {}", time.format("%Y-%m-%d")),
            End::Young(row, None) => format!("row {row} has no time that can be read"),
            End::Head(size) => format!("the last published head is {size}"),
        };
        if !command.json {
            match last > archived {
                true => println!("{stream}: rows {} to {last}; {why}", archived + 1),
                false => println!("{stream}: nothing; {why}"),
            }
        }
        if last > archived {
            wanted.push(Wanted {
                first: archived + 1,
                last,
                signature_before: done
                    .and_then(Archived::signature)
                    .unwrap_or_else(|| origin_hash(&tip.origin)),
                previous: done.map(|done| done.digest.clone()),
                origin: tip.origin,
                stream,
            });
        }
    }
    Ok(wanted)
}

/// Writes one archive and checks its files.
async fn make(
    connection: &mut PgConnection,
    command: &Archive,
    trusted: &[VerifierKey],
    wanted: &Wanted,
) -> anyhow::Result<Made> {
    let bar = bar(wanted.last + 1 - wanted.first, command);
    let folder = write::write(connection, &command.to, wanted, |rows| {
        bar.set_position(rows)
    });
    let folder = folder.await?;
    bar.finish_and_clear();
    let checked = checked(command, trusted, &folder)?;
    let manifest = &checked.manifest;
    let same = (
        &manifest.stream,
        manifest.first,
        manifest.last,
        &manifest.previous,
    ) == (&wanted.stream, wanted.first, wanted.last, &wanted.previous);
    ensure!(
        same,
        "{} is there already and is another archive; nothing was removed: take it away or give \
         another --to",
        folder.display()
    );
    // What the first row behind it is chained to; the tree does not cover it.
    let last: Option<String> = sqlx::query_scalar(
        "select hmac_signature from public.audit_logs where stream = $1 and stream_sequence = $2",
    )
    .bind(&wanted.stream)
    .bind(i64::try_from(wanted.last)?)
    .fetch_one(&mut *connection)
    .await?;
    ensure!(
        last.as_ref() == Some(&manifest.last_signature),
        "{}: its last signature is not that of row {}; nothing was removed: artstore audit verify",
        folder.display(),
        wanted.last
    );
    if !command.json {
        println!(
            "{}: {} of {} to {}, checked, digest {}",
            folder.display(),
            counted(manifest.last + 1 - manifest.first, "row"),
            manifest.oldest.format("%Y-%m-%d"),
            manifest.newest.format("%Y-%m-%d"),
            checked.digest
        );
    }
    Ok(Made {
        archived: manifest.archived(checked.digest.clone()),
        folder,
        checked,
    })
}

/// Checks an archive before anything rests on it.
fn checked(command: &Archive, trusted: &[VerifierKey], folder: &Path) -> anyhow::Result<Checked> {
    let ring = command.audit.is_given().then(|| command.audit.ring());
    let checked = check(folder, trusted, ring.transpose()?.as_ref())?;
    if let Some(wrong) = checked.wrong.first() {
        bail!(
            "{}: {wrong}; nothing was removed: `artstore audit verify` says what is wrong with the log",
            folder.display()
        );
    }
    Ok(checked)
}

/// Puts the event into the outbox: once for the same archives.
async fn record(
    connection: &mut PgConnection,
    command: &Archive,
    before: &Recorded,
    made: &[Made],
) -> anyhow::Result<Uuid> {
    let mut all: BTreeMap<&str, &Archived> = BTreeMap::new();
    for (stream, archived) in &before.archives {
        all.insert(stream, archived);
    }
    for made in made {
        all.insert(&made.archived.stream, &made.archived);
    }
    let all: Vec<&Archived> = all.into_values().collect();
    let new: Vec<&str> = made
        .iter()
        .map(|made| made.archived.stream.as_str())
        .collect();
    let name = serde_json::to_vec(&all)?;
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &name);
    let event = OutboxInsert {
        entity: "audit".to_owned(),
        action: "archived".to_owned(),
        ordering_key: None,
        subject: Some(id.to_string()),
        data: json!({
            "archived": all,
            "new": new,
            "before": command.before,
            "operator": operator::operator(connection).await?,
        }),
        request_id: None,
        traceparent: None,
    };
    let actor = operator::actor("audit archive");
    outbox::insert_once(connection, id, &actor, &event)
        .await
        .context("an archive has to be recorded in event_outbox first; nothing was removed")?;
    Ok(id)
}

/// Waits until the log says so itself, under a head that was published.
async fn wait(
    connection: &mut PgConnection,
    bus: &Bus,
    command: &Archive,
    trusted: &[VerifierKey],
    event: Uuid,
) -> anyhow::Result<()> {
    let admin = Source::Admin.stream();
    let begun = Instant::now();
    loop {
        let recorded = recorded::read(connection, trusted).await?;
        if let Some(unfit) = recorded.unfit.iter().find(|u| u.event == Some(event)) {
            bail!(
                "event {event} does not count as one of an archive: {}; nothing was removed",
                unfit.reason
            );
        }
        if recorded.event == Some(event) {
            let row: i64 = sqlx::query_scalar(
                "select max(stream_sequence) from public.audit_logs \
                 where stream = $1 and event_id = $2",
            )
            .bind(&admin)
            .bind(event)
            .fetch_one(&mut *connection)
            .await?;
            let note = published::last(bus, &admin).await?.note;
            let head = note.and_then(|note| Some(Head::open(&note, trusted).ok()?.0.size));
            if head >= u64::try_from(row).ok() {
                return Ok(());
            }
        }
        if begun.elapsed() >= Duration::from_secs(command.wait) {
            bail!(
                "event {event} is in the admin module's outbox, but not in the log under a published \
                 head for {} s: are its relay and the projector of the audit log running? Nothing \
                 was removed; the same command continues",
                command.wait
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn take_out(
    connection: &mut PgConnection,
    command: &Archive,
    archived: &Archived,
    folder: &Path,
) -> anyhow::Result<()> {
    let left = remove::left(connection, archived).await?;
    let bar = bar(left, command);
    let removed = remove::remove(connection, archived, |rows| bar.set_position(rows)).await?;
    bar.finish_and_clear();
    if !command.json {
        println!(
            "{}: {} removed, up to {}, kept in {}",
            archived.stream,
            counted(removed, "row"),
            archived.last,
            folder.display()
        );
    }
    Ok(())
}

fn bar(rows: u64, command: &Archive) -> ProgressBar {
    if std::io::stderr().is_terminal() && !command.json {
        ProgressBar::new(rows)
    } else {
        ProgressBar::hidden()
    }
}
