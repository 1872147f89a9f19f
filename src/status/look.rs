//! One look at everything. First all servers are reached and asked for what is needed to see a
//! rate, then, a second later, everything is read: a checkpoint before the end of its stream, the
//! end of a stream before the rows that may be missing in it. So a lag is never understated. All
//! parts are asked at once, each with its deadline: a look ends within some five seconds, whatever
//! hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use artstore_producers::tail::{self, Tail};
use artstore_projectors::presence::{self, Presence};
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::workers;
use artstore_schemas::bus::{Bus, BusError, BusOptions, without_password};
use artstore_schemas::source::Source;
use async_nats::jetstream::stream::Info;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answers::{self, Answers};
use super::database::{self, Checkpoint, SourceFacts};
use super::judge::{self, Seen};
use super::{
    Mirror, Pace, Place, ProjectionStatus, Relays, Rows, Server, SourceStatus, Status, StreamFacts,
    StreamStatus, Workers, Working,
};
use crate::service::answer::{Process, Stage};

/// How long each part may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checkpoints come first, and streams must not have to wait for them for long.
const CHECKPOINTS: Duration = Duration::from_millis(1_000);

/// Between the two looks at a checkpoint.
const APART: Duration = Duration::from_secs(1);

/// Who looks. Connections are kept from one look to the next.
pub struct Watcher {
    nats: BusOptions,
    bus: Option<Bus>,
    sources: Vec<(Source, Database)>,
    read_model: Option<Database>,
}

struct Database {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

/// A database that was asked.
type Asked<T> = Result<T, String>;

impl Watcher {
    /// At these sources and this read model.
    pub fn new(
        nats: BusOptions,
        sources: Vec<(Source, PgConnectOptions)>,
        read_model: Option<PgConnectOptions>,
    ) -> Self {
        let sources = sources.into_iter();
        Self {
            nats,
            bus: None,
            sources: sources
                .map(|(s, options)| (s, Database::new(options)))
                .collect(),
            read_model: read_model.map(Database::new),
        }
    }

