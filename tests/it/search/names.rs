//! Names as people give them, and parts of them as people look for them, in both languages; and letters that
//! are composed on the one side and decomposed on the other.

use artstore_projectors::search::filters::Filters;
use artstore_projectors::search::query::{Mode, Search};
use sqlx::PgConnection;
use unicode_normalization::UnicodeNormalization as _;

use super::corpus::TestFile;
use super::{ask, empty, names};
use crate::support::*;

/// A name and what it is found by.
const FOUND: &[(&str, &[&str])] = &[
    (
        "annual_report.pdf",
        &[
            "report.pdf",
            "annual_report",
            "\"annual report\"",
            "ANNUAL_REPORT.PDF",
            "reports",
            "pdf annual",
            "report.pdf -draft",
            "nothing or report.pdf",
        ],
    ),
    (
        "backup-2026.01.02.tar.gz",
        &[
            "tar.gz",
            "2026.01.02",
            "backup-2026.01.02",
            "gz",
            "01.02.tar",
        ],
    ),
    (
        "IMG_20260102_123456.jpg",
        &["IMG_20260102", "20260102", "img", "img_20260102_123456.jpg"],
    ),
    (
        "annualReport2026Final.docx",
        &[
            "annualReport",
            "annual report",
            "report2026",
            "2026 final",
            "Final.docx",
            "annualreport2026final",
        ],
    ),
    (
        "PDFSummary_v2.1.xlsx",
        &["v2.1", "PDFSummary", "summary", "v2.1.xlsx"],
    ),
    (
        "Договор №7 (подписан).pdf",
        &["договоры 7", "подписан.pdf", "«договор»", "договор №7"],
    ),
    (
        "Годовой_отчёт-2026.pdf",
        &[
            "отчёт-2026",
            "отчет 2026",
            "годовой_отчет",
            "2026.pdf",
            "годового отчёта",
        ],
    ),
    (
        "СправкаОДоходах2025кв1.xlsx",
        &[
            "справки",
            "доходах2025",
            "доход",
            "кв1",
            "справкаодоходах2025кв1.xlsx",
        ],
    ),
    (
        "Счёт-фактура_12345.xml",
        &[
            "счет-фактура",
            "счёт фактура 12345",
            "фактуры",
            "фактура_12345",
        ],
    ),
    ("schema.prisma.bak", &["schema.prisma", "prisma.bak", "bak"]),
    (
        "libfoo-1.2.3-4.el9.x86_64.rpm",
        &["libfoo-1.2.3", "1.2.3", "x86_64", "el9", "el9.x86_64.rpm"],
    ),
    (
        "Screenshot 2026-03-04 at 10.11.12.png",
        &["2026-03-04", "10.11.12", "screenshots", "10.11.12.png"],
    ),
    ("o'hara_cv.pdf", &["o'hara", "cv.pdf", "hara"]),
    (
        "Протокол собрания 12.03.2026г.docx",
        &["12.03.2026", "протоколы", "12.03.2026г"],
    ),
    (
        "ann@example.org_export.csv",
        &["example.org", "export.csv", "ann@example.org"],
    ),
    ("ＷＩＤＥ１２.txt", &["wide12", "ｗｉｄｅ12.txt"]),
    ("ﬁnance.txt", &["finance", "ﬁnance.txt"]),
    ("Ёлочный список.txt", &["елочные", "ёлочный", "список.txt"]),
];

/// What finds none of them.
const NOT_FOUND: &[&str] = &[
    "pdf.report",
    "gz.tar",
    "2026.02.01",
    "2.1.v",
    "report.docx.pdf",
    "фактура-счет",
];

