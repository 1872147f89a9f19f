//! The least rights for a role that only runs a relay, a projector or a publisher, or prunes. The operator
//! creates the role itself. Nothing here lets it see private keys; a role that sees them by some
//! other right is refused.

use artstore_runtime::words::words;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::module::Module;

/// What a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reads finished rows and publishes them.
    Relay,
    /// Writes the query cache and the audit log.
    Projector,
    /// Writes an element's tables, or an outbox.
    Publisher,
    /// Removes finished operations that the stream holds.
    Pruner,
    /// Reads the audit log and what proves it.
    Auditor,
    /// Reads what `status`, `search` and `verify` show, and records searches.
    Console,
}

/// What was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The statements that were run; none where the purpose needs nothing of this module.
    pub statements: Vec<String>,
}

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The role is to be made first.
    #[error(
        "there is no role {role:?}: nothing was granted; make it with create role, and try again"
    )]
    NoRole {
        /// Its name.
        role: String,
    },
    /// The tables are to be made first.
    #[error(
        "{module} has no {object} to grant rights on: nothing was granted; run migrate up first"
    )]
    NotMigrated {
        /// Whose.
        module: Module,
        /// What is missing.
        object: String,
    },
    /// The role can do more than it may.
    #[error(
        "role {role:?} can read jwt_keys, where private keys stand in clear (it is a superuser or \
         the owner, or has the right itself, through a role that it is in, or as everybody): \
         nothing was granted; use a role of its own, or take that right away"
    )]
    SeesKeys {
        /// Its name.
        role: String,
    },
    /// The database refused.
    #[error("granting rights on {module} failed: {}; nothing was granted", words(.source))]
    Database {
        /// Whose.
        module: Module,
        /// What it said.
        source: sqlx::Error,
    },
}

