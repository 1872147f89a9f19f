//! One look at everything. First all servers are reached and asked for what is needed to see a
//! rate; a second later everything is read: a checkpoint before the end of its stream, the
//! end of a stream before the rows that it may not contain yet. So a lag is never understated. All
//! parts are asked at once, each with its deadline: a look ends within some five seconds, whatever
//! hangs. Relays answer before their lock is read: where a lock is held and none of them has it, both
//! are asked again, since the lock may have changed hands in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use artstore_bus::connection::{Bus, BusOptions, without_password};
use artstore_migrations::Module;
use artstore_producers::relay::election;
use artstore_projectors::runtime::{pause, presence};
use artstore_runtime::connection;
use artstore_runtime::holder::Holder;
use artstore_schemas::source::Source;
use chrono::Utc;
use futures::future::join_all;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answers::{self, Answers};
use super::asked_database::{AskedDatabase, PATIENCE, late};
use super::database::{self, SourceFacts};
use super::nats::{look_at_stream, reach_nats};
use super::reports::{Asked, Holds, ProjectionRows, SourceCounts, StreamLook, read_by};
use super::{Server, Status, compose, diagnosis};
use crate::service::answer::{RelayAnswer, Stage};

/// Checkpoints come first, and streams must not have to wait for them for long.
const CHECKPOINTS: Duration = Duration::from_millis(1_000);

/// Between the two looks at a checkpoint.
const APART: Duration = Duration::from_secs(1);

/// Before relays are asked again: more than one that has just got its lock takes to say so, and far
/// less than the lock of a frozen one is kept.
const ASKED_AGAIN: Duration = Duration::from_millis(500);

/// Who looks. Connections are kept from one look to the next.
pub struct Watcher {
    nats: BusOptions,
    bus: Option<Bus>,
    sources: Vec<(Source, AskedDatabase)>,
    /// The query cache's and the audit log's.
    models: Vec<Model>,
}

/// A database with projections.
struct Model {
    holds: Holds,
    database: AskedDatabase,
    /// Which projections it had when it last reported them, and what they read.
    known: BTreeMap<String, Vec<Source>>,
}

impl Watcher {
    /// At these sources, the read model, and the admin module's database with the audit log.
    pub fn new(
        nats: BusOptions,
        sources: Vec<(Source, PgConnectOptions)>,
        read_model: Option<PgConnectOptions>,
        admin: Option<PgConnectOptions>,
    ) -> Self {
        let models = [(Holds::QueryCache, read_model), (Holds::AuditLog, admin)];
        let sources = sources.into_iter();
        Self {
            nats,
            bus: None,
            sources: sources
                .map(|(source, options)| {
                    let database = AskedDatabase::new(&Module::of(&source), options);
                    (source, database)
                })
                .collect(),
            models: models
                .into_iter()
                .filter_map(|(holds, options)| {
                    let module = match holds {
                        Holds::QueryCache => Module::Query,
                        Holds::AuditLog => Module::Admin,
                    };
                    let database = AskedDatabase::new(&module, options?);
                    let known = BTreeMap::new();
                    Some(Model {
                        holds,
                        database,
                        known,
                    })
                })
                .collect(),
        }
    }

