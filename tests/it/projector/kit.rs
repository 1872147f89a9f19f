//! The kit for authors of projectors: the built-in ones pass it, so does the example, and one that
//! depends on the order or on how often it is called does not.

#[allow(dead_code)]
#[path = "../../../projectors/examples/files_per_user.rs"]
mod files_per_user;

use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::kit::{Given, Kit, file};
use artstore_projectors::projector::{Projector, Received, Rejection};
use artstore_projectors::query_cache::QueryCache;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use chrono::{DateTime, TimeDelta, Utc};
use files_per_user::FilesPerUser;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::support::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

/// Files that are created, changed, deleted, come back, and move from one element to another.
fn files() -> Vec<Given> {
    vec![
        Given::file("elem_a", "created", file(1, "ann", 10, at(1))),
        Given::file("elem_a", "created", file(2, "ann", 20, at(2))),
        Given::file("elem_b", "created", file(3, "bob", 30, at(3))),
        Given::file("elem_a", "updated", file(2, "ann", 25, at(2))),
        Given::deleted("elem_a", Uuid::from_u128(1)),
        // Moves: the claim on the other element is later.
        Given::file("elem_b", "created", file(2, "ann", 25, at(9))),
        Given::deleted("elem_a", Uuid::from_u128(2)),
        Given::file("elem_a", "created", file(4, "bob", 40, at(4))),
        Given::deleted("elem_a", Uuid::from_u128(4)),
        Given::file("elem_a", "created", file(4, "bob", 41, at(5))),
        Given::outbox(
            Source::Query,
            "search",
            "performed",
            json!({"query_text": "x", "search_mode": "exact", "results_count": 1, "response_time_ms": 1}),
        ),
        Given::outbox(Source::Query, "thing", "seen", json!({})),
    ]
}

#[test]
fn the_built_in_projectors_and_the_example_pass_the_kit() {
    run(async {
        let world = World::new(&[]).await;
        let mut query = pg(&world.query_url).await;
        let rows = "select id || ' ' || storage_element_id || ' ' || file_size from file_metadata_cache \
             union all select 'search ' || query_text from search_history order by 1";
        let id = |n: u128| Uuid::from_u128(n).to_string();
        let cached = [
            format!("{} elem_b 25", id(2)),
            format!("{} elem_b 30", id(3)),
            format!("{} elem_a 41", id(4)),
            "search x".to_owned(),
        ];
        let cached: Vec<&str> = cached.iter().map(String::as_str).collect();
        let mut kit = Kit {
            projector: QueryCache,
            connection: &mut query,
            before: "",
            rows,
        };
        kit.holds(&files(), &cached).await;

        let mut admin = pg(&world.admin_url).await;
        let mut kit = Kit {
            projector: ElementRegistry,
            connection: &mut admin,
            before: "insert into storage_elements (name, mode, storage_type, base_path, api_url, \
                 status, used_bytes, file_count, is_replicated, replica_count, created_at, updated_at) \
                 values ('elem_a', 'EDIT', 'LOCAL', '/', 'u', 'ONLINE', 7, 7, false, 0, now(), now())",
            rows: "select element || ' ' || files || ' ' || bytes from registry_elements \
                 union all select 'shown ' || name || ' ' || file_count || ' ' || used_bytes \
                 from storage_elements order by 1",
        };
        kit.holds(
            &files(),
            &["elem_a 1 41", "elem_b 2 55", "shown elem_a 1 41"],
        )
        .await;

        execute(&mut query, files_per_user::TABLE).await;
        let mut kit = Kit {
            projector: FilesPerUser,
            connection: &mut query,
            before: "",
            rows: "select username || ' ' || count(distinct file_id) from user_files \
                 group by username order by 1",
        };
        kit.holds(&files(), &["ann 1", "bob 2"]).await;
    });
}

/// Counts events: wrong where they come twice, right otherwise.
struct Counting;

impl Projector for Counting {
    const NAME: &'static str = "counting";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["counted"];
    const MODULE: &'static str = "query";
    const VARIABLE: &'static str = "QUERY_DATABASE_URL";
    const DURABLE: bool = false;
    type Message = Received;

