//! A scan of a whole stream beside its whole source: what agrees, what the source lost, what it has and the
//! stream does not, and where the stream itself is damaged. An operator asks for it; `repair/src/accept.rs`
//! and `repair/src/republish.rs` act on it.
//!
//! Messages are read in order, a thousand at a time, each with the rows of its positions. It
//! keeps ranges of positions, and the sequences and files that are affected.

use std::collections::{BTreeSet, HashMap, HashSet};

use artstore_bus::breaks::{self, Chain};
use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_schemas::damage::Damage;
use artstore_schemas::ranges::Ranges;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::stream::message_checker::{MessageChecker, OutOfOrder};
use crate::stream::scan_reader::ScanReader;
use artstore_producers::relay::prune_mark;
use artstore_producers::relay::relay_error::RelayError;
use artstore_producers::relay::resume_state::ResumeState;
use artstore_producers::relay::rows;
use artstore_producers::relay::source::{SourceRow, SourceTable, snapshot};
use artstore_producers::relay::translate::Translator;

/// How many rows are looked up at once.
const CHUNK: usize = 500;

/// The most lost messages that are listed one by one; all are counted.
pub const MOST_LISTED: usize = 100_000;

/// A message whose row the source does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostMessage {
    /// Its sequence.
    pub sequence: u64,
    /// Its row's position.
    pub position: i64,
    /// Its event.
    pub id: Uuid,
    /// The file that it is about.
    pub file: Option<String>,
}

/// A damaged range of a stream that no record lists yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedRange {
    /// The first sequence.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What is wrong there.
    pub problem: String,
    /// The message's event, where it can be read.
    pub id: Option<Uuid>,
    /// The file that it is about.
    pub file: Option<String>,
}

/// The result of a scan.
#[derive(Debug)]
pub struct StreamScan {
    /// The state after the last message that counts. Its sequence is the stream's last one.
    pub resume_state: ResumeState,
    /// The identity of the source's database.
    pub identity: String,
    /// Positions whose message and row agree, or whose row was pruned.
    pub agreed: Ranges,
    /// Messages whose row is there and agrees.
    pub agreed_rows: u64,
    /// The sequence of the last message whose row agrees; 0 where there is none.
    pub last_agreeing: u64,
    /// Messages whose row the source does not hold; the first [`MOST_LISTED`].
    pub lost: Vec<LostMessage>,
    /// How many there are.
    pub lost_count: u64,
    /// Their positions.
    pub lost_positions: Ranges,
    /// The files that they are about.
    pub lost_files: BTreeSet<String>,
    /// Damage that no record lists.
    pub damaged_ranges: Vec<DamagedRange>,
    /// All damage: what is listed already and what is not.
    pub damage: Damage,
    /// Files of which damaged messages spoke, and no good message since.
    pub unclear_files: BTreeSet<Uuid>,
    /// Whether the stream's last messages do not count.
    pub end_ignored: bool,
    /// Whether messages are gone that no record lists.
    pub new_holes: bool,
}

/// Compares everything. With `bodies` also what the messages state, as far as the rows have it.
///
/// Which messages count depends on the breaks of the source, whose records come after them. A record
/// that turns out to be none does not count: then everything is read again without it.
pub async fn scan(
    bus: &Bus,
    translator: &Translator,
    connection: &mut PgConnection,
    bodies: bool,
) -> Result<StreamScan, RelayError> {
    let source = translator.source();
    let table = SourceTable::of(source);
    let seen = snapshot(connection, &table.sequence).await?;
    let mut breaks = breaks::read(bus, source, Chain::Unchecked).await?;
    let (reader, mut checker) = loop {
        let checker = MessageChecker::new(translator, bodies, breaks.clone());
        let (reader, checker) = read_and_check(bus, checker, &table, connection, bodies).await?;
        let forged = checker.forged_epochs();
        if forged.is_empty() {
            break (reader, checker);
        }
        let epochs = &mut breaks.epochs.0;
        epochs.retain(|epoch| !forged.contains(&epoch.sequence));
    };
    if let Some((sequence, error)) = checker.too_new {
        return Err(reader.failed(&format!(
            "message {sequence}: {error}: it can't be checked; use the newer version"
        )));
    }
    disordered(&mut checker, &table, connection).await?;
    checker.resume_state.sequence = reader.end;
    strangers(&mut checker, &table, connection, &seen.identity).await?;
    Ok(checker.finish(seen.identity))
}

