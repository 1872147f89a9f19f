//! `artstore projection rebuild`. Exit code 0: swapped, or equal, or the snapshot exists; 1: the tables
//! differ, or it could not be done; 2: wrong usage.

use artstore_runtime::count::counted;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use artstore_bus::connection::Bus;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::rebuild::abandon::abandon;
use artstore_projectors::rebuild::build::Rebuild as Build;
use artstore_projectors::rebuild::compare::Comparison;
use artstore_projectors::rebuild::snapshot::{self, AsOf};
use artstore_projectors::rebuild::swap::{Record, Swapped};
use artstore_projectors::rebuild::{RebuildError, Step};
use artstore_runtime::crash;
use artstore_runtime::pulse::Pulse;
use artstore_runtime::restart::stopped;
use chrono::Utc;
use clap::Args;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;

use super::as_of::AsOfArgument;
use super::database::{connect, database};
use super::progress::RebuildDisplay;
use super::{report, touched};
use crate::audit_keys::AuditSettings;
use crate::commands::audit;
use crate::config::{Config, ConfigError};
use crate::operator;
use crate::operator::record;
use crate::service::Projection as Projected;
use crate::signals::stop_signal;

/// A signal that has caused an error is seen within that time.
const SIGNAL: Duration = Duration::from_millis(100);

/// For so long a failure may take to be recorded.
const RECORDED: Duration = Duration::from_secs(10);

/// How long the last events of rows are looked up.
const NAMING: Duration = Duration::from_secs(20);

