//! Checks candidates again, each by itself, with its row and its message as they are
//! now. What remains is a finding: what it is about, and the command that repairs it.

use std::collections::{HashMap, HashSet};

use crate::stream::content::RowContent;
use crate::stream::fingerprint::ComparableEvent;
use artstore_bus::connection::Bus;
use artstore_producers::relay::prune_mark;
use artstore_producers::relay::rows;
use artstore_producers::relay::source::SourceRow;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event;
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use uuid::Uuid;

use super::candidates::{Candidate, Candidates};
use super::finding::{Finding, Kind};
use super::pass::Pass;
use super::without_row::{self, KnownRows, Origins};

/// How many are looked up at once.
const CHUNK: usize = 500;

/// What remains of a pass's candidates when each is checked again.
pub(super) async fn settle(
    pass: &Pass,
    connection: &mut PgConnection,
    bus: &Bus,
) -> anyhow::Result<Candidates> {
    let mut left = pass.state.candidates.clone();
    changed(pass, connection, bus, &mut left).await?;
    without_row(pass, connection, bus, &mut left).await?;
    disordered(pass, connection, &mut left).await?;
    missing(pass, connection, &mut left).await?;
    explained(&mut left);
    Ok(left)
}

/// The rows of extra messages, by id and by position.
async fn without_row(
    pass: &Pass,
    connection: &mut PgConnection,
    bus: &Bus,
    left: &mut Candidates,
) -> anyhow::Result<()> {
    let extra: Vec<Candidate> = left.of(Kind::MessageExtra).cloned().collect();
    let mut known = KnownRows::default();
    for chunk in extra.chunks(CHUNK) {
        let ids: Vec<Uuid> = chunk.iter().filter_map(|c| c.id).collect();
        let positions = rows::positions(connection, &pass.table, &ids).await?;
        known.positions.extend(positions);
        let at = rows_of(pass, connection, chunk).await?;
        known.at.extend(at.into_keys());
    }
    // Read after the rows: pruned since the pass looked for them.
    known.prune_mark = prune_mark::read(connection, &pass.table).await?;
    let awaited = pass.state.matching.awaited().keys().copied();
    known.unmatched = left
        .of(Kind::MessageMissing)
        .filter_map(|candidate| candidate.position)
        .chain(awaited)
        .collect();
    without_row::settle(&known, left);
    let stream = pass.source().stream();
    let mut origins = Origins::of(pass.accepted(), left);
    while let Some(message) = origins.next_in_doubt() {
        let extra = bus.message_at(&stream, message.sequence).await?;
        let Some(extra) = extra.and_then(|message| message.envelope()) else {
            continue;
        };
        let last = bus.message_at(&stream, message.last).await?;
        let last = last.and_then(|message| message.envelope());
        origins.decide(message, extra.previous, last.map(|last| last.id));
    }
    origins.apply(left);
    Ok(())
}

async fn changed(
    pass: &Pass,
    connection: &mut PgConnection,
    bus: &Bus,
    left: &mut Candidates,
) -> anyhow::Result<()> {
    let candidates: Vec<Candidate> = left.of(Kind::MessageChanged).cloned().collect();
    let mut details: HashMap<u64, Option<String>> = HashMap::new();
    let mut gone: Vec<Candidate> = Vec::new();
    for chunk in candidates.chunks(CHUNK) {
        let rows = rows_of(pass, connection, chunk).await?;
        for candidate in chunk {
            let (Some(position), Some(sequence)) = (candidate.position, candidate.sequence) else {
                continue;
            };
            let Some(row) = rows
                .get(&position)
                .filter(|row| Some(row.id) == candidate.id)
            else {
                gone.push(candidate.clone());
                details.insert(sequence, None);
                continue;
            };
            let Some(content) = content_of_message(pass.source(), bus, sequence).await? else {
                continue;
            };
            let by_row = RowContent::of(&pass.translator, row.clone());
            let fields = by_row.differences(content, candidate.republished);
            let fields = fields.unwrap_or_default();
            let detail = (!fields.is_empty())
                .then(|| format!("it differs from its row in {}", fields.join(", ")));
            details.insert(sequence, detail);
        }
    }
    left.retain(Kind::MessageChanged, |candidate| {
        match candidate.sequence.and_then(|s| details.remove(&s)) {
            None => true,
            Some(None) => false,
            Some(Some(detail)) => {
                candidate.detail = detail;
                true
            }
        }
    });
    let prune_mark = prune_mark::read(connection, &pass.table).await?;
    gone.retain(|candidate| {
        candidate
            .position
            .is_none_or(|position| position > prune_mark)
    });
    for candidate in gone {
        let detail = "its row is gone".to_owned();
        left.add(
            Kind::MessageExtra,
            Candidate {
                detail,
                ..candidate
            },
        );
    }
    Ok(())
}

async fn content_of_message(
    source: &Source,
    bus: &Bus,
    sequence: u64,
) -> anyhow::Result<Option<ComparableEvent>> {
    let Some(message) = bus.message_at(&source.stream(), sequence).await? else {
        return Ok(None);
    };
    let Ok(envelope) = Envelope::from_headers(&message.headers) else {
        return Ok(None);
    };
    let decoded = event::decode(source, &envelope.event_type, &message.body);
    Ok(decoded
        .ok()
        .map(|event| ComparableEvent::from_message(&message.subject, &envelope, event)))
}

