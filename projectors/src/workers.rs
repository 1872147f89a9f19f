//! The workers of a projection: one a stream. New streams are found by listing; more processes
//! share the streams, because each worker holds its stream's lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use artstore_schemas::bus::{Bus, BusError};
use artstore_schemas::source::Source;
use futures::TryStreamExt as _;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::projector::Projector;
use crate::projector_error::WorkerError;
use crate::runner;

/// How often streams are listed.
const LISTING: Duration = Duration::from_secs(3);

/// Runs a projection until `stop` says so. An error at the start comes back at once, with nothing
/// changed. Otherwise, returns the first error that a worker stood at when it was stopped.
pub async fn run<P: Projector>(
    projector: P,
    bus: Bus,
    database: PgConnectOptions,
    mut stop: watch::Receiver<bool>,
) -> Result<(), WorkerError> {
    runner::check_direct::<P>(&database).await?;
    let projector = Arc::new(projector);
    let mut workers: HashMap<Source, JoinHandle<Result<(), WorkerError>>> = HashMap::new();
    loop {
        report_ended(&mut workers).await;
        match list(&bus).await {
            Ok(sources) => {
                for source in sources {
                    if projector.reads(&source) && !workers.contains_key(&source) {
                        let worker = start(&projector, &bus, &database, &source, &stop);
                        workers.insert(source, worker);
                    }
                }
            }
            Err(error) => tracing::warn!(projection = P::NAME, %error, "no list of streams"),
        }
        tokio::select! {
            () = tokio::time::sleep(LISTING) => {}
            stopping = stop.wait_for(|stop| *stop) => {
                if stopping.is_err() {
                    tracing::debug!("nobody is left to ask for a stop");
                }
                break;
            }
        }
    }
    let mut result = Ok(());
    for (source, worker) in workers {
        match worker.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => result = result.and(Err(error)),
            Err(error) => tracing::error!(%source, %error, "a worker ended by itself"),
        }
    }
    result
}

/// A worker ends only when it is told to: one that ended by itself is said so and started again.
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

fn start<P: Projector>(
    projector: &Arc<P>,
    bus: &Bus,
    database: &PgConnectOptions,
    source: &Source,
    stop: &watch::Receiver<bool>,
) -> JoinHandle<Result<(), WorkerError>> {
    let projector = Arc::clone(projector);
    let (bus, database) = (bus.clone(), database.clone());
    let (source, stop) = (source.clone(), stop.clone());
    tracing::info!(
        projection = P::NAME,
        stream = source.stream(),
        "worker started"
    );
    tokio::spawn(async move { runner::run(&*projector, &bus, &database, &source, stop).await })
}

/// The sources whose streams exist.
pub async fn list(bus: &Bus) -> Result<Vec<Source>, BusError> {
    let names: Vec<String> = bus
        .jetstream
        .stream_names()
        .try_collect()
        .await
        .map_err(|error| BusError::JetStream(format!("the list of streams: {error}")))?;
    Ok(names.iter().filter_map(|n| Source::of_stream(n)).collect())
}
