//! Reads a stream with its bodies, in sequence order, without acknowledgements. The messages
//! go to [`super::links`].

use std::time::Duration;

use artstore_bus::connection::Bus;
use artstore_bus::message::Message;
use artstore_bus::selection::Selection;
use artstore_bus::stream_reader::StreamReader;
use artstore_schemas::source::Source;
use uuid::Uuid;

/// How often a lost consumer is recreated before that counts as an error.
const ATTEMPTS: usize = 20;

/// Reads on from one sequence of a stream.
pub struct Reader {
    bus: Bus,
    stream: String,
    /// The sequence after the last message.
    next: u64,
    messages: Option<StreamReader>,
    /// Where the consumer was recreated because of a hole: a second at the same sequence is real.
    hole_at: Option<u64>,
    failures: usize,
}

impl Reader {
    /// Everything after a sequence.
    pub fn new(bus: &Bus, source: &Source, behind: u64) -> Self {
        Self {
            bus: bus.clone(),
            stream: source.stream(),
            next: behind + 1,
            messages: None,
            hole_at: None,
            failures: 0,
        }
    }

    /// Waits for a message, then reads what has arrived already, up to `most`. Empty: nothing
    /// came within `patience`.
    pub async fn batch(&mut self, most: usize, patience: Duration) -> anyhow::Result<Vec<Message>> {
        let mut batch = Vec::new();
        loop {
            if self.messages.is_none() {
                let selection = Selection::from(self.next);
                match StreamReader::open(&self.bus, &self.stream, selection).await {
                    Ok(messages) => self.messages = Some(messages),
                    Err(error) => {
                        self.failed(error.into())?;
                        tokio::time::sleep(Duration::from_millis(250)).await;
                        continue;
                    }
                }
            }
            let messages = self.messages.as_mut().expect("it was opened above");
            let next = match batch.is_empty() {
                true => messages.next_within(patience).await.transpose(),
                false => messages.now(),
            };
            let Some(next) = next else {
                return Ok(batch);
            };
            match next.map(|message| self.take(message)) {
                Ok(Some(message)) => {
                    batch.push(message);
                    if batch.len() >= most {
                        return Ok(batch);
                    }
                }
                // The first hole may be the consumer's.
                Ok(None) => self.messages = None,
                Err(error) => {
                    self.messages = None;
                    self.failed(error.into())?;
                }
            }
            if self.messages.is_none() && !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    /// Whether the stream holds nothing after what was read. (The last messages may be gone: then
    /// it has assigned sequences that never come.)
    pub async fn nothing_left(&self) -> anyhow::Result<bool> {
        let next = self.bus.first_message(&self.stream, ">", self.next);
        Ok(next.await?.is_none())
    }

    /// None where others are missing before it: maybe the consumer skipped them.
    fn take(&mut self, message: Message) -> Option<Message> {
        let sequence = message.sequence;
        if sequence != self.next && self.hole_at != Some(self.next) {
            self.hole_at = Some(self.next);
            return None;
        }
        self.next = sequence + 1;
        self.failures = 0;
        Some(message)
    }

    fn failed(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        self.failures += 1;
        if self.failures > ATTEMPTS {
            return Err(error.context(format!("stream {} can't be read", self.stream)));
        }
        tracing::debug!(stream = self.stream, %error, "the consumer is recreated");
        Ok(())
    }
}

/// The id of the event that a message contains.
pub(crate) fn id_of(message: &Message) -> Option<Uuid> {
    message.headers.get("ce-id")?.as_str().parse().ok()
}
