//! A rebuild under way, and how it is recorded and reported.

use std::process::ExitCode;

use artstore_bus::connection::Bus;
use artstore_projectors::rebuild::compare::Comparison;
use artstore_runtime::count::counted;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::arguments::Rebuild;
use crate::commands::projection::progress::RebuildDisplay;
use crate::commands::projection::report;
use crate::config::Config;
use crate::operator::record;

/// A rebuild under way.
pub(super) struct Run<'a> {
    pub(super) config: &'a Config,
    pub(super) bus: &'a Bus,
    pub(super) stop: CancellationToken,
    pub(super) command: &'a Rebuild,
    pub(super) operator: Value,
    pub(super) progress: RebuildDisplay,
    pub(super) name: &'static str,
    pub(super) resumed: bool,
}

/// What came of it.
pub(super) struct Done {
    pub(super) said: String,
    pub(super) code: ExitCode,
    /// Whether what was built is left; after a swap there is nothing left.
    pub(super) kept: bool,
}

impl Run<'_> {
    pub(super) async fn record(
        &self,
        connection: &mut PgConnection,
        facts: Value,
    ) -> Result<(), sqlx::Error> {
        record(connection, self.name, "rebuild", facts).await
    }

    pub(super) fn facts(&self, outcome: &str, comparison: Option<&Comparison>) -> Value {
        let tables = comparison.map(|comparison| {
            let tables = comparison.tables.iter().map(|table| {
                let counts = json!({"rows": table.rows, "added": table.added,
                    "removed": table.removed, "changed": table.changed, "parked": table.parked});
                (table.table.to_owned(), counts)
            });
            tables.collect::<serde_json::Map<_, _>>()
        });
        json!({
            "outcome": outcome,
            "dry_run": self.command.dry_run,
            "accept_differences": self.command.accept_differences,
            "resumed": self.resumed,
            "tables": tables,
            "operator": self.operator,
        })
    }

    pub(super) fn json(&self, outcome: &str, comparison: &Comparison) -> Value {
        json!({
            "projection": self.name,
            "outcome": outcome,
            "resumed": self.resumed,
            "applied": self.progress.applied(),
            "count": comparison.count(),
            "explained_by_parked": comparison.parked(),
            "comparison": comparison,
        })
    }

    pub(super) fn text(&self, comparison: &Comparison) -> String {
        format!(
            "{}: {} applied beside the live tables, then compared with them\n\n{}",
            self.name,
            counted(self.progress.applied(), "event"),
            report::text(comparison)
        )
    }
}
