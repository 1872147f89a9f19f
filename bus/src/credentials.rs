//! What a connection logs in with: a credentials file, the key of a user, or a folder with the keys of several
//! roles ([`crate::accounts::role`]).

use std::io;
use std::path::{Path, PathBuf};

use crate::accounts::key::UserKey;
use crate::accounts::role::Role;
use crate::bus_error::BusError;

/// What was found.
pub(crate) enum Credentials {
    /// A file with a user's JWT and seed.
    File(PathBuf),
    /// The key of a user whom the server's configuration names.
    Key(PathBuf, Box<UserKey>),
}

impl Credentials {
    /// Of a file, whoever connects; of a folder, the role's own or one that does as well.
    pub(crate) fn find(path: &Path, role: &Role) -> Result<Self, BusError> {
        let file = file(path, role);
        let text = std::fs::read_to_string(&file).map_err(|cause| BusError::Credentials {
            path: file.display().to_string(),
            cause,
        })?;
        Ok(match UserKey::parse(&text) {
            Some(key) => Self::Key(file, Box::new(key)),
            None => Self::File(file),
        })
    }

    /// The file, for people.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Key(path, _) => path,
        }
    }
}

/// The file that is read: the path itself, or a role's in that folder.
pub(crate) fn file(path: &Path, role: &Role) -> PathBuf {
    match path.is_dir() {
        true => in_folder(path, role),
        false => path.to_owned(),
    }
}

/// Whether a role has credentials of its own: where there is one file for all, it has none.
pub fn has_own(path: &Path, role: &Role) -> io::Result<bool> {
    match path.is_dir() {
        true => path.join(role.key_file()).try_exists(),
        false => Ok(false),
    }
}

/// The role's own file, where no substitute is there instead.
fn in_folder(folder: &Path, role: &Role) -> PathBuf {
    let own = folder.join(role.key_file());
    if own.exists() {
        return own;
    }
    let substitutes = role.substitutes().iter();
    let mut substitutes = substitutes.map(|role| folder.join(role.key_file()));
    substitutes.find(|file| file.exists()).unwrap_or(own)
}
