//! The audit log: every message of every stream is one row, chained, in a Merkle tree, under signed
//! heads. In the order in which a row takes shape:
//!
//! - [`mapping`]: from a message to a row
//! - [`canonical`]: JSON as text that is the same everywhere
//! - [`row`]: the bytes that are signed
//! - [`chain`]: each signature covers the one before it
//! - [`tree`], [`tile`]: the tree over the rows, and how it is stored
//! - [`note`], [`head`]: what is signed of it
//! - [`resume`]: what a session goes on from, and why that may be signed
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
pub mod resume;
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

use self::append::{Signers, append};
use self::chain::{Keyring, origin_hash};
use self::head::{Boundary, Head, origin};
use self::mapping::{NEWEST, RawMessage, Record};
use self::note::{SignerKey, VerifierKey};
use self::resume::{End, ResumeError};
use self::store::Tip;
use self::tile::{Tiles, Wanted};
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

/// What a session knows of a stream's log.
#[derive(Debug, Clone)]
struct Known {
    /// The log's end, as it was committed. Nothing else is signed, whatever the tables say.
    end: End,
    /// Its end if the batch that was written last is committed.
    next: Option<End>,
    published: Published,
    /// Heads on the bus above the database's size, with their notes: an older state of the database
    /// was restored, and has to come to the same.
    ahead: BTreeMap<u64, (Head, String)>,
}

/// The last head on the bus.
#[derive(Debug, Clone, Copy, Default)]
struct Published {
    /// Its place there; 0: there is none.
    sequence: u64,
    /// Its size.
    size: u64,
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

