//! `artstore audit keygen`: the key that signs heads. Wherever it is interrupted, running it again leaves a
//! key that works.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_projectors::audit_log::note::SignerKey;
use artstore_runtime::crash;
use clap::Args;
use serde_json::json;

use crate::config::ConfigError;
use artstore_runtime::files;

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
    is_free(&command.out)?;
    // The public key first: whoever has signed with a key has its public one. The other way round, a crash
    // here leaves a key whose heads nobody can check; this way, a public key that nobody signs with.
    let public = key.verifier().to_string();
    if let Some(path) = &command.verifier_keys {
        append_line(path, &public)
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    crash::point("keygen.public");
    let private = format!("{}\n", key.to_private_text());
    files::create(&command.out, private.as_bytes())?;
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

/// A file that is there stays as it is. One that is empty holds no key: its making was cut off.
fn is_free(path: &Path) -> anyhow::Result<()> {
    let path_shown = path.display();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{path_shown} can't be read")),
        Ok(there) if there.len() == 0 => anyhow::bail!(
            "{path_shown} is there and empty: the making of a key was cut off. Nothing was written; remove \
             the file and run this again"
        ),
        Ok(_) => anyhow::bail!("{path_shown} is there; nothing was written"),
    }
}

/// In one piece: others may be reading the file.
fn append_line(path: &Path, line: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()?;
    Ok(files::sync_folder(path)?)
}
