//! States of the element registry that a command ends, in one world, one after the other.

use super::*;
use crate::support::load::{create, new_file};

#[test]
fn what_status_advises_of_an_element_registry_ends_in_all_is_well() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let program = |words: &[&str]| world.command(words);
        let mut admin = world.admin().await;
        let file = async |name: &str| {
            let mut element = (world.elements[0].0.clone(), world.element(0).await);
            create(&mut element, &new_file(name)).await.unwrap();
        };
        let registry = ["run", "projector", "--projection", "element-registry"];
        let registry = program(&registry).start();
        let mut services = Vec::new();
        file("a.pdf").await;
        follow(&world, "only the registry is built", &mut services).await;
        let applied = "select count(*) from registry_files";
        eventually("the file is registered", async || {
            (value::<i64>(&mut admin, applied).await == 1).then_some(())
        })
        .await;

        registry.kill().await;
        let (about, run) = (
            "element-registry of elem",
            "artstore run projector --projection element-registry",
        );
        told(program, about, "no projector runs", "start one").await;
        let done = follow(&world, "nobody builds it", &mut services).await;
        assert_eq!(done, [run]);

        let refuse =
            "alter table registry_files add constraint refused check (file_size < 0) not valid";
        execute(&mut admin, refuse).await;
        file("b.pdf").await;
        told(
            program,
            about,
            "1 event parked",
            "--projection element-registry",
        )
        .await;
        execute(
            &mut admin,
            "alter table registry_files drop constraint refused",
        )
        .await;
        let done = follow(&world, "parked", &mut services).await;
        assert_eq!(done, ["artstore parked list --projection element-registry"]);

        let beyond = "update projection_checkpoints set last_sequence = 1000000 \
             where projection = 'element-registry' and stream = 'ARTSTORE_WAL_elem'";
        execute(&mut admin, beyond).await;
        let done = follow(&world, "a checkpoint beyond its stream", &mut services).await;
        assert_eq!(done, ["artstore projection rebuild element-registry"]);
        for service in services {
            service.kill().await;
        }
    });
}
