//! Streams that were lost are restored, and relay, projectors and checks go on.

use artstore_bus::bus_error::BusError;
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_stack::{Stack, StackOptions};

use super::*;
use crate::audit::Audited;
use crate::followed_advice::follow_with;
use crate::retention::prune::{agrees, files, prune, world};
use crate::verify::all;

#[test]
fn a_bus_that_was_lost_is_restored_and_everything_goes_on() {
    run(async {
        let (world, mut element) = world().await;
        let audited = Audited::new(&world).await;
        let mut services = vec![
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
            audited.projector().start(),
        ];
        agrees(&world).await;
        audited.caught_up().await;

        let (to, manifest) = backed_up(&world, &[]).await;
        let names: Vec<&str> = manifest.streams.iter().map(|b| b.stream.as_str()).collect();
        // No head covers messages that the backup lacks.
        assert_eq!(
            names,
            [
                AUDIT_HEADS,
                "ARTSTORE_WAL_elem",
                "ARTSTORE_ADMIN",
                "ARTSTORE_QUERY"
            ]
        );
        let of_element = &manifest.streams[1];
        assert_eq!(
            (
                of_element.first_sequence,
                of_element.last_sequence,
                of_element.covers()
            ),
            (1, 3_500, 3_500)
        );
        let info = world.bus.stream_info("ARTSTORE_WAL_elem").await.unwrap();
        assert_eq!(of_element.created, info.created);
        let told = all(&world.bus, &world.source(0)).await;
        let last = told[3_499].headers.get("ce-id").unwrap().to_string();
        let event_id = of_element.last_message.as_ref().unwrap().event_id;
        assert_eq!(event_id.unwrap().to_string(), last);

        let folder = text(&to).to_owned();
        let (code, report) = prune(&world, &["--yes", "--backed-up-in", &folder]).await;
        assert_eq!(
            (code, &report["removed"]),
            (Some(0), &2_000.into()),
            "{report}"
        );
        // What the backup does not have is in the source still.
        files(&mut element, 10, 0).await;
        published(&world, 3_512).await;
        world.projected().await;
        audited.caught_up().await;

        lose(&world).await;
        let report = restore_all(&world, &to).await;
        for stream in report["streams"].as_array().unwrap() {
            assert_eq!(
                (&stream["created_kept"], &stream["flaws"]),
                (&true.into(), &0.into()),
                "{report}"
            );
        }
        let done = follow_with(|words| audited.command(words), "restored", &mut services).await;
        println!("done after the restore: {done:?}");
        published(&world, 3_512).await;
        agrees(&world).await;
        world.projected().await;
        audited.caught_up().await;
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        // Each once, in its place.
        let told = world.messages(&world.source(0)).await;
        let mut positions: Vec<i64> = told.iter().filter_map(|told| told.position).collect();
        positions.sort_unstable();
        assert_eq!(positions, (1..=3_512).collect::<Vec<_>>());
        for service in services {
            service.kill().await;
        }
    });
}

/// What was pruned beyond the backup is lost with the stream. The command that the relay names ends well,
/// with files as they are now.
#[test]
fn what_was_pruned_beyond_the_backup_halts_the_relay_until_that_is_accepted() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = world.element(0).await;
        let audited = Audited::new(&world).await;
        let mut services = vec![
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
        ];
        files(&mut element, 500, 100).await;
        published(&world, 500).await;
        let (to, _) = backed_up(&world, &[]).await;
        files(&mut element, 2_500, 100).await;
        agrees(&world).await;
        let (code, report) = prune(&world, &["--yes"]).await;
        assert_eq!(
            (code, &report["removed"]),
            (Some(0), &2_000.into()),
            "{report}"
        );
        published(&world, 3_002).await;
        world.projected().await;

        lose(&world).await;
        restore_all(&world, &to).await;
        services[0].says("pruned up to position 2000").await;
        services[0]
            .says("artstore relay accept-source --source elem")
            .await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 500);
        let done = follow_with(|words| audited.command(words), "beyond", &mut services).await;
        let accept = "artstore relay accept-source --source elem".to_owned();
        assert!(done.contains(&accept), "{done:?}");
        println!("done after the restore: {done:?}");
        agrees(&world).await;
        world.projected().await;
        let held: i64 = value(&mut element, "select count(*) from elem_files").await;
        let cached: i64 = value(
            &mut world.query().await,
            "select count(*) from file_metadata_cache",
        )
        .await;
        assert_eq!((held, cached), (3_000, 3_000));
        for service in services {
            service.kill().await;
        }
    });
}

