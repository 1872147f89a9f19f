//! One source's part of the check: its rows and its stream.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use artstore_producers::relay::source::SourceTable;
use artstore_producers::relay::source_check;
use artstore_runtime::crash;
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use super::progress::VerifyDisplay;
use super::{Check, connect};
use artstore_verification::pass::{NewDecision, State};
use artstore_verification::resume::About;
use artstore_verification::source::{self, Ended, Report};

/// The state is kept at most so often, and takes at most a twentieth of the time.
const KEEP: Duration = Duration::from_secs(2);

/// How often a check starts again because a break of its source was accepted meanwhile.
const ATTEMPTS: usize = 3;

impl Check {
    /// None: it was stopped.
    pub(super) async fn source(
        &mut self,
        source: &Source,
        database: &PgConnectOptions,
    ) -> anyhow::Result<Option<Report>> {
        if self.stop.is_cancelled() {
            return Ok(None);
        }
        let mut connection = connect(database).await?;
        source_check::shows_all(&mut connection, &SourceTable::of(source)).await?;
        let about = About::read(&mut connection, &self.bus, source).await?;
        let mut state = match &self.file {
            Some(file) => file.state(&self.bus, source, &about).await?,
            None => State::default(),
        };
        for _ in 1..ATTEMPTS {
            match self.pass(source, &mut connection, &about, state).await {
                Err(error) if error.is::<NewDecision>() => state = State::default(),
                ended => return ended,
            }
        }
        self.pass(source, &mut connection, &about, state).await
    }

    async fn pass(
        &mut self,
        source: &Source,
        connection: &mut PgConnection,
        about: &About,
        state: State,
    ) -> anyhow::Result<Option<Report>> {
        let wait = match self.idle.relays.contains(source) {
            true => Duration::ZERO,
            false => Duration::from_secs(self.command.wait),
        };
        let mut progress = VerifyDisplay::new(source, state.links.last, self.command.json);
        let pass = source::begin(&self.bus, source, state).await?;
        let (file, stop) = (&mut self.file, &self.stop);
        let mut failed = None;
        // The first time at once: a file that can't be written is not found out after hours.
        let mut keep_at = Instant::now();
        let ended = source::run(connection, &self.bus, pass, wait, |pass, fixed| {
            progress.show(pass, fixed);
            crash::point("verify.read");
            if stop.is_cancelled() {
                return ControlFlow::Break(());
            }
            if let Some(file) = file.as_mut().filter(|_| Instant::now() >= keep_at) {
                let begun = Instant::now();
                if let Err(error) = file.save(about, pass) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
                crash::point("verify.kept");
                keep_at = Instant::now() + KEEP.max(begun.elapsed() * 20);
            }
            ControlFlow::Continue(())
        })
        .await;
        progress.finish();
        if let Some(error) = failed {
            return Err(error.context("--resume"));
        }
        match ended? {
            Ended::Done(report) => Ok(Some(*report)),
            Ended::Stopped(pass) => {
                if let Some(file) = &mut self.file {
                    file.save(about, &pass).context("--resume")?;
                }
                Ok(None)
            }
        }
    }
}
