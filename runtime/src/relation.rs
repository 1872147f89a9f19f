//! Whether a relation is a table, and shows this role all of its rows: read from the catalogue, at each
//! start of a session. A view or a policy that hides rows would make a file look deleted.

use sqlx::postgres::PgDatabaseError;
use sqlx::{FromRow, PgConnection};

/// What shows other rows than those that were written, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Something else has the table's name.
    #[error(
        "{table} is {kind}, not a table: nobody can tell whether it shows every row; give its name \
         back to the table (a view can have another)"
    )]
    Kind {
        /// Its name.
        table: String,
        /// What it is.
        kind: &'static str,
    },
    /// The server empties it.
    #[error(
        "table {table} is unlogged: the server empties it after a crash; run `alter table {table} \
         set logged`"
    )]
    Unlogged {
        /// Its name.
        table: String,
    },
    /// A policy hides rows.
    #[error(
        "row level security is on for table {table} and holds for role {role} ({policies}): rows may \
         be hidden from it, so nothing is read; run `{remedy}`, or `alter table {table} disable row \
         level security`"
    )]
    Hidden {
        /// Its name.
        table: String,
        /// Ours.
        role: String,
        /// Which policies there are.
        policies: String,
        /// What lets this role see all rows.
        remedy: String,
    },
    /// A rule changes what statements do.
    #[error(
        "table {table} has rules ({rules}), which change what a statement on it does; drop them: \
         `drop rule NAME on {table}`"
    )]
    Rules {
        /// Its name.
        table: String,
        /// Which.
        rules: String,
    },
    /// Rows of other tables are read as its own.
    #[error(
        "table {table} has child tables ({children}), whose rows are read as its own; part them: \
         `alter table CHILD no inherit {table}`"
    )]
    Children {
        /// Its name.
        table: String,
        /// Which.
        children: String,
    },
}

#[derive(FromRow)]
struct Facts {
    name: String,
    kind: String,
    unlogged: bool,
    secured: bool,
    hidden: bool,
    role: String,
    role_name: String,
    is_owner: bool,
    policies: Vec<String>,
    rules: Vec<String>,
    children: Vec<String>,
}

/// The first of these tables, by their names with a schema, that is unfit. One that is not there is
/// skipped: whoever needs it says so.
pub async fn unfit(
    connection: &mut PgConnection,
    tables: &[String],
) -> Result<Option<Unfit>, sqlx::Error> {
    let facts: Vec<Facts> = sqlx::query_as(include_str!("sql/relations.sql"))
        .bind(tables)
        .fetch_all(connection)
        .await?;
    Ok(facts.into_iter().find_map(judge))
}

/// Those of these tables for which row level security is on, whether or not it holds for this role:
/// others may be about to read them.
pub async fn secured(
    connection: &mut PgConnection,
    tables: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    let facts: Vec<Facts> = sqlx::query_as(include_str!("sql/relations.sql"))
        .bind(tables)
        .fetch_all(connection)
        .await?;
    let secured = facts.into_iter().filter(|facts| facts.secured);
    let text = |facts: Facts| {
        format!(
            "row level security is on for table {} ({}): the role of a relay or a projector that is \
             not its owner is refused, until `alter role NAME bypassrls` for it",
            facts.name,
            facts.policies()
        )
    };
    Ok(secured.map(text).collect())
}

impl Facts {
    fn policies(&self) -> String {
        match self.policies.is_empty() {
            true => "there is no policy, which hides all rows".to_owned(),
            false => format!("policies: {}", self.policies.join(", ")),
        }
    }
}

fn judge(facts: Facts) -> Option<Unfit> {
    let table = facts.name.clone();
    let kind = match facts.kind.as_str() {
        "r" => None,
        "v" => Some("a view"),
        "m" => Some("a materialized view"),
        "f" => Some("a foreign table"),
        "p" => Some("a partitioned table"),
        _ => Some("something else"),
    };
    if let Some(kind) = kind {
        return Some(Unfit::Kind { table, kind });
    }
    if facts.hidden {
        let policies = facts.policies();
        let remedy = match facts.is_owner {
            true => format!("alter table {table} no force row level security"),
            false => format!("alter role {} bypassrls", facts.role),
        };
        let role = facts.role_name;
        return Some(Unfit::Hidden {
            table,
            role,
            policies,
            remedy,
        });
    }
    if !facts.rules.is_empty() {
        let rules = facts.rules.join(", ");
        return Some(Unfit::Rules { table, rules });
    }
    if !facts.children.is_empty() {
        let children = facts.children.join(", ");
        return Some(Unfit::Children { table, children });
    }
    facts.unlogged.then_some(Unfit::Unlogged { table })
}

/// What to do about PostgreSQL's error that a policy would hide rows: it names the table.
pub fn advice(error: &sqlx::Error) -> Option<&'static str> {
    let error = error.as_database_error()?;
    let error = error.try_downcast_ref::<PgDatabaseError>()?;
    // Only this function raises it; its text depends on `lc_messages`.
    (error.routine() == Some("check_enable_rls")).then_some(
        "row level security may hide rows of it from this role, so nothing is read: use a role with \
         the attribute bypassrls (`alter role NAME bypassrls`), or run `alter table TABLE disable row \
         level security`",
    )
}
