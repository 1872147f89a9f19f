//! Files that are either the old one or the new one, whatever happens.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file in place of the one that is there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = || {
        let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(|error| named(path, &error))?;
    sync_folder(path)
}

/// Makes the name of a file last.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = folder(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| named(folder, &error))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{} can't be written: {error}", path.display()),
    )
}

fn folder(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
