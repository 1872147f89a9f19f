//! Repairing a read model from the streams. It never touches a source or a stream: it writes
//! what the projector would have written, with the projector's own code.
//!
//! Events that an operator gave up (`artstore parked discard`) are skipped, as by the projector.
//!
//! Everything is one transaction per some thousand files, so that a process that is killed anywhere
//! leaves either the old rows or the right ones. Its locks are taken in the same order as those of workers
//! (claims, rows, searches, downloads, checkpoint): workers wait for it, and it for
//! them, but never in a circle.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_projectors::parking::discarded::{self, Discarded};
use artstore_projectors::projector::{Projector as _, Received, Rejection};
use artstore_projectors::query_cache::{QueryCache, files, history};
use artstore_projectors::runtime::checkpoint::Checkpoint;
use artstore_projectors::runtime::database;
use artstore_projectors::runtime::workers;
use artstore_runtime::crash;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::operator::{self, record};
use artstore_verification::cache::checkpoints::{self, CheckedCheckpoint};
use artstore_verification::cache::element_streams;
use artstore_verification::cache::messages::{self, Messages, Wanted};
use artstore_verification::cache::stream_files::Streams;

/// The most files or events of one transaction.
const CHUNK: usize = 2_000;

/// How often it is tried again when something holds a table, or the projector was faster.
const TRIES: usize = 20;

/// What is to be repaired. Unsound checkpoints are, in any case.
#[derive(Debug, Clone, Default)]
pub struct Damage {
    /// Files whose rows are derived again.
    pub files: Vec<Uuid>,
    /// Events whose rows of searches and downloads are derived again.
    pub events: Vec<Uuid>,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
pub struct Repaired {
    /// Checkpoints that were reset.
    pub checkpoints: Vec<RepairedCheckpoint>,
    /// Files whose rows were derived again.
    pub files: Vec<RepairedRow>,
    /// Events whose rows were derived again.
    pub events: Vec<RepairedRow>,
    /// Rows that name an event but whose id is none of a file: removed.
    pub odd_rows: u64,
}

/// A checkpoint that was reset.
#[derive(Debug, Serialize)]
pub struct RepairedCheckpoint {
    /// The stream.
    pub stream: String,
    /// Where it stood.
    pub from: u64,
    /// Where it stands now: the projector continues after it.
    pub to: u64,
    /// What was wrong.
    pub problem: String,
}

/// A row that was derived again.
#[derive(Debug, Serialize)]
pub struct RepairedRow {
    /// The file or event.
    pub id: Uuid,
    /// Whether the streams contain it, so that it has a row now.
    pub present: bool,
}

/// Repairs. Works while projectors run.
pub async fn repair(
    bus: &Bus,
    query: &PgConnectOptions,
    damage: &Damage,
) -> anyhow::Result<Repaired> {
    database::check_direct::<QueryCache>(query).await?;
    let mut repaired = Repaired::default();
    let mut files: Vec<&[Uuid]> = damage.files.chunks(CHUNK).collect();
    let mut events: Vec<&[Uuid]> = damage.events.chunks(CHUNK).collect();
    loop {
        let part = Part {
            bus,
            query,
            files: files.pop().unwrap_or_default(),
            events: events.pop().unwrap_or_default(),
        };
        part.repair(&mut repaired).await?;
        if files.is_empty() && events.is_empty() {
            return Ok(repaired);
        }
    }
}

/// What is repaired in one transaction.
struct Part<'a> {
    bus: &'a Bus,
    query: &'a PgConnectOptions,
    files: &'a [Uuid],
    events: &'a [Uuid],
}

/// What was read before the transaction, so that it is short.
struct Read {
    elements: Vec<ElementName>,
    places: Vec<CheckedCheckpoint>,
    streams: Streams,
    history: HashMap<Uuid, Received>,
    /// What was discarded in the stream of the query module.
    discarded: Discarded,
}

