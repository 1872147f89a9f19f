//! What operators decide about parked events holds through rebuilds and rollbacks.

use uuid::Uuid;

use super::*;
use crate::projector::parking::{self, parked, poison};
use crate::support::load::update;

async fn discard(world: &World, sequence: u64) {
    let stream = world.source(0).stream();
    let (status, said) = world
        .command(&["parked", "discard", &stream, &sequence.to_string()])
        .argument("--reason")
        .argument("a test")
        .finish()
        .await;
    assert!(status.success(), "{said}");
}

/// A file whose first event can't be applied, and whose second one, parked behind it, can.
async fn repaired_file(world: &World) -> (Uuid, u64) {
    let file = poison(world, 0).await;
    passed(world).await;
    let sequence = world.last_sequence(&world.source(0)).await;
    sound(world, file).await;
    (file, sequence)
}

async fn sound(world: &World, file: Uuid) {
    let mut element = (world.elements[0].0.clone(), world.element(0).await);
    execute(
        &mut element.1,
        format!("update elem_files set file_size = 5 where file_id = '{file}'"),
    )
    .await;
    update(&mut element, file, "sound").await.unwrap();
    passed(world).await;
}

async fn cached(world: &World) -> i64 {
    let sql = "select count(*) from file_metadata_cache";
    value(&mut world.query().await, sql).await
}

#[test]
fn what_was_given_up_stays_so_through_a_rebuild_and_a_rollback() {
    run(async {
        let (world, processes) = built(&["elem"], 100).await;
        let (_, first) = repaired_file(&world).await;
        let lost = poison(&world, 0).await;
        passed(&world).await;
        assert_eq!(parked(&world).await.len(), 3);
        // With all of it parked on both sides.
        swaps(&world).await;
        assert_eq!(parked(&world).await.len(), 3);
        discard(&world, first).await;
        // The head is gone: what waits behind it is shown all the same.
        let (_, said) = world.command(&["parked", "list"]).output().await;
        assert!(said.contains("those before it were discarded"), "{said}");
        discard(&world, first + 2).await;
        let (ok, said) = parking::retry(&world).await;
        assert!(ok && said["applied"] == 1, "{said}");
        assert_eq!((cached(&world).await, parked(&world).await.len()), (101, 0));
        // A fill meets the events that were discarded, and continues after them.
        swaps(&world).await;
        assert_eq!((cached(&world).await, parked(&world).await.len()), (101, 0));
        // Nor do they come back with the previous tables.
        let (status, said) = world
            .command(&["projection", "rollback", "query-cache"])
            .output()
            .await;
        assert!(status.success(), "{said}");
        parking::retry(&world).await;
        passed(&world).await;
        assert_eq!((cached(&world).await, parked(&world).await.len()), (101, 0));
        // Nor does a worker apply them whose checkpoint went back, nor a repair.
        execute(
            &mut world.query().await,
            "update projection_checkpoints set last_sequence = 0, last_event_id = null, \
                 source_high = 0, source_missing = '' where stream = 'ARTSTORE_WAL_elem'",
        )
        .await;
        passed(&world).await;
        assert_eq!((cached(&world).await, parked(&world).await.len()), (101, 0));
        execute(&mut world.query().await, crate::projector::parking::REPAIR).await;
        let repair = ["projection", "repair", "query-cache", "--file"];
        let repair = world.command(&repair).argument(&lost.to_string());
        let (status, said) = repair.finish().await;
        assert!(status.success(), "{said}");
        assert_eq!(cached(&world).await, 101);
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn tables_of_before_lose_what_was_given_up_since() {
    run(async {
        let (world, processes) = built(&["elem"], 20).await;
        poison(&world, 0).await;
        passed(&world).await;
        let sequence = world.last_sequence(&world.source(0)).await;
        swaps(&world).await;
        discard(&world, sequence).await;
        let rollback = world.command(&["projection", "rollback", "query-cache"]);
        let (status, said) = rollback.output().await;
        assert!(status.success(), "{said}");
        assert_eq!(parked(&world).await, []);
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn a_decision_between_comparison_and_swap_ends_it_and_the_same_command_goes_on() {
    run(async {
        let (world, processes) = built(&["elem"], 50).await;
        let compared = async || {
            // Applied together with the sound event behind it, the other one is not noticed.
            let rebuild = command(&world, &["--accept-differences"])
                .stop_at("rebuild.compared", 1)
                .start();
            rebuild.frozen().await;
            rebuild
        };
        let (_, sequence) = repaired_file(&world).await;
        let mut rebuild = compared().await;
        discard(&world, sequence).await;
        let (ok, said) = parking::retry(&world).await;
        assert!(ok && said["applied"] == 1, "{said}");
        rebuild.signal("-CONT").await;
        assert_eq!(rebuild.ended().await.code(), Some(1), "{}", rebuild.log());
        let log = rebuild.log();
        assert!(log.contains("the same command compares again"), "{log}");
        let said = swaps(&world).await;
        assert_eq!(said["resumed"], true, "{said:#}");
        assert_eq!((cached(&world).await, parked(&world).await.len()), (51, 0));

        // Parked and given up since: what comes then is applied on both sides.
        let mut rebuild = compared().await;
        let file = poison(&world, 0).await;
        passed(&world).await;
        discard(&world, world.last_sequence(&world.source(0)).await).await;
        sound(&world, file).await;
        assert_eq!((cached(&world).await, parked(&world).await.len()), (52, 0));
        rebuild.signal("-CONT").await;
        assert!(rebuild.ended().await.success(), "{}", rebuild.log());
        assert_eq!((cached(&world).await, parked(&world).await.len()), (52, 0));
        for process in processes {
            process.kill().await;
        }
    });
}

#[test]
fn a_build_that_was_kept_tries_its_parked_events_again() {
    run(async {
        let (world, processes) = built(&["elem"], 20).await;
        let rule = |limit: i64| {
            format!(
                "create or replace function public.is_sound(bigint) returns boolean \
                 language plpgsql immutable as $$ begin return $1 < {limit}; end $$"
            )
        };
        let mut query = world.query().await;
        execute(&mut query, rule(1_000_000)).await;
        execute(
            &mut query,
            "alter table file_metadata_cache add constraint sound check (public.is_sound(file_size))",
        )
        .await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        let mut file = crate::support::load::new_file("large");
        file.file_size = 5_000_000;
        crate::support::load::create(&mut element, &file)
            .await
            .unwrap();
        passed(&world).await;
        assert_eq!(parked(&world).await.len(), 1);
        let (code, said) = rebuild(&world, &["--dry-run", "--keep"]).await;
        assert_eq!((code, said["outcome"].as_str()), (Some(0), Some("equal")));
        // Repaired without a change of the tables' form.
        execute(&mut query, rule(1_000_000_000)).await;
        let (ok, said) = parking::retry(&world).await;
        assert!(ok, "{said}");
        let said = swaps(&world).await;
        assert_eq!(said["resumed"], true, "{said:#}");
        assert_eq!((cached(&world).await, parked(&world).await.len()), (21, 0));
        for process in processes {
            process.kill().await;
        }
    });
}
