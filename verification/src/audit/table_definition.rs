//! Whether the tables are those that the migrations created. Whoever has the rights can replace a table with
//! a view that answers each query as it likes, or add a policy, a rule, a child or a trigger. The check would
//! then read rows that nobody else sees.
//!
//! Read with `pg_catalog` alone, because whoever connects can set the session's `search_path`.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::finding::{Finding, Kind, Layer};

/// A table, and what it has.
struct Table {
    name: &'static str,
    /// Columns and their types.
    columns: &'static [(&'static str, &'static str)],
    /// Keys: their names and columns.
    keys: &'static [(&'static str, &'static [&'static str])],
    /// Checks by name.
    checks: &'static [&'static str],
}

/// A column of text, of whatever length.
const TEXT: &str = "text";

/// The tables that a check of the log rests on.
const TABLES: &[Table] = &[
    Table {
        name: "audit_logs",
        columns: &[
            ("id", "bigint"),
            ("event_type", TEXT),
            ("severity", TEXT),
            ("user_id", "integer"),
            ("service_account_id", "uuid"),
            ("actor_type", TEXT),
            ("resource_type", TEXT),
            ("resource_id", TEXT),
            ("action", TEXT),
            ("ip_address", TEXT),
            ("user_agent", TEXT),
            ("request_id", TEXT),
            ("session_id", TEXT),
            ("data", "jsonb"),
            ("success", "boolean"),
            ("error_message", TEXT),
            ("hmac_signature", TEXT),
            ("created_at", "timestamp with time zone"),
            ("format", "smallint"),
            ("stream", TEXT),
            ("stream_sequence", "bigint"),
            ("event_id", "uuid"),
            ("mapping", "integer"),
            ("kid", TEXT),
            ("actor_id", TEXT),
            ("actor_name", TEXT),
            ("actor_role", TEXT),
        ],
        keys: &[
            ("audit_logs_pkey", &["id"]),
            ("audit_logs_stream_key", &["stream", "stream_sequence"]),
        ],
        checks: &[
            "audit_logs_evidence_check",
            "audit_logs_severity_check",
            "audit_logs_actor_type_check",
        ],
    },
    Table {
        name: "audit_trees",
        columns: &[
            ("stream", TEXT),
            ("origin", TEXT),
            ("size", "bigint"),
            ("last_signature", "bytea"),
        ],
        keys: &[("audit_trees_pkey", &["stream"])],
        checks: &["audit_trees_size_check"],
    },
    Table {
        name: "audit_tiles",
        columns: &[
            ("stream", TEXT),
            ("level", "smallint"),
            ("tile", "bigint"),
            ("hashes", "bytea"),
        ],
        keys: &[("audit_tiles_pkey", &["stream", "level", "tile"])],
        checks: &[],
    },
    Table {
        name: "audit_heads",
        columns: &[
            ("stream", TEXT),
            ("size", "bigint"),
            ("note", TEXT),
            ("signed_at", "timestamp with time zone"),
        ],
        keys: &[("audit_heads_pkey", &["stream", "size"])],
        checks: &[],
    },
    Table {
        name: "audit_boundary",
        columns: &[
            ("only_one", "boolean"),
            ("rows", "bigint"),
            ("last_id", "bigint"),
            ("digest", "bytea"),
            ("drawn_at", "timestamp with time zone"),
        ],
        keys: &[("audit_boundary_pkey", &["only_one"])],
        checks: &["audit_boundary_only_one_check"],
    },
    Table {
        name: "projection_checkpoints",
        columns: &[
            ("projection", TEXT),
            ("stream", TEXT),
            ("version", "integer"),
            ("stream_created_at", "timestamp with time zone"),
            ("last_sequence", "bigint"),
            ("last_event_id", "uuid"),
        ],
        keys: &[("projection_checkpoints_pkey", &["projection", "stream"])],
        checks: &["projection_checkpoints_last_sequence_check"],
    },
];

/// The trigger that keeps `audit_logs` from being changed, and what it is called for: before each statement
/// that is an update, a delete or a truncation.
const TRIGGER: (&str, i16) = ("audit_logs_append_only", 0b11_1010);

/// The step that made the trigger's function.
const STEP: &str = include_str!("../../../migrations/admin/0006_audit_evidence.up.sql");

/// What is known of a table besides its columns.
#[derive(sqlx::FromRow)]
struct Known {
    oid: sqlx::postgres::types::Oid,
    kind: String,
    row_security: bool,
    forced: bool,
    policies: Vec<String>,
    rules: Vec<String>,
    relatives: Vec<String>,
    triggers: Vec<String>,
}

/// What is different from what the migrations made. What is put in between may answer the next query
/// otherwise, so the catalogue is read, never a table itself.
pub async fn check(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let mut texts = Vec::new();
    for table in TABLES {
        let of_table = differences(connection, table).await?;
        texts.extend(
            of_table
                .into_iter()
                .map(|text| format!("{}: {text}", table.name)),
        );
    }

    texts.extend(trigger(connection).await?);
    let finding = |text| Finding {
        stream: None,
        sequence: None,
        id: None,
        kind: Kind::TableChanged,
        layers: [Layer::Form].into(),
        text,
    };
    Ok(texts.into_iter().map(finding).collect())
}