    fn reads(&self, _source: &Source) -> bool {
        true
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        _source: &Source,
        batch: &[Received],
    ) -> Result<(), Rejection> {
        sqlx::query("insert into counted select count(*) from generate_series(1, $1)")
            .bind(i32::try_from(batch.len()).unwrap())
            .execute(transaction)
            .await?;
        Ok(())
    }
}

#[test]
#[should_panic(expected = "counting, applied twice")]
fn a_projector_that_counts_what_comes_twice_does_not_pass() {
    run(async {
        let world = World::new(&[]).await;
        let mut query = pg(&world.query_url).await;
        execute(&mut query, "create table counted (events bigint not null)").await;
        let mut kit = Kit {
            projector: Counting,
            connection: &mut query,
            before: "",
            rows: "select sum(events)::text from counted",
        };
        kit.holds(&files(), &["12"]).await;
    });
}

/// The last event that was applied wins, whichever stream it is of: right as long as streams happen to
/// come in one order.
struct LastWins;

impl Projector for LastWins {
    const NAME: &'static str = "last-wins";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["places"];
    const MODULE: &'static str = "query";
    const VARIABLE: &'static str = "QUERY_DATABASE_URL";
    const DURABLE: bool = false;
    type Message = Received;

    fn reads(&self, source: &Source) -> bool {
        matches!(source, Source::Element(_))
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Received],
    ) -> Result<(), Rejection> {
        for received in batch {
            sqlx::query(
                "insert into places values ($1, $2) on conflict (file) do update set place = $2",
            )
            .bind(&received.envelope.subject)
            .bind(source.to_string())
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    }
}

#[test]
#[should_panic(expected = "last-wins, with all of elem_a behind all others")]
fn a_projector_that_depends_on_which_stream_comes_first_does_not_pass() {
    run(async {
        let world = World::new(&[]).await;
        let mut query = pg(&world.query_url).await;
        execute(
            &mut query,
            "create table places (file text primary key, place text not null)",
        )
        .await;
        let mut kit = Kit {
            projector: LastWins,
            connection: &mut query,
            before: "",
            rows: "select place from places",
        };
        let given = [
            Given::file("elem_a", "created", file(1, "ann", 10, at(1))),
            Given::file("elem_b", "created", file(1, "ann", 10, at(9))),
        ];
        kit.holds(&given, &["elem_b"]).await;
    });
}

/// Counts the last state of each thing: right for events of one key in order.
struct LastSaid;

impl Projector for LastSaid {
    const NAME: &'static str = "last-said";
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &["said"];
    const MODULE: &'static str = "query";
    const VARIABLE: &'static str = "QUERY_DATABASE_URL";
    const DURABLE: bool = false;
    type Message = Received;

    fn reads(&self, source: &Source) -> bool {
        *source == Source::Query
    }

    /// A key of its own: what is in front of the colon.
    fn key(&self, envelope: &Envelope) -> Option<Uuid> {
        let (thing, _) = envelope.subject.as_deref()?.split_once(':')?;
        Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, thing.as_bytes()))
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        _source: &Source,
        batch: &[Received],
    ) -> Result<(), Rejection> {
        for received in batch {
            let subject = received.envelope.subject.as_deref().unwrap();
            let (thing, said) = subject.split_once(':').unwrap();
            sqlx::query(
                "insert into said values ($1, $2) on conflict (thing) do update set said = $2",
            )
            .bind(thing)
            .bind(said)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    }
}

#[test]
fn a_projector_with_a_key_of_its_own_passes() {
    run(async {
        let world = World::new(&[]).await;
        let mut query = pg(&world.query_url).await;
        execute(
            &mut query,
            "create table said (thing text primary key, said text not null)",
        )
        .await;
        let mut kit = Kit {
            projector: LastSaid,
            connection: &mut query,
            before: "",
            rows: "select thing || ' ' || said from said order by 1",
        };
        let given: Vec<Given> = ["a:1", "b:1", "a:2", "b:2", "a:3", "b:3"]
            .map(|about| Given::outbox(Source::Query, "thing", "said", json!({})).about(about))
            .into();
        kit.holds(&given, &["a 3", "b 3"]).await;
    });
}
