//! The kit for authors of projectors: the built-in ones pass it, so does the example, and one that
//! depends on the order or on how often it is called does not.

#[allow(dead_code)]
#[path = "../../projectors/examples/files_per_user.rs"]
mod files_per_user;

use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::kit::{Given, Kit, file};
use artstore_projectors::projector::{Projector, Received, Rejection};
use artstore_projectors::query_cache::QueryCache;
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
