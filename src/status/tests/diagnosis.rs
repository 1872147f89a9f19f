//! What is wrong, the most important first, and what to do.

use super::*;

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
    let name = "artstore relay (election)";
    let relay = held_by(name);
    assert!(relay.what.contains("it is frozen"), "{relay:?}");
    assert!(relay.what.contains(name), "{relay:?}");
    let stranger = held_by("somebody here");
    assert!(stranger.what.contains("that is no relay"), "{stranger:?}");
    assert!(stranger.what.contains("somebody here"), "{stranger:?}");
    assert!(stranger.todo.contains("pg_terminate_backend(12)"));
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
