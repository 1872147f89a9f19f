//! Processes count each other by the names of their sessions, of which PostgreSQL keeps 63 bytes:
//! the longest names of elements, which differ in the last character alone, are shared like others.

use artstore_schemas::element::MAX_LENGTH;

use super::shares::active;
use super::watched::Watched;
use super::*;

#[test]
fn two_projectors_share_the_streams_of_the_longest_names() {
    run(async {
        let names = ["a", "b", "c"].map(|last| format!("{:x<1$}{last}", "e", MAX_LENGTH - 1));
        let world = World::new(&names.each_ref().map(String::as_str)).await;
        let first = Watched::start(world.projector()).await;
        eventually("the first takes all four", || async {
            (active(&first).await == 4.0).then_some(())
        })
        .await;
        // Else `share` would take one process for many.
        let mut query = world.query().await;
        let names: i64 = value(
            &mut query,
            "select count(distinct application_name) from pg_stat_activity \
             where datname = current_database() and application_name like '%exxx%'",
        )
        .await;
        assert_eq!(names, 3, "each stream's session has a name of its own");
        let second = Watched::start(world.projector()).await;
        eventually("each has half of them", || async {
            let shares = (active(&first).await, active(&second).await);
            (shares == (2.0, 2.0)).then_some(())
        })
        .await;
        // Nothing is handed to and fro.
        let given = first.process.log().matches("given away").count();
        assert_eq!(given, 2, "{}", first.process.log());
        first.process.kill().await;
        second.process.kill().await;
    });
}
