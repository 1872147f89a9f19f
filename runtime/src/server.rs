//! The properties of a server and its database that our work depends on: reported by
//! `migrate` and by the services at their start, because nothing that is seen later shows why.

use sqlx::{PgConnection, Row as _};

/// What to do with a database in another encoding.
pub(crate) const TO_UTF8: &str = "move the data into a database with encoding UTF8 (pg_dump, createdb \
     --encoding=UTF8 --template=template0, pg_restore)";

/// The oldest PostgreSQL, as `server_version_num`.
const OLDEST: u32 = 150_000;

/// Why nothing works with a server of this version.
pub fn too_old(version_number: u32) -> Option<String> {
    (version_number < OLDEST).then(|| {
        format!(
            "PostgreSQL {}.{} is too old: upgrade it to {} or newer",
            version_number / 10_000,
            version_number % 10_000,
            OLDEST / 10_000
        )
    })
}

/// What a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// An element's operations and files, or an outbox: only read, but for what publishers write.
    Source,
    /// The query cache, in which people search.
    QueryCache,
    /// The audit log.
    AuditLog,
}

/// A server and a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As the server reports it.
    pub version: String,
    /// As a number.
    pub version_number: u32,
    /// The database's.
    pub encoding: String,
    /// The database's.
    pub lc_ctype: String,
    /// Whether upper and lower case of letters beyond ASCII are the same letter; none where the
    /// encoding has no Cyrillic letter to ask for.
    pub folds_case: Option<bool>,
    /// Whether what is committed survives a crash of the machine.
    pub fsync: bool,
}

impl Server {
    /// Asks. Simple statements only: a pooler mixes up prepared ones.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row = sqlx::raw_sql(
            "select current_setting('server_version') as version, \
                    current_setting('server_version_num')::bigint as number, \
                    current_setting('server_encoding') as encoding, \
                    current_setting('fsync')::boolean as fsync, \
                    (select datctype::text from pg_database where datname = current_database()) as ctype",
        )
        .fetch_one(&mut *connection)
        .await?;
        let encoding: String = row.try_get("encoding")?;
        let folds_case = match encoding.as_str() {
            "UTF8" => {
                let folds = "select lower('Ж') = 'ж' and 'Ж' ilike 'ж'";
                let row = sqlx::raw_sql(folds).fetch_one(connection).await?;
                Some(row.try_get(0)?)
            }
            _ => None,
        };
        Ok(Self {
            version: row.try_get("version")?,
            version_number: u32::try_from(row.try_get::<i64, _>("number")?).unwrap_or(0),
            encoding,
            lc_ctype: row.try_get("ctype")?,
            folds_case,
            fsync: row.try_get("fsync")?,
        })
    }

    /// Why no tables should be made in it.
    pub fn refused(&self, holds: Holds) -> Option<String> {
        (holds == Holds::QueryCache && self.encoding != "UTF8").then(|| {
            format!(
                "its encoding is {}, and file names in UTF-8 have to be stored and searched in it: \
                 use a database that was made with `create database NAME encoding 'UTF8' template \
                 template0`",
                self.encoding
            )
        })
    }

    /// What works with it, but not as people expect.
    pub fn notes(&self, holds: Holds) -> Vec<String> {
        let mut notes = Vec::new();
        let encoding = &self.encoding;
        match (encoding.as_str(), holds) {
            ("UTF8", _) => {}
            ("SQL_ASCII", Holds::Source) => notes.push(format!(
                "its encoding is SQL_ASCII, so PostgreSQL checks no text: one that is not UTF-8 is \
                 published with U+FFFD in place of what can't be read. Correct such texts, then \
                 {TO_UTF8}"
            )),
            (_, Holds::Source) => notes.push(format!(
                "its encoding is {encoding}: a text with bytes that are no character in it is \
                 published with U+FFFD in their place (once `artstore migrate up` has been run; the \
                 source stands still before such a text until then), and texts with characters that \
                 {encoding} does not have can't be written there. Correct such texts, then {TO_UTF8}"
            )),
            ("SQL_ASCII", Holds::QueryCache | Holds::AuditLog) => notes.push(format!(
                "its encoding is SQL_ASCII, in which PostgreSQL knows no letters beyond ASCII: it \
                 finds no upper case for lower case, and texts of others need not be readable: \
                 {TO_UTF8}"
            )),
            (_, Holds::QueryCache | Holds::AuditLog) => notes.push(format!(
                "its encoding is {encoding}: events with other characters can't be applied: {TO_UTF8}"
            )),
        }
        if self.folds_case == Some(false) && holds != Holds::AuditLog {
            notes.push(format!(
                "its lc_ctype is {}, which knows no letters beyond ASCII: a search for a word with a \
                 capital letter does not find it in small letters, or the other way. Move the data \
                 into a database with another one (pg_dump, createdb --encoding=UTF8 \
                 --locale=C.UTF-8 --template=template0, pg_restore)",
                self.lc_ctype
            ));
        }
        if !self.fsync {
            notes.push(
                "fsync is off: a crash of the machine can take back what was committed and published"
                    .to_owned(),
            );
        }
        notes
    }
}
