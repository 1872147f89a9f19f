//! Asking running processes: one question on core NATS for each source and projection, and as many
//! answers as there are processes.

use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_schemas::source::{Source, projection_status_subject};
use async_nats::{Message, StatusCode};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::service::answer::{ProjectorAnswer, RelayAnswer};

/// Processes answer within milliseconds; how many there are nobody knows.
const COLLECT: Duration = Duration::from_millis(500);

/// Where somebody listens and nothing has come yet, it is waited for a little longer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What processes reported.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Relays, in no order.
    pub relays: Vec<RelayAnswer>,
    /// Projectors, in no order.
    pub projectors: Vec<ProjectorAnswer>,
}

impl Answers {
    /// What the relays of a source reported, by process.
    pub(crate) fn of_source(&self, source: &Source) -> Vec<RelayAnswer> {
        let name = source.to_string();
        let mut relays = self.relays.clone();
        relays.retain(|relay| relay.source == name);
        relays.sort_by(|a, b| a.process.cmp(&b.process));
        relays
    }
}

/// Asks the relays of these sources and the processes of these projections, all at once.
pub async fn ask(bus: &Bus, sources: &[Source], projections: &[&str]) -> Result<Answers, BusError> {
    let failed = |error: &dyn std::fmt::Display| BusError::JetStream(error.to_string());
    let client = &bus.client;
    // An inbox each: a server's word that nobody listens carries nothing else.
    let inbox = client.new_inbox();
    let mut replies = client
        .subscribe(format!("{inbox}.*"))
        .await
        .map_err(|e| failed(&e))?;
    let relays = sources.iter().map(Source::status_subject);
    let projectors = projections.iter().map(|p| projection_status_subject(p));
    let subjects: Vec<String> = relays.chain(projectors).collect();
    let mut refusals = bus.refusals.watch();
    let is_its = |refused: &str| subjects.iter().any(|subject| subject == refused);
    for (index, subject) in subjects.iter().enumerate() {
        let asked =
            client.publish_with_reply(subject.clone(), format!("{inbox}.{index}"), "".into());
        asked.await.map_err(|e| failed(&e))?;
    }
    client.flush().await.map_err(|e| failed(&e))?;
    let asked = Instant::now();
    let mut heard = vec![false; subjects.len()];
    let mut answers = Answers::default();
    let (mut silent, mut until) = (0, asked + COLLECT);
    loop {
        let reply = tokio::select! {
            refusal = refusals.refused(is_its) => return Err(refusal.into()),
            reply = timeout_at(until, replies.next()) => reply,
        };
        let reply = match reply {
            Ok(Some(reply)) => reply,
            Ok(None) => break,
            Err(_) if until < asked + PATIENCE && heard.contains(&false) => {
                until = asked + PATIENCE;
                continue;
            }
            Err(_) => break,
        };
        let index = reply.subject.rsplit('.').next();
        let index = index.and_then(|index| index.parse::<usize>().ok());
        let Some(index) = index.filter(|index| *index < subjects.len()) else {
            continue;
        };
        heard[index] = true;
        if reply.status == Some(StatusCode::NO_RESPONDERS) {
            silent += 1;
            if silent == subjects.len() {
                break;
            }
            continue;
        }
        read(&mut answers, &reply, index < sources.len());
    }
    Ok(answers)
}

fn read(answers: &mut Answers, reply: &Message, from_relay: bool) {
    let read = if from_relay {
        serde_json::from_slice(&reply.payload).map(|answer| answers.relays.push(answer))
    } else {
        serde_json::from_slice(&reply.payload).map(|answer| answers.projectors.push(answer))
    };
    if let Err(error) = read {
        tracing::warn!(%error, "a process' answer can't be read: is it of another version?");
    }
}
