//! A source compared with its stream for as long as the relay runs: the same pass, which never ends.
//! Findings are logged, counted in [`super::proven`], and reported in the admin module's outbox.
//! It works a quarter of the time at most, so that the relay is not slowed.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use artstore_bus::connection::Bus;
use artstore_producers::publish::outbox::{self, OutboxInsert};
use artstore_producers::relay::progress::RelayProgress;
use artstore_producers::relay::rows;
use artstore_runtime::connection;
use artstore_runtime::progress::Stage;
use artstore_runtime::pulse::Pulse;
use artstore_runtime::retry::Retry;
use artstore_schemas::actor::Actor;
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::time::timeout;
use uuid::Uuid;

use super::candidates::MOST;
use super::finding::{Finding, Kind};
use super::pass::{NewDecision, Pass, State};
use super::proven::Proven;
use super::reader::Reader;
use super::{settle, source};
use artstore_bus::message::Message;
use tokio_util::sync::CancellationToken;

/// How many messages are taken at once.
const BATCH: usize = 500;

/// After so much work comes three times as much rest.
const REST: u32 = 3;

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The longest wait for a message.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a server may be silent. A whole table is read in that time.
const SILENCE: Duration = Duration::from_secs(600);

/// How long the admin module's database may take for a few rows.
const TELLING: Duration = Duration::from_secs(30);

/// How often what is known is put aside, for the time after an error.
const KEEP: Duration = Duration::from_secs(60);

/// How often what is new is checked again, at most.
const SOON: Duration = Duration::from_secs(2);

/// How often findings are checked again: a command may have repaired them.
const AGAIN: Duration = Duration::from_secs(30);

/// How often the table is read for rows without a position.
const WHOLE_TABLE: Duration = Duration::from_secs(3_600);

/// The most events about one kind of finding at a time.
const EVENTS: usize = 100;

/// The namespace of the events' ids: the same finding is reported once.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_4b4e_9d57_4c1b_8a53_0d2c_5c3c_71aa);

/// What outlives an error.
#[derive(Default)]
struct Known {
    told: Told,
    stream: Option<Kept>,
}

/// Findings that were reported.
#[derive(Default)]
struct Told {
    logged: HashSet<Uuid>,
    recorded: HashSet<Uuid>,
    /// Whether it was logged that they can't be recorded.
    unrecorded: bool,
}

/// The state of a pass.
struct Kept {
    created: DateTime<Utc>,
    state: State,
}

/// From one error to the next.
struct Session {
    created: DateTime<Utc>,
    /// The stream's last sequence when it began.
    end: u64,
    connection: PgConnection,
    reader: Reader,
    pass: Pass,
    /// How many findings of each kind there were when they were checked.
    counts: BTreeMap<Kind, u64>,
    looked: Option<Instant>,
    whole_table: Option<Instant>,
    kept: Instant,
}

/// A check that runs without end.
pub struct Continuous {
    /// The bus.
    pub bus: Bus,
    /// The source.
    pub source: Source,
    /// Its database.
    pub database: PgConnectOptions,
    /// The admin module's database, where findings are reported.
    pub admin: Option<PgConnectOptions>,
    /// The relay beside it: while that one is a standby, another process checks.
    pub relay: RelayProgress,
    /// What it knows.
    pub proven: Proven,
}

