//! Accepting a source while it is in use: rows that are finished meanwhile are no damage, a stop changes
//! nothing, and a file that had moved to another element in the lost part comes back.

use serde_json::Value;

use crate::relay::refusals::publish_all;
use crate::support::load::{create, delete, new_file};
use crate::support::*;

fn accept(world: &World, source: &str, arguments: &[&str]) -> Program {
    let mut program = world.command(&["relay", "accept-source", "--source", source]);
    for argument in arguments {
        program = program.argument(argument);
    }
    program
}

const YES: &[&str] = &["--yes", "--reason", "restored"];

#[test]
fn rows_finished_while_it_compares_are_no_damage_and_a_stop_changes_nothing() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        for name in ["1", "2", "3"] {
            create(&mut element, &new_file(name)).await.unwrap();
        }
        publish_all(&world).await;
        let lost = "delete from elem_wal where position = 3";
        execute(&mut element.1, lost).await;

        let command = accept(&world, "elem", &["--json"]);
        let mut command = command.stop_at("accept.compared", 1).start();
        command.frozen().await;
        let position = create(&mut element, &new_file("meanwhile")).await.unwrap();
        command.signal("-CONT").await;
        assert_eq!(command.ended().await.code(), Some(1), "{}", command.log());
        let shown: Value = serde_json::from_str(&command.output()).unwrap();
        assert_eq!(shown["lost"]["messages"], 1, "{shown}");
        assert_eq!(shown["sequence"], position, "{shown}");

        // The first look is without the lock, the second decides.
        let command = accept(&world, "elem", YES);
        let mut command = command.stop_at("accept.compared", 2).start();
        command.frozen().await;
        // Where it can't continue before it has heard.
        execute(&mut element.1, "begin; lock table elem_wal").await;
        command.signal("-INT").await;
        command.signal("-CONT").await;
        assert!(!command.ended().await.success());
        execute(&mut element.1, "rollback").await;
        let log = command.log();
        assert!(log.contains("stopped before anything was changed"), "{log}");
        assert_eq!(world.last_sequence(&source).await, 3, "no record");

        let (status, output) = accept(&world, "elem", YES).output().await;
        assert!(status.success(), "{output}");
        let relay = world.relay(0).start();
        eventually("the relay goes on", || async {
            let last = world.last_sequence(&source).await;
            (last >= 5).then_some(())
        })
        .await;
        let report = world.checked(&source, &mut element.1).await;
        assert!(report.is_clean(), "{report:?}");
        relay.kill().await;
    });
}

#[test]
fn a_file_whose_move_was_lost_is_found_hidden_and_shown_again() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let mut a = (world.elements[0].0.clone(), world.element(0).await);
        let mut b = (world.elements[1].0.clone(), world.element(1).await);
        let file = new_file("moved.pdf");
        create(&mut b, &file).await.unwrap();
        create(&mut a, &new_file("stays.pdf")).await.unwrap();
        execute(&mut b.1, "create table kept as select * from elem_b_files").await;
        // The move: there later, gone here.
        create(&mut a, &file).await.unwrap();
        delete(&mut b, file.id).await.unwrap();
        let relays = [world.relay(0).start(), world.relay(1).start()];
        let projector = world.projector().start();
        world.published(0).await;
        world.published(1).await;
        world.projected().await;
        let mut query = world.query().await;
        let shown = format!(
            "select coalesce(max(storage_element_id), 'nowhere') from file_metadata_cache \
             where id = '{}'",
            file.id
        );
        assert_eq!(value::<String>(&mut query, shown.as_str()).await, "elem_a");
        for relay in relays {
            relay.kill().await;
        }

        // Both are restored to before it.
        let id = file.id;
        let restore = format!(
            "delete from elem_a_wal where file_id = '{id}'; \
             delete from elem_a_files where file_id = '{id}'"
        );
        execute(&mut a.1, restore).await;
        let restore = "delete from elem_b_wal where position = 2; \
                       insert into elem_b_files select * from kept";
        execute(&mut b.1, restore).await;
        for name in ["elem_a", "elem_b"] {
            let (status, output) = accept(&world, name, YES).output().await;
            assert!(status.success(), "{output}");
        }
        world.applied().await;
        let (status, report) = verify(&world).await;
        assert_eq!(status, Some(1), "{report:#}");
        let findings = report["cache"]["findings"].as_array().unwrap();
        let [finding] = findings.as_slice() else {
            panic!("{report:#}");
        };
        assert_eq!(finding["id"], id.to_string(), "{finding}");
        let command = finding["repair"].as_str().unwrap();
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let (status, log) = world.command(&words).finish().await;
        assert!(status.success(), "{command}: {log}");
        // The repair is an event of the query module.
        let relay = world
            .command(&["run", "relay", "--source", "query"])
            .start();
        let (status, report) = verify(&world).await;
        assert_eq!(status, Some(0), "{report:#}");
        assert_eq!(value::<String>(&mut query, shown.as_str()).await, "elem_b");
        relay.kill().await;
        projector.kill().await;
    });
}

async fn verify(world: &World) -> (Option<i32>, Value) {
    let arguments = ["verify", "--wait", "20", "--json"];
    let (status, said) = world.command(&arguments).output().await;
    let report = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    (status.code(), report)
}