#[test]
fn names_are_found_by_the_parts_that_people_look_for() {
    run(async {
        let (_url, mut query) = empty("names").await;
        for (number, (name, _)) in (1..).zip(FOUND) {
            TestFile::named(number, name).insert(&mut query).await;
        }
        // The same rules hold for descriptions and tags.
        let described = TestFile {
            description: Some("see annexReport2026.pdf, and tariff-v3.2.zip".to_owned()),
            tags: Some(vec!["q4.budget".to_owned()]),
            ..TestFile::named(1_000, "described")
        };
        described.insert(&mut query).await;
        let mut wrong = Vec::new();
        let there = [
            "annexReport",
            "annex report2026.pdf",
            "v3.2",
            "tariff-v3.2.zip",
            "q4.budget",
            "budget",
        ];
        let all = FOUND
            .iter()
            .map(|(name, questions)| (*name, *questions))
            .chain([("described", there.as_slice())]);
        for (name, questions) in all {
            for question in questions {
                let found = ask(&mut query, &Search::new(*question, Mode::Fulltext)).await;
                if !names(&found).contains(&name) {
                    wrong.push(format!("{question:?} does not find {name:?}"));
                }
            }
        }
        for question in NOT_FOUND {
            let found = ask(&mut query, &Search::new(*question, Mode::Fulltext)).await;
            if !found.hits.is_empty() {
                wrong.push(format!("{question:?} finds {:?}", names(&found)));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// One text in composed letters, in decomposed ones, and in both kinds.
fn forms(text: &str) -> [String; 3] {
    let (composed, decomposed): (String, String) = (text.nfc().collect(), text.nfd().collect());
    let half = text.chars().count() / 2;
    let first: String = text.chars().take(half).collect::<String>().nfd().collect();
    let second: String = text.chars().skip(half).collect::<String>().nfc().collect();
    assert_ne!(composed, decomposed);
    [composed, decomposed, first + &second]
}

#[test]
fn composed_and_decomposed_letters_are_the_same() {
    run(async {
        let (_url, mut query) = empty("forms").await;
        let (name, user, tag) = ("Йогурт résumé Łódź й.txt", "сергей é", "ёй-é");
        let described = forms("описание йода");
        let mut number = 0;
        for (name, (user, tag)) in forms(name)
            .into_iter()
            .zip(forms(user).into_iter().zip(forms(tag)))
        {
            number += 1;
            let file = TestFile {
                username: user,
                tags: Some(vec!["other".to_owned(), tag]),
                description: Some(described[number as usize - 1].clone()),
                ..TestFile::named(number, &name)
            };
            file.insert(&mut query).await;
        }
        TestFile::named(9, "neither.txt").insert(&mut query).await;
        let filtered = |change: &dyn Fn(&mut Filters)| {
            let mut question = Search::new("", Mode::Fulltext);
            change(&mut question.filters);
            question
        };
        let part = |text: &str| text.split(' ').nth(1).unwrap().to_owned();
        for ((name, user), tag) in forms(name).into_iter().zip(forms(user)).zip(forms(tag)) {
            let (word, end) = (part(&name), name.split(' ').next_back().unwrap().to_owned());
            for question in [
                Search::new(name.as_str(), Mode::Exact),
                Search::new(name.as_str(), Mode::Partial),
                Search::new(word.as_str(), Mode::Partial),
                Search::new(name.as_str(), Mode::Fulltext),
                Search::new(word.as_str(), Mode::Fulltext),
                Search::new(name.to_uppercase(), Mode::Fulltext),
                filtered(&|f| f.filename = Some(word.clone())),
                filtered(&|f| f.username = Some(user.clone())),
                filtered(&|f| f.tags = vec![tag.clone()]),
                filtered(&|f| f.tags = vec!["none".to_owned(), tag.clone()]),
                filtered(&|f| {
                    f.username = Some(user.clone());
                    f.extension = Some(end.rsplit('.').next().unwrap().to_owned());
                }),
            ] {
                let found = ask(&mut query, &question).await;
                assert_eq!(found.total, 3, "{question:?}: {:?}", names(&found));
            }
        }
        // A name that is composed is found as fast as before.
        for question in described {
            for mode in [Mode::Partial, Mode::Fulltext] {
                let found = ask(&mut query, &Search::new(question.as_str(), mode)).await;
                assert_eq!(found.total, 3, "{question} {mode}");
            }
        }
        stored_as_they_came(&mut query).await;
    });
}

async fn stored_as_they_came(query: &mut PgConnection) {
    let rows = "select count(distinct filename) from file_metadata_cache";
    let different: i64 = value(query, rows).await;
    assert_eq!(different, 4, "rows are unchanged");
}
