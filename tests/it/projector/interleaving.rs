//! The cache does not depend on how the streams of two elements come interleaved, nor on how they
//! are cut into batches: every pair of histories, every interleaving, on real tables.

use std::collections::HashMap;

use artstore_projectors::projector::{Projector as _, Received};
use artstore_projectors::query_cache::QueryCache;
use artstore_schemas::actor::Actor;
use artstore_schemas::element::ElementName;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{Element, Event, EventType, File, Operation, Status, WalEvent};
use artstore_schemas::source::Source;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::support::*;

/// What an event states about the file: there since this time, or not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Says {
    There(i64),
    Gone,
}

const SAYS: [Says; 3] = [Says::There(1), Says::There(2), Says::Gone];
const LENGTH: usize = 3;

type History = [Says; LENGTH];

fn histories() -> Vec<History> {
    let mut all = Vec::new();
    for a in SAYS {
        for b in SAYS {
            for c in SAYS {
                all.push([a, b, c]);
            }
        }
    }
    all
}

/// Every order of `LENGTH` events of each of two elements: true is the second element's turn.
fn interleavings() -> Vec<Vec<bool>> {
    (0_u32..1 << (2 * LENGTH))
        .filter(|bits| bits.count_ones() as usize == LENGTH)
        .map(|bits| (0..2 * LENGTH).map(|step| bits >> step & 1 == 1).collect())
        .collect()
}

#[test]
fn every_interleaving_of_two_elements_gives_the_same_rows() {
    run(async {
        let url = migrated("interleaving", artstore_migrations::Module::Query).await;
        let mut connection = pg(&url).await;
        let histories = histories();
        let mut states: HashMap<(History, History), Option<(String, String)>> = HashMap::new();
        let mut cases = 0;
        for interleaving in interleavings() {
            for whole_runs in [false, true] {
                let files = play(&mut connection, &histories, &interleaving, whole_runs).await;
                for (pair, state) in files {
                    cases += 1;
                    let expected = states.entry(pair).or_insert_with(|| state.clone());
                    assert_eq!(*expected, state, "{pair:?} as {interleaving:?}");
                    assert_eq!(
                        state.as_ref().map(|s| s.0.clone()),
                        reference(pair),
                        "{pair:?}"
                    );
                }
                execute(
                    &mut connection,
                    "truncate file_metadata_cache, file_ownership",
                )
                .await;
            }
        }
        println!("{cases} cases");
    });
}

/// The rule, one event after another, in the order in which the first element comes first.
fn reference((a, b): (History, History)) -> Option<String> {
    let mut owner: Option<((i64, &str), bool)> = None;
    for (element, history) in [("elem_a", a), ("elem_b", b)] {
        for says in history {
            match (says, &mut owner) {
                (Says::There(at), owner) => {
                    let claim = (at, element);
                    if owner.is_none_or(|(held, _)| claim >= held) {
                        *owner = Some((claim, true));
                    }
                }
                (Says::Gone, Some((held, present))) if held.1 == element => *present = false,
                (Says::Gone, _) => {}
            }
        }
    }
    owner
        .filter(|(_, present)| *present)
        .map(|((_, element), _)| element.to_owned())
}

type Played = Vec<((History, History), Option<(String, String)>)>;

