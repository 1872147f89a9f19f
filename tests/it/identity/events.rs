//! Whose event it is, from the command or the row to the message and the audit row.

use artstore_schemas::actor::{ActorType, Identity};
use artstore_schemas::event::{self, Event};
use artstore_schemas::source::Source;
use serde_json::{Value, json};

use super::{file, keys, signed, text};
use crate::support::signed::user;
use crate::support::{World, eventually, execute, run, value};

/// The actors of a source's messages.
async fn actors(world: &World, source: &Source, count: u64) -> Vec<Value> {
    eventually(&format!("{source} has {count} messages"), async || {
        (world.last_sequence(source).await >= count).then_some(())
    })
    .await;
    let mut actors = Vec::new();
    for sequence in 1..=count {
        let message = world.bus.message_at(&source.stream(), sequence).await;
        let message = message.unwrap().unwrap();
        let envelope = message.envelope().unwrap();
        let event = event::decode(source, &envelope.event_type, &message.body).unwrap();
        actors.push(match event {
            Event::Wal(event) => json!(event.actor),
            Event::Outbox(event) => json!(event.actor),
        });
    }
    actors
}

#[test]
fn an_event_says_whether_its_actor_is_verified() {
    run(async {
        let world = World::new(&["one"]).await;
        let folder = keys();
        let token = file("admin", &signed(&user(json!({"jti": "t-9"}))));
        let with_token = |arguments: &[&str]| {
            world
                .command(arguments)
                .env("AUTH_PUBLIC_KEY_PATH", text(&folder))
                .argument("--token-file")
                .argument(text(&token))
        };
        let pause = ["projection", "pause", "query-cache", "--reason", "x"];
        let (status, log) = with_token(&pause).finish().await;
        assert!(status.success(), "{log}");
        let resume = world.command(&["projection", "resume", "query-cache"]);
        let (status, log) = resume.finish().await;
        assert!(status.success(), "{log}");
        let (status, log) = with_token(&["search", "x"]).finish().await;
        assert!(status.success(), "{log}");
        let by_sql = "insert into event_outbox (event_id, entity, action, data, actor) values \
             (gen_random_uuid(), 'user', 'created', '{}', '{\"type\": \"user\", \"id\": \"3\"}'), \
             (gen_random_uuid(), 'user', 'created', '{}', '{\"type\": \"system\"}')";
        execute(&mut world.query().await, by_sql).await;
        execute(
            &mut world.element(0).await,
            "insert into one_wal (transaction_id, operation_type, status, operation_data, user_id, started_at) \
             values (gen_random_uuid(), 'mode_change', 'committed', '{}', '7', now())",
        )
        .await;
        let relay = world.command(&["run", "relay"]).start();
        let of_query = actors(&world, &Source::Query, 5).await;
        let identities: Vec<&str> = of_query
            .iter()
            .map(|actor| actor["identity"].as_str().unwrap())
            .collect();
        let expected = ["verified", "claimed", "verified", "claimed", "system"];
        assert_eq!(identities, expected);
        let admin = &of_query[0];
        assert_eq!(admin["type"], json!(ActorType::User));
        assert_eq!(
            (&admin["id"], &admin["name"], &admin["role"]),
            (&json!("7"), &json!("ann"), &json!("admin"))
        );
        assert_eq!(
            (&admin["token_id"], &admin["key_id"]),
            (&json!("t-9"), &json!("main"))
        );
        let of_element = actors(&world, &world.source(0), 1).await;
        assert_eq!(of_element[0]["identity"], json!(Identity::Claimed));
        drop(relay);

        // The command's own facts name the same person.
        let named: String = value(
            &mut world.query().await,
            "select data -> 'operator' ->> 'name' from event_outbox where action = 'pause'",
        )
        .await;
        assert_eq!(named, "ann");
    });
}

