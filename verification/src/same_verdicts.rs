//! Both checks of a stream on the same streams, without servers: `artstore verify`
//! ([`crate::links`], [`crate::matching`]) and the one of repairs ([`crate::stream::message_checker`]).
//! What one of them finds the other has to find, and what a repair lists as damage `verify` must not find
//! again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use artstore_bus::breaks::Breaks;
use artstore_bus::message;
use artstore_producers::relay::seen_positions::SeenPositions;
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::event::{self, EventType};
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use artstore_schemas::subject::subject;
use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::DateTime;
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use crate::accepted::Accepted;
use crate::candidates::Candidates;
use crate::finding::Kind;
use crate::links::{Links, MessageRole};
use crate::matching::{Matching, RowPrint};
use crate::pass;
use crate::settle;
use crate::stream::content::RowContent;
use crate::stream::fingerprint::ComparableEvent;
use crate::stream::message_checker::MessageChecker;
use crate::stream::order::Order;
use crate::stream::rows::{Row, Rows};
use crate::without_row::{self, KnownRows, Origins};

const SAMPLE: &str = include_str!("../../schemas/samples/artstore.file.updated.v1.json");

fn source() -> Source {
    Source::Element("elem".parse().expect("a name"))
}

/// A message that can be changed before it is read.
#[derive(Debug, Clone)]
struct Message {
    envelope: Envelope,
    body: Value,
    subject: String,
    readable: bool,
}

impl Message {
    /// The message of the row at a position, whose event has the same number. Three files take turns.
    fn of_row(position: i64) -> Self {
        let id = Uuid::from_u128(position.unsigned_abs().into());
        let file = Uuid::from_u128(0xf000 + position.unsigned_abs() as u128 % 3);
        let event_type = EventType::new("file", "updated", 1);
        let sample: Value = serde_json::from_str(SAMPLE).expect("a sample");
        let mut body = sample["body"].clone();
        body["operation"]["id"] = id.to_string().into();
        body["operation"]["file_id"] = file.to_string().into();
        body["file"]["id"] = file.to_string().into();
        body["omitted"] = Value::Array(Vec::new());
        Self {
            subject: subject(&source(), Some(file), &event_type),
            envelope: Envelope {
                id,
                source: source().ce_source(),
                event_type,
                subject: Some(file.to_string()),
                time: DateTime::UNIX_EPOCH,
                traceparent: None,
                position: Some(position),
                high_water_mark: 0,
                gaps: Ranges::default(),
                identity: "7-16384-1".to_owned(),
                previous: None,
                snapshot: None,
                backfill_due: false,
            },
            body,
            readable: true,
        }
    }

    fn headers(&self) -> HeaderMap {
        if self.readable {
            return self.envelope.to_headers();
        }
        let mut headers = HeaderMap::new();
        for (name, values) in self.envelope.to_headers().iter() {
            let text: &str = name.as_ref();
            for value in values.iter().filter(|_| text != "ce-id") {
                headers.append(text, value.as_str());
            }
        }
        headers
    }

    /// As a stream has it.
    fn at(&self, sequence: u64) -> message::Message {
        message::Message {
            sequence,
            published: DateTime::UNIX_EPOCH,
            subject: self.subject.clone(),
            headers: self.headers(),
            body: self.bytes(),
        }
    }

    fn bytes(&self) -> Bytes {
        self.body.to_string().into()
    }

    fn content(&self) -> ComparableEvent {
        let envelope = &self.envelope;
        let event =
            event::decode(&source(), &envelope.event_type, &self.bytes()).expect("an event");
        ComparableEvent::from_message(&self.subject, envelope, event)
    }
}

/// A source's rows, and its stream: a message or a hole at each sequence.
#[derive(Debug, Clone)]
struct Case {
    rows: BTreeMap<i64, (Uuid, ComparableEvent)>,
    prune_mark: i64,
    stream: Vec<Option<Message>>,
}

impl Case {
    /// Rows whose messages a relay has published in this order.
    fn published(positions: &[i64]) -> Self {
        let stream: Vec<Message> = positions.iter().map(|p| Message::of_row(*p)).collect();
        let row = |message: &Message| {
            let position = message.envelope.position.expect("a row's");
            (position, (message.envelope.id, message.content()))
        };
        let mut case = Self {
            rows: stream.iter().map(row).collect(),
            prune_mark: 0,
            stream: stream.into_iter().map(Some).collect(),
        };
        case.chain();
        case
    }

