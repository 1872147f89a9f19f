//! Somebody with full access to the database, with and without the secret of the chain: whatever
//! they change is found, and by what. `docs/audit.md` has the same table.

use artstore_projectors::audit_log::chain::origin_hash;
use artstore_projectors::audit_log::head::origin;
use artstore_projectors::audit_log::row::Row;
use artstore_projectors::audit_log::store::{self, COLUMNS, Signed, Tip, stored};
use artstore_projectors::audit_log::tile::Edge;
use sqlx::{AssertSqlSafe, PgConnection};

use super::*;

const STREAM: &str = "ARTSTORE_ADMIN";
/// Rows under a published head.
const HEADED: u64 = 700;
/// Rows of the log: the last ones have no head yet.
const ROWS: u64 = 720;

/// What has to be found: kind, row, and a layer that saw it.
type Found = (&'static str, Option<u64>, &'static str);

/// One attack on a copy of the database.
struct Attack {
    name: &'static str,
    sql: &'static str,
    /// With the stolen secret: everything of the stream is signed again, tiles and the log's end
    /// included, as if nothing had happened.
    signed_again: bool,
    /// Seen only beside the messages on the bus.
    against: bool,
    found: Found,
}

const fn plain(name: &'static str, sql: &'static str, found: Found) -> Attack {
    Attack {
        name,
        sql,
        signed_again: false,
        against: false,
        found,
    }
}

const fn stolen(name: &'static str, sql: &'static str, found: Found) -> Attack {
    Attack {
        signed_again: true,
        ..plain(name, sql, found)
    }
}

/// `update audit_logs set …` of row 300.
macro_rules! edit {
    ($name:literal, $set:literal) => {
        plain(
            $name,
            concat!(
                "update audit_logs set ",
                $set,
                " where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300"
            ),
            ("row-edited", Some(300), "chain"),
        )
    };
}

const SHIFT: &str = "drop index audit_logs_stream_key;
    update audit_logs set stream_sequence = stream_sequence + 1
    where stream = 'ARTSTORE_ADMIN' and stream_sequence > 300;
    insert into audit_logs (format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type,
        action, success, created_at, kid, hmac_signature)
    select format, mapping, stream, 301, gen_random_uuid(), event_type, severity, actor_type, action, success,
        created_at, kid, hmac_signature
    from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300;
    update projection_checkpoints set last_sequence = 721 where projection = 'audit-log' and stream = 'ARTSTORE_ADMIN'";

