//! The definition of the commands as they are parsed, shown, completed and printed: the derived one,
//! with a usage line that names no setting, and with a hint where the settings are.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::cli::Cli;
use crate::config::file_variable;

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
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    parsed(&arguments).map_err(|error| without_secrets(error, &arguments))
}

/// An error quotes what it does not know: no token, and no URL with a login.
fn without_secrets(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let text = error.render().to_string();
    let words = arguments.iter().filter_map(|word| word.to_str());
    let values = words.flat_map(|word| [Some(word), word.split_once('=').map(|(_, value)| value)]);
    let is_secret =
        |word: &&str| word.starts_with("eyJ") || word.contains("://") && word.contains('@');
    let shown = values
        .flatten()
        .filter(is_secret)
        .fold(text.clone(), |text, secret| {
            text.replace(secret, "(not shown)")
        });
    match shown == text {
        true => error,
        false => clap::Error::raw(error.kind(), shown.trim_start_matches("error: ")),
    }
}

fn parsed(arguments: &[OsString]) -> Result<Cli, clap::Error> {
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
    let own_files: Vec<String> = command.get_arguments().filter_map(variable).collect();
    let command = command.mut_args(|argument| names_its_file(argument, &own_files));
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

fn variable(argument: &Arg) -> Option<String> {
    Some(argument.get_env()?.to_str()?.to_owned())
}

/// A secret is a setting whose value no help shows. It can be in a file too, whose variable is named here,
/// unless that has an option of its own.
fn names_its_file(argument: Arg, variables: &[String]) -> Arg {
    let file = variable(&argument).map(|name| file_variable(&name));
    let file = file.filter(|file| argument.is_hide_env_values_set() && !variables.contains(file));
    match (file, argument.get_help()) {
        (Some(file), Some(help)) => {
            let help = format!("{help}; or in the file that {file} names");
            argument.help(help)
        }
        _ => argument,
    }
}
