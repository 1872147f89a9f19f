//! A hundred thousand files: whatever is asked, PostgreSQL takes an index by its own choice.

use std::fmt::Write as _;

use artstore_projectors::search::filters::Filters;
use artstore_projectors::search::query::{Mode, Order, Search, Sort};
use artstore_projectors::search::{self, COUNTED, RANKED};
use sqlx::PgConnection;

use super::{ask, empty, ids};
use crate::support::*;

/// Fills the cache as fifty elements would: mostly in the order of creation. Indexes are made
/// afterwards, which is a lot quicker.
async fn fill(query: &mut PgConnection) {
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select indexname::text, indexdef from pg_indexes \
         where tablename = 'file_metadata_cache' and indexname !~ 'pkey'",
    )
    .fetch_all(&mut *query)
    .await
    .unwrap();
    for (name, _) in &indexes {
        execute(query, format!("drop index {name}")).await;
    }
    execute(
        query,
        "insert into file_metadata_cache (id, filename, storage_filename, file_size, mime_type, \
             sha256_hash, username, tags, description, storage_element_id, created_at, updated_at) \
         select h::uuid::text, w.a || '_' || w.b || '_' || n || '.' || w.e, h || '.bin', \
             (('x' || substr(h, 1, 8))::bit(32)::bigint & 2147483647), 'application/pdf', h || h, \
             'user' || (n * 7919 % 2000), array['tag' || (n % 97), 'проект' || (n % 13)], \
             w.a || ' ' || w.b || ' for the quarter, checked and filed; ' || w.c || ' номер ' || n, \
             'storage_elem_' || lpad((n % 50 + 1)::text, 2, '0'), \
             '2026-01-01'::timestamptz + n * interval '1 minute' \
                 + (n::bigint * 104729 % 1000) * interval '1 second', \
             '2026-01-01'::timestamptz + (n * 15485863::bigint % 100000) * interval '1 minute' \
         from (select n, md5(n::text) h from generate_series(1, 100000) n) s, \
             lateral (select (array['report','invoice','contract','photo','letter','plan', \
                     'budget','minutes','drawing','archive'])[n % 10 + 1] a, \
                 (array['annual','final','draft','scan','client','project','london','moscow', \
                     'paris','berlin','rome'])[n % 11 + 1] b, \
                 (array['отчёт','счёт','договор','фото','письмо','план','смета'])[n % 7 + 1] c, \
                 (array['pdf','docx','png','txt','xlsx'])[n % 5 + 1] e) w",
    )
    .await;
    for (_, definition) in &indexes {
        execute(query, definition.as_str()).await;
    }
    execute(query, "analyze file_metadata_cache").await;
}

const SORTS: [Sort; 5] = [
    Sort::CreatedAt,
    Sort::UpdatedAt,
    Sort::FileSize,
    Sort::Filename,
    Sort::Relevance,
];

fn filtered(change: impl FnOnce(&mut Filters)) -> Search {
    let mut question = Search::new("", Mode::Fulltext);
    change(&mut question.filters);
    question
}

/// What is asked, and a part of the definition of an index that has to serve it, whatever the
/// order; empty where the index of the order may.
fn questions() -> Vec<(String, Search, &'static str)> {
    let name = "report_annual_2210.pdf";
    let text = |text: &str, mode| Search::new(text, mode);
    let at = |text: &str| text.parse().unwrap();
    vec![
        ("exact", text(name, Mode::Exact), "filename"),
        (
            "exact, nothing",
            text("nowhere.pdf", Mode::Exact),
            "filename",
        ),
        ("exact, signs", text("---", Mode::Exact), "filename"),
        (
            "partial, few",
            text("MOSCOW_124", Mode::Partial),
            "gin_trgm_ops",
        ),
        ("partial, many", text("report", Mode::Partial), ""),
        (
            "partial, nothing",
            text("no such text", Mode::Partial),
            "gin_trgm_ops",
        ),
        ("partial, edges", text("t_f", Mode::Partial), ""),
        (
            "partial, Russian",
            text("номер 777", Mode::Partial),
            "gin_trgm_ops",
        ),
        (
            "fulltext, few",
            text("letter 77777", Mode::Fulltext),
            "search_vector",
        ),
        ("fulltext, many", text("договоры", Mode::Fulltext), ""),
        ("fulltext, all", text("quarter", Mode::Fulltext), ""),
        ("partial, all", text("checked and", Mode::Partial), ""),
        (
            "fulltext, nothing",
            text("nowhere", Mode::Fulltext),
            "search_vector",
        ),
        ("fulltext, not", text("report -annual", Mode::Fulltext), ""),
        (
            "file name",
            filtered(|f| f.filename = Some("paris_99".into())),
            "gin_trgm_ops",
        ),
        (
            "extension",
            filtered(|f| f.extension = Some("pdf".into())),
            "",
        ),
        (
            "extension, nothing",
            filtered(|f| f.extension = Some("exe".into())),
            "gin_trgm_ops",
        ),
        (
            "tags",
            filtered(|f| f.tags = vec!["tag7".into(), "tag8".into()]),
            "",
        ),
        (
            "tags, nothing",
            filtered(|f| f.tags = vec!["none".into()]),
            "(tags)",
        ),
        (
            "user",
            filtered(|f| f.username = Some("user7".into())),
            "(username",
        ),
        (
            "user, nothing",
            filtered(|f| f.username = Some("nobody".into())),
            "(username",
        ),
        (
            "size, few",
            filtered(|f| (f.min_size, f.max_size) = (Some(5_000), Some(90_000))),
            "(file_size",
        ),
        ("size, all", filtered(|f| f.min_size = Some(0)), ""),
        (
            "created, a day",
            filtered(|f| {
                f.created_from = Some(at("2026-02-01T00:00:00Z"));
                f.created_to = Some(at("2026-02-02T00:00:00Z"));
            }),
            "created_at",
        ),
        (
            "created, all",
            filtered(|f| f.created_to = Some(at("2030-02-02T00:00:00Z"))),
            "",
        ),
        (
            "element",
            filtered(|f| f.storage_element = Some("storage_elem_07".into())),
            "",
        ),
        (
            "element, nothing",
            filtered(|f| f.storage_element = Some("nowhere".into())),
            "(storage_element_id",
        ),
    ]
    .into_iter()
    .map(|(what, question, index)| (what.to_owned(), question, index))
    .collect()
}