/// Plays one interleaving for every pair of histories at once: each pair is a file of its own.
async fn play(
    connection: &mut PgConnection,
    histories: &[History],
    interleaving: &[bool],
    whole_runs: bool,
) -> Played {
    let pairs: Vec<(Uuid, History, History)> = histories
        .iter()
        .flat_map(|a| histories.iter().map(|b| (Uuid::new_v4(), *a, *b)))
        .collect();
    let elements: [ElementName; 2] = ["elem_a".parse().unwrap(), "elem_b".parse().unwrap()];
    let mut played = [0, 0];
    let mut step = 0;
    while step < interleaving.len() {
        let turn = interleaving[step];
        let run = interleaving[step..]
            .iter()
            .take_while(|t| **t == turn)
            .count();
        let length = if whole_runs { run } else { 1 };
        step += length;
        let element = usize::from(turn);
        let mut batch = Vec::new();
        for (id, a, b) in &pairs {
            let history = if turn { b } else { a };
            for (number, says) in history
                .iter()
                .enumerate()
                .skip(played[element])
                .take(length)
            {
                batch.push(received(*id, &elements[element], *says, number));
            }
        }
        played[element] += length;
        let mut transaction = connection.begin().await.unwrap();
        let source = Source::Element(elements[element].clone());
        QueryCache
            .apply(&mut transaction, &source, &batch)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }
    let rows = sqlx::query(
        "select id::uuid as id, storage_element_id, description from file_metadata_cache",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    let mut shown: HashMap<Uuid, (String, String)> = rows
        .iter()
        .map(|row| {
            (
                row.get("id"),
                (row.get("storage_element_id"), row.get("description")),
            )
        })
        .collect();
    pairs
        .into_iter()
        .map(|(id, a, b)| ((a, b), shown.remove(&id)))
        .collect()
}

fn received(id: Uuid, element: &ElementName, says: Says, number: usize) -> Received {
    let source = Source::Element(element.clone());
    let event_id = Uuid::new_v4();
    let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
    let file = match says {
        Says::Gone => None,
        Says::There(since) => Some(file(id, at(since), format!("{element} {number}"))),
    };
    Received {
        sequence: number as u64 + 1,
        envelope: Envelope {
            id: event_id,
            source: source.ce_source(),
            event_type: EventType::new("file", "updated", 1),
            subject: Some(id.to_string()),
            time: at(9),
            traceparent: None,
            position: Some(number as i64 + 1),
            high_water_mark: 0,
            gaps: artstore_schemas::ranges::Ranges::default(),
            identity: "test".to_owned(),
            previous: None,
            snapshot: None,
            backfill_due: false,
        },
        event: Event::Wal(Box::new(WalEvent {
            operation: Operation {
                id: event_id,
                kind: "file_update".to_owned(),
                status: Status::Committed,
                started_at: at(9),
                completed_at: None,
                duration_ms: None,
                error_message: None,
                request_id: None,
                file_id: Some(id),
                data: None,
            },
            actor: Actor::system(),
            element: Element {
                name: element.to_string(),
                api_url: None,
            },
            file,
            omitted: Vec::new(),
        })),
        size: 0,
    }
}

fn file(id: Uuid, created_at: DateTime<Utc>, description: String) -> File {
    File {
        id,
        original_filename: "a".to_owned(),
        storage_filename: "b".to_owned(),
        storage_path: "c".to_owned(),
        file_size: 1,
        content_type: "text/plain".to_owned(),
        checksum: "d".to_owned(),
        created_at,
        updated_at: created_at,
        created_by_id: "1".to_owned(),
        created_by_username: "u".to_owned(),
        created_by_fullname: None,
        description: Some(description),
        version: None,
        metadata: None,
    }
}

/// Two workers on the same files at the same time, on two connections: the claim's row keeps one
/// behind the other, and never both behind each other.
#[test]
fn two_workers_on_the_same_files_at_once_end_as_one_after_the_other() {
    run(async {
        let url = migrated("at_once", artstore_migrations::Module::Query).await;
        let histories = histories();
        let pairs: Vec<(Uuid, History, History)> = histories
            .iter()
            .flat_map(|a| histories.iter().map(|b| (Uuid::new_v4(), *a, *b)))
            .collect();
        let mut workers = Vec::new();
        for (name, second) in [("elem_a", false), ("elem_b", true)] {
            let (url, pairs) = (url.clone(), pairs.clone());
            workers.push(tokio::spawn(async move {
                let element: ElementName = name.parse().unwrap();
                let source = Source::Element(element.clone());
                let mut connection = pg(&url).await;
                for number in 0..LENGTH {
                    for chunk in pairs.chunks(40) {
                        let batch: Vec<Received> = chunk
                            .iter()
                            .map(|(id, a, b)| {
                                let history = if second { b } else { a };
                                received(*id, &element, history[number], number)
                            })
                            .collect();
                        let mut transaction = connection.begin().await.unwrap();
                        QueryCache
                            .apply(&mut transaction, &source, &batch)
                            .await
                            .unwrap();
                        transaction.commit().await.unwrap();
                    }
                }
            }));
        }
        for worker in workers {
            worker.await.unwrap();
        }
        let mut connection = pg(&url).await;
        for (id, a, b) in pairs {
            let shown: Option<String> = sqlx::query_scalar(
                "select storage_element_id from file_metadata_cache where id = $1::text",
            )
            .bind(id)
            .fetch_optional(&mut connection)
            .await
            .unwrap();
            assert_eq!(shown, reference((a, b)), "{a:?} {b:?}");
        }
    });
}

/// Files that change places between two elements at the same moment: each worker claims what the
/// other one gives up. One waits for the other, and never both.
#[test]
fn files_that_change_places_never_make_two_workers_wait_in_a_circle() {
    run(async {
        let url = migrated("crossing", artstore_migrations::Module::Query).await;
        let mut holder = pg(&url).await;
        let mut watcher = pg(&url).await;
        let mut files = [Uuid::new_v4(), Uuid::new_v4()];
        files.sort();
        let elements: [ElementName; 2] = ["elem_a".parse().unwrap(), "elem_b".parse().unwrap()];
        let [low, high] = files;
        let [a, b] = &elements;
        apply_alone(&url, a, vec![received(low, a, Says::There(1), 0)]).await;
        apply_alone(&url, b, vec![received(high, b, Says::There(1), 0)]).await;
        for turn in 1..=10 {
            let there = Says::There(turn + 1);
            let number = turn as usize;
            let (takes_high, takes_low) = if turn % 2 == 1 { (a, b) } else { (b, a) };
            let hold = "begin; select from file_ownership order by file_id for update";
            execute(&mut holder, hold).await;
            let workers =
                [(takes_high, high, low), (takes_low, low, high)].map(|(element, taken, left)| {
                    let batch = vec![
                        received(left, element, Says::Gone, number),
                        received(taken, element, there, number),
                    ];
                    let (url, element) = (url.clone(), element.clone());
                    tokio::spawn(async move { apply_alone(&url, &element, batch).await })
                });
            eventually("both workers wait", async || {
                let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                           and datname = current_database()";
                (value::<i64>(&mut watcher, sql).await == 2).then_some(())
            })
            .await;
            execute(&mut holder, "rollback").await;
            for worker in workers {
                worker.await.unwrap();
            }
            let sql = format!("select element from file_ownership where file_id = '{high}'");
            assert_eq!(
                value::<String>(&mut watcher, sql).await,
                takes_high.as_str()
            );
        }
    });
}

async fn apply_alone(url: &str, element: &ElementName, batch: Vec<Received>) {
    let mut connection = pg(url).await;
    let mut transaction = connection.begin().await.unwrap();
    let source = Source::Element(element.clone());
    QueryCache
        .apply(&mut transaction, &source, &batch)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}