    /// What the log must be before it goes on: as far as the checkpoint, of this origin, and such that
    /// it follows from the last published head, or comes to it.
    async fn check(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        stream: &str,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Known, WorkerError> {
        let legacy = legacy::draw(connection).await?;
        let last = published::last(bus, stream).await?;
        // Of one moment: a worker that has lost its lock may still commit what it has in hand.
        let mut moment = connection
            .begin_with("begin isolation level repeatable read")
            .await?;
        let tip = self.tip(&mut moment, stream).await?;
        let applied = checkpoint.map_or(0, |checkpoint| checkpoint.last_sequence);
        if tip.size != applied {
            return Err(evidence(
                stream,
                format!(
                    "its log has {} rows, but its checkpoint is at {applied}",
                    tip.size
                ),
            ));
        }
        if tip.origin != self.origin(stream) {
            return Err(evidence(
                stream,
                format!(
                    "its log is {}, but the signing key (SECURITY_AUDIT_SIGNING_KEY_PATH) is called {}: \
                     the name of a key stays when the key is renewed",
                    tip.origin,
                    self.keys.signer.verifier().name()
                ),
            ));
        }
        let mut heads = BTreeMap::new();
        let mut published = Published::default();
        if let Some(note) = last.note {
            let head = self.opened(stream, &note, &tip, legacy)?;
            published = Published {
                sequence: last.sequence,
                size: head.size,
            };
            if head.size > tip.size {
                tracing::warn!(
                    stream,
                    rows = tip.size,
                    published = head.size,
                    "the database is behind the last published head (a restored backup?): it catches \
                     up and is compared with it then"
                );
                for note in published::all(bus, stream).await? {
                    let head = self.opened(stream, &note, &tip, legacy)?;
                    heads.insert(head.size, (head, note));
                }
            } else {
                heads.insert(head.size, (head, note));
            }
        }
        let ahead = heads.split_off(&(tip.size + 1));
        let base = heads.last_entry().map(|entry| entry.remove());
        let head = base.as_ref().map(|(head, _)| head);
        let ring = &self.keys.ring;
        let end = resume::end(&mut moment, stream, ring, tip, legacy, head).await;
        let end = end.map_err(|error| match error {
            ResumeError::Database(error) => error.into(),
            ResumeError::Unsigned(reason) => evidence(stream, reason),
        })?;
        // It was published, and the backup was made before it was written here.
        if let Some((head, note)) = base
            && head.size == end.tip.size
        {
            store::put_head(&mut moment, stream, head.size, &note).await?;
        }
        moment.commit().await?;
        Ok(Known {
            end,
            next: None,
            published,
            ahead,
        })
    }

    /// Reads a head of this log that was published.
    fn opened(
        &self,
        stream: &str,
        note: &str,
        tip: &Tip,
        legacy: Boundary,
    ) -> Result<Head, WorkerError> {
        let (head, _) = Head::open(note, &self.keys.trusted())
            .map_err(|error| evidence(stream, format!("a head on the bus: {error}")))?;
        if head.origin != tip.origin || head.legacy != legacy {
            return Err(evidence(
                stream,
                format!(
                    "the head of {} rows on the bus is of another log or has another boundary: was this \
                     database set up anew beside a bus that was not?",
                    head.size
                ),
            ));
        }
        Ok(head)
    }

    /// The log's end, where the tables say what this session has committed. None: they were changed
    /// beside it, by another worker or by somebody else; a new session finds out by whom.
    async fn end(
        &self,
        connection: &mut PgConnection,
        stream: &str,
    ) -> Result<Option<End>, sqlx::Error> {
        let tip = self.tip(connection, stream).await?;
        let legacy = store::boundary(connection).await?;
        let mut known = self.known();
        let Some(known) = known.get_mut(stream) else {
            return Ok(None);
        };
        if let Some(next) = known.next.take_if(|next| next.tip == tip) {
            known.end = next;
        }
        let fits = known.end.tip == tip && legacy == Some(known.end.legacy);
        Ok(fits.then(|| known.end.clone()))
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

    /// A head of everything, where rows have waited for one for long enough. Returns the log's end.
    async fn head_of_all(
        &self,
        connection: &mut PgConnection,
        stream: &str,
    ) -> Result<End, WorkerError> {
        let mut transaction = connection.begin().await?;
        let Some(end) = self.end(&mut transaction, stream).await? else {
            return Err(self.beside(stream));
        };
        let last = store::last_head(&mut transaction, stream).await?;
        let (size, age) = last.unwrap_or((0, f64::INFINITY));
        if size < end.tip.size && age >= self.keys.head_after.as_secs_f64() {
            let note = end.head().sign(&self.keys.signer);
            self.put_head(&mut transaction, stream, end.tip.size, &note)
                .await?;
        }
        transaction.commit().await?;
        Ok(end)
    }

    /// Writes a head. Where one of that size stands there already, it must say the same.
    async fn put_head(
        &self,
        transaction: &mut PgConnection,
        stream: &str,
        size: u64,
        note: &str,
    ) -> Result<(), WorkerError> {
        store::put_head(transaction, stream, size, note).await?;
        let stored = store::head_at(transaction, stream, size).await?;
        let open = |note: &str| Head::open(note, &self.keys.trusted()).map(|(head, _)| head);
        let same = match &stored {
            Some(stored) if stored == note => true,
            // Signed by another key of ours, before this one was renewed.
            Some(stored) => open(stored).is_ok_and(|head| open(note) == Ok(head)),
            None => false,
        };
        match same {
            true => Ok(()),
            false => Err(evidence(
                stream,
                format!("the head of {size} rows in its table is not the one that was signed"),
            )),
        }
    }

    /// Publishes the heads that the bus does not have. What is published can't be taken back: each must
    /// be a head of this log at its size.
    async fn publish(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        stream: &str,
        end: &End,
    ) -> Result<(), WorkerError> {
        let published = match self.known().get(stream) {
            Some(known) if known.ahead.is_empty() => known.published,
            Some(_) | None => return Ok(()),
        };
        let heads = store::heads_above(connection, stream, published.size, MOST_HEADS).await?;
        let trusted = self.keys.trusted();
        let mut after = published.sequence;
        for (size, note) in heads {
            let head = Head::open(&note, &trusted);
            let root = match size == end.tip.size {
                true => Some(end.edge.root()),
                false => root_at(connection, stream, size).await?,
            };
            let fits = head.is_ok_and(|(head, _)| {
                let own = Head {
                    size,
                    root: head.root,
                    ..end.head()
                };
                size <= end.tip.size && head == own && root == Some(head.root)
            });
            if !fits {
                return Err(evidence(
                    stream,
                    format!(
                        "the head of {size} rows in its table is none of its rows; it was not published"
                    ),
                ));
            }
            crash::point("audit.publishing");
            let Some(sequence) = published::publish(bus, stream, after, &note).await? else {
                // Another worker has published: it is the stream's now, or was.
                return Err(self.beside(stream));
            };
            crash::point("audit.published");
            after = sequence;
            if let Some(known) = self.known().get_mut(stream) {
                known.published = Published { sequence, size };
            }
        }
        Ok(())
    }

    /// Somebody else has written beside this session.
    fn beside(&self, stream: &str) -> WorkerError {
        let sequence = self
            .known()
            .get(stream)
            .map_or(0, |known| known.end.tip.size);
        WorkerError::Fenced {
            stream: stream.to_owned(),
            sequence,
        }
    }
}

fn evidence(stream: &str, reason: String) -> WorkerError {
    Halt::Evidence {
        projection: AuditLog::NAME,
        stream: stream.to_owned(),
        reason,
    }
    .into()
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
        let end = self.head_of_all(connection, &stream).await?;
        self.publish(connection, bus, &stream, &end).await
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
            let put = self.put_head(transaction, &stream, *size, note).await;
            put.map_err(|error| match error {
                WorkerError::Database(error) => Rejection::from(error),
                other => Rejection::Halt(other.to_string()),
            })?;
        }
        crash::point("audit.heads");
        if !store::advance(transaction, &stream, size, &added.end.tip).await? {
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
