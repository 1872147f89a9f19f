//! What does not continue by itself: relays and projections that are halted or paused, and events that are
//! parked. It is checked before anything is compared, so that nobody waits for what does not come.

use std::collections::BTreeSet;
use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::pause;
use artstore_schemas::source::Source;
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::service::answer::{Problem, Stage};
use crate::status::{answers, database};

/// How long a database may take to say who is paused.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that keeps rows or events from getting on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Note {
    /// What it is about: `relay of SOURCE`, a projection, or `PROJECTION of SOURCE`.
    pub(super) about: String,
    /// What keeps it.
    pub(super) what: String,
    /// The command to start with.
    pub(super) command: String,
}

/// Who does not continue, and what that is called.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Sources whose finished rows nobody publishes now.
    pub(super) relays: BTreeSet<Source>,
    /// Sources whose events nobody applies to the query cache now.
    pub(super) cache: BTreeSet<Source>,
    /// Sources whose events nobody writes to the audit log now.
    pub(super) audit_log: BTreeSet<Source>,
    /// For people.
    pub(super) notes: Vec<Note>,
}

impl Idle {
    /// Asks the running processes and the databases. Whoever does not answer counts as at work: what
    /// reads from it says so.
    pub(super) async fn look(
        bus: &Bus,
        sources: &[Source],
        query: Option<&PgConnectOptions>,
        admin: Option<&PgConnectOptions>,
    ) -> Self {
        let mut idle = Self::default();
        let projections = [QueryCache::NAME, AuditLog::NAME];
        match answers::ask(bus, sources, &projections).await {
            Ok(answers) => idle.add_halted(sources, &answers),
            Err(error) => tracing::debug!(%error, "no process could be asked"),
        }
        for (database, projection) in [(query, QueryCache::NAME), (admin, AuditLog::NAME)] {
            let Some(database) = database else { continue };
            let look = idle.add_paused_and_parked(sources, database, projection);
            // An older database has no such tables, and what is compared next names one that is down.
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, look).await {
                tracing::debug!(%error, projection, "nothing is known of pauses");
            }
        }
        idle
    }

    fn add_halted(&mut self, sources: &[Source], answers: &answers::Answers) {
        for source in sources {
            let name = source.to_string();
            let relays = answers.relays.iter().filter(|relay| relay.source == name);
            let relays = relays.map(|relay| (relay.stage, relay.problem.as_ref()));
            if let Some(problem) = all_halted(relays) {
                self.relays.insert(source.clone());
                self.notes.push(Note {
                    about: format!("relay of {source}"),
                    what: format!("halted: {}", problem.text),
                    command: "artstore status".to_owned(),
                });
            }
            for projection in [QueryCache::NAME, AuditLog::NAME] {
                let processes = answers.projectors.iter();
                let workers = processes
                    .filter(|process| process.projection == projection)
                    .flat_map(|process| &process.workers)
                    .filter(|worker| worker.source == name)
                    .map(|worker| (worker.stage, worker.problem.as_ref()));
                // A pause is noted once, of the projection.
                let Some(problem) =
                    all_halted(workers).filter(|problem| !problem.text.starts_with("paused by "))
                else {
                    continue;
                };
                self.of(projection).insert(source.clone());
                self.notes.push(Note {
                    about: format!("{projection} of {source}"),
                    what: format!("halted: {}", problem.text),
                    command: "artstore status".to_owned(),
                });
            }
        }
    }

    async fn add_paused_and_parked(
        &mut self,
        sources: &[Source],
        database: &PgConnectOptions,
        projection: &'static str,
    ) -> Result<(), sqlx::Error> {
        let mut connection = database::connect(database, PATIENCE).await?;
        if let Some(pause) = pause::load(&mut connection, projection).await? {
            self.of(projection).extend(sources.iter().cloned());
            self.notes.push(Note {
                about: projection.to_owned(),
                what: pause.to_string(),
                command: format!("artstore projection resume {projection}"),
            });
        }
        let parked = parked(&mut connection, projection, sources).await?;
        if parked > 0 {
            let (events, are) = if parked == 1 {
                ("event", "is")
            } else {
                ("events", "are")
            };
            self.notes.push(Note {
                about: projection.to_owned(),
                what: format!("{parked} {events} {are} parked"),
                command: "artstore parked list".to_owned(),
            });
        }
        Ok(())
    }

    fn of(&mut self, projection: &str) -> &mut BTreeSet<Source> {
        match projection {
            AuditLog::NAME => &mut self.audit_log,
            _ => &mut self.cache,
        }
    }
}

/// The problem of one of them, where there are some and none continues.
fn all_halted<'a>(
    workers: impl Iterator<Item = (Stage, Option<&'a Problem>)>,
) -> Option<&'a Problem> {
    let mut halted = None;
    for (stage, problem) in workers {
        match problem.filter(|problem| problem.halted) {
            Some(problem) => halted = Some(problem),
            // One that waits for the lock takes over.
            None if matches!(stage, Stage::Stopping) => {}
            None => return None,
        }
    }
    halted
}

async fn parked(
    connection: &mut PgConnection,
    projection: &str,
    sources: &[Source],
) -> Result<i64, sqlx::Error> {
    let streams: Vec<String> = sources.iter().map(Source::stream).collect();
    sqlx::query_scalar(
        "select count(*) from public.projection_parked where projection = $1 and stream = any($2)",
    )
    .bind(projection)
    .bind(streams)
    .fetch_one(connection)
    .await
}
