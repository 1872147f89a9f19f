//! The damage of a stream, as the message checker finds it: holes, messages that do not count,
//! breaks of the chain, and the files of which readers may have a wrong state.

use std::collections::{BTreeMap, BTreeSet};

use artstore_schemas::damage::{Damage, Sequences};
use serde::Serialize;
use uuid::Uuid;

/// A damaged range of a stream that no record lists yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedRange {
    /// The first sequence.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What is wrong there.
    pub problem: String,
    /// The message's event, where it can be read.
    pub id: Option<Uuid>,
    /// The file that it is about.
    pub file: Option<String>,
}

/// Damage that is known, and damage that was found.
#[derive(Debug)]
pub(crate) struct StreamDamage {
    known: Damage,
    /// What no record lists yet.
    pub(crate) ranges: Vec<DamagedRange>,
    /// Which of it are holes, messages to be ignored, and breaks.
    kinds: BTreeMap<u64, DamageKind>,
    /// Files of which damaged messages spoke, and no good message since.
    pub(crate) unclear_files: BTreeSet<Uuid>,
    /// The file of the last message that counts.
    last_file: Option<Uuid>,
    /// Whether the last messages do not count.
    pub(crate) end_ignored: bool,
    /// Whether messages are gone that no record lists.
    pub(crate) new_holes: bool,
}

#[derive(Debug, Clone, Copy)]
enum DamageKind {
    Hole(u64),
    Ignored,
    Break,
}

/// The message that is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) sequence: u64,
    /// Its event, where it can be read.
    pub(crate) id: Option<Uuid>,
    /// The file that it is about.
    pub(crate) file: Option<Uuid>,
}

impl StreamDamage {
    pub(crate) fn new(known: Damage) -> Self {
        Self {
            known,
            ranges: Vec::new(),
            kinds: BTreeMap::new(),
            unclear_files: BTreeSet::new(),
            last_file: None,
            end_ignored: false,
            new_holes: false,
        }
    }

    /// Whether a record lists this message among those that do not count.
    pub(crate) fn is_known_ignored(&self, sequence: u64) -> bool {
        self.known.ignores(sequence)
    }

    /// Whether a record lists this message among those that count although they break the chain.
    pub(crate) fn is_known_break(&self, sequence: u64) -> bool {
        self.known.covers_break(sequence)
    }

    /// The parts of a hole that no record lists.
    pub(crate) fn new_parts_of_hole(&self, first: u64, last: u64) -> Vec<Sequences> {
        self.known.left_of_hole(first, last)
    }

    /// No messages are here.
    pub(crate) fn hole(&mut self, first: u64, last: u64) {
        for Sequences { first, last } in self.new_parts_of_hole(first, last) {
            self.add(first, last, "messages are missing", None, None);
            self.kinds.insert(first, DamageKind::Hole(last));
            self.new_holes = true;
        }
        // For a reader in the hole the next message does not follow.
        self.end_ignored = true;
    }

    /// Whether a hole that no record lists ends before this message.
    pub(crate) fn is_behind_new_hole(&self, sequence: u64) -> bool {
        matches!(
            self.kinds.last_key_value(),
            Some((_, DamageKind::Hole(last))) if last + 1 == sequence
        )
    }

    /// A message that does not count, by a record.
    pub(crate) fn known_ignored(&mut self, message: Subject) {
        self.unclear_files.extend(message.file);
        self.end_ignored = true;
    }

    /// A message that does not count.
    pub(crate) fn ignored(&mut self, message: Subject, problem: &str) {
        let Subject { sequence, id, file } = message;
        self.add(sequence, sequence, problem, id, file);
        self.kinds.insert(sequence, DamageKind::Ignored);
        self.unclear_files.extend(file);
        self.end_ignored = true;
    }

    /// A message that counts, and why it is not where it should be.
    pub(crate) fn counts(&mut self, message: Subject, problem: Option<&str>, is_record: bool) {
        let Subject { sequence, id, file } = message;
        if let Some(problem) = problem {
            self.add(sequence, sequence, problem, id, file);
            self.kinds.insert(sequence, DamageKind::Break);
        }
        if self.end_ignored && is_record {
            // For a reader at a message that no longer counts, this one does not follow.
            self.kinds.entry(sequence).or_insert(DamageKind::Break);
        }
        self.end_ignored = false;
        match file {
            // The order is in doubt: of both messages.
            Some(file) if problem.is_some() || self.is_known_break(sequence) => {
                self.unclear_files.extend(self.last_file);
                self.unclear_files.insert(file);
            }
            Some(file) => {
                self.unclear_files.remove(&file);
            }
            None => {}
        }
        self.last_file = file;
    }

    /// A message that counted, and comes after a later change of its file.
    pub(crate) fn disordered(&mut self, message: Subject, problem: &str) {
        let Subject { sequence, id, file } = message;
        self.add(sequence, sequence, problem, id, file);
        self.kinds.entry(sequence).or_insert(DamageKind::Break);
        self.unclear_files.extend(file);
    }

    /// Whether a message was found that does not count here.
    pub(crate) fn is_ignored(&self, sequence: u64) -> bool {
        matches!(self.kinds.get(&sequence), Some(DamageKind::Ignored))
    }

    /// All damage: what is listed already and what is not. Of the same sequence the newer finding counts.
    pub(crate) fn all(&self) -> Damage {
        let mut damage = Damage::default();
        for (&sequence, kind) in &self.kinds {
            match *kind {
                DamageKind::Hole(last) => damage.add_hole(sequence, last),
                DamageKind::Ignored => damage.add_ignored(sequence),
                DamageKind::Break => damage.add_break(sequence),
            }
        }
        self.known.with(&damage)
    }

    fn add(&mut self, first: u64, last: u64, problem: &str, id: Option<Uuid>, file: Option<Uuid>) {
        self.ranges.push(DamagedRange {
            first,
            last,
            problem: problem.to_owned(),
            id,
            file: file.map(|file| file.to_string()),
        });
    }
}
