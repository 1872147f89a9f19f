//! Operations that nobody finished, because their process died: the state of each one's file in `_files`,
//! and how the operation could be finished. [`crate::operations::resolve`] finishes it. Nothing is written
//! here.

use std::fmt;
use std::time::Duration;

use artstore_runtime::text::{optional, text};
use artstore_schemas::element::ElementName;
use artstore_schemas::event::Status;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::publish::recorded::Recorded;
use crate::texts::Texts;

/// When an operation counts as left behind.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One that began later may still be running.
    pub older_than: Duration,
    /// A transaction on the element's tables that is open for at least this long may belong to
    /// any of the pending operations. Shorter ones are everybody's daily work.
    pub open_for: Duration,
}

impl Default for Limits {
    /// An hour; five seconds.
    fn default() -> Self {
        Self {
            older_than: Duration::from_secs(3_600),
            open_for: Duration::from_secs(5),
        }
    }
}

/// A pending operation.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The operation, which is the event to be.
    pub id: Uuid,
    /// What it is, as the writer named it.
    pub operation_type: String,
    /// The file that it is about, as far as the row states.
    pub file_id: Option<Uuid>,
    /// Who asked for it, as the row states.
    pub user_id: Option<String>,
    /// When it began, by its writer's clock.
    pub started_at: DateTime<Utc>,
    /// How long ago that is, by the database's clock.
    pub age: Duration,
    /// Whether our API wrote it: then it changes the file and is finished in one transaction.
    pub ours: bool,
    /// The file as it is.
    pub file: Option<Present>,
    /// How it could be finished.
    pub proposal: Proposal,
}

/// A file that is in `_files`.
#[derive(Debug, Clone)]
pub struct Present {
    /// Its id, which a create may not know.
    pub id: Uuid,
    /// The name that people gave it.
    pub original_filename: String,
    /// Its name on disk.
    pub storage_filename: String,
    /// Size in bytes.
    pub file_size: i64,
    /// SHA-256 of its content.
    pub checksum: String,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

/// How an operation could be finished, and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// `_files` leaves no doubt.
    Certain(Status, String),
    /// `_files` does not decide it; an operator has to.
    Unclear(String),
    /// Its process may be alive.
    MayBeRunning(String),
}

impl Proposal {
    /// In a word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Certain(Status::Committed, _) => "committed",
            Self::Certain(Status::RolledBack, _) => "rolled-back",
            Self::Certain(Status::Failed, _) => "failed",
            Self::Unclear(_) => "unclear",
            Self::MayBeRunning(_) => "may still be running",
        }
    }

    /// What speaks for it.
    pub fn reason(&self) -> &str {
        match self {
            Self::Certain(_, reason) | Self::Unclear(reason) | Self::MayBeRunning(reason) => reason,
        }
    }
}

/// An open transaction on the element's tables.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pid: Option<i32>,
    application: Option<String>,
    user: Option<String>,
    state: Option<String>,
    /// None where this role may not know.
    age: Option<f64>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "session {pid}")?,
            None => f.write_str("a prepared transaction")?,
        }
        let known = [&self.application, &self.user, &self.state];
        let known: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
        if !known.is_empty() {
            write!(f, " ({})", known.join(", "))?;
        }
        match self.age {
            Some(age) => write!(f, ", open for {age:.0} s"),
            None => f.write_str(", of which this role may see no more (pg_read_all_stats may)"),
        }
    }
}

/// What [`propose`] looks at beside the file itself.
#[derive(Debug, Clone, Default)]
struct Evidence {
    /// The file came after the operation began.
    came_later: bool,
    /// The operation gave the file a name on disk; whether the file has it.
    names: Option<bool>,
    /// What an update was to set, and whether the file has it.
    asked: Vec<(&'static str, bool)>,
    /// Another delete of the file that may have been the one.
    other_delete: Option<Uuid>,
}

/// The pending operations of an element, the oldest first.
pub async fn list(
    connection: &mut PgConnection,
    element: &ElementName,
    limits: Limits,
    most: i64,
) -> Result<Vec<Pending>, sqlx::Error> {
    pending(connection, element, limits, None, most).await
}

/// One of them; none when it is not pending.
pub(crate) async fn one(
    connection: &mut PgConnection,
    element: &ElementName,
    id: Uuid,
    limits: Limits,
) -> Result<Option<Pending>, sqlx::Error> {
    let found = pending(connection, element, limits, Some(id), 1).await?;
    Ok(found.into_iter().next())
}

/// One row is in memory at a time: an operation's data may be large.
async fn pending(
    connection: &mut PgConnection,
    element: &ElementName,
    limits: Limits,
    id: Option<Uuid>,
    most: i64,
) -> Result<Vec<Pending>, sqlx::Error> {
    let holder = holder(connection, element, limits.open_for).await?;
    let texts = Texts::of_element(connection, element).await?;
    let sql = include_str!("sql/wal_pending.sql").replace("{prefix}", element.as_str());
    let sql = texts.sql(&sql);
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(id).bind(most);
    rows.fetch(connection)
        .map(|row| read(&row?, limits, holder.as_ref()))
        .try_collect()
        .await
}

/// The longest of the transactions that are open for so long.
async fn holder(
    connection: &mut PgConnection,
    element: &ElementName,
    open_for: Duration,
) -> Result<Option<Holder>, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/wal_holders.sql"))
        .bind(format!("public.{element}_wal"))
        .bind(format!("public.{element}_files"))
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let holder = Holder {
        pid: row.try_get("pid")?,
        application: row.try_get("application")?,
        user: row.try_get("user")?,
        state: row.try_get("state")?,
        age: row.try_get("age")?,
    };
    let long = holder.age.is_none_or(|age| age >= open_for.as_secs_f64());
    Ok(long.then_some(holder))
}

