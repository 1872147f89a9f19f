//! Who connects to NATS. Each role has a user of its own, whose key is in a file that is named after it.

use std::fmt;

use artstore_schemas::source::Source;

use crate::stream_name::AUDIT_HEADS;

/// A part of the system, as NATS knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The relay of a source: it alone publishes the source's events.
    Relay(Source),
    /// The projector of the query cache, and of projections of one's own.
    Projector,
    /// The projector of the audit log, as a reader.
    AuditLog,
    /// The same, as the one who publishes signed heads.
    AuditHeads,
    /// Whoever sends the chunks of a source's stream that is restored: the server takes them in the stream's own
    /// account alone.
    Restore(Source),
    /// The same of the stream of signed heads.
    RestoreHeads,
    /// Whoever reads: subscribers, `artstore status`, `artstore verify`.
    Reader,
    /// Whoever gives commands that repair: they do what a relay does in its place.
    Operator,
    /// May do everything that there is to do with the streams, such as removing one.
    Administrator,
}

impl Role {
    /// All of an installation with these sources.
    pub fn all(sources: &[Source]) -> Vec<Self> {
        let relays = sources.iter().cloned().map(Self::Relay);
        let restores = sources.iter().cloned().map(Self::Restore);
        let others = [
            Self::Projector,
            Self::AuditLog,
            Self::AuditHeads,
            Self::Reader,
            Self::Operator,
            Self::RestoreHeads,
            Self::Administrator,
        ];
        relays.chain(restores).chain(others).collect()
    }

    /// Whoever restores a stream; none for a stream that is not ours.
    pub fn restoring(stream: &str) -> Option<Self> {
        match stream {
            AUDIT_HEADS => Some(Self::RestoreHeads),
            _ => Source::of_stream(stream).map(Self::Restore),
        }
    }

    /// The file of its key: `<role>.nk`.
    pub fn key_file(&self) -> String {
        format!("{self}.nk")
    }

    /// The folder of the process that has the key: of all relays, of the audit log's two.
    pub fn folder(&self) -> &'static str {
        match self {
            Self::Relay(_) => "relay",
            Self::Projector => "projector",
            Self::AuditLog | Self::AuditHeads => "audit",
            Self::Reader => "reader",
            Self::Operator | Self::Restore(_) | Self::RestoreHeads => "operator",
            Self::Administrator => "administrator",
        }
    }

    /// Whose keys do as well, the least powerful first, where the role's own is not at hand.
    pub(crate) fn substitutes(&self) -> &'static [Self] {
        match self {
            Self::Reader => &[Self::Operator, Self::Administrator],
            Self::Operator => &[Self::Administrator],
            Self::Relay(_)
            | Self::Projector
            | Self::AuditLog
            | Self::AuditHeads
            | Self::Restore(_)
            | Self::RestoreHeads
            | Self::Administrator => &[],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(source) => write!(f, "relay-{source}"),
            Self::Projector => f.write_str("projector"),
            Self::AuditLog => f.write_str("audit-log"),
            Self::AuditHeads => f.write_str("audit-heads"),
            Self::Restore(source) => write!(f, "restore-{source}"),
            Self::RestoreHeads => f.write_str("restore-audit-heads"),
            Self::Reader => f.write_str("reader"),
            Self::Operator => f.write_str("operator"),
            Self::Administrator => f.write_str("administrator"),
        }
    }
}
