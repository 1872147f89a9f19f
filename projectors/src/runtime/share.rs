//! How the processes of a projection share its streams. A worker's lock decides who has a stream; this
//! module decides who asks for one, and who hands one over: a process that has its share leaves a free
//! stream to others for a moment, and one that has more hands over the surplus, stream by stream.
//!
//! Nothing depends on it: a wrong count costs a pause of one stream. The checkpoint's compare-and-set
//! keeps two workers apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::PgConnection;

/// What this process has. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Share(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    streams: AtomicUsize,
    held: AtomicUsize,
}

impl Share {
    /// How many streams there are to share.
    pub(crate) fn of_streams(&self, streams: usize) {
        self.0.streams.store(streams, Ordering::Relaxed);
    }

    /// Whether one stream more is still within this process's share.
    pub(crate) fn has_room(&self, processes: usize) -> bool {
        self.0.held.load(Ordering::Relaxed) < self.fair(processes)
    }

    /// Counts a stream until the value is dropped.
    pub(crate) fn hold(&self) -> Held {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Held {
            share: self.clone(),
            counted: true,
        }
    }

    /// Rounded up: nothing stays without a worker.
    fn fair(&self, processes: usize) -> usize {
        let streams = self.0.streams.load(Ordering::Relaxed);
        streams.div_ceil(processes.max(1))
    }
}

/// A stream that this process has.
#[derive(Debug)]
pub(crate) struct Held {
    share: Share,
    counted: bool,
}

impl Held {
    /// True: this process has more than its share, and this stream is to be handed over. It is no
    /// longer counted then, so that no more workers give theirs away than are too many.
    pub(crate) fn give_away(&mut self, processes: usize) -> bool {
        let fair = self.share.fair(processes);
        let fewer = |held: usize| (held > fair).then(|| held - 1);
        let held = &self.share.0.held;
        let too_many = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        if self.counted && too_many.is_ok() {
            self.counted = false;
        }
        too_many.is_ok()
    }

    /// Whether [`Held::give_away`] would say so.
    pub(crate) fn is_too_much(&self, processes: usize) -> bool {
        self.share.0.held.load(Ordering::Relaxed) > self.share.fair(processes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.counted {
            self.share.0.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How many processes have a session for the same stream: the sessions of its workers have the
/// same name, and each process has one worker a stream. A session of another role is none, whatever it
/// calls itself.
pub(crate) async fn processes(connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
    let sessions: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity \
         where datname = current_database() \
           and application_name = current_setting('application_name') \
           and has_table_privilege(usesysid, 'public.projection_locks', 'update')",
    )
    .fetch_one(connection)
    .await?;
    Ok(usize::try_from(sessions).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_gives_away_what_is_more_than_its_share_and_no_more() {
        let share = Share::default();
        share.of_streams(5);
        let mut held: Vec<Held> = (0..5).map(|_| share.hold()).collect();
        assert!(!held[0].give_away(1), "alone, it keeps all");
        let given = held.iter_mut().filter_map(|h| h.give_away(2).then_some(()));
        assert_eq!(given.count(), 2, "three of five are its share of two");
        assert!(!share.has_room(2));
        assert!(share.has_room(1), "the other one has ended");
        drop(held);
        assert_eq!(share.0.held.load(Ordering::Relaxed), 0);
    }
}
