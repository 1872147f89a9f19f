//! `artstore migrate adopt`: takes over what the product created. All databases are checked before
//! the first is changed.

use artstore_runtime::count::{by, counted};
use std::process::ExitCode;

use artstore_migrations::{Adoption, Effect, Module, OLD_ROWS_ORDER, Origin, Step};
use clap::Args;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;

use super::target::{ModuleName, connect, name, name_server, targets};
use crate::config::Config;

/// What to adopt, and how far to go.
#[derive(Debug, Args)]
pub struct Adopt {
    /// Only this module; without it, every module whose database is configured
    #[arg(long, value_enum)]
    module: Option<ModuleName>,
    /// Go on with `migrate up` afterwards
    #[arg(long)]
    up: bool,
    /// Only say what differs and show the SQL; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing was changed: something blocks, here or in another database.
    Refused,
    /// It could be adopted; it was only looked at.
    Possible,
    Adopted,
    /// It was ours before.
    Ours,
}

/// Runs the command.
pub async fn run(config: &Config, command: &Adopt) -> anyhow::Result<ExitCode> {
    let targets = targets(config, command.module)?;
    let mut found = Vec::new();
    for (module, database) in &targets {
        let mut connection = connect(module, database).await?;
        let adoption = artstore_migrations::inspect(&mut connection, module).await?;
        let first = matches!(adoption.origin, Origin::Product { .. });
        name_server(module, &mut connection, first).await?;
        found.push(adoption);
    }
    let ours = |adoption: &Adoption| matches!(adoption.origin, Origin::Ours { .. });
    let mut refused = found.iter().any(|a| !ours(a) && !a.is_possible());

    let mut report = Vec::new();
    for ((module, database), adoption) in targets.iter().zip(found) {
        let mut outcome = match &adoption.origin {
            Origin::Ours { .. } => Outcome::Ours,
            Origin::Nothing => Outcome::Refused,
            Origin::Product { .. } if refused => Outcome::Refused,
            Origin::Product { .. } => Outcome::Possible,
        };
        let mut adoption = adoption;
        if !command.dry_run && outcome == Outcome::Possible {
            adoption = adopt(module, database).await?;
            outcome = match adoption.is_possible() {
                true => Outcome::Adopted,
                // Somebody was faster, or changed the tables.
                false if ours(&adoption) => Outcome::Ours,
                false => Outcome::Refused,
            };
            // What comes after it is left alone, too.
            refused |= outcome == Outcome::Refused;
        }
        let went_up = command.up && !command.dry_run && !refused && outcome != Outcome::Refused;
        let steps = if went_up {
            let mut connection = connect(module, database).await?;
            artstore_migrations::up(&mut connection, module, None).await?
        } else {
            Vec::new()
        };
        if command.json {
            report.push(as_json(&adoption, outcome, &steps, command.dry_run));
        } else {
            print(&adoption, outcome, command, &steps);
        }
    }
    if command.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::from(u8::from(refused)))
}

async fn adopt(module: &Module, database: &PgConnectOptions) -> anyhow::Result<Adoption> {
    let mut connection = connect(module, database).await?;
    Ok(artstore_migrations::adopt(&mut connection, module).await?)
}

/// Who made the tables, in a few words.
pub(super) fn made_by(origin: &Origin) -> String {
    match origin {
        Origin::Nothing => "nobody: none of the tables is there".to_owned(),
        Origin::Ours { version, adopted } => {
            let adopted = if *adopted {
                ", adopted from the product"
            } else {
                ""
            };
            format!("these migrations: version {version}{adopted}")
        }
        Origin::Product {
            version_table: None,
            ..
        } => "the product, without a version table".to_owned(),
        Origin::Product {
            revision: None,
            version_table: Some(table),
            ..
        } => format!("the product: {table} is empty"),
        Origin::Product {
            revision: Some(revision),
            known: true,
            ..
        } => format!("the product: revision {revision}"),
        Origin::Product {
            revision: Some(revision),
            known: false,
            ..
        } => {
            format!("the product: revision {revision}, which is not known here; the tables decide")
        }
    }
}

