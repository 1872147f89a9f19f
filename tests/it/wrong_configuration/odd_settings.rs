//! Whatever settings a role and a database have, the program's own connections have those that its SQL
//! relies on: the main paths end as they do everywhere.

use artstore_migrations::Module;
use uuid::Uuid;

use crate::adoption::{Made, modules, product_database};
use crate::audit::{Audited, admin_events};
use crate::projector::parking::{files, passed};
use crate::support::*;

/// Settings that change what a statement means or gives, and what they are elsewhere. In the schema
/// `odd` is an operator that takes the place of PostgreSQL's own.
const ODD: &[(&str, &str, &str)] = &[
    ("search_path", "odd, pg_catalog", "\"$user\", public"),
    ("quote_all_identifiers", "on", "off"),
    ("standard_conforming_strings", "off", "on"),
    ("datestyle", "'SQL, DMY'", "'ISO, MDY'"),
    ("intervalstyle", "sql_standard", "postgres"),
    ("timezone", "'Asia/Kolkata'", "'UTC'"),
    ("bytea_output", "escape", "hex"),
    ("extra_float_digits", "-15", "1"),
    ("client_encoding", "'LATIN1'", "'UTF8'"),
    (
        "default_transaction_isolation",
        "serializable",
        "'read committed'",
    ),
    ("default_transaction_read_only", "on", "off"),
    ("default_transaction_deferrable", "on", "off"),
    ("xmloption", "document", "content"),
    ("array_nulls", "off", "on"),
    ("transform_null_equals", "on", "off"),
    ("check_function_bodies", "off", "on"),
    ("gin_fuzzy_search_limit", "1", "0"),
    ("exit_on_error", "on", "off"),
];

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Makes a database odd for everybody but the tests' own role, and gives its URL as the odd role.
async fn odd(url: &str, role: &str) -> String {
    let mut connection = pg(url).await;
    execute(
        &mut connection,
        "create schema if not exists odd; \
         create function odd.never(text, text) returns boolean language sql immutable as 'select false'; \
         create operator odd.= (function = odd.never, leftarg = text, rightarg = text); \
         create function odd.lower(text) returns text language sql immutable as 'select null::text'",
    )
    .await;
    let own: String = value(&mut connection, "select current_user::text").await;
    let database = name_of(url);
    for (name, odd, usual) in ODD {
        execute(
            &mut connection,
            format!(
                "alter role {own} in database {database} set {name} = {usual}; \
                 alter database {database} set {name} = {odd}"
            ),
        )
        .await;
    }
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}:{role}@{place}")
}

async fn role() -> String {
    let role = format!("odd_{}", Uuid::new_v4().simple());
    let mut connection = pg(&shared_stack().await.database_url("postgres")).await;
    execute(
        &mut connection,
        format!("create role {role} superuser login password '{role}'"),
    )
    .await;
    for (name, odd, _) in ODD {
        let sql = format!("alter role {role} set {name} = {odd}");
        execute(&mut connection, sql).await;
    }
    role
}

#[test]
fn tables_are_made_and_adopted_whatever_the_settings_are() {
    run(async {
        let role = role().await;
        for module in modules() {
            let (made, _) = product_database(&module, Made::ByMigrations).await;
            let (made, empty) = (odd(&made, &role).await, database("empty").await);
            let empty = odd(&empty, &role).await;
            let command = |url: &str, arguments: &[&str]| {
                let program = Program::new(arguments);
                match &module {
                    Module::Admin => program.env("ADMIN_DATABASE_URL", url),
                    Module::Query => program.env("QUERY_DATABASE_URL", url),
                    Module::Storage(element) => {
                        program.env("ARTSTORE_ELEMENTS", &format!("{element}={url}"))
                    }
                }
            };
            for (url, arguments) in [
                (&made, &["migrate", "adopt", "--dry-run"] as &[_]),
                (&made, &["migrate", "adopt", "--up"]),
                (&empty, &["migrate", "up"]),
            ] {
                let mut process = command(url, arguments).start();
                let status = process.ended().await;
                let said = process.output() + &process.log();
                assert!(status.success(), "{module} {arguments:?}: {said}");
                assert!(!said.contains("blocks"), "{module}: {said}");
            }
            for url in [&made, &empty] {
                let module_name = match &module {
                    Module::Admin => "admin",
                    Module::Query => "query",
                    Module::Storage(_) => "storage",
                };
                let check = ["migrate", "check", "--module", module_name];
                let (status, said) = command(url, &check).output().await;
                assert!(status.success(), "{module}: {said}");
                assert!(said.contains("is the newest"), "{module}: {said}");
            }
        }
    });
}

#[test]
fn the_main_paths_end_as_they_do_everywhere() {
    run(async {
        let world = World::new(&["elem"]).await;
        let role = role().await;
        let element = odd(&world.elements[0].1, &role).await;
        let strange = world.with_databases(
            vec![(world.elements[0].0.clone(), element)],
            odd(&world.query_url, &role).await,
            odd(&world.admin_url, &role).await,
        );
        let usual = Audited::new(&world).await;
        let audited = Audited {
            world: &strange,
            key: usual.key.clone(),
            keys: usual.keys.clone(),
        };
        files(&world, 40).await;
        admin_events(&world, 3).await;
        let relay = strange.command(&["run", "relay"]).start();
        let projector = strange.projector().start();
        let log = audited.projector().start();
        passed(&world).await;
        world.projected().await;
        usual.caught_up().await;

        let search = ["search", "report", "--limit", "1000", "--json"];
        let (status, found) = strange.command(&search).output().await;
        assert!(status.success(), "{found}");
        assert_eq!(found.matches("report 7.pdf").count(), 1, "{found}");

        let backup = folder("odd").join("backup");
        let ends = [
            &["projection", "rebuild", "query-cache"] as &[&str],
            &["projection", "rollback", "query-cache"],
            &["verify"],
            &["audit", "verify"],
            &["audit", "tail"],
            &["wal", "pending"],
            &["element", "backfill", "elem"],
            &["migrate", "status"],
            &["migrate", "backup", "--to", backup.to_str().unwrap()],
            &["projection", "list"],
            &["parked", "list"],
        ];
        for arguments in ends {
            let mut process = audited.command(arguments).start();
            let status = process.ended().await;
            let said = process.output() + &process.log();
            assert!(status.success(), "{arguments:?}: {said}");
        }
        world.projected().await;
        usual.caught_up().await;
        eventually("status says that all is well", || async {
            let (status, said) = audited.command(&["status"]).output().await;
            assert!(!said.contains("migrate up"), "{said}");
            status.success().then_some(())
        })
        .await;
        for process in [relay, projector, log] {
            let said = process.log();
            assert!(!said.contains("ERROR"), "{said}");
            process.kill().await;
        }
    });
}
