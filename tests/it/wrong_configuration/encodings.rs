//! Databases in an encoding or a locale that we do not expect: named before and when something starts,
//! and no text in them stops a source.

use artstore_migrations::Module;
use artstore_producers::publish::wal::{self, Begin, OperationType};
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::audit::{Audited, admin_relay};
use crate::support::*;

/// A database of its own form.
async fn made(hint: &str, form: &str) -> String {
    let stack = shared_stack().await;
    let name = format!("{hint}_{}", Uuid::new_v4().simple());
    let mut connection = pg(&stack.database_url("postgres")).await;
    let sql = format!("create database {name} template template0 {form}");
    execute(&mut connection, sql).await;
    stack.database_url(&name)
}

async fn said(program: Program) -> (Option<i32>, String) {
    let mut process = program.start();
    let status = process.ended().await;
    (status.code(), process.output() + &process.log())
}

/// Rows of an element with these texts in every column that has one, from a client with this encoding: of
/// each a file, the operation that made it, and a pending operation.
async fn rows(element: &mut PgConnection, encoding: &str, texts: [&str; 3]) {
    execute(element, format!("set client_encoding = '{encoding}'")).await;
    for text in texts {
        execute(
            element,
            format!(
                "begin; \
                 insert into elem_files (file_id, original_filename, storage_filename, file_size, \
                     content_type, created_by_id, created_by_username, created_by_fullname, \
                     storage_path, checksum, description, version, metadata_json) \
                 values (gen_random_uuid(), E'{text}.pdf', E'{text}', 5, E'application/{text}', \
                     E'{text}', E'{text}', E'{text}', E'{text}', repeat('c', 64), E'{text}', \
                     E'{text}', E'{{\"tags\": [\"{text}\"], \"{text}\": 1}}'); \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data, user_id, error_message) \
                 select gen_random_uuid(), 'file_create', 'committed', file_id, \
                     E'{{\"original_filename\": \"{text}.pdf\"}}', E'{text}', E'{text}' \
                 from elem_files where storage_filename = E'{text}'; \
                 insert into elem_wal (transaction_id, operation_type, status, operation_data, \
                     user_id) \
                 values (gen_random_uuid(), E'{text}', 'pending', E'{{\"x\": \"{text}\"}}', \
                     E'{text}'); \
                 commit"
            ),
        )
        .await;
    }
}

/// What the cache shows of each file.
async fn cached(world: &World) -> Vec<String> {
    sqlx::query_scalar(
        "select filename || ' ' || description || ' ' || tags[1] || ' ' || username \
         from file_metadata_cache order by stream_sequence",
    )
    .fetch_all(&mut world.query().await)
    .await
    .unwrap()
}