/// The definitions of the indexes that a plan uses.
async fn used(query: &mut PgConnection, plan: &[String]) -> Vec<(String, String)> {
    let mut names: Vec<String> = plan
        .iter()
        .filter_map(|line| {
            let behind = line
                .split_once("Bitmap Index Scan on ")
                .or_else(|| line.split_once("Index Scan using "))
                .or_else(|| line.split_once("Index Scan Backward using "))
                .or_else(|| line.split_once("Index Only Scan using "))
                .or_else(|| line.split_once("Index Only Scan Backward using "))?;
            behind.1.split_whitespace().next().map(str::to_owned)
        })
        .collect();
    names.dedup();
    let mut used = Vec::new();
    for name in names {
        let definition = sqlx::query_scalar("select indexdef from pg_indexes where indexname = $1")
            .bind(&name)
            .fetch_one(&mut *query)
            .await
            .unwrap();
        used.push((name, definition));
    }
    used
}

#[test]
fn among_a_hundred_thousand_files_every_question_takes_an_index() {
    run(async {
        let (_url, mut query) = empty("plans").await;
        fill(&mut query).await;
        let mut report = String::new();
        let mut sequential = Vec::new();
        for (what, question, index) in questions() {
            for sort in SORTS {
                for order in [Order::Ascending, Order::Descending] {
                    let mut question = question.clone();
                    (question.sort, question.order) = (sort, Some(order));
                    let plan = search::explain(&mut query, &question).await.unwrap();
                    let used = used(&mut query, &plan).await;
                    let names: Vec<&str> = used.iter().map(|(name, _)| name.as_str()).collect();
                    writeln!(report, "{what:20} {sort:10} {order:4} {}", names.join(", ")).unwrap();
                    if plan.iter().any(|line| line.contains("Seq Scan")) || used.is_empty() {
                        sequential.push(format!("{what} by {sort} {order}:\n{}", plan.join("\n")));
                    }
                    assert!(
                        used.iter()
                            .any(|(_, definition)| definition.contains(index)),
                        "{what} by {sort} {order} does not use {index}:\n{}",
                        plan.join("\n")
                    );
                }
            }
        }
        println!("{report}");
        assert!(sequential.is_empty(), "{}", sequential.join("\n\n"));
        // A later page, too, and a large one.
        for sort in SORTS {
            let mut question = filtered(|f| f.min_size = Some(1));
            question.sort = sort;
            question.page.limit = 1_000;
            let found = ask(&mut query, &question).await;
            assert_eq!((found.total, found.total_exact), (COUNTED, false));
            question.page.after = found.next;
            let plan = search::explain(&mut query, &question).await.unwrap();
            assert!(
                !plan.iter().any(|line| line.contains("Seq Scan")),
                "{sort}: {plan:#?}"
            );
            let found = ask(&mut query, &question).await;
            assert_eq!((found.hits.len(), found.total), (1_000, COUNTED));
        }
        more_hits_than_are_ranked(&mut query).await;
    });
}

/// Of more hits than are ranked, the newest come first by relevance, and the older ones follow by
/// time: each once, by token and by offset.
async fn more_hits_than_are_ranked(query: &mut PgConnection) {
    let by_time: Vec<String> = sqlx::query_scalar(
        "select id::text from file_metadata_cache \
         where search_vector @@ to_tsquery('russian', 'договор | report') order by created_at desc, id desc",
    )
    .fetch_all(&mut *query)
    .await
    .unwrap();
    assert!(by_time.len() > 20_000);
    let mut question = Search::new("договоры or report", Mode::Fulltext);
    question.page.limit = 999;
    let mut by_offset = Vec::new();
    while by_offset.len() < by_time.len() {
        question.page.offset = by_offset.len() as u32;
        let found = ask(query, &question).await;
        assert!(!found.hits.is_empty());
        by_offset.extend(ids(&found));
    }
    question.page.offset = 0;
    let mut by_token = Vec::new();
    let mut relevance = Vec::new();
    loop {
        let found = ask(query, &question).await;
        by_token.extend(ids(&found));
        relevance.extend(found.hits.iter().map(|hit| hit.relevance.unwrap()));
        question.page.after = found.next;
        if question.page.after.is_none() {
            break;
        }
    }
    assert!(by_token == by_offset, "pages by token and by offset differ");
    let ranked = RANKED as usize;
    assert!(relevance[..ranked].is_sorted_by(|a, b| a >= b));
    // Among the older ones are some that fit better than ranked ones: they do not come up.
    assert!(
        relevance[ranked..]
            .iter()
            .any(|fit| *fit > relevance[ranked - 1])
    );
    let sorted = |ids: &[String]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    assert!(
        sorted(&by_token[..ranked]) == sorted(&by_time[..ranked]),
        "not the newest"
    );
    assert!(
        by_token[ranked..] == by_time[ranked..],
        "older hits do not follow by time"
    );
}
