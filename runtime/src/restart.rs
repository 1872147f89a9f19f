//! From one session to the next: remembered between them is only how often it failed,
//! and what was logged about it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::retry::Retry;

/// A session that lived for so long was well: what ends it is new, and the next try comes soon.
const WELL: Duration = Duration::from_secs(60);

/// The pauses between sessions, and what was logged about the last one's end.
#[derive(Debug)]
pub struct Restarts {
    retry: Retry,
    logged: String,
}

impl Restarts {
    /// The pauses start at about `first` and grow to about `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            retry: Retry::new(first, most),
            logged: String::new(),
        }
    }

    /// A session that lived for so long has ended with this error. Whether that is to be logged: once,
    /// since a thing that a person has to repair stays the same for hours.
    pub fn is_news(&mut self, lived: Duration, error: &str) -> bool {
        if lived >= WELL {
            self.retry.succeeded();
            self.logged.clear();
        }
        if self.logged == error {
            return false;
        }
        error.clone_into(&mut self.logged);
        true
    }

    /// Waits before the next session. False where it was asked to stop, which ends the wait.
    pub async fn continues(&mut self, stop: &CancellationToken) -> bool {
        tokio::select! {
            _ = self.retry.wait() => {}
            () = stop.cancelled() => {}
        }
        !stop.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_said_once_and_again_after_a_session_that_was_well() {
        let mut restarts = Restarts::new(Duration::ZERO, Duration::ZERO);
        let short = Duration::from_secs(1);
        assert!(restarts.is_news(short, "a"));
        assert!(!restarts.is_news(short, "a"));
        assert!(restarts.is_news(short, "b"));
        assert!(restarts.is_news(short, "a"));
        assert!(restarts.is_news(WELL, "a"));
        assert!(!restarts.is_news(short, "a"));
    }
}
