//! The program `artstore`. Exit codes: 0 fine, 1 a check found a difference or the command
//! failed, 2 usage or configuration.

use std::process::ExitCode;
use std::sync::OnceLock;

use artstore::commands::{self, definition};
use artstore::config::{ConfigError, LogFormat};
use artstore::error_text::error_text;
use artstore::telemetry;
use artstore::troubleshooting::with_section;
use artstore_bus::bus_error::BusError;

/// As the shell reports a program that ended because nobody reads its output any more.
const NOBODY_READS: i32 = 141;

/// The format of log lines, once it is known.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

#[tokio::main]
async fn main() -> ExitCode {
    watch_panics();
    let cli = match definition::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && telemetry::asked_for() == LogFormat::Json => {
            telemetry::fatal(LogFormat::Json, error.to_string().trim_end());
            return ExitCode::from(2);
        }
        // Help and version too.
        Err(error) => error.exit(),
    };
    let format = *FORMAT.get_or_init(|| cli.config.log_format);
    artstore::operator::name(cli.config.operator.clone());
    let ended = match telemetry::start(&cli.config, cli.command.usual_log_level()) {
        Ok(()) => commands::run(cli).await,
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            telemetry::fatal(format, &with_section(&error_text(&error)));
            let bus = error.downcast_ref::<BusError>();
            let usage = error.is::<ConfigError>() || bus.is_some_and(BusError::is_configuration);
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// `artstore … | head`: printing to a pipe that was closed is no fault to report, and no success. Any
/// other panic is reported in the format of the log.
fn watch_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text
            .is_some_and(|t| t.starts_with("failed printing to std") && t.contains("os error 32"))
        {
            std::process::exit(NOBODY_READS);
        }
        match FORMAT.get() {
            Some(LogFormat::Json) => telemetry::fatal(LogFormat::Json, &panic.to_string()),
            Some(LogFormat::Text) | None => usual(panic),
        }
    }));
}