impl Part<'_> {
    async fn repair(&self, repaired: &mut Repaired) -> anyhow::Result<()> {
        for tried in 1.. {
            let read = self.read().await?;
            match self.write(read, repaired).await {
                Ok(Written::Done) => return Ok(()),
                Ok(Written::Moved) if tried < TRIES => {}
                Ok(Written::Moved) => bail!(
                    "the checkpoints move faster than the streams are read; nothing of this part \
                     was changed. Stop the projector, or try again"
                ),
                Err(error) if tried < TRIES && is_busy(&error) => {
                    tracing::info!("something else holds the tables, it is tried again: {error:#}");
                }
                Err(error) => {
                    return Err(
                        error.context("the read model was not repaired: nothing was changed")
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(50 * tried as u64)).await;
        }
        unreachable!("the last try returns")
    }

    async fn read(&self) -> anyhow::Result<Read> {
        let elements = element_streams(self.bus).await?;
        let mut sources: Vec<Source> = elements.iter().cloned().map(Source::Element).collect();
        let all = workers::list(self.bus).await?;
        sources.extend(all.contains(&Source::Query).then_some(Source::Query));
        let mut connection = self.connect().await?;
        let stored = checkpoints::stored(&mut connection, &sources).await?;
        let mut streams = Streams::default();
        for element in &elements {
            let given_up = given_up(&mut connection, &Source::Element(element.clone())).await?;
            streams.discarded.insert(element.clone(), given_up);
        }
        let discarded = given_up(&mut connection, &Source::Query).await?;
        connection.close().await?;
        let places = checkpoints::places(self.bus, stored).await?;
        let wanted: HashSet<Uuid> = self.files.iter().copied().collect();
        for (element, place) in elements.iter().zip(&places) {
            streams
                .read(self.bus, element, &wanted, 0, place.provable)
                .await?;
        }
        let mut history = HashMap::new();
        if let Some(place) = places.iter().find(|p| p.source == Source::Query) {
            let wanted = (self.events, &discarded);
            read_history(self.bus, wanted, (0, place.provable), &mut history).await?;
        }
        Ok(Read {
            elements,
            places,
            streams,
            history,
            discarded,
        })
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let mut connection =
            database::connect::<QueryCache>(self.query, "artstore projection repair").await?;
        sqlx::raw_sql("set synchronous_commit = on; set lock_timeout = '2s'")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    async fn write(&self, mut read: Read, repaired: &mut Repaired) -> anyhow::Result<Written> {
        let mut connection = self.connect().await?;
        let mut transaction = connection.begin().await?;
        // In the order in which workers take theirs.
        sqlx::raw_sql(
            "lock table public.file_ownership, public.file_metadata_cache, public.search_history, \
                 public.download_statistics in share row exclusive mode; \
             lock table public.projection_checkpoints in row exclusive mode; \
             select from public.projection_checkpoints where projection = 'query-cache' \
             order by stream for update",
        )
        .execute(&mut *transaction)
        .await?;
        crash::point("repair.locked");
        let sources: Vec<Source> = read.places.iter().map(|p| p.source.clone()).collect();
        let mut set = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let before = &read.places[index];
            let now = load(&mut transaction, source).await?;
            if now == before.checkpoint {
                if before.is_unsound() {
                    set_checkpoint(&mut transaction, before).await?;
                    set.push(RepairedCheckpoint {
                        stream: source.stream(),
                        from: now.map_or(0, |now| now.last_sequence),
                        to: before.provable,
                        problem: before.problems.join("; "),
                    });
                }
                continue;
            }
            // The projector has continued: what it applied meanwhile is read after what was read.
            let upto = now.map_or(0, |now| now.last_sequence);
            if before.is_unsound() || upto < before.provable {
                return Ok(Written::Moved);
            }
            let from = before.provable;
            match source {
                Source::Element(element) => {
                    let wanted = self.files.iter().copied().collect();
                    let streams = &mut read.streams;
                    streams.read(self.bus, element, &wanted, from, upto).await?;
                }
                Source::Query => {
                    let wanted = (self.events, &read.discarded);
                    read_history(self.bus, wanted, (from, upto), &mut read.history).await?;
                }
                Source::Admin => {}
            }
        }
        // Given up since: what was read does not hold any more.
        for (element, known) in &read.streams.discarded {
            if given_up(&mut transaction, &Source::Element(element.clone())).await? != *known {
                return Ok(Written::Moved);
            }
        }
        if given_up(&mut transaction, &Source::Query).await? != read.discarded {
            return Ok(Written::Moved);
        }
        let odd_rows = self.derive(&mut transaction, &read).await?;
        if let Some(mut facts) = self.facts(&set, odd_rows) {
            facts["operator"] = operator::operator(&mut transaction).await?;
            record(&mut transaction, QueryCache::NAME, "repair", facts).await?;
        }
        crash::point("repair.applied");
        transaction.commit().await?;
        connection.close().await?;
        self.collect(&read, set, odd_rows, repaired);
        Ok(Written::Done)
    }

    /// Removes what is there, and applies the events again.
    async fn derive(&self, transaction: &mut PgConnection, read: &Read) -> anyhow::Result<u64> {
        let odd = sqlx::query(
            "delete from public.file_metadata_cache where event_id is not null \
             and id !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'",
        )
        .execute(&mut *transaction)
        .await?;
        let ids: Vec<String> = self.files.iter().map(Uuid::to_string).collect();
        sqlx::query(
            "delete from public.file_metadata_cache where event_id is not null and id = any($1)",
        )
        .bind(ids)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from public.file_ownership where file_id = any($1)")
            .bind(self.files)
            .execute(&mut *transaction)
            .await?;
        for element in &read.elements {
            let events = read.streams.events(element);
            files::apply(transaction, element, &events)
                .await
                .map_err(rejected)?;
        }
        for table in ["search_history", "download_statistics"] {
            let sql = format!("delete from public.{table} where event_id = any($1)");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(self.events)
                .execute(&mut *transaction)
                .await?;
        }
        let mut events: Vec<Received> = read.history.values().cloned().collect();
        events.sort_by_key(|event| event.sequence);
        history::apply(transaction, &events)
            .await
            .map_err(rejected)?;
        Ok(odd.rows_affected())
    }

    /// What was done, for the audit log; none: nothing.
    fn facts(&self, set: &[RepairedCheckpoint], odd_rows: u64) -> Option<Value> {
        let nothing =
            set.is_empty() && self.files.is_empty() && self.events.is_empty() && odd_rows == 0;
        (!nothing).then(|| {
            json!({"checkpoints": set, "files": self.files, "events": self.events,
                "odd_rows": odd_rows})
        })
    }

    /// Each change is logged: the read model itself does not show who changed it.
    fn collect(
        &self,
        read: &Read,
        set: Vec<RepairedCheckpoint>,
        odd_rows: u64,
        repaired: &mut Repaired,
    ) {
        let projection = QueryCache::NAME;
        for checkpoint in &set {
            let RepairedCheckpoint {
                stream,
                from,
                to,
                problem,
            } = checkpoint;
            tracing::info!(projection, stream, from, to, problem, "checkpoint set anew");
        }
        repaired.checkpoints.extend(set);
        for id in self.files {
            let present = read.streams.shown(*id).is_some();
            tracing::info!(projection, file = %id, present, "row derived again");
            repaired.files.push(RepairedRow { id: *id, present });
        }
        for id in self.events {
            let present = read.history.contains_key(id);
            tracing::info!(projection, event.id = %id, present, "row derived again");
            repaired.events.push(RepairedRow { id: *id, present });
        }
        if odd_rows > 0 {
            tracing::info!(
                projection,
                odd_rows,
                "rows removed whose id is none of a file"
            );
        }
        repaired.odd_rows += odd_rows;
    }
}

enum Written {
    Done,
    /// The checkpoints moved in a way that makes what was read useless.
    Moved,
}

async fn load(
    transaction: &mut PgConnection,
    source: &Source,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    artstore_projectors::runtime::checkpoint::load(transaction, QueryCache::NAME, &source.stream())
        .await
}

async fn given_up(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<Discarded, sqlx::Error> {
    discarded::load(connection, QueryCache::NAME, &source.stream()).await
}

async fn set_checkpoint(
    transaction: &mut PgConnection,
    place: &CheckedCheckpoint,
) -> anyhow::Result<()> {
    let new = place.repaired();
    sqlx::query(
        "update public.projection_checkpoints \
         set last_sequence = $3, last_event_id = $4, stream_created_at = $5, source_high = $6, \
             source_missing = $7, generation = generation + 1, parks_in_row = 0, \
             updated_at = now() \
         where projection = $1 and stream = $2",
    )
    .bind(QueryCache::NAME)
    .bind(place.source.stream())
    .bind(i64::try_from(new.last_sequence)?)
    .bind(new.last_event_id)
    .bind(new.stream_created_at)
    .bind(new.source_high)
    .bind(new.source_missing)
    .execute(transaction)
    .await?;
    Ok(())
}

/// The messages of some events of the query module, but those that were discarded.
async fn read_history(
    bus: &Bus,
    (events, discarded): (&[Uuid], &Discarded),
    (from, to): (u64, u64),
    found: &mut HashMap<Uuid, Received>,
) -> anyhow::Result<()> {
    if events.is_empty() || to <= from {
        return Ok(());
    }
    let wanted = Wanted {
        from: from + 1,
        to,
        partitions: None,
        headers_only: false,
    };
    let events: HashSet<&Uuid> = events.iter().collect();
    let damage = breaks::damage(bus, &Source::Query).await?;
    let mut messages = Messages::open(bus, &Source::Query, &wanted).await?;
    while let Some((sequence, message)) = messages.next().await? {
        // What readers skip has no effect.
        if damage.ignores(sequence) {
            continue;
        }
        let id = messages::envelope(&message).map(|envelope| envelope.id);
        if id.is_some_and(|id| events.contains(&id) && !discarded.has(sequence, Some(id)))
            && let Some(event) = messages::received(&Source::Query, sequence, &message)
        {
            found.entry(event.envelope.id).or_insert(event);
        }
    }
    messages.close().await;
    Ok(())
}

fn rejected(rejection: Rejection) -> anyhow::Error {
    match rejection {
        Rejection::Retry(error) => error.into(),
        Rejection::Event(reason) | Rejection::Halt(reason) | Rejection::Evidence(reason) => {
            anyhow!(reason)
        }
    }
}

/// Whether another session was in the way, so that a later try may succeed.
fn is_busy(error: &anyhow::Error) -> bool {
    let database = error.chain().find_map(|cause| {
        let error = cause.downcast_ref::<sqlx::Error>()?;
        error.as_database_error()?.code()
    });
    database.is_some_and(|code| matches!(code.as_ref(), "55P03" | "40P01" | "40001"))
}

/// Reads what is to be repaired from a report of `artstore verify --json`: those of its findings
/// whose command is this one.
pub fn from_report(text: &str) -> anyhow::Result<Damage> {
    let report: serde_json::Value = serde_json::from_str(text).context("no JSON")?;
    // The read model's database was not configured: nothing of it was compared.
    if report.get("cache").is_some_and(serde_json::Value::is_null) {
        return Ok(Damage::default());
    }
    let findings = report.pointer("/cache/findings");
    let findings = findings
        .or_else(|| report.get("findings"))
        .unwrap_or(&report);
    let Some(findings) = findings.as_array() else {
        bail!("no findings in it: expected what `artstore verify --json` prints");
    };
    let mut damage = Damage::default();
    for finding in findings {
        let repair = finding["repair"].as_str().unwrap_or_default();
        let Some(rest) = repair.strip_prefix(checkpoints::REPAIR) else {
            continue;
        };
        match rest.trim().split_once(' ') {
            Some(("--file", id)) => damage.files.push(id.parse()?),
            Some(("--event", id)) => damage.events.push(id.parse()?),
            _ => {}
        }
    }
    Ok(damage)
}
