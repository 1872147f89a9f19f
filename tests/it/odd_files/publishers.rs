//! Odd files by the publishers' API: what it accepts, and what it refuses before it is written.

use artstore_schemas::source::Source;

use super::*;
use crate::support::*;

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

/// An entry of a btree has at most 2,704 bytes, and nothing here compresses.
#[test]
fn texts_longer_than_an_entry_of_a_btree_are_stored() {
    run(async {
        let world = World::new(&["elem"]).await;
        let relay = world.command(&["run", "relay"]).start();
        let projector = world.projector().start();
        let (mut query, mut element) = (world.query().await, world.element(0).await);
        let long = |length: usize| -> String {
            let more = || Uuid::new_v4().simple().to_string();
            (0..length.div_ceil(32)).map(|_| more()).collect()
        };
        let (user, mode, other, elem) = (long(3_000), long(3_000), long(100_000), long(3_000));
        let search = json!({"query_text": long(3_000), "search_mode": mode, "results_count": 1,
            "response_time_ms": 2, "username": user});
        let download = json!({"file_id": Uuid::new_v4(), "bytes_transferred": 1, "download_time_ms": 2,
            "was_resumed": false, "username": other, "storage_element_id": elem});
        for (entity, action, data) in [
            ("search", "performed", &search),
            ("file", "downloaded", &download),
        ] {
            sqlx::query(
                "insert into event_outbox (event_id, entity, action, data, actor) \
                 values (gen_random_uuid(), $1, $2, $3, '{\"type\": \"system\"}')",
            )
            .bind(entity)
            .bind(action)
            .bind(data)
            .execute(&mut query)
            .await
            .unwrap();
        }
        // A row that says to be of our API, with a name that no row of `_files` can have.
        let odd = Odd::default();
        odd.insert(&mut element).await;
        let name: String = long(3_000);
        sqlx::query(
            "insert into elem_wal (transaction_id, operation_type, status, file_id, operation_data) \
             select gen_random_uuid(), 'file_update', 'committed', file_id, jsonb_build_object( \
                 'artstore', 1, 'actor', '{\"type\": \"system\"}'::jsonb, 'file', \
                 jsonb_build_object('id', file_id, 'original_filename', left($1, 950), \
                     'storage_filename', storage_filename, 'storage_path', storage_path, \
                     'file_size', file_size, 'content_type', content_type, 'checksum', checksum, \
                     'created_at', '2026-01-02T03:04:05.000006Z', \
                     'updated_at', '2026-01-02T03:04:05.000006Z', 'created_by_id', '1', \
                     'created_by_username', left($1, 900))) from elem_files",
        )
        .bind(&name)
        .execute(&mut element)
        .await
        .unwrap();
        world.published(0).await;
        eventually("the outbox is published", || async {
            (world.last_sequence(&Source::Query).await == 2).then_some(())
        })
        .await;
        world.applied().await;
        let parked: i64 = value(&mut query, "select count(*) from projection_parked").await;
        assert_eq!(parked, 0, "{}", projector.log());
        world.projected().await;
        // Found as the product asks, by the index.
        execute(&mut query, "set enable_seqscan = off").await;
        for (table, column, text) in [
            ("search_history", "username", &user),
            ("search_history", "search_mode", &mode),
            ("download_statistics", "username", &other),
            ("download_statistics", "storage_element_id", &elem),
        ] {
            let sql = format!("select count(*) from {table} where {column} = '{text}'");
            let found: i64 = value(&mut query, sql.as_str()).await;
            assert_eq!(found, 1, "{table}.{column}");
            let explain = format!("explain (format json) {sql}");
            let plan = value::<Value>(&mut query, explain).await.to_string();
            assert!(plan.contains("_spgist"), "{table}.{column}: {plan}");
        }
        assert_eq!(cached(&mut query, odd.id).await.filename, odd.name);
        relay.kill().await;
        projector.kill().await;
    });
}

/// The block of docs/publishing.md behind a text, without its fences.
fn example(behind: &str, language: &str) -> String {
    let page = crate::support::repository::text("docs/publishing.md");
    let (_, rest) = page.split_once(behind).unwrap();
    let (_, rest) = rest.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn a_first_file_is_one_paste_from_the_page_in_sql_and_in_python() {
    run(async {
        let world = World::new(&["storage_elem_01"]).await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let mut connection = world.element(0).await;
        let sql = example("<!-- first file: sql -->", "sql");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();

        let folder = crate::support::repository::repository(".tools/contract-python");
        let python = std::fs::read_to_string(folder.join("program"));
        let python = python.expect("run scripts/setup --tests");
        let mut python = tokio::process::Command::new(python.trim());
        python
            .args(["-B", "-c", &example("The same in Python", "python")])
            .env("PYTHONPATH", folder.join("packages"))
            .env("STORAGE_DATABASE_URL", &world.elements[0].1);
        let said = crate::support::repository::succeeded(&mut python)
            .await
            .stdout;
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("position "), "{said}");

        world.published(0).await;
        world.projected().await;
        let mut query = world.query().await;
        let sql = "select count(*) from file_metadata_cache where filename = 'hello.txt' \
                   and file_size = 5 and username = 'ivanova'";
        let found: i64 = value(&mut query, sql.to_owned()).await;
        assert_eq!(found, 2);
        relay.kill().await;
        projector.kill().await;
    });
}
