//! A source against its stream for as long as the relay runs: the same pass, which never ends.
//! What it finds is logged, counted in [`super::proven`], and told in the admin module's outbox.
//! It works a quarter of the time at most, so that the relay is not slowed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use artstore_producers::outbox::{self, OutboxInsert};
use artstore_producers::progress::Progress;
use artstore_producers::rows;
use artstore_schemas::actor::Actor;
use artstore_schemas::bus::Bus;
use artstore_schemas::source::Source;
use artstore_sessions::progress::Stage;
use artstore_sessions::retry::Retry;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::watch;
use uuid::Uuid;

use super::candidates::MOST;
use super::finding::Finding;
use super::pass::{NewDecision, Pass, State};
use super::proven::Proven;
use super::reader::Reader;
use super::{settle, source};

/// How many messages are taken at once.
const BATCH: usize = 500;

/// After so much work comes three times as much rest.
const REST: u32 = 3;

/// The longest rest, and the longest wait for a message.
const PAUSE: Duration = Duration::from_secs(1);

/// How often findings are looked at again: a command may have mended them.
const AGAIN: Duration = Duration::from_secs(30);

/// How often the table is read for rows without a position.
const WHOLE_TABLE: Duration = Duration::from_secs(3_600);

/// The most events about one kind of finding at a time.
const EVENTS: usize = 100;

/// The namespace of the events' ids: the same finding is told of once.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_4b4e_9d57_4c1b_8a53_0d2c_5c3c_71aa);

/// A check that goes on and on.
pub struct Continuous {
    /// The bus.
    pub bus: Bus,
    /// The source.
    pub source: Source,
    /// Its database.
    pub database: PgConnectOptions,
    /// The admin module's database, where findings are told of.
    pub admin: Option<PgConnectOptions>,
    /// The relay beside it: while that one stands by, another process checks.
    pub relay: Progress,
    /// What it knows.
    pub proven: Proven,
}

impl Continuous {
    /// Checks until it is asked to stop. An error begins the pass anew.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut retry = Retry::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut told = HashSet::new();
        loop {
            let ended = tokio::select! {
                ended = self.session(&mut told) => ended,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match ended {
                Ok(()) => retry.succeeded(),
                Err(error) if error.is::<NewDecision>() => {
                    tracing::info!(source = %self.source, "{error:#}");
                }
                Err(error) => {
                    let text = format!("{error:#}");
                    tracing::warn!(source = %self.source, error = text, "the check begins anew");
                    self.proven.update(|state| state.problem = Some(text));
                }
            }
            tokio::select! {
                _ = retry.wait() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// From the beginning of the stream until it is another one, or this relay is not the active
    /// one any more.
    async fn session(&self, told: &mut HashSet<Uuid>) -> anyhow::Result<()> {
        while !self.is_ours() {
            self.proven.update(|state| *state = Default::default());
            tokio::time::sleep(PAUSE).await;
        }
        let name = format!("artstore verify {}", self.source);
        let mut connection = self
            .database
            .clone()
            .application_name(&name)
            .options([("default_transaction_read_only", "on")])
            .log_statements(tracing::log::LevelFilter::Trace)
            .connect()
            .await?;
        let stream = self.source.stream();
        let created = self.bus.stream_info(&stream).await?.created;
        let mut pass = source::begin(&self.bus, &self.source, State::default()).await?;
        let mut reader = Reader::new(&self.bus, &self.source, 0);
        let mut looked: Option<Instant> = None;
        let mut whole_table: Option<Instant> = None;
        let mut counts = pass.state.candidates.counts();
        loop {
            let batch = reader.batch(BATCH, PAUSE).await?;
            let begun = Instant::now();
            let caught_up = batch.len() < BATCH;
            pass.messages(&mut connection, &batch).await?;
            if caught_up {
                pass.rows_up_to(&mut connection, pass.state.links.highest())
                    .await?;
            } else {
                pass.rows_behind(&mut connection).await?;
            }
            if batch.is_empty() {
                let info = self.bus.stream_info(&stream).await?;
                let other =
                    info.created != created || info.state.last_sequence < pass.state.links.last;
                if other || !self.is_ours() {
                    return Ok(());
                }
                let behind = info.state.last_sequence > pass.state.links.last;
                if behind && reader.nothing_left().await? {
                    pass.end(info.state.last_sequence);
                }
            }
            if caught_up && whole_table.is_none_or(|at| at.elapsed() >= WHOLE_TABLE) {
                unnumbered(&mut pass, &mut connection).await?;
                whole_table = Some(Instant::now());
            }
            let now = pass.state.candidates.counts();
            let again = !now.is_empty() && looked.is_none_or(|at| at.elapsed() >= AGAIN);
            if now != counts || again {
                pass.state.candidates = settle::settle(&pass, &mut connection, &self.bus).await?;
                counts = pass.state.candidates.counts();
                looked = Some(Instant::now());
                self.tell(&pass, told).await;
            }
            self.proven.update(|state| {
                state.position = Some(pass.proven());
                state.sequence = pass.state.links.last;
                state.findings = counts.clone();
                state.problem = None;
            });
            if !batch.is_empty() {
                tokio::time::sleep((begun.elapsed() * REST).min(PAUSE)).await;
            }
        }
    }

    /// Whether this process is the one to check: it has the relay's lock, or nobody is known to.
    fn is_ours(&self) -> bool {
        self.relay.read().stage != Stage::StandingBy
    }

    /// Logs what is new, and writes it into the admin module's outbox.
    async fn tell(&self, pass: &Pass, told: &mut HashSet<Uuid>) {
        let mut new: Vec<(Uuid, Finding)> = Vec::new();
        for (kind, count) in pass.state.candidates.counts() {
            let before = new.len();
            for candidate in pass.state.candidates.of(kind) {
                // The rest is told of next time.
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
                if told.insert(id) {
                    new.push((id, finding));
                }
            }
            if let Some((_, finding)) = new.iter().rev().find(|(_, f)| f.kind == kind) {
                tracing::error!(
                    source = %self.source,
                    %kind,
                    count,
                    sequence = finding.sequence,
                    position = finding.position,
                    event = finding.id.map(|id| id.to_string()),
                    mend = finding.mend,
                    "{}; `artstore verify --source {}` lists all",
                    finding.detail,
                    self.source
                );
            }
        }
        let Some(admin) = self.admin.as_ref().filter(|_| !new.is_empty()) else {
            return;
        };
        if let Err(error) = publish(admin, &self.source, &new).await {
            // The log and the metric have it; the next finding tries again.
            tracing::warn!(
                source = %self.source,
                error = format!("{error:#}"),
                "the finding was not recorded in the admin module's outbox; the relay's role needs \
                 the right to insert there (artstore migrate grant --for publisher)"
            );
            for (id, _) in &new {
                told.remove(id);
            }
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
    let mut connection = admin
        .clone()
        .application_name("artstore verify")
        .log_statements(tracing::log::LevelFilter::Trace)
        .connect()
        .await?;
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
