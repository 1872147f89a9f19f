//! `artstore audit`: reading the audit log, and proving that it is what was signed.

mod accept_stream;
mod archive;
mod check_archive;
mod database;
mod export;
mod head;
mod keys;
mod notes;
mod proofs;
mod show;
mod verify;

pub use self::verify::{Verify, run as verify};

use std::process::ExitCode;

use clap::Subcommand;

use crate::access::{Attempt, Right};
use crate::config::Config;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the newest rows, and with --follow those that come
    Tail(show::Tail),
    /// Show one row with everything that is known of it
    Show(show::Show),
    /// Check every row, signature, tree and head; exit 1 where anything is not as it was signed
    Verify(verify::Verify),
    /// Continue a log whose stream was recreated or whose checkpoint was changed, if every row is what its
    /// message says
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

impl AuditCommand {
    /// What it does that needs a right.
    pub fn attempt(&self) -> Option<Attempt> {
        let (command, right, log) = match self {
            Self::AcceptStream(command) => {
                ("audit accept-stream", Right::Change, Some(command.stream()))
            }
            Self::Archive(command) if !command.changes() => return None,
            Self::Archive(_) => ("audit archive", Right::Change, None),
            Self::Export(_) => ("audit export", Right::Export, None),
            Self::Tail(_)
            | Self::Show(_)
            | Self::Verify(_)
            | Self::CheckArchive(_)
            | Self::Prove(_)
            | Self::CheckProof(_)
            | Self::Consistency(_)
            | Self::Head(_)
            | Self::Witness(_)
            | Self::Keygen(_) => return None,
        };
        Some(Attempt::on_audit_log(command, right, log))
    }
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
