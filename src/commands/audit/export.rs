//! `artstore audit export`.

use artstore_runtime::count::counted;
use artstore_runtime::files;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use artstore_producers::publish::outbox::{self, OutboxInsert};
use clap::Args;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::database::{connected, database};
use crate::audit::export::{Format, batch};
use crate::audit::select::{Bounds, Filters, first_rows};
use crate::audit_keys::AuditSettings;
use crate::commands::bar;
use crate::config::{Config, ConfigError};
use crate::operator;
use crate::signals::stop_signal;
use artstore_verification::audit::log::connect;
use artstore_verification::audit::shown::RowChecker;

/// Rows for another system. That there was an export is itself an event of the audit log.
#[derive(Debug, Args)]
pub struct Export {
    /// The form of the rows
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    filters: Filters,
    /// The file, which must not be there yet; without it, the standard output
    #[arg(long)]
    to: Option<PathBuf>,
    /// Go on with an export to this file that was interrupted
    #[arg(long, requires = "to")]
    resume: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

/// How far an export has come; kept beside its file until that is whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ExportProgress {
    /// The export, and the id of its event.
    export: Uuid,
    format: Format,
    filters: Filters,
    bounds: Bounds,
    /// The first row of each log when it began.
    #[serde(default)]
    first: BTreeMap<String, i64>,
    /// The last row that is in the file.
    last_id: i64,
    rows: u64,
    /// How many of them are not as they were signed.
    #[serde(default)]
    wrong: u64,
    /// The file has so many bytes of whole rows.
    bytes: u64,
}

