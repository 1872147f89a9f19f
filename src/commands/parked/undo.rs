//! `artstore parked undiscard`: parks again what was discarded. Later events of its key may have been
//! applied since, and it would overtake them: they are read from the stream and parked after it, so
//! that a retry applies all of them in the order of the stream.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use artstore_bus::accounts::role::Role;
use artstore_bus::breaks;
use artstore_bus::connection::Bus;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::parking::discarded::{self, GivenUp};
use artstore_projectors::parking::store::{self, Parked};
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::checkpoint;
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use artstore_schemas::subject::partition;
use clap::Args;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::choice::{Of, Parks, check_stream};
use crate::config::{Config, ConfigError};
use crate::operator::record;
use crate::status::lines::events;
use crate::{names, operator};
use artstore_verification::cache::messages::{Messages, Wanted};

/// Which one.
#[derive(Debug, Args)]
pub struct Undiscard {
    #[command(flatten)]
    pub(super) of: Of,
    /// Its stream, or its source: an element's name, query
    #[arg(value_parser = names::stream)]
    stream: String,
    /// Its sequence there
    sequence: u64,
    /// Why, in words: it goes into the audit log
    #[arg(long)]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Takes a discard back.
pub(super) async fn undo(
    config: &Config,
    connection: &mut PgConnection,
    command: &Undiscard,
) -> anyhow::Result<ExitCode> {
    if command.reason.trim().is_empty() {
        return Err(ConfigError("--reason: say why, in words".to_owned()).into());
    }
    let projection = command.of.projection.name();
    let stream = command.stream.as_str();
    check_stream(connection, command.of, stream).await?;
    let source =
        Source::of_stream(stream).ok_or_else(|| anyhow!("stream {stream} is none of a source"))?;
    let given_up = one(connection, command).await?;
    let bus = Bus::connect(&config.bus(Role::Reader, "artstore parked undiscard")?).await?;
    let damage = breaks::damage(&bus, &source).await?;
    let mut reading = Reading {
        bus: &bus,
        source: &source,
        of: command.of,
        damage: &damage,
        given_up: &given_up,
        reason: format!("was discarded, and taken back: {}", command.reason),
        found: Vec::new(),
        upto: given_up.sequence - 1,
    };
    // Most of it before the checkpoint is locked: workers wait for that.
    let applied = checkpoint::load(connection, projection, stream).await?;
    reading
        .go_on(applied.map_or(0, |at| at.last_sequence))
        .await?;
    let mut transaction = connection.begin().await?;
    store::renew(&mut transaction, projection, stream).await?;
    let applied = checkpoint::load(&mut transaction, projection, stream).await?;
    reading
        .go_on(applied.map_or(0, |at| at.last_sequence))
        .await?;
    // What was discarded as well stays so.
    let others = discarded::load(&mut transaction, projection, stream).await?;
    let parked: Vec<Parked> = reading
        .found
        .into_iter()
        .filter(|event| {
            event.sequence == given_up.sequence || !others.has(event.sequence, event.event_id)
        })
        .collect();
    let first = parked.first().map(|event| (event.sequence, event.event_id));
    if first != Some((given_up.sequence, given_up.event_id)) {
        bail!(
            "stream {stream} has no such event at {} any more: it was recreated, or the message was \
             accepted as damage; nothing was changed",
            given_up.sequence
        );
    }
    if !discarded::take_back(&mut transaction, &parked).await? {
        return Err(not_given_up(&mut transaction, command).await?.into());
    }
    let operator = operator::operator(&mut transaction).await?;
    let facts = json!({
        "stream": stream,
        "sequence": given_up.sequence,
        "key": given_up.key,
        "event_id": given_up.event_id,
        "parked": parked.len(),
        "was": given_up.reason,
        "reason": command.reason,
        "operator": operator,
    });
    record(&mut transaction, projection, "undiscard", facts.clone()).await?;
    transaction.commit().await?;
    match command.json {
        true => println!("{facts:#}"),
        false => println!(
            "message {} of {stream} is parked again, with those of its key behind it: {} in all. To apply \
             them in order: artstore parked retry --projection {projection}",
            given_up.sequence,
            events(parked.len() as u64)
        ),
    }
    Ok(ExitCode::SUCCESS)
}

async fn one(connection: &mut PgConnection, command: &Undiscard) -> anyhow::Result<GivenUp> {
    let projection = command.of.projection.name();
    let all = discarded::list(connection, projection, &command.stream).await?;
    let found = all.into_iter().find(|one| one.sequence == command.sequence);
    match found {
        Some(found) => Ok(found),
        None => Err(not_given_up(connection, command).await?.into()),
    }
}

async fn not_given_up(
    connection: &mut PgConnection,
    command: &Undiscard,
) -> Result<ConfigError, sqlx::Error> {
    let projection = command.of.projection.name();
    let all = discarded::list(connection, projection, &command.stream).await?;
    let there = names::listed(all.iter().map(|one| one.sequence)).map_or_else(
        || "no message of it was".to_owned(),
        |there| format!("these were: {there}"),
    );
    Ok(ConfigError(format!(
        "message {} of {} was not discarded by {projection}, or the discard was taken back already; {there}",
        command.sequence, command.stream
    )))
}

/// The event and the later ones of its key, as the stream has them.
struct Reading<'a> {
    bus: &'a Bus,
    source: &'a Source,
    of: Of,
    damage: &'a Damage,
    given_up: &'a GivenUp,
    /// Why the first one waits.
    reason: String,
    found: Vec<Parked>,
    /// The last sequence that was looked at.
    upto: u64,
}

impl Reading<'_> {
    /// Reads up to a sequence.
    async fn go_on(&mut self, to: u64) -> anyhow::Result<()> {
        let first = self.given_up.sequence;
        // Nothing waits behind an event without a key.
        let to = match self.given_up.key {
            Some(_) => to,
            None => to.min(first),
        };
        if to <= self.upto {
            return Ok(());
        }
        let wanted = Wanted {
            from: self.upto + 1,
            to,
            // What has no file is in the first partition, whatever key a projector gives it.
            partitions: self
                .given_up
                .key
                .map(|key| BTreeSet::from([partition(Some(key)), partition(None)])),
            headers_only: false,
        };
        let mut messages = Messages::open(self.bus, self.source, &wanted).await?;
        while let Some(message) = messages.next().await? {
            let (sequence, published) = (message.sequence, message.published);
            let known = message.envelope();
            let key = known.as_ref().and_then(|envelope| self.key(envelope));
            let is_one = sequence == first || key == self.given_up.key;
            if !is_one || self.damage.ignores(sequence) {
                continue;
            }
            self.found.push(Parked {
                projection: self.of.projection.name().to_owned(),
                stream: self.source.stream(),
                sequence,
                key,
                event_id: known.map(|envelope| envelope.id),
                message: message.into(),
                published,
                reason: (sequence == first).then(|| self.reason.clone()),
                attempts: 0,
                parked_at: published,
            });
        }
        messages.close().await;
        self.upto = to;
        Ok(())
    }

    fn key(&self, envelope: &Envelope) -> Option<Uuid> {
        match self.of.projection {
            Parks::QueryCache => QueryCache.key(envelope),
            Parks::ElementRegistry => ElementRegistry.key(envelope),
        }
    }
}
