//! The transaction of a repair: checkpoints and rows, as the projector would have written them.

use anyhow::anyhow;
use artstore_projectors::projection_names::QUERY_CACHE;
use artstore_projectors::projector::{Received, Rejection};
use artstore_projectors::query_cache::{files, history};
use artstore_projectors::runtime::checkpoint::Checkpoint;
use artstore_runtime::crash;
use artstore_schemas::source::Source;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::part::Part;
use super::read::{Read, given_up, read_history};
use super::repaired::{Repaired, RepairedCheckpoint, RepairedRow};
use crate::operator::{self, record};
use artstore_verification::cache::checkpoints::CheckedCheckpoint;

/// What became of it.
pub(super) enum Written {
    Done,
    /// The checkpoints moved in a way that makes what was read useless.
    Moved,
}

impl Part<'_> {
    pub(super) async fn write(
        &self,
        mut read: Read,
        repaired: &mut Repaired,
    ) -> anyhow::Result<Written> {
        let mut connection = self.connect().await?;
        let mut transaction = connection.begin().await?;
        // In the order in which workers take theirs.
        sqlx::raw_sql(
            "lock table public.file_ownership, public.file_metadata_cache, public.search_history, \
                 public.download_statistics in share row exclusive mode; \
             lock table public.projection_checkpoints in row exclusive mode; \
             select from public.projection_checkpoints where projection = 'query-cache' \
             order by stream for update",
        )
        .execute(&mut *transaction)
        .await?;
        crash::point("repair.locked");
        let sources: Vec<Source> = read.places.iter().map(|p| p.source.clone()).collect();
        let mut set = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let before = &read.places[index];
            let now = load(&mut transaction, source).await?;
            if now == before.checkpoint {
                if before.is_unsound() {
                    set_checkpoint(&mut transaction, before).await?;
                    set.push(RepairedCheckpoint {
                        stream: source.stream(),
                        from: now.map_or(0, |now| now.last_sequence),
                        to: before.provable,
                        problem: before.problems.join("; "),
                    });
                }
                continue;
            }
            // The projector has continued: what it applied meanwhile is read after what was read.
            let upto = now.map_or(0, |now| now.last_sequence);
            if before.is_unsound() || upto < before.provable {
                return Ok(Written::Moved);
            }
            let from = before.provable;
            match source {
                Source::Element(element) => {
                    let wanted = self.files.iter().copied().collect();
                    let streams = &mut read.streams;
                    streams.read(self.bus, element, &wanted, from, upto).await?;
                }
                Source::Query => {
                    let wanted = (self.events, &read.discarded);
                    read_history(self.bus, wanted, (from, upto), &mut read.history).await?;
                }
                Source::Admin => {}
            }
        }
        // Given up since: what was read does not hold any more.
        for (element, known) in &read.streams.discarded {
            if given_up(&mut transaction, &Source::Element(element.clone())).await? != *known {
                return Ok(Written::Moved);
            }
        }
        if given_up(&mut transaction, &Source::Query).await? != read.discarded {
            return Ok(Written::Moved);
        }
        let odd_rows = self.derive(&mut transaction, &read).await?;
        if let Some(mut facts) = self.facts(&set, odd_rows) {
            facts["operator"] = operator::operator(&mut transaction).await?;
            record(&mut transaction, QUERY_CACHE, "repair", facts).await?;
        }
        crash::point("repair.applied");
        transaction.commit().await?;
        connection.close().await?;
        self.collect(&read, set, odd_rows, repaired);
        Ok(Written::Done)
    }

    /// Removes what is there, and applies the events again.
    async fn derive(&self, transaction: &mut PgConnection, read: &Read) -> anyhow::Result<u64> {
        let odd = sqlx::query(
            "delete from public.file_metadata_cache where event_id is not null \
             and id !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'",
        )
        .execute(&mut *transaction)
        .await?;
        let ids: Vec<String> = self.files.iter().map(Uuid::to_string).collect();
        sqlx::query(
            "delete from public.file_metadata_cache where event_id is not null and id = any($1)",
        )
        .bind(ids)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("delete from public.file_ownership where file_id = any($1)")
            .bind(self.files)
            .execute(&mut *transaction)
            .await?;
        for element in &read.elements {
            let events = read.streams.events(element);
            files::apply(transaction, element, &events)
                .await
                .map_err(rejected)?;
        }
        for table in ["search_history", "download_statistics"] {
            let sql = format!("delete from public.{table} where event_id = any($1)");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(self.events)
                .execute(&mut *transaction)
                .await?;
        }
        let mut events: Vec<Received> = read.history.values().cloned().collect();
        events.sort_by_key(|event| event.sequence);
        history::apply(transaction, &events)
            .await
            .map_err(rejected)?;
        Ok(odd.rows_affected())
    }

    /// What was done, for the audit log; none: nothing.
    fn facts(&self, set: &[RepairedCheckpoint], odd_rows: u64) -> Option<Value> {
        let nothing =
            set.is_empty() && self.files.is_empty() && self.events.is_empty() && odd_rows == 0;
        (!nothing).then(|| {
            json!({"checkpoints": set, "files": self.files, "events": self.events,
                "odd_rows": odd_rows})
        })
    }

    /// Each change is logged: the read model itself does not show who changed it.
    fn collect(
        &self,
        read: &Read,
        set: Vec<RepairedCheckpoint>,
        odd_rows: u64,
        repaired: &mut Repaired,
    ) {
        let projection = QUERY_CACHE;
        for checkpoint in &set {
            let RepairedCheckpoint {
                stream,
                from,
                to,
                problem,
            } = checkpoint;
            tracing::info!(projection, stream, from, to, problem, "checkpoint reset");
        }
        repaired.checkpoints.extend(set);
        for id in self.files {
            let present = read.streams.shown(*id).is_some();
            tracing::info!(projection, file = %id, present, "row derived again");
            repaired.files.push(RepairedRow { id: *id, present });
        }
        for id in self.events {
            let present = read.history.contains_key(id);
            tracing::info!(projection, event.id = %id, present, "row derived again");
            repaired.events.push(RepairedRow { id: *id, present });
        }
        if odd_rows > 0 {
            tracing::info!(
                projection,
                odd_rows,
                "rows removed whose id is none of a file"
            );
        }
        repaired.odd_rows += odd_rows;
    }
}

async fn load(
    transaction: &mut PgConnection,
    source: &Source,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    artstore_projectors::runtime::checkpoint::load(transaction, QUERY_CACHE, &source.stream()).await
}

async fn set_checkpoint(
    transaction: &mut PgConnection,
    place: &CheckedCheckpoint,
) -> anyhow::Result<()> {
    let new = place.repaired();
    sqlx::query(
        "update public.projection_checkpoints \
         set last_sequence = $3, last_event_id = $4, stream_created_at = $5, source_high = $6, \
             source_missing = $7, generation = generation + 1, parks_in_row = 0, \
             updated_at = now() \
         where projection = $1 and stream = $2",
    )
    .bind(QUERY_CACHE)
    .bind(place.source.stream())
    .bind(i64::try_from(new.last_sequence)?)
    .bind(new.last_event_id)
    .bind(new.stream_created_at)
    .bind(new.source_high)
    .bind(new.source_missing)
    .execute(transaction)
    .await?;
    Ok(())
}

fn rejected(rejection: Rejection) -> anyhow::Error {
    match rejection {
        Rejection::Retry(error) => error.into(),
        Rejection::Event(reason) | Rejection::Halt(reason) | Rejection::Evidence(reason) => {
            anyhow!(reason)
        }
    }
}
