//! Who gave a command: the owner of a verified token, else as far as the machine knows. It goes into the
//! events that commands record. Without a token nothing proves it; what is proven is that the event is in
//! the audit log.

use std::sync::OnceLock;

use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_schemas::actor::{Actor, Identity};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// The owner of the token with which the command was given.
static VERIFIED: OnceLock<Actor> = OnceLock::new();

/// Takes the owner of a verified token.
pub(crate) fn is_verified(actor: Actor) {
    // A second one can't come: a process has one command.
    let _ = VERIFIED.set(actor);
}

/// The owner of the command's token, where it has one.
pub(crate) fn verified() -> Option<&'static Actor> {
    VERIFIED.get()
}

/// The actor of an event that this command records: the owner of its token; without one the command itself,
/// for somebody whom only settings and machine name.
pub fn actor(command: &str) -> Actor {
    let claimed = || {
        Actor::system()
            .named(format!("artstore {command}"))
            .known_as(Identity::Claimed)
    };
    verified().cloned().unwrap_or_else(claimed)
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

/// The person who gave the command, where anything names them: a token before all else.
pub fn person() -> Option<String> {
    if let Some(actor) = verified() {
        return actor.name.clone().or_else(|| actor.id.clone());
    }
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