fn print(adoption: &Adoption, outcome: Outcome, command: &Adopt, steps: &[Step]) {
    let module = &adoption.module;
    println!("{module}: database {}", adoption.database);
    println!("  {:<10} {}", "made by", made_by(&adoption.origin));
    if let Origin::Product { .. } = adoption.origin {
        print_differences(adoption);
    }
    if let Some(rows) = adoption.old_rows {
        println!(
            "  {:<10} {} finished get positions by {OLD_ROWS_ORDER}; {} are pending",
            "operations", rows.finished, rows.pending
        );
        if rows.other > 0 {
            println!(
                "  {:<10} {} of another status: nobody will hear of that",
                "", rows.other
            );
        }
        if rows.untold_files > 0 {
            println!(
                "  {:<10} {} {} no finished operation: a file appears in events with its next one",
                "",
                counted(rows.untold_files, "file"),
                by(rows.untold_files, "has", "have")
            );
        }
    }
    for table in &adoption.written_anew {
        let rows = match table.rows {
            Some(rows) => format!("about {}, ", counted(rows, "row")),
            None => String::new(),
        };
        let megabytes = (table.bytes + 999_999) / 1_000_000;
        println!(
            "  {:<10} {} is written anew on the way up ({rows}{megabytes} MB): its users wait for that",
            "waiting", table.table
        );
    }
    if command.dry_run && outcome == Outcome::Possible {
        println!("  SQL");
        for sql in adoption.sql() {
            println!("{sql}\n");
        }
    }
    println!("  {:<10} {}", "result", result(adoption, outcome, command));
    for step in steps {
        println!("  {:<10} {} applied", "", name(step));
    }
}

fn print_differences(adoption: &Adoption) {
    if adoption.differences.is_empty() {
        println!("  {:<10} as version 1 makes them", "tables");
    }
    for difference in &adoption.differences {
        println!("  {:<10} {difference}", difference.effect.word());
    }
}

fn result(adoption: &Adoption, outcome: Outcome, command: &Adopt) -> String {
    let blocks = adoption
        .differences
        .iter()
        .any(|d| d.effect == Effect::Blocks);
    match outcome {
        Outcome::Refused if adoption.origin == Origin::Nothing => {
            "nothing to adopt: is it the right database? For a new installation: artstore migrate up"
                .to_owned()
        }
        Outcome::Refused if blocks => "not adopted, nothing was changed".to_owned(),
        Outcome::Refused => "not adopted, because another database can't be".to_owned(),
        Outcome::Possible => "can be adopted; nothing was changed".to_owned(),
        Outcome::Ours => "ours already; nothing to adopt".to_owned(),
        Outcome::Adopted => {
            let kept = match &adoption.origin {
                Origin::Product {
                    version_table: Some(table),
                    ..
                } => format!("; {table} stays as it is"),
                Origin::Product { .. } | Origin::Nothing | Origin::Ours { .. } => String::new(),
            };
            let next = if command.up { "" } else { "; go on with: artstore migrate up" };
            format!("adopted as version 1{kept}{next}")
        }
    }
}

fn as_json(adoption: &Adoption, outcome: Outcome, steps: &[Step], sql: bool) -> Value {
    let mut value = inspection(adoption);
    value["result"] = json!(match outcome {
        Outcome::Refused => "refused",
        Outcome::Possible => "possible",
        Outcome::Adopted => "adopted",
        Outcome::Ours => "ours",
    });
    value["applied"] = json!(steps.iter().map(name).collect::<Vec<_>>());
    if sql && outcome == Outcome::Possible {
        value["sql"] = json!(adoption.sql());
    }
    value
}

/// What was found, for programs.
pub(super) fn inspection(adoption: &Adoption) -> Value {
    let origin = match &adoption.origin {
        Origin::Nothing => json!({"by": "nobody"}),
        Origin::Ours { version, adopted } => {
            json!({"by": "artstore", "version": version, "adopted": adopted})
        }
        Origin::Product {
            version_table,
            revision,
            known,
        } => json!({
            "by": "product", "version_table": version_table, "revision": revision, "known": known,
        }),
    };
    let differences = adoption.differences.iter().map(|difference| {
        json!({
            "what": difference.what,
            "effect": difference.effect.word(),
            "why": difference.why,
        })
    });
    json!({
        "module": adoption.module.to_string(),
        "database": adoption.database,
        "made": origin,
        "differences": differences.collect::<Vec<_>>(),
        "operations": adoption.old_rows.map(|rows| json!({
            "finished": rows.finished, "pending": rows.pending, "other": rows.other,
            "untold_files": rows.untold_files, "order": OLD_ROWS_ORDER,
        })),
        "written_anew": adoption.written_anew.iter().map(|table| json!({
            "table": table.table, "rows_estimated": table.rows, "bytes": table.bytes,
        })).collect::<Vec<_>>(),
    })
}
