//! A whole stream beside its whole source: what agrees, what the source lost, what it has and the
//! stream does not, and where the stream itself is damaged. Asked for by an operator; what is done
//! about it is in [`crate::accept`] and [`crate::republish`].
//!
//! Messages are read in order, a thousand at a time, each with the rows of its positions. What is
//! kept are ranges of positions, and the places and files that are affected.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use artstore_schemas::breaks;
use artstore_schemas::bus::Bus;
use artstore_schemas::damage::Damage;
use artstore_schemas::envelope::{Envelope, Snapshot};
use artstore_schemas::epoch::Epochs;
use artstore_schemas::event::{self, DecodeError};
use artstore_schemas::ranges::{Range, Ranges};
use artstore_schemas::source::Source;
use artstore_schemas::subject;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::gaps::Gaps;
use crate::relay_error::RelayError;
use crate::source::{Content, SourceRow, SourceTable, WalState, snapshot};
use crate::tail::Tail;
use crate::translate::Translator;
use crate::walk::{Message, Walk};

/// The most lost messages that are listed one by one; all are counted.
pub const MOST_LISTED: usize = 100_000;

/// A message whose row the source does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Its sequence.
    pub sequence: u64,
    /// Its row's position.
    pub position: i64,
    /// Its event.
    pub id: Uuid,
    /// The file that it is about.
    pub file: Option<String>,
}

/// A damaged place of a stream that no record lists yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
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

/// What was found.
#[derive(Debug)]
pub struct Scan {
    /// The state after the last message that counts. Its sequence is the stream's last one.
    pub tail: Tail,
    /// The identity of the source's database.
    pub identity: String,
    /// The last number that the source's sequence gave out.
    pub sequence_value: i64,
    /// Positions whose message and row agree.
    pub agreed: Ranges,
    /// The sequence of the last message whose row agrees; 0 where there is none.
    pub last_agreeing: u64,
    /// Messages whose row the source does not hold; the first [`MOST_LISTED`].
    pub lost: Vec<Lost>,
    /// How many there are.
    pub lost_count: u64,
    /// Their positions.
    pub lost_positions: Ranges,
    /// The files that they are about.
    pub lost_files: BTreeSet<String>,
    /// Damage that no record lists.
    pub places: Vec<Place>,
    /// All damage: what is listed already and what is not.
    pub damage: Damage,
    /// Files of which damaged messages spoke, and no good message since.
    pub unclear_files: BTreeSet<Uuid>,
    /// Whether the stream's last messages do not count.
    pub end_ignored: bool,
}

/// Compares everything. With `bodies` also what the messages say, as far as the rows tell.
pub async fn scan(
    bus: &Bus,
    translator: &Translator,
    connection: &mut PgConnection,
    bodies: bool,
) -> Result<Scan, RelayError> {
    let source = translator.source();
    let table = SourceTable::of(source);
    let seen = snapshot(connection, &table.sequence).await?;
    let mut walk = Walk::open(bus, source, bodies).await?;
    let mut judge = Judge::new(
        translator,
        bodies,
        breaks::epochs(bus, source).await?,
        breaks::damage(bus, source).await?,
    );
    loop {
        let batch = walk.batch().await?;
        if batch.is_empty() {
            break;
        }
        let rows = Rows::of(&table, connection, &batch, bodies).await?;
        for message in &batch {
            let expected = judge.next;
            if message.sequence > expected {
                judge.hole(&walk, expected, message.sequence - 1).await?;
            }
            judge.take(message, &rows);
        }
    }
    if judge.next <= walk.end {
        judge.hole(&walk, judge.next, walk.end).await?;
        judge.end_ignored = true;
    }
    if let Some((sequence, error)) = judge.too_new {
        return Err(walk.failed(&format!(
            "message {sequence}: {error}: what it says can't be judged; use the newer version"
        )));
    }
    judge.tail.sequence = walk.end;
    Ok(judge.finish(seen.identity, seen.sequence_value))
}

