//! No finished row is lost, doubled or delayed, whatever writers do: positions, gaps, bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::followed_advice::follow;
use crate::support::mix::{Mix, finished_row};
use crate::support::*;
use artstore_schemas::envelope::Envelope;
use artstore_stack::{PostgresStop, Stack, StackOptions};

/// The counterexample: U takes an id, T takes the next, T draws, U draws, U commits, two polls,
/// T commits. A rule that trusts the wrong xmin horizon gives T's position up.
#[test]
fn a_number_drawn_first_and_committed_last_is_not_lost() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (mut u, mut t) = (world.element(0).await, world.element(0).await);
        let source = world.source(0);
        let _relay = world.relay(0).start();
        for round in 1..=5 {
            execute(&mut u, "begin; select pg_current_xact_id()").await;
            execute(&mut t, "begin; select pg_current_xact_id()").await;
            execute(&mut t, finished_row()).await;
            execute(&mut u, finished_row()).await;
            execute(&mut u, "commit").await;
            // U's message states that T's position is a gap; then the relay keeps polling.
            let before = (round - 1) * 4 + 1;
            eventually("U's row", || async {
                (world.last_sequence(&source).await >= before).then_some(())
            })
            .await;
            for more in 1..=2 {
                execute(&mut u, finished_row()).await;
                eventually("rows behind the hole are not delayed", || async {
                    (world.last_sequence(&source).await >= before + more).then_some(())
                })
                .await;
            }
            execute(&mut t, "commit").await;
            world.published(0).await;
        }
        let messages = world.messages(&source).await;
        assert_eq!(messages.len(), 20);
        assert!(messages.last().unwrap().gaps.is_empty());
    });
}

/// Rows are written until every hole can be seen to be settled: the last message has none.
async fn all_settled(world: &World) {
    let source = world.source(0);
    eventually("aborted positions are settled", || async {
        // Each try is a row whose message states the gaps.
        let mut connection = world.element(0).await;
        execute(&mut connection, finished_row()).await;
        world.published(0).await;
        let stream = world
            .bus
            .jetstream
            .get_stream(source.stream())
            .await
            .unwrap();
        let last = world.last_sequence(&source).await;
        let last = stream.get_raw_message(last).await.unwrap();
        let envelope = Envelope::from_headers(&last.headers).unwrap();
        envelope.gaps.is_empty().then_some(())
    })
    .await;
    world.messages(&source).await;
}

/// How many rows the mix finishes: enough for thousands of gaps on whatever machine.
const ENOUGH: u64 = 10_000;

#[test]
fn fifty_writers_of_every_kind_lose_nothing() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mix = Arc::new(Mix::new(&world, 20).await);
        let relay = world.relay(0).start();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = mix.start(50, &stop, false);
        // A transaction that stays open holds a number and delays nobody.
        let mut long = world.element(0).await;
        execute(&mut long, format!("begin; {}", finished_row())).await;
        let source = world.source(0);
        let mut before = 0;
        while before < ENOUGH {
            eventually("rows are published beside a long transaction", || async {
                (world.last_sequence(&source).await > before + 500).then_some(())
            })
            .await;
            before = world.last_sequence(&source).await;
            // While it is open no aborted number can be given up, and the list of them is bounded.
            execute(&mut long, format!("commit; begin; {}", finished_row())).await;
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        execute(&mut long, "commit").await;
        world.published(0).await;
        all_settled(&world).await;
        println!("{} rows", world.last_sequence(&source).await);
        relay.kill().await;
    });
}

/// A long transaction elsewhere holds xmin back, so that no number can be given up by it. Beyond a
/// few hundred holes the lock that `nextval` leaves decides instead, and nothing is delayed.
#[test]
fn holes_are_settled_while_another_database_holds_xmin_back() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let relay = world.relay(0).start();
        let mut elsewhere = world.query().await;
        execute(&mut elsewhere, "begin; select pg_current_xact_id()").await;
        let mut connection = world.element(0).await;
        let mut most = 0;
        for round in 1..=15 {
            for _ in 0..100 {
                let (kept, lost) = (finished_row(), finished_row());
                execute(&mut connection, format!("begin; {lost}; rollback; {kept}")).await;
            }
            eventually("nothing is delayed", || async {
                (world.last_sequence(&source).await >= round * 100).then_some(())
            })
            .await;
            let last = world.messages(&source).await.pop().unwrap();
            most = most.max(last.gaps.as_slice().len());
        }
        assert!((300..1_000).contains(&most), "{most} holes at most");
        // A number that is held is not given up with the others.
        let mut holder = world.element(0).await;
        execute(&mut holder, format!("begin; {}", finished_row())).await;
        for _ in 0..400 {
            let (kept, lost) = (finished_row(), finished_row());
            execute(&mut connection, format!("begin; {lost}; rollback; {kept}")).await;
        }
        execute(&mut holder, "commit").await;
        world.published(0).await;
        execute(&mut elsewhere, "rollback").await;
        println!("{most} holes at most");
        relay.kill().await;
    });
}

