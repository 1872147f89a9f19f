//! `artstore completion`: a script for the shell, from the definition of the commands.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// For which shell.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell: source <(artstore completion bash)
    #[arg(value_enum)]
    shell: Shells,
}

/// Shells that we have tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shells {
    Bash,
    Zsh,
    Fish,
}

/// Runs the command, for the definition of all commands.
pub fn run(command: &Completion, mut definition: clap::Command) -> anyhow::Result<ExitCode> {
    let shell = match command.shell {
        Shells::Bash => Shell::Bash,
        Shells::Zsh => Shell::Zsh,
        Shells::Fish => Shell::Fish,
    };
    // Written at once: the generator panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition, "artstore", &mut script);
    match std::io::stdout().write_all(&script) {
        // Whoever reads it has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}