fn read(row: &PgRow, limits: Limits, holder: Option<&Holder>) -> Result<Pending, sqlx::Error> {
    let operation_type = text(row, "operation_type")?;
    let operation_data = optional(row, "operation_data")?;
    let file_id: Option<Uuid> = row.try_get("file_id")?;
    let started_at: DateTime<Utc> = row.try_get("started_at")?;
    let present: Option<Uuid> = row.try_get("file_present")?;
    let file = present
        .map(|id| {
            Ok::<_, sqlx::Error>(Present {
                id,
                original_filename: text(row, "original_filename")?,
                storage_filename: text(row, "storage_filename")?,
                file_size: row.try_get("file_size")?,
                checksum: text(row, "checksum")?,
                updated_at: row.try_get("updated_at")?,
            })
        })
        .transpose()?;
    let mut asked = Vec::new();
    for (field, column) in [
        ("description", "description_same"),
        ("version", "version_same"),
        ("metadata", "metadata_same"),
    ] {
        asked.extend(
            row.try_get::<Option<bool>, _>(column)?
                .map(|same| (field, same)),
        );
    }
    let names = match row.try_get("names_asked")? {
        true => Some(
            row.try_get::<Option<bool>, _>("names_same")?
                .unwrap_or(false),
        ),
        false => None,
    };
    let evidence = Evidence {
        came_later: row
            .try_get::<Option<bool>, _>("came_later")?
            .unwrap_or(false),
        names,
        asked,
        other_delete: row.try_get("other_delete")?,
    };
    let ours = operation_data.is_some_and(|data| Recorded::read(&data, file_id).is_some());
    // An application's clock may be ahead of the database's.
    let age = Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default();
    let proposal = if age < limits.older_than {
        Proposal::MayBeRunning(format!("it began only {} s ago", age.as_secs()))
    } else if let Some(holder) = holder {
        Proposal::MayBeRunning(format!("{holder}, holds a lock on the element's tables"))
    } else {
        propose(
            &operation_type,
            ours,
            file_id,
            started_at,
            file.as_ref(),
            &evidence,
        )
    };
    Ok(Pending {
        id: row.try_get("transaction_id")?,
        operation_type,
        file_id,
        user_id: optional(row, "user_id")?,
        started_at,
        age,
        ours,
        file,
        proposal,
    })
}

/// What `_files` shows about an operation whose process is dead.
fn propose(
    operation_type: &str,
    ours: bool,
    file_id: Option<Uuid>,
    started_at: DateTime<Utc>,
    file: Option<&Present>,
    evidence: &Evidence,
) -> Proposal {
    use Status::{Committed, Failed, RolledBack};
    let certain = |status, reason: &str| Proposal::Certain(status, reason.to_owned());
    let unclear = |reason: &str| Proposal::Unclear(reason.to_owned());
    if ours {
        return certain(
            RolledBack,
            "its writer changes _files and finishes in one transaction, which was rolled back",
        );
    }
    if !matches!(
        operation_type,
        "file_create" | "file_update" | "file_delete"
    ) {
        return unclear("_files does not show what such an operation did");
    }
    if file_id.is_none() && file.is_none() {
        return unclear("the operation names no file");
    }
    let gone_by = |other: Uuid| {
        Proposal::Unclear(format!(
            "the file is not in _files, but operation {other} may have deleted it since"
        ))
    };
    match (operation_type, file) {
        ("file_create", Some(_)) => match evidence.names {
            Some(true) => certain(
                Committed,
                "the file is in _files under the name that the operation gave it",
            ),
            Some(false) => unclear("_files has the file under another name"),
            None => unclear("the operation does not say under which name it created the file"),
        },
        ("file_create", None) => match evidence.other_delete {
            Some(other) => gone_by(other),
            None => certain(RolledBack, "the file is not in _files"),
        },
        ("file_update", None) => match evidence.other_delete {
            Some(other) => gone_by(other),
            None => certain(Failed, "there is no such file in _files to be updated"),
        },
        ("file_update", Some(file)) => proposed_update(started_at, file, evidence),
        (_, Some(_)) if evidence.came_later => {
            unclear("the file came to _files after the operation began")
        }
        (_, Some(_)) => certain(RolledBack, "the file is still in _files"),
        (_, None) => match evidence.other_delete {
            Some(other) => gone_by(other),
            None => certain(Committed, "the file is gone from _files"),
        },
    }
}

fn proposed_update(started_at: DateTime<Utc>, file: &Present, evidence: &Evidence) -> Proposal {
    if evidence.asked.is_empty() {
        return Proposal::Unclear("the operation sets nothing that could be compared".to_owned());
    }
    let differ = evidence.asked.iter().filter(|(_, same)| !same);
    let differ: Vec<&str> = differ.map(|(field, _)| *field).collect();
    let fields = evidence.asked.iter().map(|(field, _)| *field);
    let fields = fields.collect::<Vec<_>>().join(", ");
    let since = file.updated_at >= started_at;
    match (differ.is_empty(), since) {
        (true, true) => Proposal::Certain(
            Status::Committed,
            format!(
                "the file has what the operation sets ({fields}), and was changed since it began"
            ),
        ),
        (true, false) => Proposal::Unclear(format!(
            "the file has what the operation sets ({fields}), but was not changed since it began"
        )),
        (false, false) => Proposal::Certain(
            Status::RolledBack,
            format!(
                "the file does not have what the operation sets ({}), and was not changed since it \
                 began",
                differ.join(", ")
            ),
        ),
        (false, true) => Proposal::Unclear(format!(
            "the file was changed since the operation began, but does not have what it sets ({})",
            differ.join(", ")
        )),
    }
}
