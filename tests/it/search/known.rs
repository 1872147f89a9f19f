//! Known answers among a thousand files, and every question against a naive reader.

use std::collections::HashMap;
use std::sync::Mutex;

use artstore_projectors::search::filters::Filters;
use artstore_projectors::search::query::{Mode, Order, Page, Search, Sort};
use artstore_projectors::search::suggest::Hint;
use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use sqlx::PgConnection;

use super::corpus::{self, TestFile, WORDS};
use super::{ask, empty, ids, names};
use crate::support::*;

/// Files with words that no other file has.
fn special() -> Vec<TestFile> {
    let with = |number, filename: &str, description: &str, tags: &[&str]| TestFile {
        description: (!description.is_empty()).then(|| description.to_owned()),
        tags: (!tags.is_empty()).then(|| tags.iter().map(|t| (*t).to_owned()).collect()),
        ..TestFile::named(number, filename)
    };
    vec![
        with(1, "holiday_zebra.png", "", &[]),
        with(
            2,
            "animals.txt",
            "zebras, zebras, zebras and more zebras",
            &[],
        ),
        with(3, "list.txt", "nothing to see", &["zebra"]),
        with(4, "Zebra", "", &[]),
        with(5, "zebra crossing.docx", "", &[]),
        with(6, "Жирафы в саванне.doc", "", &[]),
        with(7, "safari.doc", "Видели двух жирафов", &[]),
        with(8, "50%_off.txt", "", &[]),
        with(9, "500 off.txt", "", &[]),
        with(10, "50x_off.txt", "", &[]),
        with(11, r"back\slash.txt", "", &[]),
        with(12, "Quarterly.Synergy-v2.1.final.pdf", "", &[]),
        with(13, "Ёжик.txt", "", &[]),
    ]
}

#[test]
fn a_thousand_files_in_two_languages_give_the_known_answers() {
    run(async {
        let (_url, mut query) = empty("known").await;
        let mut files = corpus::files();
        files.extend(special());
        corpus::insert(&mut query, &files).await;
        let known: &[(Mode, &str, &[&str])] = &[
            // A word in the name, then in the description, then in the tags; equals by time.
            (
                Mode::Fulltext,
                "zebra",
                &[
                    "zebra crossing.docx",
                    "Zebra",
                    "holiday_zebra.png",
                    "animals.txt",
                    "list.txt",
                ],
            ),
            (
                Mode::Fulltext,
                "ZEBRAS",
                &[
                    "zebra crossing.docx",
                    "Zebra",
                    "holiday_zebra.png",
                    "animals.txt",
                    "list.txt",
                ],
            ),
            (
                Mode::Fulltext,
                "жираф",
                &["Жирафы в саванне.doc", "safari.doc"],
            ),
            (
                Mode::Fulltext,
                "жирафами",
                &["Жирафы в саванне.doc", "safari.doc"],
            ),
            (Mode::Fulltext, "жираф саванна", &["Жирафы в саванне.doc"]),
            (Mode::Fulltext, "ежик", &["Ёжик.txt"]),
            (
                Mode::Fulltext,
                "zebra -crossing",
                &["Zebra", "holiday_zebra.png", "animals.txt", "list.txt"],
            ),
            (
                Mode::Fulltext,
                "\"zebra crossing\"",
                &["zebra crossing.docx"],
            ),
            (
                Mode::Fulltext,
                "crossing or жираф",
                &["Жирафы в саванне.doc", "zebra crossing.docx", "safari.doc"],
            ),
            (
                Mode::Fulltext,
                "Quarterly.Synergy-v2.1.final.pdf",
                &["Quarterly.Synergy-v2.1.final.pdf"],
            ),
            (
                Mode::Fulltext,
                "synergy final",
                &["Quarterly.Synergy-v2.1.final.pdf"],
            ),
            // The name itself, one that begins so, one that holds it, a description.
            (
                Mode::Partial,
                "zebra",
                &[
                    "Zebra",
                    "zebra crossing.docx",
                    "holiday_zebra.png",
                    "animals.txt",
                ],
            ),
            (
                Mode::Partial,
                "ЖИРАФ",
                &["Жирафы в саванне.doc", "safari.doc"],
            ),
            (Mode::Partial, "50%_off", &["50%_off.txt"]),
            (Mode::Partial, "0_off", &[]),
            (Mode::Partial, r"back\s", &[r"back\slash.txt"]),
            (Mode::Partial, "v2.1", &["Quarterly.Synergy-v2.1.final.pdf"]),
            (Mode::Exact, "Zebra", &["Zebra"]),
            (Mode::Exact, "zebra", &[]),
            (Mode::Exact, "50%_off.txt", &["50%_off.txt"]),
            (
                Mode::Exact,
                "Жирафы в саванне.doc",
                &["Жирафы в саванне.doc"],
            ),
        ];
        for (mode, text, expected) in known {
            let found = ask(&mut query, &Search::new(*text, *mode)).await;
            assert_eq!(names(&found), *expected, "{mode} {text:?}");
            assert_eq!(found.total, expected.len() as i64);
            let fits = found.hits.iter().map(|hit| hit.relevance.unwrap());
            assert!(fits.clone().all(|fit| fit > 0.0 && fit <= 1.0));
        }
        // Every form of every word finds the same files, and some.
        for forms in WORDS {
            let mut found = Vec::new();
            for form in forms {
                let mut question = Search::new(*form, Mode::Fulltext);
                question.page.limit = 1_000;
                found.push(ids(&ask(&mut query, &question).await));
            }
            assert!(found[0].len() > 50, "{forms:?}");
            assert!(found.iter().all(|hits| *hits == found[0]), "{forms:?}");
        }
    });
}

