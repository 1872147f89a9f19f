//! The program `artstore`. Exit codes: 0 fine, 1 a check found a difference or the command
//! failed, 2 usage or configuration.

use std::process::ExitCode;

use artstore::commands::{self, definition};
use artstore::config::ConfigError;
use artstore_schemas::bus::BusError;
use artstore_sessions::words::words;

/// As the shell tells of a program that ended because nobody reads its output any more.
const NOBODY_READS: i32 = 141;

#[tokio::main]
async fn main() -> ExitCode {
    end_quietly_where_nobody_reads();
    let cli = definition::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    artstore::operator::name(cli.config.operator.clone());
    let ended = match artstore::telemetry::start(&cli.config, cli.command.usual_log_level()) {
        Ok(()) => commands::run(cli).await,
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("artstore: {}", text(&error));
            let bus = error.downcast_ref::<BusError>();
            let usage = error.is::<ConfigError>() || bus.is_some_and(BusError::is_configuration);
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// `artstore … | head`: printing to a pipe that was closed is no fault to report, and no success.
fn end_quietly_where_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text
            .is_some_and(|t| t.starts_with("failed printing to std") && t.contains("os error 32"))
        {
            std::process::exit(NOBODY_READS);
        }
        usual(panic);
    }));
}

/// An error with its causes, each said once: many texts hold those of their causes already.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let database = cause.downcast_ref::<sqlx::Error>();
        let said = database.map_or_else(|| cause.to_string(), words);
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        // What is behind it are its own words again.
        if database.is_some() {
            break;
        }
    }
    text
}
