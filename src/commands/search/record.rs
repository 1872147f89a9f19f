//! Each search is itself an event: a row in the query module's outbox, which relay and
//! projector bring into `search_history`.

use std::time::Duration;

use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_producers::publish::publish_error::PublishError;
use artstore_projectors::search::SearchResult;
use artstore_projectors::search::query::Search;
use artstore_schemas::actor::Actor;
use artstore_schemas::event::SearchPerformed;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::operator;

/// Records a search with its result, in a transaction of its own. Returns the event's id.
pub async fn record(
    connection: &mut PgConnection,
    asked: &Search,
    found: &SearchResult,
) -> Result<Uuid, PublishError> {
    let filters = (!asked.filters.is_empty()).then(|| json!(asked.filters).to_string());
    let data = SearchPerformed {
        query_text: Some(asked.text.clone()).filter(|text| !text.is_empty()),
        search_mode: asked.mode.as_str().to_owned(),
        filters_applied: filters,
        results_count: i32::try_from(found.total).unwrap_or(i32::MAX),
        response_time_ms: milliseconds(found.took),
        username: None,
    };
    let event = OutboxInsert {
        entity: "search".to_owned(),
        action: "performed".to_owned(),
        ordering_key: None,
        subject: None,
        data: json!(data),
        request_id: None,
        traceparent: None,
    };
    // Without a token nobody is known to this command: it acts for the system.
    let actor = operator::verified().cloned().unwrap_or_else(Actor::system);
    let (id, _position) = outbox::insert(connection, &actor, &event).await?;
    Ok(id)
}

pub(super) fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
