//! Files that hold a secret: read whole, and warned about where others can read them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::secret::Secret;

/// Far more than any secret has. A device or a pipe may never end.
const MOST_BYTES: u64 = 1024 * 1024;

/// Why a file gives no secret. Its content is not shown.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The system refused it.
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It has nothing, or a line end alone.
    #[error("it is empty")]
    Empty,
    /// No UTF-8.
    #[error("it holds no text in UTF-8")]
    NoText,
    /// More than a secret has.
    #[error("it has more than 1 MiB")]
    Large,
}

/// The whole content of a file, without one line end behind it.
pub fn read(path: &Path) -> Result<Secret, SecretFileError> {
    whole(File::open(path)?)
}

/// As [`read`], of whatever can be read.
pub fn whole(from: impl io::Read) -> Result<Secret, SecretFileError> {
    let mut bytes = Vec::new();
    from.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(SecretFileError::Large);
    }
    let text = String::from_utf8(bytes).map_err(|_| SecretFileError::NoText)?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    match secret.is_empty() {
        true => Err(SecretFileError::Empty),
        false => Ok(secret.into()),
    }
}

/// Warns, once for each file, where its group or others have a right to it. `setting` names it.
pub fn warn_where_shared(setting: &str, path: &Path) {
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    // A pipe or a device has no mode that says who reads it.
    let Some(found) = std::fs::metadata(path).ok().filter(|found| found.is_file()) else {
        return;
    };
    let mode = found.permissions().mode() & 0o777;
    let is_new =
        |mut warned: std::sync::MutexGuard<'_, BTreeSet<PathBuf>>| warned.insert(path.to_owned());
    if mode & 0o077 != 0 && WARNED.lock().is_ok_and(is_new) {
        let path = path.display();
        tracing::warn!(
            "{setting}: {path} holds a secret, and others have rights to it (mode {mode:04o}): \
             chmod go-rwx {path}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_it() {
        let read = |text: &[u8]| whole(text).map(|secret| secret.expose().to_owned());
        for (text, expected) in [
            ("a b", "a b"),
            (" a\n", " a"),
            ("a\r\n", "a"),
            ("a\nb\n\n", "a\nb\n"),
        ] {
            assert_eq!(
                read(text.as_bytes()).expect("a secret"),
                expected,
                "{text:?}"
            );
        }
        for (text, reason) in [
            (&b""[..], "it is empty"),
            (b"\n", "it is empty"),
            (b"\xff", "it holds no text in UTF-8"),
            (&[b'x'; 1_048_577], "it has more than 1 MiB"),
        ] {
            assert_eq!(read(text).expect_err("no secret").to_string(), reason);
        }
    }
}