    /// Looks once.
    pub async fn look(&mut self) -> Status {
        let begun = Instant::now();
        let until = begun + PATIENCE;
        let names: Vec<Source> = self.sources.iter().map(|(s, _)| s.clone()).collect();
        let read_model = async {
            let read_model = self.read_model.as_mut()?;
            Some(match read_model.reach(until).await {
                Ok(()) => read_model.ask(until, database::checkpoints).await,
                Err(error) => Err(error),
            })
        };
        let sources = join_all(self.sources.iter_mut().map(|(_, d)| d.reach(until)));
        let nats = reach_nats(&mut self.bus, &self.nats, &names, until);
        let (nats, reached, before) = tokio::join!(nats, sources, read_model);
        let asked = Instant::now();
        if matches!(before, Some(Ok(_))) {
            sleep_until(asked + APART).await;
        }
        let now = Instant::now();
        let until = now + PATIENCE;

        let listed = match &nats {
            Ok((_, listed)) => listed.clone(),
            Err(_) => names.clone(),
        };
        let facts = self.sources.iter_mut().zip(&reached);
        let facts = join_all(facts.map(async |((source, database), reached)| {
            reached.clone()?;
            database
                .ask(until, async |c| database::source(c, source).await)
                .await
        }));
        let bus = self.bus.as_ref().filter(|_| nats.is_ok());
        let read_model = self.read_model.as_mut();
        let streams = async {
            let places = match (&before, read_model) {
                (Some(Ok(_)), Some(database)) => {
                    let until = now + CHECKPOINTS;
                    Some(
                        database
                            .ask(until, async |c| places(c, &listed).await)
                            .await,
                    )
                }
                (Some(Err(error)), _) => Some(Err(error.clone())),
                (Some(Ok(_)) | None, _) => None,
            };
            let places = (places, Instant::now());
            let streams = listed.iter().map(async |source| {
                let bus = bus?;
                let ends = ends(&places.0, source);
                let looked = timeout_at(until, look_at_stream(bus, source, &ends)).await;
                Some(looked.unwrap_or_else(|_| Err(late())))
            });
            let streams = join_all(streams).await;
            (places, streams)
        };
        let (facts, ((places, read_at), streams)) = tokio::join!(facts, streams);
        let streams: BTreeMap<&Source, &Asked<Looked>> = listed
            .iter()
            .zip(&streams)
            .filter_map(|(source, looked)| Some((source, looked.as_ref()?)))
            .collect();
        let until = Instant::now() + PATIENCE / 2;
        let counts = self.sources.iter_mut().zip(&facts);
        let counts = join_all(counts.map(async |((source, database), facts)| {
            let tail = streams.get(&*source)?.as_ref().ok()?.tail.as_ref().ok()?;
            facts.as_ref().ok()?;
            let (high, missing) = (tail.gaps.high(), tail.gaps.missing());
            let count =
                async |c: &mut PgConnection| database::unpublished(c, source, high, &missing).await;
            Some(database.ask(until, count).await)
        }))
        .await;

        let answers = nats.as_ref().ok().map(|(answers, _)| answers);
        let sources = self.sources.iter().zip(facts).zip(counts);
        let sources = sources.map(|(((source, database), facts), count)| {
            let looked = streams.get(source).and_then(|looked| looked.as_ref().ok());
            of_source(source, &database.options, facts, count, looked, answers)
        });
        let elapsed = read_at.duration_since(asked).as_secs_f64();
        let projections = match &places {
            Some(places) => {
                let before = before.and_then(Result::ok).unwrap_or_default();
                projections(&listed, &before, places, elapsed, &streams, answers)
            }
            None => Vec::new(),
        };
        let mut status = Status {
            at: Utc::now(),
            well: false,
            troubles: Vec::new(),
            nats: Server {
                name: without_password(&self.nats.url),
                problem: nats.as_ref().err().cloned(),
            },
            sources: sources.collect(),
            streams: listed
                .iter()
                .map(|source| of_stream(source, streams.get(source).copied()))
                .collect(),
            read_model: self.read_model.as_ref().map(|database| Server {
                name: database::shown(&database.options),
                problem: places.as_ref().and_then(|p| p.as_ref().err().cloned()),
            }),
            projections,
        };
        status.troubles = judge::troubles(&status);
        status.well = status.troubles.is_empty();
        let broken = streams.values().any(|looked| looked.is_err());
        if nats.is_err() || broken {
            self.bus = None;
        }
        status
    }
}

fn late() -> String {
    format!("does not answer within {} s", PATIENCE.as_secs())
}

impl Database {
    fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            connection: None,
        }
    }

    /// Connects, where there is no connection that still answers.
    async fn reach(&mut self, until: Instant) -> Asked<()> {
        if let Some(connection) = &mut self.connection {
            let answer = sqlx::Connection::ping(connection);
            match timeout_at(until, answer).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => self.connection = None,
                Err(_) => {
                    self.connection = None;
                    return Err(late());
                }
            }
        }
        match timeout_at(until, database::connect(&self.options, PATIENCE)).await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Err(error)) => Err(format!("can't be reached: {error}")),
            Err(_) => Err(late()),
        }
    }

    /// Asks it something. A connection whose answer did not come is not used again.
    async fn ask<T>(
        &mut self,
        until: Instant,
        question: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Asked<T> {
        let Some(connection) = &mut self.connection else {
            return Err(late());
        };
        let answer = match timeout_at(until, question(connection)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Err(told(&error)),
            Err(_) => Err(late()),
        };
        self.connection = None;
        answer
    }
}

/// What a database's error means here.
fn told(error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    match code.as_deref() {
        Some("42P01" | "42703") => {
            format!("{error}: is it the right database? If it is, run `artstore migrate up`")
        }
        Some("57014") => format!(
            "a question was not answered within {} s",
            PATIENCE.as_secs()
        ),
        _ => error.to_string(),
    }
}

