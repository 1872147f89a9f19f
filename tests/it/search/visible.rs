//! Read your writes, through relay and projector; and each search is an event that comes back as
//! a row of `search_history`.

use std::time::{Duration, Instant};

use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::read_your_writes::{self, AtLeast, WaitError};
use artstore_schemas::source::Source;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::corpus::TestFile;
use super::{empty, program};
use crate::support::load::{create, new_file};
use crate::support::*;

/// Waits until a search holds a connection: it is waiting, or about to.
async fn searches(query: &mut PgConnection) {
    loop {
        let running: i64 = value(
            query,
            "select count(*) from pg_stat_activity \
             where application_name = 'artstore search' and datname = current_database()",
        )
        .await;
        if running > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn position(world: &World, position: i64) -> AtLeast {
    AtLeast {
        element: world.elements[0].0.clone(),
        position,
    }
}

#[test]
fn a_write_is_found_by_its_position_while_the_projector_catches_up() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        let mut query = world.query().await;
        let relay = world.relay(0).start();
        // A backlog, and no projector.
        for number in 0..300 {
            create(&mut element, &new_file(&format!("backlog {number}.pdf")))
                .await
                .unwrap();
        }
        let written = new_file("just written.pdf");
        let at = create(&mut element, &written).await.unwrap();
        let at_least = format!("elem:{at}");
        let arguments = [
            "search",
            "just written",
            "--at-least",
            &at_least,
            "--timeout",
            "60",
            "--json",
        ];
        let mut search = world.command(&arguments).start();
        searches(&mut query).await;
        // Without waiting it is not there.
        let (status, text) = world
            .command(&["search", "just written", "--json"])
            .output()
            .await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(status.success() && answer["total"] == 0, "{text}");
        let projector = world.projector().start();
        let status = search.ended().await;
        assert!(status.success(), "{}", search.log());
        let answer: Value = serde_json::from_str(&search.output()).unwrap();
        assert_eq!(answer["hits"][0]["id"], written.id.to_string(), "{answer}");
        assert!(answer["waited_ms"].as_i64().unwrap() > 0);
        // From then on each write is found at once, every time.
        for number in 0..20 {
            let name = format!("again {number}.pdf");
            let at = create(&mut element, &new_file(&name)).await.unwrap();
            let timeout = Duration::from_secs(30);
            let wanted = [position(&world, at)];
            read_your_writes::wait(&mut query, QueryCache::NAME, &wanted, timeout)
                .await
                .unwrap();
            let sql = format!("select count(*) from file_metadata_cache where filename = '{name}'");
            assert_eq!(value::<i64>(&mut query, sql).await, 1);
        }
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_write_that_does_not_come_ends_the_wait_with_what_to_look_at() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        let first = create(&mut element, &new_file("first.pdf")).await.unwrap();
        world.published(0).await;
        world.projected().await;
        projector.kill().await;
        let second = create(&mut element, &new_file("second.pdf")).await.unwrap();
        let wait = async |at_least: &str| {
            let arguments = ["search", "x", "--at-least", at_least, "--timeout", "1"];
            let (status, said) = world.command(&arguments).finish().await;
            assert_eq!(status.code(), Some(1), "{said}");
            said
        };
        let said = wait(&format!("elem:{second}")).await;
        for part in [
            format!("position {second} of element elem"),
            format!("stands still at {first}"),
            "run projector".to_owned(),
            "--timeout".to_owned(),
        ] {
            assert!(said.contains(&part), "{part}: {said}");
        }
        let said = wait("elsewhere:1").await;
        assert!(
            said.contains("read nothing of stream ARTSTORE_WAL_elsewhere"),
            "{said}"
        );
        assert!(said.contains("it has read ARTSTORE_WAL_elem"), "{said}");
        // One that is covered does not hide one that is not.
        let mut query = world.query().await;
        let wanted = [position(&world, first), position(&world, second)];
        let error =
            read_your_writes::wait(&mut query, QueryCache::NAME, &wanted, Duration::ZERO).await;
        let Err(WaitError::NotYet { left, .. }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].wanted, wanted[1]);
        relay.kill().await;
    });
}

/// Finishes an operation and takes it back: its position is drawn and will never be written.
async fn aborted(connection: &mut PgConnection) -> i64 {
    let id = Uuid::new_v4();
    execute(connection, "begin").await;
    let drawn = value(
        connection,
        format!(
            "insert into elem_wal (transaction_id, operation_type, status, operation_data, \
                 started_at, completed_at) \
             values ('{id}', 'cache_rebuild', 'committed', '{{}}', now(), now()) \
             returning position"
        ),
    )
    .await;
    execute(connection, "rollback").await;
    drawn
}

