//! What services report: that they are stuck, that they have halted, and every number.

use super::watched::Watched;
use super::*;

#[test]
fn a_stuck_projector_is_not_ready_until_it_goes_on_and_numbers_agree() {
    run(async {
        let world = World::new(&["elem_a", "elem_b"]).await;
        let (a, b) = (world.source(0), world.source(1));
        let limit = "--ready-lag-seconds";
        let relay = Watched::start(world.command(&["run", "relay", limit, "3"])).await;
        let projector = Watched::start(world.command(&["run", "projector", limit, "3"])).await;
        for service in [&relay, &projector] {
            service.becomes_ready().await;
            assert!(service.live().await);
            let (status, said) = service.get("/").await;
            assert!(status == 404 && said.contains("/metrics"), "{said}");
        }
        for _ in 0..5 {
            file(&world, 0).await;
        }
        // Numbers that no row will ever have, below one that a row has.
        let mut element = world.element(0).await;
        execute(
            &mut element,
            "begin; insert into elem_a_wal (transaction_id, operation_type, status, operation_data) \
             select gen_random_uuid(), 'cache_rebuild', 'committed', '{}' \
             from generate_series(1, 3); rollback",
        )
        .await;
        file(&world, 0).await;
        world.published(0).await;
        world.projected().await;

        // Everything that is shown, against the database and the stream.
        let last = world.messages(&a).await.pop().unwrap();
        let sequence = world.last_sequence(&a).await as f64;
        let shown = eventually("the aborted positions are settled", || async {
            let shown = relay.scrape().await;
            (shown.of("relay_gap_positions", &a) == 0.0).then_some(shown)
        })
        .await;
        for (metric, expected) in [
            ("active", 1.0),
            ("standby", 0.0),
            ("halted", 0.0),
            ("stream_up", 1.0),
            ("position", last.position.unwrap() as f64),
            ("high_water_mark", last.high_water_mark as f64),
            ("aborted_positions_total", 3.0),
            ("stream_sequence", sequence),
            ("published_total", sequence),
            ("lag_up", 1.0),
            ("lag_events", 0.0),
        ] {
            assert_eq!(
                shown.of(&format!("relay_{metric}"), &a),
                expected,
                "{metric}"
            );
        }
        assert!(shown.of("relay_lag_seconds", &a) < 3.0);
        assert_eq!(
            shown.get("relay_position", &b),
            None,
            "nothing was published"
        );
        let shown = eventually("the last event is measured", || async {
            let shown = projector.scrape().await;
            (shown.of("projector_stream_sequence", &a) == sequence
                && shown.of("projector_lag_events", &a) == 0.0)
                .then_some(shown)
        })
        .await;
        let place = checkpoint(&world.query_url, &a).await as f64;
        for (metric, expected) in [
            ("active", 1.0),
            ("halted", 0.0),
            ("checkpoint_sequence", place),
            ("applied_total", sequence),
            ("lag_up", 1.0),
        ] {
            assert_eq!(
                shown.of(&format!("projector_{metric}"), &a),
                expected,
                "{metric}"
            );
        }
        let batches = shown.of("projector_batches_total", &a);
        assert!(batches >= 1.0);
        assert_eq!(shown.of("projector_commit_seconds", &a), batches);
        assert_eq!(shown.sum("projector_database_writable"), 1.0);

        // Stuck: a table that it writes is locked.
        let mut query = world.query().await;
        execute(&mut query, "begin; lock table file_metadata_cache").await;
        file(&world, 0).await;
        projector.becomes_unready("behind").await;
        let stuck = projector.scrape().await;
        assert_eq!(stuck.of("projector_lag_events", &a), 1.0);
        assert!(stuck.of("projector_lag_seconds", &a) >= 3.0);
        assert!(projector.live().await, "it is stuck, not dead");
        let (_, said) = projector.readiness().await;
        let ready = |element: usize| said["parts"][element]["ready"].as_bool().unwrap();
        assert!(!ready(0) && ready(1), "only this stream: {said}");
        execute(&mut query, "rollback").await;
        projector.becomes_ready().await;
        world.projected().await;

        // A source that does not answer: its table is locked.
        execute(&mut element, "begin; lock table elem_a_wal").await;
        relay.becomes_unready("has not answered a poll").await;
        let stuck = relay.scrape().await;
        assert!(stuck.of("relay_lag_events", &a).is_nan() && stuck.of("relay_lag_up", &a) == 0.0);
        assert!(stuck.of("relay_lag_seconds", &a) > 4.0);
        assert!(stuck.of("relay_poll_age_seconds", &a) > 4.0);
        execute(&mut element, "rollback").await;
        relay.becomes_ready().await;
        relay.process.kill().await;
        projector.process.kill().await;
    });
}

/// Every metric that is shown is in the table of docs/metrics.md with its type, and no other.
#[test]
fn the_documents_name_every_metric() {
    run(async {
        let world = World::new(&["elem"]).await;
        // Beside the relay the check runs as well, which has metrics of its own.
        let relay = Watched::start(world.relay(0).argument("--verify")).await;
        let projector = Watched::start(world.projector().env("LOG_FORMAT", "json")).await;
        let mut shown = std::collections::BTreeSet::new();
        for service in [&relay, &projector] {
            service.becomes_ready().await;
            let (_, text) = service.get("/metrics").await;
            for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
                let (name, kind) = line.split_once(' ').unwrap();
                shown.insert(format!("| `{name}` | {kind} |"));
            }
        }
        let documents = include_str!("../../../docs/metrics.md");
        let documented = documents.lines().filter_map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            let kind = cells.get(2)?.trim();
            let known = ["gauge", "counter", "histogram"].contains(&kind);
            known.then(|| format!("|{}|{}|", cells[1], cells[2]))
        });
        assert_eq!(shown, documented.collect());

        // Each line is an object of its own, and says whose it is.
        let log = projector.process.log();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<serde_json::Value> = lines.collect();
        let stream = world.source(0).stream();
        let of_worker = |line: &&serde_json::Value| {
            line["message"] == "active" && line["span"]["stream"] == stream.as_str()
        };
        assert_eq!(lines.iter().filter(of_worker).count(), 1, "{log}");
        relay.process.kill().await;
        projector.process.kill().await;
    });
}

/// Something else writes into the stream: both halt, report why, stay alive, and say so at their end.
#[test]
fn a_halt_is_shown_with_its_reason() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let mut relay = Watched::start(world.relay(0)).await;
        let mut projector = Watched::start(world.projector()).await;
        file(&world, 0).await;
        world.published(0).await;
        for service in [&relay, &projector] {
            service.becomes_ready().await;
        }
        let subject = format!("{}.p00.file.created", source.subject_prefix());
        let foreign = world.bus.jetstream.publish(subject, "{}".into()).await;
        foreign.unwrap().await.unwrap();
        // The relay sees it with its next message.
        file(&world, 0).await;
        for (service, role) in [(&mut relay, "relay"), (&mut projector, "projector")] {
            service.becomes_unready("halted: ").await;
            assert!(service.live().await);
            let shown = service.scrape().await;
            assert_eq!(shown.of(&format!("{role}_halted"), &source), 1.0);
            assert!(shown.of(&format!("{role}_lag_events"), &source) != 0.0);
            assert!(shown.of(&format!("{role}_retries_total"), &source) >= 1.0);
            service.process.signal("-TERM").await;
            ends(&mut service.process, 1).await;
        }
    });
}
