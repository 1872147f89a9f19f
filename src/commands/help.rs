//! `artstore help`: the help of a command, or of all settings at once.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Arg, Args, Command};

use crate::config::ConfigError;
use crate::names;

/// What about.
#[derive(Debug, Args)]
pub struct Help {
    /// A command, with those below it (projection list), or: settings
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,
}

/// Runs the command: shows a part of the definition of all commands.
pub fn run(command: &Help, mut of: Command) -> anyhow::Result<ExitCode> {
    if command.words == ["settings"] {
        for mut page in settings(of) {
            println!("{}", page.render_long_help());
        }
        return Ok(ExitCode::SUCCESS);
    }
    of.build();
    for word in &command.words {
        let Some(below) = of.find_subcommand(word) else {
            let there = of.get_subcommands().map(Command::get_name);
            let there = names::listed(there).unwrap_or_else(|| "none".to_owned());
            return Err(ConfigError(format!(
                "{} has no command {word:?}; there are: {there}",
                of.get_bin_name().unwrap_or("artstore")
            ))
            .into());
        };
        of = below.clone();
    }
    println!("{}", of.render_long_help());
    Ok(ExitCode::SUCCESS)
}

/// Every option that a variable sets too, once, below the command that has it. Options of different
/// commands may have one name: there are as many pages as that needs.
pub fn settings(mut all: Command) -> Vec<Command> {
    all.build();
    let first = page().before_help(
        "Every setting is an option, and a variable of the environment. An option wins over its \
         variable.",
    );
    let mut pages = vec![first];
    let mut seen = BTreeSet::new();
    collect(&all, "", &mut seen, &mut pages);
    if let Some(last) = pages.pop() {
        pages.push(last.after_help("NO_COLOR: where it has a value, nothing is coloured."));
    }
    pages
}

fn page() -> Command {
    Command::new("artstore-settings")
        .about("The settings of artstore, and the variables that set them")
        .help_template("{before-help}{all-args}{after-help}")
        .max_term_width(80)
        .disable_help_flag(true)
}

fn collect(command: &Command, path: &str, seen: &mut BTreeSet<String>, pages: &mut Vec<Command>) {
    for argument in command.get_arguments() {
        let Some(variable) = argument.get_env() else {
            continue;
        };
        if seen.insert(variable.to_string_lossy().into_owned()) {
            let heading = match path {
                "" => "For every command".to_owned(),
                path => format!("artstore {path}"),
            };
            let is_free = |page: &Command| {
                !page
                    .get_arguments()
                    .any(|of| of.get_id() == argument.get_id())
            };
            if !pages.iter().any(is_free) {
                pages.push(page());
            }
            if let Some(page) = pages.iter_mut().find(|page| is_free(page)) {
                let taken = std::mem::take(page);
                *page = taken.arg(shown(argument, heading));
            }
        }
    }
    for below in command.get_subcommands() {
        let path = format!("{path} {}", below.get_name());
        collect(below, path.trim_start(), seen, pages);
    }
}

fn shown(argument: &Arg, heading: String) -> Arg {
    argument
        .clone()
        .hide(false)
        .global(false)
        .help_heading(heading)
}
