//! Two that both took the lock: one of them does not swap.

use super::*;

/// A stranger has the key of earlier versions, which anybody can know, and another session gives the lock a new key
/// right after the first rebuild took it, as one does that still sees a stranger there
/// ([`artstore_runtime::duty_lock`]).
#[test]
fn a_rebuild_whose_lock_has_another_key_swaps_nothing() {
    run(async {
        let (world, processes) = built(&["elem"], 30).await;
        let mut query = world.query().await;
        let role = format!("stranger_{}", uuid::Uuid::new_v4().simple());
        execute(
            &mut query,
            format!("create role {role} login password '{role}'"),
        )
        .await;
        let (_, place) = world.query_url.split_once('@').unwrap();
        let mut stranger = pg(&format!("postgres://{role}:{role}@{place}")).await;
        execute(
            &mut stranger,
            "select pg_advisory_lock(hashtextextended('artstore/rebuild/query-cache', 0))",
        )
        .await;

        let mut first = command(&world, &[]).stop_at("rebuild.compared", 1).start();
        first.frozen().await;
        execute(
            &mut query,
            "update projection_locks set key = key + 1 where name = 'artstore/rebuild/query-cache'",
        )
        .await;
        let mut second = command(&world, &[]).stop_at("rebuild.created", 1).start();
        second.frozen().await;

        first.signal("-CONT").await;
        let status = first.ended().await;
        assert_eq!(status.code(), Some(1), "{}", first.log());
        let log = first.log();
        assert!(log.contains("was given another key meanwhile"), "{log}");
        // What is there is left to the second one.
        assert_eq!(schemas(&mut query).await, ["artstore_rebuild_query_cache"]);

        second.signal("-CONT").await;
        assert!(second.ended().await.success(), "{}", second.log());
        drop(stranger);
        swaps(&world).await;
        for process in processes {
            process.kill().await;
        }
    });
}
