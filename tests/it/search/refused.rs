//! Texts that mean something to SQL, to patterns or to tsquery mean nothing here; and what can't
//! be asked is refused by what is wrong with it, with exit code 2.

use artstore_projectors::search::filters::Filters;
use artstore_projectors::search::query::{Mode, Search};
use artstore_projectors::search::search_error::SearchError;
use artstore_projectors::search::{self};
use serde_json::Value;

use super::corpus::TestFile;
use super::{ask, empty, names, program};
use crate::support::*;

fn attempts() -> Vec<String> {
    let texts = [
        "'; drop table file_metadata_cache; --",
        "' or '1'='1",
        "\" or 1=1 /* ",
        "x' union select * from pg_user --",
        "$1 $2 $$ abc $$",
        "\\'; delete from file_metadata_cache",
        "abc\\",
        "%%%abc___",
        "abc & | ! <-> () :* 'def",
        "abc:*A & !def",
        "\"unclosed phrase",
        "abc or or or -",
        "((((((abc",
        "{abc,\"def}",
        "abc\r\n\tdef",
        "\u{202e}abc\u{feff}",
        "{0} {abc} %s %n abc",
    ];
    let mut texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    texts.push("日".repeat(1_000));
    texts.push("abc ".repeat(250));
    texts
}

#[test]
fn nothing_that_is_asked_becomes_part_of_a_statement() {
    run(async {
        let (_url, mut query) = empty("injection").await;
        TestFile::named(1, "innocent.txt").insert(&mut query).await;
        for (number, text) in attempts().iter().enumerate() {
            // A file that really is called so is found, alone.
            let name: String = text.chars().take(500).collect();
            let file = TestFile {
                username: name.clone(),
                element: name.clone(),
                tags: Some(vec![name.chars().take(50).collect()]),
                ..TestFile::named(number as u32 + 10, &name)
            };
            file.insert(&mut query).await;
            for mode in [Mode::Exact, Mode::Partial] {
                let found = ask(&mut query, &Search::new(name.as_str(), mode)).await;
                assert_eq!(names(&found), [name.as_str()], "{mode} {text:?}");
            }
            match search::search(&mut query, &Search::new(text.as_str(), Mode::Fulltext)).await {
                Ok(found) => assert!(!names(&found).contains(&"innocent.txt"), "{text:?}"),
                // Only what must not be there.
                Err(SearchError::Invalid(_)) => {}
                Err(error) => panic!("{text:?}: {error}"),
            }
            let filters = [
                Filters {
                    filename: Some(name.clone()),
                    ..Filters::default()
                },
                Filters {
                    username: Some(name.clone()),
                    ..Filters::default()
                },
                Filters {
                    storage_element: Some(name.clone()),
                    ..Filters::default()
                },
                Filters {
                    tags: file.tags.clone().unwrap(),
                    ..Filters::default()
                },
            ];
            for filters in filters {
                let question = Search {
                    filters,
                    ..Search::new("", Mode::Partial)
                };
                let found = ask(&mut query, &question).await;
                assert_eq!(names(&found), [name.as_str()], "{question:?}");
            }
            let extension = Filters {
                extension: Some(name.clone()),
                ..Filters::default()
            };
            let question = Search {
                filters: extension,
                ..Search::new("", Mode::Partial)
            };
            assert!(ask(&mut query, &question).await.hits.is_empty());
        }
        let rows: i64 = value(&mut query, "select count(*) from file_metadata_cache").await;
        assert_eq!(rows, attempts().len() as i64 + 1);
    });
}

