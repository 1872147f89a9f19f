//! Which rows of the audit log, and all that a row says.

use artstore_projectors::audit_log::store::{COLUMNS, Stored};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::QueryBuilder;

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Filters {
    /// Only of these kinds: file_create, login_failed, …
    #[arg(long = "type")]
    event_type: Vec<String>,
    /// Only of these severities: info, warning, error
    #[arg(long)]
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
    /// Only of this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only what failed
    #[arg(long)]
    failed: bool,
    /// Only what happened at or after this time: 2026-01-31T12:00:00Z
    #[arg(long)]
    since: Option<chrono::DateTime<chrono::Utc>>,
    /// Only what happened before this time
    #[arg(long)]
    until: Option<chrono::DateTime<chrono::Utc>>,
}

impl Filters {
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

/// The columns of a row. Also of the product's own rows, which have no stream.
pub fn columns() -> String {
    COLUMNS.replace(
        "stream, stream_sequence",
        "coalesce(stream, '') as stream, coalesce(stream_sequence, 0) as stream_sequence",
    )
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
