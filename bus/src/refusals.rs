//! What the NATS server does not permit the connection's user. It answers such a publish, request or
//! subscription with nothing: without this module that looks like a server that does not answer. Filled by
//! the connection's events ([`crate::connection`]), read by whoever publishes or requests ([`crate::requests`]).

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;

use async_nats::{Event, ServerError};
use tokio::sync::watch;

/// Older ones are of no use: who waits looks at once.
const KEPT: usize = 32;

/// Where answers to requests come; the rest of such a subject is random.
const INBOX: &str = "_INBOX.";

/// What a user needs a permission for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Publishing, which a request is too.
    Publish,
    /// Subscribing.
    Subscribe,
}

impl Right {
    /// Its name in the server's configuration, below `permissions`.
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// The server refused a publish or request, or a subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "NATS user {user} may not {} to {subject}: use a user that may (NATS_URL or \
     NATS_CREDENTIALS), or add the subject to this user's `permissions.{}` in the server's \
     configuration (`artstore bus permissions FOLDER` writes it, after a change of the elements again)", .right.name(), .right.name()
)]
pub struct Refusal {
    /// The connection's user, as its settings name it.
    pub user: String,
    /// What it lacks.
    pub right: Right,
    /// The subject.
    pub subject: String,
}

/// The last refusals of a connection, numbered from 1.
#[derive(Debug, Default)]
struct Heard {
    number: u64,
    last: VecDeque<(Right, String)>,
    /// How often it was made.
    connected: u64,
    /// Whether this connection may not subscribe to its inbox: then no request gets an answer.
    no_inbox: bool,
}

/// The last refusals of a connection.
#[derive(Clone)]
pub struct Refusals {
    user: String,
    heard: watch::Sender<Heard>,
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
            heard: watch::Sender::default(),
        }
    }

    /// Takes an event of the connection.
    pub(crate) fn hear(&self, event: &Event) {
        let text = match event {
            Event::ServerError(ServerError::Other(text)) => text,
            // It subscribes again, and is refused again where nothing has changed.
            Event::Connected => {
                return self.heard.send_modify(|heard| {
                    heard.connected += 1;
                    heard.no_inbox = false;
                });
            }
            _ => return,
        };
        let Some((right, subject)) = refused(text) else {
            return;
        };
        let is_inbox = subject.starts_with(INBOX);
        // Of a request the caller hears. These two nobody waits for.
        if (right == Right::Subscribe) != is_inbox {
            tracing::warn!("{}", self.refusal(right, subject));
        }
        self.heard.send_modify(|heard| {
            heard.number += 1;
            heard.no_inbox |= is_inbox && right == Right::Subscribe;
            heard.last.push_back((right, subject.to_owned()));
            if heard.last.len() > KEPT {
                heard.last.pop_front();
            }
        });
    }

    /// From now on.
    pub fn watch(&self) -> Watch {
        let mut heard = self.heard.subscribe();
        let (before, connected) = {
            let heard = heard.borrow_and_update();
            (heard.number, heard.connected)
        };
        Watch {
            refusals: self.clone(),
            heard,
            before,
            connected,
        }
    }

    /// Waits for a call, or until the server refuses what it publishes (`is_its` knows its subjects) or
    /// the inbox for its answer.
    pub async fn unless_refused<T>(
        &self,
        is_its: impl Fn(&str) -> bool,
        call: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let mut watch = self.watch();
        tokio::select! {
            biased;
            done = call => Ok(done),
            refusal = watch.refused(is_its) => Err(refusal),
        }
    }

    fn refusal(&self, right: Right, subject: &str) -> Refusal {
        let subject = match right {
            Right::Subscribe if subject.starts_with(INBOX) => format!("{INBOX}>"),
            Right::Publish | Right::Subscribe => subject.to_owned(),
        };
        Refusal {
            user: self.user.clone(),
            right,
            subject,
        }
    }
}

/// The refusals of a connection from some moment on.
pub struct Watch {
    refusals: Refusals,
    heard: watch::Receiver<Heard>,
    before: u64,
    connected: u64,
}

