//! Odd events become rows like all others: long texts, actors of any kind, numbers that `jsonb`
//! would change, messages that nobody can read.

use artstore_schemas::envelope::Envelope;
use async_nats::jetstream::message::PublishMessage;

use super::*;

/// `user_id`, `actor_type`, `actor_id`, `request_id`, `data`.
type OddRow = (Option<i32>, String, Option<String>, Option<String>, Value);

#[test]
fn odd_events_are_rows_and_verify() {
    run(async {
        let world = World::new(&["elem_a"]).await;
        let audited = Audited::new(&world).await;
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "insert into users (id, username, email, role, status, is_system, failed_login_attempts, created_at, updated_at)
             values (7, 'u', 'e', 'ADMIN', 'ACTIVE', false, 0, now(), now())",
        )
        .await;
        // Not compressible: an index entry of it would be too long for a btree.
        let request: String = (0..125)
            .map(|_| uuid::Uuid::new_v4().simple().to_string())
            .collect();
        assert_eq!(request.len(), 4_000);
        let insert = |entity: &str, actor: &str, data: &str, request: &str| {
            format!(
                "insert into event_outbox (event_id, entity, action, data, actor, request_id)
                 values (gen_random_uuid(), '{entity}', 'seen', '{data}', '{actor}', '{request}')"
            )
        };
        let user = r#"{"type": "user", "id": "7", "name": "u"}"#;
        for (actor, data, request) in [
            (user, "{}", request.as_str()),
            (
                r#"{"type": "user", "id": "0191f1f0-0000-7000-8000-000000000000"}"#,
                "{}",
                "uuid",
            ),
            (r#"{"type": "robot", "id": "9"}"#, "{}", "robot"),
            (
                user,
                r#"{"n": 1e400, "m": 0.1, "k": 9007199254740993, "ok": 5}"#,
                "numbers",
            ),
            (user, r#"["a", {"_event": 1}]"#, "list"),
            (user, r#"{"_event": "mine", "x": 1}"#, "event"),
            (user, "null", "null"),
            ("{}", r#""text""#, "nobody"),
        ] {
            execute(&mut admin, insert("odd-thing", actor, data, request)).await;
        }
        // The hour that comes twice, in a database that shows local time.
        let name = world.admin_url.rsplit('/').next().unwrap();
        execute(
            &mut admin,
            format!(
                "alter database {name} set timezone = 'Europe/Berlin';
                 alter database {name} set datestyle = 'German';
                 insert into event_outbox (event_id, entity, action, data, actor, occurred_at)
                 values (gen_random_uuid(), 'odd-thing', 'seen', '{{}}', '{{}}', '2026-10-25T02:30:00+02'),
                     (gen_random_uuid(), 'odd-thing', 'seen', '{{}}', '{{}}', '2026-10-25T02:30:00+01')"
            ),
        )
        .await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = audited.projector().start();
        audited.caught_up_with(&Source::Admin, 10).await;
        let hours: Vec<String> = sqlx::query_scalar(
            "select to_char(created_at at time zone 'UTC', 'HH24:MI') from audit_logs \
             where stream = 'ARTSTORE_ADMIN' and stream_sequence > 8 order by 1",
        )
        .fetch_all(&mut admin)
        .await
        .unwrap();
        assert_eq!(hours, ["00:30", "01:30"]);
        execute(&mut admin, "delete from users where id = 7").await;
        let rows: Vec<OddRow> = sqlx::query_as(
            "select user_id, actor_type, actor_id, request_id, data from audit_logs \
             where stream = 'ARTSTORE_ADMIN' order by stream_sequence",
        )
        .fetch_all(&mut admin)
        .await
        .unwrap();
        assert_eq!(rows[0].0, Some(7), "of a user that is gone");
        assert_eq!(rows[0].3.as_deref(), Some(request.as_str()));
        assert_eq!(
            (rows[1].0, rows[1].2.as_deref()),
            (None, Some("0191f1f0-0000-7000-8000-000000000000"))
        );
        assert_eq!(rows[2].1, "system");
        let numbers = rows[3].4["text"].as_str().unwrap();
        assert!(
            numbers.contains("9007199254740993") && numbers.contains("0.1"),
            "{numbers}"
        );
        assert_eq!(rows[4].4["value"], json!(["a", {"_event": 1}]));
        assert_eq!(rows[5].4["value"], json!({"_event": "mine", "x": 1}));
        relay.kill().await;

        // Written past every relay: no headers, then a body that is no JSON under good headers.
        let source = Source::Admin;
        let last = world.messages(&source).await.pop().unwrap();
        let jetstream = &world.bus.jetstream;
        let sent = jetstream
            .publish("artstore.admin.p00.user.created", "garbage".into())
            .await;
        sent.unwrap().await.unwrap();
        let broken = Envelope {
            id: uuid::Uuid::new_v4(),
            previous: Some(last.id),
            ..last
        };
        let mut message = PublishMessage::build().payload("{".into());
        for (name, values) in broken.to_headers().iter() {
            message = message.header(name.clone(), values[0].as_str());
        }
        let subject = "artstore.admin.p00.odd-thing.seen";
        jetstream
            .send_publish(subject, message)
            .await
            .unwrap()
            .await
            .unwrap();
        audited.caught_up_with(&source, 12).await;
        let rows: Vec<(String, String, bool, Option<uuid::Uuid>, Value)> = sqlx::query_as(
            "select event_type, severity, success, event_id, data from audit_logs \
             where stream = 'ARTSTORE_ADMIN' and stream_sequence > 10 order by stream_sequence",
        )
        .fetch_all(&mut admin)
        .await
        .unwrap();
        for (kind, severity, success, ..) in &rows {
            assert_eq!(
                (kind.as_str(), severity.as_str(), *success),
                ("message_unreadable", "error", false)
            );
        }
        assert_eq!(rows[0].4["bytes"], "7");
        assert_eq!((rows[0].3, rows[1].3), (None, Some(broken.id)));
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}\n{}", verdict.0, projector.log());
        projector.kill().await;
    });
}
