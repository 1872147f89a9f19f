//! The end of a source's stream: the relay's whole state. Read at every start and after every
//! publish error; compared with the source on every connection.

use std::time::Duration;

use artstore_bus::breaks::{self, Breaks, Chain, Refused};
use artstore_bus::connection::Bus;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::StreamReader;
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::HashMap;
use uuid::Uuid;

use crate::relay::prune_mark;
use crate::relay::relay_error::{Halt, RelayError};
use crate::relay::seen_positions::SeenPositions;
use crate::relay::source::SourceTable;

/// How many of the last messages are compared with the source.
const COMPARED: u64 = 1_000;

/// How long the server may take to give the next of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The state of a stream after its last message; the default one is that of an empty stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumeState {
    /// The last sequence; 0 for an empty stream.
    pub sequence: u64,
    /// `ce-id` of the last message.
    pub last_id: Option<Uuid>,
    /// Its position.
    pub position: Option<i64>,
    /// The source's identity in the last message.
    pub identity: Option<String>,
    /// The high-water mark and the gaps.
    pub seen_positions: SeenPositions,
    /// Whether a backfill is due.
    pub backfill_due: bool,
}

impl ResumeState {
    /// Whether a source with this identity, whose sequence has come so far, is the one that the stream was
    /// written from, and was not set back.
    pub(crate) fn check_state(
        &self,
        source: &Source,
        identity: &str,
        sequence: i64,
    ) -> Result<(), RelayError> {
        let stream = source.stream();
        if let Some(in_stream) = self.identity.as_ref().filter(|i| *i != identity) {
            return Err(Halt::OtherIdentity {
                source_name: source.to_string(),
                stream,
                in_stream: in_stream.clone(),
                here: identity.to_owned(),
            }
            .into());
        }
        if sequence < self.seen_positions.high_water_mark() {
            return Err(Halt::SequenceBehind {
                source_name: source.to_string(),
                stream,
                high_water_mark: self.seen_positions.high_water_mark(),
                sequence,
            }
            .into());
        }
        Ok(())
    }

    /// Whether the stream has what was pruned up to this position.
    pub(crate) fn check_prune_mark(
        &self,
        source: &Source,
        prune_mark: i64,
    ) -> Result<(), RelayError> {
        if prune_mark::is_held(prune_mark, &self.seen_positions) {
            return Ok(());
        }
        Err(Halt::BehindPruneMark {
            source_name: source.to_string(),
            stream: source.stream(),
            prune_mark,
            high_water_mark: self.seen_positions.high_water_mark(),
            gaps: match self.seen_positions.gaps().as_slice().first() {
                None => "none".to_owned(),
                Some(range) => format!("from {}", range.first),
            },
        }
        .into())
    }
}

/// Reads the stream's last message, from its leader.
pub async fn read(bus: &Bus, source: &Source) -> Result<ResumeState, RelayError> {
    let stream = source.stream();
    loop {
        let info = bus.stream_info(&stream).await?;
        let sequence = info.state.last_sequence;
        if sequence == 0 {
            return Ok(ResumeState::default());
        }
        let Some(message) = bus.message_at(&stream, sequence).await? else {
            // Recreated between the two calls: look again.
            let now = bus.stream_info(&stream).await?;
            if now.state.last_sequence == sequence {
                return Err(Halt::ForeignStream {
                    source_name: source.to_string(),
                    stream,
                    sequence,
                    problem: "its last message was removed".to_owned(),
                }
                .into());
            }
            continue;
        };
        let envelope = envelope(source, sequence, &message.headers)?;
        return Ok(ResumeState {
            sequence,
            last_id: Some(envelope.id),
            position: envelope.position,
            seen_positions: SeenPositions::from_stream(envelope.high_water_mark, &envelope.gaps),
            backfill_due: envelope.backfill_due,
            identity: Some(envelope.identity),
        });
    }
}

/// The event that a stream has at a sequence; none at 0, and where there is none that can be read.
pub(crate) async fn event_at(
    bus: &Bus,
    source: &Source,
    sequence: u64,
) -> Result<Option<Uuid>, RelayError> {
    let message = bus.message_at(&source.stream(), sequence).await?;
    let envelope = message.and_then(|message| message.envelope());
    Ok(envelope.map(|envelope| envelope.id))
}

/// The last messages of a stream that report rows which the source has to hold.
#[derive(Debug, Default)]
pub struct Recent(Vec<Published>);