impl Watch {
    /// A refused publish to one of the subjects, or the refused inbox; none where nothing was refused.
    pub fn look(&mut self, is_its: impl Fn(&str) -> bool) -> Option<Refusal> {
        let heard = self.heard.borrow_and_update();
        if heard.no_inbox {
            return Some(self.refusals.refusal(Right::Subscribe, INBOX));
        }
        let new = usize::try_from(heard.number - self.before).unwrap_or(KEPT);
        let mut new = heard.last.iter().rev().take(new);
        let found = new.find(|(right, subject)| *right == Right::Publish && is_its(subject));
        found.map(|(right, subject)| self.refusals.refusal(*right, subject))
    }

    /// Waits for one, or until the connection is back.
    pub(crate) async fn change(&mut self, is_its: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        loop {
            if let Some(refusal) = self.look(&is_its) {
                return Err(refusal);
            }
            let connected = self.heard.borrow().connected;
            if std::mem::replace(&mut self.connected, connected) != connected {
                return Ok(());
            }
            self.changed().await;
        }
    }

    /// Waits for one.
    pub async fn refused(&mut self, is_its: impl Fn(&str) -> bool) -> Refusal {
        loop {
            if let Some(refusal) = self.look(&is_its) {
                return refusal;
            }
            self.changed().await;
        }
    }

    async fn changed(&mut self) {
        if self.heard.changed().await.is_err() {
            // `self` has the other end.
            std::future::pending::<()>().await;
        }
    }
}

/// What the server's text names: `Permissions Violation for Publish to "…"`, or for Subscription.
fn refused(text: &str) -> Option<(Right, &str)> {
    let (_, what) = text.split_once("Permissions Violation for ")?;
    let (right, behind) = match what.strip_prefix("Publish to \"") {
        Some(behind) => (Right::Publish, behind),
        None => (Right::Subscribe, what.strip_prefix("Subscription to \"")?),
    };
    behind.split_once('"').map(|(subject, _)| (right, subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Event {
        Event::ServerError(ServerError::Other(text.to_owned()))
    }

    #[test]
    fn the_servers_text_names_the_subject() {
        let text = "'Permissions Violation for Publish to \"artstore.wal.elem.p00.file.created\"'";
        let subject = "artstore.wal.elem.p00.file.created";
        assert_eq!(refused(text), Some((Right::Publish, subject)));
        let text = "Permissions Violation for Subscription to \"a\" using queue \"b\"";
        assert_eq!(refused(text), Some((Right::Subscribe, "a")));
        assert_eq!(refused("Authorization Violation"), None);
    }

    #[test]
    fn a_watch_finds_what_came_after_it_began() {
        let refusals = Refusals::of("\"a\"");
        let mut early = refusals.watch();
        refusals.hear(&said("Permissions Violation for Publish to \"b\""));
        let mut late = refusals.watch();
        let found = early.look(|subject| subject == "b").unwrap().to_string();
        assert!(
            found.starts_with("NATS user \"a\" may not publish to b: "),
            "{found}"
        );
        assert!(found.contains("`permissions.publish`"), "{found}");
        assert_eq!(early.look(|subject| subject == "c"), None);
        assert_eq!(late.look(|subject| subject == "b"), None);
    }

    /// Without an inbox no request is answered, until the connection is back.
    #[test]
    fn a_refused_inbox_is_found_by_everybody() {
        let refusals = Refusals::of("\"a\"");
        refusals.hear(&said(
            "Permissions Violation for Subscription to \"_INBOX.x.*\"",
        ));
        let found = refusals.watch().look(|_| false).unwrap().to_string();
        assert!(
            found.starts_with("NATS user \"a\" may not subscribe to _INBOX.>: "),
            "{found}"
        );
        assert!(found.contains("`permissions.subscribe`"), "{found}");
        refusals.hear(&Event::Connected);
        assert_eq!(refusals.watch().look(|_| false), None);
    }
}
