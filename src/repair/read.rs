//! What a repair reads from streams and database, before its transaction.

use std::collections::{HashMap, HashSet};

use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_projectors::parking::discarded::{self, Discarded};
use artstore_projectors::projection_names::QUERY_CACHE;
use artstore_projectors::projector::Received;
use artstore_projectors::runtime::workers;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::part::Part;
use artstore_verification::cache::checkpoints::{self, CheckedCheckpoint};
use artstore_verification::cache::element_streams;
use artstore_verification::cache::messages::{self, Messages, Wanted};
use artstore_verification::cache::stream_files::Streams;

/// What was read before the transaction, so that it is short.
pub(super) struct Read {
    pub(super) elements: Vec<ElementName>,
    pub(super) places: Vec<CheckedCheckpoint>,
    pub(super) streams: Streams,
    pub(super) history: HashMap<Uuid, Received>,
    /// What was discarded in the stream of the query module.
    pub(super) discarded: Discarded,
}

impl Part<'_> {
    pub(super) async fn read(&self) -> anyhow::Result<Read> {
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
}

/// What an operator discarded of a stream.
pub(super) async fn given_up(
    connection: &mut PgConnection,
    source: &Source,
) -> Result<Discarded, sqlx::Error> {
    discarded::load(connection, QUERY_CACHE, &source.stream()).await
}

/// The messages of some events of the query module, but those that were discarded.
pub(super) async fn read_history(
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
    while let Some(message) = messages.next().await? {
        let sequence = message.sequence;
        // What readers skip has no effect.
        if damage.ignores(sequence) {
            continue;
        }
        let id = message.envelope().map(|envelope| envelope.id);
        if id.is_some_and(|id| events.contains(&id) && !discarded.has(sequence, Some(id)))
            && let Some(event) = messages::received(&Source::Query, &message)
        {
            found.entry(event.envelope.id).or_insert(event);
        }
    }
    messages.close().await;
    Ok(())
}
