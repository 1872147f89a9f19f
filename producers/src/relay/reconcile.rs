//! Whether a source and its stream fit together: checked before the first session, and each time that the
//! stream's end is read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use artstore_runtime::pulse::kept_alive;
use artstore_runtime::server::{Holds, Server};
use sqlx::PgConnection;

use crate::relay::api_url;
use crate::relay::election;
use crate::relay::prune_mark;
use crate::relay::relay_error::RelayError;
use crate::relay::resume_state::{self, ResumeState};
use crate::relay::source::snapshot;
use crate::relay::source_relay::SourceRelay;

/// How long the check before the first session may take.
const PREFLIGHT: Duration = Duration::from_secs(60);

impl SourceRelay {
    /// As [`Self::preflight`], but ends within a minute.
    pub(crate) async fn checked(&self) -> Result<Vec<String>, RelayError> {
        let checked = tokio::time::timeout(PREFLIGHT, Box::pin(self.preflight())).await;
        checked.unwrap_or_else(|_| {
            let text = format!("it or NATS did not answer within {} s", PREFLIGHT.as_secs());
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
            Err(sqlx::Error::from(late).into())
        })
    }

    /// Checks everything that can be wrong before the election; and what works, but not as people
    /// expect.
    async fn preflight(&self) -> Result<Vec<String>, RelayError> {
        election::refuse_pooler(&self.options.database).await?;
        let mut connection = self.connect().await?;
        let notes = Server::read(&mut connection).await?.notes(Holds::Source);
        let prune_mark = prune_mark::read(&mut connection, &self.table).await?;
        api_url::stored(&mut connection, &self.table).await?;
        let resume_state = resume_state::read(&self.bus, &self.options.source).await?;
        self.compare(&resume_state, prune_mark, &mut connection)
            .await?;
        Ok(notes)
    }

    /// Reads the stream's end and compares it with the source.
    pub(crate) async fn reconcile(
        &self,
        connection: &mut PgConnection,
    ) -> Result<ResumeState, RelayError> {
        let prune_mark = prune_mark::read(connection, &self.table).await?;
        let resume_state = resume_state::read(&self.bus, &self.options.source);
        let resume_state = kept_alive(connection, resume_state).await??;
        self.unsettled.store(false, Ordering::Relaxed);
        self.compare(&resume_state, prune_mark, connection).await?;
        self.progress.update(|state| {
            state.sequence = resume_state.sequence;
            state.position = resume_state.position;
            state.record(&resume_state);
        });
        Ok(resume_state)
    }

    /// Whether the source is the one that the stream was written from, and still has it all; and
    /// whether the stream has what was pruned from the source. `prune_mark`: read before the stream.
    async fn compare(
        &self,
        resume_state: &ResumeState,
        prune_mark: i64,
        connection: &mut PgConnection,
    ) -> Result<(), RelayError> {
        let source = &self.options.source;
        // First the stream by itself: what its last message states is trusted afterwards.
        let recent = resume_state::recent(&self.bus, source, resume_state);
        let recent = kept_alive(connection, recent).await??;
        let seen = snapshot(connection, &self.table.sequence).await?;
        resume_state.check_state(source, &seen.identity, seen.sequence_value)?;
        resume_state.check_prune_mark(source, prune_mark)?;
        resume_state::compare(source, recent, connection).await
    }
}
