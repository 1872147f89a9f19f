//! What is left of a rebuild that has ended with an error.

use std::time::Duration;

use artstore_projectors::projector::Projector;
use artstore_projectors::rebuild::RebuildError;
use artstore_projectors::rebuild::build::Rebuild as Build;
use serde_json::json;
use sqlx::Connection as _;

use super::run::Run;
use crate::commands::projection::database::connect;

/// A signal that has caused an error is seen within that time.
const SIGNAL: Duration = Duration::from_millis(100);

/// For so long a failure may take to be recorded.
const RECORDED: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// What is left of a rebuild that has ended with an error. Somebody who has stopped it wants nothing
    /// left, whatever else has failed at that moment.
    pub(super) async fn failed<P: Projector>(
        &self,
        build: Build<'_, P>,
        error: RebuildError,
    ) -> anyhow::Error {
        let stop = self.stop.clone();
        let signalled = tokio::time::timeout(SIGNAL, stop.cancelled()).await.is_ok();
        let stopped = signalled || matches!(error, RebuildError::Stopped);
        let kept = self.command.keep || (error.can_go_on() && !stopped);
        let left = match kept {
            true => {
                // The connection may be what has failed.
                drop(build);
                None
            }
            false => build.drop().await.err(),
        };
        self.record_failure(&error, stopped, kept || left.is_some())
            .await;
        let said = match (stopped, kept) {
            (true, true) => "stopped; what was built is kept: the same command continues there",
            (true, false) => "stopped; what was built is removed",
            (false, _) => "",
        };
        let only_stopped = matches!(error, RebuildError::Stopped);
        match left {
            Some(left) => anyhow::Error::from(error).context(format!(
                "what was built could not be removed ({left}): artstore projection rebuild {} --abandon",
                self.name
            )),
            None if only_stopped => anyhow::anyhow!(said),
            None if stopped => anyhow::Error::from(error).context(said),
            None => error.into(),
        }
    }

    /// Records it where that is possible: the database may be what has failed.
    async fn record_failure(&self, error: &RebuildError, stopped: bool, kept: bool) {
        let mut facts = self.facts(if stopped { "stopped" } else { "failed" }, None);
        facts["error"] = json!(error.to_string());
        facts["kept"] = json!(kept);
        let recorded = async {
            let mut connection = connect(self.config, self.command.projection).await?;
            self.record(&mut connection, facts).await?;
            connection.close().await?;
            anyhow::Ok(())
        };
        let recorded = tokio::time::timeout(RECORDED, recorded).await;
        if let Err(error) = recorded.map_err(anyhow::Error::from).flatten() {
            tracing::warn!(
                error = format!("{error:#}"),
                "that it failed could not be recorded"
            );
        }
    }
}
