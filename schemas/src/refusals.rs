//! What the NATS server says that a connection's user may not do. It answers such a publish or request
//! with nothing: without this it looks like a server that does not answer. Filled by the connection's
//! events ([`crate::bus`]), asked by whoever publishes.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;

use async_nats::{Event, ServerError};
use tokio::sync::watch;

/// Older ones are of no use: who waits looks at once.
const KEPT: usize = 32;

/// The server refused a publish, or a request, which is one too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "NATS user {user} may not publish to {subject}: use a user that may (NATS_URL or \
     NATS_CREDENTIALS), or add the subject to this user's `permissions.publish` in the server's \
     configuration"
)]
pub struct Refusal {
    /// The connection's user, as its settings name it.
    pub user: String,
    /// The subject.
    pub subject: String,
}

/// The last refusals of a connection, numbered from 1.
#[derive(Clone)]
pub struct Refusals {
    user: String,
    seen: watch::Sender<(u64, VecDeque<String>)>,
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals")
            .field("user", &self.user)
            .finish()
    }
}

impl Refusals {
    /// Of a new connection.
    pub(crate) fn of(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            seen: watch::Sender::default(),
        }
    }

    /// Takes what the connection says.
    pub(crate) fn hear(&self, event: &Event) {
        let Event::ServerError(ServerError::Other(text)) = event else {
            return;
        };
        let Some(subject) = refused(text) else {
            return;
        };
        self.seen.send_modify(|(number, subjects)| {
            *number += 1;
            subjects.push_back(subject.to_owned());
            if subjects.len() > KEPT {
                subjects.pop_front();
            }
        });
    }

    /// Waits for a call, or until the server refuses what it publishes: `is_its` knows its subjects.
    pub async fn unless_refused<T>(
        &self,
        is_its: impl Fn(&str) -> bool,
        call: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let mut seen = self.seen.subscribe();
        let (before, _) = *seen.borrow_and_update();
        let refused = async {
            loop {
                {
                    let now = seen.borrow_and_update();
                    let new = usize::try_from(now.0 - before).unwrap_or(KEPT);
                    let mut new = now.1.iter().rev().take(new);
                    if let Some(subject) = new.find(|subject| is_its(subject)) {
                        return subject.clone();
                    }
                }
                if seen.changed().await.is_err() {
                    // `self` has the other end.
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            done = call => Ok(done),
            subject = refused => Err(Refusal { user: self.user.clone(), subject }),
        }
    }
}

/// The subject that the server's text names: `Permissions Violation for Publish to "…"`.
fn refused(text: &str) -> Option<&str> {
    let (_, behind) = text.split_once("Permissions Violation for Publish to \"")?;
    behind.split_once('"').map(|(subject, _)| subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_text_names_the_subject() {
        let text = "'Permissions Violation for Publish to \"artstore.wal.elem.p00.file.created\"'";
        assert_eq!(refused(text), Some("artstore.wal.elem.p00.file.created"));
        assert_eq!(
            refused("Permissions Violation for Subscription to \"a\""),
            None
        );
    }
}
