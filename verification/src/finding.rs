//! A difference: which event, which file, where, and the command that repairs it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The kinds of findings. The names are those of `--json` and of the events about findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A finished row has no message.
    MessageMissing,
    /// A message has no row, though no accepted break of the source explains it.
    MessageExtra,
    /// A row has more than one message.
    MessageDoubled,
    /// A message states something else than its row.
    MessageChanged,
    /// A message comes after a later change of the same file.
    MessageDisordered,
    /// A sequence of the stream has no message.
    StreamHole,
    /// A message does not follow the one before it.
    StreamBroken,
    /// A message does not belong in its stream: subject, source, type or form, or no relay of this
    /// source can have written it there.
    MessageForeign,
    /// A finished row has no position, so that no relay sees it.
    RowUnnumbered,
    /// A checkpoint does not match its stream (beyond its end, another event, another stream),
    /// or rows come from messages after it.
    Checkpoint,
    /// A file has no row in the cache.
    RowMissing,
    /// A row of the cache has no file.
    RowExtra,
    /// A row of the cache differs from its file.
    RowDifferent,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// The source whose rows, stream or files it is about; of a cache row the element it shows.
    pub source: String,
    /// The event or, of a cache row, the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// The stream's sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The row's position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    /// What exactly, for people: which field, what is there and what should be.
    pub detail: String,
    /// The command that repairs it, as it can be typed.
    pub repair: String,
}

impl std::fmt::Display for Kind {
    /// As `--json` names it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MessageMissing => "message-missing",
            Self::MessageExtra => "message-extra",
            Self::MessageDoubled => "message-doubled",
            Self::MessageChanged => "message-changed",
            Self::MessageDisordered => "message-disordered",
            Self::StreamHole => "stream-hole",
            Self::StreamBroken => "stream-broken",
            Self::MessageForeign => "message-foreign",
            Self::RowUnnumbered => "row-unnumbered",
            Self::Checkpoint => "checkpoint",
            Self::RowMissing => "row-missing",
            Self::RowExtra => "row-extra",
            Self::RowDifferent => "row-different",
        })
    }
}
