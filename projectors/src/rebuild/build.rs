//! A rebuild from its beginning to its comparison; [`super::swap`] or [`super::snapshot`] uses the result.

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use artstore_schemas::source::Source;
use chrono::{DateTime, SubsecRound as _, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::compare::{Comparison, Sides, compare};
use super::fill::{Fill, Target};
use super::parked::ParkedInBoth;
use super::session::{live_checkpoints, open, reader, run, use_schema};
use super::{OnStep, RebuildError, shadow, shadow_schema, table_properties};
use crate::projector::Projector;
use crate::projector_error::WorkerError;
use crate::runtime::checkpoint;
use crate::runtime::workers;

/// So near to the live tables the rest is left for later.
const NEAR: u64 = 2_000;

/// Nearer it need not come.
const CLOSE: u64 = 100;

/// So often it runs after the live tables.
const ROUNDS: u32 = 20;

/// A rebuild in hand.
pub struct Rebuild<'a, P> {
    pub(crate) projector: P,
    pub(crate) bus: &'a Bus,
    pub(crate) database: &'a PgConnectOptions,
    pub(crate) connection: PgConnection,
    pub(crate) schema: String,
    pub(crate) stop: CancellationToken,
    /// What was parked when the tables were compared.
    pub(crate) seen: ParkedInBoth,
    resumed: bool,
}

impl<'a, P: Projector> Rebuild<'a, P> {
    /// Takes the lock, and makes the tables or finds those that an earlier command of the same purpose
    /// was filling.
    pub async fn begin(
        projector: P,
        bus: &'a Bus,
        database: &'a PgConnectOptions,
        purpose: &str,
        stop: CancellationToken,
    ) -> Result<Self, RebuildError> {
        let mut connection = open::<P>(database).await?;
        let schema = shadow_schema(P::NAME);
        // Names of live tables are written out in full where they are meant.
        use_schema(&mut connection, &schema).await?;
        shadow::check::<P>(&mut connection).await?;
        let mut resumed = shadow::fits::<P>(&mut connection, &schema, purpose).await?;
        if resumed {
            resumed = of_these_streams::<P>(&mut connection, &projector, bus).await?;
        }
        if !resumed {
            shadow::drop(&mut connection, &schema).await?;
            shadow::create::<P>(&mut connection, &schema, purpose).await?;
        }
        crash::point("rebuild.created");
        // The stream still has what a crash of the server loses here.
        run(&mut connection, "set synchronous_commit = off").await?;
        Ok(Self {
            projector,
            bus,
            database,
            connection,
            schema,
            stop,
            seen: ParkedInBoth::default(),
            resumed,
        })
    }

    /// Whether it continues with what an earlier command has built.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Where the tables are built.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The database session: for what is to be recorded.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Applies the streams up to these sequences.
    pub async fn fill(
        &mut self,
        targets: &[Target],
        on_step: OnStep<'_>,
    ) -> Result<(), RebuildError> {
        let mut fill = Fill {
            projector: &self.projector,
            bus: self.bus,
            stop: self.stop.clone(),
            deadline: None,
        };
        fill.fill(&mut self.connection, targets, on_step).await?;
        Ok(())
    }

    /// Applies the streams until nearly everything is applied that the live tables have, and nothing
    /// else. Each round leaves what came meanwhile, so it continues for as long as that becomes less.
    pub async fn catch_up(&mut self, on_step: OnStep<'_>) -> Result<(), RebuildError> {
        let mut before = u64::MAX;
        for _ in 0..ROUNDS {
            let targets = targets(&mut self.connection, &self.projector, self.bus).await?;
            let behind = self.behind(&targets).await?;
            if behind == 0 {
                return Ok(());
            }
            self.fill(&targets, &mut *on_step).await?;
            if behind <= CLOSE || (behind <= NEAR && behind >= before) {
                return Ok(());
            }
            before = behind;
        }
        match before <= NEAR {
            true => Ok(()),
            false => Err(RebuildError::TooFar { attempts: ROUNDS }),
        }
    }

    async fn behind(&mut self, targets: &[Target]) -> Result<u64, RebuildError> {
        let mut behind = 0;
        for target in targets {
            let stream = target.source.stream();
            let at = checkpoint::load(&mut self.connection, P::NAME, &stream).await?;
            behind += target
                .sequence
                .saturating_sub(at.map_or(0, |at| at.last_sequence));
        }
        Ok(behind)
    }

    /// Builds the indexes.
    pub async fn index(&mut self, on_step: OnStep<'_>) -> Result<(), RebuildError> {
        let stop = self.stop.clone();
        tokio::select! {
            indexed = table_properties::index::<P>(&mut self.connection, &self.schema, on_step) => indexed?,
            () = stop.cancelled() => return Err(RebuildError::Stopped),
        }
        crash::point("rebuild.complete");
        Ok(())
    }

    /// Compares it with the live tables under one snapshot of these, at the checkpoints that it shows.
    /// What was parked on the way is tried again before.
    pub async fn compare(&mut self, on_step: OnStep<'_>) -> Result<Comparison, RebuildError> {
        let mut live = reader::<P>(self.database).await?;
        run(&mut live, "begin isolation level repeatable read read only").await?;
        let targets = targets(&mut live, &self.projector, self.bus).await?;
        self.fill(&targets, &mut *on_step).await?;
        for target in &targets {
            let stream = target.source.stream();
            let at = checkpoint::load(&mut self.connection, P::NAME, &stream).await?;
            let at = at.map_or(0, |at| at.last_sequence);
            if at > target.sequence {
                return Err(RebuildError::MovedBack {
                    stream,
                    from: at,
                    to: target.sequence,
                });
            }
        }
        self.retry_parked().await?;
        self.seen = ParkedInBoth::read::<P>(&mut live, &mut self.connection, &self.schema).await?;
        let parked = self.seen.keys();
        let stop = self.stop.clone();
        let mut sides = Sides {
            live: &mut live,
            shadow: &mut self.connection,
            schema: &self.schema,
            parked: &parked,
        };
        let compared = tokio::select! {
            compared = compare::<P>(&mut sides, on_step) => compared?,
            () = stop.cancelled() => return Err(RebuildError::Stopped),
        };
        live.close().await?;
        crash::point("rebuild.compared");
        Ok(compared)
    }