/// Connects to NATS, lists the streams, and asks the processes.
async fn reach_nats(
    bus: &mut Option<Bus>,
    options: &BusOptions,
    sources: &[Source],
    until: Instant,
) -> Asked<(Answers, Vec<Source>)> {
    let reach = async {
        let bus = match bus {
            Some(bus) => bus,
            None => bus.insert(Bus::connect(options).await?),
        };
        let answers = answers::ask(bus, sources, &[QueryCache::NAME]);
        let (answers, listed) = tokio::join!(answers, list(bus, until));
        let mut all: BTreeSet<Source> = listed.into_iter().collect();
        all.extend(sources.iter().cloned());
        Ok::<_, BusError>((answers?, all.into_iter().collect()))
    };
    match timeout_at(until, reach).await {
        Ok(Ok(reached)) => Ok(reached),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(late()),
    }
}

/// All streams of ours. A user who may not list them sees those of the configured sources.
async fn list(bus: &Bus, until: Instant) -> Vec<Source> {
    let until = until.min(Instant::now() + PATIENCE / 2);
    match timeout_at(until, workers::list(bus)).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => {
            tracing::info!(%error, "only the streams of the configured sources are shown");
            Vec::new()
        }
        Err(_) => {
            tracing::info!("no list of streams: only those of the configured sources are shown");
            Vec::new()
        }
    }
}

/// What the read model's database says.
struct Places {
    checkpoints: Vec<Checkpoint>,
    /// By projection and source.
    workers: BTreeMap<(String, Source), Presence>,
}

async fn places(connection: &mut PgConnection, listed: &[Source]) -> Result<Places, sqlx::Error> {
    let checkpoints = database::checkpoints(connection).await?;
    let mut workers = BTreeMap::new();
    for (projection, sources) in read_by(&checkpoints, listed) {
        let present = presence::read(connection, &projection, &sources).await?;
        for (source, present) in sources.into_iter().zip(present) {
            workers.insert((projection.clone(), source), present);
        }
    }
    Ok(Places {
        checkpoints,
        workers,
    })
}

/// Which streams each projection reads: as it says itself, and as its checkpoints say.
fn read_by(checkpoints: &[Checkpoint], listed: &[Source]) -> BTreeMap<String, Vec<Source>> {
    let mut all: BTreeMap<String, BTreeSet<Source>> = BTreeMap::new();
    let read = listed.iter().filter(|source| QueryCache.reads(source));
    all.insert(QueryCache::NAME.to_owned(), read.cloned().collect());
    for checkpoint in checkpoints {
        if let Some(source) = Source::of_stream(&checkpoint.stream) {
            let sources = all.entry(checkpoint.projection.clone()).or_default();
            sources.insert(source);
        }
    }
    let all = all.into_iter();
    all.map(|(name, sources)| (name, sources.into_iter().collect()))
        .collect()
}

/// The sequences of this stream up to which projections have read it.
fn ends(places: &Option<Asked<Places>>, source: &Source) -> BTreeSet<u64> {
    let Some(Ok(places)) = places else {
        return BTreeSet::new();
    };
    let stream = source.stream();
    let of_stream = places.checkpoints.iter().filter(|c| c.stream == stream);
    // One that has read nothing stands at 0.
    of_stream.map(|c| c.sequence).chain([0]).collect()
}

/// What NATS says of a stream.
struct Looked {
    facts: StreamFacts,
    tail: Asked<Tail>,
    /// When the message behind a sequence was stored.
    behind: BTreeMap<u64, DateTime<Utc>>,
}

async fn look_at_stream(bus: &Bus, source: &Source, ends: &BTreeSet<u64>) -> Asked<Looked> {
    let stream = source.stream();
    let info = bus.stream_info(&stream).await.map_err(|e| e.to_string())?;
    let last = info.state.last_sequence;
    let tail = tail::read(bus, source).await.map_err(|e| e.to_string());
    let handle = bus.jetstream.get_stream_no_info(&stream).await;
    let handle = handle.map_err(|e| format!("stream {stream}: {e}"))?;
    let mut behind = BTreeMap::new();
    for end in ends.iter().filter(|end| **end < last) {
        let next = (end + 1).max(info.state.first_sequence);
        // One that is gone has no age; the lag is counted all the same.
        if let Ok(message) = handle.get_raw_message(next).await {
            behind.insert(*end, message.time);
        }
    }
    Ok(Looked {
        facts: stream_facts(&info),
        tail,
        behind,
    })
}

