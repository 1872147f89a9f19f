//! The steps of a rebuild: built, compared, and swapped or kept as a snapshot.

use std::process::ExitCode;
use std::time::Duration;

use artstore_projectors::projector::Projector;
use artstore_projectors::rebuild::build::Rebuild as Build;
use artstore_projectors::rebuild::compare::Comparison;
use artstore_projectors::rebuild::snapshot::AsOf;
use artstore_projectors::rebuild::swap::{Record, Swapped};
use artstore_projectors::rebuild::{RebuildError, Step};
use artstore_runtime::count::counted;
use artstore_runtime::crash;
use chrono::Utc;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::run::{Done, Run};
use crate::commands::projection::report::streams;
use crate::commands::projection::touched;
use crate::operator::record;

/// How long the last events of rows are looked up.
const NAMING: Duration = Duration::from_secs(20);

/// The event of a rebuild.
struct Event {
    projection: &'static str,
    facts: Value,
}

impl Record for Event {
    async fn record(
        &mut self,
        transaction: &mut PgConnection,
        swapped: &Swapped,
    ) -> Result<(), sqlx::Error> {
        self.facts["streams"] = streams(swapped);
        self.facts["schema"] = json!(swapped.previous);
        record(transaction, self.projection, "rebuild", self.facts.clone()).await
    }
}

impl Run<'_> {
    pub(super) async fn build<P: Projector>(
        &mut self,
        build: &mut Build<'_, P>,
    ) -> Result<Done, RebuildError> {
        let progress = &mut self.progress;
        build
            .catch_up(&mut |step: Step| progress.show(&step))
            .await?;
        build.index(&mut |step: Step| progress.show(&step)).await?;
        let mut comparison = build
            .compare(&mut |step: Step| progress.show(&step))
            .await?;
        let equal = comparison.is_equal();
        // The comparison is right without; meanwhile nothing is sent to the database.
        let named = touched::name_events(self.bus, build, &mut comparison);
        let named = tokio::time::timeout(NAMING, named).await;
        if let Err(error) = named.map_err(anyhow::Error::from).flatten() {
            tracing::warn!(
                error = format!("{error:#}"),
                "last events of rows were not all looked up"
            );
        }
        if self.command.dry_run || !(equal || self.command.accept_differences) {
            return self.only_compared(build, &comparison).await;
        }
        let outcome = match equal {
            true => "swapped",
            false => "swapped with differences",
        };
        let mut event = Event {
            projection: self.name,
            facts: self.facts(outcome, Some(&comparison)),
        };
        let progress = &mut self.progress;
        let swapped = build
            .swap(&mut |step: Step| progress.show(&step), &mut event)
            .await?;
        let said = match self.command.json {
            true => {
                let mut said = self.json(outcome, &comparison);
                said["previous"] = json!(swapped.previous);
                said["streams"] = streams(&swapped);
                format!("{said:#}\n")
            }
            false => format!(
                "{}\n{} Swapped: the rebuilt tables are live.\nThose of before are in schema {}; \
                 back to them: artstore projection rollback {}\n",
                self.text(&comparison),
                verdict(&comparison),
                swapped.previous,
                self.name
            ),
        };
        Ok(Done {
            said,
            code: ExitCode::SUCCESS,
            kept: true,
        })
    }

    async fn only_compared<P: Projector>(
        &mut self,
        build: &mut Build<'_, P>,
        comparison: &Comparison,
    ) -> Result<Done, RebuildError> {
        let (equal, name) = (comparison.is_equal(), self.name);
        let outcome = match equal {
            true => "equal",
            false => "different",
        };
        let facts = self.facts(outcome, Some(comparison));
        self.record(build.connection(), facts).await?;
        // Somebody has to decide, and then it continues from here.
        let kept = self.command.keep || !self.command.dry_run;
        let next = match (equal, kept) {
            (true, _) => format!("{} Nothing was swapped.\n", verdict(comparison)),
            (false, false) => format!(
                "{} Nothing was swapped. To take the rebuilt tables: artstore projection rebuild \
                 {name} --accept-differences\n",
                verdict(comparison)
            ),
            (false, true) => format!(
                "{} Nothing was swapped, and what was built is kept in schema {}.\nTo take it: \
                 artstore projection rebuild {name} --accept-differences\nTo remove it: artstore \
                 projection rebuild {name} --abandon\n",
                verdict(comparison),
                build.schema()
            ),
        };
        let said = match self.command.json {
            true => format!("{:#}\n", self.json(outcome, comparison)),
            false => format!("{}\n{next}", self.text(comparison)),
        };
        let code = match equal {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
        Ok(Done { said, code, kept })
    }

    pub(super) async fn snapshot<P: Projector>(
        &mut self,
        build: &mut Build<'_, P>,
        as_of: &AsOf,
    ) -> Result<Done, RebuildError> {
        let targets = build.targets(as_of).await?;
        let progress = &mut self.progress;
        build
            .fill(&targets, &mut |step: Step| progress.show(&step))
            .await?;
        build.index(&mut |step: Step| progress.show(&step)).await?;
        let mut facts = self.facts("snapshot", None);
        facts["as_of"] = json!(as_of.to_string());
        let mut event = Event {
            projection: self.name,
            facts,
        };
        let snapshot = build.keep_as_snapshot(Utc::now(), &mut event).await?;
        crash::point("rebuild.snapshot");
        let schema = &snapshot.previous;
        let parked = build.parked_in(schema).await?;
        let said = match self.command.json {
            true => format!(
                "{:#}\n",
                json!({"projection": self.name, "outcome": "snapshot", "as_of": as_of.to_string(),
                    "schema": schema, "streams": streams(&snapshot), "parked": parked})
            ),
            false => {
                let mut said = format!(
                    "{} as of {as_of} is in schema {schema}, for reading:\n",
                    self.name
                );
                for (stream, sequence) in &snapshot.streams {
                    said += &format!("  {stream} up to message {sequence}\n");
                }
                if parked > 0 {
                    said += &format!(
                        "Without {} that can't be applied, or behind such a one: \
                         {schema}.projection_parked\n",
                        counted(parked, "event")
                    );
                }
                said += &format!(
                    "Rows of the product's own services are not in it. When it is not needed any \
                     more: drop schema {schema} cascade\n"
                );
                said
            }
        };
        Ok(Done {
            said,
            code: ExitCode::SUCCESS,
            kept: true,
        })
    }
}

fn verdict(comparison: &Comparison) -> String {
    match comparison.count() {
        0 => "Equal.".to_owned(),
        rows => format!("Different: {}.", counted(rows, "row")),
    }
}
