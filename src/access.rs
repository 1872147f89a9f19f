//! Which commands need a token, and what becomes of one that is given: verified, it is who gave the command,
//! in every event of it. A refusal is an event too.

use artstore_producers::token::refusal::TokenRefused;
use artstore_producers::token::role::Role;
use artstore_producers::token::verify::Verified;
use artstore_schemas::actor::Actor;
use serde_json::json;

use crate::command_event::{CommandEvent, Home};
use crate::config::{Config, ConfigError, Required};
use crate::operator;

/// What a command does that needs a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Changes what others read, or how it is published.
    Change,
    /// Takes evidence out of the system.
    Export,
}

/// A command that needs a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// As it is called: `projection rebuild`.
    pub command: &'static str,
    /// What it needs.
    pub right: Right,
    /// What it is tried on, in the audit log's words.
    pub resource_type: &'static str,
    /// Which one.
    pub resource_id: Option<String>,
    /// In whose outbox a refusal is recorded.
    pub home: Home,
}

impl Right {
    fn is_of(self, role: Role) -> bool {
        match (self, role) {
            (_, Role::Admin) | (Self::Export, Role::Auditor) => true,
            (Self::Change, Role::Auditor) | (_, Role::Operator | Role::User | Role::Readonly) => {
                false
            }
        }
    }

    fn roles(self) -> &'static str {
        match self {
            Self::Change => "admin",
            Self::Export => "admin or auditor",
        }
    }
}

impl Attempt {
    /// On a projection.
    pub(crate) fn on_projection(command: &'static str, projection: &str, home: Home) -> Self {
        Self {
            command,
            right: Right::Change,
            resource_type: "projection",
            resource_id: Some(projection.to_owned()),
            home,
        }
    }

    /// On a source, or on the element that it is.
    pub(crate) fn on_source(command: &'static str, source: Option<&str>) -> Self {
        Self {
            command,
            right: Right::Change,
            resource_type: "storage_element",
            resource_id: source.map(str::to_owned),
            home: match source {
                Some("query") => Home::Query,
                _ => Home::Admin,
            },
        }
    }

    /// On the audit log, or one of its logs.
    pub(crate) fn on_audit_log(command: &'static str, right: Right, log: Option<&str>) -> Self {
        Self {
            command,
            right,
            resource_type: "audit_log",
            resource_id: log.map(str::to_owned),
            home: Home::Admin,
        }
    }
}

/// Why a command is not allowed.
#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("it needs a token of role {0}: give one by --token-file or ARTSTORE_TOKEN")]
    NoToken(&'static str),
    #[error("its token is refused: {0}")]
    Token(#[from] TokenRefused),
    #[error("it needs the role {needed}, and the token has the role {has}")]
    Role {
        needed: &'static str,
        has: &'static str,
    },
}

/// Lets a command pass, or refuses it before it does anything. A token that is given is verified wherever
/// there are keys, needed or not. `attempt`: none for a command that needs no right, and whose token is only
/// its actor.
pub(crate) async fn pass(config: &Config, attempt: Option<Attempt>) -> anyhow::Result<()> {
    config.auth.refuse_overrides()?;
    let required = match config.auth.required()? {
        Required::Yes => true,
        Required::No => false,
        Required::Undecided => match &attempt {
            Some(attempt) => return Err(undecided(attempt).into()),
            None => false,
        },
    };
    let token = config.auth.token()?;
    if token.is_none() && !required {
        return Ok(());
    }
    let verifier = config.auth.verifier()?;
    let verified = match (&verifier, &token) {
        (Some(verifier), Some(token)) => Some(verifier.verify(token.expose())),
        (None, Some(_)) if !required => {
            tracing::warn!("the token is not verified: AUTH_PUBLIC_KEY_PATH is not set");
            None
        }
        (None, _) if required && attempt.is_some() => {
            return Err(ConfigError(
                "AUTH_REQUIRED is on, and there are no keys to verify tokens with: set \
                 AUTH_PUBLIC_KEY_PATH"
                    .to_owned(),
            )
            .into());
        }
        _ => None,
    };
    let Some(attempt) = attempt else {
        if let Some(verified) = verified {
            operator::is_verified(verified?.actor);
        }
        return Ok(());
    };
    match allowed(&attempt, required, verified) {
        Ok(actor) => {
            if let Some(actor) = actor {
                operator::is_verified(actor);
            }
            Ok(())
        }
        Err((denied, actor)) => {
            if let Some(actor) = actor {
                operator::is_verified(*actor);
            }
            let reason = denied.to_string();
            recorded(&attempt, &reason).record(config).await;
            anyhow::bail!(
                "permission denied: {} was not begun: {reason}",
                attempt.command
            )
        }
    }
}

fn undecided(attempt: &Attempt) -> ConfigError {
    ConfigError(format!(
        "{} changes or exports something, and nothing says who may: set \
         AUTH_PUBLIC_KEY_PATH to the public keys of tokens and give a token of role {} by \
         --token-file or ARTSTORE_TOKEN, or set AUTH_REQUIRED=false where everybody who has these \
         settings may",
        attempt.command,
        attempt.right.roles()
    ))
}

/// The verified actor, where there is one; or why not, with the actor of a token that lacks the right.
fn allowed(
    attempt: &Attempt,
    required: bool,
    verified: Option<Result<Verified, TokenRefused>>,
) -> Result<Option<Actor>, (Denied, Option<Box<Actor>>)> {
    let needed = attempt.right.roles();
    match verified {
        None if required => Err((Denied::NoToken(needed), None)),
        None => Ok(None),
        Some(Err(refused)) => Err((refused.into(), None)),
        Some(Ok(verified)) if required && !attempt.right.is_of(verified.role) => {
            let has = verified.role.as_str();
            let actor = Box::new(verified.actor);
            Err((Denied::Role { needed, has }, Some(actor)))
        }
        Some(Ok(verified)) => Ok(Some(verified.actor)),
    }
}

/// A refusal, where the command would have recorded what it did.
fn recorded<'a>(attempt: &'a Attempt, reason: &str) -> CommandEvent<'a> {
    let action = attempt.command.rsplit(' ').next().unwrap_or_default();
    CommandEvent {
        command: attempt.command,
        home: attempt.home,
        entity: "permission",
        action: "denied",
        subject: attempt.resource_id.clone(),
        facts: json!({
            "command": attempt.command,
            "action": action.replace('-', "_"),
            "resource_type": attempt.resource_type,
            "resource_id": attempt.resource_id,
            "reason": reason,
        }),
        database: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_administrators_change_and_auditors_export_as_well() {
        let roles = [
            Role::Admin,
            Role::Operator,
            Role::User,
            Role::Auditor,
            Role::Readonly,
        ];
        let of = |right: Right| -> Vec<Role> {
            roles
                .into_iter()
                .filter(|role| right.is_of(*role))
                .collect()
        };
        assert_eq!(of(Right::Change), [Role::Admin]);
        assert_eq!(of(Right::Export), [Role::Admin, Role::Auditor]);
    }
}
