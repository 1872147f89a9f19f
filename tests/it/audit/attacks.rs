//! Somebody with full access to the database, with and without the secret of the chain: every change
//! is found, and by the layer that is expected. `docs/audit.md` has the same table.

use std::collections::BTreeSet;

use artstore_projectors::audit_log::chain::origin_hash;
use artstore_projectors::audit_log::head::origin;
use artstore_projectors::audit_log::row::Row;
use artstore_projectors::audit_log::store::{self, COLUMNS, Signed, Tip, stored};
use artstore_projectors::audit_log::tile::Edge;
use artstore_projectors::runtime::checkpoint::Advance;
use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};

use super::catalogue::{ATTACKS, Attack, plain};
use super::*;

pub const STREAM: &str = "ARTSTORE_ADMIN";
/// Rows under a published head.
const HEADED: u64 = 700;
/// Rows of the log: the last ones have no head yet.
pub const ROWS: u64 = 720;

/// How many attacks are checked at once.
const AT_ONCE: usize = 3;

/// Signs a stream's rows again as the owner of the secret would, and makes tree, end and checkpoint
/// fit. Heads can't be made: their key is not in the database.
pub async fn sign_again(admin: &mut PgConnection) {
    let sql =
        format!("select {COLUMNS} from audit_logs where stream = $1 order by stream_sequence");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(STREAM)
        .fetch_all(&mut *admin)
        .await
        .unwrap();
    let rows: Vec<Row> = rows.iter().map(|row| stored(row).unwrap().row).collect();
    let origin = origin(KEY_NAME, STREAM);
    let mut last_signature = origin_hash(&origin);
    let mut edge = Edge::default();
    let mut signed = Vec::new();
    for row in rows {
        last_signature = chain_key().sign(&last_signature, &row.leaf());
        signed.push(Signed {
            row,
            signature: last_signature,
        });
    }
    let leaves: Vec<_> = signed.iter().map(|signed| signed.row.leaf()).collect();
    let tiles = edge.append(&leaves);
    execute(
        admin,
        format!(
            "delete from audit_logs where stream = '{STREAM}'; delete from audit_tiles where stream = '{STREAM}'; \
             delete from audit_trees where stream = '{STREAM}'; update projection_checkpoints \
             set last_sequence = {} where projection = 'audit-log' and stream = '{STREAM}'",
            edge.size()
        ),
    )
    .await;
    store::insert(admin, STREAM, chain_key().kid(), &signed)
        .await
        .unwrap();
    store::put_tiles(admin, STREAM, &tiles).await.unwrap();
    let tip = Tip {
        origin,
        size: edge.size(),
        last_signature,
    };
    let advance = store::advance(admin, STREAM, 0, &tip).await.unwrap();
    assert_eq!(advance, Advance::Moved);
}

/// A log with rows of the product's below it, heads at 256, 512 and 700, and rows after the last
/// head.
pub async fn built(audited: &Audited<'_>) {
    let world = audited.world;
    let mut admin = pg(&world.admin_url).await;
    execute(
        &mut admin,
        "insert into audit_logs (event_type, severity, actor_type, action, success, hmac_signature, created_at, data)
         select 'login_success', 'info', 'user', 'login', true, 'sig', case n when 3 then 'infinity' else now() end, '{\"n\": 1.50}' from generate_series(1, 5) as n",
    )
    .await;
    let relay = world
        .command(&["run", "relay", "--source", "admin"])
        .start();
    // While rows come, the heads' timer is far away: there is a head every 256 rows, however long they take,
    // one at the end of the first part, and none behind it.
    let untimed = || {
        audited
            .projector()
            .env("SECURITY_AUDIT_HEAD_SECONDS", "3600")
            .start()
    };
    let projector = untimed();
    admin_events(world, HEADED.try_into().unwrap()).await;
    written(world, HEADED).await;
    projector.kill().await;
    let projector = audited.projector().start();
    audited.caught_up_with(&Source::Admin, HEADED).await;
    projector.kill().await;
    let projector = untimed();
    admin_events(world, (ROWS - HEADED).try_into().unwrap()).await;
    written(world, ROWS).await;
    projector.kill().await;
    relay.kill().await;
}

