//! Applies a batch without the events that can't be applied. A discarded event is skipped. A fenced one is
//! parked. An event that the projector refuses is found by bisection, each half in a savepoint, and parked.
//! All of it happens in the caller's transaction.

use artstore_schemas::source::Source;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::store::Parked;
use super::{Fences, MOST_IN_ROW};
use crate::projector::{Projector, Rejection};
use crate::runtime::consumer::Entry;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Applied {
    /// Events that are to be parked, in order.
    pub parked: Vec<Parked>,
    /// The fences after it.
    pub fences: Fences,
}

impl Applied {
    /// All of a batch was applied.
    pub fn all(fences: &Fences) -> Self {
        Self {
            parked: Vec::new(),
            fences: Fences {
                keys: fences.keys.clone(),
                in_row: 0,
            },
        }
    }
}

/// Why nothing of a batch is to be committed.
#[derive(Debug)]
pub enum Refused {
    /// By the projector.
    Rejected(Rejection),
    /// Too many events one after another can't be applied; the last one and its reason.
    TooMany(Box<Parked>),
}

/// Whether the batch may be applied as a whole, as nearly all are: nothing of it is fenced or discarded.
pub(crate) fn is_plain<P: Projector>(
    projector: &P,
    entries: &[Entry<P::Message>],
    fences: &Fences,
) -> bool {
    fences.keys.is_empty()
        || !entries
            .iter()
            .any(|entry| is_fenced(projector, entry, fences) || is_discarded(entry, fences))
}

/// Applies a batch with what has to be parked.
pub async fn apply<P: Projector>(
    projector: &P,
    transaction: &mut PgConnection,
    source: &Source,
    entries: &[Entry<P::Message>],
    fences: &Fences,
) -> Result<Applied, Refused> {
    let mut applying = Applying {
        projector,
        source,
        applied: Applied {
            parked: Vec::new(),
            fences: fences.clone(),
        },
    };
    applying.part(transaction, entries.iter().collect()).await?;
    Ok(applying.applied)
}

struct Applying<'a, P> {
    projector: &'a P,
    source: &'a Source,
    applied: Applied,
}

impl<P: Projector> Applying<'_, P> {
    /// Applies events that follow each other, from left to right.
    async fn part(
        &mut self,
        transaction: &mut PgConnection,
        entries: Vec<&Entry<P::Message>>,
    ) -> Result<(), Refused> {
        // A stack: the next part is taken from its end.
        let mut parts = vec![entries];
        while let Some(part) = parts.pop() {
            // Keys may have been fenced since this part was made.
            let (fenced, mut free): (Vec<_>, Vec<_>) = part
                .into_iter()
                .filter(|entry| !is_discarded(entry, &self.applied.fences))
                .partition(|entry| is_fenced(self.projector, entry, &self.applied.fences));
            for entry in fenced {
                self.park(entry, None);
            }
            let Some(first) = free.first().copied() else {
                continue;
            };
            let Some(reason) = self.whole(transaction, &free).await? else {
                continue;
            };
            if free.len() == 1 {
                self.refuse(first, reason)?;
            } else {
                parts.push(free.split_off(free.len() / 2));
                parts.push(free);
            }
        }
        self.applied.parked.sort_by_key(|parked| parked.sequence);
        Ok(())
    }

    /// Applies events in a savepoint; the reason, where one of them can't be.
    async fn whole(
        &mut self,
        transaction: &mut PgConnection,
        entries: &[&Entry<P::Message>],
    ) -> Result<Option<String>, Refused> {
        let messages: Vec<P::Message> = entries
            .iter()
            .filter_map(|entry| entry.taken.clone())
            .collect();
        let mut savepoint = transaction.begin().await.map_err(retry)?;
        let applied = self.projector.apply(&mut savepoint, self.source, &messages);
        match applied.await {
            Ok(()) => {
                savepoint.commit().await.map_err(retry)?;
                self.applied.fences.in_row = 0;
                Ok(None)
            }
            Err(Rejection::Event(reason)) => {
                savepoint.rollback().await.map_err(retry)?;
                Ok(Some(reason))
            }
            Err(rejection) => Err(Refused::Rejected(rejection)),
        }
    }

    /// Parks an event that can't be applied, and fences its key.
    fn refuse(&mut self, entry: &Entry<P::Message>, reason: String) -> Result<(), Refused> {
        self.park(entry, Some(reason));
        let fences = &mut self.applied.fences;
        fences.keys.parked.extend(key(self.projector, entry));
        fences.in_row += 1;
        if fences.in_row >= MOST_IN_ROW {
            let last = self.applied.parked.pop().expect("it was just parked");
            return Err(Refused::TooMany(Box::new(last)));
        }
        Ok(())
    }

    fn park(&mut self, entry: &Entry<P::Message>, reason: Option<String>) {
        let Some(message) = entry.raw.clone() else {
            // Nothing is known of a message that is gone: no projector that parks takes it.
            return;
        };
        self.applied.parked.push(Parked {
            projection: P::NAME.to_owned(),
            stream: self.source.stream(),
            sequence: entry.at.sequence,
            key: key(self.projector, entry),
            event_id: entry.envelope.as_ref().map(|envelope| envelope.id),
            message,
            published: entry.at.published,
            reason,
            attempts: 0,
            parked_at: entry.at.published,
        });
    }
}

fn key<P: Projector>(projector: &P, entry: &Entry<P::Message>) -> Option<Uuid> {
    projector.key(entry.envelope.as_ref()?)
}

fn is_fenced<P: Projector>(projector: &P, entry: &Entry<P::Message>, fences: &Fences) -> bool {
    key(projector, entry).is_some_and(|key| fences.keys.parked.contains(&key))
}

/// As if it had never been published.
fn is_discarded<M>(entry: &Entry<M>, fences: &Fences) -> bool {
    let event_id = entry.envelope.as_ref().map(|envelope| envelope.id);
    let discarded = &fences.keys.discarded;
    discarded.has(entry.at.sequence, event_id)
}

fn retry(error: sqlx::Error) -> Refused {
    Refused::Rejected(Rejection::Retry(error))
}
