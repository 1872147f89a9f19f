//! The state of a file as an event states it, and as its element has it: digests, small and comparable.
//! Made from the bodies of a stream by [`crate::backfill::last_known_states`] and from `_files` by
//! [`crate::backfill::differences`].

use artstore_schemas::event::{File, Omitted, WalEvent};
use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use crate::relay::omit::text;

/// The digests of a file's full state. Two states are the same exactly when their digests are,
/// whatever was left out of the one or the other because of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Of the content's checksum and size.
    content: [u8; 8],
    /// Of everything else.
    rest: [u8; 16],
}

impl State {
    /// Of a file as an event carries it; `omitted` names what was left out.
    pub fn of(file: &File, omitted: &[Omitted]) -> Self {
        let mut rest = Digest::new();
        for text in [
            &file.original_filename,
            &file.storage_filename,
            &file.storage_path,
            &file.content_type,
            &file.created_by_id,
            &file.created_by_username,
        ] {
            rest.text(Some(text));
        }
        rest.text(file.created_by_fullname.as_deref());
        rest.text(file.version.as_deref());
        rest.bytes(file.id.as_bytes());
        rest.bytes(&file.created_at.timestamp_micros().to_be_bytes());
        rest.bytes(&file.updated_at.timestamp_micros().to_be_bytes());
        rest.long("file.description", file.description.as_deref(), omitted);
        let metadata = file.metadata.clone().map(text);
        rest.long("file.metadata", metadata.as_deref(), omitted);
        let mut content = Digest::new();
        content.text(Some(&file.checksum));
        content.bytes(&file.file_size.to_be_bytes());
        Self {
            content: content.first(),
            rest: rest.first(),
        }
    }

    /// Whether the element holds the file as the stream states; `held`: the element's state, of the
    /// file `file`. Where the element lost the checksum, an operation's result may have stated it,
    /// with the size: neither is compared then.
    pub(crate) fn is_held_as(&self, held: &Self, file: &File) -> bool {
        self.rest == held.rest && (self.content == held.content || file.checksum.is_empty())
    }

    fn hex(&self) -> String {
        let bytes = self.content.iter().chain(&self.rest);
        bytes.map(|b| format!("{b:02x}")).collect()
    }
}

/// What an event of an element states about a file: which one, and its state or that it is not there.
/// None for an event that is about no file.
pub(crate) fn stated_by(event: &WalEvent) -> Option<(Uuid, Option<State>)> {
    match &event.file {
        Some(file) => Some((file.id, Some(State::of(file, &event.omitted)))),
        None => Some((event.operation.file_id?, None)),
    }
}

/// A digest of where an event states that the element's API is reached.
pub(crate) fn of_url(api_url: Option<&str>) -> u64 {
    let mut digest = Digest::new();
    digest.text(api_url);
    u64::from_be_bytes(digest.first())
}

