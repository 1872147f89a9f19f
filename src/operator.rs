//! Who gave a command, as far as the machine can tell: it goes into the events that commands
//! record. Nothing proves it; what is proven is that the event stands in the audit log.

use artstore_schemas::actor::Actor;
use serde_json::{Value, json};
use sqlx::PgConnection;

/// The actor of an event that this command records.
pub fn actor(command: &str) -> Actor {
    Actor::system().named(format!("artstore {command}"))
}

/// The person, the machine and the role in the database.
pub async fn operator(connection: &mut PgConnection) -> Result<Value, sqlx::Error> {
    let role: String = sqlx::query_scalar("select session_user::text")
        .fetch_one(connection)
        .await?;
    // Who became root says more than root.
    let names = ["ARTSTORE_OPERATOR", "SUDO_USER", "USER", "LOGNAME"];
    let name = names.iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.map(|host| host.trim().to_owned());
    Ok(json!({"name": name, "host": host, "database_role": role}))
}
