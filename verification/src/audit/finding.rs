//! What is wrong with the audit log, and which layer of evidence found it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

/// So many findings of a kind are kept of one log; the others are counted.
const MOST: usize = 1_000;

/// A layer of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// What a row must look like, whatever its signature.
    Form,
    /// The chain of signatures.
    Chain,
    /// The tree over the rows.
    Tree,
    /// Signed heads, in the database or on the bus.
    Heads,
    /// The message that the row is of.
    Bus,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A row is not there.
    RowMissing,
    /// A row is there that should not be.
    RowExtra,
    /// A row is not the one that was signed.
    RowEdited,
    /// A row has another one's sequence.
    RowMoved,
    /// A row is right, its signature is not.
    SignatureEdited,
    /// A column that is not signed is not what follows from signed ones.
    ColumnEdited,
    /// The product's own rows below the boundary are not those that heads cover.
    LegacyChanged,
    /// What the database reports about the whole log does not fit its rows.
    LogChanged,
    /// A stored hash of the tree is not what the rows lead to.
    TileEdited,
    /// A head that no trusted key signed, or that was changed.
    HeadForged,
    /// A head that was published is not in the database, or one in the database is not on the bus.
    HeadMissing,
    /// The rows do not lead to what a head states.
    HeadUnfit,
    /// An archive is not what the log states about it, or not what was signed.
    ArchiveUnfit,
    /// A table is not the one that the migrations made.
    TableChanged,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stream whose log it is; none where it is about the product's own rows.
    pub stream: Option<String>,
    /// The row, by its sequence; of a head, its size.
    pub sequence: Option<u64>,
    /// The row's key in the table, where it is there.
    pub id: Option<i64>,
    /// What was done.
    pub kind: Kind,
    /// What saw it.
    pub layers: BTreeSet<Layer>,
    /// The same for people.
    pub text: String,
}

impl Finding {
    /// Of a whole log.
    pub(crate) fn of_log(stream: &str, kind: Kind, layer: Layer, text: String) -> Self {
        Self {
            stream: Some(stream.to_owned()),
            sequence: None,
            id: None,
            kind,
            layers: [layer].into(),
            text,
        }
    }
}

/// What was found: of each kind some are kept, the others are counted, so that memory is bounded
/// whatever was changed. Where anything was found, something is kept.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    kept: BTreeMap<Kind, Vec<Finding>>,
    more: BTreeMap<Kind, u64>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        let kept = self.kept.entry(finding.kind).or_default();
        if kept.len() < MOST {
            kept.push(finding);
        } else {
            self.count(finding.kind, 1);
        }
    }

    /// Counts what is not kept beside others of its kind.
    pub fn count(&mut self, kind: Kind, more: u64) {
        *self.more.entry(kind).or_default() += more;
    }

    /// Adds those of another part, behind these.
    pub fn merge(&mut self, others: Self) {
        others
            .kept
            .into_values()
            .flatten()
            .for_each(|finding| self.add(finding));
        for (kind, more) in others.more {
            self.count(kind, more);
        }
    }

    /// Those that are kept, by their kinds.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.kept.values().flatten()
    }

    /// How many more there are of each kind.
    pub fn more(&self) -> &BTreeMap<Kind, u64> {
        &self.more
    }

    /// How many there are, kept or not.
    pub fn len(&self) -> u64 {
        self.iter().count() as u64 + self.more.values().sum::<u64>()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes those that are kept, to state of each what it is now that more is known.
    pub fn settle(&mut self, mut settled: impl FnMut(Finding) -> Finding) {
        let kept = std::mem::take(&mut self.kept);
        kept.into_values()
            .flatten()
            .for_each(|finding| self.add(settled(finding)));
    }
}

impl Serialize for Findings {
    /// A list of those that are kept.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RowMissing => "row-missing",
            Self::RowExtra => "row-extra",
            Self::RowEdited => "row-edited",
            Self::RowMoved => "row-moved",
            Self::SignatureEdited => "signature-edited",
            Self::ColumnEdited => "column-edited",
            Self::LegacyChanged => "legacy-changed",
            Self::LogChanged => "log-changed",
            Self::TileEdited => "tile-edited",
            Self::HeadForged => "head-forged",
            Self::HeadMissing => "head-missing",
            Self::HeadUnfit => "head-unfit",
            Self::ArchiveUnfit => "archive-unfit",
            Self::TableChanged => "table-changed",
        }
    }
}

impl Layer {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Chain => "chain",
            Self::Tree => "tree",
            Self::Heads => "heads",
            Self::Bus => "bus",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_counted() {
        let finding = |kind| {
            Finding::of_log(
                "ARTSTORE_ADMIN",
                kind,
                Layer::Form,
                "it is wrong".to_owned(),
            )
        };
        let mut findings = Findings::default();
        for _ in 0..MOST + 7 {
            findings.add(finding(Kind::RowEdited));
        }
        findings.add(finding(Kind::RowMissing));
        let mut all = Findings::default();
        all.add(finding(Kind::RowEdited));
        all.merge(findings);
        assert_eq!(all.iter().count(), MOST + 1);
        assert_eq!(all.more(), &BTreeMap::from([(Kind::RowEdited, 8)]));
        assert_eq!(all.len(), MOST as u64 + 9);
        assert!(!all.is_empty() && Findings::default().is_empty());
    }
}