/// Runs the command.
pub async fn run(config: &Config, command: &Export) -> anyhow::Result<ExitCode> {
    let checker = RowChecker::new(command.audit.what_there_is()?);
    let mut connection = connected(config).await?;
    command.filters.check(&mut connection).await?;
    let mut target = match &command.to {
        None => Target::Output,
        Some(path) => Target::Part(Part::new(path)),
    };
    let mut progress = match (&target, command.resume) {
        (Target::Part(part), true) => part.resumed(command)?,
        (target, _) => {
            if let Target::Part(part) = target {
                part.is_free()?;
            }
            ExportProgress {
                export: Uuid::new_v4(),
                format: command.format,
                filters: command.filters.clone(),
                // Read first: rows that are archived from here on are missed.
                first: first_rows(&mut connection, &command.filters).await?,
                bounds: Bounds::now(&mut connection).await?,
                // Before every id: one below 1 is nothing that the log gave, and is exported.
                last_id: i64::MIN,
                rows: 0,
                wrong: 0,
                bytes: 0,
            }
        }
    };
    if let Target::Part(part) = &mut target {
        part.keep(&progress)?;
    }
    whole(&mut connection, &progress).await?;
    record(config, command, &progress).await?;
    let mut checker = checker.resumed(progress.wrong);
    let ended = write(&mut connection, &mut target, &mut progress, &mut checker).await?;
    connection.close().await?;
    match (ended, &target) {
        (Ended::All, Target::Part(part)) => {
            part.whole()?;
            eprintln!(
                "{} in {}",
                counted(progress.rows, "row"),
                part.path.display()
            );
        }
        (Ended::All | Ended::NobodyReads, Target::Output) => {}
        (Ended::Stopped | Ended::NobodyReads, Target::Part(part)) => {
            eprintln!(
                "artstore: stopped after {}; the same command with --resume continues and makes {} \
                 whole",
                counted(progress.rows, "row"),
                part.path.display()
            );
            return Ok(ExitCode::FAILURE);
        }
        (Ended::Stopped, Target::Output) => {
            eprintln!("artstore: stopped after {}", counted(progress.rows, "row"));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(checker.end())
}

/// Whether all rows that were there when it began can still be read.
async fn whole(connection: &mut PgConnection, progress: &ExportProgress) -> anyhow::Result<()> {
    let now = first_rows(connection, &progress.filters).await?;
    let moved = progress
        .first
        .iter()
        .find(|(stream, first)| now.get(*stream) != Some(first));
    let Some((stream, first)) = moved else {
        return Ok(());
    };
    let since = now.get(stream).map_or_else(
        || "none is left".to_owned(),
        |row| format!("it is row {row} now"),
    );
    anyhow::bail!(
        "row {first} was the first one of {stream} when the export began, and {since}: `audit \
         archive` took rows out meanwhile, so this export would not be whole. Begin again without \
         --resume, with another file; the rows that are missing are in the archives"
    );
}

/// Puts the event into the outbox before anything leaves; once, however often it is resumed.
async fn record(
    config: &Config,
    command: &Export,
    progress: &ExportProgress,
) -> anyhow::Result<()> {
    let mut connection = connect(&database(config)?).await?;
    let file = command.to.as_deref().and_then(Path::file_name);
    let event = OutboxInsert {
        entity: "audit".to_owned(),
        action: "exported".to_owned(),
        ordering_key: None,
        subject: Some(progress.export.to_string()),
        data: json!({
            "format": progress.format,
            "filters": progress.filters,
            "rows_up_to": progress.bounds,
            "file": file.map(|name| name.to_string_lossy()),
            "operator": operator::operator(&mut connection).await?,
        }),
        request_id: None,
        traceparent: None,
    };
    let actor = operator::actor("audit export");
    outbox::insert_once(&mut connection, progress.export, &actor, &event)
        .await
        .context("an export has to be recorded in event_outbox first; nothing was exported")?;
    connection.close().await?;
    Ok(())
}

/// How it ended.
#[derive(Clone, Copy)]
enum Ended {
    All,
    Stopped,
    NobodyReads,
}

async fn write(
    connection: &mut PgConnection,
    target: &mut Target,
    progress: &mut ExportProgress,
    checker: &mut RowChecker,
) -> anyhow::Result<Ended> {
    let stop = stop_signal()?;
    let shown = matches!(target, Target::Part(_)) && std::io::stderr().is_terminal();
    let bar = if shown {
        ProgressBar::new_spinner().with_style(bar::style("exported {pos} rows {per_sec}"))
    } else {
        ProgressBar::hidden()
    };
    if progress.bytes == 0 {
        progress.bytes += target.write(&progress.format.header())?;
    }
    loop {
        let rows = tokio::select! {
            rows = batch(connection, &progress.filters, &progress.bounds, progress.last_id) => rows?,
            () = stop.cancelled() => return Ok(Ended::Stopped),
        };
        // Behind the rows: what was taken out before they were read is seen.
        whole(connection, progress).await?;
        let Some(last) = rows.last() else {
            return Ok(Ended::All);
        };
        let verdicts = checker.check(connection, &rows).await?;
        let lines: Vec<u8> = rows
            .iter()
            .zip(&verdicts)
            .flat_map(|(row, verdict)| progress.format.line(row, verdict))
            .collect();
        match target.write(&lines) {
            Ok(bytes) => progress.bytes += bytes,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Ended::NobodyReads),
            Err(error) => return Err(error.into()),
        }
        progress.last_id = last.id;
        progress.rows += rows.len() as u64;
        progress.wrong = checker.wrong();
        if let Target::Part(part) = target {
            part.keep(progress)?;
        }
        artstore_runtime::crash::point("audit.export.batch");
        bar.set_position(progress.rows);
    }
}

enum Target {
    Output,
    Part(Part),
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<u64> {
        match self {
            Self::Output => {
                let mut out = BufWriter::new(std::io::stdout().lock());
                out.write_all(bytes)?;
                out.flush()?;
            }
            Self::Part(part) => {
                let mut file = OpenOptions::new().append(true).open(&part.part)?;
                file.write_all(bytes)?;
                file.sync_data()?;
            }
        }
        Ok(bytes.len() as u64)
    }
}

/// A file that is not whole yet: `NAME.part`, and beside it `NAME.part.json`, how far it has come.
struct Part {
    path: PathBuf,
    part: PathBuf,
    progress: PathBuf,
}

impl Part {
    fn new(path: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self {
            path: path.to_owned(),
            part: beside(".part"),
            progress: beside(".part.json"),
        }
    }

    /// Begins an empty file, unless there is one.
    fn is_free(&self) -> anyhow::Result<()> {
        for path in [&self.path, &self.progress] {
            if path.exists() {
                return Err(ConfigError(format!(
                    "--to {}: {} is there already; take it away, take another name, or go on with \
                     --resume",
                    self.path.display(),
                    path.display()
                ))
                .into());
            }
        }
        // What is left of an export that wrote nothing yet, or a link that somebody else put there: never followed.
        match std::fs::remove_file(&self.part) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&self.part),
        }
        .with_context(|| format!("{}", self.part.display()))?;
        Ok(())
    }

    /// How far it has come; what was written since is cut off.
    fn resumed(&self, command: &Export) -> anyhow::Result<ExportProgress> {
        let text = std::fs::read(&self.progress).with_context(|| {
            format!(
                "--resume: {} can't be read: nothing was interrupted here",
                self.progress.display()
            )
        })?;
        let progress: ExportProgress = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", self.progress.display()))?;
        if (progress.format, &progress.filters) != (command.format, &command.filters) {
            return Err(ConfigError(
                "--resume: the format and the filters have to be those of before".to_owned(),
            )
            .into());
        }
        if self.path.exists() {
            return Err(ConfigError(format!(
                "--resume: {} is whole; take {} away",
                self.path.display(),
                self.progress.display()
            ))
            .into());
        }
        let is_file = std::fs::symlink_metadata(&self.part)?.is_file();
        anyhow::ensure!(is_file, "{} is no file", self.part.display());
        let file = OpenOptions::new().write(true).open(&self.part)?;
        let there = file.metadata()?.len();
        anyhow::ensure!(
            there >= progress.bytes,
            "{} has {there} bytes, but {} were written: begin again",
            self.part.display(),
            progress.bytes
        );
        file.set_len(progress.bytes)?;
        file.sync_all()?;
        Ok(progress)
    }

    fn keep(&self, progress: &ExportProgress) -> anyhow::Result<()> {
        Ok(files::replace(
            &self.progress,
            serde_json::to_string(progress)?.as_bytes(),
        )?)
    }

    fn whole(&self) -> anyhow::Result<()> {
        std::fs::rename(&self.part, &self.path)?;
        files::sync_folder(&self.path)?;
        std::fs::remove_file(&self.progress)?;
        Ok(())
    }
}
