//! `artstore token check`: what a token is worth here. Its own text is never shown.

use std::process::ExitCode;

use artstore_producers::token::refusal::TokenRefused;
use artstore_producers::token::verify::Verified;
use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::{Config, ConfigError};

/// What to do with a token.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Verify the token of --token-file or ARTSTORE_TOKEN as commands do, and show whose it is; exit code 1
    /// with the reason where it is refused
    Check(Check),
}

/// How it is shown.
#[derive(Debug, Args)]
pub struct Check {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(config: &Config, command: &TokenCommand) -> anyhow::Result<ExitCode> {
    let TokenCommand::Check(command) = command;
    let verifier = config.auth.verifier()?.ok_or_else(|| {
        ConfigError("token check needs AUTH_PUBLIC_KEY_PATH: the public keys of tokens".to_owned())
    })?;
    let token = config.auth.token()?.ok_or_else(|| {
        ConfigError(
            "token check needs a token: --token-file FILE (`-`: the standard input), or ARTSTORE_TOKEN"
                .to_owned(),
        )
    })?;
    let verified = verifier.verify(token.expose());
    if command.json {
        println!("{:#}", as_json(&verified));
    } else {
        show(&verified);
    }
    Ok(ExitCode::from(u8::from(verified.is_err())))
}

fn as_json(verified: &Result<Verified, TokenRefused>) -> Value {
    match verified {
        Ok(verified) => json!({
            "valid": true,
            "actor": verified.actor,
            "expires": verified.expires.to_rfc3339_opts(SecondsFormat::Secs, true),
        }),
        Err(reason) => json!({"valid": false, "reason": reason.to_string()}),
    }
}

fn show(verified: &Result<Verified, TokenRefused>) {
    let line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            println!("{name:<10} {value}");
        }
    };
    match verified {
        Err(reason) => {
            line("token", Some("refused"));
            line("reason", Some(&reason.to_string()));
        }
        Ok(Verified { actor, expires, .. }) => {
            let kind = serde_json::to_value(actor.kind).ok();
            line("token", Some("valid"));
            line("type", kind.as_ref().and_then(Value::as_str));
            line("id", actor.id.as_deref());
            line("name", actor.name.as_deref());
            line("role", actor.role.as_deref());
            line("token id", actor.token_id.as_deref());
            line("key", actor.key_id.as_deref());
            let expires = expires.to_rfc3339_opts(SecondsFormat::Secs, true);
            line("expires", Some(&expires));
        }
    }
}