    /// As a relay would have chained its messages in this order.
    fn chain(&mut self) {
        let mut before = None;
        let mut seen = SeenPositions::default();
        for message in self.stream.iter_mut().flatten() {
            let envelope = &mut message.envelope;
            let own = envelope.position.filter(|_| envelope.snapshot.is_none());
            if let Some(own) = own
                && (own > seen.high_water_mark() || seen.gaps().contains(own))
            {
                assert!(seen.see(own));
            }
            envelope.previous = before.replace(envelope.id);
            envelope.high_water_mark = seen.high_water_mark();
            envelope.gaps = seen.gaps();
        }
    }

    fn at(&mut self, sequence: usize) -> &mut Message {
        self.stream[sequence - 1].as_mut().expect("a message")
    }

    fn envelope(&mut self, sequence: usize) -> &mut Envelope {
        &mut self.at(sequence).envelope
    }

    fn insert(&mut self, sequence: usize, message: Message) {
        self.stream.insert(sequence - 1, Some(message));
    }

    /// What the check of repairs finds: after it `damage` is known.
    fn scan(&self, damage: &Damage) -> Scanned {
        let source = source();
        let mut breaks = Breaks {
            damage: damage.clone(),
            ..Breaks::default()
        };
        let mut rows = Rows {
            prune_mark: self.prune_mark,
            ..Rows::default()
        };
        for (position, (id, content)) in &self.rows {
            let content = Some(RowContent::new(content.clone(), true));
            rows.held.insert(*position, Row { id: *id, content });
        }
        let checker = loop {
            let checker = self.checked(&source, breaks.clone(), &rows);
            let lost: HashSet<Uuid> = checker.agreement.lost_rows().collect();
            let elsewhere = self.rows.values().map(|(id, _)| *id);
            let strangers = checker.strangers(&elsewhere.filter(|id| lost.contains(id)).collect());
            if strangers.is_empty() {
                break checker;
            }
            breaks.refused.extend(strangers);
        };
        Scanned {
            new: checker.damage.ranges.iter().map(|r| r.first).collect(),
            lost: checker.agreement.lost.iter().map(|l| l.sequence).collect(),
            damage: checker.damage.all(),
        }
    }

    fn checked<'a>(&self, source: &'a Source, breaks: Breaks, rows: &Rows) -> MessageChecker<'a> {
        let mut checker = MessageChecker::new(source, true, breaks);
        for (index, message) in self.stream.iter().enumerate() {
            let sequence = index as u64 + 1;
            let Some(message) = message else { continue };
            if checker.next < sequence {
                checker.hole(sequence - 1);
            }
            let message = message.at(sequence);
            checker.check(&message, rows);
        }
        if checker.next <= self.stream.len() as u64 {
            checker.hole(self.stream.len() as u64);
        }
        for message in checker.take_out_of_order() {
            if self.rows.contains_key(&message.higher_before) {
                checker.disordered(&message);
            }
        }
        checker.end.resume_state.sequence = self.stream.len() as u64;
        checker
    }

    /// What `verify` finds where this damage was accepted. It reads rows after so many messages, and at the
    /// end: later messages of those rows come late.
    fn verify(&self, damage: &Damage, rows_after: usize) -> Vec<(Kind, u64)> {
        let source = source();
        let accepted = Accepted::of_damage(damage.clone());
        let (mut links, mut matching) = (Links::default(), Matching::default());
        let (mut found, mut order) = (Candidates::default(), Order::default());
        let prune_mark = self.prune_mark;
        let print = |(position, (id, content)): (&i64, &(Uuid, ComparableEvent))| {
            let content = RowContent::new(content.clone(), true);
            (*position, RowPrint::new(*id, *position, &content))
        };
        let prints: BTreeMap<i64, RowPrint> = self.rows.iter().map(print).collect();
        let mut flaws = Vec::new();
        for (index, message) in self.stream.iter().enumerate() {
            let Some(message) = message else { continue };
            let message = message.at(index as u64 + 1);
            let seen = links.see(&source, &accepted, &message);
            flaws.extend(seen.flaws);
            if let MessageRole::Row(position, mut entry) = seen.role {
                entry.higher_before = seen.file.and_then(|file| order.see(file, position));
                if let Some(late) = matching.message(position, entry) {
                    let row = prints.get(&position);
                    matching.late_message(position, late, row, prune_mark, &mut found);
                }
            }
            if index + 1 == rows_after {
                let highest = links.highest();
                let rows = prints.range(..=highest).map(|(_, row)| row.clone());
                let may_come = pass::may_come(&links, &accepted);
                matching.rows(rows.collect(), highest, prune_mark, may_come, &mut found);
            }
        }
        flaws.extend(links.end(&accepted, self.stream.len() as u64));
        for flaw in flaws {
            found.add(flaw.kind, flaw.candidate(flaw.sequences.0));
        }
        let rows = prints
            .range(matching.cursor + 1..)
            .map(|(_, row)| row.clone());
        matching.rows(
            rows.collect(),
            i64::MAX - 1,
            prune_mark,
            |_| false,
            &mut found,
        );
        let known = KnownRows {
            positions: self.rows.iter().map(|(p, (id, _))| (*id, *p)).collect(),
            at: self.rows.keys().copied().collect(),
            prune_mark,
            unmatched: found
                .of(Kind::MessageMissing)
                .filter_map(|candidate| candidate.position)
                .collect(),
        };
        without_row::settle(&known, &mut found);
        let envelope_at = |sequence: u64| {
            let message = self.stream.get(sequence.checked_sub(1)? as usize)?;
            Some(&message.as_ref()?.envelope)
        };
        let mut origins = Origins::of(&accepted, &found);
        while let Some(message) = origins.next_in_doubt() {
            let previous = envelope_at(message.sequence).and_then(|extra| extra.previous);
            let last = envelope_at(message.last).map(|last| last.id);
            origins.decide(message, previous, last);
        }
        origins.apply(&mut found);
        let content = |(position, (_, content)): (&i64, &(Uuid, ComparableEvent))| {
            (*position, RowContent::new(content.clone(), true))
        };
        settle::settle_disordered(&self.rows.iter().map(content).collect(), &mut found);
        settle::explained(&mut found);
        let found = found.all();
        let found: BTreeSet<(Kind, u64)> = found
            .map(|(kind, c)| (kind, c.sequence.unwrap_or(0)))
            .collect();
        found.into_iter().collect()
    }
}

