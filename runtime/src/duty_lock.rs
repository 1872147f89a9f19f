//! Locks that elect: the relay of a source, the worker of a stream, the one rebuild of a projection. A session
//! advisory lock of PostgreSQL, so the server releases it with its session.
//!
//! Any role that may connect can take any advisory lock whose key it knows, and `pg_locks` shows everybody the
//! keys that are held. So the key is a random number in a table that the roles of the duty alone may read and
//! write. Whoever finds it held by a role without that right replaces it, and takes the new one
//! (docs/decisions/0025-keys-of-locks-are-replaced.md).
//!
//! The lock only avoids wasted work: what is written is fenced by the stream's sequence or the checkpoint. Two
//! sessions can both hold it for a moment, where one replaces a key that the other has just got; that one then
//! sees at its next look that its key is no longer the lock's ([`DutyLock::is_held`]).

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::holder::Holder;

/// How often it is looked at who has the key of earlier versions.
const LOOK: Duration = Duration::from_secs(1);

/// How often a key is replaced at one try.
const REPLACED: usize = 3;

/// 60 random bits: whoever has to guess it is as far as with a password.
const RANDOM: &str =
    "('x' || replace(left(gen_random_uuid()::text, 18), '-', ''))::bit(64)::bigint";

/// The key that earlier versions use, which anybody can know.
#[derive(Debug, Clone)]
pub enum FixedKey {
    /// It itself.
    Number(i64),
    /// The text that PostgreSQL hashes to it.
    Hashed(String),
}

/// A lock of a duty.
#[derive(Debug, Clone)]
pub struct DutyLock {
    table: String,
    name: String,
    fixed: FixedKey,
    /// When it was looked at who has the key of earlier versions.
    looked: Option<Instant>,
    /// Whether that was somebody who may not.
    intruder: bool,
}

/// A lock that a session holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock {
    key: i64,
    /// The key of earlier versions, where the session has that too.
    fixed: Option<i64>,
}

impl DutyLock {
    /// The lock `name`, whose key is in `table`: a name of ours, with its schema.
    pub fn new(table: impl Into<String>, name: impl Into<String>, fixed: FixedKey) -> Self {
        Self {
            table: table.into(),
            name: name.into(),
            fixed,
            looked: None,
            intruder: false,
        }
    }

    /// Takes the lock where nobody has it who may; it does not wait. First the key of earlier versions, so that
    /// one of those and this one are never active together; it is not waited for where an intruder has it.
    pub async fn try_lock(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<Option<HeldLock>, sqlx::Error> {
        let fixed = self.fixed(connection).await?;
        self.fixed = FixedKey::Number(fixed);
        let got = try_number(connection, fixed).await?;
        if !got {
            if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
                self.looked = Some(Instant::now());
                let holder = self.holder_of(connection, fixed).await?;
                self.intruder = holder.is_some_and(|(_, intruder)| intruder);
            }
            if !self.intruder {
                return Ok(None);
            }
        }
        let key = self.take(connection).await?;
        if key.is_none() && got {
            unlock(connection, fixed).await?;
        }
        let fixed = got.then_some(fixed);
        Ok(key.map(|key| HeldLock { key, fixed }))
    }