/// The rows at the positions of a batch.
enum Rows {
    Ids(HashMap<i64, Uuid>),
    Full(HashMap<i64, SourceRow>),
}

impl Rows {
    async fn of(
        table: &SourceTable,
        connection: &mut PgConnection,
        batch: &[Message],
        bodies: bool,
    ) -> Result<Self, RelayError> {
        let mut positions = Ranges::default();
        for message in batch {
            let envelope = Envelope::from_headers(&message.headers).ok();
            if let Some(position) = envelope.and_then(|envelope| envelope.position) {
                positions.insert(position);
            }
        }
        let (ranges, limit) = (positions.as_slice(), positions.positions());
        if !bodies {
            let ids = table.ids(connection, ranges, limit).await?;
            return Ok(Self::Ids(
                ids.into_iter().map(|row| (row.position, row.id)).collect(),
            ));
        }
        let rows = table.rows(connection, ranges, limit).await?;
        let rows = rows.into_iter().map(|row| (row.position, row));
        Ok(Self::Full(rows.collect()))
    }

    fn id(&self, position: i64) -> Option<Uuid> {
        match self {
            Self::Ids(ids) => ids.get(&position).copied(),
            Self::Full(rows) => rows.get(&position).map(|row| row.id),
        }
    }

    fn row(&self, position: i64) -> Option<&SourceRow> {
        match self {
            Self::Ids(_) => None,
            Self::Full(rows) => rows.get(&position),
        }
    }
}

/// Takes message after message.
struct Judge<'a> {
    translator: &'a Translator,
    source: &'a Source,
    bodies: bool,
    epochs: Epochs,
    known: Damage,
    /// The sequence that should come next.
    next: u64,
    tail: Tail,
    agreed: Ranges,
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
    end_ignored: bool,
    /// A message that only a newer version of the program can read.
    too_new: Option<(u64, String)>,
}

#[derive(Clone, Copy)]
enum Found {
    Hole(u64),
    Ignored,
    Break,
}

impl<'a> Judge<'a> {
    fn new(translator: &'a Translator, bodies: bool, epochs: Epochs, known: Damage) -> Self {
        Self {
            translator,
            source: translator.source(),
            bodies,
            epochs,
            known,
            next: 1,
            tail: Tail {
                sequence: 0,
                last_id: None,
                position: None,
                identity: None,
                gaps: Gaps::default(),
                levelling: false,
            },
            agreed: Ranges::default(),
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
            too_new: None,
        }
    }

    async fn hole(&mut self, walk: &Walk, first: u64, last: u64) -> Result<(), RelayError> {
        if !self.known.covers_hole(first, last) {
            if !walk.is_hole(first, last).await? {
                return Err(walk.failed(&"messages got lost on the way: try again"));
            }
            self.place(first, last, "messages are missing", None, None);
            self.found.insert(first, Found::Hole(last));
        }
        self.next = last + 1;
        Ok(())
    }

