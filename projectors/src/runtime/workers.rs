//! The workers of a projection: one per stream. New streams are found by listing; several processes
//! share the streams, because each worker holds its stream's lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_runtime::pulse::Pulse;
use artstore_schemas::source::Source;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::projector::Projector;
use crate::projector_error::WorkerError;
use crate::runtime::database::check_direct;
use crate::runtime::progress::ProjectorProgress;
use crate::runtime::runner;
use crate::runtime::share::Share;
use crate::runtime::worker::Task;

/// How often streams are listed.
const LISTING: Duration = Duration::from_secs(3);

/// How long the workers may take to commit their current batch when they are asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs a projection until `stop` is set, after [`check_direct`] of its database, whose error comes back
/// at once, with nothing changed.
pub async fn run<P: Projector>(
    projector: P,
    bus: Bus,
    database: PgConnectOptions,
    progress: ProjectorProgress,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    tokio::select! {
        checked = check_direct::<P>(&database) => checked?,
        () = stop.cancelled() => return Ok(()),
    }
    run_checked(projector, bus, database, progress, stop).await
}

/// The same, where the database was checked. When it is asked to stop, each worker commits its
/// current batch and releases its lock; it ends within some ten seconds, whatever hangs, with an error where something
/// was left unsettled. Otherwise, returns the first error that a worker was still halted by.
pub async fn run_checked<P: Projector>(
    projector: P,
    bus: Bus,
    database: PgConnectOptions,
    progress: ProjectorProgress,
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    let pulse = Pulse::of(database.clone(), "artstore projector (pulse)");
    let workers = Workers {
        pulse: Arc::new(pulse),
        projector: Arc::new(projector),
        bus,
        database,
        progress,
        share: Share::default(),
        stop: stop.clone(),
    };
    let mut running: HashMap<Source, JoinHandle<Result<(), WorkerError>>> = HashMap::new();
    let mut warned_of_none = false;
    loop {
        report_ended(&mut running).await;
        tokio::select! {
            listed = list(&workers.bus) => match listed {
                Ok(sources) => {
                    workers.start_new(sources, &mut running);
                    if running.is_empty() && !warned_of_none {
                        warned_of_none = true;
                        tracing::warn!(
                            projection = P::NAME,
                            "there is no stream to read: run `artstore bus init`; this continues by itself then"
                        );
                    }
                }
                Err(error) => tracing::warn!(projection = P::NAME, %error, "no list of streams"),
            },
            () = stop.cancelled() => break,
        }
        tokio::select! {
            () = tokio::time::sleep(LISTING) => {}
            () = stop.cancelled() => break,
        }
    }
    drain(running).await
}

/// Waits for the workers, no longer than [`DRAIN`] for all of them.
async fn drain(
    running: HashMap<Source, JoinHandle<Result<(), WorkerError>>>,
) -> Result<(), WorkerError> {
    let deadline = tokio::time::Instant::now() + DRAIN;
    let mut result = Ok(());
    let mut late = Vec::new();
    for (source, mut worker) in running {
        match tokio::time::timeout_at(deadline, &mut worker).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => result = result.and(Err(error)),
            Ok(Err(error)) => tracing::error!(%source, %error, "a worker ended by itself"),
            Err(_) => {
                worker.abort();
                late.push(source.stream());
            }
        }
    }
    if late.is_empty() {
        return result;
    }
    late.sort();
    Err(WorkerError::NotDrained(format!(
        "{}: an answer of NATS or of the read model's database did not come within {} s",
        late.join(", "),
        DRAIN.as_secs()
    )))
}

struct Workers<P> {
    pulse: Arc<Pulse>,
    projector: Arc<P>,
    bus: Bus,
    database: PgConnectOptions,
    progress: ProjectorProgress,
    share: Share,
    stop: CancellationToken,
}

impl<P: Projector> Workers<P> {
    fn start_new(
        &self,
        mut sources: Vec<Source>,
        running: &mut HashMap<Source, JoinHandle<Result<(), WorkerError>>>,
    ) {
        sources.retain(|source| self.projector.reads(source));
        self.progress.list();
        self.share.of_streams(sources.len());
        for source in sources {
            let start = || self.start(&source);
            running.entry(source.clone()).or_insert_with(start);
        }
    }

    fn start(&self, source: &Source) -> JoinHandle<Result<(), WorkerError>> {
        let stream = source.stream();
        let span = tracing::error_span!("worker", projection = P::NAME, stream);
        tracing::info!(projection = P::NAME, stream, "worker started");
        let task = Task {
            pulse: Arc::clone(&self.pulse),
            projector: Arc::clone(&self.projector),
            bus: self.bus.clone(),
            database: self.database.clone(),
            source: source.clone(),
            progress: self.progress.of(source),
            share: self.share.clone(),
        };
        tokio::spawn(runner::run(task, self.stop.clone()).instrument(span))
    }
}

/// A worker ends only when it is asked to: one that ended by itself is logged and started again.
async fn report_ended(workers: &mut HashMap<Source, JoinHandle<Result<(), WorkerError>>>) {
    let ended: Vec<Source> = workers
        .iter()
        .filter(|(_, worker)| worker.is_finished())
        .map(|(source, _)| source.clone())
        .collect();
    for source in ended {
        if let Some(worker) = workers.remove(&source) {
            let result = worker.await;
            tracing::error!(%source, ?result, "a worker ended by itself: it is started again");
        }
    }
}

/// The sources whose streams exist.
pub async fn list(bus: &Bus) -> Result<Vec<Source>, BusError> {
    let names = bus.stream_names().await?;
    Ok(names.iter().filter_map(|n| Source::of_stream(n)).collect())
}
