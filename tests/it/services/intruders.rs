//! What a role that may only connect can do to the election: nothing. It takes every lock that it can see or know,
//! waits behind those that are held, and calls its sessions what ours are called.

use sqlx::PgConnection;

use super::*;

/// A role that may connect, and has no other right.
async fn stranger(world: &World) -> String {
    let role = format!("stranger_{}", uuid::Uuid::new_v4().simple());
    let sql = format!("create role {role} login password '{role}'");
    execute(&mut world.query().await, sql).await;
    role
}

fn login(url: &str, role: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}:{role}@{place}")
}

/// The keys of all locks that others hold in this database: everybody sees them.
async fn keys(connection: &mut PgConnection) -> Vec<i64> {
    sqlx::query_scalar(
        "select distinct classid::bigint << 32 | objid::bigint from pg_locks \
         where locktype = 'advisory' and granted and objsubid = 1 and pid <> pg_backend_pid() \
           and database = (select oid from pg_database where datname = current_database())",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

/// Waits behind every lock that is held, and takes each as soon as it is free. Sessions end with the result.
async fn lie_in_wait(url: &str, role: &str) -> Vec<tokio::task::JoinHandle<()>> {
    let url = login(url, role);
    let mut look = pg(&url).await;
    let mut waiting = Vec::new();
    for key in keys(&mut look).await {
        let mut connection = pg(&url).await;
        execute(
            &mut connection,
            "set application_name = 'artstore relay (election)'",
        )
        .await;
        waiting.push(tokio::spawn(async move {
            execute(&mut connection, format!("select pg_advisory_lock({key})")).await;
            std::future::pending::<()>().await;
        }));
    }
    let count = i64::try_from(waiting.len()).unwrap();
    eventually("all of them wait", || async {
        let sql = format!(
            "select count(*) from pg_locks join pg_stat_activity using (pid) \
             where locktype = 'advisory' and not granted and usename = '{role}' \
               and datname = current_database()"
        );
        let now: i64 = value(&mut pg(&url).await, sql).await;
        (now >= count).then_some(())
    })
    .await;
    waiting
}

#[test]
fn a_role_that_may_only_connect_can_not_keep_anybody_from_being_elected() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let role = stranger(&world).await;
        let (mut relay, mut projector) = (world.relay(0).start(), world.projector().start());
        file(&world, 0).await;
        world.published(0).await;
        world.projected().await;
        for (url, table) in [
            (&world.elements[0].1, "elem_relay_lock"),
            (&world.query_url, "projection_locks"),
            (&world.query_url, "event_outbox_relay_lock"),
        ] {
            for theft in [
                format!("select * from {table}"),
                format!("update {table} set key = 1"),
                format!("insert into {table} values ('x', 1)"),
                format!("begin; lock table {table} in access share mode"),
            ] {
                let mut connection = pg(&login(url, &role)).await;
                let refused = try_execute(&mut connection, theft).await.unwrap_err();
                let code = refused.as_database_error().and_then(|error| error.code());
                assert_eq!(code.as_deref(), Some("42501"), "{refused}");
            }
        }
        let mut waiting = Vec::new();
        for number in 1..=3 {
            waiting.extend(lie_in_wait(&world.elements[0].1, &role).await);
            waiting.extend(lie_in_wait(&world.query_url, &role).await);
            relay.kill().await;
            projector.kill().await;
            // It has them all, and the key that earlier versions use. That keeps nobody from running: it is not
            // taken for a relay or a worker that hangs.
            nobody_runs(&world).await;
            let first = relay_and_projector(&world);
            (relay, projector) = first;
            file(&world, 0).await;
            world.published(0).await;
            world.projected().await;
            println!("elected for the {number}. time");
        }
        assert!(
            relay.log().contains("the lock has a new key"),
            "{}",
            relay.log()
        );
        let log = projector.log();
        assert!(log.contains("the lock has a new key"), "{log}");
        assert!(log.contains(&role), "who had it is named: {log}");

        // Who has the lock is a relay's session, whoever has the other keys; and a command gets it.
        let (_, said) = world.command(&["status", "--json"]).output().await;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let mut elem = said["sources"].as_array().unwrap().iter();
        let elem = elem.rfind(|source| source["source"] == "elem").unwrap();
        assert_eq!(elem["relay"]["state"], "active", "{elem:#}");
        assert_ne!(elem["relay"]["holder"]["user"], role.as_str(), "{elem:#}");
        let (status, said) = world
            .command(&["element", "backfill", "elem"])
            .output()
            .await;
        assert!(status.success(), "{said}");
        let rebuild = ["projection", "rebuild", "query-cache"];
        let (status, said) = world.command(&rebuild).output().await;
        assert!(status.success(), "{said}");
        for session in waiting {
            session.abort();
        }
        relay.kill().await;
        projector.kill().await;
    });
}

