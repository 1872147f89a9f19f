//! Files that are either the old one or the new one, whatever happens.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

/// Writes a file in place of the one that is there.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("{} can't be written", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder(path)).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    file.as_file().sync_all().with_context(failed)?;
    file.persist(path).with_context(failed)?;
    sync_folder(path)
}

/// Makes the name of a file last.
pub fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let folder = folder(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("{} can't be written", folder.display()))
}

fn folder(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
