//! `artstore man`: a manual page of each command, and one of all settings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man as Page;

use super::help::settings;

/// Where to.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder, which is made where it is missing: man artstore, man artstore-projection-list, man
    /// artstore-settings
    folder: PathBuf,
}

/// Runs the command, for the definition of all commands.
pub fn run(command: &Man, definition: Command) -> anyhow::Result<ExitCode> {
    let folder = &command.folder;
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut all = definition.clone();
    all.build();
    write(folder, "artstore", &all)?;
    let mut pages = settings(definition).into_iter().map(Page::new);
    let mut text = Vec::new();
    if let Some(first) = pages.next() {
        first.render(&mut text)?;
    }
    for more in pages {
        more.render_options_section(&mut text)?;
    }
    save(folder, "artstore-settings", &text)?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, name: &str, command: &Command) -> anyhow::Result<()> {
    for below in command
        .get_subcommands()
        .filter(|of| of.get_name() != "help")
    {
        write(folder, &format!("{name}-{}", below.get_name()), below)?;
    }
    let mut page = Vec::new();
    let command = command.clone().name(name.to_owned());
    Page::new(command).render(&mut page)?;
    save(folder, name, &page)
}

fn save(folder: &Path, name: &str, page: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(format!("{name}.1"));
    std::fs::write(&path, page).with_context(|| path.display().to_string())
}
