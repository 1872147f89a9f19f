//! Databases without the right tables, and what one source that can't be started does to the others.

use artstore_migrations::Module;
use artstore_schemas::element::ElementName;

use super::*;
use crate::support::*;

#[test]
fn databases_without_the_right_tables_are_refused() {
    run(async {
        let world = tempting().await;
        let (element, query) = (world.elements[0].1.clone(), world.query_url.clone());
        let empty = database("empty").await;
        let initial = database("initial").await;
        let name: ElementName = "elem".parse().unwrap();
        let module = Module::Storage(name);
        artstore_migrations::up(&mut pg(&initial).await, &module, Some(1))
            .await
            .unwrap();
        finished_rows(&mut pg(&initial).await, 1).await;
        let before = Unchanged::of(&world, &[&empty, &initial]).await;
        let relay = |url: &str| {
            world
                .relay(0)
                .env("ARTSTORE_ELEMENTS", &format!("elem={url}"))
        };
        let projector = |url: &str| world.projector().env("QUERY_DATABASE_URL", url);
        let migrate = "artstore migrate up";

        refused(
            relay(&empty),
            1,
            &["elem_wal", "has no table", &name_of(&empty), migrate],
        )
        .await;
        refused(
            projector(&empty),
            1,
            &["file_metadata_cache", &name_of(&empty), migrate],
        )
        .await;
        // As the product made it: rows without positions.
        refused(
            relay(&initial),
            1,
            &["elem_wal", "position trigger is missing", migrate],
        )
        .await;

        let wrong = name_of(&query);
        refused(
            relay(&query),
            1,
            &["elem_wal", "has no table", &wrong, "ARTSTORE_ELEMENTS"],
        )
        .await;
        let wrong = name_of(&element);
        refused(
            projector(&element),
            1,
            &["file_metadata_cache", &wrong, "QUERY_DATABASE_URL"],
        )
        .await;
        let outbox = world
            .command(&["run", "relay", "--source", "query"])
            .env("QUERY_DATABASE_URL", &element);
        refused(
            outbox,
            1,
            &["source query", "event_outbox", "has no table", &wrong],
        )
        .await;
        let mixed_up = Program::new(&["migrate", "up"]).env("QUERY_DATABASE_URL", &element);
        refused(
            mixed_up,
            1,
            &[&wrong, "a storage element's", "QUERY_DATABASE_URL"],
        )
        .await;
        let mixed_up =
            Program::new(&["migrate", "up"]).env("ARTSTORE_ELEMENTS", &format!("elem={query}"));
        refused(
            mixed_up,
            1,
            &[
                &name_of(&query),
                "the query module's",
                "nothing was changed",
            ],
        )
        .await;
        before.check(&world).await;
    });
}

/// The right source waits until the wrong one is known to be wrong.
#[test]
fn one_source_that_cannot_be_started_keeps_all_others_from_starting() {
    run(async {
        let world = tempting().await;
        let before = Unchanged::of(&world, &[]).await;
        // Takes connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = silent.local_addr().unwrap().to_string();
        let elements = format!(
            "elem={},other=postgres://artstore:{SECRET}@{place}/artstore",
            world.elements[0].1
        );
        let relay = world
            .command(&["run", "relay"])
            .env("ARTSTORE_ELEMENTS", &elements)
            .env("ARTSTORE_WAIT_SECONDS", "0");
        refused(relay, 1, &["source other", &place]).await;
        before.check(&world).await;
    });
}
