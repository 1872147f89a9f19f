//! `artstore wal pending` and `artstore wal resolve`: operations whose process died before it
//! finished them, listed with the state of `_files`, and finished by an operator's decision. The modules
//! below number and prune an element's log.

mod elements;
mod number;
mod prune;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use artstore_producers::operations::pending::{self, Limits, Pending, Proposal};
use artstore_producers::operations::resolve::{self, Refused, Resolution, Resolved};
use artstore_schemas::element::ElementName;
use artstore_schemas::event::Status;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::Attempt;
use crate::config::{Config, ConfigError};
use crate::operator;
use elements::{Connected, check_reason, connect, duration};

/// What to do about pending operations.
#[derive(Debug, Subcommand)]
pub enum Wal {
    /// List the operations that are pending, the oldest first, with what _files says of each
    Pending(List),
    /// Finish operations whose process is dead
    Resolve(Resolve),
    /// Give finished rows a position that have none, because the trigger was off
    Number(number::Number),
    /// Remove finished operations that the stream holds, the oldest first
    Prune(prune::Prune),
}

/// Which operations.
#[derive(Debug, Args)]
pub struct List {
    /// An operation that began later may still be running: nothing is proposed for it (90s, 15m,
    /// 1h, 2d)
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    older_than: Duration,
    /// The most operations of each element
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
    /// Exit with 1 where there is one older than --older-than
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which operations, and how they end.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("outcome").required(true).args(["as", "proposed"]))]
pub struct Resolve {
    /// The operations, as `wal pending` lists them; with --proposed and none, all
    #[arg(value_name = "TRANSACTION_ID", required_unless_present = "proposed")]
    operations: Vec<Uuid>,
    /// How they end
    #[arg(long = "as", id = "as", value_name = "OUTCOME", value_enum)]
    outcome: Option<Outcome>,
    /// Each as proposed, where that is certain
    #[arg(long)]
    proposed: bool,
    /// Why: it is kept in the row and travels with the event
    #[arg(long)]
    reason: Option<String>,
    /// An operation that began later may still be running: it is refused without --force
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    older_than: Duration,
    /// Also where the process may be alive: younger ones, and while long transactions are open
    #[arg(long)]
    force: bool,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Outcome {
    /// It took effect
    Committed,
    /// It did not work
    Failed,
    /// It was rolled back
    #[value(alias = "rolled_back")]
    RolledBack,
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Committed => Self::Committed,
            Outcome::Failed => Self::Failed,
            Outcome::RolledBack => Self::RolledBack,
        }
    }
}

impl Wal {
    /// What it does that needs a right. Without --yes, or with --dry-run, it only shows.
    pub fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Pending(_) => None,
            Self::Resolve(command) => {
                (!command.dry_run).then(|| Attempt::on_source("wal resolve", None))
            }
            Self::Number(command) => {
                let source = command.source().to_string();
                let attempt = || Attempt::on_source("wal number", Some(&source));
                command.changes().then(attempt)
            }
            Self::Prune(command) => command
                .changes()
                .then(|| Attempt::on_source("wal prune", None)),
        }
    }
}

/// Runs the command.
pub async fn run(config: &Config, command: Wal) -> anyhow::Result<ExitCode> {
    match command {
        Wal::Pending(list) => run_pending(config, &list).await,
        Wal::Resolve(resolve) => run_resolve(config, &resolve).await,
        Wal::Number(number) => number::run(config, &number).await,
        Wal::Prune(prune) => prune::run(config, &prune).await,
    }
}

async fn run_pending(config: &Config, list: &List) -> anyhow::Result<ExitCode> {
    let limits = limits(list.older_than);
    let mut report = Vec::new();
    let mut left = false;
    for (element, mut connection) in connect(config).await? {
        let found = pending::list(&mut connection, &element, limits, list.limit)
            .await
            .with_context(|| unreadable(&element))?;
        left |= found.iter().any(|pending| pending.age >= list.older_than);
        if list.json {
            report.extend(found.iter().map(|pending| as_json(&element, pending)));
        } else {
            show(&element, &found, list.limit);
        }
    }
    if list.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if left {
        println!(
            "\nTo finish what was left behind, each as proposed: `artstore wal resolve --proposed`; it \
             shows them and asks first."
        );
    }
    Ok(ExitCode::from(u8::from(list.check && left)))
}

