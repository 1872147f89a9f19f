//! Files that are replaced atomically: a crash leaves either the old one or the new one.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces a file, or creates it.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = beside(path, bytes).and_then(|file| Ok(file.persist(path)?));
    written.map_err(|error| named(path, "can't be written", &error))?;
    sync_folder(path)
}

/// Writes a file that nobody else may read and that is not there yet: one that is stays as it is, and is
/// an error.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = beside(path, bytes).and_then(|file| Ok(file.persist_noclobber(path)?));
    written.map_err(|error| named(path, "can't be made", &error))?;
    sync_folder(path)
}

/// A whole file in the same folder, which goes away unless it is given its name.
fn beside(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Makes the name of a file last.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = folder(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| named(folder, "can't be written", &error))
}

fn named(path: &Path, what: &str, error: &io::Error) -> io::Error {
    let text = format!("{} {what}: {error}", path.display());
    io::Error::new(error.kind(), text)
}

fn folder(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
