//! Each finished row and its message. Messages wait in an open window until the rows of their
//! positions have been read; a row whose message may still come waits for it. Both
//! are small: the window is as long as messages may be out of order, and only rows that the
//! relay has not seen wait.

use std::collections::BTreeMap;

use crate::stream::content::{ContentDigest, RowContent, RowDigest};
use crate::stream::row_verdict::{self, Origin, RowAtPosition, RowVerdict};
use artstore_producers::relay::source::SourceRow;
use artstore_producers::relay::translate::Translator;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::candidates::{Candidate, Candidates};
use super::finding::Kind;

/// Of a message with the position of another row, which has its own message.
pub(crate) const TAKEN: &str = "its position is that of another row, which has its own message";

/// What is kept of a message until its row has been read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Its event.
    pub id: Uuid,
    /// Its sequence.
    pub sequence: u64,
    /// Its content.
    #[serde(flatten)]
    pub content: ContentDigest,
    /// It shows the present state, in place of a message that was lost.
    pub republished: bool,
    /// The stream stated before it that this position was seen.
    #[serde(rename = "again")]
    pub comes_again: bool,
    /// A higher position of the same file that comes before it.
    #[serde(rename = "over")]
    pub higher_before: Option<i64>,
}

/// What is kept of a row.
#[derive(Debug, Clone)]
pub struct RowPrint {
    id: Uuid,
    position: i64,
    content: RowDigest,
}

impl RowPrint {
    /// Translates the row again.
    pub fn of(translator: &Translator, row: SourceRow) -> Self {
        let (id, position) = (row.id, row.position);
        Self::new(id, position, &RowContent::of(translator, row))
    }

    pub(crate) fn new(id: Uuid, position: i64, content: &RowContent) -> Self {
        Self {
            id,
            position,
            content: content.digest(),
        }
    }

    /// What it is for a message with its id.
    fn of_own(&self, entry: &Entry) -> RowAtPosition {
        let agrees = self.content.agrees(&entry.content, entry.republished);
        RowAtPosition::Own { agrees }
    }
}

/// What the stream has for a position before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// The message at this sequence.
    Message(u64),
    /// A message of which the sequence is not kept.
    SomeMessage,
}

impl Before {
    fn of(has_message: bool) -> Self {
        match has_message {
            true => Self::SomeMessage,
            false => Self::Nothing,
        }
    }
}

/// Rows and messages that have not found each other yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Matching {
    /// Rows up to this position have been read.
    pub cursor: i64,
    /// Finished rows that were read.
    pub rows: u64,
    /// Messages of rows.
    pub messages: u64,
    /// Messages of other writers' rows that come after a higher position of the same file.
    pub overtaken: u64,
    /// Messages whose rows were pruned.
    #[serde(default)]
    pub pruned: u64,
    /// Of them, those whose rows were gone before the first message was read.
    #[serde(default)]
    pub pruned_before: u64,
    /// Up to where, and how many, rows were gone then.
    #[serde(default)]
    pub gone_before: Option<(i64, u64)>,
    /// Messages above the cursor, by position and sequence.
    #[serde(with = "artstore_schemas::pairs")]
    open: BTreeMap<(i64, u64), Entry>,
    /// Rows at or below the cursor whose messages may still come.
    #[serde(with = "artstore_schemas::pairs")]
    #[serde(rename = "owed")]
    awaited: BTreeMap<i64, Uuid>,
}

impl Matching {
    /// Takes a message. Returns it where its row has been read already: it goes to [`Self::late_message`] then.
    pub fn message(&mut self, position: i64, entry: Entry) -> Option<Entry> {
        self.messages += 1;
        if position <= self.cursor {
            return Some(entry);
        }
        self.open.insert((position, entry.sequence), entry);
        None
    }

    /// Takes the rows from the cursor up to `complete`. `prune_mark`: that of the source.
    /// `may_come`: whether the stream may still bring the message of a position.
    pub fn rows(
        &mut self,
        rows: Vec<RowPrint>,
        complete: i64,
        prune_mark: i64,
        may_come: impl Fn(i64) -> bool,
        found: &mut Candidates,
    ) {
        for row in rows {
            self.rows += 1;
            self.strangers(row.position, prune_mark, found);
            let mut here = Vec::new();
            while let Some(first) = self.open.first_entry() {
                if first.key().0 != row.position {
                    break;
                }
                here.push(first.remove());
            }
            self.settle(&row, here, &may_come, found);
        }
        self.strangers(complete.saturating_add(1), prune_mark, found);
        self.cursor = self.cursor.max(complete);
        self.settle_awaited(may_come, found);
    }

