//! `artstore audit keygen`: the key that signs heads.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_projectors::audit_log::note::SignerKey;
use clap::Args;
use serde_json::json;

use crate::config::ConfigError;

/// Makes a key.
#[derive(Debug, Args)]
pub struct Keygen {
    /// The file to write the key to; it must not be there yet, and nobody else may read it
    #[arg(long)]
    out: PathBuf,
    /// The log's name, without blanks: example.com/artstore. It stays when the key is renewed
    #[arg(long, default_value = "artstore/audit")]
    name: String,
    /// A file to add the public key to, one a line: SECURITY_AUDIT_VERIFIER_KEYS_PATH
    #[arg(long)]
    verifier_keys: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn keygen(command: &Keygen) -> anyhow::Result<ExitCode> {
    let key = SignerKey::generate(&command.name)
        .map_err(|error| ConfigError(format!("--name {:?}: {error}", command.name)))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&command.out)
        .with_context(|| {
            format!(
                "{} can't be made; nothing was written",
                command.out.display()
            )
        })?;
    writeln!(file, "{}", key.to_private_text())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} can't be written", command.out.display()))?;
    let public = key.verifier().to_string();
    if let Some(path) = &command.verifier_keys {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("{} can't be opened", path.display()))?;
        writeln!(file, "{public}")
            .and_then(|()| file.sync_all())
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    if command.json {
        let out = command.out.display().to_string();
        println!("{:#}", json!({"signing_key": out, "verifier_key": public}));
    } else {
        println!("{public}");
        eprintln!(
            "The key that signs is in {}: for the projector alone (SECURITY_AUDIT_SIGNING_KEY_PATH). \
             The line above is the public key: give it to whoever checks proofs, and keep all of \
             them in SECURITY_AUDIT_VERIFIER_KEYS_PATH.",
            command.out.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
