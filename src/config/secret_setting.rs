//! Settings that are secrets. Each comes from its option or variable NAME, from the file that the variable
//! NAME_FILE names, or from the systemd credential NAME. All are read here, when a command needs them.

use std::env;
use std::path::{Path, PathBuf};

use artstore_runtime::secret::Secret;
use artstore_runtime::secret_file::{self, SecretFileError};

use super::ConfigError;

/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A setting that is a secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretSetting<'a> {
    name: &'static str,
    /// What the option or the variable says.
    given: Option<&'a Secret>,
}

/// The variable that names the file of a secret.
pub(crate) fn file_variable(name: &str) -> String {
    format!("{name}_FILE")
}

impl<'a> SecretSetting<'a> {
    /// Of the variable NAME, with what its option or the variable itself says.
    pub(crate) fn new(name: &'static str, given: &'a Option<Secret>) -> Self {
        let given = given.as_ref();
        Self { name, given }
    }

    /// Whether it is set in any way. No file is read.
    pub(crate) fn is_given(&self) -> bool {
        self.given.is_some() || self.file().is_some() || self.credential().is_some()
    }

    /// Its value. An option wins; two of the other ways at once are an error.
    pub(crate) fn value(&self) -> Result<Option<Secret>, ConfigError> {
        let variable = env::var(self.name).ok();
        let is_option = self
            .given
            .is_some_and(|given| variable.as_deref() != Some(given.expose()));
        if is_option {
            return Ok(self.given.cloned());
        }
        let (file, credential) = (self.file(), self.credential());
        // An empty variable says nothing beside another way: `compose.yaml` passes them on so.
        let given = variable.is_some_and(|value| !value.is_empty());
        let ways: Vec<String> = [
            given.then(|| self.name.to_owned()),
            file.as_ref().map(|_| file_variable(self.name)),
            credential
                .as_ref()
                .map(|_| format!("the credential {} in {CREDENTIALS}", self.name)),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let [one, other, ..] = ways.as_slice() {
            return Err(ConfigError(format!(
                "{one} and {other} are both set: keep one of them"
            )));
        }
        match (file, credential) {
            (Some(file), _) => of_file(&file_variable(self.name), &file).map(Some),
            (None, Some(credential)) => {
                // Who may read it is up to systemd, whose rights are not in the mode alone.
                let read = secret_file::read(&credential);
                read.map_err(|error| refused(CREDENTIALS, &credential, &error))
                    .map(Some)
            }
            (None, None) => Ok(self.given.cloned()),
        }
    }

    fn file(&self) -> Option<PathBuf> {
        path_in(&file_variable(self.name))
    }

    fn credential(&self) -> Option<PathBuf> {
        let path = path_in(CREDENTIALS)?.join(self.name);
        path.exists().then_some(path)
    }
}

fn path_in(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The secret in a file; a warning where others can read it.
pub(super) fn of_file(setting: &str, path: &Path) -> Result<Secret, ConfigError> {
    let secret = secret_file::read(path).map_err(|error| refused(setting, path, &error))?;
    secret_file::warn_where_shared(setting, path);
    Ok(secret)
}

fn refused(setting: &str, path: &Path, error: &SecretFileError) -> ConfigError {
    // The secret itself may have been put into the place of its file.
    let shown = match path.is_absolute() || path.starts_with(".") || path.starts_with("..") {
        true => path.display().to_string(),
        false => format!(
            "a relative path of {} characters",
            path.to_string_lossy().chars().count()
        ),
    };
    ConfigError(format!("{setting}: {shown}: {error}"))
}