    /// Rows whose messages may not come any more are missing from the stream.
    pub fn settle_awaited(&mut self, may_come: impl Fn(i64) -> bool, found: &mut Candidates) {
        self.awaited.retain(|position, id| {
            let is_awaited = may_come(*position);
            if !is_awaited {
                found.add(Kind::MessageMissing, missing(*position, *id));
            }
            is_awaited
        });
    }

    /// Messages below a position: all rows there were read, and none of them is theirs.
    fn strangers(&mut self, below: i64, prune_mark: i64, found: &mut Candidates) {
        while let Some(first) = self.open.first_entry() {
            let position = first.key().0;
            if position >= below {
                break;
            }
            let entry = first.remove();
            self.without_row(position, &entry, prune_mark, found);
        }
    }

    /// A message whose row is not there: it was pruned, the source lost it, or the message is none of the
    /// source's.
    fn without_row(
        &mut self,
        position: i64,
        entry: &Entry,
        prune_mark: i64,
        found: &mut Candidates,
    ) {
        let at = match position > prune_mark {
            true => RowAtPosition::Other,
            false => RowAtPosition::Pruned,
        };
        let comes_again = at == RowAtPosition::Pruned && entry.comes_again && !entry.republished;
        self.decide(position, entry, at, Before::of(comes_again), found);
    }

    /// What a message is. Whether a relay of the source wrote it is decided when all rows were read:
    /// [`crate::without_row`].
    fn decide(
        &mut self,
        position: i64,
        entry: &Entry,
        at: RowAtPosition,
        before: Before,
        found: &mut Candidates,
    ) -> RowVerdict {
        let has_message = before != Before::Nothing;
        let verdict = row_verdict::verdict(at, has_message, Origin::Chained);
        let candidate = |detail: &str| of(position, entry, detail);
        match verdict {
            RowVerdict::Agrees => {}
            RowVerdict::Pruned => self.count_pruned(position),
            RowVerdict::Doubled => {
                let detail = match before {
                    Before::Message(first) => format!("message {first} is of the same row"),
                    Before::Nothing | Before::SomeMessage => {
                        "its row has a message before it".to_owned()
                    }
                };
                found.add(Kind::MessageDoubled, candidate(&detail));
            }
            RowVerdict::Lost => {
                let candidate = candidate("no row with this id has this position");
                found.add(Kind::MessageExtra, candidate);
            }
            RowVerdict::Foreign => found.add(Kind::MessageForeign, candidate(TAKEN)),
            RowVerdict::Differs => {
                let candidate = Candidate {
                    republished: entry.republished,
                    ..candidate("it differs from its row")
                };
                found.add(Kind::MessageChanged, candidate);
            }
        }
        verdict
    }

    fn count_pruned(&mut self, position: i64) {
        self.pruned += 1;
        let before = self
            .gone_before
            .is_some_and(|(prune_mark, _)| position <= prune_mark);
        self.pruned_before += u64::from(before);
    }

    /// Up to where, and how many, operations were pruned before the first message was read whose
    /// messages the stream does not have.
    pub fn lost_pruned(&self) -> Option<(i64, u64)> {
        let (prune_mark, operations) = self.gone_before?;
        let lost = operations.saturating_sub(self.pruned_before);
        (lost > 0).then_some((prune_mark, lost))
    }

    fn settle(
        &mut self,
        row: &RowPrint,
        here: Vec<Entry>,
        may_come: impl Fn(i64) -> bool,
        found: &mut Candidates,
    ) {
        let (own, others): (Vec<Entry>, Vec<Entry>) =
            here.into_iter().partition(|entry| entry.id == row.id);
        let alone = own.len() == 1 && others.is_empty();
        // The first that agrees is its message.
        let mut message: Option<&Entry> = None;
        let mut before = Before::Nothing;
        for entry in &own {
            let at = row.of_own(entry);
            if self.decide(row.position, entry, at, before, found) == RowVerdict::Agrees {
                message = Some(entry);
                before = Before::Message(entry.sequence);
            }
        }
        for other in &others {
            let at = RowAtPosition::Other;
            self.decide(row.position, other, at, before, found);
        }
        if own.is_empty() {
            if may_come(row.position) {
                self.awaited.insert(row.position, row.id);
            } else {
                found.add(Kind::MessageMissing, missing(row.position, row.id));
            }
        }
        if let Some(entry) = message {
            if entry.comes_again && alone {
                seen_already(row.position, entry, found);
            }
            self.order(row, entry, found);
        }
    }

