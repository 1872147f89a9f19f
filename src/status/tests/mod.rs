//! Tests of a status, without servers: what the screen shows, how parts are assessed, and what is diagnosed.
//! Each starts from a status in which all is well, or one in which much is wrong.
//!
//! - `screen`: what people see
//! - `assess`: how those who work stand
//! - `diagnosis`: what is wrong, and what to do

use chrono::{TimeZone as _, Utc};

use super::diagnosis::troubles;
use super::*;
use crate::service::answer::{Process, Since, Stage};

mod assess;
mod diagnosis;
mod screen;

/// As long as a name may be.
const LONG: &str = "storage_elem_with_a_name_so_long_1";

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;

fn process(host: &str, pid: u32) -> Process {
    Process {
        host: host.to_owned(),
        pid,
        program: "0.1.0".to_owned(),
    }
}

fn answer(source: &str, process: Process, stage: Stage) -> RelayAnswer {
    RelayAnswer {
        source: source.to_owned(),
        process,
        stage,
        active_seconds: (stage == Stage::Active).then_some(HOUR),
        sequence: 4_700,
        position: Some(4_711),
        high_water_mark: 4_711,
        gap_positions: 0,
        published: 12,
        backlog: 0,
        caught_up_seconds: Some(0.1),
        polled_seconds: Some(0.1),
        stored_seconds: Some(HOUR),
        waiting_seconds: None,
        problem: None,
        since: Since::default(),
        proven: None,
    }
}

fn source(name: &str) -> SourceStatus {
    SourceStatus {
        source: name.to_owned(),
        stream: format!("ARTSTORE_WAL_{name}"),
        database: Server {
            name: format!("artstore_{name} at db:5432"),
            problem: None,
        },
        position: Some(4_711),
        high_water_mark: Some(4_711),
        gap_positions: Some(0),
        gaps: Vec::new(),
        held_by: None,
        unpublished: Some(none()),
        pending: Some(none()),
        relay: Relays {
            state: Working::Active,
            lock_held: Some(true),
            holder: None,
            standby: 1,
            answers: Some(vec![
                answer(name, process("alpha", 41), Stage::Active),
                answer(name, process("beta", 7), Stage::Standby),
            ]),
            problem: None,
            stuck_seconds: None,
        },
        proven: Some(Proven {
            position: Some(4_711),
            seconds: 12.0,
            findings: 0,
            problem: None,
        }),
    }
}

fn none() -> Rows {
    Rows {
        rows: 0,
        at_least: false,
        oldest_seconds: None,
    }
}

fn facts() -> StreamFacts {
    StreamFacts {
        messages: 4_700,
        last_sequence: 4_700,
        last_seconds: Some(2.0 * HOUR),
        bytes: 5_000_000,
        created: Utc.timestamp_opt(1_700_000_000, 123_456_789).unwrap(),
        limited: None,
        replicas: 3,
        replicas_current: 3,
        replicas_lag: 0,
        mirror: None,
    }
}

fn stream(name: &str) -> StreamStatus {
    StreamStatus {
        source: name.to_owned(),
        stream: format!("ARTSTORE_WAL_{name}"),
        problem: None,
        facts: Some(facts()),
    }
}

fn place(name: &str) -> ProjectionStream {
    ProjectionStream {
        source: name.to_owned(),
        stream: format!("ARTSTORE_WAL_{name}"),
        sequence: Some(4_700),
        high_water_mark: Some(4_711),
        lag_events: Some(0),
        lag_seconds: Some(0.0),
        rate: Some(0.0),
        state: Pace::UpToDate,
        state_seconds: Some(2.0 * HOUR),
        parked: Some(0),
        workers: Workers {
            state: Working::Active,
            sessions: Some(2),
            lock_held: Some(true),
            holder: None,
            active: Some(process("alpha", 42)),
            standby: vec![process("beta", 8)],
            recreated: None,
            problem: None,
        },
    }
}

fn healthy() -> Status {
    let names = ["storage_elem_01", LONG];
    judged(Status {
        at: Utc.timestamp_opt(1_800_000_000, 0).unwrap(),
        well: true,
        troubles: Vec::new(),
        nats: Server {
            name: "nats://nats:4222".to_owned(),
            problem: None,
        },
        sources: names.map(source).to_vec(),
        streams: names.map(stream).to_vec(),
        audit_log: None,
        read_model: Some(Server {
            name: "artstore at db:5432".to_owned(),
            problem: None,
        }),
        projections: vec![ProjectionStatus {
            projection: "query-cache".to_owned(),
            version: Some(1),
            paused: None,
            processes: Vec::new(),
            streams: names.map(place).to_vec(),
        }],
    })
}

fn judged(mut status: Status) -> Status {
    status.troubles = troubles(&status);
    status.well = status.troubles.is_empty();
    status
}

/// Everything at once: halted, down, stuck, catching up, a replica and a mirror behind.
fn unhealthy() -> Status {
    let mut status = healthy();
    let [first, second] = &mut status.sources[..] else {
        panic!("two sources");
    };
    first.position = Some(1_204_711);
    first.gap_positions = Some(4);
    first.gaps = vec![
        Range {
            first: 12,
            last: 14,
        },
        Range {
            first: 20,
            last: 20,
        },
    ];
    first.unpublished = Some(Rows {
        rows: 100_000,
        at_least: true,
        oldest_seconds: Some(3.0 * MINUTE),
    });
    first.pending = Some(Rows {
        rows: 3,
        at_least: false,
        oldest_seconds: Some(50.0 * HOUR),
    });
    first.proven = None;
    first.relay.state = Working::Halted;
    first.relay.problem = Some(Problem {
        text: "stream ARTSTORE_WAL_storage_elem_01 was written from another database: restore \
               it, or run `artstore relay accept-source --source storage_elem_01`"
            .to_owned(),
        halted: true,
    });
    second.database.problem = Some("does not answer within 2 s".to_owned());
    (second.position, second.unpublished, second.pending) = (None, None, None);
    (second.relay.lock_held, second.proven) = (None, None);
    let facts = status.streams[0].facts.as_mut().unwrap();
    (facts.replicas_current, facts.replicas_lag) = (2, 1_234);
    facts.mirror = Some(Mirror {
        of: "ARTSTORE_WAL_far_away".to_owned(),
        lag: 77,
        heard_seconds: Some(40.0),
    });
    let [first, second] = &mut status.projections[0].streams[..] else {
        panic!("two places");
    };
    first.sequence = Some(2_000_000_000);
    (first.lag_events, first.lag_seconds) = (Some(12_040), Some(45.0));
    (first.state, first.state_seconds) = (Pace::Stuck, Some(40.0));
    (second.lag_events, second.lag_seconds) = (Some(12_040), Some(45.0));
    second.rate = Some(301.4);
    (second.state, second.state_seconds) = (Pace::CatchingUp, Some(40.0));
    judged(status)
}
