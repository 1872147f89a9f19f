//! `artstore audit prove`, `check-proof` and `consistency`.

use artstore_runtime::count::counted;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_projectors::audit_log::head::Head;
use artstore_projectors::audit_log::note::VerifierKey;
use artstore_projectors::audit_log::proof::Proof;
use artstore_projectors::audit_log::store;
use artstore_projectors::audit_log::tile::Wanted;
use artstore_projectors::audit_log::tree;
use clap::Args;
use data_encoding::BASE64;
use serde_json::json;
use sqlx::PgConnection;

use super::database::connected;
use super::notes::notes;
use super::show;
use crate::audit_keys::verifier_keys;
use crate::config::{Config, ConfigError};
use artstore_verification::audit::inclusion;
use artstore_verification::audit::printed::plain;

/// The proof of one row.
#[derive(Debug, Args)]
pub struct Prove {
    /// The row's id
    id: i64,
}

/// Runs `prove`: the proof is the output.
pub async fn prove(config: &Config, command: &Prove) -> anyhow::Result<ExitCode> {
    let mut connection = connected(config).await?;
    let stored = show::by_id(&mut connection, command.id).await?;
    if stored.format == 0 {
        return Err(ConfigError(format!(
            "row {} is the product's own: nothing was signed of it",
            command.id
        ))
        .into());
    }
    let proof = inclusion::proof(&mut connection, &stored.row).await;
    let proof = proof.with_context(|| format!("row {}", command.id))?;
    print!("{}", proof.to_text());
    Ok(ExitCode::SUCCESS)
}

/// Public keys.
#[derive(Debug, Clone, Args)]
pub struct PublicKeys {
    /// A public key that may have signed the head: NAME+ID+BASE64
    #[arg(long)]
    key: Vec<String>,
    /// A file of such keys, one a line
    #[arg(long, env = "SECURITY_AUDIT_VERIFIER_KEYS_PATH")]
    keys: Option<PathBuf>,
}

impl PublicKeys {
    pub(super) fn read(&self) -> Result<Vec<VerifierKey>, ConfigError> {
        let mut trusted = Vec::new();
        for key in &self.key {
            let key = VerifierKey::parse(key);
            trusted.push(key.map_err(|error| ConfigError(format!("--key: {error}")))?);
        }
        if let Some(path) = &self.keys {
            trusted.extend(verifier_keys("--keys", path)?);
        }
        if trusted.is_empty() {
            return Err(ConfigError(
                "a head is checked with a public key: give --key or --keys".to_owned(),
            ));
        }
        Ok(trusted)
    }
}

