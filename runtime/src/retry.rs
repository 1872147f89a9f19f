//! Waiting before another try: longer each time, with some chance in it, up to a limit.
//!
//! This is the one file that uses the crate `backoff`, which is no longer maintained. It works and
//! is small, and nothing outside this file sees it. To replace it, keep the three functions below
//! and compute `min(first * 1.5^tries, most) * random(0.5, 1.5)` in `next`.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// A series of waits that never ends.
#[derive(Debug)]
pub struct Retry {
    waits: ExponentialBackoff,
    most: Duration,
}

impl Retry {
    /// Starts at about `first` and grows to about `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        let waits = ExponentialBackoff {
            initial_interval: first,
            current_interval: first,
            max_interval: most,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { waits, most }
    }

    /// Waits before the next try, and returns how long it was.
    pub async fn wait(&mut self) -> Duration {
        let wait = self.next();
        tokio::time::sleep(wait).await;
        wait
    }

    /// After a success: the next wait is short again.
    pub fn succeeded(&mut self) {
        self.waits.reset();
    }

    fn next(&mut self) -> Duration {
        self.waits.next_backoff().unwrap_or(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_start_again_after_success() {
        let mut retry = Retry::new(Duration::from_millis(100), Duration::from_secs(2));
        assert!(retry.next() <= Duration::from_millis(150));
        for _ in 0..20 {
            assert!(retry.next() <= Duration::from_secs(3));
        }
        assert!(retry.next() >= Duration::from_secs(1));
        retry.succeeded();
        assert!(retry.next() <= Duration::from_millis(150));
    }
}
