//! Each finished row and its message. Messages wait in an open window until the rows of their
//! positions have been read; a row whose message the stream still owes waits until it comes. Both
//! are small: the window is as long as messages may be out of order, and only rows that the
//! relay has not seen are owed.

use std::collections::BTreeMap;

use crate::stream::content::{ContentDigest, RowContent, RowDigest};
use artstore_producers::relay::source::SourceRow;
use artstore_producers::relay::translate::Translator;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::candidates::{Candidate, Candidates};
use super::finding::Kind;

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
    pub again: bool,
    /// A higher position of the same file that comes before it.
    pub over: Option<i64>,
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
    /// Rows at or below the cursor whose messages the stream still owes.
    #[serde(with = "artstore_schemas::pairs")]
    owed: BTreeMap<i64, Uuid>,
}

impl Matching {
    /// Takes a message. Returns it where its row has been read already: it goes to [`Self::late`] then.
    pub fn message(&mut self, position: i64, entry: Entry) -> Option<Entry> {
        self.messages += 1;
        if position <= self.cursor {
            return Some(entry);
        }
        self.open.insert((position, entry.sequence), entry);
        None
    }

    /// Takes the rows from the cursor up to `complete`. `prune_mark`: that of the source.
    /// `owes`: whether the stream may still bring the message of a position.
    pub fn rows(
        &mut self,
        rows: Vec<RowPrint>,
        complete: i64,
        prune_mark: i64,
        owes: impl Fn(i64) -> bool,
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
            self.settle(&row, here, &owes, found);
        }
        self.strangers(complete.saturating_add(1), prune_mark, found);
        self.cursor = self.cursor.max(complete);
        self.settle_owed(owes, found);
    }

    /// Rows that the stream does not owe any more are missing from it.
    pub fn settle_owed(&mut self, owes: impl Fn(i64) -> bool, found: &mut Candidates) {
        self.owed.retain(|position, id| {
            let owed = owes(*position);
            if !owed {
                found.add(Kind::MessageMissing, missing(*position, *id));
            }
            owed
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

    /// A message whose row is not there: it was pruned, or the message is none of the source's.
    fn without_row(
        &mut self,
        position: i64,
        entry: &Entry,
        prune_mark: i64,
        found: &mut Candidates,
    ) {
        if position > prune_mark {
            extra(position, entry, found);
        } else if entry.republished {
            self.count_pruned(position);
        } else if entry.again {
            doubled(position, entry, None, found);
        } else {
            self.count_pruned(position);
        }
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
        owes: impl Fn(i64) -> bool,
        found: &mut Candidates,
    ) {
        let (own, others): (Vec<Entry>, Vec<Entry>) =
            here.into_iter().partition(|entry| entry.id == row.id);
        for other in &others {
            stranger(row.position, other, !own.is_empty(), found);
        }
        let alone = own.len() == 1 && others.is_empty();
        // The first that agrees is its message.
        let mut message: Option<&Entry> = None;
        for entry in &own {
            match message {
                Some(first) => doubled(row.position, entry, Some(first.sequence), found),
                None if check(row, entry, found) => message = Some(entry),
                None => {}
            }
        }
        if own.is_empty() {
            if owes(row.position) {
                self.owed.insert(row.position, row.id);
            } else {
                found.add(Kind::MessageMissing, missing(row.position, row.id));
            }
        }
        if let Some(entry) = message {
            if entry.again && alone {
                seen_already(row.position, entry, found);
            }
            self.order(row, entry, found);
        }
    }

    fn order(&mut self, row: &RowPrint, entry: &Entry, found: &mut Candidates) {
        let Some(over) = entry.over else { return };
        if row.content.carries_state() {
            let detail = format!("it stands behind position {over} of the same file");
            found.add(
                Kind::MessageDisordered,
                Candidate {
                    over: Some(over),
                    ..of(row.position, entry, detail)
                },
            );
        } else {
            self.overtaken += 1;
        }
    }

    /// Takes a message that came after the rows of its position were read, with its row as it is
    /// now.
    pub fn late(
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
            let has_message = !self.owed.contains_key(&position) && !found.is_missing(position);
            return stranger(position, &entry, has_message, found);
        }
        let expected = self.owed.remove(&position).is_some() || found.came_late(position);
        // A position that comes again, or is published again, has a message before this one: this one
        // counts only where that one differs from the row.
        let has_message = !expected && (entry.again || entry.republished);
        if has_message && !found.is_changed(position) {
            return doubled(position, &entry, None, found);
        }
        if !expected && !has_message {
            // Its row was not visible yet when those around it were read.
            self.rows += 1;
        }
        if check(row, &entry, found) {
            if expected && entry.again {
                seen_already(position, &entry, found);
            }
            self.order(row, &entry, found);
        }
    }

    /// Behind a break of the source, rows above what agreed are published again.
    pub fn begin_epoch(&mut self, high_water_mark: i64) {
        self.cursor = self.cursor.min(high_water_mark);
    }

    /// Rows that were read and whose messages the stream still owes.
    pub fn owed(&self) -> &BTreeMap<i64, Uuid> {
        &self.owed
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
        for (position, id) in std::mem::take(&mut self.owed) {
            found.add(Kind::MessageMissing, missing(position, id));
        }
    }

    /// How many messages wait for their rows.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

/// Whether a message agrees with its row.
fn check(row: &RowPrint, entry: &Entry, found: &mut Candidates) -> bool {
    let agrees = row.content.agrees(&entry.content, entry.republished);
    if !agrees {
        found.add(
            Kind::MessageChanged,
            Candidate {
                republished: entry.republished,
                ..of(row.position, entry, "it says something else than its row")
            },
        );
    }
    agrees
}

/// A message with the position of another row.
fn stranger(position: i64, entry: &Entry, has_message: bool, found: &mut Candidates) {
    if has_message {
        let detail = "its position is that of another row, which has its own message";
        found.add(Kind::MessageForeign, of(position, entry, detail));
    } else {
        extra(position, entry, found);
    }
}

/// The only message of a row, though the messages before it state its position as seen.
fn seen_already(position: i64, entry: &Entry, found: &mut Candidates) {
    let detail = "the messages before it say that its position was seen already";
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

fn extra(position: i64, entry: &Entry, found: &mut Candidates) {
    let detail = "no row with this id has this position";
    found.add(Kind::MessageExtra, of(position, entry, detail));
}

fn doubled(position: i64, entry: &Entry, first: Option<u64>, found: &mut Candidates) {
    let first = first.map_or_else(
        || "its row has a message before it".to_owned(),
        |first| format!("message {first} is of the same row"),
    );
    found.add(Kind::MessageDoubled, of(position, entry, first));
}
