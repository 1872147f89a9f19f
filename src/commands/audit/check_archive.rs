//! `artstore audit check-archive`: proves an archive by itself, without a database.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::proofs::PublicKeys;
use crate::audit_keys::AuditSettings;
use artstore_verification::audit::archive::check::check;
use artstore_verification::audit::printed::plain;

/// An archive, checked off line.
#[derive(Debug, Args)]
pub struct CheckArchive {
    /// The archive's folder
    folder: PathBuf,
    #[command(flatten)]
    keys: PublicKeys,
    #[command(flatten)]
    audit: AuditSettings,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `check-archive`: needs no database, and the secret only for the chain.
pub(crate) fn check_archive(command: &CheckArchive) -> anyhow::Result<ExitCode> {
    let trusted = command.keys.read()?;
    let ring = command.audit.is_given().then(|| command.audit.ring());
    let checked = check(&command.folder, &trusted, ring.transpose()?.as_ref())?;
    let ok = checked.wrong.is_empty();
    if command.json {
        println!("{:#}", json!({"ok": ok, "archive": checked}));
    } else {
        let manifest = &checked.manifest;
        println!("log        {}", plain(&manifest.origin));
        println!("rows       {} to {}", manifest.first, manifest.last);
        println!(
            "happened   {} to {}",
            manifest.oldest.format("%Y-%m-%d %H:%M:%S"),
            manifest.newest.format("%Y-%m-%d %H:%M:%S")
        );
        println!("digest     {}", checked.digest);
        println!(
            "previous   {}",
            plain(manifest.previous.as_deref().unwrap_or("none"))
        );
        println!(
            "chain      {}",
            if checked.chain {
                "checked"
            } else {
                "not checked: SECURITY_AUDIT_HMAC_SECRET is not set"
            }
        );
        for wrong in &checked.wrong {
            println!("  {}", plain(wrong));
        }
        match ok {
            true => println!("All rows are as they were signed."),
            false => println!("NOT AS IT WAS SIGNED."),
        }
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
