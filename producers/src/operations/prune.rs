//! Removing finished operations of an element that its stream contains, the oldest first and without a
//! gap: the first that has to stay keeps all later ones. The new prune mark ([`crate::relay::prune_mark`]) is
//! recorded in the transaction that removes them, so at every moment either the row exists or the
//! prune mark shows that it was pruned.
//!
//! Nothing is removed that was not just proven: row and message were compared, position by
//! position, in one reading of the whole stream. Before each batch the stream must still be that one:
//! it must have the last event that was compared at the same sequence, and its state must have no gap in
//! what is about to be removed. A process that is frozen between that check and its commit can't know
//! better; the relay does, which reads the prune mark in the snapshot of each poll
//! (`crate::relay::poll_loop`).

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::publish::publish_error::PublishError;
use crate::publish::wal::{self, Begin, OperationType};
use crate::relay::prune_mark;
use crate::relay::relay_error::RelayError;
use crate::relay::resume_state;
use crate::relay::source::{SourceTable, snapshot};
use crate::relay::source_check;

/// So many of the last finished operations always stay: by them a relay sees that its source is still
/// the one that the stream was written from, and was not set back.
pub const KEPT: i64 = 1_000;

/// How many operations one transaction removes.
const BATCH: i64 = 1_000;

/// Why nothing, or nothing more, was removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The source or the stream can't be read, or is not fit.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The stream was written from another database.
    #[error(
        "stream {stream} was written from the database {in_stream}, this one is {here}: nothing was \
         removed. Put the right database behind the element's URL, or decide that first: `artstore \
         relay accept-source --source {element}`"
    )]
    OtherIdentity {
        /// The element.
        element: ElementName,
        /// Its stream.
        stream: String,
        /// The identity in its last message.
        in_stream: String,
        /// The identity of the database.
        here: String,
    },
    /// The stream is not the one that was compared.
    #[error(
        "stream {0} is not the one any more that was compared: it was recreated, set back or written \
         again; nothing more was removed: `artstore verify` shows whether it is whole"
    )]
    OtherStream(String),
    /// Somebody holds the prune mark: another pruning.
    #[error(
        "element {0} is being pruned by somebody else, or its tables are locked; nothing more was \
         removed: try again"
    )]
    Busy(ElementName),
    /// The operation that records it was not written.
    #[error("the pruning could not be recorded: {0}; nothing was removed")]
    Record(#[from] PublishError),
}

impl From<sqlx::Error> for PruneError {
    fn from(error: sqlx::Error) -> Self {
        Self::Relay(error.into())
    }
}

/// What has to be older, and what is proven.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Only what was finished before it goes.
    pub finished_before: DateTime<Utc>,
    /// Row and message agree up to this position.
    pub proven: i64,
    /// The high-water mark of the stream.
    pub published: i64,
    /// A backup of the stream contains everything up to this position; none: nobody asked for one.
    pub backed_up: Option<i64>,
}

/// What keeps an operation from being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Stays {
    /// It was finished too lately.
    Young,
    /// An older one is pending, and later rows may show its outcome.
    Pending {
        /// The pending operation.
        operation: Uuid,
        /// When it began.
        since: DateTime<Utc>,
    },
    /// Position and message are not compared yet, or a transaction below it is open.
    NotProven,
    /// The backup of the stream does not contain it.
    NotBackedUp,
    /// It is one of the last [`KEPT`].
    Last,
}

/// What can be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Everything up to this position was pruned before.
    pub prune_mark: i64,
    /// Everything up to this position can go; the prune mark, where nothing can.
    pub up_to: i64,
    /// How many operations that is.
    pub operations: i64,
    /// The first position that stays, and why; none where nothing would.
    pub stays: Option<(i64, Stays)>,
}

/// What one transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// How many operations are gone.
    pub operations: i64,
    /// The new prune mark.
    pub prune_mark: i64,
    /// The position of the operation that records it.
    pub event: i64,
}

/// An element and its stream before they are compared.
#[derive(Debug, Clone)]
pub struct Begun {
    source: Source,
    /// When the stream was made, as the server reports it.
    created: String,
}

/// The stream that was compared.
#[derive(Debug, Clone)]
pub struct Compared {
    begun: Begun,
    /// The last message that was compared; 0: there was none.
    sequence: u64,
    event_id: Option<Uuid>,
}