/// What a repair finds.
#[derive(Debug)]
struct Scanned {
    /// The first sequence of each range of damage that no record lists.
    new: BTreeSet<u64>,
    /// Messages whose row the source lost.
    lost: Vec<u64>,
    damage: Damage,
}

/// Both find something, or neither does; and after the damage that a repair lists is accepted, neither finds
/// anything but rows without a message.
fn agree(case: &Case, rows_after: usize) -> Result<(Vec<(Kind, u64)>, Scanned), String> {
    let before = case.verify(&Damage::default(), rows_after);
    let scanned = case.scan(&Damage::default());
    let missing = |(kind, _): &(Kind, u64)| *kind == Kind::MessageMissing;
    let in_stream = before.iter().any(|finding| !missing(finding));
    let listed = !scanned.new.is_empty() || !scanned.lost.is_empty();
    if in_stream != listed {
        return Err(format!("verify: {before:?}, repair: {scanned:?}"));
    }
    // Which messages are of rows that the source lost decides which command repairs it.
    let lost: BTreeSet<u64> = scanned.lost.iter().copied().collect();
    let of = |kinds: &[Kind]| -> BTreeSet<u64> {
        let found = before.iter().filter(|(kind, _)| kinds.contains(kind));
        found.map(|(_, sequence)| *sequence).collect()
    };
    let extra = of(&[Kind::MessageExtra]);
    let named = of(&[Kind::MessageExtra, Kind::MessageForeign]);
    let listed: BTreeSet<u64> = scanned.new.union(&lost).copied().collect();
    let agree = match case.prune_mark {
        0 => lost == extra,
        // Of a pruned row only the chain shows that a message is ours: `verify` lets it count, and what
        // follows it.
        _ => lost.is_subset(&named) && extra.is_subset(&listed),
    };
    if !agree {
        return Err(format!("verify: {before:?}, lost: {scanned:?}"));
    }
    let again = case.scan(&scanned.damage);
    if !again.new.is_empty() {
        return Err(format!("a second repair: {again:?} after {scanned:?}"));
    }
    let mut after = case.verify(&scanned.damage, rows_after);
    after.retain(|finding| !missing(finding) && finding.0 != Kind::MessageExtra);
    match after.is_empty() {
        true => Ok((before, scanned)),
        false => Err(format!("verify after it: {after:?}, repair: {scanned:?}")),
    }
}

fn foreign(number: u128) -> Message {
    let mut message = Message::of_row(1);
    message.envelope.id = Uuid::from_u128(0xbad + number);
    message.envelope.source = "/artstore/elements/other".to_owned();
    message
}

