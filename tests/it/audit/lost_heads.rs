//! The stream of heads was recreated, or lost some of them. That is found, the log continues, also where rows
//! were archived, and the heads in the database are published again.

use artstore_bus::stream_name::{AUDIT_HEADS, StreamName};
use artstore_projectors::audit_log::published;

use super::*;

/// The stream of heads, empty.
async fn anew(world: &World) {
    world
        .bus
        .jetstream
        .delete_stream(AUDIT_HEADS)
        .await
        .unwrap();
    world
        .bus
        .ensure(&StreamName::audit_heads(), 1)
        .await
        .unwrap();
}

/// Sizes of a stream's heads on the bus.
async fn sizes(world: &World, stream: &str) -> Vec<String> {
    let notes = published::all(&world.bus, stream).await.unwrap();
    let size = |note: &String| note.lines().nth(1).unwrap().to_owned();
    notes.iter().map(size).collect()
}

#[test]
fn heads_that_the_bus_lost_are_found_and_published_again_also_behind_an_archive() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = audited.projector().start();
        let mut query = world.query().await;
        execute(
            &mut query,
            "insert into event_outbox (event_id, entity, action, subject, data, actor, occurred_at)
             select gen_random_uuid(), 'thing', 'seen', n::text, '{}', '{}', '2015-01-01'::timestamptz + n * interval '1 minute'
             from generate_series(1, 600) as n",
        )
        .await;
        audited.caught_up_with(&Source::Query, 600).await;
        let stream = Source::Query.stream();
        let there = sizes(&world, &stream).await;
        assert!(
            there.contains(&"256".to_owned()) && there.contains(&"600".to_owned()),
            "{there:?}"
        );
        projector.kill().await;
        // A projector that runs has published what is older than a minute.
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "update audit_heads set signed_at = signed_at - interval '1 hour'",
        )
        .await;
        let missing = async |what: &str| {
            let verdict = audited.verify(&["--stream", "query"]).await;
            let said = verdict.0.to_string();
            assert!(
                verdict
                    .findings()
                    .iter()
                    .all(|found| found.0 == "head-missing"),
                "{said}"
            );
            assert!(said.contains(what), "{what}: {said}");
        };
        // Some of them are gone: the last one is there.
        let last = published::last(&world.bus, &stream)
            .await
            .unwrap()
            .note
            .unwrap();
        anew(&world).await;
        published::publish(&world.bus, &stream, 0, &last)
            .await
            .unwrap();
        missing("are in the database and are not on the bus, which has later ones").await;
        // There is no such stream.
        world
            .bus
            .jetstream
            .delete_stream(AUDIT_HEADS)
            .await
            .unwrap();
        missing("stream ARTSTORE_AUDIT_HEADS does not exist: run `artstore bus init`").await;
        world
            .bus
            .ensure(&StreamName::audit_heads(), 1)
            .await
            .unwrap();
        // All of them are.
        anew(&world).await;
        missing("publishes it again").await;
        let projector = audited.projector().start();
        audited.caught_up_with(&Source::Query, 600).await;
        assert_eq!(sizes(&world, &stream).await, there);
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);

        // The same where the first rows are in an archive.
        let to = folder("archived");
        let archive = ["audit", "archive", "--before", "2019-01-01", "--to"];
        let archive = audited.command(&archive).argument(to.to_str().unwrap());
        let (status, said) = archive.output().await;
        assert!(
            status.success() && said.contains("512 rows removed"),
            "{said}"
        );
        projector.kill().await;
        anew(&world).await;
        let projector = audited.projector().start();
        audited.caught_up_with(&Source::Query, 600).await;
        execute(
            &mut query,
            "insert into event_outbox (event_id, entity, action, data, actor)
             values (gen_random_uuid(), 'thing', 'seen', '{}', '{}')",
        )
        .await;
        audited.caught_up_with(&Source::Query, 601).await;
        let verdict = audited.verify(&["--archives", to.to_str().unwrap()]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
        projector.kill().await;
        relay.kill().await;
    });
}
