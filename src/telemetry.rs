//! Logs: to standard error, as text for people or JSON for programs.

use std::io::IsTerminal as _;

use chrono::{SecondsFormat, Utc};
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError, LogFormat};

/// Starts logging. Libraries are logged from `warn` on, or as loud as ours when that is louder
/// than `info`.
pub fn start(config: &Config, usual_level: &str) -> Result<(), ConfigError> {
    let level = config.log_level.as_deref().unwrap_or(usual_level);
    let level = level.to_lowercase();
    if !["error", "warn", "warning", "info", "debug", "trace"].contains(&level.as_str()) {
        return Err(ConfigError(format!(
            "LOG_LEVEL: {level:?} is not known; expected error, warn, info, debug or trace"
        )));
    }
    let level = level.replace("warning", "warn");
    let libraries = match level.as_str() {
        "debug" | "trace" => "info",
        "error" => "error",
        _ => "warn",
    };
    // `artstore` means every crate of ours, as a prefix. The NATS client's errors come back to us as results
    // and events: once is enough. The parser of database URLs logs what it does not know, with its value.
    let filter = format!("{libraries},async_nats=off,sqlx_postgres::options=off,artstore={level}");
    let logs = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}

/// The format of log lines where the settings as a whole can't be read.
pub fn asked_for() -> LogFormat {
    let mut words = std::env::args().skip_while(|word| !word.starts_with("--log-format"));
    let option = words.next().and_then(|word| match word.split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => words.next(),
    });
    match option.or_else(|| std::env::var("LOG_FORMAT").ok()) {
        Some(format) if format == "json" => LogFormat::Json,
        Some(_) | None => LogFormat::Text,
    }
}

/// A text with what steers a terminal written out: an error can quote what somebody put into a file or a row.
fn without_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push(character),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// Why the program ends: the last line on standard error, in the format of the log before it. It is logged
/// whatever the level is, and also where logging could not be started.
pub fn fatal(format: LogFormat, text: &str) {
    match format {
        LogFormat::Text => eprintln!("artstore: {}", without_controls(text)),
        LogFormat::Json => {
            let line = json!({
                "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
                "level": "ERROR",
                "message": text,
                "target": "artstore",
            });
            eprintln!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_steer_the_terminal() {
        assert_eq!(
            without_controls("a\u{1b}[2J\u{9b}31m\r\nпуть"),
            "a\\u{1b}[2J\\u{9b}31m\\r\nпуть"
        );
    }
}
