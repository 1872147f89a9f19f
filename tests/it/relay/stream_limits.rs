//! A limit that somebody gives to a stream while everything runs: relay and projector notice it within
//! seconds, show the command that removes it, and report what it has removed.

use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_bus::streams::check_limits;
use artstore_projectors::audit_log::published;
use artstore_schemas::source::Source;
use serde_json::Value;

use crate::audit::Audited;
use crate::support::load::{create, new_file};
use crate::support::*;

async fn status(world: &World) -> (bool, Value) {
    let (status, said) = world.command(&["status", "--json"]).output().await;
    (status.success(), serde_json::from_str(&said).unwrap())
}

async fn well(world: &World) {
    eventually("all is well", async || {
        let (well, _) = status(world).await;
        well.then_some(())
    })
    .await;
}

#[test]
fn a_limit_set_while_all_runs_is_noticed_and_can_be_taken_away() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let stream = source.stream();
        let (relay, projector) = (
            world.command(&["run", "relay"]).start(),
            world.projector().start(),
        );
        let file = async || {
            let mut element = (world.elements[0].0.clone(), world.element(0).await);
            create(&mut element, &new_file("a.txt")).await.unwrap();
        };
        for _ in 0..40 {
            file().await;
        }
        world.published(0).await;
        world.projected().await;
        well(&world).await;
        let last = world.last_sequence(&source).await;

        // So high that nothing is removed yet.
        let mut config = world.bus.stream_info(&stream).await.unwrap().config;
        config.max_messages_per_subject = 1_000;
        world.bus.jetstream.update_stream(&config).await.unwrap();
        relay.says("the relay has halted").await;
        projector
            .says("limits (messages, bytes, per subject, age)")
            .await;
        let about = eventually("status names it, once", async || {
            let (well, said) = status(&world).await;
            let troubles = said["troubles"].as_array().unwrap().clone();
            (!well && troubles.len() == 1).then(|| troubles[0].clone())
        })
        .await;
        assert_eq!(about["about"], "elem", "{about}");
        assert_eq!(
            about["command"], "artstore bus init --remove-limits",
            "{about}"
        );
        // Each message might remove another one.
        file().await;
        let (stopped, said) = world.command(&["bus", "init"]).finish().await;
        assert!(
            !stopped.success() && said.contains("--remove-limits"),
            "{said}"
        );
        assert_eq!(world.last_sequence(&source).await, last);

        let (status_code, said) = world
            .command(&["bus", "init", "--remove-limits"])
            .output()
            .await;
        assert!(status_code.success(), "{said}");
        assert!(
            said.contains("limits removed") && !said.contains("missing"),
            "{said}"
        );
        let config = world.bus.stream_info(&stream).await.unwrap().config;
        check_limits(&config).unwrap();
        world.published(0).await;
        world.projected().await;
        well(&world).await;
        assert!(
            !projector.log().contains("starts again"),
            "{}",
            projector.log()
        );

        // Forty files in sixteen partitions: some subjects have more than one message.
        let before = world.bus.stream_info(&stream).await.unwrap();
        let mut config = before.config;
        config.max_messages_per_subject = 1;
        world.bus.jetstream.update_stream(&config).await.unwrap();
        let after = world.bus.stream_info(&stream).await.unwrap().state;
        let gone = before.state.messages - after.messages;
        assert!(gone > 0);
        let (_, said) = world
            .command(&["bus", "init", "--remove-limits"])
            .output()
            .await;
        assert!(
            said.contains(&format!("{gone} messages are missing")),
            "{said}"
        );
        let (verified, said) = world
            .command(&["verify", "--source", "elem"])
            .output()
            .await;
        assert_eq!(verified.code(), Some(1), "{said}");
        relay.kill().await;
        projector.kill().await;
    });
}

/// The stream of signed heads: its limit is shown once, by the projector of the audit log, which adds rows
/// all the same and publishes no head until the limit is gone.
#[test]
fn a_limit_of_the_stream_of_heads_is_noticed_and_can_be_taken_away() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let (relay, projector) = (
            world.command(&["run", "relay"]).start(),
            audited.projector().start(),
        );
        let stream = Source::Query.stream();
        let event = async || {
            execute(
                &mut world.query().await,
                "insert into event_outbox (event_id, entity, action, subject, data, actor, occurred_at) \
                 values (gen_random_uuid(), 'thing', 'seen', 'one', '{}', '{}', now())",
            )
            .await;
        };
        let signed = async |size: i64| {
            eventually("the rows are under a signed head", async || {
                let sql = format!(
                    "select coalesce(max(size), 0) from audit_heads where stream = '{stream}'"
                );
                let last: i64 = value(&mut world.admin().await, sql).await;
                (last >= size).then_some(())
            })
            .await;
        };
        let of_heads = async || {
            let (_, said) = status(&world).await;
            let troubles = said["troubles"].as_array().unwrap().clone();
            let named = |trouble: &Value| trouble["what"].as_str().unwrap().contains(AUDIT_HEADS);
            troubles.into_iter().filter(named).collect::<Vec<_>>()
        };
        event().await;
        audited.caught_up_with(&Source::Query, 1).await;
        assert_eq!(of_heads().await, Vec::<Value>::new());

        let mut config = world.bus.stream_info(AUDIT_HEADS).await.unwrap().config;
        config.max_messages_per_subject = 1;
        world.bus.jetstream.update_stream(&config).await.unwrap();
        projector
            .says("stream ARTSTORE_AUDIT_HEADS exists with limits")
            .await;
        let troubles = eventually("status names it", async || {
            Some(of_heads().await).filter(|troubles| !troubles.is_empty())
        })
        .await;
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        let (about, command) = (&troubles[0]["about"], &troubles[0]["command"]);
        assert_eq!(about, "audit-log", "{troubles:?}");
        assert_eq!(command, "artstore bus init --remove-limits", "{troubles:?}");
        for size in [2, 3] {
            event().await;
            signed(size).await;
        }
        let last = published::last(&world.bus, &stream).await.unwrap();
        let note = last.note.unwrap();
        assert_eq!(
            note.lines().nth(1),
            Some("1"),
            "no head took another's place"
        );

        let init = world.command(&["bus", "init", "--remove-limits"]);
        let (done, said) = init.output().await;
        assert!(done.success() && said.contains("limits removed"), "{said}");
        audited.caught_up_with(&Source::Query, 3).await;
        eventually("status names it no more", async || {
            of_heads().await.is_empty().then_some(())
        })
        .await;
        let notes = published::all(&world.bus, &stream).await.unwrap();
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(
            !projector.log().contains("starts again"),
            "{}",
            projector.log()
        );
        relay.kill().await;
        projector.kill().await;
    });
}
