//! Waiting for the election: on standby a relay watches whether the active one makes progress.

use std::time::{Duration, Instant};

use artstore_runtime::progress::{Problem, Stage};
use artstore_runtime::pulse::{self, kept_alive, within};
use sqlx::PgConnection;

use crate::relay::election::{self, Lease};
use crate::relay::progress::RelayState;
use crate::relay::relay_error::RelayError;
use crate::relay::resume_state;
use crate::relay::rows;
use crate::relay::source_relay::{NO_CONNECTION, SourceRelay};

/// How often a standby relay checks whether the active one makes progress.
const LOOK: Duration = Duration::from_secs(2);

/// How long the stream's end may take to be read for that.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

impl SourceRelay {
    pub(crate) async fn elect(&self) -> Result<Lease, RelayError> {
        let Self {
            options, progress, ..
        } = self;
        let source = &options.source;
        let mut connection =
            election::connect(&options.database, "artstore relay (election)").await?;
        let mut lock = election::lock_of(source);
        let mut logged = false;
        let mut waiting = Waiting::of(&progress.read());
        let lease = loop {
            // Another relay may have a connection.
            if self.bus.lost_for().is_some() {
                self.waits_for_nats(&mut connection).await?;
                continue;
            }
            let asked = Instant::now();
            let locked = lock.try_lock(&mut connection);
            if let Some(held) = within(pulse::ANSWER, locked).await? {
                break Lease::held(connection, lock, held, asked);
            }
            if !std::mem::replace(&mut logged, true) {
                let holder = election::holder(&mut connection, source);
                let holder = within(pulse::ANSWER, holder).await?;
                let holder = holder.map_or_else(String::new, |holder| holder.to_string());
                tracing::info!(%source, holder, "standby: another relay is active");
            }
            let waiting = waiting.look(self, &mut connection).await?;
            progress.update(|state| {
                state.stage = Stage::Standby;
                state.other_holder_seen = Some(Instant::now());
                state.waiting = waiting;
                state.backlog.caught_up = None;
                state.problem = None;
            });
            tokio::time::sleep(election::HEARTBEAT / 2).await;
        };
        progress.update(|state| {
            state.stage = Stage::Active;
            state.active_since = Some(Instant::now());
        });
        Ok(lease)
    }

    /// Waits a moment while there is no connection to NATS.
    async fn waits_for_nats(&self, connection: &mut PgConnection) -> Result<(), RelayError> {
        pulse::ask(connection).await?;
        self.progress.update(|state| {
            state.stage = Stage::Starting;
            state.problem = Some(Problem {
                text: NO_CONNECTION.to_owned(),
                halted: false,
            });
        });
        tokio::time::sleep(election::HEARTBEAT / 2).await;
        Ok(())
    }
}

/// What a standby relay knows of the one that has the lock: whether rows wait that nobody
/// publishes. Any session can hold the lock, and be no relay.
struct Waiting {
    looked: Option<Instant>,
    /// The stream's end.
    end: u64,
    /// Since when it has not moved while rows wait.
    since: Option<Instant>,
}

impl Waiting {
    /// What a relay knows that had the lock until now.
    fn of(state: &RelayState) -> Self {
        Self {
            looked: None,
            end: state.sequence,
            since: state.waiting,
        }
    }

    /// Since when rows have been waiting with nothing published: read at most every [`LOOK`]. Where NATS does
    /// not answer, the last answer stays.
    async fn look(
        &mut self,
        relay: &SourceRelay,
        connection: &mut PgConnection,
    ) -> Result<Option<Instant>, RelayError> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            let read = resume_state::read(&relay.bus, &relay.options.source);
            let read = tokio::time::timeout(LOOK_PATIENCE, read);
            if let Ok(Ok(resume_state)) = kept_alive(connection, read).await? {
                let high_water_mark = resume_state.seen_positions.high_water_mark();
                let wait = rows::any_above(connection, &relay.table, high_water_mark);
                let wait = within(pulse::ANSWER, wait).await?;
                let known = self.since.filter(|_| self.end == resume_state.sequence);
                self.end = resume_state.sequence;
                self.since = wait.then(|| known.unwrap_or_else(Instant::now));
            }
        }
        Ok(self.since)
    }
}