/// The id of the snapshot of a file's state: the same for the same state behind the same message (`after`:
/// the sequence of the last one that was about the file, or of a record of damage; 0 for none). So a run
/// that was cut off repeats its ids, and a state that comes back later has another one.
pub(crate) fn snapshot_id(source: &str, file: Uuid, after: u64, state: Option<State>) -> Uuid {
    let state = state.map_or_else(|| "absent".to_owned(), |state| state.hex());
    let name = format!("artstore/snapshot/v1/{source}/{file}/{after}/{state}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

/// A digest of fields, one behind the other. Each has its length, so that no two rows of fields
/// are the same bytes.
struct Digest(aws_lc_rs::digest::Context);

impl Digest {
    fn new() -> Self {
        Self(aws_lc_rs::digest::Context::new(&SHA256))
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.bytes(text.as_bytes()),
            // No text is as long as this.
            None => self.0.update(&u64::MAX.to_be_bytes()),
        }
    }

    /// A text that may have been left out of a message: its size and SHA-256, which the message
    /// then states.
    fn long(&mut self, field: &str, present: Option<&str>, omitted: &[Omitted]) {
        let left_out = omitted.iter().find(|omitted| omitted.field == field);
        match (present, left_out) {
            (Some(text), _) => {
                self.bytes(&(text.len() as u64).to_be_bytes());
                self.bytes(digest(&SHA256, text.as_bytes()).as_ref());
            }
            (None, Some(omitted)) => {
                self.bytes(&omitted.bytes.to_be_bytes());
                self.bytes(&from_hex(&omitted.sha256));
            }
            (None, None) => self.text(None),
        }
    }

    fn first<const N: usize>(self) -> [u8; N] {
        let digest = self.0.finish();
        let mut cut = [0; N];
        cut.copy_from_slice(&digest.as_ref()[..N]);
        cut
    }
}

/// The bytes of a hexadecimal text; where it is none, bytes that are no digest.
fn from_hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    // A number may have a sign, a digest not.
    let is_digest = pairs
        .clone()
        .all(|pair| matches!(pair, [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()));
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = is_digest.then(|| pairs.map(byte).collect::<Option<_>>());
    bytes.flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::omit::sha256;
    use artstore_schemas::json::Document;
    use chrono::DateTime;

    #[test]
    fn a_digest_has_digits_alone() {
        assert_eq!(from_hex("0aFf"), [10, 255]);
        for bad in ["+a", "0a+f", "0", "-1", "éa"] {
            assert_eq!(from_hex(bad), Vec::<u8>::new(), "{bad}");
        }
    }

    fn is_held_as(said: &State, held: &File) -> bool {
        said.is_held_as(&State::of(held, &[]), held)
    }

    fn file() -> File {
        File {
            id: Uuid::from_u128(1),
            original_filename: "a".to_owned(),
            storage_filename: "b".to_owned(),
            storage_path: "c".to_owned(),
            file_size: 5,
            content_type: "text/plain".to_owned(),
            checksum: "ab".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
            created_by_id: "1".to_owned(),
            created_by_username: "u".to_owned(),
            created_by_fullname: None,
            description: Some("long".to_owned()),
            version: None,
            metadata: Document::from_text(r#"{"b": 1, "a": [2]}"#),
        }
    }

    #[test]
    fn what_was_left_out_of_a_message_is_compared_by_its_digest() {
        let held = file();
        let mut said = held.clone();
        said.description = None;
        let omitted = |text: &str| {
            vec![Omitted {
                field: "file.description".to_owned(),
                bytes: text.len() as u64,
                sha256: sha256(text),
            }]
        };
        assert!(is_held_as(&State::of(&said, &omitted("long")), &held));
        assert!(!is_held_as(&State::of(&said, &omitted("lung")), &held));
        assert!(!is_held_as(&State::of(&said, &[]), &held));
    }

    #[test]
    fn a_checksum_that_the_element_lost_is_no_difference_and_anything_else_is() {
        let said = State::of(&file(), &[]);
        let lost = File {
            checksum: String::new(),
            file_size: 0,
            ..file()
        };
        assert!(is_held_as(&said, &lost));
        assert!(
            !is_held_as(&State::of(&lost, &[]), &file()),
            "it has it again"
        );
        let renamed = File {
            original_filename: "z".to_owned(),
            ..lost
        };
        assert!(!is_held_as(&said, &renamed));
        let other = File {
            checksum: "cd".to_owned(),
            ..file()
        };
        assert!(!is_held_as(&said, &other));
    }

    #[test]
    fn an_id_is_repeated_only_for_the_same_state_in_the_same_place() {
        let id = |after, state| snapshot_id("elem", Uuid::from_u128(1), after, state);
        let state = Some(State::of(&file(), &[]));
        assert_eq!(id(4, state), id(4, state));
        assert_ne!(id(4, state), id(5, state));
        assert_ne!(id(4, state), id(4, None));
    }
}
