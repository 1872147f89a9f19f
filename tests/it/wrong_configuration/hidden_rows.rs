//! A table that does not show its rows to whoever reads it, or is no table, is refused by name: at the start,
//! in every later session, and by every check. Hidden rows never look as if all were well.

use uuid::Uuid;

use crate::audit::Audited;
use crate::projector::parking::{files, passed};
use crate::support::*;

fn login(url: &str, role: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}:{role}@{place}")
}

/// The world as a role that has been given the rights of a relay or a projector, and reads all else.
async fn granted(world: &World, purpose: &str) -> (String, World) {
    let role = format!("{purpose}_{}", Uuid::new_v4().simple());
    let sql =
        format!("create role {role} login password '{role}'; grant pg_read_all_stats to {role}");
    execute(&mut world.query().await, sql).await;
    let grant = ["migrate", "grant", "--role", &role, "--for", purpose];
    let (status, said) = world.command(&grant).finish().await;
    assert!(status.success(), "{said}");
    let elements = world.elements.iter();
    let elements = elements.map(|(name, url)| (name.clone(), login(url, &role)));
    let seen = world.with_databases(
        elements.collect(),
        login(&world.query_url, &role),
        login(&world.admin_url, &role),
    );
    (role, seen)
}

/// It ends with an error that contains all this.
async fn fails(program: Program, says: &[&str]) {
    let mut process = program.start();
    let status = process.ended().await;
    let said = process.output() + &process.log();
    assert_eq!(status.code(), Some(1), "{said}");
    for text in says {
        assert!(said.contains(text), "{text:?} is not in: {said}");
    }
    assert!(!said.contains("All is well"), "{said}");
}

/// `migrate check` reports this: what holds for some roles is a note.
async fn checked(world: &World, module: &str, says: &str) {
    let (status, said) = world
        .command(&["migrate", "check", "--module", module])
        .output()
        .await;
    let note = says.starts_with("row level security");
    assert_eq!(status.success(), note, "{said}");
    assert!(said.contains(says), "{says:?} is not in: {said}");
}

/// Changes, and what changes back; what is reported.
const SOURCE: &[(&str, &str, &[&str])] = &[
    (
        "alter table elem_files enable row level security; \
         create policy mine on elem_files using (created_by_id = '7')",
        "drop policy mine on elem_files; alter table elem_files disable row level security",
        &[
            "row level security is on for table public.elem_files",
            "policies: mine",
            " bypassrls",
        ],
    ),
    (
        "alter table elem_wal enable row level security",
        "alter table elem_wal disable row level security",
        &[
            "row level security is on for table public.elem_wal",
            "there is no policy",
        ],
    ),
    (
        "alter table elem_files rename to elem_files_all; \
         create view elem_files as select * from elem_files_all where created_by_id = '7'; \
         grant select on elem_files to public",
        "drop view elem_files; alter table elem_files_all rename to elem_files",
        &["public.elem_files is a view, not a table"],
    ),
    (
        "create rule odd as on update to elem_wal do instead nothing",
        "drop rule odd on elem_wal",
        &["table public.elem_wal has rules (odd)"],
    ),
    (
        "create table elem_more () inherits (elem_files)",
        "drop table elem_more",
        &["table public.elem_files has child tables (elem_more)"],
    ),
    (
        "alter table elem_files set unlogged",
        "alter table elem_files set logged",
        &["table public.elem_files is unlogged"],
    ),
];