#[test]
fn where_nothing_is_found_similar_names_and_other_ways_are_said() {
    run(async {
        let (_url, mut query) = empty("suggest").await;
        corpus::insert(&mut query, &special()).await;
        for trigrams in [true, false] {
            if !trigrams {
                execute(&mut query, "drop extension pg_trgm cascade").await;
            }
            let typo = if trigrams {
                "qartrly synergy"
            } else {
                "quarterback synergetic"
            };
            let found = ask(&mut query, &Search::new(typo, Mode::Fulltext)).await;
            let suggestions = found.suggestions.unwrap();
            assert_eq!(
                suggestions.similar.first().unwrap(),
                "Quarterly.Synergy-v2.1.final.pdf"
            );
            assert_eq!(suggestions.hints, [Hint::Partial]);
            let found = ask(&mut query, &Search::new("жирафф", Mode::Exact)).await;
            let suggestions = found.suggestions.unwrap();
            assert_eq!(suggestions.similar, ["Жирафы в саванне.doc"]);
            assert_eq!(suggestions.hints, [Hint::Partial, Hint::Fulltext]);
        }
        let found = ask(&mut query, &Search::new("the и", Mode::Fulltext)).await;
        assert_eq!(found.suggestions.unwrap().hints[0], Hint::NoWords);
        // Found, or asked for a later page: nothing is suggested.
        let mut question = Search::new("zebra", Mode::Fulltext);
        assert!(ask(&mut query, &question).await.suggestions.is_none());
        question.page.offset = 100;
        let found = ask(&mut query, &question).await;
        assert!(found.hits.is_empty() && found.suggestions.is_none());
        assert_eq!(found.total, 5);
        question.filters.username = Some("nobody".into());
        question.page.offset = 0;
        let suggestions = ask(&mut query, &question).await.suggestions.unwrap();
        assert!(suggestions.hints.contains(&Hint::FewerFilters));
    });
}

/// A text to look for: none, a word, two words, a part of a name or description, a whole name.
fn texts(files: &[TestFile]) -> impl Strategy<Value = String> + use<> {
    let names: Vec<String> = files.iter().map(|f| f.filename.clone()).collect();
    let mut all = names.clone();
    all.extend(files.iter().filter_map(|f| f.description.clone()));
    let words = || select(WORDS.concat());
    prop_oneof![
        2 => Just(String::new()),
        2 => words().prop_map(str::to_owned),
        1 => words().prop_map(str::to_uppercase),
        1 => (words(), words()).prop_map(|(a, b)| format!("{a} {b}")),
        3 => (select(all), any::<Index>(), 3..9_usize).prop_map(|(text, at, length)| {
            let characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            characters.iter().skip(at).take(length).collect()
        }),
        2 => select(names),
    ]
}

