//! Message after message of a stream, with the rows of their positions: which of them count, and what
//! is wrong with the others. What a whole reading found is in [`crate::stream::scan`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use artstore_bus::breaks::{Breaks, Refused};
use artstore_schemas::damage::{Damage, Sequences, damage_accepted};
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::epoch::{self, Epochs};
use artstore_schemas::event::{self, DecodeError, Event};
use artstore_schemas::ranges::{Range, Ranges};
use artstore_schemas::source::Source;
use uuid::Uuid;

use crate::stream::fingerprint;
use crate::stream::form;
use crate::stream::order::Order;
use crate::stream::scan::{Lost, MOST_LISTED, Place, Rows, Scan};
use crate::stream::walk::{Message, Walk};
use artstore_producers::relay::gaps::Gaps;
use artstore_producers::relay::relay_error::RelayError;
use artstore_producers::relay::source::{Content, SourceRow};
use artstore_producers::relay::tail::Tail;
use artstore_producers::relay::translate::Translator;

/// Takes message after message.
pub(crate) struct Judge<'a> {
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
    pub(crate) tail: Tail,
    /// The state as that message says it.
    said: Said,
    order: Order,
    /// Rows of our API that stand behind a higher position of the same file.
    behind: Vec<Behind>,
    agreed: Ranges,
    /// Messages whose row is there: not those whose row was pruned.
    agreed_rows: u64,
    last_agreeing: u64,
    lost: Vec<Lost>,
    lost_count: u64,
    lost_positions: Ranges,
    lost_files: BTreeSet<String>,
    places: Vec<Place>,
    /// Which of the places are holes, messages to be ignored, and breaks.
    found: BTreeMap<u64, Found>,
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

/// What a message says was seen up to it.
#[derive(Default)]
struct Said {
    high: i64,
    missing: Ranges,
}

/// A message that stands behind a higher position of the same file.
pub(crate) struct Behind {
    sequence: u64,
    pub(crate) over: i64,
    id: Uuid,
    file: Uuid,
}

#[derive(Clone, Copy)]
enum Found {
    Hole(u64),
    Ignored,
    Break,
}

