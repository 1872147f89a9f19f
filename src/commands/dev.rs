//! `artstore dev`: the whole system on a private NATS and PostgreSQL, until Ctrl-C.

mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;

use crate::signals::stop_signal;
use crate::system::{ADMIN_DATABASE, QUERY_DATABASE, Running, System, database};
use artstore_stack::{Stack, StackOptions};

/// How often it is looked whether the servers still run.
const GLANCE: Duration = Duration::from_millis(200);

/// How long the parts may take to end where a server is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to run it.
#[derive(Debug, Args)]
pub struct Dev {
    /// Keep the data in this folder, for this start and the next, on the same ports; without it, it is
    /// removed at the end
    #[arg(long)]
    state: Option<PathBuf>,
    /// NATS listens on this port, and PostgreSQL on the one behind it
    #[arg(long, value_parser = clap::value_parser!(u16).range(1_024..65_535))]
    port: Option<u16>,
    /// How many storage elements there are
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    element_count: u8,
    /// Put some files in, for searches to find
    #[arg(long)]
    sample: bool,
}

/// Runs the command.
pub async fn run(command: Dev) -> anyhow::Result<ExitCode> {
    let stop = stop_signal()?;
    let options = StackOptions {
        state: command.state.clone(),
        port: command.port,
        ..StackOptions::default()
    };
    let system = System::start(options, command.element_count.into()).await?;
    let mut running = Running::default();
    system.start_relays(&mut running).await?;
    system.start_projector(&mut running).await?;
    system.start_audit_log(&mut running).await?;
    let last = match command.sample {
        true => Some(sample::put_in(&system).await?),
        false => None,
    };
    show(&system, last)?;
    let failed = tokio::select! {
        () = stop.cancelled() => None,
        error = running.failure() => Some(error),
        died = died(&system.stack) => Some(died),
    };
    // A part that fails because its server is gone is not what has failed.
    let died = system.stack.ended().map(|died| anyhow!(died));
    if let Some(died) = died {
        // What can't be reached any more can't be left in order either.
        let _ = tokio::time::timeout(PATIENCE, running.stop()).await;
        system.stack.stop().await?;
        return Err(died);
    }
    running.stop().await?;
    system.stop().await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn died(stack: &Stack) -> anyhow::Error {
    loop {
        if let Some(died) = stack.ended() {
            return anyhow!(died);
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// What is needed to connect, as a shell reads it: printed, and in a file.
fn show(system: &System, sample: Option<String>) -> anyhow::Result<()> {
    let variables = variables(system);
    let file = system.stack.directory().join("env");
    write(&file, &variables)?;
    println!("Everything runs. To connect from another terminal:\n");
    print!("{variables}");
    println!("\nor, the same:\n\nsource {}", quoted(&file));
    println!("\nTry this next:\n");
    println!("artstore status");
    match sample {
        Some(last) => {
            println!("artstore search отчёт --extension pdf --username ivanova");
            println!("artstore search 50%_off --mode partial --sort created_at");
            println!("artstore search --tag urgent --min-size 10M --json");
            println!("artstore search \"annual report\" --at-least {last}");
            println!("artstore audit tail");
        }
        None => println!("artstore dev --sample                # with some files to search"),
    }
    println!("artstore verify");
    println!("\nThe data is in {}.", system.stack.directory().display());
    println!("Press Ctrl-C to stop.");
    Ok(())
}

fn variables(system: &System) -> String {
    let of_elements = |value: &dyn Fn(&artstore_schemas::element::ElementName) -> String| {
        let all = system.elements.iter();
        let all: Vec<String> = all
            .map(|element| format!("{element}={}", value(element)))
            .collect();
        all.join(",")
    };
    let audit = &system.audit;
    let all = [
        ("NATS_URL", system.stack.nats_reader_url()),
        (
            "NATS_CREDENTIALS",
            system.stack.nats_keys().display().to_string(),
        ),
        (
            "ADMIN_DATABASE_URL",
            system.stack.database_url(ADMIN_DATABASE),
        ),
        (
            "QUERY_DATABASE_URL",
            system.stack.database_url(QUERY_DATABASE),
        ),
        (
            "ARTSTORE_ELEMENTS",
            of_elements(&|element| system.stack.database_url(&database(element))),
        ),
        (
            "ARTSTORE_ELEMENT_API_URLS",
            of_elements(&|element| System::api_url(element)),
        ),
        (
            "SECURITY_AUDIT_HMAC_SECRET",
            audit.secret.expose().to_owned(),
        ),
        (
            "SECURITY_AUDIT_SIGNING_KEY_PATH",
            audit.signing_key.display().to_string(),
        ),
        (
            "SECURITY_AUDIT_VERIFIER_KEYS_PATH",
            audit.verifier_keys.display().to_string(),
        ),
        // Private servers: whoever has this file may do everything.
        ("AUTH_REQUIRED", "false".to_owned()),
    ];
    let lines =
        all.map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', "'\\''")));
    lines.concat()
}

/// It has passwords: only its owner reads it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    artstore_stack::write_private(path, text.as_bytes())
        .with_context(|| format!("can't write {}", path.display()))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