fn filters(files: &[TestFile]) -> impl Strategy<Value = Filters> + use<> {
    let maybe = |values: Vec<String>| prop::option::weighted(0.15, select(values));
    let names: Vec<String> = files.iter().map(|f| f.filename.clone()).collect();
    let owned = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    let size = || prop::option::weighted(0.15, (0..34_u32).prop_map(|power| 1_i64 << power));
    let time = || {
        let hours = (0..300_i64).prop_map(|hours| corpus::start() + TimeDelta::hours(hours));
        prop::option::weighted(0.15, hours)
    };
    let name = prop::option::weighted(
        0.15,
        (select(names), 3..8_usize).prop_map(|(name, length)| name.chars().take(length).collect()),
    );
    let tags = [
        "urgent",
        "Urgent",
        "срочно",
        "a,b",
        "say \"hi\"",
        "none",
        "o'",
    ];
    let tags =
        prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(select(owned(&tags)), 1..4)];
    let extensions = owned(&["pdf", ".Pdf", "gz", "tar.gz", "x"]);
    let users = owned(&["ivanova", "Ivanova", "o'hara", "nobody"]);
    let elements = owned(&["storage_elem_01", "storage_elem_10", "storage_elem_1"]);
    let texts = (name, maybe(extensions), tags, maybe(users), maybe(elements));
    (texts, size(), size(), time(), time()).prop_map(
        |((filename, extension, tags, username, storage_element), min, max, from, to)| Filters {
            filename,
            extension,
            tags,
            username,
            min_size: min,
            max_size: max,
            created_from: from,
            created_to: to,
            storage_element,
        },
    )
}

fn questions(files: &[TestFile]) -> impl Strategy<Value = Search> + use<> {
    let orders = [None, Some(Order::Ascending), Some(Order::Descending)];
    let modes = [Mode::Exact, Mode::Partial, Mode::Fulltext];
    let pages = prop_oneof![
        1 => Just((1_000_u32, 0_u32)),
        1 => (1..30_u32, 0..40_u32),
    ];
    let how = (
        select(modes.to_vec()),
        select(SORTS.to_vec()),
        select(orders.to_vec()),
        pages,
    );
    (texts(files), filters(files), how).prop_map(
        |(text, filters, (mode, sort, order, (limit, offset)))| Search {
            text,
            mode,
            filters,
            sort,
            order,
            page: Page {
                limit,
                offset,
                after: None,
            },
        },
    )
}

/// Each filter by itself, in every order; each has an answer.
fn alone() -> Vec<Search> {
    let hours = |hours| Some(corpus::start() + TimeDelta::hours(hours));
    let changes: [fn(&mut Filters); 8] = [
        |f| f.filename = Some("PORT".into()),
        |f| f.extension = Some("pdf".into()),
        |f| f.extension = Some(".tar.gz".into()),
        |f| f.tags = vec!["срочно".into(), "a,b".into()],
        |f| f.username = Some("o'hara".into()),
        |f| f.storage_element = Some("storage_elem_10".into()),
        |f| f.min_size = Some(1 << 20),
        |f| f.max_size = Some(1 << 20),
    ];
    let mut filters: Vec<Filters> = changes
        .iter()
        .map(|change| {
            let mut filters = Filters::default();
            change(&mut filters);
            filters
        })
        .collect();
    for (created_from, created_to) in [
        (hours(100), None),
        (None, hours(100)),
        (hours(50), hours(60)),
    ] {
        filters.push(Filters {
            created_from,
            created_to,
            ..Filters::default()
        });
    }
    let mut questions = Vec::new();
    for filters in filters {
        for sort in SORTS {
            for order in [None, Some(Order::Ascending), Some(Order::Descending)] {
                questions.push(Search {
                    filters: filters.clone(),
                    sort,
                    order,
                    ..Search::new("", Mode::Partial)
                });
            }
        }
    }
    questions
}

