//! One role for each duty of a module, with timeouts and a limit of sessions, and the least rights
//! ([`crate::grant`]). As statements, which this program runs or somebody else does.
//!
//! A role's settings are what its sessions begin with; a session can set others. They end what is forgotten, not
//! what somebody wants to keep open: that is named by `artstore status`.

use artstore_runtime::secret::Secret;
use artstore_runtime::words::words;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::grant::{GrantError, Purpose, grant, statements};
use crate::module::Module;
use crate::password::verifier;

/// What a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Owns the tables and runs migrations.
    Migrator,
    /// Publishes.
    Relay,
    /// Writes an element's tables, or an outbox: a role of its own for each source.
    Publisher,
    /// Builds the query cache.
    QueryProjector,
    /// Builds the audit log and the element registry.
    AuditProjector,
    /// Reads the audit log.
    Auditor,
    /// Reads what `status`, `search` and `verify` show.
    Console,
}

/// The settings of a duty's sessions, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A transaction without a statement ends after so long.
    pub idle_in_transaction: &'static str,
    /// A wait for a lock ends after so long; `0` is without an end.
    pub lock_timeout: &'static str,
    /// A statement ends after so long; `0` is without an end.
    pub statement_timeout: &'static str,
    /// Sessions, and how many more with each source that is configured.
    pub sessions: (u32, u32),
}

impl Duty {
    /// Its settings. Relays and projectors set shorter ones in sessions that hold a lock.
    pub fn settings(self) -> Settings {
        let settings = |idle, lock, statement, sessions| Settings {
            idle_in_transaction: idle,
            lock_timeout: lock,
            statement_timeout: statement,
            sessions,
        };
        match self {
            // Each part of a step asks for its tables for a second at a time.
            Self::Migrator => settings("10min", "0", "0", (10, 0)),
            Self::Relay => settings("1min", "30s", "5min", (20, 10)),
            // An upload sits idle in its transaction.
            Self::Publisher => settings("15min", "30s", "5min", (50, 0)),
            Self::QueryProjector | Self::AuditProjector => settings("1min", "30s", "0", (20, 10)),
            Self::Auditor => settings("1min", "10s", "0", (5, 0)),
            Self::Console => settings("1min", "10s", "5min", (20, 0)),
        }
    }

    /// The name of its role.
    fn role(self, prefix: &str, module: &Module) -> String {
        let duty = match self {
            Self::Migrator => "migrator",
            Self::Relay => "relay",
            Self::Publisher => {
                return match module {
                    Module::Admin => format!("{prefix}_publisher_admin"),
                    Module::Query => format!("{prefix}_publisher_query"),
                    Module::Storage(element) => format!("{prefix}_publisher_{element}"),
                };
            }
            Self::QueryProjector => "projector",
            Self::AuditProjector => "audit",
            Self::Auditor => "auditor",
            Self::Console => "console",
        };
        format!("{prefix}_{duty}")
    }

    fn purpose(self) -> Option<Purpose> {
        match self {
            Self::Migrator => None,
            Self::Relay => Some(Purpose::Relay),
            Self::Publisher => Some(Purpose::Publisher),
            Self::QueryProjector | Self::AuditProjector => Some(Purpose::Projector),
            Self::Auditor => Some(Purpose::Auditor),
            Self::Console => Some(Purpose::Console),
        }
    }

    /// The duties of a module's database.
    fn of(module: &Module) -> &'static [Self] {
        match module {
            Module::Admin => &[
                Self::Migrator,
                Self::Relay,
                Self::Publisher,
                Self::AuditProjector,
                Self::Auditor,
                Self::Console,
            ],
            Module::Query => &[
                Self::Migrator,
                Self::Relay,
                Self::Publisher,
                Self::QueryProjector,
                Self::Console,
            ],
            Module::Storage(_) => &[Self::Migrator, Self::Relay, Self::Publisher, Self::Console],
        }
    }
}

/// One role of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name: lower-case letters, digits and `_`, so that it needs no quotes.
    pub name: String,
    /// What it is for.
    pub duty: Duty,
    /// What makes it, and its settings. Running them again changes nothing.
    pub made_by: Vec<String>,
    /// What gives it its rights in the module's database, to be run by the owner of the tables.
    pub rights: Vec<String>,
}

