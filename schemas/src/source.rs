//! A source of events: a storage element's WAL, or the outbox of the admin or query module. It
//! decides the stream, the subjects and `ce-source`; a reader checks that they belong together.

use std::fmt;

use crate::element::ElementName;

/// Who publishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A storage element: the WAL table of its database.
    Element(ElementName),
    /// The admin module: the outbox of its database.
    Admin,
    /// The query module: the outbox of its database.
    Query,
}

const ELEMENT_STREAM: &str = "ARTSTORE_WAL_";

impl Source {
    /// The stream that holds this source's events, and nothing else.
    pub fn stream(&self) -> String {
        match self {
            Self::Element(name) => format!("{ELEMENT_STREAM}{name}"),
            Self::Admin => "ARTSTORE_ADMIN".to_owned(),
            Self::Query => "ARTSTORE_QUERY".to_owned(),
        }
    }

    /// The source behind a stream's name; none for a stream that is not ours.
    pub fn of_stream(stream: &str) -> Option<Self> {
        match stream {
            "ARTSTORE_ADMIN" => Some(Self::Admin),
            "ARTSTORE_QUERY" => Some(Self::Query),
            _ => {
                let name = stream.strip_prefix(ELEMENT_STREAM)?;
                name.parse().ok().map(Self::Element)
            }
        }
    }

    /// What every subject of this source starts with, without the last dot.
    pub fn subject_prefix(&self) -> String {
        match self {
            Self::Element(name) => format!("artstore.wal.{name}"),
            Self::Admin => "artstore.admin".to_owned(),
            Self::Query => "artstore.query".to_owned(),
        }
    }

    /// The CloudEvents attribute `source`.
    pub fn ce_source(&self) -> String {
        match self {
            Self::Element(name) => format!("/artstore/elements/{name}"),
            Self::Admin => "/artstore/admin".to_owned(),
            Self::Query => "/artstore/query".to_owned(),
        }
    }

    /// The core-NATS subject on which a publisher may announce that there is something to read.
    pub fn nudge_subject(&self) -> String {
        format!("artstore.nudge.{self}")
    }

    /// The core-NATS subject on which each relay of this source reports its state, as JSON, to whoever
    /// asks with a subject for the answer.
    pub fn status_subject(&self) -> String {
        format!("artstore.status.{self}")
    }

    /// The core-NATS subject on which an operator's command asks the relays of this source to step
    /// aside for a moment, so that it can publish in their place.
    pub fn control_subject(&self) -> String {
        format!("artstore.control.{self}")
    }
}

/// The core-NATS subject on which each process of a projection reports its state. It has a token more
/// than a source's, whatever an element is called.
pub fn projection_status_subject(projection: &str) -> String {
    format!("artstore.status.projection.{projection}")
}

impl fmt::Display for Source {
    /// The name that people use: the element's, `admin` or `query`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(name) => f.write_str(name.as_str()),
            Self::Admin => f.write_str("admin"),
            Self::Query => f.write_str("query"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_name_leads_back_to_its_source() {
        let element = Source::Element("storage_elem_01".parse().expect("a valid name"));
        for source in [element, Source::Admin, Source::Query] {
            assert_eq!(Source::of_stream(&source.stream()), Some(source));
        }
        assert_eq!(Source::of_stream("ARTSTORE_AUDIT_HEADS"), None);
        assert_eq!(Source::of_stream("ARTSTORE_WAL_"), None);
        assert_eq!(Source::of_stream("OTHERS"), None);
    }
}