async fn run_resolve(config: &Config, command: &Resolve) -> anyhow::Result<ExitCode> {
    check_reason(command.reason.as_deref())?;
    let asks = !command.yes && !command.dry_run;
    if asks && (command.json || !std::io::stdin().is_terminal()) {
        return Err(ConfigError(
            "wal resolve asks before it changes anything, and there is nobody to ask: add --yes, \
             or --dry-run to see what it would do"
                .to_owned(),
        )
        .into());
    }
    let limits = limits(command.older_than);
    let mut elements = connect(config).await?;
    let operations = match command.operations.as_slice() {
        [] => proposed(&mut elements, limits).await?,
        some => some.to_vec(),
    };
    let mut decision = Resolution {
        outcome: command.outcome.map(Status::from),
        actor: operator::actor("wal resolve"),
        reason: command.reason.clone(),
        force: command.force,
        dry_run: true,
    };
    if operations.is_empty() && !command.json {
        println!("no pending operation has a certain proposal");
    }
    if asks && !operations.is_empty() {
        for id in &operations {
            let (element, ended) = resolve_one(&mut elements, *id, limits, &decision).await;
            print_outcome(element.as_ref(), *id, &ended);
        }
        if !agreed(operations.len())? {
            println!("nothing was changed");
            return Ok(ExitCode::SUCCESS);
        }
    }
    decision.dry_run = command.dry_run;
    let mut report = Vec::new();
    let mut refused = false;
    for id in operations {
        let (element, ended) = resolve_one(&mut elements, id, limits, &decision).await;
        refused |= ended.is_err();
        if command.json {
            report.push(result_json(element.as_ref(), id, &ended));
        } else {
            print_outcome(element.as_ref(), id, &ended);
        }
    }
    if command.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::from(u8::from(refused)))
}

fn limits(older_than: Duration) -> Limits {
    Limits {
        older_than,
        ..Limits::default()
    }
}

fn unreadable(element: &ElementName) -> String {
    format!(
        "element {element}: its operations can't be listed; is it this element's database, is it \
         migrated (`artstore migrate status`), and may this role read {element}_wal and \
         {element}_files?"
    )
}

/// Every operation whose proposal is certain.
async fn proposed(elements: &mut [Connected], limits: Limits) -> anyhow::Result<Vec<Uuid>> {
    let mut operations = Vec::new();
    for (element, connection) in elements {
        let found = pending::list(connection, element, limits, i64::MAX)
            .await
            .with_context(|| unreadable(element))?;
        let certain = found
            .iter()
            .filter(|pending| matches!(pending.proposal, Proposal::Certain(..)));
        operations.extend(certain.map(|pending| pending.id));
    }
    Ok(operations)
}

/// On the element that has it.
async fn resolve_one(
    elements: &mut [Connected],
    id: Uuid,
    limits: Limits,
    decision: &Resolution,
) -> (Option<ElementName>, Result<Resolved, Refused>) {
    let mut unknown = None;
    for (element, connection) in elements {
        match resolve::resolve(connection, element, id, limits, decision).await {
            Err(Refused::Unknown(at)) => unknown = Some(at),
            ended => return (Some(element.clone()), ended),
        }
    }
    let at = unknown.expect("there is at least one element");
    (None, Err(Refused::Unknown(at)))
}

