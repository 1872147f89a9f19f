//! Which rows of the audit log a command is about, and all that a row contains.

use std::collections::BTreeMap;

use artstore_projectors::audit_log::store::{COLUMNS, Stored};
use chrono::{DateTime, Utc};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, QueryBuilder};

use crate::config::ConfigError;
use crate::day_or_time;
use crate::names;
use artstore_verification::audit::shown::Verdict;

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Filters {
    /// Only of these kinds: file_create, login_failed, …
    #[arg(long = "type")]
    event_type: Vec<String>,
    /// Only of these severities
    #[arg(long, value_parser = ["debug", "info", "warning", "error", "critical"])]
    severity: Vec<String>,
    /// Only by this actor: an id or a name
    #[arg(long)]
    actor: Option<String>,
    /// Only about this kind of thing: file, user, storage_element, …
    #[arg(long)]
    resource: Option<String>,
    /// Only about the thing with this id
    #[arg(long)]
    resource_id: Option<String>,
    /// Only with this correlation id
    #[arg(long)]
    request_id: Option<String>,
    /// Only of this stream: ARTSTORE_ADMIN, or an element's name, admin or query
    #[arg(long, value_parser = names::stream)]
    stream: Option<String>,
    /// Only what failed
    #[arg(long)]
    failed: bool,
    /// Only what happened at or after this day or time: 2026-01-31 (UTC), or 2026-01-31T12:00:00Z
    #[arg(long, value_parser = day_or_time::first)]
    since: Option<DateTime<Utc>>,
    /// Only what happened before this day or time
    #[arg(long, value_parser = day_or_time::first)]
    until: Option<DateTime<Utc>>,
}

impl Filters {
    /// Whether the values of the filters exist: a mistyped one would silently find nothing. Event types are
    /// many, and a new one may appear tomorrow: an unknown type is only reported.
    pub async fn check(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        for event_type in &self.event_type {
            let found: bool = sqlx::query_scalar(
                "select exists (select from public.audit_logs where event_type = $1)",
            )
            .bind(event_type)
            .fetch_one(&mut *connection)
            .await?;
            if !found {
                eprintln!(
                    "artstore: no row is of type {event_type:?} so far; docs/audit.md lists the types"
                );
            }
        }
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let logs: Vec<String> =
            sqlx::query_scalar("select stream from public.audit_trees order by 1")
                .fetch_all(connection)
                .await?;
        if logs.contains(stream) {
            return Ok(());
        }
        let known = match logs.join(", ") {
            none if none.is_empty() => "there is none yet".to_owned(),
            known => format!("there are {known}"),
        };
        Err(ConfigError(format!("--stream: there is no log of {stream}; {known}")).into())
    }

    /// Adds the conditions behind `where true`.
    pub fn push(&self, query: &mut QueryBuilder<sqlx::Postgres>) {
        if !self.event_type.is_empty() {
            query
                .push(" and event_type = any(")
                .push_bind(self.event_type.clone())
                .push(")");
        }
        if !self.severity.is_empty() {
            query
                .push(" and severity = any(")
                .push_bind(self.severity.clone())
                .push(")");
        }
        if let Some(actor) = &self.actor {
            query.push(" and (actor_id = ").push_bind(actor.clone());
            query
                .push(" or actor_name = ")
                .push_bind(actor.clone())
                .push(")");
        }
        let texts = [
            ("resource_type", &self.resource),
            ("resource_id", &self.resource_id),
            ("request_id", &self.request_id),
            ("stream", &self.stream),
        ];
        for (column, value) in texts {
            if let Some(value) = value {
                query
                    .push(format!(" and {column} = "))
                    .push_bind(value.clone());
            }
        }
        if self.failed {
            query.push(" and not success");
        }
        if let Some(since) = self.since {
            query.push(" and created_at >= ").push_bind(since);
        }
        if let Some(until) = self.until {
            query.push(" and created_at < ").push_bind(until);
        }
    }
}