/// What commands report that read an element's texts; none finds anything wrong.
async fn read_again(world: &World) -> String {
    // The backfill is an event of the admin module.
    let relay = world.command(&["run", "relay", "--source", "admin"]);
    let relay = relay.start();
    for arguments in [
        &["verify"] as &[_],
        &["element", "backfill", "elem"],
        &["verify"],
    ] {
        let (code, text) = said(world.command(arguments)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
    }
    let (code, pending) = said(world.command(&["wal", "pending"])).await;
    assert_eq!(code, Some(0), "{pending}");
    relay.kill().await;
    pending
}

const ASCII: &str = "encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'";

#[test]
fn a_text_that_is_not_utf_8_is_published_with_what_can_be_said() {
    run(async {
        let mut world = World::with_accounts_for(&["elem"], &[]).await;
        let url = made("ascii", ASCII).await;
        let name: ElementName = "elem".parse().unwrap();
        world.elements.push((name, url.clone()));
        world.bus.ensure_stream(&world.source(0), 1).await.unwrap();

        let (code, up) = said(world.command(&["migrate", "up", "--module", "storage"])).await;
        assert_eq!(code, Some(0), "{up}");
        assert!(up.contains("encoding is SQL_ASCII"), "{up}");
        let (code, check) = said(world.command(&["migrate", "check", "--module", "storage"])).await;
        assert_eq!(code, Some(0), "{check}");
        assert!(check.contains("encoding is SQL_ASCII"), "{check}");

        rows(
            &mut world.element(0).await,
            "SQL_ASCII",
            ["good", r"caf\xe9", "after"],
        )
        .await;
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        relay.says("encoding is SQL_ASCII").await;
        world.caught_up(0).await;
        world.applied().await;
        assert_eq!(
            cached(&world).await,
            [
                "good.pdf good good good",
                "caf\u{fffd}.pdf caf\u{fffd} caf\u{fffd} caf\u{fffd}",
                "after.pdf after after after"
            ]
        );

        let pending = read_again(&world).await;
        assert!(pending.contains("caf\u{fffd}"), "{pending}");
        assert_eq!(world.last_sequence(&world.source(0)).await, 3);
        relay.kill().await;
        projector.kill().await;
    });
}

const WIN1251: &str = "encoding 'WIN1251' lc_collate 'C' lc_ctype 'C'";

#[test]
fn a_byte_without_an_equivalent_in_utf_8_is_published_with_what_can_be_said() {
    run(async {
        let mut world = World::with_accounts_for(&["elem"], &[]).await;
        let url = made("cyrillic", WIN1251).await;
        let name: ElementName = "elem".parse().unwrap();
        world.elements.push((name.clone(), url.clone()));
        world.bus.ensure_stream(&world.source(0), 1).await.unwrap();
        let storage = Module::Storage(name.clone());
        let mut element = world.element(0).await;
        artstore_migrations::up(&mut element, &storage, Some(9))
            .await
            .unwrap();

        // Of the steps above only the one that reads texts is to be missed.
        execute(
            &mut element,
            "create table elem_relay_lock (name text not null, key bigint not null, \
                 replaced_at timestamptz, constraint elem_relay_lock_pkey primary key (name)); \
             insert into elem_relay_lock values ('relay', 1)",
        )
        .await;

        // 0x98 is no character of it. Without that step the source stands still, with advice.
        let good = r"\xc4\xee\xea";
        let texts = [good, r"\xc4\xee\xea\x98\x98\xe0", r"\xcf\xee\xf1\xeb\xe5"];
        rows(&mut element, "WIN1251", texts).await;
        let (role, login) = role(&world, &mut element, &url).await;
        let relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENTS", &format!("elem={login}"))
            .start();
        let projector = world.projector().start();
        relay.says("encoding is WIN1251").await;
        relay.says("the relay has halted").await;
        relay.says("run `artstore migrate up`").await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 0);

        // With it, the same relay continues: no right was granted again.
        let (code, up) = said(world.command(&["migrate", "up", "--module", "storage"])).await;
        assert_eq!(code, Some(0), "{up}");
        assert!(up.contains("encoding is WIN1251"), "{up}");
        let (code, check) = said(world.command(&["migrate", "check", "--module", "storage"])).await;
        assert_eq!(code, Some(0), "{check}");
        assert!(check.contains("encoding is WIN1251"), "{check}");
        world.caught_up(0).await;
        world.applied().await;
        assert_eq!(
            cached(&world).await,
            [
                "Док.pdf Док Док Док",
                "Док\u{fffd}\u{fffd}а.pdf Док\u{fffd}\u{fffd}а Док\u{fffd}\u{fffd}а Док\u{fffd}\u{fffd}а",
                "После.pdf После После После",
            ]
        );
        let pending = read_again(&world).await;
        assert!(pending.contains("Док\u{fffd}\u{fffd}а"), "{pending}");
        assert_eq!(world.last_sequence(&world.source(0)).await, 3);

        // What can't be written there is refused by name, and nothing is written.
        let odd = "select transaction_id from elem_wal where status = 'pending' \
                   and user_id = E'\\xc4\\xee\\xea\\x98\\x98\\xe0'";
        let odd: Uuid = value(&mut element, odd).await;
        let odd = odd.to_string();
        let resolve = [
            "wal",
            "resolve",
            &odd,
            "--as",
            "rolled-back",
            "--yes",
            "--force",
        ];
        let snow = [&resolve[..], &["--reason", "snow \u{2603}"]].concat();
        let (code, text) = said(world.command(&snow)).await;
        assert_eq!(code, Some(1), "{text}");
        for part in ["no equivalent", "WIN1251", "createdb --encoding=UTF8"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let (code, text) = said(world.command(&resolve)).await;
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = said(world.command(&resolve)).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("finished already"), "{text}");
        let mut api = world.element(0).await;
        let begin = Begin {
            kind: OperationType::ModeChange,
            file_id: None,
            request_id: Some("\u{2603}".to_owned()),
            data: None,
        };
        let refused = wal::begin(&mut api, &name, Actor::user("1"), begin).await;
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("no equivalent") && text.contains("createdb --encoding=UTF8"),
            "{text}"
        );
        world.caught_up(0).await;
        assert_eq!(world.last_sequence(&world.source(0)).await, 4);
        relay.kill().await;
        projector.kill().await;
        execute(
            &mut element,
            format!("drop owned by {role}; drop role {role}"),
        )
        .await;
    });
}