/// Without the secret, then with it.
static ATTACKS: &[Attack] = &[
    edit!("event id", "event_id = gen_random_uuid()"),
    edit!("event type", "event_type = 'login_success2'"),
    edit!("severity", "severity = 'debug'"),
    edit!("kind of actor", "actor_type = case actor_type when 'user' then 'system' else 'user' end, user_id = null, service_account_id = null"),
    edit!("actor", "actor_id = 'x', user_id = null, service_account_id = null"),
    edit!("actor's name", "actor_name = 'x'"),
    edit!("actor's role", "actor_role = 'admin'"),
    edit!("kind of resource", "resource_type = 'x'"),
    edit!("resource", "resource_id = 'x'"),
    edit!("action", "action = 'x'"),
    edit!("address", "ip_address = '192.0.2.1'"),
    edit!("user agent", "user_agent = 'x'"),
    edit!("request id", "request_id = 'x'"),
    edit!("session", "session_id = 'x'"),
    edit!("data: a value", "data = jsonb_set(data, '{n}', '-1')"),
    edit!("data: an integer written as a fraction", "data = jsonb_set(data, '{n}', to_jsonb((data ->> 'n')::numeric + 0.0))"),
    edit!("data: gone", "data = null"),
    edit!("success", "success = not success"),
    edit!("error message", "error_message = 'x'"),
    edit!("time, by a microsecond", "created_at = created_at + interval '1 microsecond'"),
    edit!("time that is none", "created_at = 'infinity'"),
    edit!("NULL turned into an empty text", "user_agent = ''"),
    edit!("bytes moved between fields", "action = left(action, -1), ip_address = right(action, 1)"),
    edit!("mapping", "mapping = 2"),
    plain(
        "key id",
        "update audit_logs set kid = '0000000000000000' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("signature-edited", Some(300), "chain"),
    ),
    plain(
        "format",
        "update audit_logs set format = 2 where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-edited", Some(300), "form"),
    ),
    plain(
        "signature of a neighbour",
        "update audit_logs a set hmac_signature = b.hmac_signature from audit_logs b
         where a.stream = 'ARTSTORE_ADMIN' and a.stream_sequence = 300 and b.stream = a.stream and b.stream_sequence = 301",
        ("signature-edited", Some(300), "chain"),
    ),
    plain(
        "signature in capitals",
        "update audit_logs set hmac_signature = upper(hmac_signature) where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("signature-edited", Some(300), "chain"),
    ),
    plain(
        "downgrade to a row of the product's",
        "update audit_logs set format = 0, stream = null, stream_sequence = null, mapping = null, kid = null
         where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-missing", Some(300), "form"),
    ),
    plain(
        "user id column",
        "update audit_logs set user_id = 4711 where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("column-edited", Some(300), "form"),
    ),
    plain("first row deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 1", ("row-missing", Some(1), "form")),
    plain("row deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("row-missing", Some(300), "form")),
    plain("rows around a head deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence between 511 and 514", ("row-missing", Some(511), "form")),
    plain("row behind the last head deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 710", ("row-missing", Some(710), "form")),
    plain("last row deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 720", ("row-missing", Some(720), "form")),
    plain("everything deleted", "delete from audit_logs where stream = 'ARTSTORE_ADMIN'", ("row-missing", Some(1), "form")),
    plain(
        "two rows swapped",
        "update audit_logs set stream_sequence = -stream_sequence where stream = 'ARTSTORE_ADMIN' and stream_sequence in (300, 305);
         update audit_logs set stream_sequence = 605 + stream_sequence where stream = 'ARTSTORE_ADMIN' and stream_sequence < 0",
        ("row-moved", Some(300), "tree"),
    ),
    plain("last row renumbered", "update audit_logs set stream_sequence = 721 where stream = 'ARTSTORE_ADMIN' and stream_sequence = 720", ("row-extra", None, "form")),
    plain(
        "row doubled at the end",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         select format, mapping, stream, 721, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature
         from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 720",
        ("row-extra", None, "form"),
    ),
    plain(
        "row doubled in place",
        "drop index audit_logs_stream_key;
         insert into audit_logs (format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         select format, mapping, stream, stream_sequence, event_id, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature
         from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-extra", Some(300), "form"),
    ),
    plain("row put in between", SHIFT, ("row-edited", Some(301), "tree")),
    plain("edited behind the last head", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 710", ("row-edited", Some(710), "chain")),
    plain("row of another stream", "update audit_logs set stream = 'ARTSTORE_QUERY' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("row-missing", Some(300), "form")),
    plain(
        "row far behind the end",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         values (1, 1, 'ARTSTORE_ADMIN', 4611686018427387904, 'x', 'info', 'system', 'x', true, now(), 'x', 'x')",
        ("row-extra", None, "form"),
    ),
    plain(
        "row before the beginning",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         values (1, 1, 'ARTSTORE_ADMIN', -7, 'x', 'info', 'system', 'x', true, now(), 'x', 'x')",
        ("row-extra", None, "form"),
    ),
    plain(
        "row of a stream that is none",
        "insert into audit_logs (format, mapping, stream, stream_sequence, event_type, severity, actor_type, action, success, created_at, kid, hmac_signature)
         values (1, 1, 'OTHER', 1, 'x', 'info', 'system', 'x', true, now(), 'x', 'x')",
        ("row-extra", None, "form"),
    ),
    plain(
        "end of the log far away",
        "update audit_trees set size = 4611686018427387904 where stream = 'ARTSTORE_ADMIN'",
        ("log-changed", None, "form"),
    ),
    plain(
        "what can't be null is null",
        "alter table audit_logs alter column event_type drop not null, alter column success drop not null;
         update audit_logs set event_type = null, success = null where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300",
        ("row-edited", Some(300), "form"),
    ),
    plain("product's row edited", "update audit_logs set event_type = 'x' where id = 2", ("legacy-changed", None, "heads")),
    plain("product's row deleted", "delete from audit_logs where id = 2", ("legacy-changed", None, "heads")),
    plain("boundary moved", "update audit_boundary set last_id = 2, rows = 2", ("legacy-changed", None, "heads")),
    plain(
        "leaf in the stored tree",
        "update audit_tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where stream = 'ARTSTORE_ADMIN' and level = 0 and tile = 1",
        ("tile-edited", None, "tree"),
    ),
    plain("stored tile deleted", "delete from audit_tiles where stream = 'ARTSTORE_ADMIN' and level = 0 and tile = 1", ("tile-edited", None, "tree")),
    plain(
        "stored tile above the leaves",
        "update audit_tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where stream = 'ARTSTORE_ADMIN' and level = 1",
        ("tile-edited", None, "tree"),
    ),
    plain("head changed", "update audit_heads set note = replace(note, '512', '511') where stream = 'ARTSTORE_ADMIN' and size = 512", ("head-forged", Some(512), "heads")),
    plain("head deleted", "delete from audit_heads where stream = 'ARTSTORE_ADMIN' and size = 512", ("head-missing", Some(512), "heads")),
    plain(
        "head of another size",
        "update audit_heads h set note = o.note from audit_heads o where h.stream = 'ARTSTORE_ADMIN' and h.size = 512 and o.stream = h.stream and o.size = 256",
        ("head-forged", Some(512), "heads"),
    ),
    plain(
        "checkpoint moved",
        "update projection_checkpoints set last_sequence = 650 where projection = 'audit-log' and stream = 'ARTSTORE_ADMIN'",
        ("log-changed", None, "form"),
    ),
    stolen("stolen secret: row edited", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("head-unfit", Some(512), "heads")),
    stolen(
        "stolen secret: row deleted, the others moved up",
        "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300;
         update audit_logs set stream_sequence = -stream_sequence where stream = 'ARTSTORE_ADMIN' and stream_sequence > 300;
         update audit_logs set stream_sequence = -stream_sequence - 1 where stream = 'ARTSTORE_ADMIN' and stream_sequence < 0",
        ("head-unfit", Some(512), "heads"),
    ),
    stolen(
        "stolen secret: cut below the last head",
        "delete from audit_logs where stream = 'ARTSTORE_ADMIN' and stream_sequence > 600;
         delete from audit_heads where stream = 'ARTSTORE_ADMIN' and size > 600",
        ("head-unfit", None, "heads"),
    ),
    stolen(
        "stolen secret: everything deleted",
        "delete from audit_logs where stream = 'ARTSTORE_ADMIN'; delete from audit_heads where stream = 'ARTSTORE_ADMIN'",
        ("head-unfit", None, "heads"),
    ),
    Attack {
        against: true,
        ..stolen("stolen secret: edited, which row", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 300", ("row-edited", Some(300), "bus"))
    },
    Attack {
        against: true,
        ..stolen("stolen secret: edited behind the last head", "update audit_logs set action = 'x' where stream = 'ARTSTORE_ADMIN' and stream_sequence = 710", ("row-edited", Some(710), "bus"))
    },
];

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
    assert!(store::advance(admin, STREAM, 0, &tip).await.unwrap());
}

/// A log with rows of the product's below it, heads at 256, 512 and 700, and rows behind the last
/// head.
async fn built(audited: &Audited<'_>) {
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
    let projector = audited.projector().start();
    admin_events(world, HEADED.try_into().unwrap()).await;
    audited.level_with(&Source::Admin, HEADED).await;
    projector.kill().await;
    // The heads' timer is far away: what follows has no head.
    let projector = audited
        .projector()
        .env("SECURITY_AUDIT_HEAD_SECONDS", "3600")
        .start();
    admin_events(world, (ROWS - HEADED).try_into().unwrap()).await;
    eventually("the rows are written", || async {
        let size: i64 = value(
            &mut pg(&world.admin_url).await,
            "select size from audit_trees where stream = 'ARTSTORE_ADMIN'",
        )
        .await;
        (size.unsigned_abs() == ROWS).then_some(())
    })
    .await;
    projector.kill().await;
    relay.kill().await;
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
        let mut missed = Vec::new();
        let clean = Attack {
            against: true,
            ..plain("none", "select 1", ("", None, ""))
        };
        for (number, attack) in std::iter::once(&clean).chain(ATTACKS).enumerate() {
            let copy = format!("{name}_{number}");
            let url = world.admin_url.replace(&name, &copy);
            execute(
                &mut server,
                format!("create database {copy} template {name}"),
            )
            .await;
            let mut admin = pg(&url).await;
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
            sqlx::Connection::close(admin).await.unwrap();
            let arguments: &[&str] = if attack.against {
                &["--against-stream"]
            } else {
                &[]
            };
            let verdict = audited.verify_at(&url, arguments).await;
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
            // Only what was changed is named, but for what follows from it.
            let rows: Vec<_> = findings
                .iter()
                .filter(|(k, ..)| k == "row-edited" || k == "signature-edited" || k == "row-moved")
                .collect();
            if attack.name.starts_with("event id") {
                assert_eq!(rows.len(), 1, "{rows:?}");
            }
            execute(&mut server, format!("drop database {copy}")).await;
        }
        assert!(missed.is_empty(), "{}", missed.join("\n"));
        println!("{} attacks, each found", ATTACKS.len());
    });
}

/// A text with one byte changed, in place: another letter, digit or sign.
fn changed(text: &str, at: usize, by: u8) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let place = at % characters.len();
    let before = characters[place];
    let after = char::from(b'!' + (before as u8).wrapping_add(by) % 90);
    characters[place] = if after == before { '~' } else { after };
    characters.into_iter().collect()
}