/// Something that somebody did to a stream.
#[derive(Debug, Clone)]
enum Change {
    Remove(usize),
    Swap(usize, usize),
    Copy(usize, usize),
    Republish(usize, usize),
    Foreign(usize),
    Unreadable(usize),
    Body(usize),
    HighWaterMark(usize, i64),
    NoGaps(usize),
    Gap(usize, i64),
    Database(usize),
    Position(usize, i64),
    Previous(usize, Option<usize>),
    Put(usize, i64),
    Lose(i64),
    Prune(i64),
    Chain,
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let (at, position) = (0..12_usize, 1..12_i64);
        prop_oneof![
            at.clone().prop_map(Self::Remove),
            (at.clone(), at.clone()).prop_map(|(a, b)| Self::Swap(a, b)),
            (at.clone(), at.clone()).prop_map(|(a, b)| Self::Copy(a, b)),
            (at.clone(), at.clone()).prop_map(|(a, b)| Self::Republish(a, b)),
            at.clone().prop_map(Self::Foreign),
            at.clone().prop_map(Self::Unreadable),
            at.clone().prop_map(Self::Body),
            (at.clone(), position.clone()).prop_map(|(a, p)| Self::HighWaterMark(a, p)),
            at.clone().prop_map(Self::NoGaps),
            (at.clone(), position.clone()).prop_map(|(a, p)| Self::Gap(a, p)),
            at.clone().prop_map(Self::Database),
            (at.clone(), position.clone()).prop_map(|(a, p)| Self::Position(a, p)),
            (at.clone(), position).prop_map(|(a, p)| Self::Put(a, p)),
            (at.clone(), proptest::option::of(at)).prop_map(|(a, b)| Self::Previous(a, b)),
            Just(Self::Chain),
        ]
    }

    /// Or to the source's rows.
    fn any_with_rows() -> impl Strategy<Value = Self> {
        prop_oneof![
            3 => Self::any(),
            1 => (1..12_i64).prop_map(Self::Lose),
            1 => (1..12_i64).prop_map(Self::Prune),
        ]
    }

    fn apply(&self, case: &mut Case, number: u128) {
        let length = case.stream.len();
        let at = |index: &usize| index % length;
        let change = |case: &mut Case, index: &usize, change: &dyn Fn(&mut Message)| {
            if let Some(message) = &mut case.stream[at(index)] {
                change(message);
            }
        };
        match self {
            Self::Remove(a) => case.stream[at(a)] = None,
            Self::Swap(a, b) => case.stream.swap(at(a), at(b)),
            Self::Copy(a, b) => {
                let copy = case.stream[at(a)].clone();
                case.stream.insert(at(b), copy);
            }
            // `verify` keeps no positions: it would not see a copy before its original where the rows are
            // read in between.
            Self::Republish(a, b) => {
                let mut copy = case.stream[at(a)].clone();
                if let Some(copy) = &mut copy {
                    copy.envelope.snapshot = Some(Snapshot::Republish);
                }
                case.stream.insert(at(b).max(at(a) + 1), copy);
            }
            Self::Foreign(a) => case.stream.insert(at(a), Some(foreign(number))),
            Self::Unreadable(a) => change(case, a, &|m| m.readable = false),
            Self::Body(a) => change(case, a, &|m| {
                m.body["file"]["description"] = "forged".into();
            }),
            Self::HighWaterMark(a, p) => change(case, a, &|m| m.envelope.high_water_mark = *p),
            Self::NoGaps(a) => change(case, a, &|m| m.envelope.gaps = Ranges::default()),
            Self::Gap(a, p) => change(case, a, &|m| m.envelope.gaps.insert(*p)),
            Self::Database(a) => change(case, a, &|m| m.envelope.identity = "8-1-1".to_owned()),
            Self::Position(a, p) => change(case, a, &|m| m.envelope.position = Some(*p)),
            Self::Previous(a, b) => {
                let named = b.and_then(|b| case.stream[b % length].as_ref());
                let named = named.map(|message| message.envelope.id);
                change(case, a, &|m| m.envelope.previous = named);
            }
            Self::Put(a, p) => {
                let mut message = Message::of_row(*p);
                message.envelope.id = Uuid::from_u128(0xadd + number);
                case.stream.insert(at(a), Some(message));
            }
            Self::Lose(p) => {
                case.rows.remove(p);
            }
            // Some rows are kept.
            Self::Prune(p) => {
                case.prune_mark = case.prune_mark.max(*p);
                case.rows
                    .retain(|position, _| position > p || position % 3 == 0);
            }
            Self::Chain => case.chain(),
        }
    }
}

fn check(changes: &[Change], rows_after: usize) -> Result<(), TestCaseError> {
    let mut case = Case::published(&[1, 2, 4, 3, 5, 8, 7, 9]);
    for (number, change) in changes.iter().enumerate() {
        change.apply(&mut case, number as u128);
    }
    agree(&case, rows_after)
        .map(|_| ())
        .map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_checks_agree_about_whatever_was_done(
        changes in proptest::collection::vec(Change::any(), 1..4),
        rows_after in 0..12_usize,
    ) {
        check(&changes, rows_after)?;
    }

    #[test]
    fn both_checks_agree_about_whatever_was_done_and_lost(
        changes in proptest::collection::vec(Change::any_with_rows(), 1..5),
        rows_after in 0..12_usize,
    ) {
        check(&changes, rows_after)?;
    }
}

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
