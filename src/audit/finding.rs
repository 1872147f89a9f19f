//! What is wrong with the audit log, and which layer of evidence saw it.

use std::collections::BTreeSet;

use serde::Serialize;

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
    /// A row stands in another one's place.
    RowMoved,
    /// A row is right, its signature is not.
    SignatureEdited,
    /// A column that follows from signed ones says something else.
    ColumnEdited,
    /// The product's own rows below the boundary are not those that heads cover.
    LegacyChanged,
    /// What the database says of the whole log does not fit its rows.
    LogChanged,
    /// A stored hash of the tree is not what the rows lead to.
    TileEdited,
    /// A head that no trusted key signed, or that was changed.
    HeadForged,
    /// A head that was published is not in the database.
    HeadMissing,
    /// The rows do not lead to what a head says.
    HeadUnfit,
    /// An archive is not what the log says of it, or not what was signed.
    ArchiveUnfit,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stream whose log it is; none where it is about the product's own rows.
    pub stream: Option<String>,
    /// The row, by its place in the log; of a head, its size.
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