async fn rows_of(
    pass: &Pass,
    connection: &mut PgConnection,
    candidates: &[Candidate],
) -> anyhow::Result<HashMap<i64, SourceRow>> {
    let positions: Vec<i64> = candidates.iter().filter_map(|c| c.position).collect();
    let rows = rows::at(connection, &pass.table, &positions).await?;
    Ok(rows.into_iter().map(|row| (row.position, row)).collect())
}

/// The rows of messages that come after a higher position of their file.
async fn disordered(
    pass: &Pass,
    connection: &mut PgConnection,
    left: &mut Candidates,
) -> anyhow::Result<()> {
    let candidates: Vec<Candidate> = left.of(Kind::MessageDisordered).cloned().collect();
    let mut contents: HashMap<i64, RowContent> = HashMap::new();
    for chunk in candidates.chunks(CHUNK) {
        let positions = chunk
            .iter()
            .flat_map(|c| [c.higher_before, c.position])
            .flatten();
        let positions: Vec<i64> = positions.collect();
        for row in rows::at(connection, &pass.table, &positions).await? {
            contents.insert(row.position, RowContent::of(&pass.translator, row));
        }
    }
    settle_disordered(&contents, left);
    Ok(())
}

/// Only where our API wrote both rows, and both are of one file, it is certain which came first.
pub(crate) fn settle_disordered(contents: &HashMap<i64, RowContent>, left: &mut Candidates) {
    left.retain(Kind::MessageDisordered, |candidate| {
        let content = |position: Option<i64>| contents.get(&position?);
        match (
            content(candidate.higher_before),
            content(candidate.position),
        ) {
            (Some(over), Some(own)) => over.carries_state() && over.about() == own.about(),
            _ => false,
        }
    });
}

/// A row that is gone since, or another one now, has no message to miss.
async fn missing(
    pass: &Pass,
    connection: &mut PgConnection,
    left: &mut Candidates,
) -> anyhow::Result<()> {
    let candidates: Vec<Candidate> = left.of(Kind::MessageMissing).cloned().collect();
    let mut there: HashSet<Uuid> = HashSet::new();
    for chunk in candidates.chunks(CHUNK) {
        let ids: Vec<Uuid> = chunk.iter().filter_map(|c| c.id).collect();
        let known = rows::positions(connection, &pass.table, &ids).await?;
        there.extend(known.into_iter().map(|(id, _)| id));
    }
    left.retain(Kind::MessageMissing, |candidate| {
        candidate.id.is_none_or(|id| there.contains(&id))
    });
    Ok(())
}

/// A break of the chain whose cause has a finding of its own is none itself: the message that is
/// missing before it, or the message that does not belong there.
pub(crate) fn explained(left: &mut Candidates) {
    let own: HashSet<u64> = [
        Kind::MessageChanged,
        Kind::MessageDoubled,
        Kind::MessageForeign,
    ]
    .into_iter()
    .flat_map(|kind| left.of(kind).filter_map(|c| c.sequence))
    .collect();
    let broken: HashMap<Uuid, u64> = left
        .of(Kind::StreamBroken)
        .filter_map(|candidate| Some((candidate.follows?, candidate.sequence?)))
        .collect();
    let mut causes: HashSet<Uuid> = HashSet::new();
    left.retain(Kind::MessageMissing, |candidate| {
        let follower = candidate.id.and_then(|id| broken.get(&id));
        if let (Some(sequence), Some(id)) = (follower, candidate.id) {
            causes.insert(id);
            candidate.detail = format!(
                "a finished row has no message; message {sequence} names it as the one before it"
            );
        }
        true
    });
    left.retain(Kind::StreamBroken, |candidate| {
        !candidate.sequence.is_some_and(|s| own.contains(&s))
            && !candidate.follows.is_some_and(|id| causes.contains(&id))
    });
}

/// Names the source, and the command that repairs it.
pub(super) fn finding(pass: &Pass, kind: Kind, candidate: &Candidate) -> Finding {
    let source = pass.source();
    let waits = kind == Kind::MessageMissing
        && candidate
            .position
            .is_some_and(|position| pass.may_come(position));
    let detail = if waits {
        "a finished row has no message: the relay has not published it".to_owned()
    } else {
        candidate.detail.clone()
    };
    let repair = match kind {
        // What was pruned: no row of it is there to be published again.
        Kind::MessageMissing if candidate.id.is_none() => {
            format!("artstore relay accept-source --source {source}")
        }
        Kind::MessageMissing if waits => format!("artstore run relay --source {source}"),
        Kind::MessageExtra => format!("artstore relay accept-source --source {source}"),
        Kind::RowUnnumbered => format!("artstore wal number --source {source} --yes"),
        Kind::MessageMissing
        | Kind::MessageDoubled
        | Kind::MessageChanged
        | Kind::MessageDisordered
        | Kind::StreamHole
        | Kind::StreamBroken
        | Kind::MessageForeign => format!("artstore relay republish --source {source}"),
        Kind::Checkpoint | Kind::RowMissing | Kind::RowExtra | Kind::RowDifferent => {
            "artstore projection repair query-cache".to_owned()
        }
    };
    Finding {
        kind,
        source: source.to_string(),
        id: candidate.id,
        sequence: candidate.sequence,
        position: candidate.position,
        detail,
        repair,
    }
}