fn stream_facts(info: &Info) -> StreamFacts {
    let others = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
    let behind = others.clone().filter(|peer| !peer.current || peer.offline);
    let behind = behind.count();
    let replicas = info.config.num_replicas.max(1);
    let state = &info.state;
    StreamFacts {
        messages: state.messages,
        last_sequence: state.last_sequence,
        last_seconds: (state.messages > 0).then(|| since(state.last_timestamp)),
        bytes: state.bytes,
        created: info.created,
        replicas,
        replicas_current: replicas.saturating_sub(behind),
        replicas_lag: others.filter_map(|peer| peer.lag).max().unwrap_or(0),
        mirror: info.mirror.as_ref().map(|mirror| Mirror {
            of: mirror.name.clone(),
            lag: mirror.lag,
            heard_seconds: mirror.active.map(|active| active.as_secs_f64()),
        }),
    }
}

/// In seconds; the server's clock may be ahead of ours.
fn since(time: DateTime<Utc>) -> f64 {
    let since = (Utc::now() - time).to_std().unwrap_or_default();
    since.as_secs_f64()
}

fn of_stream(source: &Source, looked: Option<&Asked<Looked>>) -> StreamStatus {
    let (facts, problem) = match looked {
        Some(Ok(looked)) => (
            Some(looked.facts.clone()),
            looked.tail.as_ref().err().cloned(),
        ),
        Some(Err(error)) => (None, Some(error.clone())),
        None => (None, Some("not known without NATS".to_owned())),
    };
    StreamStatus {
        source: source.to_string(),
        stream: source.stream(),
        problem,
        facts,
    }
}

fn of_source(
    source: &Source,
    options: &PgConnectOptions,
    facts: Asked<SourceFacts>,
    count: Option<Asked<Rows>>,
    looked: Option<&Looked>,
    answers: Option<&Answers>,
) -> SourceStatus {
    let tail = looked.and_then(|looked| looked.tail.as_ref().ok());
    let missing = tail.map(|tail| tail.gaps.missing());
    let unpublished = count
        .as_ref()
        .and_then(|count| count.as_ref().ok())
        .copied();
    let problem = match (&facts, &count) {
        (Err(error), _) | (Ok(_), Some(Err(error))) => Some(error.clone()),
        (Ok(_), Some(Ok(_)) | None) => None,
    };
    let facts = facts.ok();
    let name = source.to_string();
    let answers = answers.map(|answers| {
        let mut answers = answers.relays.clone();
        answers.retain(|answer| answer.source == name);
        answers.sort_by(|a, b| a.process.cmp(&b.process));
        answers
    });
    let lock_held = facts.as_ref().map(|facts| facts.lock_held);
    let stages = answers.as_ref();
    let stages = stages.map(|a| a.iter().map(|a| (a.stage, a.problem.as_ref())));
    let (state, relay_problem) = judge::working(lock_held, 0, stages);
    let of = |stage| {
        let all = answers.iter().flatten();
        all.filter(move |answer| answer.stage == stage)
    };
    let active = of(Stage::Active).next();
    SourceStatus {
        stream: source.stream(),
        database: Server {
            name: database::shown(options),
            problem,
        },
        position: facts.as_ref().map(|facts| facts.position),
        high: tail.map(|tail| tail.gaps.high()),
        missing: missing.as_ref().map(|missing| missing.positions()),
        missing_ranges: missing.map(|m| m.as_slice().to_vec()).unwrap_or_default(),
        unpublished,
        pending: facts.map(|facts| facts.pending),
        proven: answers
            .iter()
            .flatten()
            .find_map(|answer| answer.proven.clone()),
        relay: Relays {
            state,
            lock_held,
            standing_by: of(Stage::StandingBy).count(),
            problem: relay_problem,
            stuck_seconds: active
                .filter(|_| state == Working::Active)
                .and_then(|active| judge::stuck(active, unpublished)),
            answers,
        },
        source: name,
    }
}

