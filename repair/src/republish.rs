//! Repair of a damaged stream. The command shows the damage, and after an operator's decision records it
//! (`artstore_schemas::damage`). What the stream lacks is then published again at its end: every row
//! whose message is gone or does not count, and the present state of the files that such messages
//! were about. Nothing is rewritten. A second run recognises each finished step: it resumes where the
//! first one was interrupted.

use artstore_runtime::count::{by, counted};
use std::collections::BTreeSet;

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use artstore_schemas::damage::{DamageAccepted, damage_accepted};
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::ranges::{Range, Ranges};
use artstore_schemas::size::{MAX_BATCH_BYTES, MAX_BATCH_MESSAGES};
use artstore_schemas::source::Source;
use chrono::Utc;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use crate::operator_command::{self, OperatorDecision, Publisher, RepairError};
use artstore_producers::publish::file_row;
use artstore_producers::relay::RelayOptions;
use artstore_producers::relay::prune_mark;
use artstore_producers::relay::publish::Outgoing;
use artstore_producers::relay::source::{RowRef, SourceTable};
use artstore_producers::relay::translate::Translator;
use artstore_verification::stream::scan::{self, MOST_LISTED, StreamScan};

/// The most bytes of a record's facts: far below what a message may have.
const MOST_BYTES: usize = 512 * 1024;

/// The most rows that are read at a time.
const CHUNK: i64 = 200;

/// What a stream lacks, and has to be published again.
#[derive(Debug)]
pub struct RepublishPlan {
    /// What was found.
    pub scan: StreamScan,
    /// Positions of rows that the stream counts as published, without a message that counts.
    pub rows: Ranges,
    /// Those rows; the first [`MOST_LISTED`].
    pub listed: Vec<RowRef>,
    /// Positions of pruned rows, and aborted positions, without a message that
    /// counts: nobody can publish those again.
    pub pruned: Ranges,
}

impl RepublishPlan {
    /// Whether nothing is to be done.
    pub fn is_nothing(&self) -> bool {
        self.scan.damaged_ranges.is_empty()
            && self.rows.is_empty()
            && self.scan.unclear_files.is_empty()
    }
}

/// Reads the whole stream and compares it with the source. Changes nothing.
pub async fn examine(bus: &Bus, options: &RelayOptions) -> Result<RepublishPlan, RepairError> {
    let name = format!("artstore republish {}", options.source);
    let mut connection = operator_command::connect(options, &name).await?;
    let translator = operator_command::translator(bus, options, &mut connection).await?;
    examine_with(bus, &translator, &mut connection).await
}

async fn examine_with(
    bus: &Bus,
    translator: &Translator,
    connection: &mut PgConnection,
) -> Result<RepublishPlan, RepairError> {
    let source = translator.source();
    let scan = scan::scan(bus, translator, connection, true).await?;
    let seen_positions = &scan.resume_state.seen_positions;
    let other = |problem: String| RepairError::OtherSource {
        source_name: source.to_string(),
        problem,
    };
    if let Some(identity) = scan
        .resume_state
        .identity
        .as_ref()
        .filter(|i| **i != scan.identity)
    {
        return Err(other(format!(
            "the stream was written from {identity}, this is {}",
            scan.identity
        )));
    }
    if scan.lost_count > 0 {
        return Err(other(format!(
            "{} {} no row in it",
            counted(scan.lost_count, "message"),
            by(scan.lost_count, "has", "have")
        )));
    }
    let published = Ranges::from_iter([Range {
        first: 1,
        last: seen_positions.high_water_mark(),
    }]);
    let mut wanted: Vec<Range> = match seen_positions.high_water_mark() {
        0 => Vec::new(),
        _ => published
            .minus(&scan.agreed)
            .minus(&seen_positions.gaps())
            .as_slice()
            .to_vec(),
    };
    let table = SourceTable::of(source);
    let (mut rows, mut listed) = (Ranges::default(), Vec::new());
    while !wanted.is_empty() {
        let found = table.ids(connection, &wanted, 10_000).await?;
        let Some(last) = found.last().map(|row| row.position) else {
            break;
        };
        for row in found {
            rows.insert(row.position);
            if listed.len() < MOST_LISTED {
                listed.push(row);
            }
        }
        wanted.retain(|range| range.last > last);
        if let Some(first) = wanted.first_mut() {
            first.first = first.first.max(last + 1);
        }
    }
    let prune_mark = prune_mark::read(connection, &table).await?;
    let accounted_for = scan.agreed.union(&seen_positions.gaps()).union(&rows);
    let pruned = prune_mark::below(prune_mark).minus(&accounted_for);
    Ok(RepublishPlan {
        pruned,
        scan,
        rows,
        listed,
    })
}