    /// Takes the key, where nobody has it who may.
    async fn take(&self, connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
        for _ in 0..=REPLACED {
            let (key, taken) = self.try_key(connection).await?;
            if taken {
                if self.key(connection).await? == Some(key) {
                    return Ok(Some(key));
                }
                // Replaced while it was taken: another session has the new one.
                unlock(connection, key).await?;
            }
            match self.holder_of(connection, key).await? {
                Some((holder, true)) => self.replace(connection, key, &holder).await?,
                Some((_, false)) | None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether this session could take a lock that another one holds. It can't, unless both connections are one
    /// session: then there is a pooler in between.
    pub async fn is_free(
        connection: &mut PgConnection,
        held: HeldLock,
    ) -> Result<bool, sqlx::Error> {
        let taken = try_number(connection, held.key).await?;
        if taken {
            unlock(connection, held.key).await?;
        }
        Ok(taken)
    }

    /// Whether the key that a session holds still is the lock's.
    pub async fn is_held(
        &self,
        connection: &mut PgConnection,
        held: HeldLock,
    ) -> Result<bool, sqlx::Error> {
        Ok(self.key(connection).await? == Some(held.key))
    }

    /// Whether this session has the lock now, and keeps it until its transaction ends: nobody gives it another key
    /// before. For what must not be done by two that both took it.
    pub async fn confirm(&self, transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let sql = format!("select key from {} where name = $1 for share", self.table);
        let key: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&self.name)
            .fetch_optional(&mut *transaction)
            .await?;
        sqlx::query_scalar(
            "select exists (select from pg_catalog.pg_locks \
             where locktype = 'advisory' and granted and objsubid = 1 and pid = pg_backend_pid() \
               and database = (select oid from pg_catalog.pg_database where datname = current_database()) \
               and classid::bigint = ($1::bigint >> 32) & 4294967295 \
               and objid::bigint = $1::bigint & 4294967295)",
        )
        .bind(key)
        .fetch_one(transaction)
        .await
    }

    /// Releases it: once this returns, another session has it or can have it.
    pub async fn release(
        &self,
        connection: &mut PgConnection,
        held: HeldLock,
    ) -> Result<(), sqlx::Error> {
        if let Some(fixed) = held.fixed {
            unlock(connection, fixed).await?;
        }
        unlock(connection, held.key).await
    }

    /// Who has the lock; none where nobody has who may: a stranger keeps nobody from it. A role that may not read its
    /// key sees who has that of earlier versions, which whoever has the lock takes as well where it can.
    pub async fn holder(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<Holder>, sqlx::Error> {
        let fixed = self.fixed(connection).await?;
        let readable: Option<bool> =
            sqlx::query_scalar("select has_table_privilege(to_regclass($1)::oid, 'select')")
                .bind(&self.table)
                .fetch_one(&mut *connection)
                .await?;
        let key = match readable {
            Some(true) => self.key(connection).await?,
            Some(false) | None => None,
        };
        for key in key.into_iter().chain([fixed]) {
            if let Some((holder, false)) = self.holder_of(connection, key).await? {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }

    /// The key, and whether this session got it.
    async fn try_key(&self, connection: &mut PgConnection) -> Result<(i64, bool), sqlx::Error> {
        let sql = format!(
            "select key, pg_try_advisory_lock(key) from {} where name = $1",
            self.table
        );
        loop {
            let row = sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(&self.name)
                .fetch_optional(&mut *connection)
                .await?;
            if let Some(row) = row {
                return Ok((row.try_get(0)?, row.try_get(1)?));
            }
            let sql = format!(
                "insert into {} (name, key) values ($1, {RANDOM}) on conflict do nothing",
                self.table
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(&self.name)
                .execute(&mut *connection)
                .await?;
        }
    }

    async fn key(&self, connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
        let sql = format!("select key from {} where name = $1", self.table);
        sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&self.name)
            .fetch_optional(connection)
            .await
    }

    async fn fixed(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        match &self.fixed {
            FixedKey::Number(key) => Ok(*key),
            FixedKey::Hashed(text) => {
                sqlx::query_scalar("select hashtextextended($1, 0)")
                    .bind(text)
                    .fetch_one(connection)
                    .await
            }
        }
    }

    /// Who holds a key, and whether its role may not. One that may comes first.
    async fn holder_of(
        &self,
        connection: &mut PgConnection,
        key: i64,
    ) -> Result<Option<(Holder, bool)>, sqlx::Error> {
        let row = sqlx::query(include_str!("sql/duty_lock_holders.sql"))
            .bind(key)
            .bind(&self.table)
            .fetch_optional(connection)
            .await?;
        let read = |row| Ok((Holder::read(&row)?, row.try_get("intruder")?));
        row.map(read).transpose()
    }

    /// Gives the lock another key, unless somebody else has done so.
    async fn replace(
        &self,
        connection: &mut PgConnection,
        key: i64,
        intruder: &Holder,
    ) -> Result<(), sqlx::Error> {
        let sql = format!(
            "update {} set key = {RANDOM}, replaced_at = clock_timestamp() where name = $1 and key = $2",
            self.table
        );
        let replaced = sqlx::query(AssertSqlSafe(sql))
            .bind(&self.name)
            .bind(key)
            .execute(connection)
            .await?;
        if replaced.rows_affected() > 0 {
            tracing::warn!(
                lock = self.name,
                table = self.table,
                %intruder,
                "a session whose role may not have this lock had taken it: the lock has a new key"
            );
        }
        Ok(())
    }
}

async fn try_number(connection: &mut PgConnection, key: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock($1)")
        .bind(key)
        .fetch_one(connection)
        .await
}

async fn unlock(connection: &mut PgConnection, key: i64) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_unlock($1)")
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}
