//! Waiting for a server that is unavailable when a service starts. The log reports when the wait begins,
//! every half minute how long it has taken, and when it is over; meanwhile it is the reason why the service
//! is not ready.

use std::fmt::Display;
use std::time::Duration;

use artstore_runtime::retry::Retry;
use tokio::time::Instant;

/// How often the log repeats that the wait continues.
const EVERY: Duration = Duration::from_secs(30);

/// The first pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// How long a server is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience(Option<Duration>);

impl Patience {
    /// So many seconds; none: without end.
    pub fn of(seconds: Option<u64>) -> Self {
        Self(seconds.map(Duration::from_secs))
    }

    /// Whether anything is waited for at all.
    pub fn waits(self) -> bool {
        self.0 != Some(Duration::ZERO)
    }

    async fn over(self, since: Instant) {
        match self.0 {
            Some(longest) => tokio::time::sleep_until(since + longest).await,
            None => std::future::pending().await,
        }
    }

    fn lasts(self, since: Instant) -> bool {
        self.0.is_none_or(|longest| since.elapsed() < longest)
    }
}

/// One wait.
pub struct Wait<'a, E> {
    /// For what; errors report which server it is.
    pub what: String,
    /// Which server, as the end of the wait names it: never with a password.
    pub server: String,
    /// How long.
    pub patience: Patience,
    /// Which errors are waited out.
    pub is_unavailable: fn(&E) -> bool,
    /// Where the reason is shown; none: it is over.
    pub show: &'a (dyn Fn(Option<String>) + Send + Sync),
}

impl<E: Display> Wait<'_, E> {
    /// After this error, tries again and again until a try succeeds, fails with an error that no wait
    /// fixes, or the patience is over; returns what the last try gave.
    pub async fn after<T, F>(&self, mut error: E, mut attempt: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let Self { what, server, .. } = self;
        let begun = Instant::now();
        if !self.is_waited_for(&error, begun) {
            return Err(error);
        }
        let mut reason = error.to_string();
        tracing::warn!("waiting for {what}: {reason}");
        let mut pauses = Retry::new(PAUSES.0, PAUSES.1);
        let mut said = Instant::now();
        loop {
            (self.show)(Some(format!("waiting for {what}: {reason}")));
            pauses.wait().await;
            let attempt = attempt();
            tokio::pin!(attempt);
            let ended = loop {
                tokio::select! {
                    ended = &mut attempt => break Some(ended),
                    () = self.patience.over(begun) => break None,
                    () = tokio::time::sleep_until(said + EVERY) => {
                        said = Instant::now();
                        let seconds = begun.elapsed().as_secs();
                        tracing::warn!(seconds, "still waiting for {what}: {reason}");
                    }
                }
            };
            match ended {
                Some(Err(now)) if self.is_waited_for(&now, begun) => {
                    reason = now.to_string();
                    error = now;
                }
                ended => {
                    let ended = ended.unwrap_or(Err(error));
                    (self.show)(None);
                    if ended.is_ok() {
                        let seconds = begun.elapsed().as_secs();
                        tracing::info!(
                            seconds,
                            "no longer waiting for {what}: {server} is available"
                        );
                    }
                    return ended;
                }
            }
        }
    }

    fn is_waited_for(&self, error: &E, begun: Instant) -> bool {
        (self.is_unavailable)(error) && self.patience.waits() && self.patience.lasts(begun)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const DOWN: &str = "connection refused";
    const WRONG: &str = "password authentication failed";

    /// What came of it, after how many tries, in how many seconds, and what was shown last before the end.
    async fn waited(
        seconds: Option<u64>,
        mut answers: impl FnMut(u32) -> Result<(), &'static str>,
    ) -> (Result<(), &'static str>, u32, u64, Option<String>) {
        let shown = Mutex::new(Vec::new());
        let begun = Instant::now();
        let mut tries = 0;
        let wait = Wait {
            what: "a server".to_owned(),
            server: "127.0.0.1:1".to_owned(),
            patience: Patience::of(seconds),
            is_unavailable: |error| *error == DOWN,
            show: &|reason| shown.lock().unwrap().push(reason),
        };
        let ended = wait
            .after(DOWN, || {
                tries += 1;
                std::future::ready(answers(tries))
            })
            .await;
        let mut shown = shown.into_inner().unwrap();
        let last = shown.pop().flatten();
        assert_eq!(last, None, "the reason goes with the wait");
        let before = shown.pop().flatten();
        (ended, tries, begun.elapsed().as_secs(), before)
    }

    #[tokio::test]
    async fn it_waits_without_end_until_the_server_is_there() {
        let there = |tries| if tries < 3 { Err(DOWN) } else { Ok(()) };
        let (ended, tries, _, shown) = waited(None, there).await;
        assert_eq!((ended, tries), (Ok(()), 3));
        let reason = "waiting for a server: connection refused";
        assert_eq!(shown.as_deref(), Some(reason));
    }

    #[tokio::test]
    async fn a_wrong_setting_ends_the_wait_and_0_waits_for_nothing() {
        let wrong = |tries| if tries < 2 { Err(DOWN) } else { Err(WRONG) };
        let (ended, tries, ..) = waited(None, wrong).await;
        assert_eq!((ended, tries), (Err(WRONG), 2));
        let (ended, tries, _, shown) = waited(Some(0), |_| Ok(())).await;
        assert_eq!((ended, tries, shown), (Err(DOWN), 0, None));
    }

    #[tokio::test]
    async fn patience_has_an_end_where_it_is_given_one() {
        let (ended, tries, seconds, _) = waited(Some(1), |_| Err(DOWN)).await;
        assert_eq!(ended, Err(DOWN));
        assert!(tries > 1 && seconds >= 1, "{tries} tries, {seconds} s");
    }
}
