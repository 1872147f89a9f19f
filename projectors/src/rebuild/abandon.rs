//! Removes what an earlier command left of a rebuild. It checks neither the streams nor whether the live
//! tables could be swapped.

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use super::session::open;
use super::{RebuildError, shadow, shadow_schema};
use crate::projector::Projector;

/// Removes it; `record` writes what is to be committed with that. Nothing is there: nothing is removed,
/// and it is recorded all the same.
pub async fn abandon<P: Projector>(
    database: &PgConnectOptions,
    record: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
) -> Result<(), RebuildError> {
    let mut connection = open::<P>(database).await?;
    let mut transaction = connection.begin().await?;
    shadow::drop(&mut transaction, &shadow_schema(P::NAME)).await?;
    record(&mut transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(())
}
