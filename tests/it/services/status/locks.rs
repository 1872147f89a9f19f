//! The relay's lock, as `status` sees it.

use artstore_bus::accounts::role::Role;
use futures::StreamExt as _;

use super::*;
use crate::services::frozen::Frozen;

/// Answers for a relay of `elem` that is none; what it says, and what happens to the lock before it
/// does, is `said` with the number of the question.
async fn answers_for_a_relay(
    world: &World,
    standby_seconds: f64,
    mut said: impl AsyncFnMut(usize) -> &'static str,
) {
    let relay = world.connect(Role::Relay(world.source(0))).await;
    let client = &relay.client;
    let mut questions = client.subscribe("artstore.status.elem").await.unwrap();
    processed(client).await;
    let mut number = 0;
    while let Some(question) = questions.next().await {
        number += 1;
        let stage = said(number).await;
        let answer = serde_json::json!({
            "source": "elem", "host": "alpha", "pid": 1, "program": "0.1.0", "stage": stage,
            "sequence": 0, "high_water_mark": 0, "gap_positions": 0, "published": 0, "backlog": 0,
            "stage_seconds": standby_seconds, "other_holder_seconds": standby_seconds,
        });
        let answer = answer.to_string().into();
        client
            .publish(question.reply.unwrap(), answer)
            .await
            .unwrap();
    }
}

/// Relays answer before their lock is checked, and have it a moment later.
#[test]
fn a_lock_that_changes_hands_during_a_look_is_no_trouble() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (mut one, mut other) = (world.element(0).await, world.element(0).await);
        let key =
            "('x' || encode(substr(sha256('artstore/relay/elem'), 1, 8), 'hex'))::bit(64)::bigint";
        let lock = format!("select pg_advisory_lock({key})");
        let unlock = "select pg_advisory_unlock_all()";
        for (case, state) in [
            ("it has the lock", "active"),
            ("the lock is free", "taking-over"),
            ("yet another one has it", "taking-over"),
            ("the one that had it is silent", "silent"),
        ] {
            let answers = answers_for_a_relay(&world, 0.1, async |number| {
                match (number, case) {
                    (1, _) => execute(&mut one, &*lock).await,
                    (2, "it has the lock") => return "active",
                    (2, "the lock is free") => execute(&mut one, unlock).await,
                    (2, "yet another one has it") => {
                        execute(&mut one, unlock).await;
                        execute(&mut other, &*lock).await;
                    }
                    _ => {}
                }
                "standby"
            });
            let (_, said) = tokio::select! {
                said = look(world.command(&["status"])) => said,
                () = answers => unreachable!("the connection is closed"),
            };
            let relay = &of(&said["sources"], "elem")["relay"];
            assert_eq!(relay["state"], state, "{case}: {said:#}");
            let trouble = trouble(&said, "elem");
            assert_eq!(trouble.is_some(), state == "silent", "{case}: {said:#}");
            for connection in [&mut one, &mut other] {
                execute(connection, unlock).await;
            }
        }
    });
}

/// Relays that answer and do not take the lock: none of ours does that, so one is played.
#[test]
fn relays_that_do_not_take_the_lock_are_named_until_one_does() {
    run(async {
        let world = World::new(&["elem"]).await;
        let answers = answers_for_a_relay(&world, 30.0, async |_| "standby");
        let (code, said) = tokio::select! {
            said = look(world.command(&["status"])) => said,
            () = answers => unreachable!("the connection is closed"),
        };
        assert_eq!(code, 1);
        assert_eq!(of(&said["sources"], "elem")["relay"]["state"], "waiting");
        let trouble = trouble(&said, "elem").unwrap();
        let what = trouble["what"].as_str().unwrap();
        assert!(
            what.starts_with("no relay is active, though some run"),
            "{what}"
        );
        let todo = trouble["todo"].as_str().unwrap();
        assert!(todo.ends_with("then look at their logs"), "{todo}");
        // It is gone, as after a restart.
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        sees("all is well", &world, |code, _| code == 0).await;
        relay.kill().await;
        projector.kill().await;
    });
}

/// A relay that is frozen says nothing, and its lock stays where it is: that is named at the first look.
#[test]
fn a_relay_that_is_frozen_with_its_lock_is_named() {
    run(async {
        let world = World::new(&["elem"]).await;
        let first = world.relay(0).start();
        first.says("relay active").await;
        let second = world.relay(0).start();
        second.says("standby: another relay is active").await;
        let pid: i32 = value(
            &mut world.element(0).await,
            "select l.pid from pg_locks l join pg_database d on d.oid = l.database \
             where l.locktype = 'advisory' and d.datname = current_database()",
        )
        .await;
        // The server would end the session after five seconds, however busy this machine is.
        let session = Frozen::new(vec![u32::try_from(pid).unwrap()]);
        first.signal("-STOP").await;
        let (code, said) = look(world.command(&["status"])).await;
        assert_eq!(code, 1);
        let relay = &of(&said["sources"], "elem")["relay"];
        assert_eq!(relay["state"], "silent", "{said:#}");
        assert_eq!(relay["holder"]["pid"], pid);
        let found = trouble(&said, "elem").unwrap();
        let what = found["what"].as_str().unwrap();
        assert!(what.contains("it is frozen"), "{what}");
        drop(session);
        second.says("relay active").await;
        sees("the other one is active", &world, |_, said| {
            of(&said["sources"], "elem")["relay"]["state"] == "active"
                && trouble(said, "elem").is_none()
        })
        .await;
        first.kill().await;
        second.kill().await;
    });
}
