//! The whole screen, character by character, and what the diagnosis reports as wrong.

use chrono::{TimeZone as _, Utc};

use super::answers::Answers;
use super::assess::{PaceInput, lasting, pace, stuck, taking_over, working};
use super::collect::gets_on;
use super::database::Checkpoint;
use super::diagnosis::troubles;
use super::*;
use crate::service::answer::{Process, Since, Stage};

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

fn shown(status: &Status) -> String {
    let text = screen::show(status, 80, None, false);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    text
}

#[test]
fn the_screen_when_all_is_well() {
    let status = healthy();
    assert!(status.well);
    assert_eq!(
        shown(&status),
        "\
artstore, 2027-01-15 08:00:00 UTC

SOURCE           POSITION  PUBLISHED  UNPUBLISHED  GAPS  PENDING  RELAY
storage_elem_01     4,711      4,711            0     0        0  active +1
storage_elem_with_a_name_so_long_1
                    4,711      4,711            0     0        0  active +1
proven up to: storage_elem_01 4,711 (12 s ago),
    storage_elem_with_a_name_so_long_1 4,711 (12 s ago)
relays: alpha 41 active for 2, beta 7 active for 0 of 2

STREAM OF                           MESSAGES     SIZE  LAST MESSAGE  REPLICAS
storage_elem_01                        4,700  4.8 MiB       2 h ago    3 of 3
storage_elem_with_a_name_so_long_1     4,700  4.8 MiB       2 h ago    3 of 3

QUERY-CACHE v1   SEQUENCE  BEHIND  LAG  RATE  WORKERS    STATE
storage_elem_01     4,700       0    -   0/s  active +1  nothing new for 2 h
storage_elem_with_a_name_so_long_1
                    4,700       0    -   0/s  active +1  nothing new for 2 h
workers: alpha 42 active for 2, beta 8 active for 0 of 2

All is well.
"
    );
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

#[test]
fn the_screen_when_much_is_wrong() {
    let status = unhealthy();
    assert!(!status.well);
    assert_eq!(
        shown(&status),
        "\
artstore, 2027-01-15 08:00:00 UTC

SOURCE            POSITION  PUBLISHED  UNPUBLISHED  GAPS  PENDING  RELAY
storage_elem_01  1,204,711      4,711     100,000+     4        3  HALTED +1
    gaps 12-14, 20; oldest unpublished row 3 min; oldest pending operation 2 d
storage_elem_with_a_name_so_long_1
                         ?      4,711            ?     0        ?  active +1
    database artstore_storage_elem_with_a_name_so_long_1 at db:5432: does not
      answer within 2 s
proven up to: not verified
relays: alpha 41 active for 2, beta 7 active for 0 of 2

STREAM OF        MESSAGES     SIZE  LAST MESSAGE  REPLICAS     MIRROR
storage_elem_01     4,700  4.8 MiB       2 h ago    2 of 3  77 behind
    a replica is 1,234 operations behind
storage_elem_with_a_name_so_long_1
                    4,700  4.8 MiB       2 h ago    3 of 3          -

QUERY-CACHE v1        SEQUENCE  BEHIND   LAG   RATE  WORKERS    STATE
storage_elem_01  2,000,000,000  12,040  45 s    0/s  active +1  STUCK for 40 s
storage_elem_with_a_name_so_long_1
                         4,700  12,040  45 s  301/s  active +1  40 s to catch up
workers: alpha 42 active for 2, beta 8 active for 0 of 2

NOT WELL: storage_elem_with_a_name_so_long_1: database
    artstore_storage_elem_with_a_name_so_long_1 at db:5432: does not answer
    within 2 s
  DO: check the server, its rights and the URL of the database
ALSO: storage_elem_01: the relay has halted: stream ARTSTORE_WAL_storage_elem_01
    was written from another database: restore it, or run `artstore relay
    accept-source --source storage_elem_01`
  DO: run this, and what it names next; the rest continues by itself then:
      artstore relay accept-source --source storage_elem_01
ALSO: storage_elem_01: the mirror ARTSTORE_WAL_storage_elem_01 has heard nothing
    of ARTSTORE_WAL_far_away for 40 s; it was 77 messages behind then
  DO: check the connection to the server of the origin
and 3 more, which `artstore status --json` lists
"
    );
}

#[test]
fn words_say_everything_and_colour_only_marks_lines() {
    let status = unhealthy();
    let coloured = screen::show(&status, 80, None, true);
    assert!(coloured.contains("\x1b[31mNOT WELL"));
    let plain: String = ["\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(plain, shown(&status));
    // What another process reports does nothing to the terminal.
    let mut status = healthy();
    status.nats.problem = Some("\x1b[2J".to_owned());
    assert!(!shown(&judged(status)).contains('\x1b'));
}

#[test]
fn what_is_not_known_is_never_shown_as_nothing() {
    let mut status = healthy();
    status.nats.problem = Some("does not answer within 2 s".to_owned());
    for source in &mut status.sources {
        (
            source.high_water_mark,
            source.gap_positions,
            source.unpublished,
        ) = (None, None, None);
        source.relay.answers = None;
        source.relay.standby = 0;
    }
    for stream in &mut status.streams {
        (stream.facts, stream.problem) = (None, Some("not known without NATS".to_owned()));
    }
    for place in &mut status.projections[0].streams {
        (place.lag_events, place.lag_seconds, place.rate) = (None, None, None);
        (place.state, place.state_seconds) = (Pace::NotKnown, None);
    }
    let status = judged(status);
    assert_eq!(status.troubles.len(), 1, "{:?}", status.troubles);
    let text = shown(&status);
    for row in [
        "storage_elem_01     4,711          ?            ?     ?        0  active\n",
        "storage_elem_01                            ?     ?             ?         ?\n",
        "storage_elem_01     4,700       ?    ?     ?  active +1  not known\n",
        "NOT WELL: NATS: nats://nats:4222: does not answer within 2 s\n",
    ] {
        assert!(text.contains(row), "{row}{text}");
    }
}

#[test]
fn a_lag_is_judged_by_progress_and_not_by_its_size() {
    let stream = StreamFacts {
        last_sequence: 1_000_000,
        ..facts()
    };
    let checkpoint = |sequence, moved_seconds| Checkpoint {
        projection: "query-cache".to_owned(),
        stream: "ARTSTORE_WAL_elem".to_owned(),
        version: 1,
        sequence,
        high_water_mark: 1,
        // As PostgreSQL keeps it: to the microsecond.
        stream_created_at: Utc.timestamp_opt(1_700_000_000, 123_457_000).unwrap(),
        moved_seconds,
        parked: 0,
    };
    let judge = |checkpoint: Option<Checkpoint>, oldest, rate, halted| {
        pace(PaceInput {
            checkpoint: checkpoint.as_ref(),
            stream: &stream,
            oldest,
            rate: Some(rate),
            halted,
            paused: None,
            active: None,
        })
    };
    let silent = judge(Some(checkpoint(1_000_000, 2.0 * HOUR)), None, 0.0, false);
    assert_eq!(silent, (Pace::UpToDate, Some(2.0 * HOUR)));
    let far = judge(Some(checkpoint(0, 0.1)), Some(9.0 * HOUR), 1_000.0, false);
    assert_eq!(far, (Pace::CatchingUp, Some(1_000.0)));
    // Between two batches, or new work after a long silence.
    for (moved, oldest) in [(3.0, HOUR), (HOUR, 3.0)] {
        let short = judge(Some(checkpoint(999_999, moved)), Some(oldest), 0.0, false);
        assert_eq!(short, (Pace::CatchingUp, None));
    }
    let still = judge(Some(checkpoint(999_999, 40.0)), Some(50.0), 0.0, false);
    assert_eq!(still, (Pace::Stuck, Some(40.0)));
    let never = judge(None, Some(50.0), 0.0, false);
    assert_eq!(never, (Pace::Stuck, Some(50.0)));
    let halted = judge(Some(checkpoint(999_999, 40.0)), Some(50.0), 0.0, true);
    assert_eq!(halted, (Pace::Halted, None));
    let beyond = judge(Some(checkpoint(1_000_001, 1.0)), None, 0.0, false);
    assert_eq!(beyond, (Pace::OffTheStream, None));
    let mut other = checkpoint(5, 1.0);
    other.stream_created_at += chrono::TimeDelta::seconds(1);
    assert_eq!(judge(Some(other), None, 9.0, false).0, Pace::OffTheStream);
    let mirror = StreamFacts {
        mirror: Some(Mirror {
            of: "ARTSTORE_WAL_elem".to_owned(),
            lag: 7,
            heard_seconds: Some(0.1),
        }),
        ..stream.clone()
    };
    let ahead = checkpoint(1_000_001, 1.0);
    let seen = PaceInput {
        checkpoint: Some(&ahead),
        stream: &mirror,
        oldest: None,
        rate: None,
        halted: false,
        paused: None,
        active: None,
    };
    assert_eq!(pace(seen).0, Pace::UpToDate, "the mirror will get there");
    let paused = PaceInput {
        paused: Some(7.0),
        ..seen
    };
    assert_eq!(pace(paused), (Pace::Paused, Some(7.0)));
    // Behind for an hour because of a pause, and its worker has just begun.
    let resumed = checkpoint(999_000, HOUR);
    let resumed = |active| PaceInput {
        checkpoint: Some(&resumed),
        stream: &stream,
        oldest: Some(HOUR),
        rate: Some(0.0),
        active: Some(active),
        ..seen
    };
    assert_eq!(pace(resumed(1.0)), (Pace::CatchingUp, None));
    assert_eq!(pace(resumed(11.0)), (Pace::Stuck, Some(11.0)));
}

#[test]
fn what_passes_within_a_moment_is_no_trouble() {
    let passing = Problem {
        text: "another worker has moved the checkpoint".to_owned(),
        halted: false,
    };
    let since = |problem_seconds| Since {
        problem_seconds,
        ..Since::default()
    };
    assert_eq!(lasting(Some(&passing), since(Some(2.0))), None);
    assert_eq!(lasting(Some(&passing), since(Some(5.0))), Some(&passing));
    // An older program does not report for how long.
    assert_eq!(lasting(Some(&passing), since(None)), Some(&passing));
    let halted = Problem {
        halted: true,
        ..passing
    };
    assert_eq!(lasting(Some(&halted), since(Some(0.0))), Some(&halted));

    let waits = |stage, other_holder_seen| Since {
        stage_seconds: Some(stage),
        other_holder_seconds: Some(other_holder_seen),
        problem_seconds: None,
    };
    let waiting = |since| taking_over(Working::Waiting, false, [since].into_iter());
    // The active one has gone a second ago; a standby has just started; nobody takes over.
    assert_eq!(waiting(waits(HOUR, 1.0)), Working::TakingOver);
    assert_eq!(waiting(waits(1.0, HOUR)), Working::TakingOver);
    assert_eq!(waiting(waits(HOUR, 20.0)), Working::Waiting);
    // The lock changes hands, and neither of the two had to report itself; it does not, and one should.
    let silent = |changed_hands| {
        let since = [waits(HOUR, 0.2)].into_iter();
        taking_over(Working::Silent, changed_hands, since)
    };
    assert_eq!(silent(true), Working::TakingOver);
    assert_eq!(silent(false), Working::Silent);
}

/// All databases of a server that is down, with everything that follows from it: one trouble.
#[test]
fn one_cause_is_one_trouble() {
    let mut status = healthy();
    let down = || Some("can't be reached: connection refused".to_owned());
    let waits = Problem {
        text: "database artstore at db:5432 can't be reached".to_owned(),
        halted: false,
    };
    for source in &mut status.sources {
        source.database.problem = down();
        (source.position, source.unpublished, source.pending) = (None, None, None);
        source.relay.lock_held = None;
        source.relay.state = Working::Waiting;
        source.relay.problem = Some(waits.clone());
        for answer in source.relay.answers.iter_mut().flatten() {
            answer.problem = Some(waits.clone());
        }
    }
    status.read_model.as_mut().unwrap().problem = down();
    status.audit_log = Some(Server {
        name: "artstore_admin at db:5432".to_owned(),
        problem: down(),
    });
    for place in &mut status.projections[0].streams {
        (place.sequence, place.lag_events, place.state) = (None, None, Pace::NotKnown);
        (place.workers.lock_held, place.workers.state) = (None, Working::Waiting);
        place.workers.problem = Some(waits.clone());
    }
    let [trouble] = judged(status.clone()).troubles.try_into().unwrap();
    assert_eq!(trouble.about, "PostgreSQL at db:5432");
    assert_eq!(
        trouble.what,
        format!(
            "can't be reached: connection refused; databases: artstore_storage_elem_01, \
             artstore_{LONG}, artstore, artstore_admin"
        )
    );
    // A halt is a cause of its own.
    status.sources[0].relay.problem.as_mut().unwrap().halted = true;
    assert_eq!(judged(status).troubles.len(), 2);
}

/// On a terminal of 24 rows the verdict is always seen, and so is whatever is wrong.
#[test]
fn a_screen_of_24_rows_shows_the_verdict_and_what_is_wrong() {
    for status in [healthy(), unhealthy()] {
        let text = screen::show(&status, 80, Some(24), false);
        assert!(text.lines().count() <= 24, "{text}");
        for trouble in status.troubles.iter().take(2) {
            let begins = trouble.what.split_whitespace().next().unwrap();
            assert!(text.contains(begins), "{begins} is not in:\n{text}");
        }
        let verdict = if status.well {
            "All is well."
        } else {
            "NOT WELL"
        };
        assert!(text.contains(verdict), "{text}");
        assert!(text.contains("QUERY-CACHE"), "{text}");
    }
    // Forty sources.
    let mut status = healthy();
    let more = (0..40).map(|n| source(&format!("storage_elem_{n:02}")));
    status.sources.extend(more);
    status.sources[30].relay.state = Working::None;
    let text = screen::show(&judged(status), 80, Some(24), false);
    assert!(text.lines().count() <= 24, "{text}");
    assert!(text.contains("\nstorage_elem_28"), "{text}");
    assert!(text.contains("41 more that are well"), "{text}");
    assert!(text.contains("NOT WELL"), "{text}");
}

#[test]
fn a_relay_is_stuck_when_rows_wait_and_nothing_moves() {
    let rows = |rows| Some(Rows { rows, ..none() });
    let mut relay = answer("elem", process("alpha", 1), Stage::Active);
    let stuck = |relay: &RelayAnswer, rows| stuck(std::slice::from_ref(relay), rows);
    assert_eq!(stuck(&relay, rows(0)), None, "silent for an hour");
    assert_eq!(stuck(&relay, rows(7)), None, "they came just now");
    relay.caught_up_seconds = Some(40.0);
    assert_eq!(
        stuck(&relay, rows(7)),
        Some(40.0),
        "polled, and not published"
    );
    relay.stored_seconds = Some(0.2);
    assert_eq!(
        stuck(&relay, rows(7)),
        None,
        "a large backlog is being published"
    );
    (relay.stored_seconds, relay.polled_seconds) = (Some(50.0), Some(45.0));
    assert_eq!(
        stuck(&relay, None),
        Some(45.0),
        "the source does not answer"
    );
    relay.active_seconds = Some(2.0);
    assert_eq!(stuck(&relay, rows(7)), None, "it has just taken over");
    relay.active_seconds = None;
    assert_eq!(stuck(&relay, rows(7)), None, "it is a standby");
}

/// The disk of JetStream is full: the source is polled, the lock changes hands, and nothing is stored.
#[test]
fn a_relay_is_stuck_however_often_the_lock_changes_hands() {
    let rows = |rows| Some(Rows { rows, ..none() });
    let mut active = answer("elem", process("alpha", 1), Stage::Active);
    (active.active_seconds, active.waiting_seconds) = (Some(2.0), Some(1.5));
    let mut standby = answer("elem", process("beta", 2), Stage::Standby);
    (standby.stored_seconds, standby.waiting_seconds) = (Some(140.0), Some(140.0));
    let both = [active.clone(), standby.clone()];
    assert_eq!(stuck(&both, rows(250)), Some(140.0));
    assert_eq!(stuck(&both, None), Some(140.0), "the rows can't be counted");
    assert_eq!(stuck(&both, rows(0)), None, "they were published just now");
    active.stored_seconds = Some(0.5);
    assert_eq!(
        stuck(&[active, standby], rows(250)),
        None,
        "one of them has stored some"
    );
}

/// One trouble: that it is stuck, and what NATS reports about it.
#[test]
fn what_nats_does_not_store_is_named_with_its_answer() {
    let mut status = healthy();
    let source = &mut status.sources[0];
    source.relay.stuck_seconds = Some(14.0);
    source.relay.problem = Some(Problem {
        text: "NATS did not confirm that it stored messages 8 to 9 (artstore.wal.elem.p00.file.created): \
               insufficient resources (10023); free the disk"
            .to_owned(),
        halted: false,
    });
    let troubles = judged(status).troubles;
    let [trouble] = troubles.as_slice() else {
        panic!("{troubles:?}");
    };
    assert!(
        trouble.what.contains("nothing was stored for 14 s"),
        "{trouble:?}"
    );
    assert!(
        trouble.what.contains("insufficient resources (10023)"),
        "{trouble:?}"
    );
    assert!(!trouble.todo.contains("database"), "{trouble:?}");
}

#[test]
fn who_works_is_told_from_locks_and_answers_together() {
    let halted = Problem {
        text: "set back".to_owned(),
        halted: true,
    };
    let passing = Problem {
        text: "try again".to_owned(),
        halted: false,
    };
    type Answers<'a> = Option<Vec<(Stage, Option<&'a Problem>)>>;
    let state = |lock, others, answers: Answers<'_>| {
        working(lock, others, answers.as_ref().map(|a| a.iter().copied()))
    };
    use Stage::{Active, Standby, Starting};
    let cases: [(Option<bool>, i64, Answers<'_>, Working); 11] = [
        (
            Some(true),
            0,
            Some(vec![(Active, None), (Standby, None)]),
            Working::Active,
        ),
        (
            Some(true),
            0,
            Some(vec![(Active, Some(&passing))]),
            Working::Active,
        ),
        (
            Some(true),
            0,
            Some(vec![(Active, Some(&halted))]),
            Working::Halted,
        ),
        (
            Some(false),
            0,
            Some(vec![(Starting, Some(&halted))]),
            Working::Halted,
        ),
        (Some(true), 0, Some(vec![(Standby, None)]), Working::Silent),
        (
            Some(false),
            0,
            Some(vec![(Standby, None)]),
            Working::Waiting,
        ),
        (Some(false), 1, Some(vec![]), Working::Waiting),
        (Some(false), 0, Some(vec![]), Working::None),
        (None, 0, Some(vec![(Active, None)]), Working::Active),
        (Some(true), 0, None, Working::Active),
        (None, 0, None, Working::NotKnown),
    ];
    for (lock, others, answers, expected) in cases {
        let text = format!("{lock:?} {others} {answers:?}");
        assert_eq!(state(lock, others, answers).0, expected, "{text}");
    }
}

/// Nobody is to end the session of a backfill because its relay is standby meanwhile.
#[test]
fn a_command_that_has_the_lock_is_waited_for() {
    let held_by = |application: &str| {
        let mut status = healthy();
        let relay = &mut status.sources[0].relay;
        relay.state = Working::Silent;
        relay.holder = Some(Holder {
            pid: Some(12),
            user: None,
            application: Some(application.to_owned()),
            address: None,
            state: None,
            seconds: None,
            transaction: None,
            prepared: None,
        });
        let [trouble] = judged(status).troubles.try_into().unwrap();
        trouble
    };
    let backfill = held_by("artstore element backfill");
    assert!(backfill.what.contains("a command has the lock"));
    assert!(backfill.todo.contains("wait until it has ended"));
    for name in ["artstore relay (election)", "somebody here"] {
        let other = held_by(name);
        assert!(other.what.contains("it is frozen"), "{other:?}");
        assert!(other.what.contains(name), "{other:?}");
    }
}

#[test]
fn the_most_important_comes_first_with_its_command() {
    let mut status = unhealthy();
    let told: Vec<(&str, Option<&str>)> = status
        .troubles
        .iter()
        .map(|trouble| (trouble.about.as_str(), trouble.command.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (LONG, None),
            (
                "storage_elem_01",
                Some("artstore relay accept-source --source storage_elem_01")
            ),
            ("storage_elem_01", None),
            ("query-cache of storage_elem_01", None),
            ("storage_elem_01", None),
            (
                "storage_elem_01",
                Some("artstore wal pending --element storage_elem_01")
            ),
        ]
    );
    // Set back, and nobody runs to notice it; findings of a proof.
    status = healthy();
    status.sources[0].position = Some(4_710);
    status.sources[1].proven = Some(Proven {
        position: None,
        seconds: 1.0,
        findings: 2,
        problem: Some("no connection".to_owned()),
    });
    let found = troubles(&status);
    let commands: Vec<&str> = found.iter().flat_map(|t| t.command.as_deref()).collect();
    let verify = format!("artstore verify --source {LONG}");
    assert_eq!(
        commands,
        [
            "artstore relay accept-source --source storage_elem_01",
            &verify
        ]
    );
}

#[test]
fn a_check_that_stands_still_is_no_proof() {
    let mut status = healthy();
    let proven = |status: &mut Status, seconds| {
        status.sources[0].proven = Some(Proven {
            position: Some(4_711),
            seconds,
            findings: 0,
            problem: None,
        });
    };
    proven(&mut status, 299.0);
    assert!(judged(status.clone()).troubles.is_empty());
    proven(&mut status, 301.0);
    let [trouble] = judged(status).troubles.try_into().unwrap();
    assert!(
        trouble.what.contains("has not moved for 5 min"),
        "{trouble:?}"
    );
}

#[test]
fn what_does_not_answer_is_asked_again_where_the_relay_gets_on() {
    let source = "elem"
        .parse()
        .map(artstore_schemas::source::Source::Element);
    let source = source.unwrap();
    let asked_again = |stored: Option<f64>, polled: Option<f64>, name: &str| {
        let mut answer = answer(name, process("alpha", 42), Stage::Active);
        (answer.stored_seconds, answer.polled_seconds) = (stored, polled);
        let answers = Answers {
            relays: vec![answer],
            projectors: Vec::new(),
        };
        gets_on(Some(&answers), &source)
    };
    assert!(asked_again(Some(0.3), Some(0.2), "elem"));
    // What hangs is not waited for twice: nothing was stored, or read, for a while.
    assert!(!asked_again(Some(5.0), Some(0.2), "elem"));
    assert!(!asked_again(Some(0.3), Some(5.0), "elem"));
    assert!(!asked_again(None, Some(0.2), "elem"));
    assert!(!asked_again(Some(0.3), Some(0.2), "other"));
    assert!(!gets_on(None, &source));
}
