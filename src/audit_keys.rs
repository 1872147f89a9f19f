//! The settings of the audit log, read into keys: secrets for the chain, a key for heads, and the
//! public keys that count.

use std::path::{Path, PathBuf};
use std::time::Duration;

use artstore_projectors::audit_log::Keys;
use artstore_projectors::audit_log::chain::{ChainKey, Keyring};
use artstore_projectors::audit_log::note::{SignerKey, VerifierKey};
use artstore_runtime::secret::Secret;
use artstore_runtime::secret_file;
use clap::Args;

use crate::config::{ConfigError, SecretSetting};

/// What the audit log is signed with.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Audit log")]
pub struct AuditSettings {
    /// The secret that chains the audit log's rows: at least 32 characters
    #[arg(long, env = "SECURITY_AUDIT_HMAC_SECRET", hide_env_values = true)]
    audit_hmac_secret: Option<Secret>,
    /// A file with secrets that were in use before, one a line, or a folder of such files: rows keep
    /// theirs. Empty: there are none
    #[arg(long, env = "SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH", value_parser = path_or_empty)]
    pub audit_hmac_old_secrets_path: Option<PathBuf>,
    /// The file of the key that signs heads, from `artstore audit keygen`
    #[arg(long, env = "SECURITY_AUDIT_SIGNING_KEY_PATH", value_parser = path_or_empty)]
    pub audit_signing_key_path: Option<PathBuf>,
    /// A file with the public keys of heads, one a line, old ones too
    #[arg(long, env = "SECURITY_AUDIT_VERIFIER_KEYS_PATH", value_parser = path_or_empty)]
    pub audit_verifier_keys_path: Option<PathBuf>,
    /// Rows wait no longer than so many seconds for a signed head; 256 rows have one at once
    #[arg(long, env = "SECURITY_AUDIT_HEAD_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub audit_head_seconds: u64,
}

impl AuditSettings {
    /// Whether the log is to be written here.
    pub(crate) fn is_given(&self) -> bool {
        self.secret().is_given()
    }

    fn secret(&self) -> SecretSetting<'_> {
        SecretSetting::new("SECURITY_AUDIT_HMAC_SECRET", &self.audit_hmac_secret)
    }

    /// Everything that writing the log needs.
    pub fn keys(&self) -> Result<Keys, ConfigError> {
        let path = given(&self.audit_signing_key_path).ok_or_else(|| {
            ConfigError(
                "the audit log needs SECURITY_AUDIT_SIGNING_KEY_PATH: make a key with `artstore \
                 audit keygen --out FILE`"
                    .to_owned(),
            )
        })?;
        Ok(Keys {
            signer: signer(path)?,
            ring: self.ring()?,
            old: self.verifiers()?,
            head_after: Duration::from_secs(self.audit_head_seconds),
        })
    }

    /// The secrets of the chain.
    pub fn ring(&self) -> Result<Keyring, ConfigError> {
        let secret = self.secret().value()?.ok_or_else(|| {
            ConfigError(
                "the audit log needs SECURITY_AUDIT_HMAC_SECRET: at least 32 random characters"
                    .to_owned(),
            )
        })?;
        let refuse = |error| ConfigError(format!("SECURITY_AUDIT_HMAC_SECRET: {error}"));
        let current = ChainKey::of(secret.expose()).map_err(refuse)?;
        let mut old = Vec::new();
        let name = "SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH";
        for path in files(name, given(&self.audit_hmac_old_secrets_path))? {
            let text = read_secret(name, &path)?;
            for (number, line) in lines(&text) {
                let key = ChainKey::of(line).map_err(|error| {
                    ConfigError(format!(
                        "{name}: {}, line {number}: {error}",
                        path.display()
                    ))
                })?;
                old.push(key);
            }
        }
        Ok(Keyring::new(current, old))
    }

    /// The secrets and the public keys that are configured, of either maybe none: for what shows rows and
    /// checks them as far as it can.
    pub(crate) fn what_there_is(&self) -> Result<(Option<Keyring>, Vec<VerifierKey>), ConfigError> {
        let ring = self.is_given().then(|| self.ring()).transpose()?;
        let paths = [&self.audit_verifier_keys_path, &self.audit_signing_key_path];
        let trusted = match paths.into_iter().any(|path| given(path).is_some()) {
            true => self.trusted()?,
            false => Vec::new(),
        };
        Ok((ring, trusted))
    }

    /// The public keys that are listed.
    pub(crate) fn verifiers(&self) -> Result<Vec<VerifierKey>, ConfigError> {
        let Some(path) = given(&self.audit_verifier_keys_path) else {
            return Ok(Vec::new());
        };
        verifier_keys("SECURITY_AUDIT_VERIFIER_KEYS_PATH", path)
    }

    /// The public keys that heads are checked with: those that are listed, and the one of the
    /// signing key where that is given. At least one.
    pub fn trusted(&self) -> Result<Vec<VerifierKey>, ConfigError> {
        let mut trusted = self.verifiers()?;
        if let Some(path) = given(&self.audit_signing_key_path) {
            let key = signer(path)?;
            if !trusted.contains(key.verifier()) {
                trusted.push(key.verifier().clone());
            }
        }
        if trusted.is_empty() {
            return Err(ConfigError(
                "heads are checked with public keys: set SECURITY_AUDIT_VERIFIER_KEYS_PATH to a \
                 file of them, as `audit keygen` prints them"
                    .to_owned(),
            ));
        }
        Ok(trusted)
    }
}

/// The key that signs heads.
fn signer(path: &Path) -> Result<SignerKey, ConfigError> {
    let name = "SECURITY_AUDIT_SIGNING_KEY_PATH";
    let text = read_secret(name, path)?;
    let path = path.display();
    if text.trim().is_empty() {
        return Err(ConfigError(format!(
            "{name}: {path} is empty: the making of the key was cut off. Remove the file and make a key \
             with `artstore audit keygen --out {path} --verifier-keys FILE`"
        )));
    }
    SignerKey::parse(&text).map_err(|error| ConfigError(format!("{name}: {path}: {error}")))
}

/// Public keys in a file, one a line.
pub(crate) fn verifier_keys(name: &str, path: &Path) -> Result<Vec<VerifierKey>, ConfigError> {
    let text = read(name, path)?;
    lines(&text)
        .map(|(number, line)| {
            VerifierKey::parse(line).map_err(|error| {
                ConfigError(format!(
                    "{name}: {}, line {number}: {error}",
                    path.display()
                ))
            })
        })
        .collect()
}

/// A variable without a value counts as one that is not set.
fn given(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// A path; empty, as a variable without a value has it.
fn path_or_empty(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text))
}

/// The file itself, or the files of a folder, in the order of their names. Hidden ones are those of
/// whoever mounts the folder.
fn files(name: &str, path: Option<&Path>) -> Result<Vec<PathBuf>, ConfigError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| {
        ConfigError(format!("{name}: {} can't be read: {error}", path.display()))
    })?;
    let is_hidden = |path: &Path| {
        path.file_name()
            .is_none_or(|n| n.as_encoded_bytes()[0] == b'.')
    };
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.is_file() && !is_hidden(path));
    files.sort();
    Ok(files)
}

/// As [`read`], with a warning where others can read it.
fn read_secret(name: &str, path: &Path) -> Result<String, ConfigError> {
    let text = read(name, path)?;
    secret_file::warn_where_shared(name, path);
    Ok(text)
}

fn read(name: &str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("{name}: {} can't be read: {error}", path.display())))
}

/// Lines with something on them that is no remark, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
