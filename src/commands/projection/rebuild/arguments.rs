//! What is to be built again, and how.

use clap::Args;

use crate::audit_keys::AuditSettings;
use crate::commands::projection::as_of::AsOfArgument;
use crate::service::Projection as Projected;

/// What is to be built again.
#[derive(Debug, Args)]
pub struct Rebuild {
    /// The projection; the audit log is derived again and compared, and never replaced
    #[arg(value_enum)]
    pub(in crate::commands::projection) projection: Projected,
    /// Build a snapshot for reading, beside the live tables: as of a time (RFC 3339, when the bus
    /// stored a message), or of places in streams (others are taken as the live tables have them)
    #[arg(long, value_name = "TIME|STREAM=SEQUENCE,…", conflicts_with_all = ["dry_run", "accept_differences"])]
    pub(super) as_of: Option<AsOfArgument>,
    /// Compare only; nothing is swapped
    #[arg(long, conflicts_with = "accept_differences")]
    pub(super) dry_run: bool,
    /// Swap although the tables differ
    #[arg(long)]
    pub(super) accept_differences: bool,
    /// Keep what was built when it is not swapped, also after Ctrl-C: the next command continues there
    #[arg(long)]
    pub(super) keep: bool,
    /// Remove what an earlier command left, and do nothing else
    #[arg(long, conflicts_with_all = ["as_of", "dry_run", "accept_differences", "keep"])]
    pub(super) abandon: bool,
    /// Print JSON: up to 10,000 differences, and how many there are
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) audit: AuditSettings,
}
