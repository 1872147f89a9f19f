//! A relay's or projector's lock that another session holds: any role that may
//! connect can take it. The standbys report that nothing makes progress, and `status` names who has it.

use serde_json::Value;

use super::watched::Watched;
use super::*;

/// What status reports about this.
async fn told(world: &World, about: &str, named: &str) {
    eventually(&format!("status names {named:?} about {about}"), || async {
        let (_, said) = world.command(&["status", "--json"]).output().await;
        let said: Value = serde_json::from_str(&said).unwrap();
        let mut troubles = said["troubles"].as_array().unwrap().iter();
        troubles
            .any(|t| t["about"] == about && t["what"].as_str().unwrap().contains(named))
            .then_some(())
    })
    .await;
}

#[test]
fn a_lock_that_somebody_else_has_makes_standbys_unready_and_is_named() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let source = world.source(0);
        let (relay, projector) = (world.relay(0).start(), world.projector().start());
        file(&world, 0).await;
        world.published(0).await;
        world.projected().await;
        projector.kill().await;
        file(&world, 0).await;
        world.published(0).await;

        let mut element = world.element(0).await;
        let key: i64 = value(
            &mut element,
            "select classid::bigint << 32 | objid::bigint from pg_locks l \
             join pg_stat_activity a using (pid) \
             where locktype = 'advisory' and application_name = 'artstore relay (election)' \
               and datname = current_database()",
        )
        .await;
        relay.kill().await;
        let mut query = world.query().await;
        let stream = source.stream();
        for (connection, name, lock) in [
            (&mut element, "somebody here", key.to_string()),
            (
                &mut query,
                "somebody there",
                format!("hashtextextended('artstore/projector/query-cache/{stream}', 0)"),
            ),
        ] {
            execute(connection, format!("set application_name = '{name}'")).await;
            execute(connection, format!("select pg_advisory_lock({lock})")).await;
        }
        let relay = Watched::start(world.relay(0)).await;
        let projector = Watched::start(world.projector()).await;
        // With nothing to do there is nothing to say.
        relay.becomes_ready().await;
        file(&world, 0).await;
        relay.becomes_unready("nothing is stored").await;
        projector.becomes_unready("nobody applies them").await;
        told(&world, "elem", "somebody here").await;
        told(&world, "query-cache of elem", "somebody there").await;

        for connection in [&mut element, &mut query] {
            execute(connection, "select pg_advisory_unlock_all()").await;
        }
        world.published(0).await;
        world.projected().await;
        relay.becomes_ready().await;
        projector.becomes_ready().await;
        relay.process.kill().await;
        projector.process.kill().await;
    });
}