#[test]
fn a_source_that_hides_rows_is_refused_by_relay_verify_status_and_check() {
    run(async {
        let world = World::new(&["elem"]).await;
        files(&world, 3).await;
        let (role, seen) = granted(&world, "relay").await;
        let mut element = world.element(0).await;
        // As the relay's role, `verify` and `status` read nothing but the element.
        let alone = |arguments: &[&str]| {
            Program::new(arguments)
                .env("NATS_URL", &seen.nats_url)
                .env("ARTSTORE_ELEMENTS", &format!("elem={}", seen.elements[0].1))
        };
        for (change, back, says) in SOURCE {
            execute(&mut element, *change).await;
            fails(seen.relay(0), says).await;
            fails(alone(&["verify"]), says).await;
            fails(alone(&["status", "--json"]), says).await;
            fails(alone(&["wal", "pending"]), &says[..1]).await;
            // By the owner, who is held to no policy.
            checked(&world, "storage", says[0]).await;
            assert_eq!(world.last_sequence(&world.source(0)).await, 0);
            execute(&mut element, *back).await;
        }

        // A running one: it halts, reports it, and continues when that is changed back.
        let relay = seen.relay(0).start();
        world.published(0).await;
        let (change, back, says) = SOURCE[0];
        execute(&mut element, change).await;
        execute(
            &mut element,
            "insert into elem_wal (transaction_id, operation_type, status, operation_data) \
             values (gen_random_uuid(), 'cache_rebuild', 'committed', '{}')",
        )
        .await;
        for text in says {
            relay.says(text).await;
        }
        // What it says to do helps.
        execute(&mut element, format!("alter role {role} bypassrls")).await;
        world.published(0).await;
        execute(&mut element, back).await;
        relay.kill().await;

        // Of an outbox; and of the owner, who is held to a policy only by force.
        let mut query = world.query().await;
        execute(
            &mut query,
            "alter table event_outbox enable row level security",
        )
        .await;
        let outbox = |seen: &World| seen.command(&["run", "relay", "--source", "query"]);
        execute(&mut query, format!("alter role {role} nobypassrls")).await;
        fails(
            outbox(&seen),
            &["row level security is on for table public.event_outbox"],
        )
        .await;
        execute(
            &mut query,
            format!(
                "alter table event_outbox force row level security; \
                 grant usage, create on schema public to {role}; \
                 alter table event_outbox owner to {role}"
            ),
        )
        .await;
        let remedy = "alter table public.event_outbox no force row level security";
        fails(outbox(&seen), &[remedy]).await;
        execute(&mut query, remedy).await;
        let relay = outbox(&seen).start();
        relay.says("relay active").await;
    });
}

#[test]
fn a_read_model_that_hides_rows_is_refused_by_projector_verify_rebuild_and_audit() {
    run(async {
        let world = World::new(&["elem"]).await;
        files(&world, 3).await;
        let relay = world.command(&["run", "relay"]).start();
        let (_, seen) = granted(&world, "projector").await;
        let projector = seen.projector().start();
        passed(&world).await;
        projector.kill().await;
        relay.kill().await;
        let mut query = world.query().await;
        let elements = format!("elem={}", world.elements[0].1);
        let verify = || {
            seen.command(&["verify", "--source", "elem"])
                .env("ARTSTORE_ELEMENTS", &elements)
        };
        let changes: &[(&str, &str, &[&str])] = &[
            (
                "alter table file_metadata_cache enable row level security; \
                 create policy mine on file_metadata_cache using (username = 'bob')",
                "drop policy mine on file_metadata_cache; \
                 alter table file_metadata_cache disable row level security",
                &[
                    "row level security is on for table public.file_metadata_cache",
                    "policies: mine",
                ],
            ),
            (
                "alter table projection_parked rename to projection_parked_all; \
                 create view projection_parked as select * from projection_parked_all",
                "drop view projection_parked; \
                 alter table projection_parked_all rename to projection_parked",
                &["public.projection_parked is a view, not a table"],
            ),
            (
                "create rule odd as on insert to file_ownership do instead nothing",
                "drop rule odd on file_ownership",
                &["table public.file_ownership has rules (odd)"],
            ),
        ];
        for (change, back, says) in changes {
            execute(&mut query, *change).await;
            fails(seen.projector(), says).await;
            fails(verify(), says).await;
            fails(
                seen.command(&["projection", "rebuild", "query-cache"]),
                says,
            )
            .await;
            checked(&world, "query", says[0]).await;
            execute(&mut query, *back).await;
        }

        // A search is an error, too, and not what is left.
        execute(&mut query, changes[0].0).await;
        fails(
            seen.command(&["search", "report"]),
            &["row-level security", "file_metadata_cache", "bypassrls"],
        )
        .await;
        execute(&mut query, changes[0].1).await;

        let audited = Audited::new(&seen).await;
        let mut admin = world.admin().await;
        execute(
            &mut admin,
            "alter table audit_logs enable row level security; \
             create policy mine on audit_logs using (success)",
        )
        .await;
        fails(
            audited.projector(),
            &["row level security is on for table public.audit_logs"],
        )
        .await;
        for arguments in [&["audit", "verify"] as &[_], &["audit", "tail"]] {
            fails(
                audited.command(arguments),
                &["row-level security", "audit_logs", "bypassrls"],
            )
            .await;
        }
    });
}