/// A proof, checked off line.
#[derive(Debug, Args)]
pub struct CheckProof {
    /// The file of the proof
    proof: PathBuf,
    #[command(flatten)]
    keys: PublicKeys,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `check-proof`.
pub(crate) fn check_proof(command: &CheckProof) -> anyhow::Result<ExitCode> {
    let trusted = command.keys.read()?;
    let text = std::fs::read_to_string(&command.proof)
        .with_context(|| format!("{} can't be read", command.proof.display()))?;
    let checked = Proof::parse(&text).and_then(|proof| proof.check(&trusted));
    let proven = match checked {
        Ok(proven) => proven,
        Err(error) => {
            match command.json {
                true => println!("{:#}", json!({"ok": false, "reason": error.to_string()})),
                false => println!("NOT PROVEN: {}", plain(&error.to_string())),
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    let row = &proven.row;
    if command.json {
        let head = json!({
            "origin": proven.head.origin,
            "size": proven.head.size,
            "root": BASE64.encode(&proven.head.root),
        });
        let by = proven.by.to_string();
        println!(
            "{:#}",
            json!({"ok": true, "row": row, "head": head, "key": by})
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("stream     {}, row {}", plain(&row.stream), row.sequence);
    println!(
        "happened   {}",
        row.time()
            .map_or_else(String::new, |time| time.to_rfc3339())
    );
    println!(
        "event      {} ({}, {})",
        plain(&row.event_type),
        plain(&row.action),
        plain(&row.severity)
    );
    let name = row.actor_name.as_deref().unwrap_or_default();
    let id = row.actor_id.as_deref().unwrap_or_default();
    println!(
        "actor      {} {} {}",
        plain(&row.actor_type),
        plain(id),
        plain(name)
    );
    if let Some(kind) = &row.resource_type {
        println!(
            "resource   {} {}",
            plain(kind),
            plain(row.resource_id.as_deref().unwrap_or_default())
        );
    }
    println!("success    {}", row.success);
    println!(
        "data       {}",
        plain(row.data.as_deref().unwrap_or("none"))
    );
    println!(
        "head       {} of {}, signed by {}",
        proven.head.size,
        plain(&proven.head.origin),
        plain(&proven.by.to_string())
    );
    println!("Proven: the row is in the log as it was signed.");
    Ok(ExitCode::SUCCESS)
}

/// Two heads.
#[derive(Debug, Args)]
pub struct Consistency {
    /// The file of the older head
    old: PathBuf,
    /// The file of the newer head
    new: PathBuf,
    #[command(flatten)]
    keys: PublicKeys,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `consistency`: hashes are taken from the database, the verdict rests on the two heads.
pub async fn consistency(config: &Config, command: &Consistency) -> anyhow::Result<ExitCode> {
    let trusted = command.keys.read()?;
    let read = |path: &PathBuf| -> anyhow::Result<Head> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} can't be read", path.display()))?;
        let heads = notes(&text).count();
        if heads > 1 {
            return Err(ConfigError(format!(
                "{} holds {heads} heads, and two heads of one log are compared: take one out of it, or \
                 have `artstore audit witness FILE` check them all",
                path.display()
            ))
            .into());
        }
        let (head, _) = Head::open(&text, &trusted).with_context(|| path.display().to_string())?;
        Ok(head)
    };
    let (old, new) = (read(&command.old)?, read(&command.new)?);
    let mut connection = connected(config).await?;
    let verdict = consistent(&mut connection, &old, &new).await?;
    let ok = verdict.is_none();
    if command.json {
        println!(
            "{:#}",
            json!({"ok": ok, "old": old.size, "new": new.size, "reason": verdict})
        );
    } else {
        match verdict {
            None => println!(
                "The log of {} continues that of {}.",
                counted(new.size, "row"),
                old.size
            ),
            Some(reason) => println!("NOT CONSISTENT: {}", plain(&reason)),
        }
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Why the newer head does not continue the older one; none where it does.
pub(super) async fn consistent(
    connection: &mut PgConnection,
    old: &Head,
    new: &Head,
) -> anyhow::Result<Option<String>> {
    if old.origin != new.origin {
        return Ok(Some(format!(
            "{} and {} are two logs",
            old.origin, new.origin
        )));
    }
    if old.legacy != new.legacy {
        return Ok(Some(
            "the heads name different boundaries of the product's rows".to_owned(),
        ));
    }
    if old.size > new.size {
        return Ok(Some(format!(
            "the newer head has {}, the older one {}",
            counted(new.size, "row"),
            old.size
        )));
    }
    let (_, stream) = old.origin.rsplit_once('/').unwrap_or(("", &old.origin));
    let wanted = Wanted::default();
    tree::consistency(&wanted, old.size, new.size);
    let tiles = store::tiles(connection, stream, &wanted.places()).await?;
    let proof = tree::consistency(&tiles, old.size, new.size);
    let holds = proof
        .is_some_and(|proof| tree::is_consistent(old.size, new.size, &old.root, &new.root, &proof));
    Ok((!holds).then(|| {
        format!(
            "no proof leads from the head of {} to the one of {}: the log has forked, or its \
             stored tree was changed",
            counted(old.size, "row"),
            new.size
        )
    }))
}