async fn differences(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Vec<String>, sqlx::Error> {
    let known: Option<Known> = sqlx::query_as(include_str!("table_definition.sql"))
        .bind(table.name)
        .bind(TRIGGER.0)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(known) = known else {
        return Ok(vec!["there is no such table".to_owned()]);
    };
    let mut found = Vec::new();
    if known.kind != "r p" {
        found.push(match known.kind.as_str() {
            "v p" => "it is a view: what is read of it is whatever the view says".to_owned(),
            "m p" => "it is a materialized view".to_owned(),
            "f p" => "it is a foreign table: its rows are somewhere else".to_owned(),
            "p p" => "it is a partitioned table".to_owned(),
            "r u" => "it is unlogged: a crash of the server empties it".to_owned(),
            other => format!("it is no table (relkind and relpersistence {other})"),
        });
    }
    if known.row_security || known.forced {
        found.push("row level security is on: roles see different rows".to_owned());
    }
    let named = [
        (
            "policy",
            "hides rows where row level security is on",
            known.policies,
        ),
        (
            "rule",
            "does something else in place of what is asked for",
            known.rules,
        ),
        ("parent or child", "is read with it", known.relatives),
        ("trigger", "may change what is written", known.triggers),
    ];
    for (what, why, names) in named {
        let texts = names.into_iter();
        found.extend(texts.map(|name| format!("the {what} {name:?} {why}")));
    }
    columns(connection, table, known.oid, &mut found).await?;
    constraints(connection, table, known.oid, &mut found).await?;
    Ok(found)
}

async fn columns(
    connection: &mut PgConnection,
    table: &Table,
    oid: sqlx::postgres::types::Oid,
    found: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(
        "select attname::text, format_type(atttypid, null), attgenerated <> '' \
         from pg_catalog.pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped",
    )
    .bind(oid)
    .fetch_all(connection)
    .await?;
    let mut there: BTreeMap<String, (String, bool)> = rows
        .into_iter()
        .map(|(name, kind, generated)| (name, (kind, generated)))
        .collect();
    for (name, wanted) in table.columns {
        match there.remove(*name) {
            None => found.push(format!("column {name} is not there")),
            Some((kind, _)) if kind != *wanted && !(*wanted == TEXT && is_text(&kind)) => {
                found.push(format!("column {name} is {kind}, not {wanted}"));
            }
            Some((_, true)) => found.push(format!("column {name} is computed, not stored")),
            Some(_) => {}
        }
    }
    Ok(())
}

fn is_text(kind: &str) -> bool {
    matches!(kind, "text" | "character varying")
}

async fn constraints(
    connection: &mut PgConnection,
    table: &Table,
    oid: sqlx::postgres::types::Oid,
    found: &mut Vec<String>,
) -> Result<(), sqlx::Error> {
    let keys: Vec<(String, Vec<String>)> = sqlx::query_as(
        "select c.relname::text, array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality as k (number, at) \
             join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number order by k.at) \
         from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid \
         where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indisready and i.indislive",
    )
    .bind(oid)
    .fetch_all(&mut *connection)
    .await?;
    for (name, columns) in table.keys {
        let is_there = keys.iter().any(|(key, of)| key == name && of == columns);
        if !is_there {
            found.push(format!(
                "the unique index {name} on {} is not there, or not valid",
                columns.join(", ")
            ));
        }
    }
    // `conenforced` came with PostgreSQL 18.
    let checks: Vec<(String, bool)> = sqlx::query_as(
        "select conname::text, convalidated and coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) \
         from pg_catalog.pg_constraint c where conrelid = $1 and contype = 'c'",
    )
    .bind(oid)
    .fetch_all(connection)
    .await?;
    for name in table.checks {
        match checks.iter().find(|(check, _)| check == name) {
            None => found.push(format!("the constraint {name} is not there")),
            Some((_, false)) => found.push(format!("the constraint {name} is not validated")),
            Some((_, true)) => {}
        }
    }
    Ok(())
}

/// What is different about the trigger that keeps rows from being changed.
async fn trigger(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let (name, calls) = TRIGGER;
    let found: Option<(String, i16, String, bool)> = sqlx::query_as(
        "select t.tgenabled::text, t.tgtype, p.prosrc, t.tgqual is null and t.tgnargs = 0 \
             and cardinality(t.tgattr::int2[]) = 0 \
         from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid \
         join pg_catalog.pg_class c on c.oid = t.tgrelid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = 'public' and c.relname = 'audit_logs' and t.tgname = $1 and not t.tgisinternal",
    )
    .bind(name)
    .fetch_optional(connection)
    .await?;
    let problem = match found {
        None => "is not there",
        Some((enabled, ..)) if enabled != "A" => "is disabled, or not always enabled",
        Some((_, kind, _, whole)) if kind != calls || !whole => "is not called for each change",
        Some((_, _, source, _)) if source.trim() != body().trim() => {
            "calls a function that is not ours"
        }
        Some(_) => return Ok(None),
    };
    Ok(Some(format!(
        "audit_logs: the trigger {name}, which keeps rows from being changed, {problem}"
    )))
}

/// The trigger function's body.
fn body() -> &'static str {
    let mut parts = STEP.split("$$");
    parts.nth(1).unwrap_or_default()
}
