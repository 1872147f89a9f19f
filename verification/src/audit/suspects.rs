//! Rows of a range that are not as they should be, and which of four things was done to each: it was
//! edited, it was moved to another row's sequence, only its signature was changed, or only the stored tree
//! beside it.

use std::collections::{BTreeMap, BTreeSet};

use artstore_projectors::audit_log::row::{Hash, Row};

use super::finding::{Finding, Findings, Kind, Layer};

/// So many of a range are named; the others are counted.
const MOST: usize = 1_000;

/// Rows are kept up to so many bytes, to see whether they were exchanged.
const MOST_BYTES: usize = 32 << 20;

/// A row that does not fit its signature, its leaf in the stored tree or its form.
#[derive(Debug)]
pub struct Suspect {
    /// Its sequence.
    pub sequence: u64,
    /// Its key in the table.
    pub id: i64,
    /// What saw it.
    pub layers: BTreeSet<Layer>,
    /// What does not fit.
    pub text: String,
    /// The stored tree has this row.
    pub in_tree: bool,
    /// Its signature follows from the row before it.
    pub chained: bool,
}

/// Those of one range.
#[derive(Debug, Default)]
pub struct Suspects {
    kept: Vec<(Suspect, Option<Row>)>,
    bytes: usize,
    /// By sequence: ids that do not ascend.
    ids: BTreeMap<u64, i64>,
    more: BTreeMap<Kind, u64>,
}

impl Suspects {
    /// Adds one.
    pub fn add(&mut self, suspect: Suspect, row: Row) {
        if self.kept.len() >= MOST {
            *self.more.entry(suspect.kind()).or_default() += 1;
            return;
        }
        self.bytes += row.bytes().len();
        let row = (self.bytes <= MOST_BYTES).then_some(row);
        self.kept.push((suspect, row));
    }

    /// Adds a row whose id does not ascend.
    pub fn id(&mut self, sequence: u64, id: i64) {
        if self.ids.len() < MOST {
            self.ids.insert(sequence, id);
        } else {
            *self.more.entry(Kind::ColumnEdited).or_default() += 1;
        }
    }

    /// Reports of each what was done to it.
    pub fn settle(
        self,
        stream: &str,
        leaf_stored: impl Fn(u64) -> Option<Hash>,
        findings: &mut Findings,
    ) {
        let from = self.moved(leaf_stored);
        let mut ids = self.ids;
        for ((suspect, _), from) in self.kept.into_iter().zip(from) {
            let Suspect { sequence, id, .. } = suspect;
            // An id that moved with its row is reported once.
            ids.remove(&sequence);
            let (kind, text) = match from {
                Some(from) => (
                    Kind::RowMoved,
                    format!("row {sequence} holds what row {from} was"),
                ),
                None => (suspect.kind(), format!("row {sequence}: {}", suspect.text)),
            };
            findings.add(Finding {
                stream: Some(stream.to_owned()),
                sequence: Some(sequence),
                id: Some(id),
                kind,
                layers: suspect.layers,
                text,
            });
        }
        for (sequence, id) in ids {
            findings.add(Finding {
                stream: Some(stream.to_owned()),
                sequence: Some(sequence),
                id: Some(id),
                kind: Kind::ColumnEdited,
                layers: [Layer::Form].into(),
                text: format!(
                    "row {sequence}: its id {id} is not one that it was given: ids are above 0 and \
                     ascend with the rows"
                ),
            });
        }
        for (kind, more) in self.more {
            findings.count(kind, more);
        }
    }