/// The first row of each stream's log that is there; of one stream, where the filters name one.
/// `audit archive` takes the first rows out: where one has moved, rows are gone that were there.
pub(crate) async fn first_rows(
    connection: &mut PgConnection,
    filters: &Filters,
) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select tree.stream, first.sequence from public.audit_trees as tree, \
         lateral (select min(stream_sequence) as sequence from public.audit_logs as log \
             where log.stream = tree.stream and log.stream_sequence > 0) as first \
         where first.sequence is not null and ($1::text is null or tree.stream = $1)",
    )
    .bind(&filters.stream)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

/// What the log had at one moment. Rows are only added, so the same bounds are the same rows at any
/// later time; ids alone are not: a lower one may be committed later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// How many rows each stream's log had.
    pub streams: BTreeMap<String, i64>,
    /// The highest id: the product's own rows up to there.
    pub product: i64,
}

impl Bounds {
    /// What there is now.
    pub async fn now(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let streams: Vec<(String, i64)> =
            sqlx::query_as("select stream, size from public.audit_trees")
                .fetch_all(&mut *connection)
                .await?;
        let product = sqlx::query_scalar("select coalesce(max(id), 0) from public.audit_logs")
            .fetch_one(connection)
            .await?;
        Ok(Self {
            streams: streams.into_iter().collect(),
            product,
        })
    }

    /// Adds the condition that a row of `log` was there.
    pub fn push(&self, query: &mut QueryBuilder<sqlx::Postgres>) {
        query
            .push(" and case when format = 0 then id <= ")
            .push_bind(self.product);
        query
            .push(" else stream_sequence <= (select size from unnest(")
            .push_bind(self.streams.keys().cloned().collect::<Vec<_>>());
        query
            .push("::text[], ")
            .push_bind(self.streams.values().copied().collect::<Vec<_>>());
        query.push("::bigint[]) as bound (stream, size) where bound.stream = log.stream) end");
    }

    /// Adds the condition that a row came after `before` and up to this moment: by each stream's own
    /// index.
    pub(crate) fn push_since(&self, before: &Self, query: &mut QueryBuilder<sqlx::Postgres>) {
        let from = |stream: &String| before.streams.get(stream).copied().unwrap_or(0);
        query
            .push(" and id in (select new.id from unnest(")
            .push_bind(self.streams.keys().cloned().collect::<Vec<_>>());
        query
            .push("::text[], ")
            .push_bind(self.streams.keys().map(from).collect::<Vec<_>>());
        query
            .push("::bigint[], ")
            .push_bind(self.streams.values().copied().collect::<Vec<_>>());
        query
            .push(
                "::bigint[]) as bound (stream, before, size) \
                 join public.audit_logs new on new.stream = bound.stream \
                     and new.stream_sequence > bound.before and new.stream_sequence <= bound.size \
                 union all select id from public.audit_logs where format = 0 and id > ",
            )
            .push_bind(before.product);
        query.push(" and id <= ").push_bind(self.product).push(")");
    }
}

/// The columns of a row. Also of the product's own rows, which have no stream.
pub fn columns() -> String {
    COLUMNS.replace(
        "stream, stream_sequence",
        "coalesce(stream, '') as stream, coalesce(stream_sequence, 0) as stream_sequence",
    )
}

/// A row for programs, with what is wrong with it.
pub fn checked(stored: &Stored, verdict: &Verdict) -> Value {
    let mut object = object(stored);
    if let Some(reason) = verdict.wrong() {
        object["not_as_signed"] = reason.into();
    }
    object
}

/// A row for programs.
pub fn object(stored: &Stored) -> Value {
    let mut object = json!(stored.row);
    let data = stored.row.data.as_deref();
    let data = data.and_then(|data| serde_json::from_str::<Value>(data).ok());
    object["data"] = data.unwrap_or(Value::Null);
    object["created_at"] = json!(stored.row.time());
    object["id"] = stored.id.into();
    object["format"] = stored.format.into();
    object["kid"] = stored.kid.clone().into();
    object["hmac_signature"] = stored.hmac_signature.clone().into();
    object
}
