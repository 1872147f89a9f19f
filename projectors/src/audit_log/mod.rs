//! The audit log: every message of every stream is one row, chained, in a Merkle tree, under signed
//! heads. In the order in which a row takes shape:
//!
//! - [`mapping`]: from a message to a row
//! - [`canonical`]: JSON as text that is the same everywhere
//! - [`row`]: the bytes that are signed
//! - [`chain`]: each signature covers the one before it
//! - [`tree`], [`tile`]: the tree over the rows, and how it is stored
//! - [`note`], [`head`]: what is signed of it
//! - [`append`]: all of that for one batch
//! - [`legacy`]: the product's own rows, below a boundary
//! - [`store`]: the database
//! - [`published`]: heads on the bus
//! - [`proof`]: a row's proof, checked off line
//!
//! `docs/audit-format.md` is the contract for other implementations.

pub mod append;
pub mod canonical;
pub mod chain;
pub mod head;
pub mod legacy;
pub mod mapping;
pub mod note;
pub mod proof;
pub mod published;
pub mod row;
pub mod store;
pub mod tile;
pub mod tree;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use artstore_schemas::bus::Bus;
use artstore_schemas::crash;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::source::Source;
use sqlx::{Connection as _, PgConnection};

use self::append::{Signers, append, head};
use self::chain::{Keyring, origin_hash};
use self::head::{Head, HeadError, origin};
use self::mapping::{NEWEST, RawMessage, Record};
use self::note::{SignerKey, VerifierKey};
use self::store::Tip;
use self::tile::{Edge, Tiles, Wanted};
use crate::checkpoint::Checkpoint;
use crate::projector::{At, Projector, Rejection, Taken};
use crate::projector_error::{Halt, WorkerError};

/// Heads that are published at once.
const MOST_HEADS: i64 = 200;

/// Builds the audit log.
#[derive(Clone)]
pub struct AuditLog {
    keys: Arc<Keys>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// What the log is signed with.
#[derive(Debug)]
pub struct Keys {
    /// Signs rows.
    pub ring: Keyring,
    /// Signs heads.
    pub signer: SignerKey,
    /// Signed heads before, besides the one that signs now.
    pub old: Vec<VerifierKey>,
    /// Rows wait no longer for a head.
    pub head_after: Duration,
}

impl Keys {
    /// All keys whose heads count.
    pub fn trusted(&self) -> Vec<VerifierKey> {
        let current = self.signer.verifier().clone();
        std::iter::once(current)
            .chain(self.old.iter().cloned())
            .collect()
    }
}

/// What a session knows of a stream's published heads.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The place of the last one on the bus.
    sequence: u64,
    /// Its size.
    size: u64,
    /// Heads on the bus above the database's size, with their notes: an older state of the database
    /// was restored, and has to come to the same.
    ahead: BTreeMap<u64, (Head, String)>,
}

impl AuditLog {
    /// With these keys.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys: Arc::new(keys),
            known: Arc::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn origin(&self, stream: &str) -> String {
        origin(self.keys.signer.verifier().name(), stream)
    }

    /// The log's end; before the first row, its beginning.
    async fn tip(&self, connection: &mut PgConnection, stream: &str) -> Result<Tip, sqlx::Error> {
        let origin = self.origin(stream);
        Ok(store::tip(connection, stream)
            .await?
            .unwrap_or_else(|| Tip {
                size: 0,
                last_signature: origin_hash(&origin),
                origin,
            }))
    }

