//! What both checks find, case by case.

use artstore_schemas::envelope::Snapshot;
use artstore_schemas::ranges::Ranges;
use uuid::Uuid;

use super::comparison::agree;
use super::streams::{Case, Message, foreign};
use crate::finding::Kind;

type Done = fn(&mut Case);
type Findings = &'static [(Kind, u64)];

/// Streams of six rows; position 3 was committed late, after 4. What `verify` finds, and what a repair lists.
const TABLE: &[(&str, Done, Findings, &[u64])] = &[
    ("nothing was changed", |_| {}, &[], &[]),
    (
        "a message that is gone",
        |case| case.stream[1] = None,
        &[(Kind::MessageMissing, 0), (Kind::StreamHole, 2)],
        &[2, 3],
    ),
    (
        "a foreign message before the first one",
        |case| case.insert(1, foreign(1)),
        &[(Kind::MessageForeign, 1)],
        &[1],
    ),
    (
        "a first message that can't be read",
        |case| case.at(1).readable = false,
        &[(Kind::MessageMissing, 0), (Kind::MessageForeign, 1)],
        &[1, 2],
    ),
    (
        "a state that lies, and a foreign message behind it",
        |case| {
            case.envelope(3).gaps = Ranges::default();
            case.insert(4, foreign(1));
        },
        &[(Kind::StreamBroken, 5), (Kind::MessageForeign, 4)],
        &[4, 5],
    ),
    (
        "another database behind a foreign message",
        |case| {
            case.insert(3, foreign(1));
            case.envelope(4).identity = "8-1-1".to_owned();
        },
        &[
            (Kind::StreamBroken, 4),
            (Kind::StreamBroken, 5),
            (Kind::MessageForeign, 3),
        ],
        &[3, 4, 5],
    ),
    (
        "a late position right behind a foreign message that took its place",
        |case| {
            case.envelope(3).source = "/artstore/elements/other".to_owned();
            case.insert(3, foreign(1));
        },
        &[
            (Kind::MessageMissing, 0),
            (Kind::MessageForeign, 3),
            (Kind::MessageForeign, 4),
        ],
        &[3, 4, 5],
    ),
    (
        "a copy that says it was published again",
        |case| {
            let mut copy = case.at(2).clone();
            copy.envelope.snapshot = Some(Snapshot::Republish);
            case.insert(5, copy);
            case.chain();
        },
        &[(Kind::MessageDoubled, 5)],
        &[5, 6],
    ),
    (
        "a changed message, and a copy that says it was published again",
        |case| {
            let mut copy = case.at(2).clone();
            copy.envelope.snapshot = Some(Snapshot::Republish);
            case.at(2).body["file"]["description"] = "forged".into();
            case.insert(5, copy);
            case.chain();
        },
        &[(Kind::MessageChanged, 2)],
        &[2, 3],
    ),
    (
        "a state without the gap whose message comes later",
        |case| case.envelope(3).gaps = Ranges::default(),
        &[(Kind::StreamBroken, 4)],
        &[4],
    ),
    (
        "a position that is another row's, and a copy behind it",
        |case| {
            case.envelope(3).position = Some(3);
            let copy = case.at(1).clone();
            case.insert(4, copy);
        },
        &[
            (Kind::MessageMissing, 0),
            (Kind::MessageDoubled, 4),
            (Kind::MessageForeign, 3),
        ],
        &[3, 4, 5],
    ),
    (
        "a message put in, with a later position of another file's row",
        |case| {
            let mut message = Message::of_row(1);
            message.envelope.id = Uuid::from_u128(0xadd);
            message.envelope.position = Some(6);
            case.insert(2, message);
        },
        &[(Kind::StreamBroken, 3), (Kind::MessageForeign, 2)],
        &[2],
    ),
    (
        "a message put in that names none before it",
        |case| {
            let mut message = Message::of_row(1);
            message.envelope.id = Uuid::from_u128(0xadd);
            message.envelope.position = Some(9);
            message.envelope.high_water_mark = 9;
            case.insert(7, message);
        },
        &[(Kind::MessageForeign, 7)],
        &[7],
    ),
    (
        "a message put in at the position of a row that was not pruned",
        |case| {
            case.prune_mark = 3;
            case.envelope(2).id = Uuid::from_u128(0xadd);
            case.chain();
        },
        &[(Kind::MessageMissing, 0), (Kind::MessageExtra, 2)],
        &[],
    ),
    (
        "a lost row behind a message put in",
        |case| {
            let mut message = Message::of_row(1);
            message.envelope.id = Uuid::from_u128(0xadd);
            case.insert(2, message);
            case.rows.remove(&2);
        },
        &[
            (Kind::StreamBroken, 3),
            (Kind::MessageForeign, 2),
            (Kind::MessageExtra, 3),
        ],
        &[2],
    ),
    (
        "a lost row behind a copy",
        |case| {
            let copy = case.at(1).clone();
            case.insert(2, copy);
            case.rows.remove(&2);
        },
        &[(Kind::MessageDoubled, 2), (Kind::MessageExtra, 3)],
        &[2],
    ),
    (
        "a lost row behind a message that was changed",
        |case| {
            case.at(1).body["file"]["description"] = "forged".into();
            case.rows.remove(&2);
        },
        &[(Kind::MessageChanged, 1), (Kind::MessageForeign, 2)],
        &[1, 2, 3],
    ),
];

#[test]
fn both_checks_find_what_the_table_says() {
    let mut failed = String::new();
    for (name, change, findings, listed) in TABLE {
        let mut case = Case::published(&[1, 2, 4, 3, 5, 6]);
        change(&mut case);
        for rows_after in 1..7 {
            if let Err(problem) = agree(&case, rows_after) {
                failed += &format!("\n{name}, rows after {rows_after}: {problem}");
            }
        }
        match agree(&case, 0) {
            Err(problem) => failed += &format!("\n{name}: {problem}"),
            Ok((found, scanned)) => {
                let new: Vec<u64> = scanned.new.iter().copied().collect();
                let mut expected = findings.to_vec();
                expected.sort();
                if found != expected || new != *listed {
                    failed += &format!("\n{name}: {found:?} {new:?}");
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed}");
}