/// Any single byte of any signed column of any row: rows at random, a hundred at once, each with one
/// byte of one column changed. All are located, and no other.
#[test]
fn any_byte_of_any_signed_column_of_any_row_is_located() {
    run(async {
        let world = World::new(&[]).await;
        let audited = Audited::new(&world).await;
        built(&audited).await;
        let mut admin = pg(&world.admin_url).await;
        execute(
            &mut admin,
            "alter table audit_logs disable trigger all;
             alter table audit_logs drop constraint audit_logs_severity_check;
             alter table audit_logs drop constraint audit_logs_actor_type_check",
        )
        .await;
        let texts = [
            "event_type",
            "severity",
            "actor_type",
            "actor_id",
            "actor_name",
            "resource_type",
            "resource_id",
            "action",
            "request_id",
            "error_message",
        ];
        let mut expected = std::collections::BTreeSet::new();
        let mut columns = std::collections::BTreeMap::<&str, usize>::new();
        while expected.len() < 150 {
            // Not two neighbours: the row behind an edited one is checked against it.
            let row = u64::from(rand::random::<u32>()) % ROWS + 1;
            let near = |n: &u64| n.abs_diff(row) < 2;
            if expected.iter().any(near) {
                continue;
            }
            let place = format!("where stream = '{STREAM}' and stream_sequence = {row}");
            let (at, by): (usize, u8) = (rand::random::<u16>().into(), rand::random());
            let kind = usize::from(rand::random::<u8>()) % (texts.len() + 4);
            let (column, set) = match kind.checked_sub(texts.len()) {
                None => {
                    let column = texts[kind];
                    let sql = format!("select coalesce({column}, '') from audit_logs {place}");
                    let text: String = value(&mut admin, sql).await;
                    if text.is_empty() {
                        continue;
                    }
                    let text = changed(&text, at, by).replace('\'', "''");
                    (column, format!("{column} = '{text}'"))
                }
                Some(0) => (
                    "created_at",
                    format!(
                        "created_at = created_at + make_interval(secs => (1 << {}) / 1000000.0)",
                        at % 20
                    ),
                ),
                Some(1) => {
                    let sql = format!("select event_id::text from audit_logs {place}");
                    let id: String = value(&mut admin, sql).await;
                    let mut id = id.parse::<uuid::Uuid>().unwrap().as_u128();
                    id ^= 1 << (at % 128);
                    (
                        "event_id",
                        format!("event_id = '{}'", uuid::Uuid::from_u128(id)),
                    )
                }
                Some(2) => (
                    "data",
                    format!(
                        "data = jsonb_set(data, '{{n}}', to_jsonb((data ->> 'n')::integer # {}))",
                        1 << (at % 16)
                    ),
                ),
                Some(_) => ("success", "success = not success".to_owned()),
            };
            execute(&mut admin, format!("update audit_logs set {set} {place}")).await;
            expected.insert(row);
            *columns.entry(column).or_default() += 1;
        }
        sqlx::Connection::close(admin).await.unwrap();
        let verdict = audited.verify(&[]).await;
        let located: std::collections::BTreeSet<u64> = verdict
            .findings()
            .into_iter()
            .filter(|(kind, ..)| kind == "row-edited")
            .filter_map(|(_, row, _)| row)
            .collect();
        assert_eq!(located, expected, "{columns:?}");
        assert!(columns.len() >= 10, "{columns:?}");
    });
}