/// Gives a role what it needs and no more, in one transaction. Rights that it has already stay;
/// doing it again changes nothing. Has to be done by the owner of the tables.
pub async fn grant(
    conn: &mut PgConnection,
    module: &Module,
    role: &str,
    purpose: Purpose,
) -> Result<Grant, GrantError> {
    let failed = |source| GrantError::Database {
        module: module.clone(),
        source,
    };
    let objects = rights(module, purpose)
        .into_iter()
        .map(|(_, object)| object);
    let mut tx = conn.begin().await.map_err(failed)?;
    let quoted: Option<String> = sqlx::query_scalar(
        "select quote_ident(rolname) from pg_catalog.pg_roles where rolname = $1",
    )
    .bind(role)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    let quoted = quoted.ok_or_else(|| GrantError::NoRole {
        role: role.to_owned(),
    })?;
    let database: String = sqlx::query_scalar("select quote_ident(current_database())")
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
    let statements = statements(module, purpose, &quoted, &database);
    for object in objects {
        let name = object.rsplit(' ').next().unwrap_or(&object);
        let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(name)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
        if !there {
            return Err(GrantError::NotMigrated {
                module: module.clone(),
                object: name.to_owned(),
            });
        }
    }
    for statement in &statements {
        sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    if *module == Module::Admin && sees_keys(&mut tx, role).await.map_err(failed)? {
        return Err(GrantError::SeesKeys {
            role: role.to_owned(),
        });
    }
    tx.commit().await.map_err(failed)?;
    Ok(Grant { statements })
}

/// What gives a role its rights; nothing where the purpose needs nothing of this module. Both names are quoted where
/// they need it.
pub(crate) fn statements(
    module: &Module,
    purpose: Purpose,
    role: &str,
    database: &str,
) -> Vec<String> {
    let rights = rights(module, purpose);
    if rights.is_empty() {
        return Vec::new();
    }
    let enter = [
        format!("grant connect on database {database} to {role}"),
        format!("grant usage on schema public to {role}"),
    ];
    let rights = rights.into_iter();
    let rights =
        rights.map(|(privileges, object)| format!("grant {privileges} on {object} to {role}"));
    enter.into_iter().chain(rights).collect()
}

/// Privileges, and the table or sequence. Functions that statements and triggers call may be called
/// by everybody; position triggers draw their numbers with their owner's rights.
fn rights(module: &Module, purpose: Purpose) -> Vec<(&'static str, String)> {
    let own = |rights: &[(&'static str, &str)]| {
        rights
            .iter()
            .map(|(privileges, object)| (*privileges, (*object).to_owned()))
            .collect()
    };
    match (module, purpose) {
        (Module::Admin | Module::Query, Purpose::Relay) => own(&[
            ("select", "table public.event_outbox"),
            ("select", "sequence public.event_outbox_position_seq"),
            // Who may write the key of its lock may hold it.
            ("select, update", "table public.event_outbox_relay_lock"),
        ]),
        // `select` for the position that the insert returns.
        (Module::Admin | Module::Query, Purpose::Publisher) => {
            own(&[("select, insert", "table public.event_outbox")])
        }
        (Module::Storage(element), Purpose::Relay) => vec![
            ("select", format!("table public.{element}_wal")),
            ("select", format!("table public.{element}_files")),
            (
                "select",
                format!("sequence public.{element}_wal_position_seq"),
            ),
            (
                "select, update",
                format!("table public.{element}_relay_lock"),
            ),
        ],
        (Module::Storage(element), Purpose::Publisher) => vec![
            (
                "select, insert, update, delete",
                format!("table public.{element}_files"),
            ),
            // Not `delete`: what happened stays.
            (
                "select, insert, update",
                format!("table public.{element}_wal"),
            ),
            (
                "select, insert, update",
                format!("table public.{element}_config"),
            ),
        ],
        (Module::Query, Purpose::Projector) => own(&[
            (
                "select, insert, update, delete",
                "table public.file_metadata_cache",
            ),
            ("select, insert, update", "table public.file_ownership"),
            (
                "select, insert, update",
                "table public.projection_checkpoints",
            ),
            ("select, insert", "table public.projection_parked"),
            ("select", "table public.projection_pauses"),
            ("select", "table public.projection_discarded"),
            ("select, insert, update", "table public.projection_locks"),
            ("select, insert", "table public.search_history"),
            ("select, insert", "table public.download_statistics"),
        ]),
        // Not `update` or `delete` on what is evidence.
        (Module::Admin, Purpose::Projector) => own(&[
            ("select, insert", "table public.audit_logs"),
            ("usage", "sequence public.audit_logs_id_seq"),
            ("select, insert", "table public.audit_heads"),
            ("select, insert", "table public.audit_boundary"),
            ("select, insert, update", "table public.audit_trees"),
            ("select, insert, update", "table public.audit_tiles"),
            (
                "select, insert, update, delete",
                "table public.registry_files",
            ),
            ("select, insert, update", "table public.registry_elements"),
            (
                "select (name, mode, file_count, used_bytes, last_event_at), \
                 update (mode, file_count, used_bytes, last_event_at)",
                "table public.storage_elements",
            ),
            (
                "select, insert, update",
                "table public.projection_checkpoints",
            ),
            ("select, insert", "table public.projection_parked"),
            ("select", "table public.projection_pauses"),
            ("select", "table public.projection_discarded"),
            ("select, insert, update", "table public.projection_locks"),
        ]),
        (Module::Storage(element), Purpose::Pruner) => vec![
            // Beside what a relay needs, `delete`; the others for the operation that records it.
            (
                "select, insert, update, delete",
                format!("table public.{element}_wal"),
            ),
            ("select", format!("table public.{element}_files")),
            (
                "select",
                format!("sequence public.{element}_wal_position_seq"),
            ),
            (
                "select, update",
                format!("table public.{element}_wal_pruned"),
            ),
        ],
        (Module::Admin, Purpose::Auditor) => own(&[
            ("select", "table public.audit_logs"),
            ("select", "table public.audit_heads"),
            ("select", "table public.audit_boundary"),
            ("select", "table public.audit_trees"),
            ("select", "table public.audit_tiles"),
            ("select", "table public.projection_checkpoints"),
            ("select", "table public.projection_parked"),
            ("select", "table public.projection_pauses"),
            ("select", "table public.projection_discarded"),
        ]),
        // Whether the relay's lock is held can be seen without its key.
        (Module::Admin, Purpose::Console) => own(&[
            ("select", "table public.event_outbox"),
            ("select", "sequence public.event_outbox_position_seq"),
            ("select", "table public.projection_checkpoints"),
            ("select", "table public.projection_parked"),
            ("select", "table public.projection_pauses"),
            ("select", "table public.projection_discarded"),
            ("select", "table public.registry_files"),
            ("select", "table public.registry_elements"),
        ]),
        (Module::Query, Purpose::Console) => own(&[
            ("select, insert", "table public.event_outbox"),
            ("select", "sequence public.event_outbox_position_seq"),
            ("select", "table public.file_metadata_cache"),
            ("select", "table public.file_ownership"),
            ("select", "table public.search_history"),
            ("select", "table public.download_statistics"),
            ("select", "table public.projection_checkpoints"),
            ("select", "table public.projection_parked"),
            ("select", "table public.projection_pauses"),
            ("select", "table public.projection_discarded"),
        ]),
        (Module::Storage(element), Purpose::Console) => {
            let mut rights: Vec<_> = ["wal", "files", "config", "api"]
                .map(|table| ("select", format!("table public.{element}_{table}")))
                .into();
            rights.push((
                "select",
                format!("sequence public.{element}_wal_position_seq"),
            ));
            rights
        }
        (Module::Storage(_), Purpose::Projector)
        | (Module::Query | Module::Storage(_), Purpose::Auditor)
        | (Module::Admin | Module::Query, Purpose::Pruner) => Vec::new(),
    }
}

async fn sees_keys(conn: &mut PgConnection, role: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select has_table_privilege($1, 'public.jwt_keys', 'select')
             or has_any_column_privilege($1, 'public.jwt_keys', 'select')",
    )
    .bind(role)
    .fetch_one(conn)
    .await
}
