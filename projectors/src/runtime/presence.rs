//! Which processes work on a projection, as its database shows it: each process has a session for each
//! stream, and the one that works on the stream holds its lock. Any role may see that, no process has to
//! answer, and it holds for programs of any version.

use artstore_runtime::holder::Holder;
use artstore_schemas::source::Source;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::runtime::database::LOCKS;

/// The sessions of one stream's workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Presence {
    /// How many there are: active and standby.
    pub sessions: i64,
    /// Whether one of them has the stream's lock.
    pub held: bool,
    /// Which session that is, of a role that may hold it; it may be no worker's.
    pub holder: Option<Holder>,
}

/// The name of the lock of a stream's worker.
pub(crate) fn lock_name(projection: &str, stream: &str) -> String {
    format!("artstore/projector/{projection}/{stream}")
}

/// The name of a worker's session: at most 55 of the 63 bytes that the server keeps of a name.
pub(crate) fn session_name(projection: &str, source: &Source) -> String {
    format!("artstore {projection} {source}")
}

/// Reads the workers of these streams, in this order, all at one moment.
pub async fn read(
    connection: &mut PgConnection,
    projection: &str,
    sources: &[Source],
) -> Result<Vec<Presence>, sqlx::Error> {
    let locks = sources.iter().map(|s| lock_name(projection, &s.stream()));
    let locks: Vec<String> = locks.collect();
    let keys = keys(connection, &locks).await?;
    let names = sources.iter().map(|s| session_name(projection, s));
    let rows = sqlx::query(
        "with held as materialized ( \
             select distinct on (key) l.classid::bigint << 32 | l.objid::bigint as key, l.pid, \
                    a.usename::text as \"user\", nullif(a.application_name, '') as application, \
                    host(a.client_addr) as address, a.state, \
                    extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds, \
                    a.backend_xid::text as transaction, null::text as prepared \
             from pg_locks l left join pg_stat_activity a on a.pid = l.pid \
             where l.locktype = 'advisory' and l.granted and l.objsubid = 1 \
               and l.mode = 'ExclusiveLock' \
               and (a.usesysid is null or to_regclass($4) is null \
                    or has_table_privilege(a.usesysid, to_regclass($4)::oid, 'update')) \
               and l.database = (select oid from pg_database where datname = current_database()) \
         ), session as materialized ( \
             select application_name, count(*) as sessions from pg_stat_activity \
             where datname = current_database() group by application_name \
         ) \
         select coalesce(s.sessions, 0) as sessions, \
                h.key is not null as held, h.pid, h.\"user\", h.application, h.address, h.state, \
                h.seconds, h.transaction, h.prepared \
         from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality as w (lock, name, key, place) \
         left join session s on s.application_name = w.name \
         left join lateral (select * from held \
             where held.key in (w.key, hashtextextended(w.lock, 0)) \
             order by held.key = w.key desc nulls last limit 1) h on true \
         order by w.place",
    )
    .bind(locks)
    .bind(names.collect::<Vec<_>>())
    .bind(keys)
    .bind(format!("public.{LOCKS}"))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let held = row.try_get("held")?;
            Ok(Presence {
                sessions: row.try_get("sessions")?,
                held,
                holder: match held {
                    true => Some(Holder::read(row)?),
                    false => None,
                },
            })
        })
        .collect()
}

/// The keys of locks, as far as this role may read them; the ones of earlier versions are held beside them.
async fn keys(
    connection: &mut PgConnection,
    locks: &[String],
) -> Result<Vec<Option<i64>>, sqlx::Error> {
    let readable: Option<bool> =
        sqlx::query_scalar("select has_table_privilege(to_regclass($1)::oid, 'select')")
            .bind(format!("public.{LOCKS}"))
            .fetch_one(&mut *connection)
            .await?;
    if readable != Some(true) {
        return Ok(vec![None; locks.len()]);
    }
    let sql = format!(
        "select l.key from unnest($1::text[]) with ordinality as w (name, place) \
         left join public.{LOCKS} l using (name) order by w.place"
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(locks)
        .fetch_all(connection)
        .await
}
