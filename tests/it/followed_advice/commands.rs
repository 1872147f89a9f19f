//! States that a command ends, in one world, one after the other.

use serde_json::Value;

use super::*;
use crate::projector::parking::{REPAIR, parked, passed, poison};

#[test]
fn what_status_advises_ends_in_all_is_well() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut element = world.element(0).await;
        let mut query = world.query().await;
        let mut services = Vec::new();

        execute(&mut element, ROW).await;
        let done = follow(&world, "nothing runs", &mut services).await;
        for command in ["artstore run relay", "artstore run projector"] {
            assert!(done.iter().any(|done| done == command), "{done:?}");
        }

        let pause = ["projection", "pause", "query-cache", "--reason", "a test"];
        let (status, said) = world.command(&pause).output().await;
        assert!(status.success(), "{said}");
        let done = follow(&world, "paused", &mut services).await;
        assert_eq!(done, ["artstore projection resume query-cache"]);

        poison(&world, 1).await;
        passed(&world).await;
        assert_eq!(parked(&world).await.len(), 2);
        // Its cause is repaired.
        execute(&mut query, REPAIR).await;
        let done = follow(&world, "parked", &mut services).await;
        assert_eq!(done, ["artstore parked list"]);

        let subject = format!("{}.p00.file.created", source.subject_prefix());
        let foreign = world.bus.jetstream.publish(subject, "{}".into()).await;
        foreign.unwrap().await.unwrap();
        execute(&mut element, ROW).await;
        let done = follow(&world, "a foreign message", &mut services).await;
        assert_eq!(done, ["artstore relay republish --source elem"]);

        let beyond = "update projection_checkpoints set last_sequence = 1000000 \
             where stream = 'ARTSTORE_WAL_elem'";
        execute(&mut query, beyond).await;
        let done = follow(&world, "a checkpoint beyond its stream", &mut services).await;
        assert_eq!(done, ["artstore projection repair query-cache"]);

        execute(&mut element, ROW).await;
        let position: i64 = value(&mut element, "select max(position) from elem_wal").await;
        eventually("the last row is published", async || {
            let (_, said) = world.command(&["status", "--json"]).output().await;
            let said: Value = serde_json::from_str(&said).unwrap();
            let mut sources = said["sources"].as_array()?.iter();
            let elem = sources.find(|source| source["source"] == "elem")?;
            (elem["high_water_mark"].as_i64() == Some(position)).then_some(())
        })
        .await;
        let set_back = "delete from elem_wal \
                 where position = (select max(position) from elem_wal); \
             select setval('elem_wal_position_seq', max(position)) from elem_wal";
        execute(&mut element, set_back).await;
        let done = follow(&world, "a source that was set back", &mut services).await;
        assert_eq!(done, ["artstore relay accept-source --source elem"]);

        let left_behind = "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                 operation_data, started_at) \
             values (gen_random_uuid(), 'file_create', 'pending', gen_random_uuid(), '{}', \
                 now() - interval '2 hours')";
        execute(&mut element, left_behind).await;
        let done = follow(&world, "an operation that was left behind", &mut services).await;
        assert_eq!(done, ["artstore wal pending --element elem"]);

        for service in services {
            service.kill().await;
        }
    });
}
