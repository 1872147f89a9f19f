//! Parked events during a rebuild. The rebuilt tables have their own; what operators decide about those of
//! the live tables (`artstore parked`) is applied to them as well, or nothing is swapped.

use artstore_bus::breaks;
use artstore_schemas::source::Source;
use sqlx::AssertSqlSafe;

use super::RebuildError;
use super::build::Rebuild;
use crate::parking::discarded;
use crate::parking::retry::{RetryError, retry};
use crate::parking::store::{self, Which};
use crate::projector::Projector;
use crate::projector_error::{Halt, WorkerError};

impl<P: Projector> Rebuild<'_, P> {
    /// Follows what operators and time have done since the tables were filled: events that were discarded
    /// are taken out, and the others are tried again.
    pub(crate) async fn retry_parked(&mut self) -> Result<(), RebuildError> {
        discarded::take_out(&mut self.connection, &self.schema, P::NAME).await?;
        let all = Which {
            projection: Some(P::NAME),
            ..Which::default()
        };
        for group in store::groups(&mut self.connection, &all).await? {
            let Some(source) = Source::of_stream(&group.stream) else {
                continue;
            };
            let damage = breaks::damage(self.bus, &source).await;
            let damage = damage.map_err(WorkerError::from)?;
            let which = Which {
                projection: Some(P::NAME),
                stream: Some(&group.stream),
                key: group.key,
                sequence: group.alone,
            };
            retry(
                &self.projector,
                &mut self.connection,
                &source,
                &which,
                &damage,
                async |_, _| Ok(()),
            )
            .await
            .map_err(|error| failed::<P>(error, &group.stream))?;
        }
        Ok(())
    }

    /// How many events are parked in the tables of a schema.
    pub async fn parked_in(&mut self, schema: &str) -> Result<u64, RebuildError> {
        let sql = format!("select count(*) from {schema}.projection_parked where projection = $1");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(P::NAME)
            .fetch_one(&mut self.connection)
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

fn failed<P: Projector>(error: RetryError, stream: &str) -> RebuildError {
    match error {
        RetryError::Database(error) => error.into(),
        error @ (RetryError::Halt(_) | RetryError::NoCheckpoint { .. }) => {
            let halt = Halt::Tables {
                projection: P::NAME,
                stream: stream.to_owned(),
                reason: error.to_string(),
            };
            WorkerError::from(halt).into()
        }
    }
}