/// Reads the stream once, from its beginning to its end.
async fn read_and_check<'a>(
    bus: &Bus,
    mut checker: MessageChecker<'a>,
    table: &SourceTable,
    connection: &mut PgConnection,
    bodies: bool,
) -> Result<(ScanReader, MessageChecker<'a>), RelayError> {
    let mut reader = ScanReader::open(bus, checker.source(), bodies).await?;
    loop {
        let batch = reader.batch().await?;
        if batch.is_empty() {
            break;
        }
        let rows = Rows::of(table, connection, &batch, bodies).await?;
        for message in &batch {
            let expected = checker.next;
            if message.sequence > expected {
                checker
                    .hole(&reader, expected, message.sequence - 1)
                    .await?;
            }
            checker.check(message, &rows);
        }
    }
    if checker.next <= reader.end {
        checker.hole(&reader, checker.next, reader.end).await?;
        checker.end_ignored = true;
    }
    Ok((reader, checker))
}

/// Of the messages that come after a higher position of their file, those where our API wrote that
/// one, too.
async fn disordered(
    checker: &mut MessageChecker<'_>,
    table: &SourceTable,
    connection: &mut PgConnection,
) -> Result<(), RelayError> {
    let behind: Vec<OutOfOrder> = checker.take_out_of_order();
    for chunk in behind.chunks(CHUNK) {
        let positions: Vec<i64> = chunk.iter().map(|message| message.over).collect();
        let rows = rows::at(connection, table, &positions).await?;
        let recorded = rows.iter().filter(|row| row.is_recorded());
        let certain: HashSet<i64> = recorded.map(|row| row.position).collect();
        for message in chunk.iter().filter(|m| certain.contains(&m.over)) {
            checker.disordered(message);
        }
    }
    Ok(())
}

/// Of the messages whose row seems to be lost, those where it stands at another position. Another
/// database may have renumbered its rows: there that is no damage of the stream.
async fn strangers(
    checker: &mut MessageChecker<'_>,
    table: &SourceTable,
    connection: &mut PgConnection,
    identity: &str,
) -> Result<(), RelayError> {
    let mut elsewhere = HashSet::new();
    if checker.resume_state.identity.as_deref() == Some(identity) {
        let lost: Vec<Uuid> = checker.lost().collect();
        for chunk in lost.chunks(CHUNK) {
            let known = rows::positions(connection, table, chunk).await?;
            elsewhere.extend(known.into_iter().map(|(id, _)| id));
        }
    }
    checker.pass_over_strangers(&elsewhere);
    Ok(())
}

/// The rows at the positions of a batch.
pub(crate) struct Rows {
    held: Held,
    prune_mark: i64,
}

enum Held {
    Ids(HashMap<i64, Uuid>),
    Full(HashMap<i64, SourceRow>),
}

impl Rows {
    async fn of(
        table: &SourceTable,
        connection: &mut PgConnection,
        batch: &[Message],
        bodies: bool,
    ) -> Result<Self, RelayError> {
        let mut positions = Ranges::default();
        for message in batch {
            if let Some(position) = message.envelope().and_then(|envelope| envelope.position) {
                positions.insert(position);
            }
        }
        let (ranges, limit) = (positions.as_slice(), positions.positions());
        let held = if bodies {
            let rows = table.rows(connection, ranges, limit).await?;
            Held::Full(rows.into_iter().map(|row| (row.position, row)).collect())
        } else {
            let ids = table.ids(connection, ranges, limit).await?;
            Held::Ids(ids.into_iter().map(|row| (row.position, row.id)).collect())
        };
        let prune_mark = prune_mark::read(connection, table).await?;
        Ok(Self { held, prune_mark })
    }

    pub(crate) fn id(&self, position: i64) -> Option<Uuid> {
        match &self.held {
            Held::Ids(ids) => ids.get(&position).copied(),
            Held::Full(rows) => rows.get(&position).map(|row| row.id),
        }
    }

    pub(crate) fn row(&self, position: i64) -> Option<&SourceRow> {
        match &self.held {
            Held::Ids(_) => None,
            Held::Full(rows) => rows.get(&position),
        }
    }

    /// Whether the row of a position was pruned.
    pub(crate) fn is_pruned(&self, position: i64) -> bool {
        position <= self.prune_mark && self.id(position).is_none()
    }
}
