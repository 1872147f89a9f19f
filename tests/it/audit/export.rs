//! Exports: whole, in order, the same after a crash, and each one an event of the log.

use super::*;
use crate::support::load;

/// So many events, some with what spreadsheets and other systems trip over.
async fn events(world: &World, count: usize) {
    let mut admin = pg(&world.admin_url).await;
    execute(
        &mut admin,
        format!(
            "insert into event_outbox (event_id, entity, action, subject, data, actor, request_id)
             select gen_random_uuid(), kind[1], kind[2], n::text,
                 jsonb_build_object('username', 'имя ' || n, 'n', n),
                 jsonb_build_object('type', 'user', 'id', n::text, 'name', '@user', 'address', case when n % 2 = 0 then '192.0.2.1' else 'nowhere' end,
                     'user_agent', 'agent, \"quoted\"' || chr(10) || 'two lines'),
                 case n % 3 when 0 then '=cmd()' when 1 then '+1' end
             from generate_series(1, {count}) as n,
             lateral (select (array[array['login', 'failed'], array['user', 'created'], array['thing', 'seen'],
                 array['file', 'downloaded'], array['access', 'denied'], array['session', 'ended'],
                 array['service-account', 'secret-rotated']])[n % 7 + 1 : n % 7 + 1] as pair) as picked,
             lateral (select array[pair[1][1], pair[1][2]] as kind) as unnested"
        ),
    )
    .await;
}

#[test]
fn an_export_is_whole_in_order_and_an_event_of_the_log() {
    run(async {
        let world = World::new(&["elem_a"]).await;
        let audited = Audited::new(&world).await;
        let _relay = world.command(&["run", "relay"]).start();
        let _projector = audited.projector().start();
        events(&world, 2_500).await;
        let mut publisher = (world.elements[0].0.clone(), world.element(0).await);
        for n in 0..12 {
            load::create(&mut publisher, &load::new_file(&format!("{n}.pdf")))
                .await
                .unwrap();
        }
        audited.caught_up_with(&Source::Admin, 2_500).await;
        audited.caught_up_with(&world.source(0), 12).await;
        let folder = folder("export");
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let export = |format: &str, name: &str| {
            audited.command(&["audit", "export", "--format", format, "--to", &file(name)])
        };

        // Killed after the first batch, with half a line behind it, and resumed.
        let mut killed = export("jsonl", "all.jsonl")
            .crash_at("audit.export.batch", 2)
            .start();
        killed.ended().await;
        let part = file("all.jsonl.part");
        let mut half = std::fs::read(&part).unwrap_or_else(|_| panic!("{}", killed.log()));
        half.extend(b"{\"half\": ");
        std::fs::write(&part, half).unwrap();
        let (status, said) = export("jsonl", "all.jsonl").finish().await;
        assert!(!status.success() && said.contains("--resume"), "{said}");
        let (status, said) = export("csv", "all.jsonl")
            .argument("--resume")
            .finish()
            .await;
        assert!(
            !status.success() && said.contains("those of before"),
            "{said}"
        );
        // Rows that came since are not in it.
        events(&world, 5).await;
        audited.caught_up_with(&Source::Admin, 2_506).await;
        let (status, said) = export("jsonl", "all.jsonl")
            .argument("--resume")
            .finish()
            .await;
        assert!(status.success() && said.contains("2512 rows"), "{said}");
        let lines: Vec<Value> = std::fs::read_to_string(file("all.jsonl"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let mut admin = pg(&world.admin_url).await;
        let ids: Vec<i64> = sqlx::query_scalar(
            "select id from audit_logs where stream_sequence <= case stream when 'ARTSTORE_ADMIN' then 2500 else 12 end order by id",
        )
        .fetch_all(&mut admin)
        .await
        .unwrap();
        let exported: Vec<i64> = lines
            .iter()
            .map(|line| line["id"].as_i64().unwrap())
            .collect();
        assert_eq!(exported, ids);
        assert!(!std::fs::exists(&part).unwrap());

        // One event, although it was begun twice.
        eventually("the export is a row of the log", async || {
            let rows: Vec<Value> = sqlx::query_scalar(
                "select data from audit_logs where event_type = 'audit_exported'",
            )
            .fetch_all(&mut admin)
            .await
            .unwrap();
            (rows.len() == 1
                && rows[0]["rows_up_to"]["streams"]["ARTSTORE_ADMIN"] == 2500
                && rows[0]["file"] == "all.jsonl")
                .then_some(())
        })
        .await;

        let (status, said) = export("csv", "denied.csv")
            .argument("--type")
            .argument("permission_denied")
            .finish()
            .await;
        assert!(status.success(), "{said}");
        let mut table = csv::Reader::from_path(file("denied.csv")).unwrap();
        let rows: Vec<std::collections::BTreeMap<String, String>> =
            table.deserialize().map(|row| row.unwrap()).collect();
        assert_eq!(rows.len(), 357 + 1);
        for row in &rows {
            assert_eq!(row["actor_name"], "'@user");
            assert!(["", "'=cmd()", "'+1"].contains(&row["request_id"].as_str()));
            assert!(row["user_agent"].contains("\"quoted\"\ntwo"));
        }

        let schema: Value = serde_json::from_str(include_str!("../../ocsf/1.5.0.json")).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let (status, said) = audited
            .command(&["audit", "export", "--format", "ocsf"])
            .output()
            .await;
        assert!(status.success(), "{said}");
        let mut classes = std::collections::BTreeMap::new();
        for line in said.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            if let Err(error) = schema.validate(&event) {
                let class = event["class_uid"].as_u64();
                panic!("{class:?} {error}: {event:#}");
            }
            assert_eq!(event["metadata"]["version"], "1.5.0");
            *classes
                .entry(event["class_uid"].as_u64().unwrap())
                .or_insert(0) += 1;
        }
        assert_eq!(
            classes.keys().copied().collect::<Vec<_>>(),
            [3_001, 3_002, 3_004, 6_006]
        );
        let verdict = audited.verify(&["--against-stream"]).await;
        assert!(verdict.is_clean(), "{}", verdict.0);
    });
}

#[test]
fn nothing_is_exported_where_the_event_can_t_be_recorded() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let mut admin = pg(&world.admin_url).await;
        execute(&mut admin, "alter table event_outbox rename to elsewhere").await;
        let (status, said) = audited
            .command(&["audit", "export", "--format", "jsonl"])
            .finish()
            .await;
        assert!(!status.success(), "{said}");
        assert!(said.contains("nothing was exported"), "{said}");
    });
}

