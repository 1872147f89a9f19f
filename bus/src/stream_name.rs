//! The names of the streams of the bus, and their subjects.

use artstore_schemas::source::Source;

/// A stream of ours: one of a source, or the one of signed audit heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName {
    name: String,
    subjects: String,
}

impl StreamName {
    /// The stream that holds a source's events.
    pub fn of(source: &Source) -> Self {
        Self {
            name: source.stream(),
            subjects: format!("{}.>", source.subject_prefix()),
        }
    }

    /// The stream of signed audit heads, which the audit log's database can't rewrite.
    pub fn audit_heads() -> Self {
        Self {
            name: AUDIT_HEADS.to_owned(),
            subjects: format!("{AUDIT_HEAD_PREFIX}.>"),
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The subjects of its messages.
    pub(crate) fn subjects(&self) -> &str {
        &self.subjects
    }

    /// Where the chunks of its backups come: a subject of its own each, below this one.
    pub(crate) fn backup_subjects(&self) -> String {
        format!("{}.>", backup_prefix(&self.name))
    }
}

/// What the subjects of a stream's backups begin with, without the last dot.
pub(crate) fn backup_prefix(stream: &str) -> String {
    format!("artstore.backup.{stream}")
}

/// The stream of signed audit heads.
pub const AUDIT_HEADS: &str = "ARTSTORE_AUDIT_HEADS";

const AUDIT_HEAD_PREFIX: &str = "artstore.audit.head";

/// The subject of the heads of a stream's log.
pub fn audit_head_subject(stream: &str) -> String {
    format!("{AUDIT_HEAD_PREFIX}.{stream}")
}
