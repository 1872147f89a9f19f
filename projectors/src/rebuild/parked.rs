//! What is parked in the live and in the rebuilt tables, and whether operators have decided about any of it
//! meanwhile (`artstore parked`).

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::projector::Projector;

/// What is parked, by stream and sequence, with its key.
type Parked = BTreeMap<(String, i64), Option<Uuid>>;

/// What was parked in both sets of tables at some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ParkedInBoth {
    live: Parked,
    shadow: Parked,
}

impl ParkedInBoth {
    /// Reads both in one session.
    pub(crate) async fn read_both<P: Projector>(
        connection: &mut PgConnection,
        schema: &str,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self {
            live: parked::<P>(connection, "public").await?,
            shadow: parked::<P>(connection, schema).await?,
        })
    }

    /// Reads each in a session of its own.
    pub(crate) async fn read<P: Projector>(
        live: &mut PgConnection,
        shadow: &mut PgConnection,
        schema: &str,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self {
            live: parked::<P>(live, "public").await?,
            shadow: parked::<P>(shadow, schema).await?,
        })
    }

    /// The keys of either side, as texts.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        let all = self.live.values().chain(self.shadow.values());
        all.flatten().map(Uuid::to_string).collect()
    }

    /// Where an operator has retried or discarded something since it was seen: none of what was parked
    /// is gone otherwise, and what was parked since is parked on both sides. Of a key that one side
    /// has parked already, the other one may have applied what came since.
    pub(crate) fn decided(&self, now: &Self) -> Option<(String, i64)> {
        let known: BTreeSet<Uuid> = self
            .live
            .values()
            .chain(self.shadow.values())
            .flatten()
            .copied()
            .collect();
        let gone = |before: &Parked, now: &Parked| {
            let mut gone = before.keys().filter(|place| !now.contains_key(*place));
            gone.next().cloned()
        };
        let new = |before: &Parked, now: &Parked| -> BTreeSet<(String, i64)> {
            let new = now.iter().filter(|(place, key)| {
                !before.contains_key(*place) && key.is_none_or(|key| !known.contains(&key))
            });
            new.map(|(place, _)| place.clone()).collect()
        };
        let (here, there) = (new(&self.live, &now.live), new(&self.shadow, &now.shadow));
        gone(&self.live, &now.live)
            .or_else(|| gone(&self.shadow, &now.shadow))
            .or_else(|| here.symmetric_difference(&there).next().cloned())
    }
}

/// What is parked in a schema.
async fn parked<P: Projector>(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Parked, sqlx::Error> {
    let sql = format!(
        "select stream, stream_sequence, key from {schema}.projection_parked where projection = $1"
    );
    let rows: Vec<(String, i64, Option<Uuid>)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(P::NAME)
        .fetch_all(connection)
        .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|(stream, sequence, key)| ((stream, sequence), key))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(places: &[(i64, u128)]) -> Parked {
        let place = |(at, key): &(i64, u128)| {
            let key = Some(Uuid::from_u128(*key));
            (("s".to_owned(), *at), key)
        };
        places.iter().map(place).collect()
    }

    fn seen(live: &[(i64, u128)], shadow: &[(i64, u128)]) -> ParkedInBoth {
        ParkedInBoth {
            live: parked(live),
            shadow: parked(shadow),
        }
    }

    #[test]
    fn what_comes_behind_is_no_decision() {
        let before = seen(&[(5, 1), (6, 2)], &[(5, 1)]);
        for now in [
            before.clone(),
            // Behind a key that both have, that one has, and of a key that is new.
            seen(&[(5, 1), (6, 2), (7, 1)], &[(5, 1), (7, 1)]),
            seen(&[(5, 1), (6, 2), (7, 2)], &[(5, 1)]),
            seen(&[(5, 1), (6, 2), (7, 3)], &[(5, 1), (7, 3)]),
        ] {
            assert_eq!(before.decided(&now), None, "{now:?}");
        }
    }

    #[test]
    fn what_was_retried_or_given_up_is_a_decision_whenever_it_was_parked() {
        let before = seen(&[(5, 1), (6, 2)], &[(5, 1)]);
        for (now, at) in [
            (seen(&[(6, 2)], &[(5, 1)]), 5),
            (seen(&[(5, 1)], &[(5, 1)]), 6),
            (seen(&[(5, 1), (6, 2)], &[]), 5),
            // Parked by both since, and gone from the live tables again; and what it held back.
            (seen(&[(5, 1), (6, 2)], &[(5, 1), (8, 3)]), 8),
            (
                seen(&[(5, 1), (6, 2), (9, 3)], &[(5, 1), (8, 3), (9, 3)]),
                8,
            ),
        ] {
            assert_eq!(before.decided(&now), Some(("s".to_owned(), at)), "{now:?}");
        }
    }
}
