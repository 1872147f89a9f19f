//! A step of the backfill between two polls of the poll loop. The backfill reads the stream and compares
//! chunks of files in [`crate::backfill`]; the poll loop publishes what they lack.

use artstore_runtime::crash;
use artstore_runtime::pulse::{self, kept_alive};
use tokio_util::sync::CancellationToken;

use crate::backfill::chunk::Chunk;
use crate::relay::poll_loop::{BackfillStep, PollLoop, Published};
use crate::relay::relay_error::RelayError;

impl PollLoop<'_> {
    /// A step of the backfill: the stream read for a moment, or a chunk compared and
    /// its snapshots published. The rows of the chunk's poll are in the stream.
    pub(super) async fn backfill_step(
        &mut self,
        chunk: Option<Chunk>,
        stop: &CancellationToken,
    ) -> Result<BackfillStep, RelayError> {
        let relay = self.relay;
        let Some(backfill) = self.backfill.as_mut() else {
            return Ok(BackfillStep::Nothing);
        };
        if backfill.is_complete() {
            return self.publish_backfilled(stop).await;
        }
        let Some(chunk) = chunk else {
            if backfill.wanted().is_some() {
                return Ok(BackfillStep::Nothing);
            }
            let source = &relay.options.source;
            let end = self.resume_state.sequence;
            let read = backfill.read(&relay.bus, source, end);
            kept_alive(self.connection, read).await??;
            return Ok(BackfillStep::More);
        };
        let mut compared = backfill.compare(chunk, &relay.translator);
        let events = std::mem::take(&mut compared.events);
        let messages = events.into_iter().map(|event| self.message(event));
        let messages = messages.collect();
        pulse::ask(self.connection).await?;
        crash::point("backfill.compared");
        if self.publish_in_batches(messages, stop).await? == Published::Unknown {
            return Ok(BackfillStep::ReadAgain);
        }
        crash::point("backfill.stored");
        // After a stop perhaps not all of them are: the chunk does not count.
        if let Some(backfill) = self.backfill.as_mut().filter(|_| !stop.is_cancelled()) {
            backfill.passed(&compared);
            let done = backfill.done();
            relay.progress.update(|state| state.backfill = Some(done));
        }
        Ok(BackfillStep::More)
    }

    /// Ends the backfill, and publishes `source.backfilled` where it was due or published anything.
    async fn publish_backfilled(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<BackfillStep, RelayError> {
        let Some(backfill) = self.backfill.as_ref() else {
            return Ok(BackfillStep::Nothing);
        };
        let (before, done) = (self.resume_state.sequence, backfill.done());
        if self.resume_state.backfill_due || done.published() > 0 {
            let event = backfill.backfilled(&self.relay.translator, before);
            self.resume_state.backfill_due = false;
            let message = self.message(event);
            crash::point("backfill.complete");
            let published = self.publish_in_batches(vec![message], stop).await?;
            if published == Published::Unknown {
                return Ok(BackfillStep::ReadAgain);
            }
            if self.resume_state.sequence == before {
                // It was asked to stop first.
                return Ok(BackfillStep::More);
            }
        }
        let source = &self.relay.options.source;
        tracing::info!(%source, ?done, "backfill complete: the stream has every file as its element has it");
        *self.backfill = None;
        Ok(BackfillStep::Backfilled)
    }
}