    fn order(&mut self, row: &RowPrint, entry: &Entry, found: &mut Candidates) {
        let Some(higher) = entry.higher_before else {
            return;
        };
        if row.content.carries_state() {
            let detail = format!("it comes after position {higher} of the same file");
            found.add(
                Kind::MessageDisordered,
                Candidate {
                    higher_before: Some(higher),
                    ..of(row.position, entry, detail)
                },
            );
        } else {
            self.overtaken += 1;
        }
    }

    /// Takes a message that came after the rows of its position were read, with its row as it is
    /// now.
    pub fn late_message(
        &mut self,
        position: i64,
        entry: Entry,
        row: Option<&RowPrint>,
        prune_mark: i64,
        found: &mut Candidates,
    ) {
        let Some(row) = row else {
            return self.without_row(position, &entry, prune_mark, found);
        };
        if row.id != entry.id {
            let has_message = !self.awaited.contains_key(&position)
                && !found.is_missing(position)
                && !found.is_changed(position);
            let (at, before) = (RowAtPosition::Other, Before::of(has_message));
            self.decide(position, &entry, at, before, found);
            return;
        }
        let expected = self.awaited.remove(&position).is_some() || found.came_late(position);
        // A position that comes again, or is published again, has a message before this one: this one
        // counts only where that one differs from the row.
        let comes_again = !expected && (entry.comes_again || entry.republished);
        let has_message = comes_again && !found.is_changed(position);
        if !expected && !comes_again {
            // Its row was not visible yet when those around it were read.
            self.rows += 1;
        }
        let (at, before) = (row.of_own(&entry), Before::of(has_message));
        let verdict = self.decide(position, &entry, at, before, found);
        if verdict == RowVerdict::Agrees {
            if expected && entry.comes_again {
                seen_already(position, &entry, found);
            }
            self.order(row, &entry, found);
        }
    }

    /// Behind a break of the source, rows above what agreed are published again.
    pub fn begin_epoch(&mut self, high_water_mark: i64) {
        self.cursor = self.cursor.min(high_water_mark);
    }

    /// Rows that were read and whose messages may still come.
    pub fn awaited(&self) -> &BTreeMap<i64, Uuid> {
        &self.awaited
    }

    /// Messages above the cursor that came up to a sequence: their rows can't be seen.
    pub fn take_open_up_to(&mut self, sequence: u64, prune_mark: i64, found: &mut Candidates) {
        let (of_then, later) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|((_, at), _)| *at <= sequence);
        self.open = later;
        let of_then: BTreeMap<(i64, u64), Entry> = of_then;
        for ((position, _), entry) in of_then {
            self.without_row(position, &entry, prune_mark, found);
        }
    }

    /// Gives up waiting.
    pub fn give_up(&mut self, found: &mut Candidates) {
        for (position, id) in std::mem::take(&mut self.awaited) {
            found.add(Kind::MessageMissing, missing(position, id));
        }
    }

    /// How many messages wait for their rows.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

/// The only message of a row, though the messages before it state its position as seen.
fn seen_already(position: i64, entry: &Entry, found: &mut Candidates) {
    let detail = "the messages before it state its position as seen";
    found.add(Kind::StreamBroken, of(position, entry, detail));
}

fn of(position: i64, entry: &Entry, detail: impl Into<String>) -> Candidate {
    Candidate {
        id: Some(entry.id),
        sequence: Some(entry.sequence),
        position: Some(position),
        detail: detail.into(),
        ..Candidate::default()
    }
}

/// A finished row without a message.
pub fn missing(position: i64, id: Uuid) -> Candidate {
    Candidate {
        id: Some(id),
        position: Some(position),
        detail: "a finished row has no message".to_owned(),
        ..Candidate::default()
    }
}
