//! Who connects to NATS. Each role has a user of its own, whose key is in a file that is named after it.

use std::fmt;

use artstore_schemas::source::Source;

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
        let others = [
            Self::Projector,
            Self::AuditLog,
            Self::AuditHeads,
            Self::Reader,
            Self::Operator,
            Self::Administrator,
        ];
        relays.chain(others).collect()
    }

    /// The file of its key: `<role>.nk`.
    pub fn key_file(&self) -> String {
        format!("{self}.nk")
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
            Self::Reader => f.write_str("reader"),
            Self::Operator => f.write_str("operator"),
            Self::Administrator => f.write_str("administrator"),
        }
    }
}