#[test]
fn nul_and_a_megabyte_are_refused_before_the_database_sees_them() {
    run(async {
        let (_url, mut query) = empty("refused").await;
        for mode in [Mode::Exact, Mode::Partial, Mode::Fulltext] {
            for (text, expected) in [
                ("abc\0def".to_owned(), "NUL"),
                ("abc ".repeat(1 << 18), "1048576 characters"),
            ] {
                let error = search::search(&mut query, &Search::new(text, mode)).await;
                let error = error.unwrap_err();
                assert!(matches!(error, SearchError::Invalid(_)));
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
        let only_not = search::search(&mut query, &Search::new("-abc", Mode::Fulltext)).await;
        assert!(only_not.unwrap_err().to_string().contains("must not"));
    });
}

#[test]
fn the_program_says_what_cannot_be_asked() {
    run(async {
        let (url, mut query) = empty("usage").await;
        let long = "x".repeat(1_001);
        let cases: &[(&[&str], &str)] = &[
            (&[], "nothing to look for"),
            (&[&long], "at most 1000"),
            (&["ab", "--mode", "partial"], "too short"),
            (&["x", "--mode", "regex"], "possible values"),
            (&["x", "--sort", "size"], "possible values"),
            (&["x", "--limit", "0"], "1 to 1000"),
            (&["x", "--limit", "1001"], "1 to 1000"),
            (&["x", "--after", "abc"], "token"),
            (&["x", "--min-size", "much"], "10M"),
            (&["x", "--min-size", "2", "--max-size", "1"], "in between"),
            (&["x", "--created-from", "yesterday"], "2026-01-31"),
            (&["x", "--at-least", "elem"], "ELEMENT:POSITION"),
        ];
        for (arguments, expected) in cases {
            let mut all = vec!["search"];
            all.extend(*arguments);
            let (status, said) = program(&url, &all).finish().await;
            assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
            assert!(said.contains(expected), "{arguments:?}: {said}");
        }
        let (status, said) = Program::new(&["search", "x"]).finish().await;
        assert_eq!(status.code(), Some(2));
        assert!(said.contains("QUERY_DATABASE_URL"), "{said}");
        // Nothing of it was a search.
        let rows: i64 = value(&mut query, "select count(*) from event_outbox").await;
        assert_eq!(rows, 0);
        // Another module's database.
        let other = database("other").await;
        let (status, said) = program(&other, &["search", "x"]).finish().await;
        assert_eq!(status.code(), Some(1));
        assert!(
            said.contains("artstore migrate up --module query"),
            "{said}"
        );
    });
}

#[test]
fn a_table_fits_the_screen_and_json_has_everything() {
    run(async {
        let (url, mut query) = empty("output").await;
        for number in 1..=3 {
            let file = TestFile {
                username: "a user with quite a long name".to_owned(),
                tags: Some(vec!["first tag".to_owned(), "второй".to_owned()]),
                size: 3 << 20,
                element: "storage_elem_with_a_long_name_01".to_owned(),
                ..TestFile::named(
                    number,
                    &format!("a rather long report {} {number}.pdf", "о".repeat(200)),
                )
            };
            file.insert(&mut query).await;
        }
        TestFile::named(9, "report \u{1b}[31m\nred.txt")
            .insert(&mut query)
            .await;
        let (status, text) = program(&url, &["search", "report"]).output().await;
        assert!(status.success());
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(text.lines().count(), 7, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for part in ["NAME", "1.pdf", "3.0 MiB", "2026-01-01", "4 files ("] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let arguments = [
            "search",
            "report",
            "--json",
            "--limit",
            "3",
            "--tag",
            "второй",
        ];
        let (status, text) = program(&url, &arguments).output().await;
        assert!(status.success());
        let answer: Value = serde_json::from_str(&text).unwrap();
        for (field, expected) in [
            ("/query", "report".into()),
            ("/mode", "fulltext".into()),
            ("/filters/tags/0", "второй".into()),
            ("/sort", "relevance".into()),
            ("/order", "desc".into()),
            ("/total", 3.into()),
            ("/total_exact", true.into()),
            ("/next", Value::Null),
            ("/suggestions", Value::Null),
            ("/hits/0/file_size", (3 << 20).into()),
            ("/hits/2/tags/1", "второй".into()),
            ("/hits/0/storage_element_url", "http://element".into()),
        ] {
            assert_eq!(answer.pointer(field), Some(&expected), "{field}: {text}");
        }
        let (status, text) = program(&url, &["search", "report", "--limit", "2"])
            .output()
            .await;
        assert!(status.success() && text.contains("1 to 2 shown"), "{text}");
        let token = text.split("--after ").nth(1).unwrap().trim();
        let next = ["search", "report", "--limit", "2", "--after", token];
        let (status, text) = program(&url, &next).output().await;
        assert!(
            status.success() && text.contains("4 files, 2 more shown"),
            "{text}"
        );
        // No hit is no failure.
        let (status, text) = program(&url, &["search", "rport"]).output().await;
        assert!(status.success());
        assert!(
            text.contains("no file found") && text.contains("similar names"),
            "{text}"
        );
    });
}
