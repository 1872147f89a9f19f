//! `artstore audit`: reading the audit log, and proving that it is what was signed.

mod accept_stream;
mod archive;
mod check_archive;
mod export;
mod head;
mod keys;
mod proofs;
mod show;
mod verify;

pub use self::verify::{Verify, run as verify};

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, ConfigError};
use crate::status::database::not_connected;
use artstore_runtime::connection;
use artstore_verification::audit::log::connect;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the newest rows, and with --follow those that come
    Tail(show::Tail),
    /// Show one row with everything that is known of it
    Show(show::Show),
    /// Check every row, signature, tree and head; exit 1 where anything is not as it was signed
    Verify(verify::Verify),
    /// Go on with a log whose stream was made again, where every row is what its message says
    AcceptStream(accept_stream::AcceptStream),
    /// Write rows for another system; that they were written is an event of the log
    Export(export::Export),
    /// Move old rows into files that verify by themselves
    Archive(archive::Archive),
    /// Check such files: needs no database
    CheckArchive(check_archive::CheckArchive),
    /// Write the proof that one row is in the log, to be checked off line
    Prove(proofs::Prove),
    /// Check such a proof: needs neither database nor secret
    CheckProof(proofs::CheckProof),
    /// Check that the log of a newer head continues that of an older one
    Consistency(proofs::Consistency),
    /// Show the last signed head of each log, or write them to a file
    Head(head::Head),
    /// Check the heads against those kept in a file elsewhere, and keep the new ones there
    Witness(head::Witness),
    /// Make a key that signs heads; it prints the public key that everybody may have
    Keygen(keys::Keygen),
}

/// Runs the command.
pub async fn run(config: &Config, command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Tail(command) => show::tail(config, &command).await,
        AuditCommand::Show(command) => show::show(config, &command).await,
        AuditCommand::Verify(command) => verify(config, &command).await,
        AuditCommand::AcceptStream(command) => accept_stream::run(config, &command).await,
        AuditCommand::Export(command) => export::run(config, &command).await,
        AuditCommand::Archive(command) => archive::run(config, &command).await,
        AuditCommand::CheckArchive(command) => check_archive::check_archive(&command),
        AuditCommand::Prove(command) => proofs::prove(config, &command).await,
        AuditCommand::CheckProof(command) => proofs::check_proof(&command),
        AuditCommand::Consistency(command) => proofs::consistency(config, &command).await,
        AuditCommand::Head(command) => head::show(config, &command).await,
        AuditCommand::Witness(command) => head::witness(config, &command).await,
        AuditCommand::Keygen(command) => keys::keygen(&command),
    }
}

fn database(config: &Config) -> Result<PgConnectOptions, ConfigError> {
    config.admin_database()?.ok_or_else(|| {
        ConfigError("the audit log needs ADMIN_DATABASE_URL (or DB_HOST and others)".to_owned())
    })
}

async fn connected(config: &Config) -> anyhow::Result<PgConnection> {
    let mut connection = reached(&database(config)?).await?;
    sqlx::raw_sql("set default_transaction_read_only = on")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// A connection to a database that has an audit log.
async fn reached(database: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let check = "ADMIN_DATABASE_URL (or DB_HOST and others) and the server";
    let connected = connect(database).await;
    let connected = connected.map_err(|error| not_connected(database, check, error));
    let mut connection = connected.context("the audit log")?;
    let there: bool = sqlx::query_scalar("select to_regclass('public.audit_trees') is not null")
        .fetch_one(&mut connection)
        .await?;
    if !there {
        return Err(ConfigError(format!(
            "database {} has no audit_trees: where it is the admin module's, run `artstore migrate \
             up --module admin`; else mend ADMIN_DATABASE_URL",
            connection::shown(database)
        ))
        .into());
    }
    Ok(connection)
}