impl<'a> Judge<'a> {
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
            tail: Tail::default(),
            said: Said::default(),
            order: Order::default(),
            behind: Vec::new(),
            agreed: Ranges::default(),
            agreed_rows: 0,
            last_agreeing: 0,
            lost: Vec::new(),
            lost_count: 0,
            lost_positions: Ranges::default(),
            lost_files: BTreeSet::new(),
            places: Vec::new(),
            found: BTreeMap::new(),
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
        walk: &Walk,
        first: u64,
        last: u64,
    ) -> Result<(), RelayError> {
        let left = self.known.left_of_hole(first, last);
        for &Sequences { first, last } in &left {
            if !walk.is_hole(first, last).await? {
                return Err(walk.failed(&"messages got lost on the way: try again"));
            }
            self.place(first, last, "messages are missing", None, None);
            self.found.insert(first, Found::Hole(last));
        }
        // Who stands in the hole does not see the next message follow.
        self.end_ignored = true;
        self.new_holes |= !left.is_empty();
        self.next = last + 1;
        Ok(())
    }

    /// The next message.
    pub(crate) fn take(&mut self, message: &Message, rows: &Rows) {
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
        let judged = match &envelope {
            Err(error) => Judged::Ignore(error.to_string()),
            Ok(envelope) => self.judge(message, envelope, rows),
        };
        let broken = match judged {
            Judged::Ignore(problem) => {
                self.place(sequence, sequence, &problem, id, file);
                self.found.insert(sequence, Found::Ignored);
                self.unclear_files.extend(file);
                self.end_ignored = true;
                return;
            }
            Judged::Break(problem) => {
                self.place(sequence, sequence, problem, id, file);
                self.found.insert(sequence, Found::Break);
                true
            }
            Judged::Good => self.known.covers_break(sequence),
        };
        let envelope = envelope.expect("what can't be read is ignored");
        if self.end_ignored && envelope.is_record() {
            // Who stands on a message that does not count any more does not see this one follow it.
            self.found.entry(sequence).or_insert(Found::Break);
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
        self.tail = Tail {
            sequence,
            last_id: Some(envelope.id),
            position: envelope.position,
            gaps: self.gaps_after(&envelope),
            levelling: envelope.levelling,
            identity: Some(envelope.identity),
        };
        self.said = Said {
            high: envelope.high,
            missing: envelope.missing,
        };
    }

    /// Whether a message counts. Takes its position where it does.
    fn judge(&mut self, message: &Message, envelope: &Envelope, rows: &Rows) -> Judged {
        let sequence = message.sequence;
        let accepted = self.known.covers_break(sequence);
        let chained = envelope.previous == self.tail.last_id || accepted;
        let Message {
            subject, headers, ..
        } = message;
        if let Some(problem) = form::foreign(self.source, subject, headers, envelope) {
            return Judged::Ignore(problem);
        }
        if let Some(problem) = self.refused.get(&sequence) {
            // A relay may have gone on behind it.
            self.changed = chained.then_some(envelope.id).or(self.changed);
            return Judged::Ignore(problem.clone());
        }
        let decoded = self
            .bodies
            .then(|| event::decode(self.source, &envelope.event_type, &message.body));
        if let Some(Err(error @ DecodeError::Unknown { .. })) = &decoded {
            self.too_new.get_or_insert((sequence, error.to_string()));
        }
        let event = match decoded {
            Some(Err(error)) => {
                return Judged::Ignore(format!("its body can't be read: {error}"));
            }
            Some(Ok(event)) => Some(event),
            None => None,
        };
        let follows = match chained {
            _ if accepted => Judged::Good,
            true => self.state(sequence, envelope),
            false => Judged::Break("it does not follow the message before it (artstore-previous)"),
        };
        // Without a row, only the chain tells that it is ours; a hole breaks it, and so does a message
        // of ours that was changed.
        let behind_hole = matches!(
            self.found.last_key_value(),
            Some((_, Found::Hole(last))) if last + 1 == sequence
        );
        let behind_changed = envelope.previous.is_some() && envelope.previous == self.changed;
        let is_ours = chained || behind_hole || behind_changed;
        let stranger = || Judged::Ignore("no relay of this source wrote it here".to_owned());
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
                return Judged::Ignore(format!("position {position} was published before it"));
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
                return Judged::Ignore(format!(
                    "the row at its position {position} is another one"
                ));
            }
            self.lose(sequence, position, envelope);
            return follows;
        }
        if self.agreed.contains(position) {
            return Judged::Ignore(format!("position {position} was published before it"));
        }
        if let (Some(row), Some(event)) = (rows.row(position), event) {
            if let Some(problem) = difference(self.translator, row, subject, envelope, event) {
                self.changed = Some(envelope.id);
                return Judged::Ignore(problem);
            }
            if !accepted {
                self.order(sequence, position, envelope, row);
            }
        }
        self.agreed.insert(position);
        self.agreed_rows += 1;
        self.last_agreeing = sequence;
        follows
    }

    /// A message that follows the one before it: whether its state does, too. Behind one that does
    /// not count it is not known whose state was gone on from; a decision has looked at everything.
    fn state(&self, sequence: u64, envelope: &Envelope) -> Judged {
        let Said { high, missing } = &self.said;
        if self.tail.sequence + 1 != sequence || Self::is_decision(envelope) {
            return Judged::Good;
        }
        if form::comes_again(*high, missing, envelope) {
            Judged::Break("the messages before it say that its position was seen already")
        } else if !form::state_follows(*high, missing, envelope) {
            Judged::Break("what it says was seen does not follow from the message before it")
        } else if self.is_of_another_database(envelope) {
            Judged::Break("it comes from another database than the message before it")
        } else {
            Judged::Good
        }
    }

    fn is_decision(envelope: &Envelope) -> bool {
        envelope.is_record_of(&epoch::accepted()) || envelope.is_record_of(&damage_accepted())
    }

    fn is_of_another_database(&self, envelope: &Envelope) -> bool {
        let before = self.tail.identity.as_ref();
        before.is_some_and(|identity| *identity != envelope.identity)
    }

    /// What was seen after a message that counts: as it says, unless that follows neither from what
    /// the one before it says nor from what was seen.
    fn gaps_after(&self, envelope: &Envelope) -> Gaps {
        let seen = &self.tail.gaps;
        let told = self.tail.sequence + 1 != self.next - 1
            || Self::is_decision(envelope)
            || form::state_follows(self.said.high, &self.said.missing, envelope)
            || form::state_follows(seen.high(), &seen.missing(), envelope);
        let mut gaps = Gaps::from_stream(envelope.high, &envelope.missing);
        if told {
            return gaps;
        }
        gaps = seen.clone();
        let wanted = |own: &i64| *own > seen.high() || seen.missing().contains(*own);
        match form::own_position(envelope).filter(wanted) {
            // Where no room is left for its hole, what is above it comes again.
            Some(own) if !gaps.see(own) => seen.clone(),
            _ => gaps,
        }
    }

    /// Whether it stands behind a later change of its file that our API wrote as well.
    fn order(&mut self, sequence: u64, position: i64, envelope: &Envelope, row: &SourceRow) {
        if envelope.snapshot == Some(Snapshot::Republish) {
            return;
        }
        let file = envelope.subject.as_ref().and_then(|s| s.parse().ok());
        let (Source::Element(_), Some(file)) = (self.source, file) else {
            return;
        };
        let over = self.order.see(file, position);
        if let Some(over) = over.filter(|_| row.is_recorded())
            && self.behind.len() < MOST_LISTED
        {
            self.behind.push(Behind {
                sequence,
                over,
                id: envelope.id,
                file,
            });
        }
    }

    /// The messages that stand behind a higher position of the same file.
    pub(crate) fn take_behind(&mut self) -> Vec<Behind> {
        std::mem::take(&mut self.behind)
    }

    /// Only where our API wrote both rows it is certain which came first.
    pub(crate) fn disordered(&mut self, message: &Behind) {
        let Behind {
            sequence, id, file, ..
        } = *message;
        let problem = format!("it stands behind position {} of its file", message.over);
        self.place(sequence, sequence, &problem, Some(id), Some(file));
        self.found.entry(sequence).or_insert(Found::Break);
        self.unclear_files.insert(file);
    }

    fn lose(&mut self, sequence: u64, position: i64, envelope: &Envelope) {
        self.lost_count += 1;
        self.lost_positions.insert(position);
        if let (Some(file), Source::Element(_)) = (&envelope.subject, self.source) {
            self.lost_files.insert(file.clone());
        }
        if self.lost.len() < MOST_LISTED {
            self.lost.push(Lost {
                sequence,
                position,
                id: envelope.id,
                file: envelope.subject.clone(),
            });
        }
    }

    fn place(
        &mut self,
        first: u64,
        last: u64,
        problem: &str,
        id: Option<Uuid>,
        file: Option<Uuid>,
    ) {
        self.places.push(Place {
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

    /// Messages that say a position that is not their row's, or that of a row which has its own
    /// message: nothing was lost, they do not count. What follows them does not follow what counts
    /// before them.
    pub(crate) fn pass_over_strangers(&mut self, elsewhere: &HashSet<Uuid>) {
        let is_stranger =
            |lost: &Lost| self.agreed.contains(lost.position) || elsewhere.contains(&lost.id);
        let (strangers, lost): (Vec<Lost>, Vec<Lost>) = std::mem::take(&mut self.lost)
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
            self.place(sequence, sequence, &problem, Some(stranger.id), file);
            self.found.insert(sequence, Found::Ignored);
            self.found.entry(sequence + 1).or_insert(Found::Break);
            self.unclear_files.extend(file);
            self.end_ignored |= sequence == self.tail.sequence;
        }
    }

    /// The breaks of the source whose record turned out to be none.
    pub(crate) fn forged_epochs(&self) -> BTreeSet<u64> {
        let epochs = self.epochs.0.iter().map(|epoch| epoch.sequence);
        let is_forged = |at: &u64| matches!(self.found.get(at), Some(Found::Ignored));
        epochs.filter(is_forged).collect()
    }

    pub(crate) fn finish(mut self, identity: String) -> Scan {
        let mut damage = Damage::default();
        for (&sequence, found) in &self.found {
            match *found {
                Found::Hole(last) => damage.add_hole(sequence, last),
                Found::Ignored => damage.add_ignored(sequence),
                Found::Break => damage.add_break(sequence),
            }
        }
        // What was found is newer than what is known of the same place.
        let damage = self.known.with(&damage);
        // Where messages changed places, the last one does not tell everything that was seen.
        let seen = self.agreed.as_slice().last().map_or(0, |range| range.last);
        let high = self.tail.gaps.high();
        if !self.places.is_empty() && seen > high {
            let between = Ranges::from_iter([Range {
                first: high + 1,
                last: seen,
            }]);
            let missing = self.tail.gaps.missing().union(&between).minus(&self.agreed);
            self.tail.gaps = Gaps::from_stream(seen, &missing);
        }
        Scan {
            tail: self.tail,
            identity,
            agreed: self.agreed,
            agreed_rows: self.agreed_rows,
            last_agreeing: self.last_agreeing,
            lost: self.lost,
            lost_count: self.lost_count,
            lost_positions: self.lost_positions,
            lost_files: self.lost_files,
            places: self.places,
            damage,
            unclear_files: self.unclear_files,
            end_ignored: self.end_ignored,
            new_holes: self.new_holes,
        }
    }
}

enum Judged {
    /// It counts.
    Good,
    /// It counts, although it does not stand where it should: why.
    Break(&'static str),
    /// It does not count.
    Ignore(String),
}

/// How a message differs from what its row says, as far as the row still tells: all of it for rows of
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
    let mut said = fingerprint::Said::by_message(subject, envelope, event);
    let mut should = fingerprint::Said::by_row(translator, row.clone());
    if !whole {
        (said, should) = (said.without_state(), should.without_state());
    }
    (said.digest() != should.digest()).then(|| {
        format!(
            "it differs from its row in {}",
            said.differences(&should).join(", ")
        )
    })
}
