//! All pages together are the whole: by offset while nothing changes, by token also while files
//! come and go.

use artstore_projectors::search::query::{Mode, Order, Search, Sort};
use chrono::TimeDelta;
use sqlx::PgConnection;

use super::corpus::{self, TestFile};
use super::{ask, empty, ids};
use crate::support::*;

const SORTS: [Sort; 5] = [
    Sort::CreatedAt,
    Sort::UpdatedAt,
    Sort::FileSize,
    Sort::Filename,
    Sort::Relevance,
];

async fn all(query: &mut PgConnection, question: &Search) -> Vec<String> {
    let mut question = question.clone();
    question.page.limit = 1_000;
    let found = ask(query, &question).await;
    assert!(found.next.is_none());
    ids(&found)
}

/// Files that come while pages are turned: at both ends and in the middle of every order.
async fn more_come(query: &mut PgConnection, turn: u32) {
    for (which, (name, hours, power)) in [
        ("000 report.pdf", -9, 0),
        ("letter report.txt", 150, 17),
        ("яяя report.pdf", 999, 35),
    ]
    .into_iter()
    .enumerate()
    {
        let file = TestFile::named(10_000 + turn * 10 + which as u32, name);
        let at = corpus::start() + TimeDelta::hours(hours) + TimeDelta::seconds(turn.into());
        let file = TestFile {
            size: 1 << power,
            created_at: at,
            updated_at: at,
            description: Some("one more report".to_owned()),
            ..file
        };
        file.insert(query).await;
    }
}

#[test]
fn pages_by_token_are_the_whole_while_files_come_and_go() {
    run(async {
        let (_url, mut query) = empty("tokens").await;
        corpus::insert(&mut query, &corpus::files()).await;
        for mode in [Mode::Partial, Mode::Fulltext] {
            for sort in SORTS {
                for order in [Order::Ascending, Order::Descending] {
                    let mut question = Search::new("report", mode);
                    (question.sort, question.order) = (sort, Some(order));
                    let whole = all(&mut query, &question).await;
                    assert!(whole.len() > 150);
                    question.page.limit = 37;
                    let mut pages = Vec::new();
                    let mut turn = 0;
                    loop {
                        let found = ask(&mut query, &question).await;
                        pages.extend(ids(&found));
                        let Some(next) = found.next else { break };
                        question.page.after = Some(next);
                        // A page may be as large as the reader likes.
                        question.page.limit = 20 + turn;
                        turn += 1;
                        more_come(&mut query, turn).await;
                        // The hit that the token stands for goes as well.
                        if turn == 2 {
                            let gone = pages.last().unwrap();
                            let sql = format!(
                                "update file_metadata_cache set filename = 'gone.txt', description = null, tags = null where id = '{gone}'"
                            );
                            execute(&mut query, sql).await;
                        }
                    }
                    let mut once = pages.clone();
                    once.sort();
                    once.dedup();
                    assert_eq!(
                        once.len(),
                        pages.len(),
                        "{mode} {sort} {order}: a hit comes twice"
                    );
                    pages.retain(|id| whole.contains(id));
                    assert_eq!(pages, whole, "{mode} {sort} {order}");
                    execute(
                        &mut query,
                        "delete from file_metadata_cache where id ~ '^0000'",
                    )
                    .await;
                }
            }
        }
    });
}

#[test]
fn pages_by_offset_are_the_whole_while_nothing_changes() {
    run(async {
        let (_url, mut query) = empty("offsets").await;
        corpus::insert(&mut query, &corpus::files()).await;
        for sort in SORTS {
            let mut question = Search::new("договор", Mode::Fulltext);
            question.sort = sort;
            let whole = all(&mut query, &question).await;
            question.page.limit = 50;
            let mut pages = Vec::new();
            while pages.len() < whole.len() {
                question.page.offset = pages.len() as u32;
                let found = ask(&mut query, &question).await;
                assert_eq!(found.total, whole.len() as i64);
                assert_eq!(
                    found.next.is_some(),
                    pages.len() + found.hits.len() < whole.len()
                );
                pages.extend(ids(&found));
            }
            assert_eq!(pages, whole, "{sort}");
        }
    });
}
