//! Odd files as the product's own service writes them: what reaches the cache, what is left out.

use super::*;
use crate::support::*;

#[test]
fn odd_names_texts_tags_and_metadata_reach_the_cache() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut connection = world.element(0).await;
        let mut query = world.query().await;
        let many = |count: usize| json!((0..count).map(|n| format!("tag {n}")).collect::<Vec<_>>());
        let strange = json!([
            "",
            " ",
            "a,b",
            "{}",
            "\"",
            "\\",
            "NULL",
            "'",
            "ж".repeat(50),
            "a\nb",
            "🦀"
        ]);
        let files = [
            Odd::named("n".repeat(500)),
            Odd::named("Ж".repeat(500)),
            Odd::named("🦀".repeat(500)),
            Odd::named("Договор № 7 «О поставке».pdf"),
            Odd::named("a\"b'c`d\\e%f_g*h?i<j>k|l\tm\nn.txt"),
            Odd::named("\u{202e}txt.exe \u{200b}\u{feff}"),
            Odd::described(""),
            Odd::described("quotes \" ' \\ \\n \u{7f} \u{1}"),
            Odd {
                size: 0,
                checksum: sha256(""),
                ..Odd::default()
            },
            Odd {
                size: i64::MAX,
                ..Odd::default()
            },
            Odd {
                checksum: "no digest".to_owned(),
                ..Odd::default()
            },
            // Two with the same content.
            Odd {
                checksum: sha256("x"),
                ..Odd::default()
            },
            Odd {
                checksum: sha256("x"),
                ..Odd::default()
            },
            Odd::tagged(many(50)),
            Odd::tagged(many(60)),
            Odd::tagged(json!(["x".repeat(51), "kept", 5, null, ["nested"], {"a": 1}])),
            Odd::tagged(strange.clone()),
            Odd::tagged(json!([])),
            Odd::tagged(json!("no array")),
            Odd::tagged(json!({"no": "array"})),
            Odd::tagged(json!(null)),
            Odd::with_metadata("null"),
            Odd::with_metadata("[1, \"tags\"]"),
            Odd::with_metadata("\"text\""),
            Odd::with_metadata("0.10"),
            Odd::with_metadata(
                r#"{"a": {"b": [{"c": {"d": "é\\\"\u2028"}}, [], {}, true, null]}, "": 1}"#,
            ),
            Odd::with_metadata(r#"{"price": 0.10, "tags": ["fraction"]}"#),
            Odd::with_metadata(r#"{"huge": 1e400, "tags": ["huge"]}"#),
            Odd::with_metadata(r#"{"id": 9007199254740993, "tags": ["large"]}"#),
            // As deep as readers take, with what a body puts around it, and deeper.
            deep(60),
            deep(122),
            deep(123),
            deep(124),
            deep(125),
            deep(126),
            deep(127),
            deep(2_000),
        ];
        for file in &files {
            file.insert(&mut connection).await;
        }
        world.published(0).await;
        world.projected().await;
        assert_eq!(messages(&world).await.len(), files.len());

        for file in &files {
            let row = cached(&mut query, file.id).await;
            assert_eq!(row.filename, file.name);
            assert_eq!(row.description, file.description);
            assert_eq!(row.file_size, file.size);
            assert_eq!(row.omitted, None);
            let metadata: Option<String> = value(
                &mut connection,
                format!(
                    "select nullif(metadata_json, 'null')::text from elem_files where file_id = '{}'",
                    file.id
                ),
            )
            .await;
            // To the digit.
            assert_eq!(row.metadata, metadata);
        }
        let tags = |metadata: &str| {
            let found = files
                .iter()
                .find(|f| f.metadata.as_deref().is_some_and(|m| m.contains(metadata)));
            found.unwrap().id
        };
        let all: Vec<String> = (0..50).map(|n| format!("tag {n}")).collect();
        for (file, kept, dropped) in [
            (tags("tag 49"), Some(all.clone()), 0),
            (tags("tag 59"), Some(all), 10),
            (tags("kept"), Some(vec!["kept".to_owned()]), 5),
            (
                tags("NULL"),
                Some(serde_json::from_value(strange).unwrap()),
                0,
            ),
            (tags("no array"), None, 0),
            (tags("{\"tags\":[]}"), Some(vec![]), 0),
            (tags("{\"tags\":null}"), None, 0),
            (tags("fraction"), Some(vec!["fraction".to_owned()]), 0),
            (tags("huge"), Some(vec!["huge".to_owned()]), 0),
            (tags("large"), Some(vec!["large".to_owned()]), 0),
            (tags("nested 60"), Some(vec!["nested 60".to_owned()]), 0),
            (tags("nested 126"), Some(vec!["nested 126".to_owned()]), 0),
            (tags("nested 2000"), Some(vec!["nested 2000".to_owned()]), 0),
        ] {
            let row = cached(&mut query, file).await;
            assert_eq!(
                (row.tags, row.tags_dropped),
                (kept, dropped),
                "{:?}",
                row.metadata
            );
        }
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn texts_that_no_message_can_hold_are_left_out_and_named() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut connection = world.element(0).await;
        let mut query = world.query().await;
        let long = "описание ".repeat(130_000);
        assert!(long.len() > 2 << 20);
        let file = Odd {
            name: "большой.txt".to_owned(),
            ..Odd::described(&long)
        };
        let described = file.insert(&mut connection).await;
        // Its update says it once more, in `operation_data`.
        let updated = Uuid::new_v4();
        sqlx::query(
            "insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data) \
             values ($1, 'file_update', 'committed', $2, jsonb_build_object('description', $3::text))",
        )
        .bind(updated)
        .bind(file.id)
        .bind(&long)
        .execute(&mut connection)
        .await
        .unwrap();
        // In the order of the keys' bytes, which is not the database's.
        let text = json!({"b": long, "tags": ["lost"]}).to_string();
        let noted = Odd::with_metadata(&text);
        let with_metadata = noted.insert(&mut connection).await;
        // As large as fits into a message: nothing is left out.
        let fits = Odd::described("x".repeat(MAX_BODY_BYTES - 2_000));
        let whole = fits.insert(&mut connection).await;
        world.published(0).await;
        world.projected().await;

        let omitted = |field: &str, text: &str| json!({"field": field, "bytes": text.len(), "sha256": sha256(text)});
        let description = omitted("file.description", &long);
        let messages = messages(&world).await;
        for message in messages.values() {
            assert!(
                size(message) <= MAX_MESSAGE_BYTES,
                "{} bytes",
                size(message)
            );
        }
        let told = body(&messages[&described]);
        assert_eq!(told["omitted"], json!([description]));
        assert_eq!(told["file"]["description"], Value::Null);
        let told = body(&messages[&updated]);
        let fields: Vec<&str> = told["omitted"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| o["field"].as_str().unwrap())
            .collect();
        assert_eq!(fields.len(), 2, "{fields:?}");
        assert!(fields.contains(&"file.description") && fields.contains(&"operation.data"));
        assert_eq!(body(&messages[&whole])["omitted"], Value::Null);

        let row = cached(&mut query, file.id).await;
        assert_eq!(row.description, None);
        assert_eq!(row.filename, "большой.txt");
        assert_eq!(row.omitted, Some(json!([description])));
        let row = cached(&mut query, noted.id).await;
        assert_eq!((row.metadata, row.tags), (None, None));
        assert_eq!(row.omitted, Some(json!([omitted("file.metadata", &text)])));
        assert_eq!(
            body(&messages[&with_metadata])["omitted"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            cached(&mut query, fits.id).await.description,
            fits.description
        );

        // Shortened: the row is whole again.
        execute(
            &mut connection,
            format!(
                "begin; update elem_files set description = 'short' where file_id = '{}'; \
                 insert into elem_wal (transaction_id, operation_type, status, file_id, \
                     operation_data) values (gen_random_uuid(), 'file_update', 'committed', '{}', \
                     '{{}}'); commit",
                file.id, file.id
            ),
        )
        .await;
        world.published(0).await;
        world.projected().await;
        let row = cached(&mut query, file.id).await;
        assert_eq!(
            (row.description.as_deref(), row.omitted),
            (Some("short"), None)
        );
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn times_that_no_calendar_has_are_told_as_the_nearest_that_it_has() {
    run(async {
        let world = World::new(&["elem"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut connection = world.element(0).await;
        let (first, last) = ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z");
        let cases = [
            ("-infinity", Some("infinity"), first, Some(last)),
            ("infinity", Some("-infinity"), last, Some(first)),
            (
                "0044-03-15 12:00:00+00 BC",
                Some("290000-01-01 00:00:00+00"),
                first,
                Some(last),
            ),
            ("0001-01-01 00:00:00+00", None, first, None),
            (
                "9999-12-31 23:59:59.999999+00",
                Some("0001-01-01 00:00:00.000001+00"),
                last,
                Some("0001-01-01T00:00:00.000001Z"),
            ),
        ];
        let mut rows = Vec::new();
        for (started_at, completed_at, started, completed) in cases {
            let file = Odd {
                started_at: started_at.to_owned(),
                completed_at: completed_at.map(str::to_owned),
                ..Odd::default()
            };
            rows.push((file.insert(&mut connection).await, started, completed));
        }
        for created_at in ["0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"] {
            let file = Odd {
                created_at: created_at.to_owned(),
                ..Odd::default()
            };
            file.insert(&mut connection).await;
        }
        world.published(0).await;
        world.projected().await;
        let messages = messages(&world).await;
        for (id, started, completed) in rows {
            let told = body(&messages[&id]);
            assert_eq!(told["operation"]["started_at"], json!(started));
            assert_eq!(told["operation"]["completed_at"], json!(completed));
            let time = messages[&id].headers.get("ce-time").unwrap().as_str();
            assert_eq!(time, completed.unwrap_or(started));
        }
        relay.kill().await;
        projector.kill().await;
    });
}