    /// Removes what was built, and releases the lock.
    pub async fn drop(self) -> Result<(), RebuildError> {
        let Self {
            database,
            connection,
            schema,
            ..
        } = self;
        // A question may have been cut off on the other one, or the server has ended it.
        if let Err(error) = connection.close_hard().await {
            tracing::debug!(%error, "the session has ended already");
        }
        let mut connection = again::<P>(database).await?;
        shadow::drop(&mut connection, &schema).await?;
        connection.close().await?;
        Ok(())
    }

    /// Lets the lock go, and leaves what was built.
    pub async fn keep(self) -> Result<(), RebuildError> {
        self.connection.close().await?;
        Ok(())
    }
}

/// Opens the session again: the server may not have ended the last one yet.
async fn again<P: Projector>(database: &PgConnectOptions) -> Result<PgConnection, RebuildError> {
    for _ in 0..50 {
        match open::<P>(database).await {
            Err(RebuildError::Busy { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            opened => return opened,
        }
    }
    open::<P>(database).await
}

/// How far each stream is applied in the live tables, as this session sees them.
pub(crate) async fn targets<P: Projector>(
    connection: &mut PgConnection,
    projector: &P,
    bus: &Bus,
) -> Result<Vec<Target>, RebuildError> {
    loop {
        let streams = Streams::list(connection, projector, bus).await?;
        if let Some(places) = streams.places::<P>(connection).await? {
            return Ok(places);
        }
    }
}

/// The streams of a projection, as they were before anybody had to wait for an answer of the bus.
pub(crate) struct Streams {
    /// Each with its last message.
    pub(crate) streams: Vec<Stream>,
    /// Sources whose streams are gone: the live tables have applied something of them.
    gone: Vec<Source>,
}

/// A stream as it was.
pub(crate) struct Stream {
    pub(crate) source: Source,
    created: DateTime<Utc>,
    last: u64,
    /// Whether it is the one that the live checkpoint is of, and has what was applied.
    follows: bool,
}

impl Streams {
    pub(crate) async fn list<P: Projector>(
        connection: &mut PgConnection,
        projector: &P,
        bus: &Bus,
    ) -> Result<Self, RebuildError> {
        let live = live_checkpoints(connection, P::NAME).await?;
        let mut found = Vec::new();
        for (source, created, last) in streams(projector, bus).await? {
            let checkpoint = live.iter().find(|(of, _)| *of == source);
            let follows = checkpoint
                .is_none_or(|(_, at)| at.stream_created_at == created && at.last_sequence <= last);
            found.push(Stream {
                source,
                created,
                last,
                follows,
            });
        }
        let mut gone: Vec<Source> = live.into_iter().map(|(source, _)| source).collect();
        gone.retain(|source| !found.iter().any(|stream| stream.source == *source));
        Ok(Self {
            streams: found,
            gone,
        })
    }

    /// How far each is applied in the live tables now. A stream that is not the one that the live
    /// checkpoint is of, or ends before it, is applied to its end. None: there is another stream since.
    pub(crate) async fn places<P: Projector>(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<Vec<Target>>, RebuildError> {
        let live = live_checkpoints(connection, P::NAME).await?;
        let known = |source: &Source| {
            let here = self.streams.iter().any(|stream| stream.source == *source);
            here || self.gone.contains(source)
        };
        if live.iter().any(|(source, _)| !known(source)) {
            return Ok(None);
        }
        let places = self.streams.iter().map(|stream| {
            let checkpoint = live.iter().find(|(of, _)| *of == stream.source);
            let sequence = match checkpoint {
                None => 0,
                Some((_, at)) if stream.follows && at.stream_created_at == stream.created => {
                    at.last_sequence
                }
                Some(_) => stream.last,
            };
            Target {
                source: stream.source.clone(),
                sequence,
            }
        });
        Ok(Some(places.collect()))
    }
}

/// The streams that a projection reads: when each was created, and its last message.
pub(crate) async fn streams<P: Projector>(
    projector: &P,
    bus: &Bus,
) -> Result<Vec<(Source, DateTime<Utc>, u64)>, RebuildError> {
    let mut sources = workers::list(bus).await.map_err(WorkerError::from)?;
    sources.retain(|source| projector.reads(source));
    sources.sort();
    let mut streams = Vec::new();
    for source in sources {
        let info = bus.stream_info(&source.stream()).await;
        let info = info.map_err(WorkerError::from)?;
        let created = info.created.trunc_subsecs(6);
        streams.push((source, created, info.state.last_sequence));
    }
    Ok(streams)
}

/// Whether what was built is of the streams that there are now.
async fn of_these_streams<P: Projector>(
    connection: &mut PgConnection,
    projector: &P,
    bus: &Bus,
) -> Result<bool, RebuildError> {
    for (source, created, last) in streams(projector, bus).await? {
        let at = checkpoint::load(connection, P::NAME, &source.stream()).await?;
        let fits = at.is_none_or(|at| at.stream_created_at == created && at.last_sequence <= last);
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}
