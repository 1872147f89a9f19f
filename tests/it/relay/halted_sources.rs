//! What whoever writes or owns one source's database can do to the relay of all others: nothing. Each attack is
//! run before the start, where a halt used to end the whole relay.

use crate::support::*;

/// The role of a storage element: it writes its tables.
async fn publisher(world: &World) -> String {
    let role = format!("publisher_{}", uuid::Uuid::new_v4().simple());
    let mut element = world.element(0).await;
    execute(
        &mut element,
        format!("create role {role} login password '{role}'"),
    )
    .await;
    let (ended, said) = world
        .command(&["migrate", "grant", "--role", &role, "--for", "publisher"])
        .finish()
        .await;
    assert!(ended.success(), "{said}");
    let (_, place) = world.elements[0].1.split_once('@').unwrap();
    format!("postgres://{role}:{role}@{place}")
}

async fn finish(world: &World, element: usize) {
    let name = &world.elements[element].0;
    let sql = format!(
        "insert into {name}_wal (transaction_id, operation_type, status, user_id, operation_data) \
         values (gen_random_uuid(), 'cache_rebuild', 'committed', 'ann', '{{}}')"
    );
    execute(&mut world.element(element).await, sql).await;
}

#[test]
fn a_publisher_can_not_change_what_it_has_finished() {
    run(async {
        let world = World::new(&["elem"]).await;
        let mut publisher = pg(&publisher(&world).await).await;
        finish(&world, 0).await;
        for change in [
            "transaction_id = gen_random_uuid()",
            "operation_data = '{\"a\": 1}'",
            "file_id = gen_random_uuid()",
            "user_id = 'eve'",
            "operation_type = 'file_delete'",
            "status = 'pending'",
            "error_message = 'x'",
            "completed_at = now()",
        ] {
            let sql = format!("update elem_wal set {change} where position = 1");
            let refused = try_execute(&mut publisher, sql).await.unwrap_err();
            let code = refused.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("23000"), "{change}: {refused}");
        }
        for attack in [
            "delete from elem_wal",
            "truncate elem_wal",
            "alter table elem_wal disable trigger all",
            "set session_replication_role = replica",
        ] {
            let refused = try_execute(&mut publisher, attack).await.unwrap_err();
            let code = refused.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("42501"), "{attack}: {refused}");
        }
        // The position is the trigger's, whatever the writer supplies.
        execute(&mut publisher, "update elem_wal set position = 7").await;
        let relay = world.relay(0).start();
        world.published(0).await;
        relay.kill().await;
    });
}

/// The owner of a source's tables, as a storage element that made them itself.
#[test]
fn a_source_that_its_owner_changed_halts_alone() {
    run(async {
        let world = World::new(&["elem", "other"]).await;
        finish(&world, 0).await;
        finish(&world, 1).await;
        let relay = world.command(&["run", "relay"]).start();
        world.published(0).await;
        world.published(1).await;
        relay.kill().await;
        let name = {
            let (_, name) = world.elements[0].1.rsplit_once('/').unwrap();
            name.to_owned()
        };
        let role = format!("relay_{}", uuid::Uuid::new_v4().simple());
        execute(
            &mut world.element(0).await,
            format!("create role {role} login password '{role}' in role pg_monitor"),
        )
        .await;
        let (ended, said) = world
            .command(&["migrate", "grant", "--role", &role, "--for", "relay"])
            .finish()
            .await;
        assert!(ended.success(), "{said}");
        let with_role = |url: &str| {
            let (_, place) = url.split_once('@').unwrap();
            format!("postgres://{role}:{role}@{place}")
        };
        for (attack, undo) in [
            (
                "alter table elem_wal disable trigger zzz_elem_wal_position".to_owned(),
                "alter table elem_wal enable always trigger zzz_elem_wal_position".to_owned(),
            ),
            (
                "alter table elem_wal enable row level security".to_owned(),
                "alter table elem_wal disable row level security".to_owned(),
            ),
            (
                "alter table elem_wal rename to elem_wal_gone".to_owned(),
                "alter table elem_wal_gone rename to elem_wal".to_owned(),
            ),
            (
                format!("revoke select on elem_files from {role}"),
                format!("grant select on elem_files to {role}"),
            ),
            (
                format!("revoke connect on database {name} from public, {role}"),
                format!("grant connect on database {name} to public"),
            ),
        ] {
            execute(&mut world.element(0).await, attack.as_str()).await;
            let elements: Vec<String> = world
                .elements
                .iter()
                .map(|(name, url)| format!("{name}={}", with_role(url)))
                .collect();
            let mut relay = world
                .command(&["run", "relay"])
                .env("ARTSTORE_ELEMENTS", &elements.join(","))
                .env("QUERY_DATABASE_URL", &with_role(&world.query_url))
                .env("ADMIN_DATABASE_URL", &with_role(&world.admin_url))
                .start();
            finish(&world, 1).await;
            world.published(1).await;
            relay.says("the relay has halted").await;
            // Taken back, it continues.
            execute(&mut world.element(0).await, undo).await;
            finish(&world, 0).await;
            world.published(0).await;
            relay.signal("-TERM").await;
            assert_eq!(relay.ended().await.code(), Some(0), "{attack}");
        }
        // A stream that is gone, as whoever sets streams up can make it.
        let stream = world.source(0).stream();
        assert!(
            world
                .bus
                .jetstream
                .delete_stream(stream)
                .await
                .unwrap()
                .success
        );
        let relay = world.command(&["run", "relay"]).start();
        finish(&world, 1).await;
        world.published(1).await;
        relay.says("does not exist").await;
        relay.kill().await;
    });
}
