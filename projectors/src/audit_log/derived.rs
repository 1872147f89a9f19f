//! Rows that no published head covers, derived again from their messages. Whoever has the database and the
//! secret can chain any row after the last head, and a head that is signed over it can't be withdrawn.
//! So a session compares before it signs: [`super::session`] halts where a row differs from its message.

use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::StreamReader;
use artstore_schemas::source::Source;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};

use super::mapping::{self, Record};
use super::store::{self, COLUMNS, Stored};
use crate::projector_error::WorkerError;

/// The longest that a message may take that is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wrong with the rows after row `from` up to row `to`, compared with the stream; none: each is what
/// its message states. A row whose message is gone from the stream can't be compared, and is named in a
/// warning: the stream's own damage is another check's. One row is kept in memory at a time.
pub(super) async fn differs(
    connection: &mut PgConnection,
    bus: &Bus,
    source: &Source,
    from: u64,
    to: u64,
) -> Result<Option<String>, WorkerError> {
    if from >= to {
        return Ok(None);
    }
    let stream = source.stream();
    let mut messages = Messages::open(bus, &stream, from + 1).await?;
    let sql = format!(
        "select {COLUMNS} from public.audit_logs \
         where stream = $1 and stream_sequence > $2 and stream_sequence <= $3 \
         order by stream_sequence, id"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&stream)
        .bind(store::signed(from))
        .bind(store::signed(to))
        .fetch(connection);
    let mut gone = 0_u64;
    while let Some(row) = rows.try_next().await? {
        let stored = store::stored(&row)?;
        let sequence = stored.row.sequence;
        let record = messages.at(sequence).await?;
        let is_there = record.message.is_some();
        match verdict(source, &stored, &record) {
            None => {}
            Some(_) if !is_there => gone += 1,
            Some(reason) => return Ok(Some(reason)),
        }
    }
    if gone > 0 {
        tracing::warn!(
            stream,
            rows = gone,
            "rows behind the last published head are of messages that the stream does not have any more: \
             their signatures are right, but they can't be compared"
        );
    }
    Ok(None)
}

fn verdict(source: &Source, stored: &Stored, record: &Record) -> Option<String> {
    let sequence = record.sequence;
    let stream = &stored.row.stream;
    let Some(derived) = mapping::row(stored.row.mapping, source, record) else {
        return Some(format!(
            "row {sequence} says that mapping {} made it, which this program does not know: was it \
             written by a newer version, or forged?",
            stored.row.mapping
        ));
    };
    (derived != stored.row).then(|| {
        format!(
            "row {sequence} is not what its message on the bus says, although its signature is right: \
             somebody who has the secret wrote it. No head was signed over it; `artstore audit verify \
             --stream {stream} --against-stream` names the fields"
        )
    })
}

/// The messages of a stream, one after another.
struct Messages {
    reader: StreamReader,
    /// Read, and not passed yet.
    next: Option<Message>,
}

impl Messages {
    async fn open(bus: &Bus, stream: &str, first: u64) -> Result<Self, BusError> {
        let selection = Selection::from(first).up_to_now();
        let reader = StreamReader::open(bus, stream, selection).await?;
        Ok(Self { reader, next: None })
    }

    /// What is at a sequence; sequences are asked for in ascending order.
    async fn at(&mut self, sequence: u64) -> Result<Record, BusError> {
        while self
            .next
            .as_ref()
            .is_none_or(|next| next.sequence < sequence)
            && let Some(next) = self.reader.next_or_end(PATIENCE).await?
        {
            self.next = Some(next);
        }
        let next = self.next.as_ref().filter(|next| next.sequence >= sequence);
        Ok(Record {
            sequence,
            published: next.map(|next| next.published).unwrap_or_default(),
            message: next
                .filter(|next| next.sequence == sequence)
                .map(|next| next.clone().into()),
        })
    }
}