/// What is to be built again.
#[derive(Debug, Args)]
pub struct Rebuild {
    /// The projection; the audit log is derived again and compared, and never replaced
    #[arg(value_enum)]
    projection: Projected,
    /// Build a snapshot for reading, beside the live tables: as of a time (RFC 3339, when the bus
    /// stored a message), or of places in streams (others are taken as the live tables have them)
    #[arg(long, value_name = "TIME|STREAM=SEQUENCE,…", conflicts_with_all = ["dry_run", "accept_differences"])]
    as_of: Option<AsOfArgument>,
    /// Compare only; nothing is swapped
    #[arg(long, conflicts_with = "accept_differences")]
    dry_run: bool,
    /// Swap although the tables differ
    #[arg(long)]
    accept_differences: bool,
    /// Keep what was built when it is not swapped, also after Ctrl-C: the next command goes on there
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier command left, and do nothing else
    #[arg(long, conflicts_with_all = ["as_of", "dry_run", "accept_differences", "keep"])]
    abandon: bool,
    /// Print JSON: up to 10,000 differences, and how many there are
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

/// Runs the command.
pub async fn rebuild(config: &Config, command: &Rebuild) -> anyhow::Result<ExitCode> {
    match command.projection {
        Projected::QueryCache => of(QueryCache, config, command).await,
        Projected::ElementRegistry => of(ElementRegistry, config, command).await,
        Projected::AuditLog => compare_audit_log(config, command).await,
    }
}

/// The audit log is evidence: it is derived again row by row, and must come out identical.
async fn compare_audit_log(config: &Config, command: &Rebuild) -> anyhow::Result<ExitCode> {
    if command.as_of.is_some() || command.accept_differences || command.keep || command.abandon {
        return Err(ConfigError(
            "the audit log is only derived again and compared: --as-of, --accept-differences, --keep \
             and --abandon do not go with it"
                .to_owned(),
        )
        .into());
    }
    let verify = audit::Verify::against_stream(command.audit.clone(), command.json);
    let code = audit::verify(config, &verify).await?;
    let mut connection = connect(config, command.projection).await?;
    let operator = operator::operator(&mut connection).await?;
    let outcome = match code == ExitCode::SUCCESS {
        true => "equal",
        false => "different",
    };
    let facts = json!({"outcome": outcome, "operator": operator});
    let name = command.projection.name();
    record(&mut connection, name, "rebuild", facts).await?;
    connection.close().await?;
    Ok(code)
}

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

pub(super) fn streams(swapped: &Swapped) -> Value {
    let streams = swapped.streams.iter();
    streams
        .map(|(stream, sequence)| (stream.clone(), json!(sequence)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn of<P: Projector>(
    projector: P,
    config: &Config,
    command: &Rebuild,
) -> anyhow::Result<ExitCode> {
    let database = database(config, command.projection)?;
    if command.abandon {
        return remove::<P>(&database, command.json).await;
    }
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus("artstore projection rebuild"))
        .await?
        .patient();
    if let Some(AsOfArgument(as_of)) = &command.as_of {
        let places = snapshot::check(&projector, &bus, as_of).await;
        places.map_err(|error| match matches!(error, RebuildError::BadPlace(_)) {
            true => anyhow::Error::from(ConfigError(error.to_string())),
            false => error.into(),
        })?;
    }
    let purpose = match &command.as_of {
        Some(AsOfArgument(as_of)) => format!("as of {as_of}"),
        None => "swap".to_owned(),
    };
    let mut build = Build::begin(projector, &bus, &database, &purpose, stop.clone()).await?;
    let operator = operator::operator(build.connection()).await?;
    let mut run = Run {
        config,
        command,
        stop,
        bus: &bus,
        operator,
        progress: RebuildDisplay::new(command.json),
        name: P::NAME,
        resumed: build.is_resumed(),
    };
    if build.is_resumed() && !command.json {
        eprintln!("going on with what an earlier command has built");
    }
    let pulse = Pulse::of(database.clone(), "artstore projection rebuild (pulse)");
    let building = async {
        match &command.as_of {
            Some(AsOfArgument(as_of)) => run.snapshot(&mut build, as_of).await,
            None => run.build(&mut build).await,
        }
    };
    let done = pulse.while_answered(building).await;
    run.progress.finish();
    let done = match done {
        Ok(done) => done,
        Err(error) => return Err(run.failed(build, error).await),
    };
    match done.kept {
        true => build.keep().await?,
        false => build.drop().await?,
    }
    bus.client.drain().await.context("NATS")?;
    print!("{}", done.said);
    Ok(done.code)
}

/// Removes what an earlier command left, and records that with it.
async fn remove<P: Projector>(
    database: &PgConnectOptions,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    abandon::<P>(database, async |transaction: &mut PgConnection| {
        let operator = operator::operator(transaction).await?;
        let facts = json!({"outcome": "abandoned", "operator": operator});
        record(transaction, P::NAME, "rebuild", facts).await
    })
    .await?;
    match as_json {
        true => println!(
            "{:#}",
            json!({"projection": P::NAME, "outcome": "abandoned"})
        ),
        false => println!("{}: nothing of a rebuild is left", P::NAME),
    }
    Ok(ExitCode::SUCCESS)
}

struct Run<'a> {
    config: &'a Config,
    bus: &'a Bus,
    stop: watch::Receiver<bool>,
    command: &'a Rebuild,
    operator: Value,
    progress: RebuildDisplay,
    name: &'static str,
    resumed: bool,
}

/// What came of it.
struct Done {
    said: String,
    code: ExitCode,
    /// Whether what was built is left; after a swap there is nothing left.
    kept: bool,
}

impl Run<'_> {
    async fn build<P: Projector>(
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

    async fn snapshot<P: Projector>(
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

    /// What is left of a rebuild that has ended with an error. Somebody who has stopped it wants nothing
    /// left, whatever else has failed at that moment.
    async fn failed<P: Projector>(
        &self,
        build: Build<'_, P>,
        error: RebuildError,
    ) -> anyhow::Error {
        let mut stop = self.stop.clone();
        let signalled = tokio::time::timeout(SIGNAL, stopped(&mut stop))
            .await
            .is_ok();
        let stopped = signalled || matches!(error, RebuildError::Stopped);
        let kept = self.command.keep || (error.can_go_on() && !stopped);
        let left = match kept {
            true => {
                // The connection may be what has failed.
                drop(build);
                None
            }
            false => build.drop().await.err(),
        };
        self.record_failure(&error, stopped, kept || left.is_some())
            .await;
        let said = match (stopped, kept) {
            (true, true) => "stopped; what was built is kept: the same command goes on there",
            (true, false) => "stopped; what was built is removed",
            (false, _) => "",
        };
        let only_stopped = matches!(error, RebuildError::Stopped);
        match left {
            Some(left) => anyhow::Error::from(error).context(format!(
                "what was built could not be removed ({left}): artstore projection rebuild {} --abandon",
                self.name
            )),
            None if only_stopped => anyhow::anyhow!(said),
            None if stopped => anyhow::Error::from(error).context(said),
            None => error.into(),
        }
    }

    /// Records it where that is possible: the database may be what has failed.
    async fn record_failure(&self, error: &RebuildError, stopped: bool, kept: bool) {
        let mut facts = self.facts(if stopped { "stopped" } else { "failed" }, None);
        facts["error"] = json!(error.to_string());
        facts["kept"] = json!(kept);
        let recorded = async {
            let mut connection = connect(self.config, self.command.projection).await?;
            self.record(&mut connection, facts).await?;
            connection.close().await?;
            anyhow::Ok(())
        };
        let recorded = tokio::time::timeout(RECORDED, recorded).await;
        if let Err(error) = recorded.map_err(anyhow::Error::from).flatten() {
            tracing::warn!(
                error = format!("{error:#}"),
                "that it failed could not be recorded"
            );
        }
    }

    async fn record(&self, connection: &mut PgConnection, facts: Value) -> Result<(), sqlx::Error> {
        record(connection, self.name, "rebuild", facts).await
    }

    fn facts(&self, outcome: &str, comparison: Option<&Comparison>) -> Value {
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

    fn json(&self, outcome: &str, comparison: &Comparison) -> Value {
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

    fn text(&self, comparison: &Comparison) -> String {
        format!(
            "{}: {} applied beside the live tables, then compared with them\n\n{}",
            self.name,
            counted(self.progress.applied(), "event"),
            report::text(comparison)
        )
    }
}

fn verdict(comparison: &Comparison) -> String {
    match comparison.count() {
        0 => "Equal.".to_owned(),
        rows => format!("Different: {}.", counted(rows, "row")),
    }
}
