//! `artstore dev`: the whole system on a private NATS and PostgreSQL, until Ctrl-C.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::stop_signal;
use crate::stack::StackOptions;
use crate::system::{ADMIN_DATABASE, QUERY_DATABASE, Running, System, database};

/// How to run it.
#[derive(Debug, Args)]
pub struct Dev {
    /// Keep the data in this folder, for this start and the next; without it, it is removed at the end
    #[arg(long)]
    state: Option<PathBuf>,
    /// How many storage elements there are
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    element_count: u8,
}

/// Runs the command.
pub async fn run(command: Dev) -> anyhow::Result<ExitCode> {
    let mut stop = stop_signal()?;
    let options = StackOptions {
        state: command.state.clone(),
        ..StackOptions::default()
    };
    let system = System::start(options, command.element_count.into()).await?;
    let mut running = Running::default();
    system.start_relays(&mut running)?;
    system.start_projector(&mut running)?;
    system.start_audit_log(&mut running)?;
    show(&system);
    let failed = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => None,
        error = running.failure() => Some(error),
    };
    running.stop().await?;
    system.stop().await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// What is needed to connect, as a shell reads it.
fn show(system: &System) {
    let elements: Vec<String> = system
        .elements
        .iter()
        .map(|element| {
            format!(
                "{element}={}",
                system.stack.database_url(&database(element))
            )
        })
        .collect();
    println!("Everything runs. To connect from another terminal:\n");
    println!("export NATS_URL='{}'", system.stack.nats_url(0));
    println!(
        "export ADMIN_DATABASE_URL='{}'",
        system.stack.database_url(ADMIN_DATABASE)
    );
    println!(
        "export QUERY_DATABASE_URL='{}'",
        system.stack.database_url(QUERY_DATABASE)
    );
    println!("export ARTSTORE_ELEMENTS='{}'", elements.join(","));
    let audit = &system.audit;
    println!("export SECURITY_AUDIT_HMAC_SECRET='{}'", audit.secret);
    println!(
        "export SECURITY_AUDIT_SIGNING_KEY_PATH='{}'",
        audit.signing_key.display()
    );
    println!(
        "export SECURITY_AUDIT_VERIFIER_KEYS_PATH='{}'",
        audit.verifier_keys.display()
    );
    println!("\nThe data is in {}.", system.stack.directory().display());
    println!("Press Ctrl-C to stop.");
}
