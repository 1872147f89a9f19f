//! Which of the three kinds of database is migrated: the names that are its own, the variable
//! that configures it, and its steps (from [`crate::step`]).

use std::borrow::Cow;
use std::fmt;

use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;

use crate::step::{ADMIN, QUERY, STORAGE, Script, Step, for_element};

/// Tables by which a database is known as the admin module's.
pub(crate) const ADMIN_TABLES: &[&str] = &[
    "users",
    "service_accounts",
    "storage_elements",
    "jwt_keys",
    "audit_logs",
];

/// Tables by which a database is known as the query module's.
pub(crate) const QUERY_TABLES: &[&str] = &[
    "file_metadata_cache",
    "search_history",
    "download_statistics",
];

/// A module of the product, each with a database of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// Accounts, the registry of elements, keys, the audit log.
    Admin,
    /// The read model that people search.
    Query,
    /// One storage element, whose tables carry its name as their prefix.
    Storage(ElementName),
}

impl Module {
    /// The table that records which steps were applied.
    pub fn version_table(&self) -> String {
        match self {
            Self::Admin => "artstore_admin_version".to_owned(),
            Self::Query => "artstore_query_version".to_owned(),
            Self::Storage(element) => format!("{element}_version"),
        }
    }

    /// The configuration to look at when this is the wrong database.
    pub(crate) fn variable(&self) -> &'static str {
        match self {
            Self::Admin => "ADMIN_DATABASE_URL",
            Self::Query => "QUERY_DATABASE_URL",
            Self::Storage(_) => "ARTSTORE_ELEMENTS or STORAGE_DATABASE_URL",
        }
    }

    /// Whose database a source's rows are in.
    pub fn of(source: &Source) -> Self {
        match source {
            Source::Admin => Self::Admin,
            Source::Query => Self::Query,
            Source::Element(element) => Self::Storage(element.clone()),
        }
    }

    /// The tables that the steps make.
    pub fn tables(&self) -> Vec<String> {
        let owned = |names: &[&[&str]]| {
            names
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        match self {
            Self::Admin => owned(&[
                ADMIN_TABLES,
                &[
                    "event_outbox",
                    "event_outbox_relay_lock",
                    "projection_checkpoints",
                    "projection_parked",
                    "projection_pauses",
                    "projection_discarded",
                    "projection_locks",
                    "audit_trees",
                    "audit_tiles",
                    "audit_heads",
                    "audit_boundary",
                    "registry_files",
                    "registry_elements",
                ],
            ]),
            Self::Query => owned(&[
                QUERY_TABLES,
                &[
                    "event_outbox",
                    "event_outbox_relay_lock",
                    "projection_checkpoints",
                    "projection_parked",
                    "projection_pauses",
                    "projection_discarded",
                    "projection_locks",
                    "file_ownership",
                ],
            ]),
            Self::Storage(element) => ["config", "files", "wal", "wal_pruned", "api", "relay_lock"]
                .map(|table| format!("{element}_{table}"))
                .to_vec(),
        }
    }

    /// Sequences and types that the steps make. One that is already there would make them fail,
    /// or give theirs another name without an error.
    pub(crate) fn sequences_and_types(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Admin => [
                "users_id_seq",
                "storage_elements_id_seq",
                "jwt_keys_id_seq",
                "audit_logs_id_seq",
                "event_outbox_position_seq",
                "user_role_enum",
                "user_status_enum",
                "service_account_role_enum",
                "service_account_status_enum",
                "storage_mode_enum",
                "storage_type_enum",
                "storage_status_enum",
            ]
            .map(str::to_owned)
            .to_vec(),
            Self::Query => [
                "search_history_id_seq",
                "download_statistics_id_seq",
                "event_outbox_position_seq",
            ]
            .map(str::to_owned)
            .to_vec(),
            Self::Storage(element) => {
                vec![
                    format!("{element}_config_id_seq"),
                    format!("{element}_wal_position_seq"),
                ]
            }
        };
        names.sort_unstable();
        names
    }

    pub(crate) fn scripts(&self) -> &'static [Script] {
        match self {
            Self::Admin => ADMIN,
            Self::Query => QUERY,
            Self::Storage(_) => STORAGE,
        }
    }

    /// Every step, in order: versions 1, 2, 3 and so on.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = (Step, &'static Script)> {
        (1u32..)
            .zip(self.scripts())
            .map(|(version, script)| {
                (
                    Step {
                        version,
                        name: script.name,
                    },
                    script,
                )
            })
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The SQL of a step as this module runs it.
    pub(crate) fn render(&self, sql: &'static str) -> Cow<'static, str> {
        match self {
            Self::Admin | Self::Query => Cow::Borrowed(sql),
            Self::Storage(element) => Cow::Owned(for_element(sql, element)),
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Query => f.write_str("query"),
            Self::Storage(element) => write!(f, "storage element {element}"),
        }
    }
}

/// The last version of a module that this program knows.
pub fn latest(module: &Module) -> u32 {
    u32::try_from(module.scripts().len()).expect("versions are few")
}
