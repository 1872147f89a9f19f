//! The answers become the status: a source with its relays, a stream, a projection with its
//! workers. Pure except for the clock: what a part could not report stays unknown.

use std::collections::BTreeMap;

use artstore_bus::streams::check_limits;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::presence::Presence;
use artstore_runtime::connection;
use artstore_schemas::source::Source;
use async_nats::jetstream::stream::Info;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;

use super::answers::Answers;
use super::assess::{self, PaceInput};
use super::database::{Checkpoint, SourceFacts};
use super::reports::{Asked, Holds, ProjectionRows, SourceCounts, StreamLook, read_by};
use super::{
    Mirror, Pace, ProjectionStatus, ProjectionStream, Relays, Server, SourceStatus, StreamFacts,
    StreamStatus, Workers, Working,
};
use crate::service::answer::{Process, ProjectorAnswer, RelayAnswer, Stage};

/// What NATS reports about a stream.
pub(super) fn stream_facts(info: &Info) -> StreamFacts {
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
        limited: check_limits(&info.config).err().map(|e| e.to_string()),
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

/// A stream; `looked`: none where NATS could not be asked.
pub(super) fn of_stream(source: &Source, looked: Option<&Asked<StreamLook>>) -> StreamStatus {
    let (facts, problem) = match looked {
        Some(Ok(looked)) => (
            Some(looked.facts.clone()),
            looked.resume_state.as_ref().err().cloned(),
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

/// A source, from its database, its stream and its relays.
pub(super) fn of_source(
    source: &Source,
    options: &PgConnectOptions,
    facts: Asked<SourceFacts>,
    count: Option<Asked<SourceCounts>>,
    looked: Option<&StreamLook>,
    answers: Option<Vec<RelayAnswer>>,
) -> SourceStatus {
    let resume_state = looked.and_then(|looked| looked.resume_state.as_ref().ok());
    let gaps = resume_state.map(|resume_state| resume_state.seen_positions.gaps());
    let counted = count.as_ref().and_then(|count| count.as_ref().ok());
    let unpublished = counted.map(|counted| counted.unpublished);
    let problem = match (&facts, &count) {
        (Err(error), _) | (Ok(_), Some(Err(error))) => Some(error.clone()),
        (Ok(_), Some(Ok(_)) | None) => None,
    };
    let facts = facts.ok();
    let lock_held = facts.as_ref().map(|facts| facts.holder.is_some());
    let holder = facts.as_ref().and_then(|facts| facts.holder.clone());
    let stages = answers.as_ref();
    let stages = stages.map(|a| {
        a.iter()
            .map(|a| (a.stage, assess::lasting(a.problem.as_ref(), a.since)))
    });
    let (state, relay_problem) = assess::working(lock_held, 0, stages);
    let changed_hands = facts.as_ref().is_some_and(|facts| facts.changed_hands);
    let since = answers.iter().flatten().map(|a| a.since);
    let state = assess::taking_over(state, changed_hands, since);
    let of = |stage| {
        let all = answers.iter().flatten();
        all.filter(move |answer| answer.stage == stage)
    };
    SourceStatus {
        stream: source.stream(),
        database: Server {
            name: connection::shown(options),
            problem,
        },
        position: match (counted, &facts) {
            (Some(counted), _) => Some(counted.position),
            // Read before the end of the stream was: it may have passed this meanwhile.
            (None, Some(facts)) => Some(facts.position),
            (None, None) => None,
        },
        high_water_mark: resume_state
            .map(|resume_state| resume_state.seen_positions.high_water_mark()),
        gap_positions: gaps.as_ref().map(|gaps| gaps.positions()),
        gaps: gaps.map(|m| m.as_slice().to_vec()).unwrap_or_default(),
        held_by: counted.and_then(|counted| counted.held_by.clone()),
        unpublished,
        pending: facts.map(|facts| facts.pending),
        // A standby checks nothing.
        proven: answers
            .iter()
            .flatten()
            .filter(|answer| answer.stage == Stage::Active)
            .find_map(|answer| answer.proven.clone()),
        relay: Relays {
            state,
            lock_held,
            holder,
            standby: of(Stage::Standby).count(),
            problem: relay_problem,
            stuck_seconds: match state {
                Working::Active | Working::TakingOver | Working::Waiting => {
                    assess::stuck(answers.as_deref().unwrap_or_default(), unpublished)
                }
                Working::Halted | Working::None | Working::NotKnown | Working::Silent => None,
            },
            answers,
        },
        source: source.to_string(),
    }
}

/// What a database with projections reported.
pub(super) struct DatabaseAnswer<'a> {
    pub(super) holds: Holds,
    /// The checkpoints, `elapsed` seconds before the streams' ends.
    pub(super) before: &'a [Checkpoint],
    pub(super) places: &'a Asked<ProjectionRows>,
    pub(super) elapsed: f64,
    /// Which projections it had when it last reported them.
    pub(super) remembered: &'a BTreeMap<String, Vec<Source>>,
}

/// All projections of a database, from what it reported, the streams and the processes.
pub(super) fn projections(
    said: &DatabaseAnswer<'_>,
    listed: &[Source],
    streams: &BTreeMap<&Source, &Asked<StreamLook>>,
    answers: Option<&Answers>,
) -> Vec<ProjectionStatus> {
    let DatabaseAnswer {
        holds,
        before,
        places,
        elapsed,
        remembered,
    } = *said;
    let known = places.as_ref().ok();
    let checkpoints = known.map_or(&[][..], |places| &places.checkpoints);
    let all = match known {
        Some(places) => places.read_by.clone(),
        None => unreached(holds, listed, remembered, answers),
    };
    let all = all.into_iter();
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
        let pause = known.and_then(|places| places.pauses.get(&projection));
        let place = |source: Source| {
            let stream = source.stream();
            let checkpoint = of(checkpoints, &stream);
            let looked = streams.get(&source).and_then(|looked| looked.as_ref().ok());
            let present = known.and_then(|p| p.workers.get(&(projection.clone(), source.clone())));
            let paused = pause.is_some();
            let (workers, active) =
                workers_of(&source, present.cloned(), processes.as_deref(), paused);
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
                (Some(_), Some(looked)) => assess::pace(PaceInput {
                    checkpoint: checkpoint.as_ref(),
                    stream: &looked.facts,
                    oldest,
                    rate,
                    halted,
                    paused: pause.map(|pause| since(pause.since)),
                    active,
                }),
                _ if halted => (Pace::Halted, None),
                _ => (Pace::NotKnown, None),
            };
            let lag = sequence.and_then(|at| Some(looked?.facts.last_sequence.saturating_sub(at)));
            let lag = lag.filter(|_| state != Pace::OffTheStream);
            ProjectionStream {
                source: source.to_string(),
                stream,
                sequence,
                parked: checkpoint.as_ref().map(|checkpoint| checkpoint.parked),
                high_water_mark: checkpoint.map(|checkpoint| checkpoint.high_water_mark),
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
            paused: pause.map(ToString::to_string),
            processes: names,
            streams: sources.into_iter().map(place).collect(),
            projection: projection.clone(),
        }
    })
    .collect()
}

/// The projections of a database that can't be asked: those that it had before, those that running
/// processes write, and those that are always shown.
fn unreached(
    holds: Holds,
    listed: &[Source],
    remembered: &BTreeMap<String, Vec<Source>>,
    answers: Option<&Answers>,
) -> BTreeMap<String, Vec<Source>> {
    let mut all = read_by(holds, &[], listed);
    for (projection, sources) in remembered {
        all.entry(projection.clone())
            .or_insert_with(|| sources.clone());
    }
    let of_here = |projection: &str| match holds {
        Holds::QueryCache => projection == QueryCache::NAME,
        Holds::AuditLog => projection != QueryCache::NAME,
    };
    let processes = answers.iter().flat_map(|answers| &answers.projectors);
    for process in processes.filter(|process| of_here(&process.projection)) {
        let written = |source: &&Source| {
            let name = source.to_string();
            process.workers.iter().any(|worker| worker.source == name)
        };
        let sources = listed.iter().filter(written).cloned();
        let known = all.entry(process.projection.clone()).or_default();
        known.extend(sources);
        known.sort();
        known.dedup();
    }
    all
}

fn workers_of(
    source: &Source,
    present: Option<Presence>,
    processes: Option<&[&ProjectorAnswer]>,
    paused: bool,
) -> (Workers, Option<f64>) {
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
    let lock_held = present.as_ref().map(|present| present.held);
    let stages = answers.as_ref();
    let stages = stages.map(|a| {
        a.iter()
            .map(|(_, w)| (w.stage, assess::lasting(w.problem.as_ref(), w.since)))
    });
    let others = present
        .as_ref()
        .map_or(0, |present| present.sessions - i64::from(present.held));
    let (state, problem) = assess::working(lock_held, others, stages);
    let state = assess::taking_over(state, false, answers.iter().flatten().map(|(_, w)| w.since));
    // A worker that waits learns within a second or so that a pause is over.
    let problem = problem.filter(|problem| paused || !problem.text.starts_with("paused by "));
    let of = |stage| {
        let all = answers.iter().flatten();
        let these = all.filter(move |(_, worker)| worker.stage == stage);
        these.map(|(process, _)| (*process).clone())
    };
    let active = answers.iter().flatten();
    let active = active.filter(|(_, worker)| worker.stage == Stage::Active);
    let active = active.filter_map(|(_, worker)| worker.since.stage_seconds);
    let workers = Workers {
        state,
        sessions: present.as_ref().map(|present| present.sessions),
        lock_held,
        holder: present.and_then(|present| present.holder),
        active: of(Stage::Active).next(),
        standby: of(Stage::Standby).collect(),
        recreated: answers
            .iter()
            .flatten()
            .find_map(|(_, worker)| worker.recreated.clone()),
        problem,
    };
    (workers, active.reduce(f64::max))
}
