//! `artstore projection rebuild` and `rollback`: readers see the whole cache all the while, nothing is
//! lost, and whatever is killed, the same command completes it.

mod beside;
mod damage;
mod live;
mod parked;
mod recorded;
mod refused;
mod size;
mod two_at_once;
mod waiting;

use artstore_schemas::source::Source;
use serde_json::Value;
use sqlx::PgConnection;

use crate::projector::parking::{files, passed};
use crate::support::*;

/// A world with so many files, whose relays and projector run; the cache has them.
async fn built(elements: &[&str], count: usize) -> (World, [Process; 2]) {
    let world = World::new(elements).await;
    files(&world, count).await;
    let relay = world.command(&["run", "relay"]).start();
    let projector = world.projector().start();
    passed(&world).await;
    (world, [relay, projector])
}

fn command(world: &World, more: &[&str]) -> Program {
    let mut arguments = vec!["projection", "rebuild", "query-cache"];
    arguments.extend(more);
    world.command(&arguments)
}

/// Runs a rebuild: exit code and its report as JSON.
async fn rebuild(world: &World, more: &[&str]) -> (Option<i32>, Value) {
    let mut process = command(world, more).argument("--json").start();
    let status = process.ended().await;
    let said = process.output();
    let said = serde_json::from_str(&said).unwrap_or_else(|_| Value::from(process.log()));
    (status.code(), said)
}

/// It ends with a swap of equal tables.
async fn swaps(world: &World) -> Value {
    let (code, said) = rebuild(world, &[]).await;
    assert_eq!(code, Some(0), "{said:#}");
    assert_eq!(said["outcome"], "swapped", "{said:#}");
    said
}

async fn schemas(query: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select nspname::text from pg_namespace where nspname like 'artstore%' order by 1",
    )
    .fetch_all(query)
    .await
    .unwrap()
}

/// What the live tables are made of, but for names of schemas and numbers of objects.
async fn form(query: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select format('%s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), \
             a.attnotnull, a.attidentity) || coalesce(pg_get_expr(d.adbin, d.adrelid), '') \
             || coalesce(col_description(c.oid, a.attnum), '') || coalesce(a.attacl::text, '') \
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 \
             and not a.attisdropped \
         left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum \
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'S') \
         union all select indexdef from pg_indexes where schemaname = 'public' \
         union all select conname || pg_get_constraintdef(oid) from pg_constraint \
             where connamespace = 'public'::regnamespace \
         union all select pg_get_triggerdef(t.oid) || tgenabled::text from pg_trigger t \
             join pg_class c on c.oid = t.tgrelid \
             where not tgisinternal and c.relnamespace = 'public'::regnamespace \
         union all select relname || relowner::regrole || coalesce(( \
             select string_agg(x::text, ' ' order by x::text) from unnest(relacl) x), '') \
             || coalesce(reloptions::text, '') || coalesce(obj_description(oid, 'pg_class'), '') \
             from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'S') \
         order by 1",
    )
    .fetch_all(query)
    .await
    .unwrap()
}

/// The events of commands, in order.
async fn events(query: &mut PgConnection) -> Vec<(String, Value)> {
    sqlx::query_as(
        "select action, data from event_outbox where entity = 'projection' order by position",
    )
    .fetch_all(query)
    .await
    .unwrap()
}

async fn all_applied(world: &World) {
    world.published(0).await;
    let source = Source::Query;
    let written = finished(&mut world.query().await, &source).await;
    eventually("all events of the query module are published", async || {
        (world.last_sequence(&source).await >= written).then_some(())
    })
    .await;
    world.projected().await;
}
