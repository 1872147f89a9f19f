//! Which element has a file: a file id lives on one element at a time, and the streams of elements are
//! interleaved in any way. The rule gives the same rows for every interleaving.
//!
//! Every event with a file present *claims* it: (the file's `created_at`, the element). A claim
//! lower than the file's present one is ignored, an equal or higher one takes it. An event without
//! a file counts only from the element that owns it, and leaves a tombstone with its claim.
//!
//! A claim that equals the tombstone's comes from the tombstone's own element, later in the same
//! stream: the file exists again, so the claim takes it (`docs/decisions/0003-a-file-that-comes-back.md`).

use std::collections::HashMap;

use artstore_schemas::event::{Event, File};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::projector::Received;

/// What a batch of one element's events states about one file, whatever was known of it before.
#[derive(Debug, Clone)]
pub struct Folded<'a> {
    /// The highest claim, if any event had the file.
    pub claim: Option<Claim<'a>>,
    /// Whether any event was without the file: counts if this element owned it before and no
    /// claim of this batch is high enough to take it.
    pub removed: bool,
}

/// A claim, and what this element stated about the file after it.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// The file's `created_at` on this element.
    pub created_at: DateTime<Utc>,
    /// The state with the last claim as high as this.
    pub file: &'a File,
    /// The event that carried it.
    pub event: &'a Received,
    /// Whether the file was gone after it.
    pub gone: bool,
}

/// Merges a batch of one element's events per file, in stream order.
pub fn fold(batch: &[Received]) -> HashMap<Uuid, Folded<'_>> {
    let mut files: HashMap<Uuid, Folded<'_>> = HashMap::new();
    for event in batch {
        let Event::Wal(wal) = &event.event else {
            continue;
        };
        let Some(id) = wal.file.as_ref().map(|f| f.id).or(wal.operation.file_id) else {
            continue;
        };
        let folded = files.entry(id).or_insert(Folded {
            claim: None,
            removed: false,
        });
        folded.add(wal.file.as_ref(), event);
    }
    files
}

impl<'a> Folded<'a> {
    fn add(&mut self, file: Option<&'a File>, event: &'a Received) {
        match (file, &mut self.claim) {
            (Some(file), Some(claim)) if file.created_at < claim.created_at => {}
            (Some(file), claim) => {
                *claim = Some(Claim {
                    created_at: file.created_at,
                    file,
                    event,
                    gone: false,
                });
            }
            (None, claim) => {
                self.removed = true;
                if let Some(claim) = claim {
                    claim.gone = true;
                }
            }
        }
    }
}
