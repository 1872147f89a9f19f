//! Databases in an encoding or a locale that we do not expect: named before and when something starts,
//! and no text in them stops a source.

use artstore_migrations::Module;
use artstore_schemas::element::ElementName;
use uuid::Uuid;

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

const ASCII: &str = "encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'";

#[test]
fn a_text_that_is_not_utf_8_is_published_with_what_can_be_said() {
    run(async {
        let mut world = World::new(&[]).await;
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

        // One before, one with a text of another encoding in every column that has one, one behind.
        let mut element = world.element(0).await;
        execute(&mut element, "set client_encoding = 'SQL_ASCII'").await;
        for text in ["good", r"caf\xe9", "after"] {
            execute(
                &mut element,
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
        let relay = world.relay(0).start();
        let projector = world.projector().start();
        relay.says("encoding is SQL_ASCII").await;
        world.caught_up(0).await;
        world.applied().await;
        let mut query = world.query().await;
        let names: Vec<String> = sqlx::query_scalar(
            "select filename || ' ' || description || ' ' || tags[1] || ' ' || username \
             from file_metadata_cache order by stream_sequence",
        )
        .fetch_all(&mut query)
        .await
        .unwrap();
        assert_eq!(
            names,
            [
                "good.pdf good good good",
                "caf\u{fffd}.pdf caf\u{fffd} caf\u{fffd} caf\u{fffd}",
                "after.pdf after after after"
            ]
        );

        for arguments in [
            &["verify"] as &[_],
            &["element", "backfill", "elem"],
            &["verify"],
            &["wal", "pending"],
        ] {
            let (code, text) = said(world.command(arguments)).await;
            assert_eq!(code, Some(0), "{arguments:?}: {text}");
        }
        let (_, pending) = said(world.command(&["wal", "pending"])).await;
        assert!(pending.contains("caf\u{fffd}"), "{pending}");
        assert_eq!(world.last_sequence(&world.source(0)).await, 3);
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

        // One that is there already keeps the version before words are compared by their letters, and
        // is told what to do.
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