impl Begun {
    /// Compared up to this message.
    pub fn compared(self, sequence: u64, event_id: Option<Uuid>) -> Compared {
        Compared {
            begun: self,
            sequence,
            event_id,
        }
    }
}

/// Looks at an element before its comparison: whether table and stream belong together.
pub async fn begin(
    bus: &Bus,
    connection: &mut PgConnection,
    element: &ElementName,
) -> Result<Begun, PruneError> {
    let source = Source::Element(element.clone());
    let table = SourceTable::of(&source);
    source_check::check(connection, &table).await?;
    let info = bus
        .stream_info(&source.stream())
        .await
        .map_err(RelayError::from)?;
    let resume_state = resume_state::read(bus, &source).await?;
    let here = snapshot(connection, &table.sequence).await?.identity;
    if let Some(in_stream) = resume_state.identity.filter(|in_stream| *in_stream != here) {
        return Err(PruneError::OtherIdentity {
            element: element.clone(),
            stream: source.stream(),
            in_stream,
            here,
        });
    }
    // As long as a batch is open, it keeps the relay's holes open.
    sqlx::raw_sql("set idle_in_transaction_session_timeout = '30s'")
        .execute(&mut *connection)
        .await?;
    Ok(Begun {
        source,
        created: info.created.to_string(),
    })
}

/// What can be removed. Changes nothing.
pub async fn plan(
    connection: &mut PgConnection,
    element: &ElementName,
    limits: Limits,
) -> Result<Plan, PruneError> {
    let prune_mark = prune_mark::read(connection, &table(element)).await?;
    let mut stays: Vec<(i64, Stays)> = Vec::new();
    let first_since = async |connection: &mut PgConnection, time: DateTime<Utc>, unknown: &str| {
        let sql = format!(
            "select min(position) from public.{element}_wal \
             where position > $1 and coalesce(completed_at, {unknown}) >= $2"
        );
        sqlx::query_scalar::<_, Option<i64>>(AssertSqlSafe(sql))
            .bind(prune_mark)
            .bind(time)
            .fetch_one(connection)
            .await
    };
    let young = first_since(connection, limits.finished_before, "started_at").await?;
    stays.extend(young.map(|position| (position, Stays::Young)));
    let oldest_pending = format!(
        "select transaction_id, \
             least(greatest(started_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00') as since \
         from public.{element}_wal where status = 'pending' order by started_at limit 1"
    );
    let pending = sqlx::query(AssertSqlSafe(oldest_pending))
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(pending) = pending {
        let (operation, since) = (
            pending.try_get("transaction_id")?,
            pending.try_get("since")?,
        );
        // When it was finished is not known: it may have been since.
        let first = first_since(connection, since, "'infinity'").await?;
        stays.extend(first.map(|position| (position, Stays::Pending { operation, since })));
    }
    // Of those that the stream has: the relay compares no others.
    let kept = format!(
        "select position from public.{element}_wal where position <= $1 \
         order by position desc limit 1 offset {}",
        KEPT - 1
    );
    let kept: Option<i64> = sqlx::query_scalar(AssertSqlSafe(kept))
        .bind(limits.published)
        .fetch_optional(&mut *connection)
        .await?;
    // Where there are fewer, all of them.
    stays.push((kept.unwrap_or(prune_mark + 1), Stays::Last));
    stays.push((limits.proven + 1, Stays::NotProven));
    let not_backed_up = limits.backed_up.map(|backed_up| backed_up + 1);
    stays.extend(not_backed_up.map(|position| (position.max(prune_mark + 1), Stays::NotBackedUp)));
    let first = stays.into_iter().min_by_key(|(position, _)| *position);
    let below = first
        .as_ref()
        .map_or(prune_mark, |(position, _)| position - 1);
    let count = format!(
        "select count(*), max(position) from public.{element}_wal where position > $1 and position <= $2"
    );
    let (operations, highest): (i64, Option<i64>) = sqlx::query_as(AssertSqlSafe(count))
        .bind(prune_mark)
        .bind(below)
        .fetch_one(connection)
        .await?;
    Ok(Plan {
        prune_mark,
        up_to: highest.unwrap_or(prune_mark),
        operations,
        stays: first,
    })
}

