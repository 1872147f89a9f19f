//! Whether the audit log is what was signed: every row is read again, its leaf, its signature and the
//! tree are computed again, and compared with signed heads and, on request, with the bus.
//! No verdict rests on a stored hash that was not computed again.
//!
//! - `moment`: the database as it was at one moment
//! - [`table_definition`]: whether the tables are those that the migrations created
//! - [`facts`]: what the tables state about a whole log
//! - `rows`, `ids`, `suspects`: a range of rows
//! - `tiles`: the stored tree
//! - `heads`: signed heads
//! - [`log`]: the log of one stream
//! - [`against`]: rows derived again from their messages
//! - `strays`: rows and logs of no stream
//! - `legacy`: the product's own rows
//! - `archives`: the archives that the log lists
//! - [`finding`]: what is wrong
//! - [`report`]: all logs
//!
//! And the rows themselves: [`shown`] checks whether each is the one that was signed, [`printed`] how they
//! may be shown, [`archive`] moves old ones into files, [`inclusion`] proves single ones.

pub mod against;
pub mod archive;
pub(crate) mod archives;
pub mod facts;
pub mod finding;
pub(crate) mod heads;
mod ids;
pub mod inclusion;
pub(crate) mod legacy;
pub mod log;
pub(crate) mod moment;
pub mod printed;
pub mod report;
pub(crate) mod rows;
pub mod shown;
pub(crate) mod strays;
mod suspects;
pub mod table_definition;
pub(crate) mod tiles;

use artstore_runtime::count::counted;
use std::collections::BTreeSet;

use std::time::{Duration, Instant};

use anyhow::bail;
use artstore_bus::connection::Bus;
use artstore_projectors::audit_log::row::Hash;
use artstore_schemas::source::Source;
use sqlx::PgConnection;

/// The boundaries that heads state: rows, last id, digest. There is one.
#[derive(Debug, Default)]
pub struct LegacySeen(pub BTreeSet<(u64, i64, Hash)>);

/// Waits until the logs have a row for every message that their streams have now. An error where
/// nothing comes for so long.
pub async fn wait_for(
    connection: &mut PgConnection,
    bus: &Bus,
    sources: &[Source],
    patience: Duration,
) -> anyhow::Result<()> {
    for source in sources {
        let stream = source.stream();
        let last = bus.stream_info(&stream).await?.state.last_sequence;
        let mut best = 0;
        let mut moved = Instant::now();
        loop {
            let size: i64 = sqlx::query_scalar(
                "select coalesce((select size from public.audit_trees where stream = $1), 0)",
            )
            .bind(&stream)
            .fetch_one(&mut *connection)
            .await?;
            let size = u64::try_from(size).unwrap_or(0);
            if size >= last {
                break;
            }
            if size > best {
                best = size;
                moved = Instant::now();
            }
            if moved.elapsed() > patience {
                bail!(
                    "the audit log of {stream} has {} of {}, and no more for \
                     {} s: is its projector running (artstore run projector --projection audit-log)?",
                    counted(size, "row"),
                    counted(last, "message"),
                    patience.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}