/// A role with the least rights of a relay on the element, and the URL as it.
async fn role(world: &World, element: &mut PgConnection, url: &str) -> (String, String) {
    let role = format!("relay_{}", Uuid::new_v4().simple());
    execute(
        element,
        format!("create role {role} login password '{role}'"),
    )
    .await;
    let grant = [
        "migrate", "grant", "--role", &role, "--for", "relay", "--module", "storage",
    ];
    let (code, text) = said(world.command(&grant)).await;
    assert_eq!(code, Some(0), "{text}");
    let (_, place) = url.split_once('@').unwrap();
    let login = format!("postgres://{role}:{role}@{place}");
    (role, login)
}

/// Encoding, a text with a byte or a character that UTF-8 has no equivalent for, and what is published of it.
const TEXTS: &[(&str, &str, &str)] = &[
    (
        "WIN1251",
        r"\xc4\x98 \x98\x98",
        "Д\u{fffd} \u{fffd}\u{fffd}",
    ),
    ("WIN1252", r"caf\xe9 \x81\x80", "café \u{fffd}€"),
    ("WIN1253", r"\xaa\xe1", "\u{fffd}α"),
    ("LATIN1", r"caf\xe9 \x81", "café \u{81}"),
    ("LATIN2", r"\xb1 \x98", "ą \u{98}"),
    ("KOI8R", r"\xe4\xc1", "Да"),
    (
        "EUC_JP",
        r"\xa4\xa2\xa9\xa1x\xf4\xfe",
        "あ\u{fffd}x\u{fffd}",
    ),
    ("SQL_ASCII", r"caf\xe9", "caf\u{fffd}"),
    ("UTF8", r"caf\xc3\xa9", "café"),
];

#[test]
fn texts_of_every_encoding_are_read() {
    run(async {
        for (encoding, text, expected) in TEXTS {
            let form = format!("encoding '{encoding}' lc_collate 'C' lc_ctype 'C'");
            let element = Module::Storage("elem".parse().unwrap());
            for (module, function) in [(element, "elem_utf8"), (Module::Admin, "event_outbox_utf8")]
            {
                let url = made("texts", &form).await;
                migrate(&url, module).await;
                let mut connection = pg(&url).await;
                let read: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(format!(
                    "select {function}(t) from unnest(array[E'{text}', '', 'a', repeat(E'{text}', 100000)]) t"
                )))
                .fetch_all(&mut connection)
                .await
                .unwrap();
                let read: Vec<_> = read.iter().map(|t| String::from_utf8_lossy(t)).collect();
                assert_eq!(
                    read,
                    [*expected, "", "a", &expected.repeat(100_000)],
                    "{encoding}"
                );
            }
        }
    });
}

