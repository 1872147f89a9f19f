//! The audit log: every message of every stream is one row, chained, in a Merkle tree, under signed
//! heads. In the order in which a row takes shape:
//!
//! - [`mapping`]: from a message to a row
//! - [`canonical`]: JSON as text that is the same everywhere
//! - [`row`]: the bytes that are signed
//! - [`chain`]: each signature covers the one before it
//! - [`tree`], [`tile`]: the tree over the rows, and how it is stored
//! - [`note`], [`head`]: what is signed of it
//! - `derived`: rows that no published head covers, compared with their messages
//! - `kids`: the secrets that rows were signed with
//! - `resume`: where a session continues, and why that may be signed
//! - `state`: the audit log in memory
//! - `session`: the log's end in memory from then on, and its heads on the bus
//! - `append`: all of that for one batch
//! - [`legacy`]: the product's own rows, below a boundary
//! - [`store`]: the database
//! - [`published`]: heads on the bus
//! - [`proof`]: a row's proof, checked offline
//!
//! `docs/audit-format.md` is the contract for other implementations.

pub(crate) mod append;
pub mod canonical;
pub mod chain;
mod derived;
pub mod head;
mod kids;
pub mod legacy;
pub mod mapping;
pub mod note;
pub mod proof;
pub mod published;
pub(crate) mod resume;
pub mod row;
mod session;
mod state;
pub mod store;
pub mod tile;
pub mod tree;

use std::sync::atomic::Ordering;

use artstore_bus::connection::Bus;
use artstore_bus::stream_name::AUDIT_HEADS;
use artstore_runtime::crash;
use artstore_runtime::pulse::kept_alive;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use sqlx::PgConnection;

use self::append::{Signers, append};
use self::mapping::{NEWEST, RawMessage, Record};
use self::session::{PutHead, forked, other_head};
pub use self::state::{AuditLog, Keys};
use crate::projection_names::AUDIT_LOG;
use crate::projector::{At, Projector, ReadMessage, Rejection};
use crate::projector_error::WorkerError;
use crate::runtime::checkpoint::{Advance, Checkpoint};

impl Projector for AuditLog {
    const NAME: &'static str = AUDIT_LOG;
    const VERSION: u32 = 1;
    const TABLES: &'static [&'static str] = &[
        "audit_logs",
        "audit_trees",
        "audit_tiles",
        "audit_heads",
        "audit_boundary",
    ];
    const MODULE: &'static str = "admin";
    const VARIABLE: &'static str = "ADMIN_DATABASE_URL";
    const DURABLE: bool = true;
    // What can't be read is a row as well.
    const PARKS: bool = false;

    type Message = Record;

    fn reads(&self, _source: &Source) -> bool {
        true
    }

    async fn begin(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        source: &Source,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), WorkerError> {
        let stream = source.stream();
        kept_alive(connection, self.limited(bus)).await?;
        let known = self.check(connection, bus, source, checkpoint).await?;
        self.known().insert(stream, known);
        Ok(())
    }

    async fn settle(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        source: &Source,
    ) -> Result<(), WorkerError> {
        let stream = source.stream();
        let end = self.head_of_all(connection, &stream).await?;
        // Each head might remove another one. Those that wait are published when the limit is gone.
        if self.heads_limited.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.publish(connection, bus, &stream, &end).await
    }

    async fn limited(&self, bus: &Bus) -> Option<String> {
        let limit = bus.limit(AUDIT_HEADS).await.ok()?;
        self.heads_limited.store(limit.is_some(), Ordering::Relaxed);
        limit
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Record],
    ) -> Result<(), Rejection> {
        let stream = source.stream();
        let Some(end) = self.end(transaction, &stream).await? else {
            return Err(beside(&stream));
        };
        let size = end.tip.size;
        let first = batch.first().map_or(0, |record| record.sequence);
        if first != size + 1 {
            return Err(Rejection::Halt(format!(
                "its log has {size} rows, but message {first} is next"
            )));
        }
        let rows = batch
            .iter()
            .map(|record| mapping::row(NEWEST, source, record).expect("the newest one is known"))
            .collect();
        let last = size + batch.len() as u64;
        let ahead = self.ahead(&stream, last);
        let signers = Signers {
            chain: self.keys.ring.current(),
            heads: &self.keys.signer,
        };
        let asked = ahead.keys().copied().collect();
        let added = append(signers, end, rows, &asked);
        for (size, root) in &added.roots {
            let (head, note) = &ahead[size];
            if *root != head.root {
                return Err(Rejection::Evidence(forked(head)));
            }
            store::put_head(transaction, &stream, *size, note).await?;
        }
        self.passed(&stream, last);
        store::insert(transaction, &stream, signers.chain.kid(), &added.rows).await?;
        crash::point("audit.rows");
        store::put_tiles(transaction, &stream, &added.tiles).await?;
        crash::point("audit.tiles");
        for (size, note) in &added.heads {
            let put = self.put_head(transaction, &stream, *size, note).await?;
            if put == PutHead::Other {
                return Err(Rejection::Evidence(other_head(*size)));
            }
        }
        crash::point("audit.heads");
        let advance = store::advance(transaction, &stream, size, &added.end.tip).await?;
        if advance == Advance::Fenced {
            return Err(beside(&stream));
        }
        if let Some(known) = self.known().get_mut(&stream) {
            known.next = Some(added.end);
        }
        Ok(())
    }
}

/// Somebody else has written beside this session: a new one finds out who.
fn beside(stream: &str) -> Rejection {
    Rejection::Retry(sqlx::Error::Protocol(format!(
        "the log of {stream} was written beside this worker"
    )))
}

impl ReadMessage for Record {
    const EVERYTHING: bool = true;

    fn of_message(
        _source: &Source,
        at: At,
        _envelope: Option<&Envelope>,
        message: &RawMessage,
    ) -> Result<Self, String> {
        Ok(Self {
            sequence: at.sequence,
            published: at.published,
            message: Some(message.clone()),
        })
    }

    fn of_gone(at: At) -> Option<Self> {
        Some(Self {
            sequence: at.sequence,
            published: at.published,
            message: None,
        })
    }
}