    /// Looks once.
    pub async fn look(&mut self) -> Status {
        let begun = Instant::now();
        let until = begun + PATIENCE;
        let names: Vec<Source> = self.sources.iter().map(|(s, _)| s.clone()).collect();
        let models = join_all(self.models.iter_mut().map(async |model| {
            let checkpoints = match model.database.reach(until).await {
                Ok(()) => model.database.ask(until, database::checkpoints).await,
                Err(error) => Err(error),
            };
            (checkpoints, Instant::now())
        }));
        let sources = join_all(self.sources.iter_mut().map(|(_, d)| d.reach(until)));
        let nats = reach_nats(&mut self.bus, &self.nats, &names, until);
        let (nats, reached, before) = tokio::join!(nats, sources, models);
        let answered = before.iter().filter(|(before, _)| before.is_ok());
        if let Some((_, asked)) = answered.max_by_key(|(_, asked)| *asked) {
            sleep_until(*asked + APART).await;
        }
        let now = Instant::now();
        let until = now + PATIENCE;

        let listed = match &nats {
            Ok((_, listed)) => listed.clone(),
            Err(_) => names.clone(),
        };
        let bus = self.bus.as_ref().filter(|_| nats.is_ok());
        let answers = nats.as_ref().and_then(|(answers, _)| answers.as_ref());
        let (answers, problem) = (answers.ok(), answers.err().cloned());
        let facts = self.sources.iter_mut().zip(&reached);
        let facts = join_all(facts.map(async |((source, database), reached)| {
            let mut relays = answers.map(|answers| answers.of_source(source));
            let facts = async {
                reached.clone()?;
                let ask = async |c: &mut PgConnection| database::source(c, source).await;
                let mut facts = database.ask(until, ask).await?;
                if let (Some(bus), Some(relays)) = (bus, &mut relays)
                    && facts.holder.is_some()
                    && !relays.iter().any(|relay| relay.stage == Stage::Active)
                {
                    again(bus, source, database, relays, &mut facts).await?;
                }
                Ok(facts)
            };
            let facts = facts.await;
            (facts, relays)
        }));
        let models = self.models.iter_mut().zip(&before);
        let streams = async {
            let places = join_all(models.map(async |(model, (before, _))| {
                let places = match before {
                    Ok(_) => {
                        let (until, holds) = (now + CHECKPOINTS, model.holds);
                        let ask = async |c: &mut PgConnection| places(c, holds, &listed).await;
                        model.database.ask(until, ask).await
                    }
                    Err(error) => Err(error.clone()),
                };
                (places, Instant::now())
            }))
            .await;
            let streams = listed.iter().map(async |source| {
                let bus = bus?;
                let ends = ends(&places, source);
                let looked = timeout_at(until, look_at_stream(bus, source, &ends)).await;
                // Where messages are stored all the time, the bus is busy, and does answer.
                if looked.is_err() && gets_on(answers, source) {
                    let again = Instant::now() + PATIENCE;
                    let looked = timeout_at(again, look_at_stream(bus, source, &ends)).await;
                    return Some(looked.unwrap_or_else(|_| Err(late())));
                }
                Some(looked.unwrap_or_else(|_| Err(late())))
            });
            let streams = join_all(streams).await;
            (places, streams)
        };
        let (facts, (places, streams)) = tokio::join!(facts, streams);
        let (facts, relays): (Vec<_>, Vec<_>) = facts.into_iter().unzip();
        let streams: BTreeMap<&Source, &Asked<StreamLook>> = listed
            .iter()
            .zip(&streams)
            .filter_map(|(source, looked)| Some((source, looked.as_ref()?)))
            .collect();
        let until = Instant::now() + PATIENCE / 2;
        let counts = self.sources.iter_mut().zip(&facts);
        let counts = join_all(counts.map(async |((source, database), facts)| {
            let resume_state = streams
                .get(&*source)?
                .as_ref()
                .ok()?
                .resume_state
                .as_ref()
                .ok()?;
            facts.as_ref().ok()?;
            let seen_positions = &resume_state.seen_positions;
            let count = async |c: &mut PgConnection| {
                let (high_water_mark, gaps) =
                    (seen_positions.high_water_mark(), seen_positions.gaps());
                let (unpublished, position) =
                    database::unpublished(c, source, high_water_mark, &gaps).await?;
                let held_by = match seen_positions.is_full() {
                    true => database::held_by(c, source).await?,
                    false => None,
                };
                Ok(SourceCounts {
                    unpublished,
                    position,
                    held_by,
                })
            };
            let counted = database.ask(until, async |c| count(c).await).await;
            // Likewise its database, where a relay has just read from it.
            if counted.is_err() && gets_on(answers, source) {
                let again = Instant::now() + PATIENCE;
                return Some(match database.reach(again).await {
                    Ok(()) => database.ask(again, count).await,
                    Err(error) => Err(error),
                });
            }
            Some(counted)
        }))
        .await;

        let sources = self.sources.iter().zip(facts).zip(relays).zip(counts);
        let sources = sources.map(|((((source, database), facts), relays), count)| {
            let looked = streams.get(source).and_then(|looked| looked.as_ref().ok());
            compose::of_source(source, &database.options, facts, count, looked, relays)
        });
        let mut projections = Vec::new();
        for ((model, (before, asked)), (places, read_at)) in
            self.models.iter().zip(&before).zip(&places)
        {
            let elapsed = read_at.duration_since(*asked).as_secs_f64();
            let before = before.as_deref().unwrap_or_default();
            let said = compose::DatabaseAnswer {
                holds: model.holds,
                before,
                places,
                elapsed,
                remembered: &model.known,
            };
            let of_model = compose::projections(&said, &listed, &streams, answers);
            projections.extend(of_model);
        }
        let server = |holds: Holds| {
            let models = self.models.iter().zip(&places);
            let mut models = models.filter(move |(model, _)| model.holds == holds);
            models.next().map(|(model, (places, _))| Server {
                name: connection::shown(&model.database.options),
                problem: places.as_ref().err().cloned(),
            })
        };
        let (read_model, audit_log) = (server(Holds::QueryCache), server(Holds::AuditLog));
        let known = places.iter().map(|(places, _)| places.as_ref().ok());
        let known: Vec<_> = known.map(|places| Some(places?.read_by.clone())).collect();
        let mut status = Status {
            at: Utc::now(),
            well: false,
            troubles: Vec::new(),
            nats: Server {
                name: without_password(&self.nats.url),
                problem,
            },
            sources: sources.collect(),
            streams: listed
                .iter()
                .map(|source| compose::of_stream(source, streams.get(source).copied()))
                .collect(),
            read_model,
            audit_log,
            projections,
        };
        status.troubles = diagnosis::troubles(&status);
        status.well = status.troubles.is_empty();
        for (model, known) in self.models.iter_mut().zip(known) {
            if let Some(known) = known {
                model.known = known;
            }
        }
        let broken = streams.values().any(|looked| looked.is_err());
        if nats.is_err() || broken {
            self.bus = None;
        }
        status
    }
}