const SORTS: [Sort; 5] = [
    Sort::CreatedAt,
    Sort::UpdatedAt,
    Sort::FileSize,
    Sort::Filename,
    Sort::Relevance,
];

#[test]
fn every_filter_alone_and_in_any_combination_agrees_with_a_naive_reader() {
    run(async {
        let files = corpus::files();
        let (_url, mut query) = empty("property").await;
        corpus::insert(&mut query, &files).await;
        // The runner of the cases does not wait by itself.
        tokio::task::block_in_place(|| agrees_with_a_naive_reader(&files, query));
    });
}

fn agrees_with_a_naive_reader(files: &[TestFile], query: PgConnection) {
    let database = Mutex::new(query);
    let by_id: HashMap<&str, &TestFile> = files.iter().map(|f| (f.id.as_str(), f)).collect();
    let config = Config {
        cases: 400,
        rng_seed: RngSeed::Fixed(20_260_101),
        failure_persistence: None,
        max_global_rejects: 100_000,
        ..Config::default()
    };
    let answered = Mutex::new((0, 0));
    let mut runner = TestRunner::new(config.clone());
    let check = |question: Search| {
        // What the naive reader does not understand: words outside its list, and short texts.
        let fulltext = question.mode == Mode::Fulltext && !question.text.is_empty();
        let understood = |text: &str| {
            text.split(' ')
                .all(|word| WORDS.concat().contains(&word.to_lowercase().as_str()))
        };
        prop_assume!(!fulltext || understood(&question.text));
        let mut database = database
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let answer = artstore_projectors::search::search(&mut database, &question);
        let found = match tokio::runtime::Handle::current().block_on(answer) {
            Ok(found) => found,
            // "nothing to look for", "too short": tested by themselves.
            Err(artstore_projectors::search::search_error::SearchError::Invalid(_)) => {
                return Err(TestCaseError::reject("refused"));
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let mut expected: Vec<TestFile> = files
            .iter()
            .filter(|file| corpus::answers(file, &question))
            .cloned()
            .collect();
        prop_assert_eq!(found.total, expected.len() as i64);
        prop_assert!(found.total_exact);
        let (asked, some) = &mut *answered.lock().unwrap();
        *asked += 1;
        *some += usize::from(!expected.is_empty());
        let ranked = question.sort == Sort::Relevance && fulltext;
        if ranked {
            // Its numbers are PostgreSQL's: that better fits come first, equals by time and id.
            let hits = &found.hits;
            let place = |hit: &artstore_projectors::search::hit::Hit| {
                (hit.relevance.unwrap(), hit.created_at, hit.id.clone())
            };
            let ascending = question.order() == Order::Ascending;
            for pair in hits.windows(2) {
                let (a, b) = (place(&pair[0]), place(&pair[1]));
                prop_assert!(if ascending { a < b } else { a > b }, "{a:?} {b:?}");
            }
            for hit in hits {
                prop_assert!(corpus::answers(by_id[hit.id.as_str()], &question));
            }
            return Ok(());
        }
        corpus::order(&mut expected, &question, |file| match question.mode {
            Mode::Partial if !question.text.is_empty() => {
                corpus::partial_relevance(file, &question.text)
            }
            _ => 0.0,
        });
        let page: Vec<String> = expected
            .iter()
            .skip(question.page.offset as usize)
            .take(question.page.limit as usize)
            .map(|file| file.id.clone())
            .collect();
        prop_assert_eq!(ids(&found), page);
        Ok(())
    };
    for question in alone() {
        check(question.clone()).unwrap_or_else(|error| panic!("{question:?}: {error}"));
    }
    assert_eq!(
        answered.lock().unwrap().1,
        alone().len(),
        "each has an answer"
    );
    let checked = runner.run(&questions(files), check);
    if let Err(error) = checked {
        panic!("seed {}: {error}", config.rng_seed);
    }
    let (asked, some) = *answered.lock().unwrap();
    assert!(
        asked >= 400 && some > 150,
        "{some} of {asked} questions had an answer"
    );
}