#[test]
fn an_export_is_not_whole_where_rows_were_archived_beside_it() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let _relay = world
            .command(&["run", "relay", "--source", "admin"])
            .start();
        let _projector = audited.projector().start();
        events(&world, 50).await;
        audited.caught_up_with(&Source::Admin, 50).await;
        let mut admin = pg(&world.admin_url).await;
        // Whatever a row holds, it is shown and exported.
        execute(
            &mut admin,
            "alter table audit_logs disable trigger all;
             update audit_logs set created_at = '294276-12-31' where stream_sequence = 20;
             update audit_logs set id = -id where stream_sequence = 30",
        )
        .await;
        let (status, said) = audited.command(&["audit", "tail"]).output().await;
        assert!(status.success() && said.lines().count() == 20, "{said}");
        let all = audited.command(&["audit", "export", "--format", "jsonl"]);
        let (status, said) = all.output().await;
        // Row 20 is not the one that was signed.
        assert_eq!(status.code(), Some(1), "{said}");
        assert_eq!(said.matches("not_as_signed").count(), 1, "{said}");
        assert!(said.lines().count() >= 50, "{said}");
        assert!(said.lines().any(|line| line.contains("\"id\":-")), "{said}");

        let folder = folder("beside");
        let file = folder.join("rows.jsonl");
        let export = || {
            audited
                .command(&["audit", "export", "--format", "jsonl", "--to"])
                .argument(file.to_str().unwrap())
        };
        let mut killed = export().crash_at("audit.export.batch", 1).start();
        assert!(!killed.ended().await.success(), "{}", killed.log());
        execute(
            &mut admin,
            "delete from audit_logs where stream_sequence <= 10",
        )
        .await;
        let (status, said) = export().argument("--resume").finish().await;
        assert!(!status.success(), "{said}");
        assert!(
            said.contains("row 1 was the first one of ARTSTORE_ADMIN")
                && said.contains("it is row 11 now"),
            "{said}"
        );
        assert!(!file.exists());
    });
}

/// Whoever may write into the folder could lead it to a file of the operator's.
#[test]
fn a_link_in_the_place_of_the_unfinished_file_is_not_followed() {
    run(async {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        let folder = folder("export-link");
        let victim = folder.join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let to = folder.join("rows.jsonl");
        symlink(&victim, folder.join("rows.jsonl.part")).unwrap();
        let export = ["audit", "export", "--format", "jsonl", "--to"];
        let export = audited.command(&export).argument(to.to_str().unwrap());
        let (status, said) = export.finish().await;
        assert!(status.success(), "{said}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        let made = std::fs::symlink_metadata(&to).unwrap();
        assert!(made.is_file());
        assert_eq!(made.permissions().mode() & 0o777, 0o600);
    });
}