    /// Of each, the sequence that it was moved from. Ids ascend with the rows: the order of the ids
    /// shows the previous order of rows that were exchanged, and the stored tree whether that
    /// is so.
    fn moved(&self, leaf_stored: impl Fn(u64) -> Option<Hash>) -> Vec<Option<u64>> {
        let mut places: Vec<u64> = self.kept.iter().map(|(s, _)| s.sequence).collect();
        places.sort_unstable();
        let mut by_id: Vec<usize> = (0..self.kept.len()).collect();
        by_id.sort_by_key(|at| self.kept[*at].0.id);
        let mut from = vec![None; self.kept.len()];
        for (at, place) in by_id.into_iter().zip(places) {
            let (suspect, row) = &self.kept[at];
            let Some(row) = row.as_ref().filter(|_| place != suspect.sequence) else {
                continue;
            };
            let there = Row {
                sequence: place,
                ..row.clone()
            };
            if leaf_stored(place) == Some(there.leaf()) {
                from[at] = Some(place);
            }
        }
        from
    }
}

impl Suspect {
    fn kind(&self) -> Kind {
        if self.in_tree && !self.layers.contains(&Layer::Form) {
            return Kind::SignatureEdited;
        }
        // The heads have the last word: see [`super::log`].
        if self.chained && self.layers == BTreeSet::from([Layer::Tree]) {
            return Kind::TileEdited;
        }
        Kind::RowEdited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sequence: u64, action: &str) -> Row {
        Row {
            event_type: "thing_seen".to_owned(),
            action: action.to_owned(),
            ..Row::bare(1, "ARTSTORE_ADMIN".to_owned(), sequence)
        }
    }

    fn suspect(sequence: u64, id: i64, layers: &[Layer]) -> Suspect {
        Suspect {
            sequence,
            id,
            layers: layers.iter().copied().collect(),
            text: "it does not fit".to_owned(),
            in_tree: !layers.contains(&Layer::Tree),
            chained: !layers.contains(&Layer::Chain),
        }
    }

    fn settled(suspects: Suspects) -> Vec<(Kind, Option<u64>)> {
        let mut findings = Findings::default();
        let tree = |sequence| Some(row(sequence, &format!("action {sequence}")).leaf());
        suspects.settle("ARTSTORE_ADMIN", tree, &mut findings);
        findings.iter().map(|f| (f.kind, f.sequence)).collect()
    }

    #[test]
    fn each_row_is_told_by_what_was_done_to_it() {
        use Layer::{Chain, Form, Tree};
        let mut suspects = Suspects::default();
        // Rows 2 and 9 were exchanged, with their ids; the others stay where they are.
        suspects.add(suspect(2, 90, &[Tree, Chain]), row(2, "action 9"));
        suspects.add(suspect(4, 40, &[Tree, Chain]), row(4, "edited"));
        suspects.add(suspect(6, 60, &[Chain]), row(6, "action 6"));
        suspects.add(suspect(7, 70, &[Form]), row(7, "action 7"));
        suspects.add(suspect(8, 80, &[Tree]), row(8, "action 8"));
        suspects.add(suspect(9, 20, &[Tree, Chain]), row(9, "action 2"));
        suspects.id(2, 90);
        suspects.id(5, -50);
        assert_eq!(
            settled(suspects),
            [
                (Kind::RowEdited, Some(4)),
                (Kind::RowEdited, Some(7)),
                (Kind::RowMoved, Some(2)),
                (Kind::RowMoved, Some(9)),
                (Kind::SignatureEdited, Some(6)),
                (Kind::ColumnEdited, Some(5)),
                (Kind::TileEdited, Some(8)),
            ]
        );
    }

    #[test]
    fn those_that_are_not_named_are_counted() {
        let mut suspects = Suspects::default();
        for sequence in 1..=MOST as u64 + 5 {
            let id = i64::try_from(sequence).unwrap_or(i64::MAX);
            suspects.add(
                suspect(sequence, id, &[Layer::Tree, Layer::Chain]),
                row(sequence, "x"),
            );
        }
        let mut findings = Findings::default();
        suspects.settle("ARTSTORE_ADMIN", |_| None, &mut findings);
        assert_eq!(findings.len(), MOST as u64 + 5);
        assert_eq!(findings.iter().count(), MOST);
    }
}
