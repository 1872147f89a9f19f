//! The key of a user: an nkey. Its private part, the seed, is in a file; the server has the public one.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nkeys::KeyPair;

use super::role::Role;

/// A user of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What it does.
    pub role: Role,
    /// What it shows.
    pub login: Login,
}

/// How the server knows a user.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// By the public part of its key.
    Key(String),
    /// By a name and a password, for clients that take both from the URL: on private servers alone. Its inboxes are
    /// all that no user with a key has.
    Password(String, String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(public) => f.debug_tuple("Key").field(public).finish(),
            Self::Password(name, _) => f.debug_tuple("Password").field(name).finish(),
        }
    }
}

/// The users of these roles, by the keys in a folder; those that are missing are made.
pub fn of_folder(folder: &Path, roles: &[Role]) -> io::Result<Vec<User>> {
    let user = |role: &Role| {
        let key = UserKey::of_file(&folder.join(role.key_file()))?;
        Ok(User {
            role: role.clone(),
            login: Login::Key(key.public()),
        })
    };
    roles.iter().map(user).collect()
}

/// Writes a file, complete or not at all. A link that somebody else put into its place is not followed.
pub fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// What every inbox begins with.
const INBOXES: &str = "_INBOX";

/// A user's key. Debug output does not contain it.
pub struct UserKey {
    pair: KeyPair,
}

impl UserKey {
    /// A new one.
    pub fn generate() -> Self {
        Self {
            pair: KeyPair::new_user(),
        }
    }

    /// Reads a seed: one line, `SU` and 56 more characters. None for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let seed = text.trim();
        let pair = seed
            .starts_with("SU")
            .then(|| KeyPair::from_seed(seed).ok())??;
        Some(Self { pair })
    }

    /// The key of a file, which is made where there is none. Only its owner can read a new file.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let unreadable = || {
            let reason = "it has no seed of an nkey user (SU…)";
            io::Error::new(io::ErrorKind::InvalidData, reason)
        };
        match std::fs::read_to_string(path) {
            Ok(text) => return Self::parse(&text).ok_or_else(unreadable),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let key = Self::generate();
        write_whole(path, &format!("{}\n", key.seed()), 0o600)?;
        Ok(key)
    }

    /// What the server knows the user by.
    pub fn public(&self) -> String {
        self.pair.public_key()
    }

    /// What the user's inboxes begin with, without the last dot. Nobody else may subscribe to them.
    pub fn inbox_prefix(&self) -> String {
        inbox_prefix(&self.public())
    }

    pub(crate) fn seed(&self) -> String {
        // A pair that was generated or read from a seed has one.
        self.pair.seed().unwrap_or_default()
    }
}

pub(super) fn inbox_prefix(public: &str) -> String {
    format!("{INBOXES}.{public}")
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserKey").field(&self.public()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_without_its_seed() {
        let key = UserKey::generate();
        let read = UserKey::parse(&format!("{}\n", key.seed())).expect("a seed");
        assert_eq!(read.public(), key.public());
        assert!(!format!("{key:?}").contains(&key.seed()));
        assert!(UserKey::parse(&key.public()).is_none());
        assert!(UserKey::parse("").is_none());
    }
}