impl Continuous {
    /// Checks until it is asked to stop. After an error it continues from what it knew lately.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = Retry::new(Duration::from_secs(1), Duration::from_secs(5));
        let pulse = Pulse::of(self.database.clone(), "artstore verify (pulse)");
        let mut known = Known::default();
        loop {
            let ended = tokio::select! {
                ended = pulse.while_answered(self.session(&mut known)) => ended,
                () = stop.cancelled() => return,
            };
            match ended {
                Ok(()) => retry.succeeded(),
                Err(error) if error.is::<NewDecision>() => {
                    tracing::info!(source = %self.source, "{error:#}");
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    if self.proven.read().problem.as_ref() != Some(&text) {
                        tracing::warn!(source = %self.source, error = text, "the check is tried again");
                    }
                    self.proven.update(|state| state.problem = Some(text));
                }
            }
            tokio::select! {
                _ = retry.wait() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// From where it is known until the stream is another one, or this relay is not the active one
    /// any more.
    async fn session(&self, known: &mut Known) -> anyhow::Result<()> {
        while !self.is_ours() {
            self.proven.update(|state| *state = Default::default());
            known.stream = None;
            tokio::time::sleep(PAUSE).await;
        }
        let mut session = timeout(SILENCE, self.begin(known)).await??;
        loop {
            let batch = timeout(SILENCE, session.reader.batch(BATCH, PAUSE)).await??;
            let begun = Instant::now();
            let goes_on = timeout(SILENCE, self.step(&mut session, known, &batch)).await??;
            if !goes_on || !self.is_ours() {
                return Ok(());
            }
            if !batch.is_empty() {
                tokio::time::sleep((begun.elapsed() * REST).min(LONGEST_REST)).await;
            }
        }
    }

    async fn begin(&self, known: &mut Known) -> anyhow::Result<Session> {
        let name = format!("artstore verify {}", self.source);
        let database = self
            .database
            .clone()
            .application_name(&name)
            .log_statements(tracing::log::LevelFilter::Trace);
        let mut connection = connection::open_read_only(&database).await?;
        let info = self.bus.stream_info(&self.source.stream()).await?;
        let created = info.created;
        let kept = known.stream.as_ref().filter(|kept| kept.created == created);
        let state = kept.map(|kept| kept.state.clone()).unwrap_or_default();
        let mut pass = source::begin(&self.bus, &self.source, state).await?;
        pass.begin_prune_mark(&mut connection).await?;
        Ok(Session {
            created,
            end: info.state.last_sequence,
            reader: Reader::new(&self.bus, &self.source, pass.state.links.last),
            counts: pass.state.candidates.counts(),
            pass,
            connection,
            looked: None,
            whole_table: None,
            kept: Instant::now(),
        })
    }

    /// Takes a batch. False: the stream is another one.
    async fn step(
        &self,
        session: &mut Session,
        known: &mut Known,
        batch: &[Message],
    ) -> anyhow::Result<bool> {
        let Session {
            pass,
            connection,
            reader,
            ..
        } = session;
        let caught_up = batch.len() < BATCH;
        pass.messages(connection, batch).await?;
        if caught_up {
            let highest = pass.state.links.highest();
            pass.rows_up_to(connection, highest).await?;
        } else {
            pass.rows_behind(connection).await?;
        }
        if batch.is_empty() {
            let info = self.bus.stream_info(&self.source.stream()).await?;
            let last = pass.state.links.last;
            if info.created != session.created || info.state.last_sequence < last {
                return Ok(false);
            }
            if info.state.last_sequence > last && reader.nothing_left().await? {
                pass.end(info.state.last_sequence);
            }
        }
        // Everything has been read that was in the stream when it was taken down what was pruned.
        if caught_up && pass.state.links.last >= session.end {
            pass.lost_pruned();
        }
        let past = |at: Option<Instant>, time| at.is_none_or(|at| at.elapsed() >= time);
        if caught_up && past(session.whole_table, WHOLE_TABLE) {
            unnumbered(pass, connection).await?;
            session.whole_table = Some(Instant::now());
        }
        let now = pass.state.candidates.counts();
        let due = match now == session.counts {
            true => !now.is_empty() && past(session.looked, AGAIN),
            false => past(session.looked, SOON),
        };
        if due {
            pass.state.candidates = settle::settle(pass, connection, &self.bus).await?;
            session.counts = pass.state.candidates.counts();
            session.looked = Some(Instant::now());
            self.tell(pass, &mut known.told).await;
        }
        self.proven.update(|state| {
            state.position = Some(pass.proven());
            state.sequence = pass.state.links.last;
            state.findings = session.counts.clone();
            state.problem = None;
        });
        if known.stream.is_none() || session.kept.elapsed() >= KEEP {
            let (created, state) = (session.created, pass.state.clone());
            known.stream = Some(Kept { created, state });
            session.kept = Instant::now();
        }
        Ok(true)
    }

    /// Whether this process is the one to check: it has the relay's lock, or nobody is known to.
    fn is_ours(&self) -> bool {
        self.relay.read().stage != Stage::Standby
    }

    /// Logs what is new, and writes it into the admin module's outbox.
    async fn tell(&self, pass: &Pass, told: &mut Told) {
        let mut new: Vec<(Uuid, Finding)> = Vec::new();
        for (kind, count) in pass.state.candidates.counts() {
            let before = new.len();
            for candidate in pass.state.candidates.of(kind) {
                // The rest is reported next time.
                if new.len() - before >= EVENTS {
                    break;
                }
                let finding = settle::finding(pass, kind, candidate);
                let id = Uuid::new_v5(
                    &NAMESPACE,
                    format!(
                        "{}/{kind}/{:?}/{:?}/{:?}",
                        self.source, finding.id, finding.sequence, finding.position
                    )
                    .as_bytes(),
                );
                if !told.recorded.contains(&id) {
                    new.push((id, finding));
                }
            }
            let mut unlogged: Vec<&(Uuid, Finding)> = new[before..].iter().collect();
            unlogged.retain(|(id, _)| told.logged.insert(*id));
            if let Some((_, finding)) = unlogged.last() {
                tracing::error!(
                    source = %self.source,
                    %kind,
                    count,
                    sequence = finding.sequence,
                    position = finding.position,
                    event = finding.id.map(|id| id.to_string()),
                    repair = finding.repair,
                    "{}; `artstore verify --source {}` lists all",
                    finding.detail,
                    self.source
                );
            }
        }
        if new.is_empty() {
            return;
        }
        let ids = new.iter().map(|(id, _)| *id);
        let Some(admin) = &self.admin else {
            told.recorded.extend(ids);
            return;
        };
        let published = timeout(TELLING, publish(admin, &self.source, &new)).await;
        let Err(error) = published.map_err(anyhow::Error::from).flatten() else {
            told.recorded.extend(ids);
            told.unrecorded = false;
            return;
        };
        // The log and the metric have it; it is tried again.
        if !std::mem::replace(&mut told.unrecorded, true) {
            tracing::warn!(
                source = %self.source,
                error = format!("{error:#}"),
                "findings are not recorded in the admin module's outbox; the relay's role needs the right to \
                 insert there: `artstore migrate grant --role NAME --for publisher --module admin`"
            );
        }
    }
}

async fn unnumbered(pass: &mut Pass, connection: &mut PgConnection) -> anyhow::Result<()> {
    let (ids, count) = rows::unnumbered(connection, &pass.table, MOST).await?;
    source::add_unnumbered(&mut pass.state.candidates, ids, count);
    Ok(())
}

async fn publish(
    admin: &PgConnectOptions,
    source: &Source,
    findings: &[(Uuid, Finding)],
) -> anyhow::Result<()> {
    let admin = admin
        .clone()
        .application_name("artstore verify")
        .log_statements(tracing::log::LevelFilter::Trace);
    let mut connection = connection::open(&admin).await?;
    let actor = Actor::system().named("artstore verify");
    for (id, finding) in findings {
        let event = OutboxInsert {
            entity: "verification".to_owned(),
            action: "finding".to_owned(),
            ordering_key: None,
            subject: Some(source.to_string()),
            data: json!(finding),
            request_id: None,
            traceparent: None,
        };
        outbox::insert_once(&mut connection, *id, &actor, &event).await?;
    }
    Ok(())
}