fn agreed(count: usize) -> anyhow::Result<bool> {
    print!("Resolve {count} as shown, but for those refused? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn show(element: &ElementName, found: &[Pending], limit: i64) {
    let more = i64::try_from(found.len()).is_ok_and(|shown| shown == limit);
    let more = if more {
        " shown, maybe more (--limit)"
    } else {
        ""
    };
    println!("{element}: {} pending{more}", found.len());
    for pending in found {
        println!(
            "\n  {}  {}  {} old{}",
            pending.id,
            pending.operation_type,
            span(pending.age),
            if pending.ours {
                ""
            } else {
                ", not of this program's API"
            },
        );
        let user = pending.user_id.as_deref().unwrap_or("nobody");
        let began = pending.started_at.format("%F %T UTC");
        println!("    {:<9} {began}, asked for by {user}", "began");
        println!("    {:<9} {}", "in _files", file(pending));
        let (label, reason) = (pending.proposal.label(), pending.proposal.reason());
        println!("    {:<9} {label}: {reason}", "proposal");
    }
}

fn file(pending: &Pending) -> String {
    let Some(file) = &pending.file else {
        return match pending.file_id {
            Some(id) => format!("no file {id}"),
            None => "(the operation names no file)".to_owned(),
        };
    };
    let since = file.updated_at - pending.started_at;
    let (span, side) = match since.to_std() {
        Ok(after) => (span(after), "after"),
        Err(_) => (span((-since).to_std().unwrap_or_default()), "before"),
    };
    let checksum = match file.checksum.get(..12) {
        Some(start) => format!("checksum {start}…"),
        None => format!("checksum {:?}", file.checksum),
    };
    format!(
        "{} {:?}, {} bytes, {checksum}, changed {span} {side} the operation began",
        file.id, file.original_filename, file.file_size
    )
}

fn print_outcome(element: Option<&ElementName>, id: Uuid, ended: &Result<Resolved, Refused>) {
    let place = element.map_or_else(String::new, |element| format!("{element} "));
    match ended {
        Ok(Resolved {
            outcome,
            reason,
            position,
            ..
        }) => {
            let outcome = outcome.as_str();
            match position {
                Some(position) => {
                    println!("{place}{id}  {outcome} at position {position}: {reason}")
                }
                None => println!("{place}{id}  would be {outcome}: {reason}"),
            }
        }
        Err(refused) => println!("{place}{id}  refused: {}", refusal(refused)),
    }
}

fn refusal(refused: &Refused) -> String {
    match refused {
        // All were checked, not only the last.
        Refused::Unknown(_) => "no configured element has such an operation".to_owned(),
        other => other.to_string(),
    }
}

fn as_json(element: &ElementName, pending: &Pending) -> Value {
    let (proposal, status) = match &pending.proposal {
        Proposal::Certain(status, _) => ("certain", Some(status.as_str())),
        Proposal::Unclear(_) => ("unclear", None),
        Proposal::MayBeRunning(_) => ("may-be-running", None),
    };
    json!({
        "element": element,
        "transaction_id": pending.id,
        "operation_type": pending.operation_type,
        "file_id": pending.file_id,
        "user_id": pending.user_id,
        "started_at": pending.started_at.to_rfc3339(),
        "age_seconds": pending.age.as_secs(),
        "ours": pending.ours,
        "file": pending.file.as_ref().map(|file| json!({
            "file_id": file.id,
            "original_filename": file.original_filename,
            "storage_filename": file.storage_filename,
            "file_size": file.file_size,
            "checksum": file.checksum,
            "updated_at": file.updated_at.to_rfc3339(),
            "changed_since": file.updated_at >= pending.started_at,
        })),
        "proposal": proposal,
        "status": status,
        "reason": pending.proposal.reason(),
    })
}

fn result_json(
    element: Option<&ElementName>,
    id: Uuid,
    ended: &Result<Resolved, Refused>,
) -> Value {
    match ended {
        Ok(resolved) => json!({
            "element": element,
            "transaction_id": id,
            "result": if resolved.position.is_some() { "resolved" } else { "would-resolve" },
            "status": resolved.outcome,
            "reason": resolved.reason,
            "position": resolved.position,
        }),
        Err(refused) => json!({
            "element": element,
            "transaction_id": id,
            "result": "refused",
            "refusal": refusal(refused),
        }),
    }
}

/// The two largest parts: `2 d 3 h`, `5 min 1 s`.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2);
    let shown = shown.map(|(count, unit)| format!("{count} {unit}"));
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_shown_in_two_parts() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in [
            "",
            "5",
            "h",
            "-1h",
            "1.5h",
            "1 h",
            "1w",
            "5é",
            "99999999999999999999d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(span(Duration::from_secs(301)), "5 min 1 s");
        assert_eq!(span(Duration::from_secs(90_000)), "1 d 1 h");
        assert_eq!(span(Duration::ZERO), "0 s");
    }
}
