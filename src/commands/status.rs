//! `artstore status`: the state of everything on one screen, once or repeatedly.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use artstore_bus::accounts::role::Role;
use artstore_schemas::source::Source;
use clap::Args;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use crate::config::{Config, ConfigError};
use crate::signals::stop_signal;
use crate::status::collect::Watcher;
use crate::status::{Status, screen};
use crate::terminal::width;

/// Between the beginnings of two looks.
const EVERY: Duration = Duration::from_secs(2);

/// How it is shown.
#[derive(Debug, Args)]
pub struct StatusCommand {
    /// Look again every two seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print JSON; with --watch, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command: 0 where all is well, 1 where something is wrong. With --watch, 0 at its end.
pub async fn run(config: &Config, command: &StatusCommand) -> anyhow::Result<ExitCode> {
    let mut watcher = watcher(config)?;
    if !command.watch {
        let status = watcher.look().await;
        print(&shown(&status, command, None)?)?;
        // Not by returning: a name server that does not answer would keep the runtime from ending.
        std::process::exit(i32::from(!status.well));
    }
    let stop = stop_signal()?;
    let redrawn = std::io::stdout().is_terminal() && !command.json;
    loop {
        let begun = Instant::now();
        let status = tokio::select! {
            status = watcher.look() => status,
            () = stop.cancelled() => break,
        };
        let height = height().filter(|_| redrawn);
        let text = shown(&status, command, height)?;
        let printed = match (redrawn, command.json) {
            // From the top, and nothing left of what was there.
            (true, _) => print(&format!("\x1b[H\x1b[2J{text}")),
            (false, true) => print(&text),
            (false, false) => print(&format!("{text}\n")),
        };
        match printed {
            // Whoever reads only the first looks has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            printed => printed?,
        }
        tokio::select! {
            () = tokio::time::sleep_until(begun + EVERY) => {}
            () = stop.cancelled() => break,
        }
    }
    std::process::exit(0);
}

/// The rows of the terminal, less one for the cursor behind the last line.
fn height() -> Option<usize> {
    let (_, height) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(height.0).saturating_sub(1))
}

fn shown(
    status: &Status,
    command: &StatusCommand,
    height: Option<usize>,
) -> anyhow::Result<String> {
    if command.json && command.watch {
        return Ok(format!("{}\n", serde_json::to_string(status)?));
    }
    if command.json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(status)?));
    }
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let colour = wanted && std::io::stdout().is_terminal();
    Ok(screen::show(status, width(), height, colour))
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn watcher(config: &Config) -> Result<Watcher, ConfigError> {
    let elements = config.elements()?.into_iter();
    let mut sources: Vec<(Source, PgConnectOptions)> = elements
        .map(|(name, database)| (Source::Element(name), database))
        .collect();
    // DB_HOST and the others are the element's.
    let admin = match config.has_admin_url() {
        true => config.admin_database()?,
        false => None,
    };
    sources.extend(admin.clone().map(|database| (Source::Admin, database)));
    let query = config.query_database()?;
    sources.extend(query.clone().map(|database| (Source::Query, database)));
    if sources.is_empty() {
        return Err(ConfigError(
            "there is nothing to look at: set ARTSTORE_ELEMENTS, STORAGE_DATABASE_URL with \
             --element, ADMIN_DATABASE_URL or QUERY_DATABASE_URL"
                .to_owned(),
        ));
    }
    Ok(Watcher::new(
        config.bus(Role::Reader, "artstore status")?,
        sources,
        query,
        admin,
    ))
}
