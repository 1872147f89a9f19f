//! The archives that the log lists: each found by its digest, from the last one back to
//! row 1, and checked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use artstore_projectors::audit_log::chain::Keyring;
use artstore_projectors::audit_log::note::VerifierKey;

use super::archive::Archived;
use super::archive::check::check;
use super::archive::write::digest_of;
use super::finding::{Finding, Kind, Layer};

/// What is known of them.
#[derive(Debug, Default)]
pub struct Archives {
    /// How many were checked.
    pub checked: u64,
    /// How many rows they have.
    pub rows: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Checks all archives of these logs.
pub(crate) fn check_all<'a>(
    folder: &Path,
    wanted: impl Iterator<Item = &'a Archived>,
    trusted: &[VerifierKey],
    ring: Option<&Keyring>,
) -> Archives {
    let there = there(folder);
    let mut archives = Archives::default();
    for last in wanted {
        let mut digest = Some(last.digest.clone());
        let mut end = last.last;
        while let Some(wanted) = digest.take() {
            let mut add = |text: String| archives.findings.push(unfit(last, end, text));
            let Some(path) = there.get(&wanted) else {
                add(format!(
                    "no archive in {} has digest {wanted}: rows up to {end} are not there",
                    folder.display()
                ));
                break;
            };
            let checked = match check(path, trusted, ring) {
                Ok(checked) => checked,
                Err(error) => {
                    add(format!("{error:#}"));
                    break;
                }
            };
            let manifest = &checked.manifest;
            if (&manifest.stream, manifest.last) != (&last.stream, end) {
                add(format!(
                    "{} is of rows {} to {} of {}, not of rows up to {end}",
                    path.display(),
                    manifest.first,
                    manifest.last,
                    manifest.stream
                ));
                break;
            }
            for wrong in &checked.wrong {
                add(format!("{}: {wrong}", path.display()));
            }
            if manifest.previous.is_none() && manifest.first > 1 {
                add(format!(
                    "{} names no archive before it: rows up to {} are not there",
                    path.display(),
                    manifest.first - 1
                ));
            }
            archives.checked += 1;
            archives.rows += manifest.last + 1 - manifest.first;
            digest = manifest.previous.clone().filter(|_| manifest.first > 1);
            end = manifest.first - 1;
        }
    }
    archives
}

/// Archives by their digests.
fn there(folder: &Path) -> HashMap<String, PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter_map(|path| Some((digest_of(&path).ok()?, path)))
        .collect()
}

fn unfit(archived: &Archived, end: u64, text: String) -> Finding {
    Finding {
        stream: Some(archived.stream.clone()),
        sequence: Some(end),
        id: None,
        kind: Kind::ArchiveUnfit,
        layers: [Layer::Heads].into(),
        text,
    }
}
