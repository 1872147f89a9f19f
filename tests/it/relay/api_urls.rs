//! Where an element's API is reached is a fact of the element: whoever publishes states it, however it was
//! started, and what was published before it changed is found and published again.

use artstore_schemas::source::Source;
use serde_json::Value;
use sqlx::PgConnection;

use crate::support::load::{create, new_file};
use crate::support::*;
use crate::verify::cache;
use crate::verify::{all, replace};

const VARIABLE: &str = "ARTSTORE_ELEMENT_API_URLS";

const UP: [&str; 6] = ["migrate", "up", "--module", "storage", "--element", "elem"];

/// The cache's rows of the element's files.
async fn shown(query: &mut PgConnection) -> Vec<Option<String>> {
    sqlx::query_scalar("select distinct storage_element_url from file_metadata_cache order by 1")
        .fetch_all(query)
        .await
        .unwrap()
}

async fn succeeds(program: Program) -> String {
    let (status, said) = program.finish().await;
    assert!(status.success(), "{said}");
    said
}

/// A file that no operation reports: a backfill publishes it.
async fn stray(element: &mut PgConnection) {
    execute(
        element,
        "insert into elem_files (file_id, original_filename, storage_filename, file_size, content_type, \
             created_by_id, created_by_username, storage_path, checksum) \
         select id, 'stray', id::text, 1, 'text/plain', '1', 'u', '/', repeat('a', 64) \
         from (select gen_random_uuid() as id) as made",
    )
    .await;
}

async fn body(world: &World, source: &Source, sequence: u64) -> Value {
    let stream = world.bus.jetstream.get_stream(source.stream()).await;
    let message = stream.unwrap().get_raw_message(sequence).await.unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

#[test]
fn whoever_publishes_says_the_elements_own_url() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let name = world.elements[0].0.clone();
        let mut element = (name, world.element(0).await);
        let mut query = world.query().await;
        let relay = world
            .relay(0)
            .env(VARIABLE, "elem=http://a.example")
            .start();
        let projector = world.projector().start();
        let backfill = ["element", "backfill", "elem"];
        let some = |url: &str| vec![Some(url.to_owned())];

        // Nobody has stored one: what the stream states last is not taken back.
        create(&mut element, &new_file("one")).await.unwrap();
        world.published(0).await;
        stray(&mut element.1).await;
        succeeds(world.command(&backfill)).await;
        world.projected().await;
        assert_eq!(shown(&mut query).await, some("http://a.example"));
        cache::clean(&world).await;

        // Stored: the relay states it from its next poll on, whatever its settings are.
        let (_, said) = world
            .command(&["element", "set-url", "elem", "http://b.example"])
            .output()
            .await;
        assert!(said.contains("artstore element backfill elem"), "{said}");
        create(&mut element, &new_file("two")).await.unwrap();
        world.published(0).await;
        world.projected().await;
        let both = ["http://a.example", "http://b.example"].map(|url| Some(url.to_owned()));
        assert_eq!(shown(&mut query).await, both);
        let report = cache::verify(&world).await;
        let [finding] = report.findings.as_slice() else {
            panic!("{:#?}", report.findings);
        };
        assert!(
            finding.detail.contains("of 2 rows, http://a.example"),
            "{finding:?}"
        );
        cache::repair(&world, &report.findings).await;
        world.projected().await;
        assert_eq!(shown(&mut query).await, some("http://b.example"));
        cache::clean(&world).await;
        let before = world.last_sequence(&source).await;
        succeeds(world.command(&backfill)).await;
        assert_eq!(
            world.last_sequence(&source).await,
            before,
            "nothing is left to publish"
        );
        let set = world.command(&["element", "set-url", "elem", "http://b.example", "--json"]);
        let (_, said) = set.output().await;
        assert_eq!(
            serde_json::from_str::<Value>(&said).unwrap()["changed"],
            false
        );

        // `migrate up`, which runs with each start, takes back nothing, and says how to change it.
        let set = ["element", "set-url", "elem", "http://c.example"];
        succeeds(world.command(&set)).await;
        let said = succeeds(world.command(&UP).env(VARIABLE, "elem=http://b.example")).await;
        assert!(said.contains("events say http://c.example"), "{said}");
        let advice = "artstore element set-url elem http://b.example";
        assert!(said.contains(advice), "{said}");
        for program in [
            world.command(&UP),
            world.command(&UP).env(VARIABLE, "elem=http://c.example"),
        ] {
            let said = succeeds(program).await;
            assert!(!said.contains("elem: events say"), "{said}");
        }
        succeeds(world.command(&backfill)).await;
        world.projected().await;
        assert_eq!(shown(&mut query).await, some("http://c.example"));
        relay.kill().await;

        // A message that is lost is published again as the element states.
        let mut messages = all(&world.bus, &source).await;
        messages.remove(0);
        replace(&world, &source, &messages).await;
        let republish = [
            "relay",
            "republish",
            "--source",
            "elem",
            "--yes",
            "--reason",
            "lost",
        ];
        succeeds(world.command(&republish)).await;
        let last = world.last_sequence(&source).await;
        assert!(last > messages.len() as u64);
        for sequence in messages.len() as u64 + 1..=last {
            let body = body(&world, &source, sequence).await;
            assert_eq!(body["element"]["api_url"], "http://c.example", "{body}");
        }
        projector.kill().await;

        // None is a fact as well.
        succeeds(world.command(&["element", "set-url", "elem", "--none"])).await;
        let said = succeeds(world.command(&UP).env(VARIABLE, "elem=http://d.example")).await;
        assert!(said.contains("events say no URL"), "{said}");
        succeeds(
            world
                .command(&backfill)
                .env(VARIABLE, "elem=http://d.example"),
        )
        .await;
        let last = world.last_sequence(&source).await;
        assert_eq!(
            body(&world, &source, last).await["element"]["api_url"],
            Value::Null
        );
        for odd in ["elem-01:8010", "ftp://a", "http://a b"] {
            let set = world.command(&["element", "set-url", "elem", odd]);
            let (status, said) = set.finish().await;
            assert_eq!(status.code(), Some(2), "{said}");
        }
    });
}

