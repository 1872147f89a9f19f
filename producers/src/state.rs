//! What an event says of a file, and what its element says, in a form that is small and can be
//! compared: digests. Made from the bodies of a stream by [`crate::fold`] and from `_files` by
//! [`crate::level`].

use artstore_schemas::event::{File, Omitted, WalEvent};
use uuid::Uuid;

use crate::translate::{sha256, text};

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
        let mut rest = file.clone();
        let description = long("file.description", rest.description.take(), omitted);
        let metadata = long("file.metadata", rest.metadata.take().map(text), omitted);
        let checksum = std::mem::take(&mut rest.checksum);
        let size = std::mem::take(&mut rest.file_size);
        let parts = serde_json::to_vec(&(rest, description, metadata));
        let parts = parts.expect("a file has only texts as keys");
        Self {
            content: digest(format!("{size} {checksum}").as_bytes()),
            rest: digest(&parts),
        }
    }

    /// Whether the element holds the file as the stream says. Where the element lost the checksum,
    /// an operation's result may have told it, with the size: neither is compared then.
    pub fn is_held_as(&self, held: &File) -> bool {
        let other = Self::of(held, &[]);
        self.rest == other.rest && (self.content == other.content || held.checksum.is_empty())
    }

    fn hex(&self) -> String {
        let bytes = self.content.iter().chain(&self.rest);
        bytes.map(|b| format!("{b:02x}")).collect()
    }
}

/// What an event of an element says of a file: which one, and its state or that it is not there.
/// None for an event that is about no file.
pub fn said(event: &WalEvent) -> Option<(Uuid, Option<State>)> {
    match &event.file {
        Some(file) => Some((file.id, Some(State::of(file, &event.omitted)))),
        None => Some((event.operation.file_id?, None)),
    }
}

/// The id of the snapshot of a file's state: the same for the same state behind the same message
/// (`after`: the sequence of the last one that spoke of the file; 0 for none). So a run that was
/// cut off repeats its ids, and a state that comes back later has another one.
pub fn snapshot_id(source: &str, file: Uuid, after: u64, state: Option<State>) -> Uuid {
    let state = state.map_or_else(|| "absent".to_owned(), |state| state.hex());
    let name = format!("artstore/snapshot/v1/{source}/{file}/{after}/{state}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

/// A text that may be long: its size and digest.
fn long(field: &str, present: Option<String>, omitted: &[Omitted]) -> Option<(u64, String)> {
    match present {
        Some(text) => Some((text.len() as u64, sha256(&text))),
        None => omitted
            .iter()
            .find(|omitted| omitted.field == field)
            .map(|omitted| (omitted.bytes, omitted.sha256.clone())),
    }
}

fn digest<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut cut = [0; N];
    cut.copy_from_slice(&digest.as_ref()[..N]);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use artstore_schemas::json::Document;
    use chrono::DateTime;

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
        assert!(State::of(&said, &omitted("long")).is_held_as(&held));
        assert!(!State::of(&said, &omitted("lung")).is_held_as(&held));
        assert!(!State::of(&said, &[]).is_held_as(&held));
    }

    #[test]
    fn a_checksum_that_the_element_lost_is_no_difference_and_anything_else_is() {
        let said = State::of(&file(), &[]);
        let lost = File {
            checksum: String::new(),
            file_size: 0,
            ..file()
        };
        assert!(said.is_held_as(&lost));
        assert!(!State::of(&lost, &[]).is_held_as(&file()), "it has it again");
        let renamed = File {
            original_filename: "z".to_owned(),
            ..lost
        };
        assert!(!said.is_held_as(&renamed));
        let other = File {
            checksum: "cd".to_owned(),
            ..file()
        };
        assert!(!said.is_held_as(&other));
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
