//! Who gave a command, as far as the machine knows: it goes into the events that commands
//! record. Nothing proves it; what is proven is that the event is in the audit log.

use std::sync::OnceLock;

use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_schemas::actor::Actor;
use serde_json::{Value, json};
use sqlx::PgConnection;

/// The actor of an event that this command records.
pub fn actor(command: &str) -> Actor {
    Actor::system().named(format!("artstore {command}"))
}

/// Who runs this process, as its settings state.
static NAMED: OnceLock<String> = OnceLock::new();

/// Takes the name that the settings give (`--operator`, ARTSTORE_OPERATOR).
pub fn name(operator: Option<String>) {
    if let Some(operator) = operator.filter(|name| !name.trim().is_empty()) {
        // A second name can't come: the settings are read once.
        let _ = NAMED.set(operator);
    }
}

/// The person who gave the command, where anything names them.
pub fn person() -> Option<String> {
    // The user who became root is more useful than root.
    let by_machine = ["SUDO_USER", "USER", "LOGNAME"];
    let by_machine = by_machine
        .iter()
        .filter_map(|name| std::env::var(name).ok());
    let known = NAMED.get().cloned().into_iter().chain(by_machine);
    known.into_iter().find(|name| !name.trim().is_empty())
}

/// The person who gave a command that makes a record. That nobody is named is a warning: the record
/// stays as it is for ever.
pub(crate) fn recorded_person() -> Option<String> {
    let name = person();
    if name.is_none() {
        tracing::warn!(
            "nothing says who gives this command, and its event will name nobody: set \
             ARTSTORE_OPERATOR"
        );
    }
    name
}

/// The person, with a warning where nobody is named, the machine and the role in the database.
pub async fn operator(connection: &mut PgConnection) -> Result<Value, sqlx::Error> {
    let role: String = sqlx::query_scalar("select session_user::text")
        .fetch_one(connection)
        .await?;
    let name = recorded_person();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.map(|host| host.trim().to_owned());
    Ok(json!({"name": name, "host": host, "database_role": role}))
}

/// The event of a command on a projection, committed with what it did.
pub async fn record(
    transaction: &mut PgConnection,
    projection: &str,
    action: &str,
    facts: Value,
) -> Result<(), sqlx::Error> {
    let event = OutboxInsert {
        entity: "projection".to_owned(),
        action: action.to_owned(),
        ordering_key: None,
        subject: Some(projection.to_owned()),
        data: facts,
        request_id: None,
        traceparent: None,
    };
    let by = actor(&format!("projection {action}"));
    let inserted = outbox::insert(transaction, &by, &event).await;
    inserted.map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    Ok(())
}
