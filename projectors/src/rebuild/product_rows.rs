//! Rows that the product's own services write into a projection's tables. They have no event; a rebuild
//! copies them to the new tables as they are, with their ids.

use sqlx::{AssertSqlSafe, PgConnection};

use super::session::run;
use super::shadow::sequences;
use super::{OnStep, Step};
use crate::projector::{Projector, Table};

/// The server's statistics may be from before these rows came: in its view there are none, and it looks at
/// all of one side for each of the other. So it has to sort or to hash.
const NO_NESTED_LOOPS: &str = "set enable_nestloop = off";

/// Brings them along before anybody has to wait, and has the server count them for those who will read the
/// tables once they are live.
pub(crate) async fn bring_along<P: Projector>(
    connection: &mut PgConnection,
    from: &str,
    to: &str,
    on_step: OnStep<'_>,
) -> Result<(), sqlx::Error> {
    sync_rows::<P>(connection, from, to, on_step).await?;
    for table in P::REBUILT.iter().filter(|table| table.shared.is_some()) {
        run(connection, &format!("analyze {to}.{}", table.name)).await?;
    }
    Ok(())
}

/// Makes the product's rows in `to` the same as in `from`. Done before anybody has to wait, and once more
/// when nobody writes, it is quick the second time: an index has these rows, and it reads no others.
pub(crate) async fn sync_rows<P: Projector>(
    connection: &mut PgConnection,
    from: &str,
    to: &str,
    on_step: OnStep<'_>,
) -> Result<(), sqlx::Error> {
    run(connection, NO_NESTED_LOOPS).await?;
    for table in P::REBUILT {
        let Some(id) = table.shared else {
            continue;
        };
        on_step(Step::Copying { table: table.name });
        sync_table(connection, table, id, from, to).await?;
    }
    run(connection, "reset enable_nestloop").await
}

async fn sync_table(
    connection: &mut PgConnection,
    table: &Table,
    id: &str,
    from: &str,
    to: &str,
) -> Result<(), sqlx::Error> {
    let (name, key) = (table.name, table.key);
    run(
        connection,
        &format!(
            "delete from {to}.{name} t where event_id is null and not exists ( \
                 select from {from}.{name} f \
                 where f.event_id is null and f.{id} = t.{id} and f::text = t::text)"
        ),
    )
    .await?;
    let columns: Vec<String> = sqlx::query_scalar(
        "select quote_ident(attname) from pg_attribute \
         where attrelid = format('%I.%I', $1, $2)::regclass and attnum > 0 and not attisdropped \
             and attgenerated = '' order by attnum",
    )
    .bind(from)
    .bind(name)
    .fetch_all(&mut *connection)
    .await?;
    let columns = columns.join(", ");
    // Where the id is the row's key, a row of an event has taken its place.
    let unless = match key == id {
        true => format!("on conflict ({id}) do nothing"),
        false => format!(
            "and not exists (select from {to}.{name} t where t.{id} = f.{id} and t.event_id is null)"
        ),
    };
    let sql = format!(
        "insert into {to}.{name} ({columns}) overriding system value \
         select {columns} from {from}.{name} f where event_id is null {unless}"
    );
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// No id that was given in `from` is given again in `to`.
pub(crate) async fn sync_sequences<P: Projector>(
    connection: &mut PgConnection,
    from: &str,
    to: &str,
) -> Result<(), sqlx::Error> {
    for table in P::REBUILT {
        for (old, new) in sequences(connection, from, to, table.name).await? {
            let sql = format!(
                "select setval('{new}', greatest(n.last_value, o.last_value)) \
                 from {new} n, {old} o"
            );
            run(connection, &sql).await?;
        }
    }
    Ok(())
}