/// Removes the next operations up to a position, in one transaction, with an operation `wal_prune` that
/// says which: `facts` and the numbers of this batch. None: there are no more.
pub async fn batch(
    bus: &Bus,
    connection: &mut PgConnection,
    compared: &Compared,
    up_to: i64,
    facts: &Facts,
) -> Result<Option<Removed>, PruneError> {
    let Source::Element(element) = &compared.begun.source else {
        return Ok(None);
    };
    check_stream(bus, compared, up_to).await?;
    crash::point("prune.looked");
    let mut transaction = connection.begin().await?;
    let removed = remove(&mut transaction, element, up_to, facts).await;
    match removed.map_err(|error| busy(error, element))? {
        None => {
            transaction.rollback().await?;
            Ok(None)
        }
        Some(removed) => {
            crash::point("prune.removed");
            transaction.commit().await?;
            crash::point("prune.committed");
            Ok(Some(removed))
        }
    }
}

/// Whether the stream still is the one that was compared, and has everything that is about to go.
async fn check_stream(bus: &Bus, compared: &Compared, up_to: i64) -> Result<(), PruneError> {
    let Compared {
        begun: Begun { source, created },
        sequence,
        event_id,
    } = compared;
    let stream = source.stream();
    let info = bus.stream_info(&stream).await.map_err(RelayError::from)?;
    let resume_state = resume_state::read(bus, source).await?;
    let same = info.created.to_string() == *created
        && resume_state.sequence >= *sequence
        && prune_mark::is_held(up_to, &resume_state.seen_positions)
        && resume_state::event_at(bus, source, *sequence).await? == *event_id;
    match same {
        true => Ok(()),
        false => Err(PruneError::OtherStream(stream)),
    }
}

/// The facts of the operation `wal_prune`.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who prunes, as an actor.
    pub actor: Actor,
    /// What is recorded besides the numbers.
    pub data: Map<String, Value>,
}

async fn remove(
    transaction: &mut PgConnection,
    element: &ElementName,
    up_to: i64,
    facts: &Facts,
) -> Result<Option<Removed>, PruneError> {
    sqlx::raw_sql("set local lock_timeout = '5s'")
        .execute(&mut *transaction)
        .await?;
    // One at a time.
    let prune_mark = format!("select floor from public.{element}_wal_pruned for update");
    let prune_mark: i64 = sqlx::query_scalar(AssertSqlSafe(prune_mark))
        .fetch_one(&mut *transaction)
        .await?;
    let delete = format!(
        "with gone as (delete from public.{element}_wal where position in \
             (select position from public.{element}_wal where position > $1 and position <= $2 \
              order by position limit {BATCH}) returning position) \
         select count(*), max(position) from gone"
    );
    let (operations, highest): (i64, Option<i64>) = sqlx::query_as(AssertSqlSafe(delete))
        .bind(prune_mark)
        .bind(up_to)
        .fetch_one(&mut *transaction)
        .await?;
    let (above, Some(prune_mark)) = (prune_mark, highest) else {
        return Ok(None);
    };
    let raise = format!(
        "update public.{element}_wal_pruned \
         set floor = $1, operations = operations + $2, pruned_at = clock_timestamp()"
    );
    sqlx::query(AssertSqlSafe(raise))
        .bind(prune_mark)
        .bind(operations)
        .execute(&mut *transaction)
        .await?;
    let mut data = facts.data.clone();
    data.insert("above_position".to_owned(), above.into());
    data.insert("up_to_position".to_owned(), prune_mark.into());
    data.insert("operations".to_owned(), operations.into());
    let event = record(transaction, element, facts.actor.clone(), data).await?;
    Ok(Some(Removed {
        operations,
        prune_mark,
        event,
    }))
}

/// The pruning is an operation of the element like any other: the relay publishes it, and the audit
/// log keeps it.
async fn record(
    transaction: &mut PgConnection,
    element: &ElementName,
    actor: Actor,
    data: Map<String, Value>,
) -> Result<i64, PublishError> {
    let begin = Begin {
        kind: OperationType::WalPrune,
        file_id: None,
        request_id: None,
        data: Some(data.into()),
    };
    let operation = wal::begin(transaction, element, actor, begin).await?;
    operation.commit(transaction, None).await
}

fn busy(error: PruneError, element: &ElementName) -> PruneError {
    let code = match &error {
        PruneError::Relay(RelayError::Database(error)) => error.as_database_error(),
        _ => None,
    };
    match code.and_then(|error| error.code()) {
        // `lock_not_available`
        Some(code) if code == "55P03" => PruneError::Busy(element.clone()),
        _ => error,
    }
}

fn table(element: &ElementName) -> SourceTable {
    SourceTable::of(&Source::Element(element.clone()))
}
