//! Files that describe others: the manifest of a backup; an archive of the audit log, whose manifest, rows, tiles and head
//! are what is checked.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use artstore::bus_backup::{self, check as backup};
use artstore_fuzz::{parts, signer};
use artstore_verification::audit::archive::{HEAD, MANIFEST, ROWS, TILES, check};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let memory = Path::new("/dev/shm");
    let made = || match memory.is_dir() {
        true => tempfile::tempdir_in(memory).expect("a folder"),
        false => tempfile::tempdir().expect("a folder"),
    };
    FOLDER.get_or_init(made).path()
}

fuzz_target!(|data: &[u8]| {
    let [manifest, rows, tiles, head] = parts(data);
    let folder = folder();
    std::fs::write(folder.join(bus_backup::MANIFEST), manifest).expect("written");
    if let Ok(manifest) = backup::manifest(folder) {
        for stream in &manifest.streams {
            stream.covers();
            stream.removed();
            assert!(!stream.file.contains('/'));
        }
    }
    for (name, bytes) in [
        (MANIFEST, manifest),
        (ROWS, rows),
        (TILES, tiles),
        (HEAD, head),
    ] {
        std::fs::write(folder.join(name), bytes).expect("written");
    }
    let trusted = [signer().verifier().clone()];
    if let Ok(checked) = check::check(folder, &trusted, None) {
        assert!(checked.manifest.first <= checked.manifest.last);
        assert!(checked.wrong.len() <= 100);
    }
});
