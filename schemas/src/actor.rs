//! Who did it: filled by the publisher, from a verified token where it has one, carried by every event,
//! copied into the audit log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorType {
    /// A person; `id` is the integer user id as text.
    User,
    /// A service account; `id` is its UUID as text.
    ServiceAccount,
    /// The system itself: nobody asked for it.
    System,
}

/// How the actor is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The publisher verified a token that names the actor.
    Verified,
    /// Somebody names the actor; nothing proves it.
    Claimed,
    /// The system itself: nobody asked for it.
    System,
}

/// The actor of an operation. A token never rides on a message; this is what the edge that verified it
/// recorded. Every field but `type` may be null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// `user`, `service_account` or `system`.
    #[serde(rename = "type")]
    pub kind: ActorType,
    /// The identifier, as text.
    pub id: Option<String>,
    /// The user name or client id.
    pub name: Option<String>,
    /// The role that the token granted, lower case.
    pub role: Option<String>,
    /// The token's id (`jti`), where it has one.
    pub token_id: Option<String>,
    /// The key that signed the token, where it is known.
    pub key_id: Option<String>,
    /// The network address that the request came from.
    pub address: Option<String>,
    /// The user agent of the request.
    pub user_agent: Option<String>,
    /// The session of the request.
    pub session_id: Option<String>,
    /// How the actor is known; absent where the row or the event is older than this field, or says nothing
    /// of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The role of the source's database that wrote the row: whoever has it vouches for all above. Absent
    /// where no row caused the event, or the row is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_role: Option<String>,
}

impl Actor {
    /// The system as actor.
    pub fn system() -> Self {
        Self::new(ActorType::System, None, Identity::System)
    }

    /// A person, by user id: a claim.
    pub fn user(id: impl Into<String>) -> Self {
        Self::new(ActorType::User, Some(id.into()), Identity::Claimed)
    }

    /// A service account, by its UUID: a claim.
    pub fn service_account(id: impl Into<String>) -> Self {
        Self::new(
            ActorType::ServiceAccount,
            Some(id.into()),
            Identity::Claimed,
        )
    }

    /// The same actor, known in this way.
    pub fn known_as(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The same actor, as this role of the database wrote it, whatever the row says of that.
    pub fn written_by(mut self, database_role: Option<String>) -> Self {
        self.database_role = database_role;
        self
    }

    /// The same actor with an identity: where nothing is said of it, the system where nobody is named, and
    /// a claim otherwise.
    pub fn identified(self) -> Self {
        let is_nobody = self.kind == ActorType::System && self.id.is_none() && self.name.is_none();
        match (self.identity, is_nobody) {
            (Some(_), _) => self,
            (None, true) => self.known_as(Identity::System),
            (None, false) => self.known_as(Identity::Claimed),
        }
    }

    /// The same actor with a name.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The actor of a row that a service of the product wrote: it records one text, an integer
    /// for users and a UUID for service accounts, in any of the forms that have one meaning. A text that
    /// is neither says nobody that the contract knows: the system, with the text as its name.
    pub fn from_recorded_id(id: Option<&str>) -> Self {
        let Some(text) = id.map(str::trim).filter(|text| !text.is_empty()) else {
            return Self::system();
        };
        if let Ok(account) = uuid::Uuid::parse_str(text) {
            return Self::service_account(account.to_string());
        }
        let number = text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
        match number {
            Some(user) => Self::user(user.to_string()),
            None => Self::system()
                .named(id.unwrap_or_default())
                .known_as(Identity::Claimed),
        }
    }

    fn new(kind: ActorType, id: Option<String>, identity: Identity) -> Self {
        Self {
            kind,
            id,
            name: None,
            role: None,
            token_id: None,
            key_id: None,
            address: None,
            user_agent: None,
            session_id: None,
            identity: Some(identity),
            database_role: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_id_tells_users_from_service_accounts() {
        let account = "0191f1f0-abcd-7000-8000-000000000000";
        let is_account = Actor::service_account(account);
        let system = Actor::system;
        let named = |name: &str| Actor::system().named(name).known_as(Identity::Claimed);
        for (recorded, expected) in [
            (None, system()),
            (Some(""), system()),
            (Some(" \t"), system()),
            (Some("7"), Actor::user("7")),
            (Some(" 7 "), Actor::user("7")),
            (Some("007"), Actor::user("7")),
            (Some("0"), Actor::user("0")),
            (Some(account), is_account.clone()),
            (
                Some("0191F1F0-ABCD-7000-8000-000000000000"),
                is_account.clone(),
            ),
            (Some("0191f1f0abcd70008000000000000000"), is_account.clone()),
            (
                Some("{0191f1f0-abcd-7000-8000-000000000000} "),
                is_account.clone(),
            ),
            (
                Some("urn:uuid:0191f1f0-abcd-7000-8000-000000000000"),
                is_account.clone(),
            ),
            (Some("admin"), named("admin")),
            (Some("user:7"), named("user:7")),
            (Some("-7"), named("-7")),
            (Some("+7"), named("+7")),
            (Some("7.0"), named("7.0")),
            (Some("99999999999999999999"), named("99999999999999999999")),
            (Some("0191f1f0-abcd"), named("0191f1f0-abcd")),
            (Some("Ж"), named("Ж")),
        ] {
            assert_eq!(Actor::from_recorded_id(recorded), expected, "{recorded:?}");
        }
    }

    #[test]
    fn an_actor_of_whom_nothing_is_said_is_a_claim_or_nobody() {
        let read = |text: &str| -> Actor { serde_json::from_str(text).expect("an actor") };
        for (text, expected) in [
            (r#"{"type":"user","id":"7"}"#, Identity::Claimed),
            (r#"{"type":"system","name":"cron"}"#, Identity::Claimed),
            (r#"{"type":"system"}"#, Identity::System),
            (
                r#"{"type":"user","identity":"verified"}"#,
                Identity::Verified,
            ),
            (
                r#"{"type":"system","identity":"claimed"}"#,
                Identity::Claimed,
            ),
        ] {
            assert_eq!(read(text).identified().identity, Some(expected), "{text}");
        }
        let before = read(r#"{"type":"user"}"#);
        assert_eq!(before.identity, None);
        assert!(!serde_json::json!(before).to_string().contains("identity"));
    }
}
