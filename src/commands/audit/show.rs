//! `artstore audit tail` and `artstore audit show`: the log for people.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use artstore_projectors::audit_log::store::{Stored, stored};
use clap::Args;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, QueryBuilder};

use super::database::connected;
use crate::audit::select::{Bounds, Filters, checked, columns};
use crate::audit_keys::AuditSettings;
use crate::config::{Config, ConfigError};
use crate::signals::stop_signal;
use artstore_verification::audit::printed::{one_line, plain};
use artstore_verification::audit::shown::{RowChecker, Verdict};

/// How often new rows are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// The newest rows.
#[derive(Debug, Args)]
pub struct Tail {
    #[command(flatten)]
    filters: Filters,
    /// How many
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(i64).range(0..=100_000))]
    lines: i64,
    /// Show those that come, until it is stopped
    #[arg(long, short)]
    follow: bool,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

/// Runs `tail`.
pub async fn tail(config: &Config, command: &Tail) -> anyhow::Result<ExitCode> {
    let mut checker = RowChecker::new(command.audit.what_there_is()?);
    let mut connection = connected(config).await?;
    command.filters.check(&mut connection).await?;
    let stop = stop_signal()?;
    let mut shown = Bounds::now(&mut connection).await?;
    let mut newest = rows(&mut connection, command, &shown).await?;
    newest.reverse();
    let verdicts = checker.check(&mut connection, &newest).await?;
    print(&newest, &verdicts, command.json)?;
    if !command.follow {
        return Ok(checker.end());
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return Ok(checker.end()),
        }
        let now = Bounds::now(&mut connection).await?;
        if now != shown {
            // Before every id: one below 1 is nothing that the log gave, and is shown.
            let mut behind = i64::MIN;
            loop {
                let new = new_rows(&mut connection, command, (&shown, &now), behind).await?;
                let Some(last) = new.last() else {
                    break;
                };
                behind = last.id;
                let verdicts = checker.check(&mut connection, &new).await?;
                print(&new, &verdicts, command.json)?;
            }
            shown = now;
        }
    }
}

/// The newest ones, newest first.
async fn rows(
    connection: &mut PgConnection,
    command: &Tail,
    bounds: &Bounds,
) -> Result<Vec<Stored>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!(
        "select {} from public.audit_logs as log where true",
        columns()
    ));
    bounds.push(&mut query);
    command.filters.push(&mut query);
    query
        .push(" order by id desc limit ")
        .push_bind(command.lines);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}

/// Those that came between two moments, behind an id.
async fn new_rows(
    connection: &mut PgConnection,
    command: &Tail,
    (shown, now): (&Bounds, &Bounds),
    behind: i64,
) -> Result<Vec<Stored>, sqlx::Error> {
    let mut query = QueryBuilder::new(format!(
        "select {} from public.audit_logs as log where id > ",
        columns()
    ));
    query.push_bind(behind);
    now.push_since(shown, &mut query);
    command.filters.push(&mut query);
    query.push(" order by id limit 1000");
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(stored).collect()
}

