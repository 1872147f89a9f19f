//! Who did it: filled by the publisher from a verified token, carried by every event, copied
//! into the audit log.

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

/// The verified actor of an operation. A token never rides on a message; this is what the edge
/// that verified it recorded. Every field but `type` may be null.
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
}

impl Actor {
    /// The system as actor.
    pub fn system() -> Self {
        Self::new(ActorType::System, None)
    }

    /// A person, by user id.
    pub fn user(id: impl Into<String>) -> Self {
        Self::new(ActorType::User, Some(id.into()))
    }

    /// A service account, by its UUID.
    pub fn service_account(id: impl Into<String>) -> Self {
        Self::new(ActorType::ServiceAccount, Some(id.into()))
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
            None => Self::system().named(id.unwrap_or_default()),
        }
    }

    fn new(kind: ActorType, id: Option<String>) -> Self {
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
            (Some("admin"), system().named("admin")),
            (Some("user:7"), system().named("user:7")),
            (Some("-7"), system().named("-7")),
            (Some("+7"), system().named("+7")),
            (Some("7.0"), system().named("7.0")),
            (
                Some("99999999999999999999"),
                system().named("99999999999999999999"),
            ),
            (Some("0191f1f0-abcd"), system().named("0191f1f0-abcd")),
            (Some("Ж"), system().named("Ж")),
        ] {
            assert_eq!(Actor::from_recorded_id(recorded), expected, "{recorded:?}");
        }
    }
}