/// More holes than a header holds, all of them alive: the relay takes nothing more until some are
/// settled, and then everything, once.
#[test]
fn more_gaps_than_a_header_holds_are_waited_for() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let (mut holder, mut connection) = (world.element(0).await, world.element(0).await);
        execute(&mut holder, "set application_name = 'somebody long'; begin").await;
        for _ in 0..1_200 {
            execute(&mut holder, finished_row()).await;
            execute(&mut connection, finished_row()).await;
        }
        let relay = world.relay(0).start();
        relay.says("too many gaps").await;
        assert_eq!(world.last_sequence(&source).await, 1_000);
        relay.kill().await;
        let relay = world.relay(0).start();
        relay.says("too many gaps").await;
        assert_eq!(world.last_sequence(&source).await, 1_000);
        // Who holds them is named, with the one thing that helps.
        let pid: i32 = value(&mut holder, "select pg_backend_pid()").await;
        let id: String = value(&mut holder, "select pg_current_xact_id()::text").await;
        let (_, said) = world.command(&["status", "--json"]).output().await;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let troubles = said["troubles"].as_array().unwrap();
        let mut about = troubles.iter().filter(|trouble| trouble["about"] == "elem");
        let trouble = about.next().unwrap_or_else(|| panic!("{said:#}"));
        let (what, todo) = (trouble["what"].as_str(), trouble["todo"].as_str());
        let (what, todo) = (what.unwrap(), todo.unwrap());
        for named in [
            &id,
            &pid.to_string(),
            "\"somebody long\"",
            "idle in transaction",
        ] {
            assert!(what.contains(named), "{named}: {what}");
        }
        assert!(
            todo.contains(&format!("pg_terminate_backend({pid})")),
            "{todo}"
        );
        assert!(about.next().is_none(), "{said:#}");
        let log = relay.log();
        assert_eq!(log.matches("too many gaps").count(), 1, "{log}");
        execute(&mut holder, "commit").await;
        world.published(0).await;
        assert_eq!(world.last_sequence(&source).await, 2_400);
        let mut services = vec![relay];
        follow(&world, "the transaction has ended", &mut services).await;
        for service in services {
            service.kill().await;
        }
    });
}

/// The server stops at once, as in a power cut, in the middle; writers do not wait for the disk.
#[test]
fn a_crash_of_the_server_loses_nothing_even_with_synchronous_commit_off() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let mut mix = Mix::new(&world, 10).await;
        mix.synchronous_commit = "off";
        let mix = Arc::new(mix);
        let relay = world.relay(0).start();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = mix.start(16, &stop, true);
        let source = world.source(0);
        let crashes = AtomicUsize::new(0);
        for _ in 0..3 {
            let before = world.last_sequence(&source).await;
            eventually("rows are published", || async {
                (world.last_sequence(&source).await > before + 500).then_some(())
            })
            .await;
            stack.stop_postgres(PostgresStop::Immediate).await.unwrap();
            stack.start_postgres().await.unwrap();
            crashes.fetch_add(1, Ordering::Relaxed);
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        // What was prepared and never ended belongs to nobody now.
        let mut connection = world.element(0).await;
        let prepared: Vec<String> = sqlx::query_scalar("select gid from pg_prepared_xacts")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        for id in prepared {
            execute(&mut connection, format!("commit prepared '{id}'")).await;
        }
        world.published(0).await;
        all_settled(&world).await;
        println!(
            "{} crashes, {} rows",
            crashes.into_inner(),
            world.last_sequence(&source).await
        );
        relay.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// A writer that does not wait for the disk, on a server that writes its log seldom: what was seen
/// and published is there after a crash all the same.
#[test]
fn a_row_that_was_published_is_on_the_sources_disk() {
    run_waiting(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let source = world.source(0);
        let relay = world.relay(0).start();
        for round in 1..=5 {
            let mut writer = world.element(0).await;
            execute(&mut writer, "alter system set wal_writer_delay = '10s'").await;
            execute(&mut writer, "select pg_reload_conf()").await;
            execute(&mut writer, "set synchronous_commit = off").await;
            execute(&mut writer, finished_row()).await;
            eventually("the row is published", || async {
                (world.last_sequence(&source).await >= round).then_some(())
            })
            .await;
            stack.stop_postgres(PostgresStop::Immediate).await.unwrap();
            stack.start_postgres().await.unwrap();
            let held = finished(&mut world.element(0).await, &source).await;
            assert_eq!(held, round, "rows after crash {round}");
        }
        world.published(0).await;
        relay.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
