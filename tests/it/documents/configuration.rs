//! `docs/configuration.md` lists every setting as the program has it. `ARTSTORE_UPDATE=1` writes the list
//! instead of comparing it.

use artstore::commands::definition::definition;
use clap::{Arg, Command};

use crate::support::repository::{repository, text};

const PAGE: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- generated: settings -->\n";
const END: &str = "<!-- end of generated -->";

#[test]
fn the_page_of_settings_is_as_the_program_has_them() {
    let page = text(PAGE);
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    let wanted = list();
    if std::env::var_os("ARTSTORE_UPDATE").is_some() {
        let page = format!("{before}{BEGIN}{wanted}{END}{after}");
        std::fs::write(repository(PAGE), page).unwrap();
        return;
    }
    assert!(
        listed == wanted,
        "{PAGE} is not what the program has: run \
         ARTSTORE_UPDATE=1 cargo test --test it documents::configuration\n{wanted}"
    );
}

/// A setting, and the commands for which it means this.
struct Setting {
    variable: String,
    option: String,
    default: String,
    meaning: String,
    commands: Vec<String>,
}

/// Two tables: the settings of every command, and those of some.
fn list() -> String {
    let mut all = definition();
    all.build();
    let mut settings = Vec::new();
    collect(&all, "", &mut settings);
    let mut everywhere = String::from(
        "\n## For every command\n\n| variable | option | default | meaning |\n|---|---|---|---|\n",
    );
    let mut some = String::from(
        "\n## For some commands\n\n| variable | option | default | commands | meaning |\n\
         |---|---|---|---|---|\n",
    );
    for setting in settings {
        let Setting {
            variable,
            option,
            default,
            meaning,
            commands,
        } = setting;
        let begin = format!("| `{variable}` | `--{option}` | {default} |");
        if commands.iter().any(String::is_empty) {
            everywhere += &format!("{begin} {meaning} |\n");
        } else {
            some += &format!("{begin} {} | {meaning} |\n", commands.join(", "));
        }
    }
    format!("{everywhere}{some}\n")
}

fn collect(command: &Command, path: &str, settings: &mut Vec<Setting>) {
    for argument in command.get_arguments() {
        let Some(variable) = argument.get_env() else {
            continue;
        };
        if !path.is_empty() && argument.is_global_set() {
            continue;
        }
        let variable = variable.to_str().unwrap().to_owned();
        let meaning = meaning(argument);
        let shown = match path {
            "" => String::new(),
            path => format!("`{path}`"),
        };
        let known = settings
            .iter_mut()
            .find(|known| known.variable == variable && known.meaning == meaning);
        match known {
            Some(known) => known.commands.push(shown),
            None => settings.push(Setting {
                variable,
                option: argument.get_long().unwrap().to_owned(),
                default: default(argument),
                meaning,
                commands: vec![shown],
            }),
        }
    }
    for below in command.get_subcommands() {
        let path = format!("{path} {}", below.get_name());
        collect(below, path.trim_start(), settings);
    }
}

fn default(argument: &Arg) -> String {
    let values = argument.get_default_values().iter();
    let values: Vec<String> = values
        .map(|value| format!("`{}`", value.to_str().unwrap()))
        .collect();
    values.join(", ")
}

/// What its help says, and the values that it takes.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let is_choice = argument.get_action().takes_values() && !values.is_empty();
    let values = match is_choice {
        true => format!(": {}", values.join(", ")),
        false => String::new(),
    };
    format!("{help}{values}")
        .replace('|', "\\|")
        .replace('<', "\\<")
}
