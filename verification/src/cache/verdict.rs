//! The verdict of one cycle on a file: what is wrong with it, or that nothing is certain yet.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use artstore_schemas::element::ElementName;
use uuid::Uuid;

use super::element_files::ElementFiles;
use super::rows::{self, CacheRow, TableFile};
use super::stream_files::{self, Streams};
use crate::finding::{Finding, Kind};

/// A file of which nothing is certain yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) id: Uuid,
    /// What it waits for, where that is nothing but a pending operation: the element's index, and for
    /// how long it has been pending.
    pub(super) pending: Option<(usize, Duration)>,
}

/// All that was read of some files in one cycle.
pub(super) struct FilesSnapshot<'a> {
    pub(super) elements: Vec<&'a ElementName>,
    pub(super) before: Vec<ElementFiles>,
    /// Files whose last position is covered by what the projector has applied.
    pub(super) covered: Vec<HashSet<Uuid>>,
    pub(super) after: Vec<ElementFiles>,
    pub(super) rows: HashMap<Uuid, CacheRow>,
    /// Up to the checkpoints.
    pub(super) streams: Streams,
    /// Up to the ends, where rows come from after a checkpoint.
    pub(super) later: Option<Streams>,
}

/// The verdict of one cycle on a file.
pub(super) enum Verdict {
    /// What is wrong with it, which may be nothing.
    Certain(Vec<Finding>),
    /// Nothing is certain yet.
    Open(Open),
}

impl FilesSnapshot<'_> {
    pub(super) fn verdict(&self, id: Uuid) -> Verdict {
        let row = self.rows.get(&id);
        let mut findings = Vec::new();
        let wrong = against_stream(id, row, &self.streams);
        let told_later = |later: &Streams| against_stream(id, row, later).is_none();
        if let Some(wrong) = wrong
            && !self.later.as_ref().is_some_and(told_later)
        {
            findings.push(wrong);
        }
        let (mut still, mut pending) = (true, None);
        for (index, element) in self.elements.iter().enumerate() {
            let (before, after) = (&self.before[index], &self.after[index]);
            let state = self.streams.of(id, element);
            let last = state.and_then(|state| state.last.as_ref());
            let says = last.filter(|last| stream_files::file(last).is_some());
            let differs = match (before.files.get(&id), says) {
                (None, None) => continue,
                (Some(file), Some(event)) => file.differences(event),
                (Some(_), None) => vec!["the stream does not contain it".to_owned()],
                (None, Some(_)) => vec!["the stream still contains it".to_owned()],
            };
            if differs.is_empty() {
                continue;
            }
            let covered = !before.positions.contains_key(&id) || self.covered[index].contains(&id);
            let unchanged = before.files.get(&id) == after.files.get(&id)
                && before.positions.get(&id) == after.positions.get(&id);
            if !covered || !unchanged {
                still = false;
                continue;
            }
            match (before.pending.get(&id), after.pending.get(&id)) {
                (None, None) => {}
                (Some(_), Some(age)) => {
                    pending = pending.max(Some((index, *age)));
                    continue;
                }
                // It began or ended meanwhile.
                (Some(_), None) | (None, Some(_)) => {
                    still = false;
                    continue;
                }
            }
            findings.push(not_told(id, element, before.files.get(&id), row, &differs));
        }
        // What is wrong with the cache is certain; the rest is checked once more only where
        // there is nothing to report yet.
        if !findings.is_empty() || (still && pending.is_none()) {
            return Verdict::Certain(findings);
        }
        let pending = pending.filter(|_| still);
        Verdict::Open(Open { id, pending })
    }
}

fn against_stream(id: Uuid, row: Option<&CacheRow>, streams: &Streams) -> Option<Finding> {
    let shown = streams.shown(id);
    let wanted = shown.and_then(|(element, event)| CacheRow::of(element, event));
    let event = shown.map(|(_, event)| event);
    let finding = |kind, source: &str, detail: String| Finding {
        kind,
        source: source.to_owned(),
        id: Some(id),
        sequence: event.map(|event| event.sequence),
        position: event.and_then(|event| event.envelope.position),
        detail,
        repair: format!("artstore projection repair query-cache --file {id}"),
    };
    match (row, wanted) {
        (None, None) => None,
        (None, Some(wanted)) => {
            let file = event.and_then(stream_files::file);
            let detail = format!(
                "file {} is in the stream, but not in the cache",
                file.map(rows::name).unwrap_or_default()
            );
            Some(finding(Kind::RowMissing, wanted.element(), detail))
        }
        (Some(row), None) => {
            let detail = "the cache has a row for a file that no stream contains".to_owned();
            Some(finding(Kind::RowExtra, row.element(), detail))
        }
        (Some(row), Some(wanted)) => {
            let differences = row.differences(&wanted);
            (!differences.is_empty())
                .then(|| finding(Kind::RowDifferent, row.element(), differences.join("; ")))
        }
    }
}

/// A file whose state in its own stream is not as it is.
fn not_told(
    id: Uuid,
    element: &ElementName,
    file: Option<&TableFile>,
    row: Option<&CacheRow>,
    differs: &[String],
) -> Finding {
    let kind = match (file, row) {
        (Some(_), None) => Kind::RowMissing,
        (None, Some(_)) => Kind::RowExtra,
        _ => Kind::RowDifferent,
    };
    Finding {
        kind,
        source: element.to_string(),
        id: Some(id),
        sequence: None,
        position: None,
        detail: format!(
            "{element}_files was changed without an operation: {}",
            differs.join("; ")
        ),
        repair: format!("artstore element backfill {element}"),
    }
}