async fn nobody_runs(world: &World) {
    eventually("status says that nobody runs", || async {
        let (_, said) = world.command(&["status", "--json"]).output().await;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let mut sources = said["sources"].as_array().unwrap().iter();
        let relay = &sources.find(|source| source["source"] == "elem")?["relay"];
        let mut streams = said["projections"][0]["streams"].as_array()?.iter();
        let workers = &streams.find(|stream| stream["source"] == "elem")?["workers"];
        (relay["state"] == "none" && relay["lock_held"] == false && workers["lock_held"] == false)
            .then_some(())
    })
    .await;
}

fn relay_and_projector(world: &World) -> (Process, Process) {
    (world.relay(0).start(), world.projector().start())
}

/// The number that earlier versions lock, by a role that may be a relay: a program of such a version.
#[test]
fn a_relay_of_an_earlier_version_and_this_one_are_never_both_active() {
    run_waiting(async {
        let world = World::new(&["elem"]).await;
        let key =
            "('x' || encode(substr(sha256('artstore/relay/elem'), 1, 8), 'hex'))::bit(64)::bigint";
        let mut earlier = world.element(0).await;
        execute(
            &mut earlier,
            "set application_name = 'artstore relay (election)'",
        )
        .await;
        execute(&mut earlier, format!("select pg_advisory_lock({key})")).await;
        let relay = world.relay(0).start();
        relay.says("standby: another relay is active").await;
        file(&world, 0).await;
        execute(&mut earlier, "select pg_advisory_unlock_all()").await;
        world.published(0).await;
        // And the other way round: it finds its lock taken.
        let free: bool = value(&mut earlier, format!("select pg_try_advisory_lock({key})")).await;
        assert!(!free);
        relay.kill().await;
    });
}

/// Sessions of a stranger do not count as processes that want a share of the streams.
#[test]
fn sessions_that_call_themselves_workers_take_no_stream_away() {
    run(async {
        let world = World::new(&["elem", "other"]).await;
        let role = stranger(&world).await;
        let projector = world.projector().start();
        file(&world, 0).await;
        let relay = world.command(&["run", "relay"]).start();
        world.published(0).await;
        world.projected().await;
        let mut sessions = Vec::new();
        for stream in ["elem", "other", "query"] {
            for _ in 0..5 {
                let mut session = pg(&login(&world.query_url, &role)).await;
                let name = format!("set application_name = 'artstore query-cache {stream}'");
                execute(&mut session, name).await;
                sessions.push(session);
            }
        }
        // It looks every two seconds, and would give streams away at the second look.
        let since = std::time::Instant::now();
        while since.elapsed() < std::time::Duration::from_secs(6) {
            file(&world, 0).await;
            world.published(0).await;
            world.projected().await;
        }
        assert!(
            !projector.log().contains("given away"),
            "{}",
            projector.log()
        );
        relay.kill().await;
        projector.kill().await;
    });
}
