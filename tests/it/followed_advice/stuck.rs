//! Somebody who has a lock, or holds rows back, and makes no progress: a process that is frozen, a session
//! that is none of ours, a table that is locked.

use sqlx::PgConnection;

use super::*;
use crate::services::frozen::Frozen;
use crate::support::load::{create, new_file};

/// All services run, and have done something.
async fn running(world: &World) -> (Process, Process) {
    let relay = world.command(&["run", "relay"]).start();
    let projector = world.projector().start();
    execute(&mut world.element(0).await, ROW).await;
    world.published(0).await;
    world.projected().await;
    well(|words| world.command(words), "the start").await;
    (relay, projector)
}

/// Takes a lock for a session that is none of ours.
async fn taken(mut connection: PgConnection, key: &str) -> PgConnection {
    execute(&mut connection, "set application_name = 'somebody'").await;
    execute(&mut connection, format!("select pg_advisory_lock({key})")).await;
    connection
}

/// Ends the session that a text names, as PostgreSQL's process with this number.
async fn end_named(connection: &mut PgConnection, trouble: &Value) {
    let what = trouble["what"].as_str().unwrap();
    assert!(what.contains("\"somebody\""), "{what}");
    let (_, pid) = what.split_once("PostgreSQL process ").unwrap();
    let pid: i32 = pid.split(' ').next().unwrap().parse().unwrap();
    execute(connection, format!("select pg_terminate_backend({pid})")).await;
}

/// PostgreSQL ends its session, and with it its lock, and then there is none that runs.
#[test]
fn processes_that_are_frozen_are_replaced_as_advised() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = running(&world).await;
        let frozen = Frozen::new(vec![relay.pid(), projector.pid()]);
        execute(&mut world.element(0).await, ROW).await;
        let mut services = Vec::new();
        let done = follow(&world, "frozen", &mut services).await;
        // Of one source, or of all, if their locks were released at the same time.
        for command in ["artstore run relay", "artstore run projector"] {
            assert!(
                done.iter().any(|done| done.starts_with(command)),
                "{done:?}"
            );
        }
        world.published(0).await;
        relay.kill().await;
        projector.kill().await;
        drop(frozen);
        for service in services {
            service.kill().await;
        }
    });
}