fn print(rows: &[Stored], verdicts: &[Verdict], as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let colour = std::io::stdout().is_terminal();
    for (row, verdict) in rows.iter().zip(verdicts) {
        let written = match as_json {
            true => writeln!(out, "{}", checked(row, verdict)),
            false => writeln!(out, "{}", line(row, verdict, colour)),
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    out.flush()?;
    Ok(())
}

/// One row on one line.
fn line(stored: &Stored, verdict: &Verdict, colour: bool) -> String {
    let row = &stored.row;
    let time = row.time().map_or_else(String::new, |time| {
        time.format("%Y-%m-%d %H:%M:%S").to_string()
    });
    let who = row
        .actor_name
        .as_deref()
        .or(row.actor_id.as_deref())
        .unwrap_or(&row.actor_type);
    // A command acts for somebody: its event states who gave it.
    let who = match operator(stored) {
        Some(operator) => format!("{operator} ({who})"),
        None if is_verified(stored) => format!("{who} (verified)"),
        None => who.to_owned(),
    };
    let what = match (&row.resource_type, &row.resource_id) {
        (Some(kind), Some(id)) => format!("{kind} {id}"),
        (Some(kind), None) => kind.clone(),
        (None, _) => String::new(),
    };
    let severity = match (colour, row.severity.as_str()) {
        (true, "error" | "critical") => format!("\u{1b}[31m{:<7}\u{1b}[0m", row.severity),
        (true, "warning") => format!("\u{1b}[33m{:<7}\u{1b}[0m", row.severity),
        (_, other) => format!("{:<7}", one_line(other)),
    };
    let failed = match (&row.error_message, row.success) {
        (_, true) => String::new(),
        (Some(message), false) => format!("  failed: {}", one_line(message)),
        (None, false) => "  failed".to_owned(),
    };
    let wrong = match (verdict, colour) {
        (Verdict::Wrong(reason), true) => {
            format!(
                "  \u{1b}[31mNOT AS IT WAS SIGNED: {}\u{1b}[0m",
                one_line(reason)
            )
        }
        (Verdict::Wrong(reason), false) => format!("  NOT AS IT WAS SIGNED: {}", one_line(reason)),
        (Verdict::Unsigned, _) => "  (not signed)".to_owned(),
        (Verdict::Proven | Verdict::Unproven, _) => String::new(),
    };
    let line = format!(
        "{:>8}  {time}  {severity}  {:<18}  {:<12}  {}{failed}{wrong}",
        stored.id,
        one_line(&row.event_type),
        one_line(&who),
        one_line(&what),
    );
    line.trim_end().to_owned()
}

/// Whether a token stands behind the actor, by the word of whoever wrote the event.
fn is_verified(stored: &Stored) -> bool {
    let data = stored
        .row
        .data
        .as_deref()
        .map(serde_json::from_str::<Value>);
    data.and_then(Result::ok)
        .is_some_and(|data| data["_event"]["actor_identity"] == "verified")
}

/// Who gave the command whose event this is.
fn operator(stored: &Stored) -> Option<String> {
    let row = &stored.row;
    let data: Value = serde_json::from_str(row.data.as_deref()?).ok()?;
    let name = match row.event_type.as_str() {
        // A relay's own records.
        "source_accepted" | "source_damage_accepted" => "/operation/data/json/accepted_by",
        _ => "/operator/name",
    };
    let name = data.pointer(name)?.as_str()?;
    (row.actor_type == "system").then(|| name.to_owned())
}

/// One row.
#[derive(Debug, Args)]
pub struct Show {
    /// Its id
    id: i64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    audit: AuditSettings,
}

/// Reads one row by its id.
pub(super) async fn by_id(connection: &mut PgConnection, id: i64) -> anyhow::Result<Stored> {
    let sql = format!("select {} from public.audit_logs where id = $1", columns());
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    let row = row.ok_or_else(|| ConfigError(format!("there is no row {id} in audit_logs")))?;
    Ok(stored(&row)?)
}

/// Runs `show`.
pub async fn show(config: &Config, command: &Show) -> anyhow::Result<ExitCode> {
    let mut checker = RowChecker::new(command.audit.what_there_is()?);
    let mut connection = connected(config).await?;
    let row = by_id(&mut connection, command.id).await?;
    let verdicts = checker
        .check(&mut connection, std::slice::from_ref(&row))
        .await?;
    let verdict = verdicts.first().unwrap_or(&Verdict::Unproven);
    let object = checked(&row, verdict);
    if command.json {
        println!("{object:#}");
        return Ok(checker.end());
    }
    if let Some(reason) = verdict.wrong() {
        println!("NOT AS IT WAS SIGNED: {}", one_line(reason));
    }
    let order = [
        "id",
        "created_at",
        "event_type",
        "severity",
        "success",
        "error_message",
        "action",
        "actor_type",
        "actor_id",
        "actor_name",
        "actor_role",
        "resource_type",
        "resource_id",
        "ip_address",
        "user_agent",
        "request_id",
        "session_id",
        "event_id",
        "stream",
        "sequence",
        "mapping",
        "format",
        "kid",
        "hmac_signature",
    ];
    for name in order {
        match &object[name] {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => println!("{name:<15} {}", one_line(text)),
            other => println!("{name:<15} {other}"),
        }
    }
    if !object["data"].is_null() {
        println!("data");
        for line in format!("{:#}", object["data"]).lines() {
            println!("  {}", plain(line));
        }
    }
    if *verdict == Verdict::Unsigned {
        println!("A row of the product's own: nothing can verify it.");
    }
    Ok(checker.end())
}

#[cfg(test)]
mod tests {
    use artstore_projectors::audit_log::row::Row;

    use super::*;

    #[test]
    fn a_row_is_one_line_whatever_others_wrote_into_it() {
        let evil = "x\u{1b}[2J\ny\u{9b}1m".to_owned();
        let row = Row {
            mapping: 1,
            stream: evil.clone(),
            sequence: 1,
            event_id: None,
            event_type: evil.clone(),
            severity: evil.clone(),
            actor_type: evil.clone(),
            actor_id: Some(evil.clone()),
            actor_name: Some(evil.clone()),
            actor_role: None,
            resource_type: Some(evil.clone()),
            resource_id: Some(evil.clone()),
            action: evil.clone(),
            ip_address: None,
            user_agent: None,
            request_id: None,
            session_id: None,
            data: None,
            success: false,
            error_message: Some(evil),
            created_at: i64::MAX,
        };
        let stored = Stored {
            id: -7,
            format: 1,
            row,
            account_ids: (None, None),
            kid: String::new(),
            hmac_signature: String::new(),
            broken: None,
        };
        let evil = line(&stored, &Verdict::Wrong("x".to_owned()), false);
        assert!(evil.ends_with("NOT AS IT WAS SIGNED: x"), "{evil}");
        assert!(!evil.chars().any(char::is_control), "{evil:?}");
        assert_eq!(evil.matches("x·[2J·y·1m").count(), 6, "{evil}");

        // Who gave a command is shown beside it; no user's event can state that about itself.
        let mut stored = stored;
        stored.row.actor_name = Some("artstore projection pause".to_owned());
        stored.row.data = Some(r#"{"operator":{"name":"vera\u001b","host":"h"}}"#.to_owned());
        assert!(!line(&stored, &Verdict::Unproven, false).contains("vera"));
        stored.row.actor_type = "system".to_owned();
        let named = line(&stored, &Verdict::Unproven, false);
        assert!(
            named.contains("vera· (artstore projection pause)"),
            "{named}"
        );
        stored.row.event_type = "source_damage_accepted".to_owned();
        let data = r#"{"operation":{"data":{"json":{"accepted_by":"ivan"}}}}"#;
        stored.row.data = Some(data.to_owned());
        let named = line(&stored, &Verdict::Unproven, false);
        assert!(named.contains("ivan (artstore"), "{named}");

        stored.row.actor_type = "user".to_owned();
        stored.row.actor_name = Some("ann".to_owned());
        for (identity, shown) in [("verified", "ann (verified)"), ("claimed", "ann  ")] {
            let data = format!(r#"{{"_event":{{"actor_identity":"{identity}"}}}}"#);
            stored.row.data = Some(data);
            let line = line(&stored, &Verdict::Unproven, false);
            assert!(line.contains(shown), "{line}");
        }
    }
}