    fn take(&mut self, message: &Message, rows: &Rows) {
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
            Judged::Break => {
                let problem = "it does not follow the message before it (artstore-previous)";
                self.place(sequence, sequence, problem, id, file);
                self.found.insert(sequence, Found::Break);
                true
            }
            Judged::Good => self.known.covers_break(sequence),
        };
        let envelope = envelope.expect("what can't be read is ignored");
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
            gaps: Gaps::from_stream(envelope.high, &envelope.missing),
            identity: Some(envelope.identity),
            levelling: envelope.levelling,
        };
    }

    /// Whether a message counts. Takes its position where it does.
    fn judge(&mut self, message: &Message, envelope: &Envelope, rows: &Rows) -> Judged {
        let sequence = message.sequence;
        let chained = envelope.previous == self.tail.last_id || self.known.covers_break(sequence);
        if envelope.source != self.source.ce_source()
            || !subject::belongs(&message.subject, self.source, &envelope.event_type)
        {
            return Judged::Ignore(format!(
                "subject {}, source {} and type {} do not belong into this stream",
                message.subject, envelope.source, envelope.event_type
            ));
        }
        let decoded = self
            .bodies
            .then(|| event::decode(self.source, &envelope.event_type, &message.body));
        if let Some(Err(error @ DecodeError::Unknown { .. })) = &decoded {
            self.too_new.get_or_insert((sequence, error.to_string()));
        }
        if let Some(Err(error)) = decoded {
            return Judged::Ignore(format!("its body can't be read: {error}"));
        }
        let follows = if chained { Judged::Good } else { Judged::Break };
        let Some(position) = envelope.position else {
            // Without a row, only the chain tells that it is ours; a hole breaks it.
            let behind_hole = matches!(
                self.found.last_key_value(),
                Some((_, Found::Hole(last))) if last + 1 == sequence
            );
            return match chained || behind_hole {
                true => follows,
                false => Judged::Ignore("no relay of this source wrote it here".to_owned()),
            };
        };
        if !self.epochs.survives(sequence, position) {
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
        if let Some(row) = rows.row(position)
            && let Some(problem) = difference(self.translator, row, message, envelope)
        {
            return Judged::Ignore(problem);
        }
        self.agreed.insert(position);
        self.last_agreeing = sequence;
        follows
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

    fn finish(mut self, identity: String, sequence_value: i64) -> Scan {
        let mut places: BTreeMap<u64, Found> = std::mem::take(&mut self.found);
        let known = self.known;
        let holes = known.holes.iter().map(|r| (r.first, Found::Hole(r.last)));
        let one_by_one = |list: &[artstore_schemas::damage::Sequences], found: Found| {
            let each = list
                .iter()
                .flat_map(move |r| (r.first..=r.last).map(move |s| (s, found)));
            each.collect::<Vec<_>>()
        };
        places.extend(holes);
        places.extend(one_by_one(&known.ignored, Found::Ignored));
        places.extend(one_by_one(&known.breaks, Found::Break));
        let mut damage = Damage::default();
        for (sequence, found) in places {
            match found {
                Found::Hole(last) => damage.add_hole(sequence, last),
                Found::Ignored => damage.add_ignored(sequence),
                Found::Break => damage.add_break(sequence),
            }
        }
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
            sequence_value,
            agreed: self.agreed,
            last_agreeing: self.last_agreeing,
            lost: self.lost,
            lost_count: self.lost_count,
            lost_positions: self.lost_positions,
            lost_files: self.lost_files,
            places: self.places,
            damage,
            unclear_files: self.unclear_files,
            end_ignored: self.end_ignored,
        }
    }
}

enum Judged {
    /// It counts.
    Good,
    /// It counts, although it does not follow the one before it.
    Break,
    /// It does not count.
    Ignore(String),
}

/// How a message differs from what its row says, as far as the row still tells: all of it for rows of
/// an outbox and rows that carry the file's state, else the operation.
fn difference(
    translator: &Translator,
    row: &SourceRow,
    message: &Message,
    envelope: &Envelope,
) -> Option<String> {
    let full = match &row.content {
        Content::Outbox(_) => true,
        Content::Wal(wal) => matches!(wal.state, WalState::Recorded(_)),
    };
    let full = full && envelope.snapshot != Some(Snapshot::Republish);
    let should = translator.translate(row.clone());
    if should.event_type != envelope.event_type || should.subject != envelope.subject {
        return Some(format!("its row is of type {}", should.event_type));
    }
    let (Ok(mut is), Ok(mut should)) = (
        serde_json::from_slice::<Value>(&message.body),
        serde_json::from_slice::<Value>(&should.body),
    ) else {
        return Some("its body can't be read".to_owned());
    };
    for body in [&mut is, &mut should] {
        if let Some(url) = body.pointer_mut("/element/api_url") {
            *url = Value::Null;
        }
    }
    if full {
        return (is != should).then(|| "its body is not what its row says".to_owned());
    }
    let changed = ["id", "type", "status", "file_id"]
        .iter()
        .find(|field| is["operation"][**field] != should["operation"][**field]);
    changed.map(|field| format!("operation.{field} is not what its row says"))
}
