//! Every row that an element can legally hold reaches the cache: odd names, texts, tags, metadata
//! and times, written by plain SQL and through the publishers' API; and people find them.

use std::collections::HashMap;

use artstore_producers::files::{self, FileUpdate, NewFile};
use artstore_producers::wal::{self, Begin, OperationType, PublishError};
use artstore_schemas::actor::Actor;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::size::{MAX_BODY_BYTES, MAX_MESSAGE_BYTES};
use async_nats::jetstream::message::StreamMessage;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::load::{begin, create, new_file};
use crate::support::*;

/// A file by plain SQL: what is not set here is what every file has.
#[derive(Clone)]
struct Odd {
    id: Uuid,
    name: String,
    description: Option<String>,
    metadata: Option<String>,
    size: i64,
    checksum: String,
    created_at: String,
    started_at: String,
    completed_at: Option<String>,
}

impl Default for Odd {
    fn default() -> Self {
        let now = "2026-01-02 03:04:05.000006+00";
        Self {
            id: Uuid::new_v4(),
            name: "plain.txt".to_owned(),
            description: None,
            metadata: None,
            size: 5,
            checksum: "c".repeat(64),
            created_at: now.to_owned(),
            started_at: now.to_owned(),
            completed_at: Some(now.to_owned()),
        }
    }
}

impl Odd {
    fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    fn described(description: impl Into<String>) -> Self {
        Self {
            description: Some(description.into()),
            ..Self::default()
        }
    }

    fn with_metadata(metadata: impl Into<String>) -> Self {
        Self {
            metadata: Some(metadata.into()),
            ..Self::default()
        }
    }

    fn tagged(tags: Value) -> Self {
        Self::with_metadata(json!({ "tags": tags }).to_string())
    }

    /// The file and its finished row.
    async fn insert(&self, connection: &mut PgConnection) -> Uuid {
        let mut transaction = connection.begin().await.unwrap();
        sqlx::query(
            "insert into elem_files (file_id, original_filename, storage_filename, file_size, \
                 content_type, created_by_id, created_by_username, storage_path, description, \
                 metadata_json, checksum, created_at, updated_at) \
             values ($1, $2, $1::text, $3, 'text/plain', '1', 'ann', '/', $4, $5::text::jsonb, $6, \
                 $7::text::timestamptz, $7::text::timestamptz)",
        )
        .bind(self.id)
        .bind(&self.name)
        .bind(self.size)
        .bind(&self.description)
        .bind(&self.metadata)
        .bind(&self.checksum)
        .bind(&self.created_at)
        .execute(&mut *transaction)
        .await
        .unwrap();
        let operation = Uuid::new_v4();
        sqlx::query(
            "insert into elem_wal (transaction_id, operation_type, status, file_id, \
                 operation_data, started_at, completed_at) \
             values ($1, 'file_create', 'committed', $2, '{}', $3::text::timestamptz, \
                 $4::text::timestamptz)",
        )
        .bind(operation)
        .bind(self.id)
        .bind(&self.started_at)
        .bind(&self.completed_at)
        .execute(&mut *transaction)
        .await
        .unwrap();
        transaction.commit().await.unwrap();
        operation
    }
}

/// A row of the cache.
#[derive(Debug, sqlx::FromRow)]
struct Cached {
    filename: String,
    file_size: i64,
    description: Option<String>,
    tags: Option<Vec<String>>,
    tags_dropped: i32,
    metadata: Option<String>,
    omitted: Option<Value>,
}

async fn cached(query: &mut PgConnection, file: Uuid) -> Cached {
    sqlx::query_as(
        "select filename, file_size, description, tags, tags_dropped, metadata::text as metadata, \
             omitted \
         from file_metadata_cache where id = $1",
    )
    .bind(file.to_string())
    .fetch_one(query)
    .await
    .unwrap()
}

/// All messages of the element, by event.
async fn messages(world: &World) -> HashMap<Uuid, StreamMessage> {
    let stream = world.source(0).stream();
    let stream = world.bus.jetstream.get_stream(stream).await.unwrap();
    let mut messages = HashMap::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let id = Envelope::from_headers(&message.headers).unwrap().id;
        messages.insert(id, message);
    }
    messages
}

fn body(message: &StreamMessage) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