async fn written(world: &World, rows: u64) {
    eventually("the rows are written", || async {
        let size: i64 = value(
            &mut pg(&world.admin_url).await,
            "select coalesce(max(size), 0) from audit_trees where stream = 'ARTSTORE_ADMIN'",
        )
        .await;
        (size.unsigned_abs() == rows).then_some(())
    })
    .await;
}

#[test]
fn whatever_somebody_with_the_database_changes_is_found_and_by_what() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        built(&audited).await;
        let name = world.admin_url.rsplit('/').next().unwrap().to_owned();
        let mut server = pg(&world.query_url).await;
        let template = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        );
        execute(&mut server, template).await;
        let clean = Attack {
            against: true,
            ..plain("none", "select 1", ("", None, ""))
        };
        let attacks = std::iter::once(&clean).chain(ATTACKS).enumerate();
        let missed: Vec<String> = futures::stream::iter(attacks)
            .map(|(number, attack)| missed(&audited, number, attack))
            .buffer_unordered(AT_ONCE)
            .concat()
            .await;
        assert!(missed.is_empty(), "{}", missed.join("\n"));
        println!("{} attacks, each found", ATTACKS.len());
    });
}

/// What a check does not find, or finds wrongly, of an attack on a copy of the log. The copies go with the server:
/// to drop one costs a checkpoint.
async fn missed(audited: &Audited<'_>, number: usize, attack: &Attack) -> Vec<String> {
    let name = audited.world.admin_url.rsplit('/').next().unwrap();
    let copy = format!("{name}_{number}");
    let url = audited.world.admin_url.replace(name, &copy);
    let mut server = pg(&audited.world.query_url).await;
    execute(
        &mut server,
        format!("create database {copy} template {name}"),
    )
    .await;
    let mut admin = pg(&url).await;
    let check: String = value(
        &mut admin,
        "select pg_get_constraintdef(oid) from pg_constraint \
         where conname = 'audit_logs_evidence_check'",
    )
    .await;
    execute(
        &mut admin,
        "alter table audit_logs disable trigger all;
         alter table audit_logs drop constraint audit_logs_evidence_check",
    )
    .await;
    execute(&mut admin, attack.sql).await;
    if attack.signed_again {
        sign_again(&mut admin).await;
    }
    // Trigger and constraint are there again, as far as the rows allow.
    execute(&mut admin, TRIGGER_AGAIN).await;
    let again = format!("alter table audit_logs add constraint audit_logs_evidence_check {check}");
    let fits = try_execute(&mut admin, again).await.is_ok();
    assert!(fits || attack.name != "none");
    sqlx::Connection::close(admin).await.unwrap();
    let arguments: &[&str] = if attack.against {
        &["--against-stream"]
    } else {
        &[]
    };
    let verdict = audited.verify_at(&url, arguments).await;
    let mut missed = Vec::new();
    let (kind, row, layer) = attack.found;
    let findings = verdict.findings();
    let found = match kind {
        "" => findings.is_empty(),
        _ => findings.iter().any(|(k, r, layers)| {
            k == kind && (row.is_none() || *r == row) && layers.iter().any(|l| l == layer)
        }),
    };
    if !found {
        missed.push(format!("{}: {:#}", attack.name, verdict.0["findings"]));
    }
    // Only what was changed is named, and all of it.
    let rows: BTreeSet<u64> = findings
        .iter()
        .filter(|(kind, ..)| !kind.starts_with("head-"))
        .filter_map(|(_, row, _)| *row)
        .collect();
    if !attack.named.is_empty() && rows != attack.named.iter().copied().collect() {
        missed.push(format!("{}: names rows {rows:?}", attack.name));
    }
    missed
}
