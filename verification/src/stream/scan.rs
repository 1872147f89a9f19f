//! A scan of a whole stream beside its whole source: what agrees, what the source lost, what it has and the
//! stream does not, and where the stream itself is damaged. An operator asks for it; `repair/src/accept.rs`
//! and `repair/src/republish.rs` act on it.
//!
//! Messages are read in order, a thousand at a time, each with the rows of its positions. It
//! keeps ranges of positions, and the sequences and files that are affected.

use std::collections::{BTreeSet, HashSet};

use artstore_bus::breaks::{self, Chain, Refused};
use artstore_bus::connection::Bus;
use artstore_schemas::damage::{Damage, Sequences};
use artstore_schemas::ranges::Ranges;
use sqlx::PgConnection;
use uuid::Uuid;

pub use crate::stream::agreement::{LostMessage, MOST_LISTED};
pub use crate::stream::damage::DamagedRange;
use crate::stream::file_order::OutOfOrder;
use crate::stream::message_checker::MessageChecker;
use crate::stream::rows::Rows;
use crate::stream::scan_reader::ScanReader;
use artstore_producers::relay::relay_error::RelayError;
use artstore_producers::relay::resume_state::ResumeState;
use artstore_producers::relay::rows;
use artstore_producers::relay::source::{SourceTable, snapshot};
use artstore_producers::relay::translate::Translator;

/// How many rows are looked up at once.
const CHUNK: usize = 500;

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
    /// The sequence of the last message whose row agrees or was pruned; 0 where there is none.
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
/// that turns out to be none does not count: then everything is read again without it. So is a message that
/// seemed to be of a lost row, and is none of the source's: what comes after it follows the one before it.
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
        let mut checker = MessageChecker::new(source, bodies, breaks.clone());
        let mut reader = ScanReader::open(bus, source, bodies).await?;
        loop {
            let batch = reader.batch().await?;
            if batch.is_empty() {
                break;
            }
            let rows = Rows::of(translator, &table, connection, &batch, bodies).await?;
            for message in &batch {
                hole_up_to(&mut checker, &reader, message.sequence - 1).await?;
                checker.check(message, &rows);
            }
        }
        hole_up_to(&mut checker, &reader, reader.end).await?;
        let forged = checker.forged_epochs();
        if !forged.is_empty() {
            let epochs = &mut breaks.epochs.0;
            epochs.retain(|epoch| !forged.contains(&epoch.sequence));
            continue;
        }
        let strangers = strangers(&checker, &table, connection, &seen.identity).await?;
        if strangers.is_empty() {
            break (reader, checker);
        }
        breaks.refused.extend(strangers);
    };
    if let Some((sequence, error)) = checker.too_new {
        return Err(reader.failed(&format!(
            "message {sequence}: {error}: it can't be checked; use the newer version"
        )));
    }
    disordered(&mut checker, &table, connection).await?;
    checker.end.resume_state.sequence = reader.end;
    Ok(result(checker, seen.identity))
}

/// No messages came before the next one, up to a sequence. A consumer may lose some: the stream is asked.
async fn hole_up_to(
    checker: &mut MessageChecker<'_>,
    reader: &ScanReader,
    last: u64,
) -> Result<(), RelayError> {
    if checker.next > last {
        return Ok(());
    }
    for Sequences { first, last } in checker.damage.new_parts_of_hole(checker.next, last) {
        if !reader.is_hole(first, last).await? {
            return Err(reader.failed(&"messages got lost on the way: try again"));
        }
    }
    checker.hole(last);
    Ok(())
}

fn result(checker: MessageChecker<'_>, identity: String) -> StreamScan {
    let MessageChecker {
        mut end,
        agreement,
        damage,
        ..
    } = checker;
    if !damage.ranges.is_empty() {
        end.reaches(&agreement);
    }
    StreamScan {
        resume_state: end.resume_state,
        identity,
        damage: damage.all(),
        agreed: agreement.agreed,
        agreed_rows: agreement.rows,
        last_agreeing: agreement.last,
        lost: agreement.lost,
        lost_count: agreement.lost_count,
        lost_positions: agreement.lost_positions,
        lost_files: agreement.lost_files,
        damaged_ranges: damage.ranges,
        unclear_files: damage.unclear_files,
        end_ignored: damage.end_ignored,
        new_holes: damage.new_holes,
    }
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
        let positions: Vec<i64> = chunk.iter().map(|message| message.higher_before).collect();
        let rows = rows::at(connection, table, &positions).await?;
        let recorded = rows.iter().filter(|row| row.is_recorded());
        let certain: HashSet<i64> = recorded.map(|row| row.position).collect();
        for message in chunk.iter().filter(|m| certain.contains(&m.higher_before)) {
            checker.disordered(message);
        }
    }
    Ok(())
}

/// Of the messages whose row seems to be lost, those where it has another position. Another
/// database may have renumbered its rows: there that is no damage of the stream.
async fn strangers(
    checker: &MessageChecker<'_>,
    table: &SourceTable,
    connection: &mut PgConnection,
    identity: &str,
) -> Result<Vec<Refused>, RelayError> {
    let mut elsewhere = HashSet::new();
    if checker.end.resume_state.identity.as_deref() == Some(identity) {
        let lost: Vec<Uuid> = checker.agreement.lost_rows().collect();
        for chunk in lost.chunks(CHUNK) {
            let known = rows::positions(connection, table, chunk).await?;
            elsewhere.extend(known.into_iter().map(|(id, _)| id));
        }
    }
    Ok(checker.strangers(&elsewhere))
}