#[test]
fn a_number_of_a_rolled_back_transaction_is_covered_by_later_events() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut element = (world.elements[0].0.clone(), world.element(0).await);
        let mut query = world.query().await;
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        create(&mut element, &new_file("before.pdf")).await.unwrap();
        let number = aborted(&mut element.1).await;
        let wanted = [position(&world, number)];
        let timeout = Duration::from_millis(300);
        let early = read_your_writes::wait(&mut query, QueryCache::NAME, &wanted, timeout).await;
        assert!(matches!(early, Err(WaitError::NotYet { .. })), "{early:?}");
        // The next event still states it as a gap; one that comes after the relay has found it aborted
        // no longer does.
        // (That takes as long as the longest transaction of the server, of other tests, too.)
        let mut missing = false;
        let started = Instant::now();
        for turn in 0.. {
            let at = create(&mut element, &new_file(&format!("{turn}.pdf")))
                .await
                .unwrap();
            let shown = [position(&world, at)];
            read_your_writes::wait(&mut query, QueryCache::NAME, &shown, PATIENCE)
                .await
                .unwrap();
            let now = read_your_writes::wait(&mut query, QueryCache::NAME, &wanted, Duration::ZERO);
            match now.await {
                Ok(_) => break,
                Err(error) => {
                    missing = true;
                    assert!(error.to_string().contains("rolled back"), "{error}");
                    assert!(started.elapsed() < PATIENCE, "{error}");
                }
            }
        }
        assert!(
            missing,
            "the first event after it can't know that it is aborted"
        );
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn each_search_is_in_the_history_once() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut query = world.query().await;
        let relay = world
            .command(&["run", "relay", "--source", "query"])
            .start();
        let projector = world.projector().start();
        for number in 1..=3 {
            TestFile::named(number, &format!("report {number}.pdf"))
                .insert(&mut query)
                .await;
        }
        let quoted = "o'hara \"x\" %_\\ отчёт";
        let searches: [&[&str]; 5] = [
            &["report"],
            &["report"],
            &["REPORT 2", "--mode", "partial", "--json"],
            &["--username", "ann", "--tag", "срочно", "--mode", "exact"],
            &[quoted, "--mode", "exact"],
        ];
        let mut events = Vec::new();
        for arguments in searches {
            let mut all = vec!["search"];
            all.extend(arguments);
            let (status, text) = world.command(&all).output().await;
            assert!(status.success(), "{text}");
            if arguments.contains(&"--json") {
                let answer: Value = serde_json::from_str(&text).unwrap();
                events.push(answer["event_id"].as_str().unwrap().to_owned());
            }
        }
        eventually("five searches are in the history", || async {
            (checkpoint(&world.query_url, &Source::Query).await >= 5).then_some(())
        })
        .await;
        type Row = (
            Option<String>,
            String,
            Option<String>,
            i32,
            Option<String>,
            Uuid,
        );
        let rows: Vec<Row> = sqlx::query_as(
            "select query_text, search_mode, filters_applied, results_count, username, event_id \
             from search_history order by id",
        )
        .fetch_all(&mut query)
        .await
        .unwrap();
        let told: Vec<_> = rows
            .iter()
            .map(|(text, mode, filters, count, user, _)| {
                assert_eq!(*user, None, "nobody is known to the command yet");
                (text.as_deref(), mode.as_str(), filters.as_deref(), *count)
            })
            .collect();
        assert_eq!(
            told,
            [
                (Some("report"), "fulltext", None, 3),
                (Some("report"), "fulltext", None, 3),
                (Some("REPORT 2"), "partial", None, 1),
                (
                    None,
                    "exact",
                    Some("{\"tags\":[\"срочно\"],\"username\":\"ann\"}"),
                    0
                ),
                (Some(quoted), "exact", None, 0),
            ]
        );
        assert_eq!(rows[2].5.to_string(), events[0]);
        let kind: String =
            value(&mut query, "select min(actor ->> 'type') from event_outbox").await;
        assert_eq!(kind, "system");
        relay.kill().await;
        projector.kill().await;
    });
}

#[test]
fn a_search_that_cannot_be_recorded_shows_its_hits_and_fails() {
    run(async {
        let (url, mut query) = empty("unrecorded").await;
        TestFile::named(1, "report.pdf").insert(&mut query).await;
        execute(&mut query, "alter table event_outbox rename to elsewhere").await;
        for json in [false, true] {
            let mut search = program(&url, &["search", "report"]);
            if json {
                search = search.argument("--json");
            }
            let mut search = search.start();
            assert_eq!(search.ended().await.code(), Some(1));
            assert!(
                search.output().contains("report.pdf"),
                "{}",
                search.output()
            );
            assert!(
                search.log().contains("was not recorded"),
                "{}",
                search.log()
            );
            if json {
                let answer: Value = serde_json::from_str(&search.output()).unwrap();
                assert_eq!(answer["event_id"], Value::Null);
            }
        }
    });
}

#[test]
fn the_rights_that_the_readme_names_are_enough() {
    run(async {
        let (url, mut query) = empty("rights").await;
        TestFile::named(1, "report.pdf").insert(&mut query).await;
        execute(
            &mut query,
            "create role searcher login password 'searcher'; \
             grant select on file_metadata_cache, projection_checkpoints to searcher; \
             grant insert, select (position) on event_outbox to searcher",
        )
        .await;
        let mut as_searcher: url::Url = url.parse().unwrap();
        as_searcher.set_username("searcher").unwrap();
        as_searcher.set_password(Some("searcher")).unwrap();
        for text in ["report", "reprot"] {
            let search = program(as_searcher.as_str(), &["search", text]);
            let (status, said) = search.finish().await;
            assert!(status.success(), "{said}");
        }
        let recorded: i64 = value(&mut query, "select count(*) from event_outbox").await;
        assert_eq!(recorded, 2);
    });
}
