//! The definition of the commands as they are parsed, shown, completed and printed: the derived one,
//! with a usage line that names no setting, and with a hint where the settings are.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::cli::Cli;

/// Stands below every command's help.
const SETTINGS: &str = "Settings, with their environment variables: artstore help settings";

/// The definition.
pub fn definition() -> Command {
    let mut built = Cli::command();
    // Only then does each command know its whole name.
    built.build();
    finished(Cli::command(), &built)
}

/// The command line, or how it is wrong.
pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Cli, clap::Error> {
    let matches = definition().try_get_matches_from(arguments)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.config.element_is_asked = is_asked(&matches);
    Ok(cli)
}

/// A global option belongs to the command behind which it stands, and to those above.
fn is_asked(matches: &ArgMatches) -> bool {
    let here = matches.value_source("element") == Some(ValueSource::CommandLine);
    here || matches
        .subcommand()
        .is_some_and(|(_, below)| is_asked(below))
}

fn finished(command: Command, built: &Command) -> Command {
    // An error's own usage line names whatever was given, and a variable counts as given.
    let usage = built.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let command = command.override_usage(usage).after_help(SETTINGS);
    let names: Vec<String> = command
        .get_subcommands()
        .map(|below| below.get_name().to_owned())
        .collect();
    names.into_iter().fold(command, |command, name| {
        let below = built
            .find_subcommand(&name)
            .expect("it was built from this");
        command.mut_subcommand(&name, |of| finished(of, below))
    })
}
