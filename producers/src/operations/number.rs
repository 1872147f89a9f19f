//! Positions for finished rows that have none, because the trigger that assigns them was off. The
//! relay then finds these rows above all others, and publishes them.

use artstore_schemas::source::Source;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::relay::relay_error::RelayError;
use crate::relay::rows;
use crate::relay::source::SourceTable;

/// Numbers them, in the order in which they were finished as far as it is known, and returns how
/// many there were. Trigger and constraint are as they should be afterwards. All in one
/// transaction that keeps writers waiting; it gives up where the table is not free within five
/// seconds.
pub async fn number(connection: &mut PgConnection, source: &Source) -> Result<u64, RelayError> {
    let table = SourceTable::of(source);
    let names = Names::of(source, &table);
    let mut transaction = connection.begin().await?;
    let locked = format!(
        "set local lock_timeout = '5s'; \
         lock table public.{} in share row exclusive mode; \
         set local synchronous_commit = on",
        table.table
    );
    sqlx::raw_sql(AssertSqlSafe(locked))
        .execute(&mut *transaction)
        .await?;
    let (_, count) = rows::unnumbered(&mut transaction, &table, 0).await?;
    sqlx::raw_sql(AssertSqlSafe(names.fill(include_str!("sql/number.sql"))))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let validate = format!(
        "set lock_timeout = '5s'; alter table public.{} validate constraint {}",
        table.table, names.constraint
    );
    // New rows keep to it already; that older ones do is recorded in the catalogue when there is time.
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(validate))
        .execute(connection)
        .await
    {
        let (constraint, table) = (&names.constraint, &names.table);
        tracing::warn!(
            constraint, table, %error,
            "the rows are numbered; the constraint could not be validated: run the command again"
        );
    }
    Ok(count)
}

struct Names {
    table: String,
    id: &'static str,
    sequence: String,
    trigger: String,
    function: String,
    constraint: String,
    outbox: bool,
}

impl Names {
    fn of(source: &Source, table: &SourceTable) -> Self {
        let name = table.table.clone();
        let outbox = !matches!(source, Source::Element(_));
        let constraint = if outbox { "assigned" } else { "when_finished" };
        Self {
            id: table.id_column,
            sequence: table.sequence.clone(),
            trigger: format!("zzz_{name}_position"),
            function: format!("{name}_position"),
            constraint: format!("{name}_position_{constraint}"),
            table: name,
            outbox,
        }
    }

    fn fill(&self, sql: &str) -> String {
        const FINISHED: &str = "status in ('committed', 'rolled_back', 'failed')";
        let other = |what: &str| {
            if self.outbox {
                format!("alter table public.event_outbox {what} trigger event_outbox_insert_only;")
            } else {
                String::new()
            }
        };
        let (finished, check, order, events) = if self.outbox {
            (
                "true",
                "position is not null".to_owned(),
                "occurred_at",
                "insert",
            )
        } else {
            (
                FINISHED,
                format!("({FINISHED}) = (position is not null)"),
                "completed_at nulls last, started_at nulls last",
                "insert or update",
            )
        };
        [
            ("{table}", self.table.as_str()),
            ("{id}", self.id),
            ("{sequence}", &self.sequence),
            ("{trigger}", &self.trigger),
            ("{function}", &self.function),
            ("{constraint}", &self.constraint),
            ("{finished}", finished),
            ("{check}", &check),
            ("{order}", order),
            ("{events}", events),
            ("{closed}", &other("disable")),
            ("{opened}", &other("enable always")),
        ]
        .into_iter()
        .fold(sql.to_owned(), |sql, (place, text)| {
            sql.replace(place, text)
        })
    }
}
