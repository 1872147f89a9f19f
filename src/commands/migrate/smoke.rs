//! `artstore migrate smoke`: sends one file through a system that runs, and leaves
//! nothing but its events, its finished operations and its tombstone. The rows are written through
//! the publishers' API; nothing is written to an element's disk.

mod file;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use artstore_bus::accounts::role::Role;
use artstore_bus::connection::Bus;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::StreamReader;
use artstore_migrations::Module;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::checkpoint;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use clap::Args;
use serde_json::{Value, json};
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::file::SmokeFile;
use super::target::{ModuleName, connect, targets};
use crate::config::{Config, ConfigError};
use crate::signals::stop_signal;

/// How often a row is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// On which element, and how patiently.
#[derive(Debug, Args)]
pub struct Smoke {
    /// How long each stage may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why a stage did not come, and what to look at.
#[derive(Debug)]
struct Failure {
    stage: &'static str,
    reason: String,
}

fn failure(stage: &'static str) -> impl Fn(anyhow::Error) -> Failure {
    move |error| Failure {
        stage,
        reason: format!("{error:#}"),
    }
}

/// Runs the command: on the named element, or on each that is configured.
pub async fn run(config: &Config, command: &Smoke) -> anyhow::Result<ExitCode> {
    let elements = targets(config, Some(ModuleName::Storage))?;
    let query = config.query_database()?.ok_or_else(|| {
        ConfigError(
            "smoke looks into the cache: it needs QUERY_DATABASE_URL (or DATABASE_HOST and others)"
                .into(),
        )
    })?;
    let stop = stop_signal()?;
    let bus = Bus::connect(&config.bus(Role::Operator, "artstore migrate smoke")?).await?;
    let mut report = Vec::new();
    let mut failed = false;
    for (module, database) in elements {
        let Module::Storage(element) = module else {
            continue;
        };
        let mut test = SmokeTest {
            element,
            database,
            bus: bus.clone(),
            timeout: Duration::from_secs(command.timeout),
            stop: stop.clone(),
            quiet: command.json,
            stages: Vec::new(),
        };
        let ended = test.run(&query).await;
        failed |= ended.is_err();
        report.push(test.as_json(ended.err()));
        if stop.is_cancelled() {
            break;
        }
    }
    if command.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// One file's way on one element.
struct SmokeTest {
    element: ElementName,
    database: PgConnectOptions,
    bus: Bus,
    timeout: Duration,
    stop: CancellationToken,
    quiet: bool,
    stages: Vec<(&'static str, Duration, String)>,
}

/// A failure, and what became of the file.
type Ended = (Failure, Result<(), String>);

impl SmokeTest {
    async fn run(&mut self, query: &PgConnectOptions) -> Result<(), Ended> {
        let mut file = SmokeFile::new(self.element.clone());
        if !self.quiet {
            println!("{}: file {}", self.element, file.id());
        }
        let (source, query) = match self.ready(query).await {
            Ok(connections) => connections,
            // Nothing was written yet.
            Err(failure) => {
                self.say_failed(&failure);
                return Err((failure, Ok(())));
            }
        };
        let Err(failure) = self.stages(&mut file, source, query).await else {
            return Ok(());
        };
        self.say_failed(&failure);
        // On a connection of its own: the other one may be what failed.
        let module = Module::Storage(self.element.clone());
        let cleaned = match connect(&module, &self.database).await {
            Ok(mut connection) => file.clean_up(&mut connection).await,
            Err(error) => Err(error),
        };
        let cleaned = cleaned.map_err(|error| format!("{error:#}"));
        if !self.quiet {
            match &cleaned {
                Ok(()) => println!(
                    "  {:<16} the file is gone from {}_files; relay and projector take it from the cache",
                    "cleaned up", self.element
                ),
                Err(error) => println!(
                    "  {:<16} NOT: {error}; delete file {} by the element's own way",
                    "cleaned up",
                    file.id()
                ),
            }
        }
        Err((failure, cleaned))
    }

    fn say_failed(&self, failure: &Failure) {
        if !self.quiet {
            println!("  {:<16} FAILED  {}", failure.stage, failure.reason);
        }
    }

    /// The element's and the query module's database, both with all their steps: what is missing
    /// shows before anything is written.
    async fn ready(
        &self,
        query: &PgConnectOptions,
    ) -> Result<(PgConnection, PgConnection), Failure> {
        let module = Module::Storage(self.element.clone());
        let mut source = connect(&module, &self.database)
            .await
            .map_err(failure("database"))?;
        migrated(&mut source, &module, "database").await?;
        let mut query = connect(&Module::Query, query)
            .await
            .map_err(failure("query database"))?;
        migrated(&mut query, &Module::Query, "query database").await?;
        Ok((source, query))
    }

    async fn stages(
        &mut self,
        file: &mut SmokeFile,
        mut source: PgConnection,
        mut query: PgConnection,
    ) -> Result<(), Failure> {
        let mut events = self.events(file.id()).await.map_err(failure("stream"))?;

        let began = Instant::now();
        let created = file.create(&mut source).await.map_err(failure("written"))?;
        self.done("written", began, format!("position {}", created.position));
        let sequence = self.published("published", &mut events, created.id).await?;
        self.cached(
            "in the cache",
            file,
            &mut query,
            sequence,
            Some(file.description()),
        )
        .await?;
        self.found("found", file, &mut query).await?;

        let began = Instant::now();
        let updated = file.update(&mut source).await.map_err(failure("changed"))?;
        self.done("changed", began, format!("position {}", updated.position));
        let sequence = self
            .published("change published", &mut events, updated.id)
            .await?;
        self.cached(
            "change in cache",
            file,
            &mut query,
            sequence,
            Some(file.description()),
        )
        .await?;
        self.found("found again", file, &mut query).await?;

        let began = Instant::now();
        let deleted = file.delete(&mut source).await.map_err(failure("deleted"))?;
        self.done("deleted", began, format!("position {}", deleted.position));
        let sequence = self
            .published("delete published", &mut events, deleted.id)
            .await?;
        self.cached("out of the cache", file, &mut query, sequence, None)
            .await?;

        let began = Instant::now();
        if file
            .exists(&mut source)
            .await
            .map_err(failure("nothing left"))?
        {
            return Err(Failure {
                stage: "nothing left",
                reason: format!(
                    "{}_files still has the file: something wrote it again",
                    self.element
                ),
            });
        }
        let left = format!("no row in {}_files or the cache", self.element);
        self.done("nothing left", began, left);
        Ok(())
    }

    fn done(&mut self, stage: &'static str, began: Instant, detail: String) {
        let took = began.elapsed();
        if !self.quiet {
            println!(
                "  {stage:<16} {:>7.1} ms  {detail}",
                took.as_secs_f64() * 1_000.0
            );
        }
        self.stages.push((stage, took, detail));
    }

    /// The events of the file's partition from here on.
    async fn events(&self, file: Uuid) -> anyhow::Result<StreamReader> {
        let source = Source::Element(self.element.clone());
        let last = self
            .bus
            .stream_info(&source.stream())
            .await?
            .state
            .last_sequence;
        let partition = subject::partition(Some(file));
        let selection = Selection {
            subjects: vec![format!("{}.p{partition:02}.>", source.subject_prefix())],
            headers_only: true,
            ..Selection::from(last + 1)
        };
        Ok(StreamReader::open(&self.bus, &source.stream(), selection).await?)
    }

    /// Waits for an event, and returns its sequence.
    async fn published(
        &mut self,
        stage: &'static str,
        events: &mut StreamReader,
        id: Uuid,
    ) -> Result<u64, Failure> {
        let began = Instant::now();
        let wanted = id.to_string();
        let timeout = self.timeout;
        let seen = async {
            loop {
                let Some(message) = events.next_persistently(timeout).await? else {
                    continue;
                };
                let id = message.headers.get("Nats-Msg-Id");
                if id.is_some_and(|id| id.as_str() == wanted) {
                    return anyhow::Ok(message.sequence);
                }
            }
        };
        let stream = Source::Element(self.element.clone()).stream();
        let advice = format!(
            "the row is not in {stream}: does `artstore run relay` run for {}, and does its log say \
             that it has halted?",
            self.element
        );
        let sequence = match within(self.timeout, &self.stop, seen).await {
            Waited::Came(sequence) => sequence.map_err(failure(stage))?,
            Waited::Late => return Err(late(stage, self.timeout, &advice)),
            Waited::Stopped => return Err(interrupted(stage)),
        };
        self.done(stage, began, format!("{stream}, sequence {sequence}"));
        Ok(sequence)
    }

    /// Waits until the cache shows the file with this description; none: until it is gone.
    async fn cached(
        &mut self,
        stage: &'static str,
        file: &SmokeFile,
        query: &mut PgConnection,
        sequence: u64,
        wanted: Option<&str>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let seen = async {
            loop {
                let shown = file.cached(query).await?;
                if shown.as_deref() == wanted {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match within(self.timeout, &self.stop, seen).await {
            Waited::Came(ended) => ended.map_err(failure(stage))?,
            Waited::Stopped => return Err(interrupted(stage)),
            Waited::Late => {
                let stream = Source::Element(self.element.clone()).stream();
                let at = match checkpoint::load(query, QueryCache::NAME, &stream).await {
                    Ok(Some(checkpoint)) => format!("{}", checkpoint.last_sequence),
                    Ok(None) => "nothing yet".to_owned(),
                    Err(error) => format!("? ({error})"),
                };
                let advice = format!(
                    "event {sequence} of {stream} is not applied, the projector has applied {at}: \
                     does `artstore run projector` run, and does its log say that it has halted?"
                );
                return Err(late(stage, self.timeout, &advice));
            }
        }
        self.done(stage, began, "file_metadata_cache".to_owned());
        Ok(())
    }

    /// Its words find it, in another form than they were written in.
    async fn found(
        &mut self,
        stage: &'static str,
        file: &SmokeFile,
        query: &mut PgConnection,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let words = file.words();
        if !file
            .is_found_by(query, &words)
            .await
            .map_err(failure(stage))?
        {
            return Err(Failure {
                stage,
                reason: format!(
                    "full-text search for {words:?} does not find it, though its row is in the \
                     cache: are the triggers and functions of the search vector as they were \
                     made (`artstore migrate check`)?"
                ),
            });
        }
        self.done(stage, began, "full-text search for its words".to_owned());
        Ok(())
    }

    fn as_json(&self, ended: Option<Ended>) -> Value {
        let stages = self.stages.iter().map(|(stage, took, detail)| {
            json!({"stage": stage, "ms": took.as_secs_f64() * 1_000.0, "detail": detail})
        });
        let mut value = json!({
            "element": self.element,
            "ok": ended.is_none(),
            "stages": stages.collect::<Vec<_>>(),
        });
        if let Some((failure, cleaned)) = ended {
            value["failed"] = json!({"stage": failure.stage, "reason": failure.reason});
            value["cleaned_up"] = json!(cleaned.is_ok());
            value["left"] = json!(cleaned.err());
        }
        value
    }
}

/// The tables have all that the publishers' API and the projector need.
async fn migrated(
    connection: &mut PgConnection,
    module: &Module,
    stage: &'static str,
) -> Result<(), Failure> {
    let status = artstore_migrations::status(connection, module).await;
    let status = status.map_err(|error| failure(stage)(error.into()))?;
    if status.version == status.latest {
        return Ok(());
    }
    Err(Failure {
        stage,
        reason: format!(
            "{module} is at version {} of {}: run `artstore migrate up` first",
            status.version, status.latest
        ),
    })
}

/// How a wait ended.
enum Waited<T> {
    Came(T),
    Late,
    Stopped,
}

async fn within<T>(
    timeout: Duration,
    stop: &CancellationToken,
    wait: impl Future<Output = T>,
) -> Waited<T> {
    tokio::select! {
        came = wait => Waited::Came(came),
        () = tokio::time::sleep(timeout) => Waited::Late,
        () = stop.cancelled() => Waited::Stopped,
    }
}

fn late(stage: &'static str, timeout: Duration, advice: &str) -> Failure {
    Failure {
        stage,
        reason: format!("not within {} s; {advice}", timeout.as_secs()),
    }
}

fn interrupted(stage: &'static str) -> Failure {
    Failure {
        stage,
        reason: "interrupted".to_owned(),
    }
}