/// Reads the stream's last messages; after an accepted break also the last ones that survived it. They
/// have to follow each other, and no message may pass itself off as a record, or nobody could know what
/// the last message's state is worth. What was lost at an accepted break and damage that was accepted
/// is skipped.
pub async fn recent(
    bus: &Bus,
    source: &Source,
    resume_state: &ResumeState,
) -> Result<Recent, RelayError> {
    if resume_state.sequence == 0 {
        return Ok(Recent::default());
    }
    let Breaks {
        epochs,
        damage,
        refused,
        ..
    } = breaks::read(bus, source, Chain::Checked).await?;
    if let Some(Refused { sequence, problem }) = refused.into_iter().next() {
        return Err(Halt::ForeignStream {
            source_name: source.to_string(),
            stream: source.stream(),
            sequence,
            problem,
        }
        .into());
    }
    let first = resume_state.sequence.saturating_sub(COMPARED - 1).max(1);
    let mut published = Vec::new();
    if let Some(last) = epochs.last().filter(|epoch| epoch.sequence >= first) {
        // Before the break the stream may end with more lost messages than are compared.
        let last = last.last_agreeing.min(first - 1);
        let first = last.saturating_sub(COMPARED - 1).max(1);
        published = messages(bus, source, first, last, &damage).await?;
    }
    published.extend(messages(bus, source, first, resume_state.sequence, &damage).await?);
    let survives = |m: &Published| m.position.is_none_or(|p| epochs.survives(m.sequence, p));
    published.retain(survives);
    Ok(Recent(published))
}

/// Compares the stream's last messages with the source, position and id. A row that is gone, or another
/// one, means that the source was set back. What was pruned is skipped.
pub async fn compare(
    source: &Source,
    Recent(published): Recent,
    connection: &mut PgConnection,
) -> Result<(), RelayError> {
    if published.is_empty() {
        return Ok(());
    }
    let positions: Vec<i64> = published.iter().filter_map(|m| m.position).collect();
    let table = SourceTable::of(source);
    let sql = format!(
        "select position, {} as id from public.{} where position = any($1)",
        table.id_column, table.table
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(positions)
        .fetch_all(&mut *connection)
        .await?;
    let prune_mark = prune_mark::read(connection, &table).await?;
    let mut held = HashMap::with_capacity(rows.len());
    for row in rows {
        held.insert(
            row.try_get::<i64, _>("position")?,
            row.try_get::<Uuid, _>("id")?,
        );
    }
    let lost: Vec<&Published> = published
        .iter()
        .filter(|m| {
            m.position.is_some_and(|p| match held.get(&p) {
                Some(id) => *id != m.id,
                None => p > prune_mark,
            })
        })
        .collect();
    let (Some(first), positions) = (lost.first(), lost.iter().filter_map(|m| m.position)) else {
        return Ok(());
    };
    let (lowest, highest) = positions.fold((i64::MAX, 0), |(lowest, highest), p| {
        (lowest.min(p), highest.max(p))
    });
    Err(Halt::SetBack {
        source_name: source.to_string(),
        stream: source.stream(),
        count: lost.len(),
        first: lowest,
        last: highest,
        sequence: first.sequence,
        id: first.id,
    }
    .into())
}

#[derive(Debug)]
struct Published {
    sequence: u64,
    id: Uuid,
    position: Option<i64>,
}

/// The headers of the messages from `first` to `last`, in order, each checked against the one before
/// it. Accepted damage is skipped.
async fn messages(
    bus: &Bus,
    source: &Source,
    first: u64,
    last: u64,
    damage: &Damage,
) -> Result<Vec<Published>, RelayError> {
    let stream = source.stream();
    if last < first {
        return Ok(Vec::new());
    }
    let selection = Selection {
        headers_only: true,
        ..Selection::from(first)
    };
    let mut messages = StreamReader::open(bus, &stream, selection).await?;
    let mut published: Vec<Published> = Vec::new();
    let mut next = first;
    // Without an end: a message that does not come is an error. The chain is known from the first
    // message on that counts.
    let mut before: Option<Uuid> = None;
    while next <= last
        && !damage.covers_hole(next, last)
        && let Some(message) = messages.next_or_end(PATIENCE).await?
    {
        let sequence = message.sequence;
        let foreign = |problem: String| Halt::ForeignStream {
            source_name: source.to_string(),
            stream: stream.clone(),
            sequence,
            problem,
        };
        if sequence != next && !damage.covers_hole(next, sequence - 1) {
            return Err(foreign(format!("message {next} is missing before it")).into());
        }
        if sequence > last {
            break;
        }
        next = sequence + 1;
        if damage.ignores(sequence) {
            continue;
        }
        let envelope = envelope(source, sequence, &message.headers)?;
        if before.is_some() && envelope.previous != before && !damage.covers_break(sequence) {
            let problem = "it does not follow the message before it (artstore-previous)";
            return Err(foreign(problem.to_owned()).into());
        }
        before = Some(envelope.id);
        published.push(Published {
            sequence,
            id: envelope.id,
            position: envelope.position,
        });
    }
    messages.close().await;
    Ok(published)
}

fn envelope(
    source: &Source,
    sequence: u64,
    headers: &async_nats::HeaderMap,
) -> Result<Envelope, RelayError> {
    let foreign = |problem: String| Halt::ForeignStream {
        source_name: source.to_string(),
        stream: source.stream(),
        sequence,
        problem,
    };
    let envelope = Envelope::from_headers(headers).map_err(|e| foreign(e.to_string()))?;
    if envelope.source != source.ce_source() {
        return Err(foreign(format!("it comes from {}", envelope.source)).into());
    }
    Ok(envelope)
}