/// A row's own word about the role does not count, and a finished row keeps the one that finished it.
#[test]
fn the_role_that_wrote_a_row_is_in_its_event_whatever_the_row_says() {
    run(async {
        let world = World::new(&["one"]).await;
        let (mut query, mut element) = (world.query().await, world.element(0).await);
        let owner: String = value(&mut query, "select session_user::text").await;
        execute(&mut query, "create role identity_writer").await;
        execute(
            &mut query,
            "grant select, insert on event_outbox to identity_writer;
             set session authorization identity_writer;
             insert into event_outbox (event_id, entity, action, data, actor, database_role) values
                 (gen_random_uuid(), 'jwt-key', 'rotated', '{}',
                  '{\"type\": \"user\", \"identity\": \"verified\", \"database_role\": \"postgres\"}', 'postgres');
             reset session authorization",
        )
        .await;
        let begun = "insert into one_wal (transaction_id, operation_type, status, operation_data, user_id, \
             started_at) values (gen_random_uuid(), 'mode_change', 'pending', '{}', '7', now())";
        execute(&mut element, begun).await;
        execute(
            &mut element,
            "grant select, insert, update on one_wal to identity_writer;
             set session authorization identity_writer;
             update one_wal set status = 'committed';
             reset session authorization;
             set role identity_writer;",
        )
        .await;
        // A role that was only taken is not the one that logged in.
        execute(&mut element, begun.replace("pending", "committed")).await;
        execute(
            &mut element,
            "reset role; update one_wal set database_role = 'postgres', status = status",
        )
        .await;
        let relay = world.command(&["run", "relay"]).start();
        let of_query = actors(&world, &Source::Query, 1).await;
        assert_eq!(of_query[0]["identity"], "verified");
        assert_eq!(of_query[0]["database_role"], "identity_writer");
        let of_element = actors(&world, &world.source(0), 2).await;
        assert_eq!(of_element[0]["database_role"], "identity_writer");
        assert_eq!(of_element[1]["database_role"], owner.as_str());
        drop(relay);
    });
}

/// What is done to an element has its operator in the admin module's outbox, once it is done.
#[test]
fn a_command_on_an_element_is_an_event_of_its_operator() {
    run(async {
        let world = World::new(&["one"]).await;
        let folder = keys();
        let token = file("admin", &signed(&user(json!({}))));
        for arguments in [
            &["element", "set-url", "one", "http://one:8010"][..],
            &["wal", "number", "--source", "one", "--yes"],
            &["wal", "number", "--source", "query", "--yes"],
            &["wal", "number", "--source", "one"],
            &["element", "backfill", "one"],
        ] {
            let command = world
                .command(arguments)
                .env("AUTH_PUBLIC_KEY_PATH", text(&folder))
                .argument("--token-file")
                .argument(text(&token));
            let (status, log) = command.finish().await;
            assert!(status.success(), "{arguments:?}: {log}");
        }
        let events = "select json_agg(jsonb_build_array(entity || '.' || action, subject, actor, data) \
             order by position) from event_outbox";
        let events: Value = value(&mut world.admin().await, events).await;
        let said = |event: &Value| (event[0].clone(), event[1].clone());
        let events = events.as_array().unwrap();
        assert_eq!(
            events.iter().map(said).collect::<Vec<_>>(),
            [
                ("storage-element.set-url".into(), "one".into()),
                ("storage-element.number".into(), "one".into()),
                ("storage-element.backfill".into(), "one".into()),
            ]
        );
        for event in events {
            assert_eq!(event[2]["identity"], "verified", "{event}");
            assert_eq!(event[3]["operator"]["name"], "ann", "{event}");
        }
        assert_eq!(events[0][3]["api_url"], "http://one:8010");
        assert_eq!(events[2][3]["complete"], true);
        let query =
            "select count(*) from event_outbox where entity = 'outbox' and action = 'number'";
        assert_eq!(value::<i64>(&mut world.query().await, query).await, 1);
    });
}