/// What became of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, with its settings and rights.
    Done,
    /// It was there, and has its rights; whoever asked may not change its settings.
    SettingsLeft,
}

/// Why roles were not made.
#[derive(Debug, thiserror::Error)]
pub enum RolesError {
    /// Another one has to make it.
    #[error(
        "role {role:?} does not exist, and {user:?} may not make roles (CREATEROLE): nothing was changed; \
         `artstore migrate roles --sql` prints what somebody who may has to run"
    )]
    MayNotCreate {
        /// The role.
        role: String,
        /// Who asked.
        user: String,
    },
    /// The rights were not given.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The database refused.
    #[error("making roles for {module} failed: {}", words(.source))]
    Database {
        /// Whose.
        module: Module,
        /// What it said.
        source: sqlx::Error,
    },
}

/// The roles of a module. `prefix`: what their names begin with; `sources`: how many are configured.
pub fn roles(module: &Module, database: &str, prefix: &str, sources: usize) -> Vec<Role> {
    let sources = u32::try_from(sources).unwrap_or(u32::MAX);
    let make = |duty: &Duty| {
        let name = duty.role(prefix, module);
        let settings = duty.settings();
        let (least, each) = settings.sessions;
        let sessions = least.saturating_add(each.saturating_mul(sources));
        let made_by = vec![
            format!(
                "do $$ begin if not exists (select from pg_catalog.pg_roles where rolname = '{name}') \
                 then create role {name} login; end if; end $$"
            ),
            format!("alter role {name} connection limit {sessions}"),
            format!(
                "alter role {name} set idle_in_transaction_session_timeout = '{}'",
                settings.idle_in_transaction
            ),
            format!(
                "alter role {name} set lock_timeout = '{}'",
                settings.lock_timeout
            ),
            format!(
                "alter role {name} set statement_timeout = '{}'",
                settings.statement_timeout
            ),
        ];
        let quoted = format!("\"{}\"", database.replace('"', "\"\""));
        let rights = match duty.purpose() {
            Some(purpose) => statements(module, purpose, &name, &quoted),
            None => vec![
                format!("grant connect, create, temporary on database {quoted} to {name}"),
                format!("grant usage, create on schema public to {name}"),
            ],
        };
        Role {
            name,
            duty: *duty,
            made_by,
            rights,
        }
    };
    Duty::of(module).iter().map(make).collect()
}

/// Makes a role with its settings, its password where there is one, and its rights. Rights that it has stay. The
/// password itself is not sent.
pub async fn make(
    connection: &mut PgConnection,
    module: &Module,
    role: &Role,
    password: Option<&Secret>,
) -> Result<Outcome, RolesError> {
    let failed = |source| RolesError::Database {
        module: module.clone(),
        source,
    };
    let (user, may, exists): (String, bool, bool) = sqlx::query_as(
        // From PostgreSQL 16 on, a role that somebody else made is changed by its administrators alone.
        "select current_user::text, \
             me.rolsuper or me.rolcreaterole and (made.oid is null \
                 or current_setting('server_version_num')::int < 160000 \
                 or pg_catalog.pg_has_role(made.oid, 'member with admin option')), \
             made.oid is not null \
         from pg_catalog.pg_roles me left join pg_catalog.pg_roles made on made.rolname = $1 \
         where me.rolname = current_user",
    )
    .bind(&role.name)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if !may && !exists {
        let role = role.name.clone();
        return Err(RolesError::MayNotCreate { role, user });
    }
    if may {
        let mut transaction = connection.begin().await.map_err(failed)?;
        let password = password.map(|password| {
            let verifier = verifier(password.expose());
            format!("alter role {} password '{verifier}'", role.name)
        });
        for statement in role.made_by.iter().chain(&password) {
            sqlx::raw_sql(AssertSqlSafe(statement.clone()))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
    }
    match role.duty.purpose() {
        Some(purpose) => {
            grant(connection, module, &role.name, purpose).await?;
        }
        None => {
            for statement in &role.rights {
                sqlx::raw_sql(AssertSqlSafe(statement.clone()))
                    .execute(&mut *connection)
                    .await
                    .map_err(failed)?;
            }
        }
    }
    Ok(match may {
        true => Outcome::Done,
        false => Outcome::SettingsLeft,
    })
}
