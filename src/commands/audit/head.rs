//! `artstore audit head` and `artstore audit witness`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use artstore_projectors::audit_log::head::Head as SignedHead;
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_runtime::files;
use clap::Args;
use data_encoding::BASE64;
use serde_json::json;
use sqlx::PgConnection;

use super::database::connected;
use super::notes::{BETWEEN, notes};
use super::proofs::consistent;
use crate::audit_keys::AuditSettings;
use crate::config::Config;
use artstore_verification::audit::printed::plain;

/// The last heads.
#[derive(Debug, Args)]
pub struct Head {
    /// Write the signed heads to this file, as they are
    #[arg(long)]
    export: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

/// Runs `head`.
pub async fn show(config: &Config, command: &Head) -> anyhow::Result<ExitCode> {
    let trusted = command.audit.trusted()?;
    let mut connection = connected(config).await?;
    let heads = last(&mut connection, &trusted).await?;
    if let Some(path) = &command.export {
        write(path, &heads)?;
    }
    if command.json {
        let heads: Vec<_> = heads
            .values()
            .map(|(head, note)| {
                let root = BASE64.encode(&head.root);
                json!({"origin": head.origin, "size": head.size, "root": root, "note": note})
            })
            .collect();
        println!("{:#}", json!(heads));
    } else {
        for (head, _) in heads.values() {
            println!(
                "{:<48} {:>12}  {}",
                plain(&head.origin),
                head.size,
                BASE64.encode(&head.root)
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The last head of each log, with its note.
async fn last(
    connection: &mut PgConnection,
    trusted: &[VerifierKey],
) -> anyhow::Result<BTreeMap<String, (SignedHead, String)>> {
    let notes: Vec<(String, String)> = sqlx::query_as(
        "select distinct on (stream) stream, note from public.audit_heads \
         order by stream, size desc",
    )
    .fetch_all(connection)
    .await?;
    let mut heads = BTreeMap::new();
    for (stream, note) in notes {
        let (head, _) = SignedHead::open(&note, trusted)
            .with_context(|| format!("the last head of {stream}"))?;
        heads.insert(head.origin.clone(), (head, note));
    }
    Ok(heads)
}

/// Writes heads to a file that is either the old one or the new one, whatever happens.
fn write(path: &Path, heads: &BTreeMap<String, (SignedHead, String)>) -> anyhow::Result<()> {
    let notes: Vec<&str> = heads.values().map(|(_, note)| note.as_str()).collect();
    Ok(files::replace(path, notes.join(BETWEEN).as_bytes())?)
}

fn read(
    path: &Path,
    trusted: &[VerifierKey],
) -> anyhow::Result<BTreeMap<String, (SignedHead, String)>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("{} can't be read", path.display()));
        }
    };
    let mut heads = BTreeMap::new();
    for note in notes(&text) {
        let (head, _) = SignedHead::open(note, trusted)
            .with_context(|| format!("{}: a head that was kept", path.display()))?;
        heads.insert(head.origin.clone(), (head, note.to_owned()));
    }
    Ok(heads)
}

/// A file of heads, kept elsewhere.
#[derive(Debug, Args)]
pub struct Witness {
    /// The file; made where it is not there
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

/// Runs `witness`: the file is changed only where every log continues what was kept.
pub async fn witness(config: &Config, command: &Witness) -> anyhow::Result<ExitCode> {
    let trusted = command.audit.trusted()?;
    let kept = read(&command.file, &trusted)?;
    let mut connection = connected(config).await?;
    let mut heads = last(&mut connection, &trusted).await?;
    let mut forks = Vec::new();
    let mut report = Vec::new();
    for (origin, (old, note)) in kept {
        let reason = match heads.get(&origin) {
            None => Some("the log has no head any more".to_owned()),
            // A restored backup that catches up: the kept head stays.
            Some((new, _)) if new.size < old.size => Some(format!(
                "it ends at {}, but a head of {} was kept: wait until the projector has caught up",
                new.size, old.size
            )),
            Some((new, _)) => consistent(&mut connection, &old, new).await?,
        };
        if let Some(reason) = reason {
            forks.push(format!("{origin}: {reason}"));
            heads.insert(origin, (old, note));
        }
    }
    for (head, _) in heads.values() {
        report.push(json!({"origin": head.origin, "size": head.size}));
    }
    if forks.is_empty() {
        write(&command.file, &heads)?;
    }
    if command.json {
        println!(
            "{:#}",
            json!({"ok": forks.is_empty(), "kept": report, "refused": forks})
        );
    } else if forks.is_empty() {
        for (head, _) in heads.values() {
            println!("{:<48} {:>12}  kept", plain(&head.origin), head.size);
        }
    } else {
        let forks = forks.join("\n  ");
        bail!("{} was left as it is:\n  {forks}", command.file.display());
    }
    Ok(if forks.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
