//! The last event of a row, where the row itself does not name it: a row that is gone, or one of a
//! table without event ids. It is searched in the stream by the file that both are about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_projectors::parking::discarded;
use artstore_projectors::projector::Projector;
use artstore_projectors::rebuild::build::Rebuild;
use artstore_projectors::rebuild::compare::{Change, Comparison, Difference, Event};
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use uuid::Uuid;

use artstore_verification::cache::messages::{Messages, Wanted};

/// For so many rows of a comparison it is looked up.
const MOST: usize = 500;

/// Looks them up, stream by stream, up to where the rebuilt tables are.
pub(super) async fn name_events<P: Projector>(
    bus: &Bus,
    build: &mut Rebuild<'_, P>,
    comparison: &mut Comparison,
) -> anyhow::Result<()> {
    let places = build.places().await?;
    let mut rows: BTreeMap<String, Vec<&mut Difference>> = BTreeMap::new();
    let unsaid = comparison.differences.iter_mut().filter(|row| {
        (row.change == Change::Removed || row.event.id.is_none()) && about(row).is_some()
    });
    for row in unsaid.take(MOST) {
        if let Some(stream) = row.event.stream.clone() {
            rows.entry(stream).or_default().push(row);
        }
    }
    for (stream, rows) in rows {
        let place = places.iter().find(|(of, _)| *of == stream);
        let (Some(source), Some((_, to))) = (Source::of_stream(&stream), place) else {
            continue;
        };
        let discarded = discarded::load(build.connection(), P::NAME, &stream).await?;
        let files: BTreeSet<Uuid> = rows.iter().filter_map(|row| about(row)).collect();
        // What a row names is the last one or stands before it.
        let named = rows.iter().map(|row| row.event.sequence.unwrap_or(1));
        let from = named.min().and_then(|from| u64::try_from(from).ok());
        let wanted = Wanted {
            from: from.unwrap_or(1),
            to: *to,
            partitions: Some(
                files
                    .iter()
                    .map(|id| subject::partition(Some(*id)))
                    .collect(),
            ),
            headers_only: true,
        };
        let mut last = last_events(bus, &source, &wanted, &files).await?;
        last.retain(|_, (sequence, id)| !discarded.has(*sequence, Some(*id)));
        for row in rows {
            let Some((sequence, id)) = about(row).and_then(|file| last.get(&file)) else {
                continue;
            };
            row.deleted = row.change == Change::Removed;
            row.event = Event {
                id: Some(*id),
                stream: Some(stream.clone()),
                sequence: i64::try_from(*sequence).ok(),
            };
        }
    }
    Ok(())
}

fn about(row: &Difference) -> Option<Uuid> {
    row.about.parse().ok()
}

/// The last event of each file, with its sequence, in a part of a stream.
async fn last_events(
    bus: &Bus,
    source: &Source,
    wanted: &Wanted,
    files: &BTreeSet<Uuid>,
) -> anyhow::Result<HashMap<Uuid, (u64, Uuid)>> {
    let mut last = HashMap::new();
    if wanted.to < wanted.from {
        return Ok(last);
    }
    // What readers skip has no effect.
    let damage = breaks::damage(bus, source).await?;
    let mut messages = Messages::open(bus, source, wanted).await?;
    while let Some(message) = messages.next().await? {
        let Some(envelope) = message.envelope() else {
            continue;
        };
        let file = envelope.subject.and_then(|subject| subject.parse().ok());
        if let Some(file) = file
            && files.contains(&file)
            && !damage.ignores(message.sequence)
        {
            last.insert(file, (message.sequence, envelope.id));
        }
    }
    messages.close().await;
    Ok(last)
}
