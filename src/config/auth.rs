//! Who may give commands: the settings of tokens, in the product's names.

use std::path::{Path, PathBuf};

use artstore_producers::token::verify::{TokenSettings, TokenVerifier};
use artstore_runtime::secret::Secret;
use artstore_runtime::secret_file;
use clap::Args;

use super::ConfigError;
use super::secret_setting::{SecretSetting, file_variable, of_file};

/// The variable of the token.
const TOKEN: &str = "ARTSTORE_TOKEN";

/// The types of tokens that are accepted where nothing is set.
const TOKEN_TYPES: &str = "access";

/// How tokens are verified, and the token of whoever gives the command.
#[derive(Debug, Clone, Args)]
pub struct AuthSettings {
    /// Whether commands that change or export something need a token: true or false (true where
    /// AUTH_PUBLIC_KEY_PATH is set; where neither is, such a command is refused)
    #[arg(
        long,
        env = "AUTH_REQUIRED",
        value_name = "BOOL",
        global = true,
        hide = true
    )]
    auth_required: Option<String>,
    /// The public keys of tokens: a PEM file, a folder of files NAME.pem, or a JWK set
    #[arg(
        long,
        env = "AUTH_PUBLIC_KEY_PATH",
        value_name = "PATH",
        global = true,
        hide = true
    )]
    auth_public_key_path: Option<String>,
    /// The algorithm of tokens: RS256, the only one
    #[arg(long, env = "AUTH_ALGORITHM", global = true, hide = true)]
    auth_algorithm: Option<String>,
    /// The types of tokens that are accepted, separated by commas
    #[arg(
        long,
        env = "AUTH_TOKEN_TYPES",
        default_value = TOKEN_TYPES,
        global = true,
        hide = true
    )]
    auth_token_types: String,
    /// The issuer that a token has to name (iss)
    #[arg(long, env = "AUTH_ISSUER", global = true, hide = true)]
    auth_issuer: Option<String>,
    /// The audience that a token has to name (aud)
    #[arg(long, env = "AUTH_AUDIENCE", global = true, hide = true)]
    auth_audience: Option<String>,
    /// A file with the token of whoever gives the command; `-` is the standard input
    #[arg(
        long,
        env = "ARTSTORE_TOKEN_FILE",
        value_name = "FILE",
        global = true,
        hide = true
    )]
    token_file: Option<String>,
    /// The token itself, as a variable: options are seen by everybody on the machine
    #[arg(
        long,
        env = "ARTSTORE_TOKEN",
        hide_env_values = true,
        global = true,
        hide = true
    )]
    token: Option<Secret>,
}

/// Whether commands that change or export something need a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// They do.
    Yes,
    /// They don't, as the settings say.
    No,
    /// Nobody decided it.
    Undecided,
}