fn size(message: &StreamMessage) -> usize {
    let headers: usize = message
        .headers
        .iter()
        .flat_map(|(name, values)| {
            values
                .iter()
                .map(move |v| name.to_string().len() + v.as_str().len() + 4)
        })
        .sum();
    message.payload.len() + headers + message.subject.len()
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An array in an array in an array.
fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

fn deep(depth: usize) -> Odd {
    let arrays = nested(depth);
    Odd::with_metadata(format!(
        "{{\"deep\": {arrays}, \"tags\": [\"nested {depth}\"]}}"
    ))
}

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
        // As large as can be told: nothing is left out.
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

/// What can be read of an element's tables.
async fn counts(connection: &mut PgConnection) -> (i64, i64) {
    let row =
        sqlx::query("select (select count(*) from elem_files), (select count(*) from elem_wal)")
            .fetch_one(connection)
            .await
            .unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn the_publishers_api_takes_odd_files_and_refuses_what_a_message_cannot_hold() {
    run(async {
        let world = World::new(&["elem"]).await;
        let api_url = format!("https://{}.example.org/api/v1", "x".repeat(1_000));
        let relay = world
            .relay(0)
            .env("ARTSTORE_ELEMENT_API_URLS", &format!("elem={api_url}"))
            .start();
        let projector = world.projector().start();
        let mut query = world.query().await;
        let element = world.elements[0].0.clone();
        let mut publisher = (element.clone(), world.element(0).await);

        let odd = [
            NewFile {
                file_size: 0,
                ..new_file(&"🦀".repeat(500))
            },
            NewFile {
                description: Some(String::new()),
                ..new_file("\"Отчёт\" 'a' \\ \n.pdf")
            },
            NewFile {
                metadata: Some(Value::Null),
                ..new_file("null")
            },
            NewFile {
                metadata: Some(json!({"a": [{"b": {"tags": [1]}}], "tags": "x"})),
                ..new_file("nested")
            },
            NewFile {
                metadata: Some(json!({"max": 9_007_199_254_740_991_i64, "price": "0.10"})),
                ..new_file("numbers")
            },
        ];
        let mut positions = HashMap::new();
        for file in &odd {
            positions.insert(file.id, create(&mut publisher, file).await.unwrap());
        }
        let (_, connection) = &mut publisher;
        for (file, position) in &positions {
            let row: i64 = value(
                connection,
                format!("select position from elem_wal where file_id = '{file}'"),
            )
            .await;
            assert_eq!(row, *position);
        }

        // Refused before anything is written.
        let before = counts(connection).await;
        let refused = [
            json!({"n": 0.5}),
            json!({"n": 9_007_199_254_740_992_i64}),
            json!([{"deep": "a\0b"}]),
            json!({"a\0b": 1}),
            serde_json::from_str(&nested(120)).unwrap(),
        ];
        for metadata in refused {
            let file = NewFile {
                metadata: Some(metadata.clone()),
                ..new_file("refused")
            };
            let mut transaction = connection.begin().await.unwrap();
            let error = files::insert(&mut transaction, &element, &file)
                .await
                .unwrap_err();
            assert!(
                matches!(
                    error,
                    PublishError::UnsafeJson {
                        field: "metadata",
                        ..
                    }
                ),
                "{error}"
            );
            let change = FileUpdate {
                metadata: Some(metadata.clone()),
                ..FileUpdate::default()
            };
            let error = files::update(&mut transaction, &element, odd[0].id, &change)
                .await
                .unwrap_err();
            assert!(
                matches!(
                    error,
                    PublishError::UnsafeJson {
                        field: "metadata",
                        ..
                    }
                ),
                "{error}"
            );
            // The transaction is as it was: nothing was sent to the database.
            execute(&mut transaction, "select 1").await;
            transaction.commit().await.unwrap();
            let begin = Begin {
                data: Some(metadata),
                ..begin(OperationType::FileUpdate, odd[0].id)
            };
            let error = wal::begin(connection, &element, Actor::system(), begin)
                .await
                .unwrap_err();
            assert!(
                matches!(error, PublishError::UnsafeJson { field: "data", .. }),
                "{error}"
            );
        }
        assert_eq!(counts(connection).await, before);

        // Too large: refused before the row is finished, and the caller takes its change back.
        let large = |length| NewFile {
            description: Some("x".repeat(length)),
            ..new_file("large.txt")
        };
        let file = large(2 << 20);
        let operation = wal::begin(
            connection,
            &element,
            Actor::system(),
            begin(OperationType::FileCreate, file.id),
        );
        let operation = operation.await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        let row = files::insert(&mut transaction, &element, &file)
            .await
            .unwrap();
        let error = operation
            .clone()
            .commit(&mut transaction, Some(row))
            .await
            .unwrap_err();
        let PublishError::TooLarge { bytes } = error else {
            panic!("{error}");
        };
        assert!(bytes > 2 << 20);
        let pending: String = value(
            &mut transaction,
            format!(
                "select status from elem_wal where transaction_id = '{}'",
                operation.id()
            ),
        )
        .await;
        assert_eq!(pending, "pending");
        transaction.rollback().await.unwrap();
        assert_eq!(counts(connection).await, (before.0, before.1 + 1));
        operation.fail(connection, "too large").await.unwrap();

        // The largest that it takes is published whole.
        let mut length = (2 << 20) - (bytes - MAX_BODY_BYTES);
        let largest = loop {
            let file = large(length);
            match create(&mut publisher, &file).await {
                Ok(_) => break file,
                Err(PublishError::TooLarge { bytes }) => length -= bytes - MAX_BODY_BYTES,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(length > MAX_BODY_BYTES - 8_192, "{length}");
        world.published(0).await;
        world.projected().await;
        let row = cached(&mut query, largest.id).await;
        assert_eq!(row.omitted, None);
        assert_eq!(row.description, largest.description);

        for message in world.messages(&world.source(0)).await {
            let file: Option<Uuid> = message.subject.and_then(|id| id.parse().ok());
            if let Some(position) = file.and_then(|id| positions.remove(&id)) {
                assert_eq!(message.position, Some(position));
            }
        }
        assert!(positions.is_empty(), "{positions:?}");
        relay.kill().await;
        projector.kill().await;
    });
}

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