/// An operator's commands that publish in the relay's place, after the URL was stored again, and where their
/// own settings and the stream state another one.
#[test]
fn a_new_epoch_and_a_backfill_say_the_stored_url() {
    run(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let name = world.elements[0].0.clone();
        let mut element = (name, world.element(0).await);
        let mut query = world.query().await;
        let relay = world.relay(0).env(VARIABLE, "elem=http://a.example");
        let relay = relay.start();
        let projector = world.projector().start();
        let files = [new_file("kept"), new_file("changed"), new_file("lost")];
        for file in &files {
            create(&mut element, file).await.unwrap();
        }
        world.published(0).await;
        world.projected().await;
        relay.kill().await;
        // While nothing is stored, `migrate up` stores what its settings state.
        let said = succeeds(world.command(&UP).env(VARIABLE, "elem=http://b.example")).await;
        assert!(said.contains("events say http://b.example"), "{said}");

        // What a restored backup lacks: the last file, and a change of the one before.
        let [_, changed, lost] = files.map(|file| file.id);
        execute(
            &mut element.1,
            format!(
                "delete from elem_wal where file_id = '{lost}'; \
                 delete from elem_files where file_id = '{lost}'; \
                 update elem_files set description = 'as it was' where file_id = '{changed}'"
            ),
        )
        .await;
        let stored = async |program: Program| {
            let before = world.last_sequence(&source).await;
            succeeds(program.env(VARIABLE, "elem=http://d.example")).await;
            let mut files = Vec::new();
            for sequence in before + 1..=world.last_sequence(&source).await {
                let body = body(&world, &source, sequence).await;
                // A record speaks of no element.
                if let Some(element) = body.get("element") {
                    assert_eq!(element["api_url"], "http://b.example", "{body}");
                    let file = &body["file"]["id"];
                    files.extend(file.as_str().map(str::to_owned));
                }
            }
            files
        };
        let accept = ["relay", "accept-source", "--source", "elem", "--yes"];
        let accept = world.command(&accept).argument("--reason=a backup");
        let said = stored(accept).await;
        assert!(said.contains(&changed.to_string()), "{said:?}");
        world.projected().await;

        stray(&mut element.1).await;
        let said = stored(world.command(&["element", "backfill", "elem"])).await;
        assert!(!said.is_empty(), "the stray file is published");
        world.projected().await;
        let b = Some("http://b.example".to_owned());
        assert_eq!(shown(&mut query).await, [b]);
        cache::clean(&world).await;
        let report = world.checked(&source, &mut element.1).await;
        assert!(report.is_clean(), "{report:?}");
        projector.kill().await;
    });
}
