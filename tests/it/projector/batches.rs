//! A backlog is applied in large batches: each costs one set of round trips and one commit.

use crate::projector::parking::{files, passed};
use crate::support::*;

#[test]
fn what_waits_is_committed_hundreds_of_events_at_a_time() {
    run(async {
        let world = World::new(&["elem"]).await;
        files(&world, 5_000).await;
        let relay = world.command(&["run", "relay"]).start();
        world.published(0).await;
        let mut query = world.query().await;
        // Rows of one transaction have the same.
        let largest = "select max(n) from (select count(*) as n from file_metadata_cache \
             group by xmin::text) as batches";
        let projector = world.projector().start();
        passed(&world).await;
        assert_eq!(count(&mut query).await, 5_000);
        let live: i64 = value(&mut query, largest).await;
        let rebuild = ["projection", "rebuild", "query-cache"];
        let (status, said) = world.command(&rebuild).output().await;
        assert!(status.success(), "{said}");
        assert_eq!(count(&mut query).await, 5_000);
        let rebuilt: i64 = value(&mut query, largest).await;
        println!("at most {live} and {rebuilt} rows in a transaction");
        assert!(live >= 300 && rebuilt >= 300, "{live}, {rebuilt}");
        projector.kill().await;
        relay.kill().await;
    });
}

async fn count(query: &mut sqlx::PgConnection) -> i64 {
    value(query, "select count(*) from file_metadata_cache").await
}