/// The server marks removed messages in its index, which a backup leaves out.
#[test]
fn a_stream_that_a_limit_has_cut_is_restored_with_what_comes_back() {
    run(async {
        let world = World::new(&["elem"]).await;
        heads(&world.bus, 20).await;
        let info = async || world.bus.stream_info(AUDIT_HEADS).await.unwrap();
        let config = info().await.config;
        let mut limited = config.clone();
        limited.max_messages_per_subject = 5;
        world.bus.jetstream.update_stream(limited).await.unwrap();
        eventually("the limit has removed some", async || {
            (info().await.state.messages == 5).then_some(())
        })
        .await;
        world.bus.jetstream.update_stream(config).await.unwrap();
        let to = place();
        let mut process = backup(&world, &to, &[]).start();
        let status = process.ended().await;
        assert!(status.success(), "{}", process.log());
        let manifest: Manifest = serde_json::from_str(&process.output()).unwrap();
        assert!(
            process
                .log()
                .contains("ARTSTORE_AUDIT_HEADS had lost 15 messages before this backup"),
            "{}",
            process.log()
        );
        assert_eq!(
            (
                manifest.streams[0].first_sequence,
                manifest.streams[0].last_sequence
            ),
            (16, 20)
        );
        let deleted = world.bus.jetstream.delete_stream(AUDIT_HEADS).await;
        deleted.unwrap();
        let mut process = restored(&world, &to, &["--stream", AUDIT_HEADS]).start();
        let status = process.ended().await;
        assert!(status.success(), "{}", process.log());
        let report: Value = serde_json::from_str(&process.output()).unwrap();
        let state = info().await.state;
        assert!(state.messages > 5, "{state:?}");
        assert_eq!(
            report["streams"][0]["returned"],
            state.messages - 5,
            "{report}"
        );
    });
}

/// The server's folder is lost, and the streams had three replicas.
#[test]
fn replicated_streams_are_restored_onto_a_cluster_that_has_lost_them() {
    run_waiting(async {
        let stack = Stack::start(StackOptions {
            nats_nodes: 3,
            ..StackOptions::default()
        })
        .await
        .unwrap();
        let world = World::on(&stack, 0, &["elem"], 3).await;
        let audited = Audited::new(&world).await;
        let mut element = world.element(0).await;
        files(&mut element, 3_000, 1).await;
        let mut services = vec![
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
        ];
        published(&world, 3_000).await;
        world.projected().await;
        let (to, manifest) = backed_up(&world, &[]).await;
        lose(&world).await;
        cut_off(&world, &to).await;
        // Some servers keep its name, and then the error states what to do.
        let (status, log) = restored(&world, &to, &["--stream", "elem"]).finish().await;
        if !status.success() {
            assert!(log.contains("nats stream rm ARTSTORE_WAL_elem"), "{log}");
            println!("{log}");
        }
        world
            .bus
            .jetstream
            .delete_stream("ARTSTORE_WAL_elem")
            .await
            .unwrap();
        let report = restore_all(&world, &to).await;
        println!("{report:#}");
        for backup in &manifest.streams {
            let info = world.bus.stream_info(&backup.stream).await.unwrap();
            assert_eq!(info.config.num_replicas, 3, "{}", backup.stream);
        }
        files(&mut element, 10, 0).await;
        let done = follow_with(|words| audited.command(words), "replicated", &mut services).await;
        println!("done after the restore: {done:?}");
        published(&world, 3_010).await;
        agrees(&world).await;
        world.projected().await;
        for service in services {
            service.kill().await;
        }
        drop(world);
        stack.stop().await.unwrap();
    });
}

/// Everything below JetStream's folder is gone, and the server starts with nothing.
#[test]
fn a_server_that_lost_its_disk_gets_its_streams_back() {
    run(async {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let world = World::on(&stack, 0, &["elem"], 1).await;
        let mut element = world.element(0).await;
        files(&mut element, 300, 1).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        published(&world, 300).await;
        world.projected().await;
        let (to, _) = backed_up(&world, &[]).await;
        stack.kill_nats(0).await.unwrap();
        std::fs::remove_dir_all(stack.directory().join("nats/0/store")).unwrap();
        stack.start_nats(0).await.unwrap();
        eventually("the server has no streams", || async {
            let stream = world.bus.stream_info("ARTSTORE_WAL_elem").await;
            matches!(stream, Err(BusError::NoStream(_))).then_some(())
        })
        .await;
        restore_all(&world, &to).await;
        files(&mut element, 10, 0).await;
        published(&world, 310).await;
        agrees(&world).await;
        world.projected().await;
        relay.kill().await;
        projector.kill().await;
        drop(world);
        stack.stop().await.unwrap();
    });
}