/// Asks the relays and the lock once more. Only a session that had the lock before they answered and
/// after that is of one that should have reported itself.
async fn again(
    bus: &Bus,
    source: &Source,
    database: &mut AskedDatabase,
    relays: &mut Vec<RelayAnswer>,
    facts: &mut SourceFacts,
) -> Asked<()> {
    sleep_until(Instant::now() + ASKED_AGAIN).await;
    let until = Instant::now() + PATIENCE;
    let asked = answers::ask(bus, std::slice::from_ref(source), &[]);
    if let Ok(Ok(answers)) = timeout_at(until, asked).await {
        *relays = answers.of_source(source);
    }
    let ask = async |c: &mut PgConnection| election::holder(c, source).await;
    let holder = database.ask(Instant::now() + PATIENCE, ask).await?;
    let session = |holder: &Option<Holder>| holder.as_ref().map(|holder| holder.pid);
    facts.changed_hands = session(&holder) != session(&facts.holder);
    facts.holder = holder;
    Ok(())
}

/// Whether the source's relay has published, and read its rows, a moment ago: what does not answer
/// in time is busy with that, and is asked once more.
pub(super) fn gets_on(answers: Option<&Answers>, source: &Source) -> bool {
    let name = source.to_string();
    let recent = |at: Option<f64>| at.is_some_and(|at| at <= PATIENCE.as_secs_f64());
    let relays = answers.iter().flat_map(|answers| &answers.relays);
    let mut relays = relays.filter(|relay| relay.source == name);
    relays.any(|relay| recent(relay.stored_seconds) && recent(relay.polled_seconds))
}

async fn places(
    connection: &mut PgConnection,
    holds: Holds,
    listed: &[Source],
) -> Result<ProjectionRows, sqlx::Error> {
    let checkpoints = database::checkpoints(connection).await?;
    let read_by = read_by(holds, &checkpoints, listed);
    let (mut workers, mut pauses) = (BTreeMap::new(), BTreeMap::new());
    for (projection, sources) in &read_by {
        let pause = pause::load(connection, projection).await?;
        pauses.extend(pause.map(|pause| (projection.clone(), pause)));
        let present = presence::read(connection, projection, sources).await?;
        for (source, present) in sources.iter().zip(present) {
            workers.insert((projection.clone(), source.clone()), present);
        }
    }
    Ok(ProjectionRows {
        checkpoints,
        read_by,
        workers,
        pauses,
    })
}

/// The sequences of this stream up to which projections have read it.
fn ends(places: &[(Asked<ProjectionRows>, Instant)], source: &Source) -> BTreeSet<u64> {
    let stream = source.stream();
    let known = places.iter().filter_map(|(places, _)| places.as_ref().ok());
    let of_stream = known
        .flat_map(|places| &places.checkpoints)
        .filter(|c| c.stream == stream);
    // One that has read nothing is at 0.
    of_stream.map(|c| c.sequence).chain([0]).collect()
}
