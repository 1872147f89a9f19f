//! Rows that were changed, removed or never numbered.

use artstore_verification::finding::Kind;
use serde_json::Value;

use super::*;

#[test]
fn rows_changed_removed_or_never_numbered_are_named_and_the_last_are_repaired() {
    run(async {
        let world = World::new(&["elem"]).await;
        filled(&world).await;
        let source = world.source(0);
        let mut element = world.element(0).await;
        let id_at = "select transaction_id from elem_wal where position = ";

        // Changed after it was published: in what our API recorded, and elsewhere.
        for (change, back, position, field) in [
            (
                "operation_data = jsonb_set(operation_data, '{file,description}', '\"forged\"')",
                "operation_data = jsonb_set(operation_data, '{file,description}', '\"first 0\"')",
                2,
                "file.description",
            ),
            (
                "user_id = '2', duration_ms = 77",
                "user_id = null, duration_ms = null",
                17,
                "actor",
            ),
        ] {
            let update =
                |what: &str| format!("update elem_wal set {what} where position = {position}");
            forge(&mut element, "elem", update(change)).await;
            let report = found(&world, &source).await;
            let expected = vec![(Kind::MessageChanged, Some(position as u64), Some(position))];
            assert_eq!(named(&report), expected, "{report:?}");
            assert!(report.findings[0].detail.contains(field), "{report:?}");
            assert_eq!(
                report.findings[0].repair,
                "artstore relay republish --source elem"
            );
            assert_eq!(report.proven, position - 1);
            forge(&mut element, "elem", update(back)).await;
            assert!(found(&world, &source).await.is_clean());
        }

        // Finished while the trigger was off.
        let off = "alter table elem_wal disable trigger zzz_elem_wal_position; \
                   alter table elem_wal drop constraint elem_wal_position_when_finished; \
                   insert into elem_wal (transaction_id, operation_type, status, operation_data, \
                       completed_at) \
                   select gen_random_uuid(), 'mode_change', 'committed', '{}', \
                       now() - n * interval '1 hour' from generate_series(1, 3) n; \
                   alter table elem_wal enable always trigger zzz_elem_wal_position";
        execute(&mut element, off).await;
        let report = found(&world, &source).await;
        assert_eq!(report.count(Kind::RowUnnumbered), 3);
        assert_eq!(report.counts.len(), 1, "{report:?}");
        let repair = report.findings[0].repair.clone();
        assert_eq!(repair, "artstore wal number --source elem --yes");
        let mut ids: Vec<Uuid> = report.findings.iter().filter_map(|f| f.id).collect();
        ids.sort();
        let arguments: Vec<&str> = repair.split(' ').skip(1).collect();
        let (status, said) = world.command(&arguments).finish().await;
        assert!(status.success(), "{said}");
        // In the order in which they were finished, and above all others.
        let ordered: i64 = value(
            &mut element,
            "select count(*) from (select position, lag(position) over (order by completed_at) \
             as before from elem_wal where operation_data = '{}') o where before > position",
        )
        .await;
        assert_eq!(ordered, 0);
        let mut numbered = Vec::new();
        for position in 23..=25 {
            numbered.push(value::<Uuid>(&mut element, format!("{id_at}{position}")).await);
        }
        numbered.sort();
        assert_eq!(numbered, ids);
        // The relay takes the source as it is now, and publishes them.
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;
        let (_, again) = world.command(&arguments).argument("--json").output().await;
        let again: Value = serde_json::from_str(&again).unwrap();
        assert_eq!(
            (&again["found"], &again["numbered"]),
            (&0.into(), &0.into())
        );

        // Gone after it was published.
        let gone: Uuid = value(&mut element, format!("{id_at}12")).await;
        execute(&mut element, "delete from elem_wal where position = 12").await;
        let report = found(&world, &source).await;
        let expected = vec![(Kind::MessageExtra, Some(12), Some(12))];
        assert_eq!(named(&report), expected, "{report:?}");
        assert_eq!(report.findings[0].id, Some(gone));
        // Before it was published: no message, and none owed. Nothing can show that it was there.
        execute(
            &mut element,
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             values (gen_random_uuid(), 'mode_change', 'committed', '{}'); \
             delete from elem_wal where position = 26",
        )
        .await;
        assert_eq!(named(&found(&world, &source).await), expected);
    });
}
