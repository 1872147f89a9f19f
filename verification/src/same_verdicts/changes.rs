//! Whatever can be done to a stream or to its source's rows, at random.

use artstore_schemas::envelope::Snapshot;
use artstore_schemas::ranges::Ranges;
use proptest::prelude::*;
use uuid::Uuid;

use super::comparison::agree;
use super::streams::{Case, Message, foreign};

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
