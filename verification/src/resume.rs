//! The state of a check in a file, so that a later process resumes where an earlier one was
//! stopped or killed. The file is replaced as a whole, and refused where stream or source is
//! not the one that it is about.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artstore_bus::connection::Bus;
use artstore_producers::relay::rows;
use artstore_producers::relay::source::SourceTable;
use artstore_schemas::source::Source;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::pass::{Pass, State};
use super::reader;
use artstore_runtime::configuration::ConfigError;

/// The version of the file format.
const VERSION: u32 = 3;

/// A file with the states of sources.
#[derive(Debug)]
pub struct ResumeFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// By the source's name.
    sources: BTreeMap<String, Saved>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// What it is about.
    about: About,
    state: Box<RawValue>,
}

/// What a state is about: it means nothing for another stream or another database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    stream: String,
    /// When the stream was made.
    created: String,
    /// The source's database.
    identity: String,
}

impl About {
    /// A source and its stream as they are now.
    pub async fn read(
        connection: &mut PgConnection,
        bus: &Bus,
        source: &Source,
    ) -> anyhow::Result<Self> {
        let stream = source.stream();
        let created = bus.stream_info(&stream).await?.created.to_string();
        let identity = rows::identity(connection, &SourceTable::of(source)).await?;
        Ok(Self {
            stream,
            created,
            identity,
        })
    }
}

impl ResumeFile {
    /// Reads it; one that does not exist is begun.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let content = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                ConfigError(format!(
                    "{}: not a file of `artstore verify --resume FILE` ({error}); name another one",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Content {
                version: VERSION,
                sources: BTreeMap::new(),
            },
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if content.version != VERSION {
            let text = format!(
                "{}: written by another version of this program; remove it to check from the \
                 beginning",
                path.display()
            );
            return Err(ConfigError(text).into());
        }
        let path = path.to_owned();
        Ok(Self { path, content })
    }

    /// The state of a source to continue from; the beginning where there is none.
    pub async fn state(&self, bus: &Bus, source: &Source, about: &About) -> anyhow::Result<State> {
        let Some(saved) = self.content.sources.get(&source.to_string()) else {
            return Ok(State::default());
        };
        let refuse = |what: String| {
            ConfigError(format!(
                "{}: {what}; remove the file to check from the beginning",
                self.path.display()
            ))
        };
        if saved.about.identity != about.identity {
            return Err(refuse(format!(
                "it is about database {} of source {source}, which is {} now",
                saved.about.identity, about.identity
            ))
            .into());
        }
        if saved.about != *about {
            return Err(refuse(format!(
                "it is about a stream {} created at {}; the present one was created at {}",
                saved.about.stream, saved.about.created, about.created
            ))
            .into());
        }
        let state: State = serde_json::from_str(saved.state.get())
            .map_err(|error| refuse(format!("the state of {source} can't be read ({error})")))?;
        let Some(id) = state.links.last_id() else {
            return Ok(state);
        };
        let last = state.links.last;
        let message = bus.message_at(&source.stream(), last).await?;
        if message.and_then(|m| reader::id_of(&m)) != Some(id) {
            return Err(refuse(format!(
                "message {last} of stream {} is not the one recorded in it ({id})",
                about.stream
            ))
            .into());
        }
        Ok(state)
    }

    /// Keeps the state of a pass.
    pub fn save(&mut self, about: &About, pass: &Pass) -> anyhow::Result<()> {
        let saved = Saved {
            about: about.clone(),
            state: serde_json::value::to_raw_value(&pass.state)?,
        };
        self.content
            .sources
            .insert(pass.source().to_string(), saved);
        self.write()
    }

    /// All was checked: a later run starts over.
    pub fn finish(self) -> anyhow::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.path.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// A crash leaves the file as it was before, or as it is now.
    fn write(&self) -> anyhow::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut file = tempfile::NamedTempFile::new_in(folder)
            .with_context(|| folder.display().to_string())?;
        serde_json::to_writer(std::io::BufWriter::new(&mut file), &self.content)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(&self.path)
            .with_context(|| self.path.display().to_string())?;
        Ok(())
    }
}