impl AuthSettings {
    /// Refuses an option beside a variable that says something else: whoever has only the arguments, as behind
    /// `sudo`, must not decide who may.
    pub(crate) fn refuse_overrides(&self) -> Result<(), ConfigError> {
        let types = Some(self.auth_token_types.clone());
        let variable_of = |name: &str| std::env::var(name).ok();
        // Keys alone demand tokens.
        let demanded = given(&variable_of("AUTH_REQUIRED")).is_none()
            && given(&variable_of("AUTH_PUBLIC_KEY_PATH")).is_some();
        if demanded && self.required()? == Required::No {
            return Err(overridden("AUTH_PUBLIC_KEY_PATH"));
        }
        for (variable, setting) in [
            ("AUTH_REQUIRED", &self.auth_required),
            ("AUTH_PUBLIC_KEY_PATH", &self.auth_public_key_path),
            ("AUTH_TOKEN_TYPES", &types),
            ("AUTH_ISSUER", &self.auth_issuer),
            ("AUTH_AUDIENCE", &self.auth_audience),
        ] {
            let set = variable_of(variable);
            let [set, setting] = [given(&set), given(setting)].map(|text| match variable {
                "AUTH_REQUIRED" => text.map(str::to_ascii_lowercase),
                _ => text.map(str::to_owned),
            });
            if set.is_some() && set != setting {
                return Err(overridden(variable));
            }
        }
        let decided = ["AUTH_REQUIRED", "AUTH_PUBLIC_KEY_PATH"];
        let decided = decided
            .into_iter()
            .find(|name| given(&variable_of(name)).is_some());
        // Keys and types that the environment leaves out are not for the arguments to add.
        let unset = |name: &str| given(&variable_of(name)).is_none();
        let added = unset("AUTH_TOKEN_TYPES") && self.auth_token_types != TOKEN_TYPES
            || unset("AUTH_PUBLIC_KEY_PATH")
                && given(&self.auth_public_key_path).is_some()
                && self.required()? == Required::Yes;
        match decided {
            Some(variable) if added => return Err(overridden(variable)),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Whether commands that change or export something need a token.
    pub fn required(&self) -> Result<Required, ConfigError> {
        let said = given(&self.auth_required).map(str::to_ascii_lowercase);
        match said.as_deref() {
            Some("true" | "1" | "yes" | "on") => Ok(Required::Yes),
            Some("false" | "0" | "no" | "off") => Ok(Required::No),
            Some(other) => Err(ConfigError(format!(
                "AUTH_REQUIRED: a text of {} characters; expected true or false",
                other.chars().count()
            ))),
            None if given(&self.auth_public_key_path).is_some() => Ok(Required::Yes),
            None => Ok(Required::Undecided),
        }
    }

    /// What verifies tokens; none where no keys are configured.
    pub fn verifier(&self) -> Result<Option<TokenVerifier>, ConfigError> {
        if given(&self.auth_algorithm).is_some_and(|algorithm| algorithm != "RS256") {
            return Err(ConfigError(
                "AUTH_ALGORITHM: RS256 is the only one".to_owned(),
            ));
        }
        let types = self.auth_token_types.split(',').map(str::trim);
        let types: Vec<String> = types
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        if types.is_empty() || types.iter().any(|name| name == "refresh") {
            return Err(ConfigError(
                "AUTH_TOKEN_TYPES: at least one type of access tokens; a refresh token is never one"
                    .to_owned(),
            ));
        }
        let Some(path) = given(&self.auth_public_key_path) else {
            return Ok(None);
        };
        let settings = TokenSettings {
            public_keys: PathBuf::from(path),
            issuer: given(&self.auth_issuer).map(str::to_owned),
            audience: given(&self.auth_audience).map(str::to_owned),
            types,
        };
        let verifier = TokenVerifier::new(settings);
        Ok(Some(
            verifier.map_err(|error| ConfigError(error.to_string()))?,
        ))
    }

    /// The token of whoever gives the command: of the option for its file, else as any secret.
    pub fn token(&self) -> Result<Option<Secret>, ConfigError> {
        let variable = file_variable(TOKEN);
        let file = given(&self.token_file);
        let is_option = file != given(&std::env::var(&variable).ok());
        let token = match file {
            Some("-") => {
                let read = secret_file::whole(std::io::stdin().lock());
                let read = read.map_err(|error| ConfigError(format!("--token-file -: {error}")));
                Some(read?)
            }
            Some(file) if is_option => Some(of_file("--token-file", Path::new(file))?),
            Some(_) | None => SecretSetting::new(TOKEN, &self.token).value()?,
        };
        let token = token.map(|token| token.expose().trim().to_owned());
        Ok(token.filter(|token| !token.is_empty()).map(Secret::from))
    }
}

fn overridden(variable: &str) -> ConfigError {
    ConfigError(format!(
        "{variable} is set, and an option says something else: the variable decides who may; leave out the option"
    ))
}

/// An empty variable says nothing: `compose.yaml` passes them on so.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(required: &str, keys: &str) -> AuthSettings {
        AuthSettings {
            auth_required: Some(required.to_owned()),
            auth_public_key_path: Some(keys.to_owned()),
            auth_algorithm: None,
            auth_token_types: "access".to_owned(),
            auth_issuer: None,
            auth_audience: None,
            token_file: None,
            token: None,
        }
    }

    #[test]
    fn tokens_are_required_where_there_are_keys_and_nobody_said_otherwise() {
        for (required, keys, expected) in [
            ("", "", Required::Undecided),
            (" ", "/keys", Required::Yes),
            ("true", "", Required::Yes),
            ("FALSE", "/keys", Required::No),
            ("0", "", Required::No),
        ] {
            let decided = settings(required, keys).required();
            assert_eq!(
                decided.expect("a decision"),
                expected,
                "{required:?} {keys:?}"
            );
        }
        settings("maybe", "").required().expect_err("no decision");
    }

    #[test]
    fn a_refresh_token_and_another_algorithm_are_no_settings() {
        for types in ["", ",", "access,refresh"] {
            let mut settings = settings("", "");
            settings.auth_token_types = types.to_owned();
            settings.verifier().expect_err(types);
        }
        let mut settings = settings("", "");
        settings.auth_algorithm = Some("HS256".to_owned());
        settings.verifier().expect_err("another algorithm");
    }
}
