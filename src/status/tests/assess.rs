//! How those who work stand, and how far a projection is.

use super::*;
use crate::status::answers::Answers;
use crate::status::assess::{PaceInput, lasting, pace, stuck, taking_over, working};
use crate::status::collect::gets_on;
use crate::status::database::Checkpoint;

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
