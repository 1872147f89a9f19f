//! People find odd files by their words.

use super::*;
use crate::support::*;

#[test]
fn people_find_files_by_name_description_and_tag() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut connection = world.element(0).await;
        let contract = Odd {
            description: Some("Согласованные договоры поставки оборудования".to_owned()),
            metadata: Some(json!({"tags": ["бухгалтерия", "urgent"]}).to_string()),
            ..Odd::named("Квартальный_отчёт-2026.pdf")
        };
        let manual = Odd {
            description: Some("Installation instructions for running the pumps".to_owned()),
            metadata: Some(json!({"tags": "urgent"}).to_string()),
            ..Odd::named("pump_manual.final.docx")
        };
        // Its words come from the part that is indexed, and the rest is no error.
        let long = Odd::described(format!("вводная часть {}", "слово ".repeat(60_000)));
        for file in [&contract, &manual, &long] {
            file.insert(&mut connection).await;
        }
        world.published(0).await;
        world.projected().await;
        let searches = [
            ("отчёты", vec![contract.id]),
            ("квартального отчёта", vec![contract.id]),
            ("2026", vec![contract.id]),
            ("договор", vec![contract.id]),
            ("договора поставка", vec![contract.id]),
            ("бухгалтерии", vec![contract.id]),
            // No tag of the manual's: its tags are no array.
            ("urgent", vec![contract.id]),
            ("manual", vec![manual.id]),
            ("pump_manual.final.docx", vec![manual.id]),
            ("instruction run", vec![manual.id]),
            ("installing", vec![manual.id]),
            ("вводный", vec![long.id]),
            ("отсутствует", vec![]),
        ];
        let mut query = world.query().await;
        for (words, expected) in searches {
            let found: Vec<String> = sqlx::query_scalar(
                "select id from file_metadata_cache \
                 where search_vector @@ plainto_tsquery('russian', $1)",
            )
            .bind(words)
            .fetch_all(&mut query)
            .await
            .unwrap();
            let expected: Vec<String> = expected.iter().map(Uuid::to_string).collect();
            assert_eq!(found, expected, "{words}");
        }
        // A word that the file no longer has finds nothing.
        execute(
            &mut connection,
            format!(
                "begin; update elem_files set description = 'чертёж' where file_id = '{}'; \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data) values (gen_random_uuid(), 'file_update', 'committed', '{}', \
                     '{{}}'); commit",
                contract.id, contract.id
            ),
        )
        .await;
        world.published(0).await;
        world.projected().await;
        for (word, expected) in [("договор", 0), ("чертежи", 1)] {
            let hits: i64 = value(
                &mut query,
                format!(
                    "select count(*) from file_metadata_cache \
                     where search_vector @@ plainto_tsquery('russian', '{word}')"
                ),
            )
            .await;
            assert_eq!(hits, expected, "{word}");
        }
        relay.kill().await;
        projector.kill().await;
    });
}