/// An outbox beside the audit log.
#[test]
fn an_admin_database_in_another_encoding_publishes_and_says_what_it_can_not_apply() {
    run(async {
        let mut world = World::with_accounts_for(&["elem"], &[]).await;
        world.admin_url = made("admin", WIN1251).await;
        migrate(&world.admin_url, Module::Admin).await;
        let (code, check) = said(world.command(&["migrate", "check", "--module", "admin"])).await;
        assert_eq!(code, Some(0), "{check}");
        assert!(
            check.contains("events with other characters can't be applied"),
            "{check}"
        );

        let mut admin = world.admin().await;
        for text in [r"\xc4\xee\xea", r"\xc4\x98", r"\xcf\xee\xf1\xeb\xe5"] {
            execute(
                &mut admin,
                format!(
                    "insert into event_outbox (event_id, entity, action, subject, data, actor, request_id) \
                     values (gen_random_uuid(), 'thing', 'changed', E'{text}', E'{{\"{text}\": 1}}', \
                         E'{{\"type\": \"system\", \"name\": \"{text}\"}}', E'{text}')"
                ),
            )
            .await;
        }
        let audited = Audited::new(&world).await;
        let projector = audited.projector().start();
        let relay = admin_relay(&world);
        relay.says("encoding is WIN1251").await;
        eventually("three events are published", || async {
            (world.last_sequence(&Source::Admin).await == 3).then_some(())
        })
        .await;
        let subjects: Vec<_> = world.messages(&Source::Admin).await;
        let subjects: Vec<_> = subjects.iter().map(|m| m.subject.as_deref()).collect();
        assert_eq!(subjects, [Some("Док"), Some("Д\u{fffd}"), Some("После")]);
        // The replacement is no character of that encoding.
        for part in ["no equivalent", "createdb --encoding=UTF8"] {
            projector.says(part).await;
        }
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_query_database_in_which_nothing_is_found_is_named() {
    run(async {
        let world = World::new(&[]).await;
        let query = |url: &str, arguments: &[&str]| {
            Program::new(arguments)
                .env("NATS_URL", &world.nats_url)
                .env("QUERY_DATABASE_URL", url)
        };
        let check = ["migrate", "check", "--module", "query"];

        let letters = made("letters", "encoding 'UTF8' lc_collate 'C' lc_ctype 'C'").await;
        for arguments in [&check as &[_], &["migrate", "up"], &check] {
            let (code, text) = said(query(&letters, arguments)).await;
            assert_eq!(code, Some(0), "{arguments:?}: {text}");
            assert!(text.contains("lc_ctype is C"), "{arguments:?}: {text}");
        }
        let projector = query(&letters, &["run", "projector"]).start();
        projector.says("lc_ctype is C").await;
        projector.kill().await;

        let ascii = made("ascii", ASCII).await;
        for arguments in [&check as &[_], &["migrate", "up"]] {
            let (code, text) = said(query(&ascii, arguments)).await;
            assert_eq!(code, Some(1), "{arguments:?}: {text}");
            assert!(text.contains("encoding is SQL_ASCII"), "{text}");
            assert!(text.contains("encoding 'UTF8'"), "{text}");
        }
        let tables: i64 = value(
            &mut pg(&ascii).await,
            "select count(*) from pg_class where relnamespace = 'public'::regnamespace",
        )
        .await;
        assert_eq!(tables, 0);

        // An existing one stays at the version before words are compared by their letters, and the error
        // states what to do.
        let mut there = pg(&ascii).await;
        artstore_migrations::up(&mut there, &Module::Query, Some(14))
            .await
            .unwrap();
        let (code, text) = said(query(&ascii, &["migrate", "up"])).await;
        assert_eq!(code, Some(1), "{text}");
        for part in ["encoding is SQL_ASCII", "0015", "createdb --encoding UTF8"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }

        // The usual one has nothing to say.
        let (code, text) = said(query(&world.query_url, &check)).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains("note  database"), "{text}");
    });
}
