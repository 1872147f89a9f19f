//! Once a pause has returned, nothing is applied, wherever a worker was.

use crate::projector::parking::{caught_up, files, passed};
use crate::support::*;

fn pause(world: &World) -> Program {
    let words = ["projection", "pause", "query-cache", "--reason", "a test"];
    world.command(&words)
}

/// `status` reports that it is paused, once, and not as something that repairs itself.
async fn shown(world: &World) {
    eventually("the pause is shown", async || {
        let (status, said) = world.command(&["status"]).output().await;
        assert_eq!(status.code(), Some(1), "{said}");
        let told = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!told.contains("STUCK"), "{said}");
        let words = [
            " PAUSED for ",
            ": a test; nothing is applied meanwhile DO: resume it when the reason is gone: \
             artstore projection resume query-cache",
        ];
        let all = words.iter().all(|words| told.contains(words));
        (all && !told.contains("starts again")).then_some(())
    })
    .await;
}

/// What is published after the pause waits, until it is taken back.
async fn waits(world: &World) {
    let source = world.source(0);
    let before = checkpoint(&world.query_url, &source).await;
    files(world, 50).await;
    world.published(0).await;
    let name = "query-cache is paused";
    eventually(name, async || {
        let (_, said) = world.command(&["status", "--json"]).output().await;
        said.contains("to resume: artstore projection resume")
            .then_some(())
    })
    .await;
    assert_eq!(checkpoint(&world.query_url, &source).await, before);
    shown(world).await;
    // Whoever waits for a file gets the reason why it does not come.
    let search = ["search", "--at-least", "elem:1000000", "--timeout", "1"];
    let (status, log) = world.command(&search).finish().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("not visible after"), "{log}");
    assert!(
        log.contains(": a test; to resume: artstore projection resume query-cache"),
        "{log}"
    );
    let (status, said) = pause(world).output().await;
    assert!(status.success(), "{said}");
    assert!(said.contains("It was paused already"), "{said}");
    let resume = ["projection", "resume", "query-cache"];
    let (status, said) = world.command(&resume).output().await;
    assert!(status.success(), "{said}");
    // It takes up its work again: nobody is alarmed meanwhile.
    let (_, said) = world.command(&["status", "--json"]).output().await;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let troubles = said["troubles"].as_array().unwrap().iter();
    let mut about = troubles.filter_map(|trouble| trouble["about"].as_str());
    assert!(
        !about.any(|about| about.starts_with("query-cache")),
        "{said:#}"
    );
    passed(world).await;
}

/// It has the stream's lock, saw no pause, and reads its checkpoint after one.
#[test]
fn a_worker_that_was_elected_before_a_pause_sees_it_behind_its_checkpoint() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        files(&world, 50).await;
        passed(&world).await;
        projector.kill().await;
        let projector = world.projector().stop_at("projector.elected", 1).start();
        projector.frozen().await;
        let (status, said) = pause(&world).output().await;
        assert!(status.success(), "{said}");
        projector.signal("-CONT").await;
        waits(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// The first batch of a stream is in hand: the pause waits for it, and nothing follows it.
#[test]
fn a_pause_waits_for_the_first_batch_of_a_new_stream() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.relay(0).start();
        files(&world, 50).await;
        world.published(0).await;
        let projector = world.projector().stop_at("projector.advanced", 1).start();
        projector.frozen().await;
        let mut pausing = pause(&world).start();
        let waiting = "select count(*) from pg_locks where not granted \
             and relation = 'projection_checkpoints'::regclass";
        eventually("the pause waits", async || {
            let waiting: i64 = value(&mut world.query().await, waiting).await;
            (waiting > 0).then_some(())
        })
        .await;
        projector.signal("-CONT").await;
        assert!(pausing.ended().await.success(), "{}", pausing.log());
        assert!(checkpoint(&world.query_url, &world.source(0)).await > 0);
        waits(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

/// Nothing was applied yet: the pause is the projection's, not a checkpoint's.
#[test]
fn a_pause_before_the_first_event_is_shown() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (status, said) = pause(&world).output().await;
        assert!(status.success(), "{said}");
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        files(&world, 50).await;
        world.published(0).await;
        shown(&world).await;
        waits(&world).await;
        projector.kill().await;
        relay.kill().await;
    });
}

#[test]
fn a_paused_projection_commits_nothing_until_it_is_resumed() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        files(&world, 50).await;
        passed(&world).await;
        let pause = |reason: &str| {
            world
                .command(&["projection", "pause", "query-cache", "--reason"])
                .argument(reason)
        };
        let (status, said) = pause(" ").finish().await;
        assert!(
            status.code() == Some(2) && said.contains("say why"),
            "{said}"
        );
        let (status, said) = pause("a test").output().await;
        assert!(status.success() && said.contains(": a test"), "{said}");
        // From here on nothing is committed, also not by a projector that starts now.
        let before = checkpoint(&world.query_url, &world.source(0)).await;
        files(&world, 50).await;
        world.published(0).await;
        let other = world.projector().start();
        eventually("status reports it", async || {
            let (_, said) = world.command(&["status", "--json"]).output().await;
            said.contains("a test; to resume: artstore projection resume query-cache")
                .then_some(())
        })
        .await;
        assert_eq!(checkpoint(&world.query_url, &world.source(0)).await, before);
        let resume = || world.command(&["projection", "resume", "query-cache"]);
        let (status, said) = resume().output().await;
        assert!(status.success() && said.contains("goes on"), "{said}");
        passed(&world).await;
        let (status, said) = resume().output().await;
        assert!(
            status.success() && said.contains("was not paused"),
            "{said}"
        );
        let events: Vec<String> = sqlx::query_scalar(
            "select action from event_outbox where entity = 'projection' order by position",
        )
        .fetch_all(&mut world.query().await)
        .await
        .unwrap();
        assert_eq!(events, ["pause", "resume"]);
        caught_up(&world).await;
        for process in [relay, projector, other] {
            process.kill().await;
        }
    });
}
