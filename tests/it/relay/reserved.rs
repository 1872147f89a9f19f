//! A publisher's row that has the name of a relay's record is an event like any other: refused where it
//! is written, harmless where it is there already.

use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_producers::publish::publish_error::PublishError;
use artstore_schemas::actor::Actor;
use artstore_schemas::source::Source;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::*;

fn row(entity: &str, action: &str, data: &Value) -> String {
    let id = Uuid::new_v4();
    format!(
        "insert into event_outbox (event_id, entity, action, data, actor) \
         values ('{id}', '{entity}', '{action}', '{data}', '{{\"type\": \"system\"}}')"
    )
}

#[test]
fn a_publishers_row_with_a_reserved_name_is_an_event_like_any_other() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut query = world.query().await;
        let reserved = row("source", "anything", &json!({}));
        let error = try_execute(&mut query, &reserved).await.unwrap_err();
        assert!(error.to_string().contains("not_reserved"), "{error}");
        let event = OutboxInsert {
            entity: "source".to_owned(),
            action: "accepted".to_owned(),
            ordering_key: None,
            subject: None,
            data: json!({}),
            request_id: None,
            traceparent: None,
        };
        let inserted = outbox::insert(&mut query, &Actor::user("1"), &event).await;
        let error = inserted.unwrap_err();
        assert!(matches!(error, PublishError::Reserved { .. }), "{error}");

        // As they may stand there from before.
        execute(
            &mut query,
            "alter table event_outbox drop constraint event_outbox_entity_not_reserved",
        )
        .await;
        let search = json!({"query_text": "x", "search_mode": "exact", "results_count": 0, "response_time_ms": 1});
        let accepted = json!({
            "old_identity": "", "new_identity": "", "high_water_mark": 0, "gaps": [], "last_agreeing": 0,
            "lost_messages": 0, "lost_positions": [], "lost_files": 0, "files": [], "new_rows": 0,
            "new_positions": [], "reason": "x", "accepted_by": "x",
        });
        let damage = json!({
            "holes": [], "ignored": [{"first": 1, "last": 8}], "breaks": [], "rows": 0, "files": 0,
            "reason": "x", "accepted_by": "x",
        });
        let rows = [
            row("search", "performed", &search),
            row("source", "accepted", &json!({})),
            row("source", "accepted", &accepted),
            row("source", "damage-accepted", &json!({})),
            row("source", "backfilled", &json!({})),
            row("source", "damage-accepted", &damage),
            row("search", "performed", &search),
        ];
        for row in rows {
            execute(&mut query, row).await;
        }
        execute(
            &mut query,
            "alter table event_outbox add constraint event_outbox_entity_not_reserved \
             check (entity <> 'source') not valid",
        )
        .await;

        // Published, and read back at each start.
        for expected in [7, 8] {
            let relay = world.command(&["run", "relay", "--source", "query"]);
            let relay = relay.start();
            eventually("all rows are published", || async {
                let last = world.last_sequence(&Source::Query).await;
                (last == expected).then_some(())
            })
            .await;
            relay.kill().await;
            execute(&mut query, row("search", "performed", &search)).await;
        }
        let relay = world.command(&["run", "relay", "--source", "query"]);
        let relay = relay.start();
        let projector = world.projector().start();
        eventually("every search is in the history", || async {
            let mut query = world.query().await;
            let searches: i64 = value(&mut query, "select count(*) from search_history").await;
            (searches == 4).then_some(())
        })
        .await;
        let report = world.checked(&Source::Query, &mut query).await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.rows, report.messages), (9, 9));
        relay.kill().await;
        for (command, nothing) in [
            ("republish", "nothing to republish"),
            ("accept-source", "nothing to accept"),
        ] {
            let words = ["relay", command, "--source", "query"];
            let (status, said) = world.command(&words).output().await;
            assert!(status.success() && said.contains(nothing), "{said}");
        }
        assert_eq!(world.last_sequence(&Source::Query).await, 9);

        // Derived again, nothing of it is dropped.
        projector.kill().await;
        let words = ["projection", "rebuild", "query-cache", "--dry-run"];
        let (status, said) = world.command(&words).output().await;
        assert!(status.success(), "{said}");
    });
}
