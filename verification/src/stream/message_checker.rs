//! Checks message after message of a stream against the rows of their positions: which messages
//! count, and what is wrong with the others. The result of a whole scan is in [`crate::stream::scan`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use artstore_bus::breaks::{Breaks, Refused};
use artstore_bus::message::Message;
use artstore_schemas::damage::{Damage, Sequences, damage_accepted};
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::epoch::{self, Epochs};
use artstore_schemas::event::{self, DecodeError, Event};
use artstore_schemas::ranges::{Range, Ranges};
use artstore_schemas::source::Source;
use uuid::Uuid;

use crate::stream::fingerprint;
use crate::stream::message_form;
use crate::stream::order::Order;
use crate::stream::scan::{DamagedRange, LostMessage, MOST_LISTED, Rows, StreamScan};
use crate::stream::scan_reader::ScanReader;
use artstore_producers::relay::relay_error::RelayError;
use artstore_producers::relay::resume_state::ResumeState;
use artstore_producers::relay::seen_positions::SeenPositions;
use artstore_producers::relay::source::{Content, SourceRow};
use artstore_producers::relay::translate::Translator;

/// Checks the messages of one stream, in order.
pub(crate) struct MessageChecker<'a> {
    translator: &'a Translator,
    source: &'a Source,
    bodies: bool,
    epochs: Epochs,
    known: Damage,
    /// Records that no relay can have written, and why.
    refused: HashMap<u64, String>,
    /// The sequence that should come next.
    pub(crate) next: u64,
    /// The state after the last message that counts.
    pub(crate) resume_state: ResumeState,
    /// The state as that message states it.
    stated: StatedPositions,
    order: Order,
    /// Rows of our API that come after a higher position of the same file.
    out_of_order: Vec<OutOfOrder>,
    agreed: Ranges,
    /// Messages whose row is there: not those whose row was pruned.
    agreed_rows: u64,
    last_agreeing: u64,
    lost: Vec<LostMessage>,
    lost_count: u64,
    lost_positions: Ranges,
    lost_files: BTreeSet<String>,
    damaged_ranges: Vec<DamagedRange>,
    /// Which of the damaged ranges are holes, messages to be ignored, and breaks.
    damage_found: BTreeMap<u64, DamageKind>,
    unclear_files: BTreeSet<Uuid>,
    /// The file of the last message that counts.
    last_file: Option<Uuid>,
    pub(crate) end_ignored: bool,
    new_holes: bool,
    /// The last message that does not count because it says something else than its row.
    changed: Option<Uuid>,
    /// A message that only a newer version of the program can read.
    pub(crate) too_new: Option<(u64, String)>,
}

/// The positions that a message states: seen up to it.
#[derive(Default)]
struct StatedPositions {
    high_water_mark: i64,
    gaps: Ranges,
}

/// A message that comes after a higher position of the same file.
pub(crate) struct OutOfOrder {
    sequence: u64,
    pub(crate) over: i64,
    id: Uuid,
    file: Uuid,
}

#[derive(Clone, Copy)]
enum DamageKind {
    Hole(u64),
    Ignored,
    Break,
}

impl<'a> MessageChecker<'a> {
    pub(crate) fn new(translator: &'a Translator, bodies: bool, breaks: Breaks) -> Self {
        let refused = breaks.refused.into_iter();
        let refused = refused.map(|Refused { sequence, problem }| (sequence, problem));
        Self {
            translator,
            source: translator.source(),
            bodies,
            epochs: breaks.epochs,
            known: breaks.damage,
            refused: refused.collect(),
            next: 1,
            resume_state: ResumeState::default(),
            stated: StatedPositions::default(),
            order: Order::default(),
            out_of_order: Vec::new(),
            agreed: Ranges::default(),
            agreed_rows: 0,
            last_agreeing: 0,
            lost: Vec::new(),
            lost_count: 0,
            lost_positions: Ranges::default(),
            lost_files: BTreeSet::new(),
            damaged_ranges: Vec::new(),
            damage_found: BTreeMap::new(),
            unclear_files: BTreeSet::new(),
            last_file: None,
            end_ignored: false,
            new_holes: false,
            changed: None,
            too_new: None,
        }
    }

