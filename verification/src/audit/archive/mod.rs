//! Old rows in files that verify by themselves, and a log whose first rows are archived.
//!
//! An archive is a folder `STREAM-FIRST-LAST`. It begins after a full tile and ends with one, so
//! that the tree continues over the boundary as it was, and there is a head at its end. In the order in
//! which it is made:
//!
//! - [`range`]: which rows may be archived
//! - `write`: its files
//! - [`check`]: whether they are what was signed; needs no database
//! - [`recorded`]: the event of the log that records what was archived; verification rests on it
//! - [`remove`]: removing the rows from the table
//!
//! `docs/audit-format.md` is the contract for other readers.

pub mod check;
pub mod range;
pub mod recorded;
pub mod remove;
pub mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artstore_projectors::audit_log::row::{Hash, Row, sha256};
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// The file that names the others.
pub const MANIFEST: &str = "manifest.json";
/// A row a line.
pub const ROWS: &str = "rows.jsonl";
/// A tile of the tree a line.
pub const TILES: &str = "tiles.jsonl";
/// The signed head at the end.
pub const HEAD: &str = "head.note";
/// The signed head right before the first row; not where that is row 1.
pub(crate) const HEAD_BEFORE: &str = "head-before.note";

/// Rows are kept for at least so many days.
pub const LEAST_RETENTION: i64 = 2_555;

/// The format that the manifest names.
const FORM: &str = "artstore-audit-archive/v1";

/// The contents of [`MANIFEST`]. The SHA-256 digest of that file is the archive's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the manifest.
    pub form: String,
    /// The stream whose log it is of.
    pub stream: String,
    /// The log's name, as in its heads.
    pub origin: String,
    /// The first row: 1, or after a full tile.
    pub first: u64,
    /// The last row: a multiple of 256.
    pub last: u64,
    /// What the first row is chained to, in hex.
    pub signature_before: String,
    /// The signature of the last row, in hex.
    pub last_signature: String,
    /// When the oldest of its rows happened.
    pub oldest: DateTime<Utc>,
    /// When the newest of them happened.
    pub newest: DateTime<Utc>,
    /// The digest of the archive before it; none where it begins with row 1.
    pub previous: Option<String>,
    /// The SHA-256 digests of the other files, in hex.
    pub files: BTreeMap<String, String>,
}

/// A line of [`ROWS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedRow {
    /// What is signed.
    #[serde(flatten)]
    pub row: Row,
    /// The key that it had in the table.
    pub id: i64,
    /// The key of the chain.
    pub kid: String,
    /// Its signature, which covers that of the row before.
    pub hmac_signature: String,
}

/// A line of [`TILES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedTile {
    /// 0 for leaves.
    pub level: u32,
    /// Which one of its level.
    pub tile: u64,
    /// Its hashes one after another, in base64.
    pub hashes: String,
}

/// Rows that have been archived, all from the first one on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The stream.
    pub stream: String,
    /// Where the last archive begins.
    pub first: u64,
    /// Where it ends; everything up to there is archived.
    pub last: u64,
    /// Its digest; its manifest has the one before it.
    pub digest: String,
    /// The signature that the first row behind it is chained to.
    pub last_signature: String,
}

impl Manifest {
    /// The folder's name.
    pub fn folder(&self) -> String {
        folder(&self.stream, self.first, self.last)
    }

    /// What is recorded of it.
    pub fn archived(&self, digest: String) -> Archived {
        Archived {
            stream: self.stream.clone(),
            first: self.first,
            last: self.last,
            digest,
            last_signature: self.last_signature.clone(),
        }
    }
}

impl Archived {
    /// Where it is below a folder of archives.
    pub fn path(&self, to: &Path) -> PathBuf {
        to.join(folder(&self.stream, self.first, self.last))
    }

    /// The signature that the first row behind it is chained to.
    pub fn signature(&self) -> Option<Hash> {
        decoded(&self.last_signature)
    }
}

fn folder(stream: &str, first: u64, last: u64) -> String {
    format!("{stream}-{first}-{last}")
}

fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&sha256(bytes))
}

fn decoded(hex: &str) -> Option<Hash> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}
