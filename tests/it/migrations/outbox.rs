//! The outbox of the admin and query modules.

use artstore_migrations::up;

use super::*;

#[test]
fn the_outbox_takes_inserts_only_and_numbers_them() {
    run(async {
        for module in [Module::Admin, Module::Query] {
            let mut conn = fresh("outbox").await;
            up(&mut conn, &module, None).await.unwrap();
            exec(&mut conn, "set synchronous_commit = off; begin").await;
            exec(&mut conn, &outbox("user", "created")).await;
            assert_eq!(
                text(&mut conn, "select current_setting('synchronous_commit')").await,
                "local"
            );
            exec(&mut conn, "commit").await;
            exec(&mut conn, "set session_replication_role = replica").await;
            exec(&mut conn, &outbox("jwt-key", "rotated")).await;
            for change in [
                "update event_outbox set subject = 'x'",
                "delete from event_outbox",
                "truncate event_outbox",
            ] {
                let (code, message) = refusal(&mut conn, change).await;
                assert_eq!(code, "23001");
                assert!(
                    message.starts_with("event_outbox is insert only"),
                    "{message}"
                );
            }
            exec(&mut conn, "reset session_replication_role").await;
            for (entity, action) in [
                ("User", "created"),
                ("user", "a.b"),
                ("", "created"),
                ("user", ">"),
                ("user", "a\n"),
            ] {
                assert_eq!(
                    refusal(&mut conn, &outbox(entity, action)).await.0,
                    "23514",
                    "{entity} {action}"
                );
            }
            let positions = texts(
                &mut conn,
                "select position::text from event_outbox order by position",
            )
            .await;
            assert_eq!(positions, ["1", "2"]);

            // The end of the sequence: two rows, and five refused ones that drew a number each.
            exec(
                &mut conn,
                "alter sequence event_outbox_position_seq maxvalue 7",
            )
            .await;
            exec(&mut conn, "begin; savepoint s").await;
            let (_, message) = refusal(&mut conn, &outbox("user", "created")).await;
            assert!(message.contains("reached maximum value"), "{message}");
            exec(&mut conn, "rollback to savepoint s").await;
            assert_ne!(
                text(&mut conn, "select pg_current_xact_id_if_assigned()::text").await,
                "null"
            );
        }
    });
}
