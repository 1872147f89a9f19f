//! What a token says about its owner: claims of the product's users and service accounts, of today and of
//! its later version.

use artstore_schemas::actor::{Actor, Identity};
use serde::Deserialize;
use uuid::Uuid;

use super::refusal::TokenRefused;
use super::role::Role;

/// The claims that become an actor. Times, issuer and audience are checked by the token library.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    pub(super) exp: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    jti: Option<String>,
}

impl Claims {
    /// `now` in seconds.
    pub(super) fn check_issued(&self, now: f64, leeway: f64) -> Result<(), TokenRefused> {
        match self.iat {
            Some(iat) if iat > now + leeway => Err(TokenRefused::IssuedInTheFuture),
            _ => Ok(()),
        }
    }

    /// A refresh token is signed by the same key, and is no access token.
    pub(super) fn check_type(&self, accepted: &[String]) -> Result<(), TokenRefused> {
        let is_accepted = self
            .kind
            .as_ref()
            .is_some_and(|kind| accepted.contains(kind));
        match is_accepted {
            true => Ok(()),
            false => Err(TokenRefused::Type {
                accepted: accepted.join(", "),
            }),
        }
    }

    pub(super) fn role(&self) -> Result<Role, TokenRefused> {
        let role = self.role.as_deref().unwrap_or_default();
        role.parse().map_err(|_| TokenRefused::Role)
    }

    /// Its owner: a user by an integer, a service account by a UUID.
    pub(super) fn actor(self, role: Role, key_id: String) -> Result<Actor, TokenRefused> {
        let sub = self.sub.unwrap_or_default();
        let texts = [
            ("sub", Some(&sub)),
            ("username", self.username.as_ref()),
            ("client_id", self.client_id.as_ref()),
            ("name", self.name.as_ref()),
            ("jti", self.jti.as_ref()),
        ];
        for (claim, text) in texts {
            if text.is_some_and(|text| text.chars().any(char::is_control)) {
                let expected = "a text without control characters";
                return Err(TokenRefused::Claim { claim, expected });
            }
        }
        let is_account =
            self.client_id.is_some() || self.kind.as_deref() == Some("service_account");
        let is_user = self.username.is_some() || self.kind.as_deref() == Some("admin_user");
        let user = is_user_id(&sub).then(|| Actor::user(&sub));
        let account = Uuid::parse_str(&sub).ok();
        let account = account.map(|id| Actor::service_account(id.to_string()));
        let (actor, expected) = match (is_account, is_user) {
            (true, false) => (account, "a service account's UUID"),
            (false, true) => (user, "a user's integer id"),
            (false, false) => (
                user.or(account),
                "a user's integer id or a service account's UUID",
            ),
            (true, true) => (None, "that of a user or of a service account: it says both"),
        };
        let claim = "sub";
        let actor = actor.ok_or(TokenRefused::Claim { claim, expected })?;
        Ok(Actor {
            name: self.username.or(self.client_id).or(self.name),
            role: Some(role.as_str().to_owned()),
            token_id: self.jti,
            key_id: Some(key_id),
            ..actor.known_as(Identity::Verified)
        })
    }
}

/// One text for one user.
fn is_user_id(text: &str) -> bool {
    text.parse::<u64>()
        .is_ok_and(|number| number.to_string() == text)
}