/// It works; what it reports about itself gets lost, as where its NATS user may not answer.
#[test]
fn a_relay_that_does_not_answer_is_named_until_it_may() {
    run(async {
        let world = World::new(&["elem"]).await;
        let proxy = Proxy::to(&world.nats_url).await;
        let relay = world.command(&["run", "relay"]);
        let relay = relay.env("NATS_URL", &proxy.way(&world.nats_url)).start();
        let projector = world.projector().start();
        let program = |words: &[&str]| world.command(words);
        well(program, "the start").await;
        // The answer to whoever asks from another account.
        proxy.drop_publishes(Some("_R_."));
        let what = "may not answer on artstore.status.> (NATS permissions)";
        let trouble = told(program, "elem", what, "restart it if it hangs").await;
        let what = trouble["what"].as_str().unwrap();
        assert!(what.contains("\"artstore relay (election)\""), "{what}");
        proxy.drop_publishes(None);
        well(program, "it may answer").await;
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_session_that_has_a_relays_lock_is_ended_as_advised() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = running(&world).await;
        let program = |words: &[&str]| world.command(words);
        let mut element = world.element(0).await;
        let key: i64 = value(
            &mut element,
            "select classid::bigint << 32 | objid::bigint from pg_locks \
             join pg_stat_activity using (pid) \
             where locktype = 'advisory' and application_name = 'artstore relay (election)' \
               and datname = current_database()",
        )
        .await;
        relay.kill().await;
        let somebody = taken(world.element(0).await, &key.to_string()).await;
        // It is a standby, and takes over.
        let relay = world.command(&["run", "relay"]).start();
        execute(&mut element, ROW).await;
        let what = "the relay's lock is held by a session that is no relay";
        let advice = "end the session: select pg_terminate_backend(";
        let trouble = told(program, "elem", what, advice).await;
        end_named(&mut element, &trouble).await;
        world.published(0).await;
        well(program, "that session has ended").await;
        drop(somebody);
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_relay_that_waits_for_a_locked_table_goes_on_without_the_lock() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = running(&world).await;
        let program = |words: &[&str]| world.command(words);
        let mut locking = world.element(0).await;
        execute(&mut locking, "begin; lock table elem_wal").await;
        let what = "a question was not answered in time";
        told(program, "elem", what, "end its session as named").await;
        let what = "rows wait and nothing was read or stored for";
        told(program, "elem", what, "look at its log and for locks").await;
        execute(&mut locking, "rollback").await;
        well(program, "the lock is gone").await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// Its way to the database is cut; another relay does the work.
#[test]
fn a_relay_that_stands_by_and_starts_again_is_named_until_its_cause_is_removed() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = running(&world).await;
        let program = |words: &[&str]| world.command(words);
        let proxy = Proxy::to(&world.elements[0].1).await;
        let other = format!("elem={}", proxy.way(&world.elements[0].1));
        let second = world.relay(0).env("ARTSTORE_ELEMENTS", &other).start();
        second.says("standby: another relay is active").await;
        proxy.cut(Cut::Both);
        told(
            program,
            "elem",
            "starts again: ",
            "it tries again by itself",
        )
        .await;
        proxy.heal();
        well(program, "its database answers").await;
        second.kill().await;
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_worker_that_is_stuck_gets_on_when_what_it_waits_for_is_ended_as_advised() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = running(&world).await;
        let program = |words: &[&str]| world.command(words);
        let about = "query-cache of elem";
        let event = async || {
            let mut element = (world.elements[0].0.clone(), world.element(0).await);
            create(&mut element, &new_file("a.pdf")).await.unwrap();
            world.published(0).await;
        };

        // A table is locked that status reads as well.
        let mut locking = world.query().await;
        execute(&mut locking, "begin; lock table projection_checkpoints").await;
        let what = "a question was not answered in time";
        told(program, "query database", what, "end its session as named").await;
        execute(&mut locking, "rollback").await;
        well(program, "the lock is gone").await;

        // One that only the worker needs.
        execute(&mut locking, "begin; lock table file_metadata_cache").await;
        event().await;
        let (what, advice) = (
            "1 event behind and no progress for",
            "look at its log and for locks in the query database",
        );
        let trouble = told(program, about, what, advice).await;
        let worker = format!("(process {}) is stuck", projector.pid());
        assert!(
            trouble["what"].as_str().unwrap().contains(&worker),
            "{trouble:#}"
        );
        execute(&mut locking, "rollback").await;
        well(program, "the lock is gone").await;

        // A session that is none of ours has its lock.
        projector.kill().await;
        let key = "hashtextextended('artstore/projector/query-cache/ARTSTORE_WAL_elem', 0)";
        let somebody = taken(world.query().await, key).await;
        let projector = world.projector().start();
        event().await;
        let trouble = told(program, about, "the stream's lock is held by", "").await;
        end_named(&mut locking, &trouble).await;
        well(program, "that session has ended").await;
        drop(somebody);
        projector.kill().await;
        relay.kill().await;
    });
}

/// Its way to the query database is cut, and nobody else does the work.
#[test]
fn a_worker_that_starts_again_is_named_until_its_cause_is_removed() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let proxy = Proxy::to(&world.query_url).await;
        let projector = world.projector();
        let projector = projector.env("QUERY_DATABASE_URL", &proxy.way(&world.query_url));
        let projector = projector.start();
        let program = |words: &[&str]| world.command(words);
        well(program, "the start").await;
        proxy.cut(Cut::Both);
        let (what, advice) = ("starts again: ", "it tries again by itself");
        told(program, "query-cache of elem", what, advice).await;
        proxy.heal();
        well(program, "its database answers").await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// The one that works is ended, and a session that calls itself one of its workers takes nothing over.
#[test]
fn a_worker_that_does_not_take_over_is_named_and_replaced() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = running(&world).await;
        let program = |words: &[&str]| world.command(words);
        let mut idle = world.query().await;
        execute(
            &mut idle,
            "set application_name = 'artstore query-cache elem'",
        )
        .await;
        projector.kill().await;
        let what = "no worker is active, though some run";
        told(
            program,
            "query-cache of elem",
            what,
            "then look at their logs",
        )
        .await;
        drop(idle);
        let mut services = vec![relay];
        let done = follow(&world, "the idle one is ended", &mut services).await;
        assert_eq!(done, ["artstore run projector"]);
        for service in services {
            service.kill().await;
        }
    });
}
