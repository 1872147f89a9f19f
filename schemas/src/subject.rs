//! The subject of a message: `<source>.<pNN>.<entity>.<action>`. A file id is never a token of it
//! (ten million unique subjects cost a server gigabytes); it picks the partition instead.

use uuid::Uuid;

use crate::event::EventType;
use crate::source::Source;

/// How many partitions a source's subjects have.
pub const PARTITIONS: u32 = 16;

/// The partition of an ordering key: CRC-32 (IEEE) of its 16 bytes, modulo 16; 0 without a key.
/// Events of one key are always in one partition, so a reader of one partition sees their order.
pub fn partition(key: Option<Uuid>) -> u32 {
    key.map_or(0, |key| crc32fast::hash(key.as_bytes()) % PARTITIONS)
}

/// The subject that an event is published on.
pub fn subject(source: &Source, key: Option<Uuid>, event_type: &EventType) -> String {
    format!(
        "{}.p{:02}.{}.{}",
        source.subject_prefix(),
        partition(key),
        event_type.entity,
        event_type.action
    )
}

/// Whether a message's subject is one that this source publishes for this type.
pub fn belongs(subject: &str, source: &Source, event_type: &EventType) -> bool {
    let Some(rest) = subject
        .strip_prefix(&source.subject_prefix())
        .and_then(|rest| rest.strip_prefix(".p"))
    else {
        return false;
    };
    let Some((partition, name)) = rest.split_once('.') else {
        return false;
    };
    partition.len() == 2
        && partition.bytes().all(|b| b.is_ascii_digit())
        && partition.parse::<u32>().is_ok_and(|p| p < PARTITIONS)
        && name == format!("{}.{}", event_type.entity, event_type.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_source_partition_and_name() {
        let source = Source::Element("elem".parse().expect("a valid name"));
        let created = EventType::new("file", "created", 1);
        let key = Uuid::from_u128(1);
        let text = subject(&source, Some(key), &created);
        assert_eq!(
            text,
            format!(
                "artstore.wal.elem.p{:02}.file.created",
                partition(Some(key))
            )
        );
        assert!(belongs(&text, &source, &created));
        assert!(!belongs(&text, &Source::Admin, &created));
        assert!(!belongs(
            &text,
            &source,
            &EventType::new("file", "deleted", 1)
        ));
        assert!(!belongs(
            "artstore.wal.elem.p16.file.created",
            &source,
            &created
        ));
    }

    /// The partition is part of the contract: CRC-32 of "the 16 bytes", as other languages
    /// compute it (zlib.crc32 of uuid.bytes).
    #[test]
    fn the_partition_is_the_crc_that_other_languages_compute() {
        assert_eq!(partition(None), 0);
        assert_eq!(crc32fast::hash(Uuid::nil().as_bytes()), 0xecbb_4b55);
        assert_eq!(partition(Some(Uuid::nil())), 0xecbb_4b55 % 16);
    }
}