fn projections(
    listed: &[Source],
    before: &[Checkpoint],
    places: &Asked<Places>,
    elapsed: f64,
    streams: &BTreeMap<&Source, &Asked<Looked>>,
    answers: Option<&Answers>,
) -> Vec<ProjectionStatus> {
    let known = places.as_ref().ok();
    let checkpoints = known.map_or(&[][..], |places| &places.checkpoints);
    let all = read_by(checkpoints, listed).into_iter();
    all.map(|(projection, sources)| {
        let of = |all: &'_ [Checkpoint], stream: &str| {
            let found = all
                .iter()
                .find(|c| c.projection == projection && c.stream == stream);
            found.cloned()
        };
        let processes = answers.map(|answers| {
            let all = answers.projectors.iter();
            all.filter(|answer| answer.projection == projection)
                .collect::<Vec<_>>()
        });
        let mut names: Vec<Process> = processes
            .iter()
            .flatten()
            .map(|a| a.process.clone())
            .collect();
        names.sort();
        let place = |source: Source| {
            let stream = source.stream();
            let checkpoint = of(checkpoints, &stream);
            let looked = streams.get(&source).and_then(|looked| looked.as_ref().ok());
            let present = known.and_then(|p| p.workers.get(&(projection.clone(), source.clone())));
            let workers = workers_of(&source, present.copied(), processes.as_deref());
            let sequence = known.map(|_| checkpoint.as_ref().map_or(0, |c| c.sequence));
            let rate = sequence.map(|sequence| {
                let before = of(before, &stream).map_or(0, |c| c.sequence);
                sequence.saturating_sub(before) as f64 / elapsed.max(0.001)
            });
            let oldest = sequence
                .and_then(|s| looked?.behind.get(&s))
                .map(|time| since(*time));
            let halted = workers.state == Working::Halted;
            let (state, state_seconds) = match (sequence, looked) {
                (Some(_), Some(looked)) => judge::pace(Seen {
                    checkpoint: checkpoint.as_ref(),
                    stream: &looked.facts,
                    oldest,
                    rate,
                    halted,
                }),
                _ if halted => (Pace::Halted, None),
                _ => (Pace::NotKnown, None),
            };
            let lag = sequence.and_then(|s| Some(looked?.facts.last_sequence.saturating_sub(s)));
            let lag = lag.filter(|_| state != Pace::OffTheStream);
            Place {
                source: source.to_string(),
                stream,
                sequence,
                high: checkpoint.map(|checkpoint| checkpoint.high),
                lag_events: lag,
                lag_seconds: lag.and_then(|lag| if lag == 0 { Some(0.0) } else { oldest }),
                rate,
                state,
                state_seconds,
                workers,
            }
        };
        let mut versions = checkpoints.iter().filter(|c| c.projection == projection);
        ProjectionStatus {
            version: versions.next().map(|checkpoint| checkpoint.version),
            processes: names,
            streams: sources.into_iter().map(place).collect(),
            projection: projection.clone(),
        }
    })
    .collect()
}

fn workers_of(
    source: &Source,
    present: Option<Presence>,
    processes: Option<&[&crate::service::answer::ProjectorAnswer]>,
) -> Workers {
    let name = source.to_string();
    let answers = processes.map(|processes| {
        let workers = processes.iter().flat_map(|process| {
            let mine = process
                .workers
                .iter()
                .filter(|worker| worker.source == name);
            mine.map(|worker| (&process.process, worker))
        });
        workers.collect::<Vec<_>>()
    });
    let lock_held = present.map(|present| present.held);
    let stages = answers.as_ref();
    let stages = stages.map(|a| a.iter().map(|(_, w)| (w.stage, w.problem.as_ref())));
    let others = present.map_or(0, |present| present.sessions - i64::from(present.held));
    let (state, problem) = judge::working(lock_held, others, stages);
    let of = |stage| {
        let all = answers.iter().flatten();
        let these = all.filter(move |(_, worker)| worker.stage == stage);
        these.map(|(process, _)| (*process).clone())
    };
    Workers {
        state,
        sessions: present.map(|present| present.sessions),
        lock_held,
        active: of(Stage::Active).next(),
        standing_by: of(Stage::StandingBy).collect(),
        problem,
    }
}
