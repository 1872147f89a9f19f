//! Waiting for tables that others hold: the product sits idle in a transaction for as long as an
//! upload takes. [`crate::runner`] and the parts ask here after each refusal.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::error::{MigrateError, Task};
use crate::holders;

/// How long a part waits for its locks in all, unless set otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The wait after the first refusal; it doubles up to the longest. Each is as long as the time that
/// others may have queued behind us, or longer, so that they get more than half of all time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The patience of one part.
#[derive(Debug)]
pub(crate) struct Waiting {
    started: Instant,
    patience: Duration,
    pause: Duration,
    /// Whether old snapshots are waited for as well.
    snapshots: bool,
}

impl Waiting {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            started: Instant::now(),
            patience,
            pause: FIRST_PAUSE,
            snapshots: false,
        }
    }

    /// For a statement outside a transaction: it also waits for every older snapshot of the
    /// database, whatever that reads.
    pub(crate) fn concurrent(patience: Duration) -> Self {
        Self {
            snapshots: true,
            ..Self::new(patience)
        }
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.patience.saturating_sub(self.started.elapsed())
    }

    /// Says who holds the tables and waits a little, or gives up.
    pub(crate) async fn refused(
        &mut self,
        conn: &mut PgConnection,
        task: &Task<'_>,
    ) -> Result<(), MigrateError> {
        let mut holders = holders::named(conn, task.module).await?;
        if self.snapshots && holders.is_empty() {
            holders = holders::snapshots(conn, task.module).await?;
        }
        if self.left().is_zero() {
            return Err(MigrateError::Blocked {
                module: task.module.clone(),
                step: task.step,
                direction: task.direction.word(),
                waited_s: self.started.elapsed().as_secs(),
                holders,
                progress: task.progress(),
                index_left: None,
            });
        }
        tracing::warn!(module = %task.module, step = %task.step,
            direction = task.direction.word(), waited_s = self.started.elapsed().as_secs(),
            gives_up_in_s = self.left().as_secs(), holders = holders.join(", "),
            "the tables are in use: trying again");
        tokio::time::sleep(self.pause.min(self.left())).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// `lock_not_available` or `deadlock_detected`: the next try may get through.
pub(crate) fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
