//! What a worker's session knows of a stream's log: where the log ends, as it was committed, and which of
//! its heads are on the bus. It begins with evidence ([`super::resume`]);
//! [`super::append`] adds batches.

use artstore_runtime::count::counted;
use std::collections::BTreeMap;

use artstore_bus::connection::Bus;
use artstore_runtime::crash;
use artstore_runtime::pulse::kept_alive;
use artstore_schemas::source::Source;
use sqlx::{Connection as _, PgConnection};

use super::chain::origin_hash;
use super::head::{Boundary, Head};
use super::resume::{self, End, ResumeError};
use super::state::{AuditLog, Known, Published};
use super::store::{self, Tip};
use super::{derived, kids, legacy, published};
use crate::projection_names::AUDIT_LOG;
use crate::projector_error::{Halt, WorkerError};
use crate::runtime::checkpoint::Checkpoint;

/// Heads that are published at once.
const MOST_HEADS: i64 = 200;

/// Whether a head stands in the table after it was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PutHead {
    /// It does.
    Stands,
    /// Another one of that size stands there, or it was kept from being written.
    Other,
}

impl AuditLog {
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

    /// What the log must be before it continues: as far as the checkpoint, of this origin, and such that
    /// it follows from the last published head, or comes to it.
    pub(super) async fn check(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        source: &Source,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Known, WorkerError> {
        let stream = &source.stream();
        let legacy = legacy::draw(connection).await?;
        let last = kept_alive(connection, published::last(bus, stream)).await??;
        // Of one moment: a worker that has lost its lock may still commit its current batch.
        let mut moment = connection
            .begin_with("begin isolation level repeatable read")
            .await?;
        let tip = self.tip(&mut moment, stream).await?;
        let applied = checkpoint.map_or(0, |checkpoint| checkpoint.last_sequence);
        if tip.size != applied {
            return Err(evidence(
                stream,
                format!(
                    "its log has {}, but its checkpoint is at {applied}: if only the checkpoint is \
                     wrong, `artstore audit accept-stream --stream {stream} --reason REASON` compares \
                     each row with its message and repairs it",
                    counted(tip.size, "row")
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
                let all = published::all(bus, stream);
                for note in kept_alive(&mut moment, all).await?? {
                    let head = self.opened(stream, &note, &tip, legacy)?;
                    heads.insert(head.size, (head, note));
                }
            } else {
                heads.insert(head.size, (head, note));
            }
        }
        let ahead = heads.split_off(&(tip.size + 1));
        let mut base = heads.last_entry().map(|entry| entry.remove());
        // The stream of heads was recreated or lost its end; the rows after what it still has may be
        // archived. A head of the table is no less signed; whether the rows lead to it is checked below,
        // and before it is published again with those that the bus does not have.
        let from = base.as_ref().map_or(0, |(head, _)| head.size);
        let size = tip.size;
        let lost =
            base.is_none() || from < size && !store::is_there(&mut moment, stream, from).await?;
        if lost && let Some(note) = store::last_head_up_to(&mut moment, stream, size).await? {
            let head = self.opened(stream, &note, &tip, legacy)?;
            tracing::warn!(
                stream,
                published = from,
                head = head.size,
                "signed heads of this log are not on the bus: the log continues from the last head in \
                 the database, and heads behind the last published one are published again"
            );
            base = Some((head, note));
        }
        let head = base.as_ref().map(|(head, _)| head);
        let behind = head.map_or(0, |head| head.size);
        let ring = &self.keys.ring;
        let end = resume::end(&mut moment, stream, ring, tip, legacy, head).await;
        let end = end.map_err(|error| match error {
            ResumeError::Database(error) => error.into(),
            ResumeError::Unsigned(reason) => evidence(stream, reason),
        })?;
        // The chain proves rows to whoever does not have the secret; a head proves them to everybody.
        let size = end.tip.size;
        if let Some(reason) = derived::differs(&mut moment, bus, source, behind, size).await? {
            return Err(evidence(stream, reason));
        }
        for kid in kids::unknown(&mut moment, stream, ring).await? {
            if self.warned().insert(kid.clone()) {
                tracing::warn!(
                    stream,
                    kid,
                    "rows of the audit log were signed with a secret that is not configured: `artstore \
                     audit verify` can't check their signatures; add it to the file of \
                     SECURITY_AUDIT_HMAC_OLD_SECRETS_PATH"
                );
            }
        }
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
            .map_err(|error| evidence(stream, format!("a head: {error}")))?;
        if head.origin != tip.origin || head.legacy != legacy {
            return Err(evidence(
                stream,
                format!(
                    "the head of {} is of another log or has another boundary: was this \
                     database set up anew beside a bus that was not?",
                    counted(head.size, "row")
                ),
            ));
        }
        Ok(head)
    }

    /// The log's end, where the tables state what this session has committed. None: they were changed
    /// beside it, by another worker or by somebody else; a new session finds out by whom.
    pub(super) async fn end(
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
    pub(super) fn ahead(&self, stream: &str, last: u64) -> BTreeMap<u64, (Head, String)> {
        let known = self.known();
        let ahead = known.get(stream).map(|known| known.ahead.range(..=last));
        let ahead = ahead.into_iter().flatten();
        ahead.map(|(size, head)| (*size, head.clone())).collect()
    }

    /// Forgets them: the rows lead to them. Where the transaction comes to nothing, they are read
    /// again.
    pub(super) fn passed(&self, stream: &str, last: u64) {
        let mut known = self.known();
        let Some(ahead) = known.get_mut(stream).map(|known| &mut known.ahead) else {
            return;
        };
        let before = ahead.len();
        ahead.retain(|size, _| *size > last);
        if before > 0 && ahead.is_empty() {
            tracing::info!(
                stream,
                rows = last,
                "caught up with the last published head"
            );
        }
    }

    /// A head of everything, where rows have waited for one for long enough. Returns the log's end.
    pub(super) async fn head_of_all(
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
        // Below the last published head, a head of a size that was not published could never be.
        let catches_up = self
            .known()
            .get(stream)
            .is_some_and(|known| !known.ahead.is_empty());
        if !catches_up && size < end.tip.size && age >= self.keys.head_after.as_secs_f64() {
            let note = end.head().sign(&self.keys.signer);
            let size = end.tip.size;
            let put = self.put_head(&mut transaction, stream, size, &note).await?;
            if put == PutHead::Other {
                return Err(evidence(stream, other_head(size)));
            }
        }
        transaction.commit().await?;
        Ok(end)
    }

    /// Writes a head, and reads what is there then.
    pub(super) async fn put_head(
        &self,
        transaction: &mut PgConnection,
        stream: &str,
        size: u64,
        note: &str,
    ) -> Result<PutHead, sqlx::Error> {
        store::put_head(transaction, stream, size, note).await?;
        let stored = store::head_at(transaction, stream, size).await?;
        let open = |note: &str| Head::open(note, &self.keys.trusted()).map(|(head, _)| head);
        Ok(match &stored {
            Some(stored) if stored == note => PutHead::Stands,
            // Signed by another key of ours, before this one was renewed.
            Some(stored) if open(stored).is_ok_and(|head| open(note) == Ok(head)) => {
                PutHead::Stands
            }
            Some(_) | None => PutHead::Other,
        })
    }

    /// Publishes the heads that the bus does not have. What is published can't be taken back: each must
    /// be a head of this log at its size.
    pub(super) async fn publish(
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
                false => store::root_at(connection, stream, size).await?,
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
            let publish = published::publish(self.publisher(bus), stream, after, &note);
            let Some(sequence) = kept_alive(connection, publish).await?? else {
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
        projection: AUDIT_LOG,
        stream: stream.to_owned(),
        reason,
    }
    .into()
}

/// A head that was put in by somebody else, or kept out.
pub(super) fn other_head(size: u64) -> String {
    format!("the head of {size} rows in its table is not the one that was signed")
}

/// A log that does not come to what was published of it.
pub(super) fn forked(head: &Head) -> String {
    format!(
        "its first {} rows are not those that the head on the bus was signed for: the log was \
         changed or has forked",
        head.size
    )
}