/// Repairs the stream. Returns what was found, and how many messages were published.
pub async fn republish(
    bus: &Bus,
    options: &RelayOptions,
    decision: &OperatorDecision,
) -> Result<(RepublishPlan, u64), RepairError> {
    let name = format!("artstore republish {}", options.source);
    let lease = operator_command::lock(bus, options, &name).await?;
    let mut connection = operator_command::connect(options, &name).await?;
    let translator = operator_command::translator(bus, options, &mut connection).await?;
    let plan = examine_with(bus, &translator, &mut connection).await?;
    let begun = plan.scan.resume_state.sequence;
    let mut publisher = Publisher {
        bus,
        lease: &lease,
        translator: &translator,
        resume_state: plan.scan.resume_state.clone(),
        identity: plan.scan.identity.clone(),
    };
    if !plan.scan.damaged_ranges.is_empty() {
        let facts = facts(&plan, decision);
        let facts = serde_json::to_value(facts).expect("facts have only texts as keys");
        let bytes = facts.to_string().len();
        if bytes > MOST_BYTES {
            let (stream, most) = (options.source.stream(), MOST_BYTES);
            return Err(RepairError::TooManyRanges {
                stream,
                bytes,
                most,
            });
        }
        // Nobody knows the content of lost messages without a row: the relay compares every file.
        publisher.resume_state.backfill_due |=
            plan.scan.new_holes && matches!(options.source, Source::Element(_));
        crash::point("republish.recording");
        publisher
            .record(damage_accepted(), decision.actor.clone(), facts)
            .await?;
        crash::point("republish.recorded");
    }
    let mut unclear = plan.scan.unclear_files.clone();
    rows(&mut publisher, &mut connection, &plan.rows, &mut unclear).await?;
    if let Source::Element(_) = options.source {
        states(&mut publisher, &mut connection, &unclear).await?;
    }
    let published = publisher.resume_state.sequence - begun;
    lease.release(&options.source).await?;
    Ok((plan, published))
}

fn facts(plan: &RepublishPlan, decision: &OperatorDecision) -> DamageAccepted {
    let mut damage = plan.scan.damage.clone();
    // For a reader at a message that no longer counts, this one does not follow.
    if plan.scan.end_ignored {
        damage.add_break(plan.scan.resume_state.sequence + 1);
    }
    DamageAccepted {
        damage,
        rows: u64::try_from(plan.rows.positions()).unwrap_or(0),
        files: plan.scan.unclear_files.len() as u64,
        reason: decision.reason.clone(),
        accepted_by: decision.by.clone(),
    }
}

/// Publishes rows again, with the present state of their files.
async fn rows(
    publisher: &mut Publisher<'_>,
    connection: &mut PgConnection,
    positions: &Ranges,
    unclear: &mut BTreeSet<Uuid>,
) -> Result<(), RepairError> {
    let table = SourceTable::of(publisher.translator.source());
    let mut wanted = positions.as_slice().to_vec();
    while !wanted.is_empty() {
        let found = table.present_rows(connection, &wanted, CHUNK).await?;
        let Some(last) = found.last().map(|row| row.position) else {
            break;
        };
        let mut batch = Batch::default();
        for row in found {
            let event = publisher.translator.translate(row);
            if let Some(file) = &event.key {
                unclear.remove(file);
            }
            let envelope = Envelope {
                subject: event.subject,
                time: event.time,
                traceparent: event.traceparent,
                position: event.position,
                snapshot: Some(Snapshot::Republish),
                ..publisher.envelope(event.id, event.event_type)
            };
            batch
                .add(publisher, envelope, event.key, event.body)
                .await?;
        }
        batch.send(publisher).await?;
        crash::point("republish.rows");
        wanted.retain(|range| range.last > last);
        if let Some(first) = wanted.first_mut() {
            first.first = first.first.max(last + 1);
        }
    }
    Ok(())
}

/// Publishes the present states of files.
async fn states(
    publisher: &mut Publisher<'_>,
    connection: &mut PgConnection,
    files: &BTreeSet<Uuid>,
) -> Result<(), RepairError> {
    let source = publisher.translator.source();
    let table = SourceTable::of(source);
    let sql = format!(
        "select {} from public.{source}_files where file_id = $1",
        file_row::shown_columns(table.texts(connection).await?)
    );
    let mut batch = Batch::default();
    for file_id in files {
        let row = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(file_id)
            .fetch_optional(&mut *connection)
            .await?;
        let (mut file, mut large) = (None, Vec::new());
        if let Some(row) = row {
            large = file_row::large(&row)?;
            file = Some(file_row::read_joined(&row, row.try_get("file_id")?)?);
        }
        let id = Uuid::new_v4();
        let translator = &publisher.translator;
        let snapshot = translator.snapshot(id, *file_id, file, large, Utc::now());
        let envelope = Envelope {
            subject: snapshot.subject,
            time: snapshot.time,
            snapshot: snapshot.snapshot,
            ..publisher.envelope(id, snapshot.event_type)
        };
        batch
            .add(publisher, envelope, snapshot.key, snapshot.body)
            .await?;
    }
    batch.send(publisher).await?;
    crash::point("republish.states");
    Ok(())
}

/// Messages that are stored together.
#[derive(Default)]
struct Batch {
    messages: Vec<Outgoing>,
    bytes: usize,
}

impl Batch {
    async fn add(
        &mut self,
        publisher: &mut Publisher<'_>,
        envelope: Envelope,
        key: Option<Uuid>,
        body: bytes::Bytes,
    ) -> Result<(), RepairError> {
        let sequence = publisher.resume_state.sequence + self.messages.len() as u64 + 1;
        // The server may still remember the first message with this id.
        let message_id = format!("{}/{sequence}", envelope.id);
        let id = envelope.id;
        let message = publisher.outgoing(envelope, key, body, Some(message_id));
        let size = message.size();
        if self.messages.len() >= MAX_BATCH_MESSAGES || self.bytes + size > MAX_BATCH_BYTES {
            self.send(publisher).await?;
        }
        publisher.resume_state.last_id = Some(id);
        self.bytes += size;
        self.messages.push(message);
        Ok(())
    }

    async fn send(&mut self, publisher: &mut Publisher<'_>) -> Result<(), RepairError> {
        self.bytes = 0;
        if self.messages.is_empty() {
            return Ok(());
        }
        publisher.publish(std::mem::take(&mut self.messages)).await
    }
}
