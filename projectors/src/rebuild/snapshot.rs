//! The tables as they were at some sequence of each stream, in a schema of their own, beside the live ones.
//! They are read-only: statements that would change them are refused.

use std::collections::BTreeMap;
use std::time::Duration;

use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::selection::{Selection, Start};
use artstore_bus::stream_reader::StreamReader;
use artstore_schemas::source::Source;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection as _;

use super::build::{Rebuild, streams, targets};
use super::fill::Target;
use super::session::run;
use super::swap::{Record, Swapped, applied_in};
use super::{RebuildError, snapshot_schema};
use crate::projector::Projector;
use crate::projector_error::WorkerError;

/// How long the server may take to give a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// The state that a snapshot shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsOf {
    /// Streams by name, and their last messages; others are taken as far as the live tables have them.
    Streams(BTreeMap<String, u64>),
    /// What the bus had stored at a time.
    Time(DateTime<Utc>),
}

impl std::fmt::Display for AsOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{}", time.to_rfc3339()),
            Self::Streams(streams) => {
                let all = streams.iter();
                let all: Vec<String> = all.map(|(stream, at)| format!("{stream}={at}")).collect();
                f.write_str(&all.join(","))
            }
        }
    }
}

/// Refuses sequences that the streams do not have, before anything is built.
pub async fn check<P: Projector>(
    projector: &P,
    bus: &Bus,
    as_of: &AsOf,
) -> Result<(), RebuildError> {
    match as_of {
        AsOf::Time(_) => Ok(()),
        AsOf::Streams(named) => place(named, &streams(projector, bus).await?, P::NAME).map(drop),
    }
}

/// The named streams' sources with their sequences.
fn place(
    named: &BTreeMap<String, u64>,
    streams: &[(Source, DateTime<Utc>, u64)],
    projection: &str,
) -> Result<Vec<Target>, RebuildError> {
    let mut places = Vec::new();
    for (stream, sequence) in named {
        let found = streams
            .iter()
            .find(|(source, ..)| source.stream() == *stream);
        let Some((source, _, last)) = found else {
            let read: Vec<String> = streams.iter().map(|(source, ..)| source.stream()).collect();
            return Err(RebuildError::BadPlace(format!(
                "there is no stream {stream} that projection {projection} reads; it reads {}",
                match read.join(", ") {
                    none if none.is_empty() => "none: there is no stream".to_owned(),
                    read => read,
                }
            )));
        };
        if sequence > last {
            return Err(RebuildError::BadPlace(format!(
                "stream {stream} ends at {last}, before {sequence}"
            )));
        }
        places.push(Target {
            source: source.clone(),
            sequence: *sequence,
        });
    }
    Ok(places)
}

impl<P: Projector> Rebuild<'_, P> {
    /// How far each stream is to be applied.
    pub async fn targets(&mut self, as_of: &AsOf) -> Result<Vec<Target>, RebuildError> {
        match as_of {
            AsOf::Time(time) => {
                let mut targets = Vec::new();
                for (source, _, last) in streams(&self.projector, self.bus).await? {
                    let sequence = before(self.bus, &source, *time, last).await?;
                    targets.push(Target { source, sequence });
                }
                Ok(targets)
            }
            AsOf::Streams(named) => {
                let ends = streams(&self.projector, self.bus).await?;
                let places = place(named, &ends, P::NAME)?;
                let mut found = targets(&mut self.connection, &self.projector, self.bus).await?;
                for target in &mut found {
                    let place = places.iter().find(|place| place.source == target.source);
                    target.sequence = place.map_or(target.sequence, |place| place.sequence);
                }
                Ok(found)
            }
        }
    }

    /// Makes a snapshot of what was built, and reports where it is.
    pub async fn keep_as_snapshot(
        &mut self,
        made: DateTime<Utc>,
        record: &mut impl Record,
    ) -> Result<Swapped, RebuildError> {
        let (from, schema) = (self.schema.clone(), snapshot_schema(P::NAME, made));
        let mut transaction = self.connection.begin().await?;
        let mut sql = format!(
            "set local synchronous_commit = on; \
             create function {from}.artstore_read_only() returns trigger language plpgsql as $$ \
             begin \
                 raise exception 'schema % is a snapshot, for reading', tg_table_schema; \
             end $$; \
             drop table {from}.projection_pauses, {from}.artstore_rebuild; "
        );
        for table in P::TABLES {
            if P::REBUILT.iter().any(|rebuilt| rebuilt.name == *table) {
                sql += &format!(
                    "create trigger artstore_read_only \
                     before insert or update or delete or truncate on {from}.{table} \
                     for each statement execute function {from}.artstore_read_only(); "
                );
            } else {
                sql += &format!("drop table {from}.{table}; ");
            }
        }
        sql += &format!("alter schema {from} rename to {schema}");
        run(&mut transaction, &sql).await?;
        // Who may read the live tables may read these.
        let readers: Vec<String> = sqlx::query_scalar(
            "select distinct case x.grantee when 0 then 'public' \
                 else quote_ident(pg_get_userbyid(x.grantee)) end \
             from pg_class c, lateral aclexplode(c.relacl) x \
             where c.relnamespace = $1::text::regnamespace and x.privilege_type = 'SELECT'",
        )
        .bind(&schema)
        .fetch_all(&mut *transaction)
        .await?;
        for reader in readers {
            let sql = format!("grant usage on schema {schema} to {reader}");
            run(&mut transaction, &sql).await?;
        }
        let snapshot = Swapped {
            streams: applied_in::<P>(&mut transaction, &schema).await?,
            previous: schema,
        };
        record.record(&mut transaction, &snapshot).await?;
        transaction.commit().await?;
        Ok(snapshot)
    }
}

/// The last message that a stream had at a time.
async fn before(
    bus: &Bus,
    source: &Source,
    time: DateTime<Utc>,
    last: u64,
) -> Result<u64, RebuildError> {
    // The first one that was stored after it.
    let selection = Selection {
        from: Start::Time(time + TimeDelta::microseconds(1)),
        ..Selection::from(1).up_to_now()
    };
    let first = async {
        let mut messages = StreamReader::open(bus, &source.stream(), selection).await?;
        Ok::<_, BusError>(messages.next_or_end(PATIENCE).await?)
    };
    let first = first.await.map_err(WorkerError::from)?;
    Ok(first.map_or(last, |first| first.sequence - 1))
}