    /// Whose stream is read.
    pub(crate) fn source(&self) -> &'a Source {
        self.source
    }

    /// No messages stand here.
    pub(crate) async fn hole(
        &mut self,
        reader: &ScanReader,
        first: u64,
        last: u64,
    ) -> Result<(), RelayError> {
        let left = self.known.left_of_hole(first, last);
        for &Sequences { first, last } in &left {
            if !reader.is_hole(first, last).await? {
                return Err(reader.failed(&"messages got lost on the way: try again"));
            }
            self.add_damage(first, last, "messages are missing", None, None);
            self.damage_found.insert(first, DamageKind::Hole(last));
        }
        // For a reader in the hole the next message does not follow.
        self.end_ignored = true;
        self.new_holes |= !left.is_empty();
        self.next = last + 1;
        Ok(())
    }

    /// The next message.
    pub(crate) fn check(&mut self, message: &Message, rows: &Rows) {
        let sequence = message.sequence;
        self.next = sequence + 1;
        let envelope = Envelope::from_headers(&message.headers);
        let file = match (&envelope, self.source) {
            (Ok(envelope), Source::Element(_)) => {
                envelope.subject.as_ref().and_then(|s| s.parse().ok())
            }
            _ => None,
        };
        if self.known.ignores(sequence) {
            self.unclear_files.extend(file);
            self.end_ignored = true;
            return;
        }
        let id = envelope.as_ref().ok().map(|envelope| envelope.id);
        let verdict = match &envelope {
            Err(error) => Verdict::Ignore(error.to_string()),
            Ok(envelope) => self.verdict(message, envelope, rows),
        };
        let broken = match verdict {
            Verdict::Ignore(problem) => {
                self.add_damage(sequence, sequence, &problem, id, file);
                self.damage_found.insert(sequence, DamageKind::Ignored);
                self.unclear_files.extend(file);
                self.end_ignored = true;
                return;
            }
            Verdict::Break(problem) => {
                self.add_damage(sequence, sequence, problem, id, file);
                self.damage_found.insert(sequence, DamageKind::Break);
                true
            }
            Verdict::Good => self.known.covers_break(sequence),
        };
        let envelope = envelope.expect("what can't be read is ignored");
        if self.end_ignored && envelope.is_record() {
            // For a reader at a message that no longer counts, this one does not follow.
            self.damage_found
                .entry(sequence)
                .or_insert(DamageKind::Break);
        }
        self.end_ignored = false;
        match file {
            // The order is in doubt: of both messages.
            Some(file) if broken => {
                self.unclear_files.extend(self.last_file);
                self.unclear_files.insert(file);
            }
            Some(file) => {
                self.unclear_files.remove(&file);
            }
            None => {}
        }
        self.last_file = file;
        self.resume_state = ResumeState {
            sequence,
            last_id: Some(envelope.id),
            position: envelope.position,
            seen_positions: self.seen_after(&envelope),
            backfill_due: envelope.backfill_due,
            identity: Some(envelope.identity),
        };
        self.stated = StatedPositions {
            high_water_mark: envelope.high_water_mark,
            gaps: envelope.gaps,
        };
    }

    /// Whether a message counts. Takes its position where it does.
    fn verdict(&mut self, message: &Message, envelope: &Envelope, rows: &Rows) -> Verdict {
        let sequence = message.sequence;
        let accepted = self.known.covers_break(sequence);
        let chained = envelope.previous == self.resume_state.last_id || accepted;
        let Message {
            subject, headers, ..
        } = message;
        if let Some(problem) = message_form::foreign(self.source, subject, headers, envelope) {
            return Verdict::Ignore(problem);
        }
        if let Some(problem) = self.refused.get(&sequence) {
            // A relay may have gone on behind it.
            self.changed = chained.then_some(envelope.id).or(self.changed);
            return Verdict::Ignore(problem.clone());
        }
        let decoded = self
            .bodies
            .then(|| event::decode(self.source, &envelope.event_type, &message.body));
        if let Some(Err(error @ DecodeError::Unknown { .. })) = &decoded {
            self.too_new.get_or_insert((sequence, error.to_string()));
        }
        let event = match decoded {
            Some(Err(error)) => {
                return Verdict::Ignore(format!("its body can't be read: {error}"));
            }
            Some(Ok(event)) => Some(event),
            None => None,
        };
        let follows = match chained {
            _ if accepted => Verdict::Good,
            true => self.check_state(sequence, envelope),
            false => Verdict::Break("it does not follow the message before it (artstore-previous)"),
        };
        // Without a row, only the chain shows that it is ours; a hole breaks it, and so does a message
        // of ours that was changed.
        let behind_hole = matches!(
            self.damage_found.last_key_value(),
            Some((_, DamageKind::Hole(last))) if last + 1 == sequence
        );
        let behind_changed = envelope.previous.is_some() && envelope.previous == self.changed;
        let is_ours = chained || behind_hole || behind_changed;
        let stranger = || Verdict::Ignore("no relay of this source wrote it here".to_owned());
        let Some(position) = envelope.position else {
            return match is_ours {
                true => {
                    if envelope.is_record_of(&epoch::accepted()) {
                        self.order.clear();
                    }
                    follows
                }
                false => stranger(),
            };
        };
        if !self.epochs.survives(sequence, position) {
            return follows;
        }
        if rows.is_pruned(position) {
            if self.agreed.contains(position) {
                return Verdict::Ignore(format!("position {position} was published before it"));
            }
            if !is_ours {
                return stranger();
            }
            self.agreed.insert(position);
            self.last_agreeing = sequence;
            return follows;
        }
        if rows.id(position) != Some(envelope.id) {
            if !chained || self.agreed.contains(position) {
                return Verdict::Ignore(format!(
                    "the row at its position {position} is another one"
                ));
            }
            self.add_lost(sequence, position, envelope);
            return follows;
        }
        if self.agreed.contains(position) {
            return Verdict::Ignore(format!("position {position} was published before it"));
        }
        if let (Some(row), Some(event)) = (rows.row(position), event) {
            if let Some(problem) = difference(self.translator, row, subject, envelope, event) {
                self.changed = Some(envelope.id);
                return Verdict::Ignore(problem);
            }
            if !accepted {
                self.check_order(sequence, position, envelope, row);
            }
        }
        self.agreed.insert(position);
        self.agreed_rows += 1;
        self.last_agreeing = sequence;
        follows
    }

    /// A message that follows the one before it: whether its state does, too. Behind one that does
    /// not count it is not known whose state was continued; a decision has checked everything.
    fn check_state(&self, sequence: u64, envelope: &Envelope) -> Verdict {
        let StatedPositions {
            high_water_mark,
            gaps,
        } = &self.stated;
        if self.resume_state.sequence + 1 != sequence || Self::is_decision(envelope) {
            return Verdict::Good;
        }
        if message_form::comes_again(*high_water_mark, gaps, envelope) {
            Verdict::Break("the messages before it say that its position was seen already")
        } else if !message_form::state_follows(*high_water_mark, gaps, envelope) {
            Verdict::Break("what it says was seen does not follow from the message before it")
        } else if self.is_of_another_database(envelope) {
            Verdict::Break("it comes from another database than the message before it")
        } else {
            Verdict::Good
        }
    }

    fn is_decision(envelope: &Envelope) -> bool {
        envelope.is_record_of(&epoch::accepted()) || envelope.is_record_of(&damage_accepted())
    }

    fn is_of_another_database(&self, envelope: &Envelope) -> bool {
        let before = self.resume_state.identity.as_ref();
        before.is_some_and(|identity| *identity != envelope.identity)
    }

    /// What was seen after a message that counts: as it states, unless that follows neither from what
    /// the one before it states nor from what was seen.
    fn seen_after(&self, envelope: &Envelope) -> SeenPositions {
        let seen = &self.resume_state.seen_positions;
        let is_consistent = self.resume_state.sequence + 1 != self.next - 1
            || Self::is_decision(envelope)
            || message_form::state_follows(
                self.stated.high_water_mark,
                &self.stated.gaps,
                envelope,
            )
            || message_form::state_follows(seen.high_water_mark(), &seen.gaps(), envelope);
        let mut seen_positions =
            SeenPositions::from_stream(envelope.high_water_mark, &envelope.gaps);
        if is_consistent {
            return seen_positions;
        }
        seen_positions = seen.clone();
        let wanted = |own: &i64| *own > seen.high_water_mark() || seen.gaps().contains(*own);
        match message_form::own_position(envelope).filter(wanted) {
            // Where no room is left for its hole, what is above it comes again.
            Some(own) if !seen_positions.see(own) => seen.clone(),
            _ => seen_positions,
        }
    }

    /// Whether it comes after a later change of its file that our API wrote as well.
    fn check_order(&mut self, sequence: u64, position: i64, envelope: &Envelope, row: &SourceRow) {
        if envelope.snapshot == Some(Snapshot::Republish) {
            return;
        }
        let file = envelope.subject.as_ref().and_then(|s| s.parse().ok());
        let (Source::Element(_), Some(file)) = (self.source, file) else {
            return;
        };
        let over = self.order.see(file, position);
        if let Some(over) = over.filter(|_| row.is_recorded())
            && self.out_of_order.len() < MOST_LISTED
        {
            self.out_of_order.push(OutOfOrder {
                sequence,
                over,
                id: envelope.id,
                file,
            });
        }
    }

    /// The messages that come after a higher position of the same file.
    pub(crate) fn take_out_of_order(&mut self) -> Vec<OutOfOrder> {
        std::mem::take(&mut self.out_of_order)
    }

    /// Only where our API wrote both rows it is certain which came first.
    pub(crate) fn disordered(&mut self, message: &OutOfOrder) {
        let OutOfOrder {
            sequence, id, file, ..
        } = *message;
        let problem = format!("it stands behind position {} of its file", message.over);
        self.add_damage(sequence, sequence, &problem, Some(id), Some(file));
        self.damage_found
            .entry(sequence)
            .or_insert(DamageKind::Break);
        self.unclear_files.insert(file);
    }

    fn add_lost(&mut self, sequence: u64, position: i64, envelope: &Envelope) {
        self.lost_count += 1;
        self.lost_positions.insert(position);
        if let (Some(file), Source::Element(_)) = (&envelope.subject, self.source) {
            self.lost_files.insert(file.clone());
        }
        if self.lost.len() < MOST_LISTED {
            self.lost.push(LostMessage {
                sequence,
                position,
                id: envelope.id,
                file: envelope.subject.clone(),
            });
        }
    }

    fn add_damage(
        &mut self,
        first: u64,
        last: u64,
        problem: &str,
        id: Option<Uuid>,
        file: Option<Uuid>,
    ) {
        self.damaged_ranges.push(DamagedRange {
            first,
            last,
            problem: problem.to_owned(),
            id,
            file: file.map(|file| file.to_string()),
        });
    }

    /// The rows that seem to be lost; the first [`MOST_LISTED`].
    pub(crate) fn lost(&self) -> impl Iterator<Item = Uuid> {
        self.lost.iter().map(|lost| lost.id)
    }

    /// Messages with a position that is not their row's, or that of a row which has its own
    /// message: nothing was lost, they do not count. What follows them does not follow what counts
    /// before them.
    pub(crate) fn pass_over_strangers(&mut self, elsewhere: &HashSet<Uuid>) {
        let is_stranger = |lost: &LostMessage| {
            self.agreed.contains(lost.position) || elsewhere.contains(&lost.id)
        };
        let (strangers, lost): (Vec<LostMessage>, Vec<LostMessage>) =
            std::mem::take(&mut self.lost)
                .into_iter()
                .partition(is_stranger);
        self.lost = lost;
        self.lost_count -= strangers.len() as u64;
        let mut theirs = Ranges::default();
        strangers
            .iter()
            .for_each(|lost| theirs.insert(lost.position));
        self.lost_positions = self.lost_positions.minus(&theirs);
        for stranger in strangers {
            let (sequence, file) = (stranger.sequence, stranger.file.as_ref());
            let file = file.and_then(|file| file.parse().ok());
            let problem = format!("position {} is not that of its row", stranger.position);
            self.add_damage(sequence, sequence, &problem, Some(stranger.id), file);
            self.damage_found.insert(sequence, DamageKind::Ignored);
            self.damage_found
                .entry(sequence + 1)
                .or_insert(DamageKind::Break);
            self.unclear_files.extend(file);
            self.end_ignored |= sequence == self.resume_state.sequence;
        }
    }

    /// The breaks of the source whose record turned out to be none.
    pub(crate) fn forged_epochs(&self) -> BTreeSet<u64> {
        let epochs = self.epochs.0.iter().map(|epoch| epoch.sequence);
        let is_forged = |at: &u64| matches!(self.damage_found.get(at), Some(DamageKind::Ignored));
        epochs.filter(is_forged).collect()
    }

    pub(crate) fn finish(mut self, identity: String) -> StreamScan {
        let mut damage = Damage::default();
        for (&sequence, found) in &self.damage_found {
            match *found {
                DamageKind::Hole(last) => damage.add_hole(sequence, last),
                DamageKind::Ignored => damage.add_ignored(sequence),
                DamageKind::Break => damage.add_break(sequence),
            }
        }
        // What was found is newer than what is known of the same sequence.
        let damage = self.known.with(&damage);
        // Where messages were exchanged, the last one does not state everything that was seen.
        let seen = self.agreed.as_slice().last().map_or(0, |range| range.last);
        let high_water_mark = self.resume_state.seen_positions.high_water_mark();
        if !self.damaged_ranges.is_empty() && seen > high_water_mark {
            let between = Ranges::from_iter([Range {
                first: high_water_mark + 1,
                last: seen,
            }]);
            let gaps = self
                .resume_state
                .seen_positions
                .gaps()
                .union(&between)
                .minus(&self.agreed);
            self.resume_state.seen_positions = SeenPositions::from_stream(seen, &gaps);
        }
        StreamScan {
            resume_state: self.resume_state,
            identity,
            agreed: self.agreed,
            agreed_rows: self.agreed_rows,
            last_agreeing: self.last_agreeing,
            lost: self.lost,
            lost_count: self.lost_count,
            lost_positions: self.lost_positions,
            lost_files: self.lost_files,
            damaged_ranges: self.damaged_ranges,
            damage,
            unclear_files: self.unclear_files,
            end_ignored: self.end_ignored,
            new_holes: self.new_holes,
        }
    }
}

enum Verdict {
    /// It counts.
    Good,
    /// It counts, although it does not stand where it should: why.
    Break(&'static str),
    /// It does not count.
    Ignore(String),
}

/// How a message differs from what its row states, as far as the row still has it: all of it for rows of
/// an outbox and rows that carry the file's state, else all but that state.
fn difference(
    translator: &Translator,
    row: &SourceRow,
    subject: &str,
    envelope: &Envelope,
    event: Event,
) -> Option<String> {
    let whole = match row.content {
        Content::Outbox(_) => true,
        Content::Wal(_) => row.is_recorded() && envelope.snapshot != Some(Snapshot::Republish),
    };
    let mut stated = fingerprint::ComparableEvent::from_message(subject, envelope, event);
    let mut should = fingerprint::ComparableEvent::from_row(translator, row.clone());
    if !whole {
        (stated, should) = (stated.without_state(), should.without_state());
    }
    (stated.digest() != should.digest()).then(|| {
        format!(
            "it differs from its row in {}",
            stated.differences(&should).join(", ")
        )
    })
}