    /// What the log must be before it goes on: as far as the checkpoint, of this origin, and where
    /// a head of it was published, with the same root there.
    async fn check(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        stream: &str,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Known, WorkerError> {
        let evidence = |reason: String| -> WorkerError {
            Halt::Evidence {
                projection: Self::NAME,
                stream: stream.to_owned(),
                reason,
            }
            .into()
        };
        let tip = self.tip(connection, stream).await?;
        let applied = checkpoint.map_or(0, |checkpoint| checkpoint.last_sequence);
        if tip.size != applied {
            return Err(evidence(format!(
                "its log has {} rows, but its checkpoint is at {applied}",
                tip.size
            )));
        }
        if tip.origin != self.origin(stream) {
            return Err(evidence(format!(
                "its log is {}, but the signing key (SECURITY_AUDIT_SIGNING_KEY_PATH) is called {}: \
                 the name of a key stays when the key is renewed",
                tip.origin,
                self.keys.signer.verifier().name()
            )));
        }
        let legacy = legacy::draw(connection).await?;
        let last = published::last(bus, stream).await?;
        let Some(note) = last.note else {
            return Ok(Known::default());
        };
        let trusted = self.keys.trusted();
        let (head, _) = Head::open(&note, &trusted).map_err(|error: HeadError| {
            evidence(format!(
                "the last head on the bus ({}): {error}",
                last.sequence
            ))
        })?;
        if head.origin != tip.origin || head.legacy != legacy {
            return Err(evidence(format!(
                "the last head on the bus ({}) is of another log or has another boundary: was \
                 this database set up anew beside a bus that was not?",
                last.sequence
            )));
        }
        let known = Known {
            sequence: last.sequence,
            size: head.size,
            ahead: BTreeMap::new(),
        };
        if head.size > tip.size {
            tracing::warn!(
                stream,
                rows = tip.size,
                published = head.size,
                "the database is behind the last published head (a restored backup?): it catches \
                 up and is compared with it then"
            );
            let mut ahead = BTreeMap::new();
            for note in published::all(bus, stream).await? {
                let (head, _) = Head::open(&note, &trusted)
                    .map_err(|error| evidence(format!("a head on the bus: {error}")))?;
                if head.size > tip.size {
                    ahead.insert(head.size, (head, note));
                }
            }
            return Ok(Known { ahead, ..known });
        }
        if root_at(connection, stream, head.size).await? != Some(head.root) {
            return Err(evidence(forked(&head)));
        }
        Ok(known)
    }

    /// Published heads of sizes that are reached with the row `last`.
    fn ahead(&self, stream: &str, last: u64) -> BTreeMap<u64, (Head, String)> {
        let known = self.known();
        let ahead = known.get(stream).map(|known| known.ahead.range(..=last));
        let ahead = ahead.into_iter().flatten();
        ahead.map(|(size, head)| (*size, head.clone())).collect()
    }

    /// Forgets them: the rows lead to them. Where the transaction comes to nothing, they are read
    /// again.
    fn passed(&self, stream: &str, last: u64) {
        let mut known = self.known();
        let Some(ahead) = known.get_mut(stream).map(|known| &mut known.ahead) else {
            return;
        };
        let before = ahead.len();
        ahead.retain(|size, _| *size > last);
        if before > 0 && ahead.is_empty() {
            tracing::info!(stream, rows = last, "level with the last published head");
        }
    }

    /// A head of everything, where rows have waited for one for long enough.
    async fn head_of_all(
        &self,
        connection: &mut PgConnection,
        stream: &str,
    ) -> Result<(), WorkerError> {
        let mut transaction = connection.begin().await?;
        let tip = self.tip(&mut transaction, stream).await?;
        let last = store::last_head(&mut transaction, stream).await?;
        let (size, age) = last.unwrap_or((0, f64::INFINITY));
        if size < tip.size && age >= self.keys.head_after.as_secs_f64() {
            let edge = edge(&mut transaction, stream, tip.size).await?;
            let edge = edge.map_err(|reason| Halt::Evidence {
                projection: Self::NAME,
                stream: stream.to_owned(),
                reason,
            })?;
            if let Some(legacy) = store::boundary(&mut transaction).await? {
                let note = head(&tip.origin, &edge, legacy).sign(&self.keys.signer);
                store::put_head(&mut transaction, stream, tip.size, &note).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Publishes the heads that the bus does not have.
    async fn publish(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        stream: &str,
    ) -> Result<(), WorkerError> {
        let mut known = self.known().get(stream).cloned().unwrap_or_default();
        if !known.ahead.is_empty() {
            return Ok(());
        }
        let heads = store::heads_above(connection, stream, known.size, MOST_HEADS).await?;
        for (size, note) in heads {
            crash::point("audit.publishing");
            let Some(sequence) = published::publish(bus, stream, known.sequence, &note).await?
            else {
                // Another worker has published: it is the stream's now, or was.
                let mine = store::tip(connection, stream)
                    .await?
                    .map_or(0, |tip| tip.size);
                return Err(WorkerError::Fenced {
                    stream: stream.to_owned(),
                    sequence: mine,
                });
            };
            crash::point("audit.published");
            known = Known {
                sequence,
                size,
                ahead: BTreeMap::new(),
            };
            self.known().insert(stream.to_owned(), known.clone());
        }
        Ok(())
    }
}

/// The root of the first `size` rows, from the stored tree; none where its tiles are not there.
pub async fn root_at(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Option<row::Hash>, sqlx::Error> {
    let wanted = Wanted::default();
    tree::root(&wanted, size);
    let tiles: Tiles = store::tiles(connection, stream, &wanted.places()).await?;
    Ok(tree::root(&tiles, size))
}

async fn edge(
    connection: &mut PgConnection,
    stream: &str,
    size: u64,
) -> Result<Result<Edge, String>, sqlx::Error> {
    let places: Vec<_> = Edge::places(size)
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    let tiles = store::tiles(connection, stream, &places).await?;
    Ok(Edge::of(size, &tiles).map_err(|error| error.to_string()))
}

fn forked(head: &Head) -> String {
    format!(
        "its first {} rows are not those that the head on the bus was signed for: the log was \
         changed or has forked",
        head.size
    )
}

impl Projector for AuditLog {
    const NAME: &'static str = "audit-log";
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
        let known = self.check(connection, bus, &stream, checkpoint).await?;
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
        self.head_of_all(connection, &stream).await?;
        self.publish(connection, bus, &stream).await
    }

    async fn apply(
        &self,
        transaction: &mut PgConnection,
        source: &Source,
        batch: &[Record],
    ) -> Result<(), Rejection> {
        let stream = source.stream();
        let tip = self.tip(transaction, &stream).await?;
        let first = batch.first().map_or(0, |record| record.sequence);
        if first != tip.size + 1 {
            return Err(Rejection::Halt(format!(
                "its log has {} rows, but message {first} is next",
                tip.size
            )));
        }
        let Some(legacy) = store::boundary(transaction).await? else {
            return Err(Rejection::Halt(
                "the boundary of the product's rows is gone".to_owned(),
            ));
        };
        let edge = edge(transaction, &stream, tip.size).await?;
        let edge = edge.map_err(Rejection::Halt)?;
        let rows = batch
            .iter()
            .map(|record| mapping::row(NEWEST, source, record).expect("the newest one is known"))
            .collect();
        let last = tip.size + batch.len() as u64;
        let ahead = self.ahead(&stream, last);
        let signers = Signers {
            chain: self.keys.ring.current(),
            heads: &self.keys.signer,
            legacy,
        };
        let asked = ahead.keys().copied().collect();
        let added = append(signers, &tip, edge, rows, &asked);
        for (size, root) in &added.roots {
            let (head, note) = &ahead[size];
            if *root != head.root {
                return Err(Rejection::Halt(forked(head)));
            }
            store::put_head(transaction, &stream, *size, note).await?;
        }
        self.passed(&stream, last);
        store::insert(transaction, &stream, signers.chain.kid(), &added.rows).await?;
        crash::point("audit.rows");
        store::put_tiles(transaction, &stream, &added.tiles).await?;
        crash::point("audit.tiles");
        for (size, note) in &added.heads {
            store::put_head(transaction, &stream, *size, note).await?;
        }
        crash::point("audit.heads");
        if !store::advance(transaction, &stream, tip.size, &added.tip).await? {
            return Err(Rejection::Retry(sqlx::Error::Protocol(format!(
                "another worker has added to the log of {stream}"
            ))));
        }
        Ok(())
    }
}

impl Taken for Record {
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
