//! `artstore migrate check`: everything that would stop an adoption, a migration or the services,
//! seen before anything is changed. It only reads.

use artstore_runtime::count::counted;
use std::fmt::Display;
use std::process::ExitCode;

use artstore_bus::accounts::role::Role;
use artstore_bus::bus_error::BusError;
use artstore_bus::connection::Bus;
use artstore_bus::stream_name::StreamName;
use artstore_bus::streams::Limits;
use artstore_migrations::{Effect, Module, Origin};
use artstore_producers::relay::source::SourceTable;
use artstore_producers::relay::{api_url, election};
use artstore_projectors::audit_log::AuditLog;
use artstore_projectors::element_registry::ElementRegistry;
use artstore_projectors::projector::Projector as _;
use artstore_projectors::query_cache::QueryCache;
use artstore_projectors::runtime::database::PROJECTION_TABLES;
use artstore_runtime::server::{self, Server};
use artstore_runtime::{connection, relation};
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use clap::Args;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, Row as _};

use super::adopt::{inspection, made_by};
use super::target::{ModuleName, connect, holds, name, targets};
use crate::config::Config;

/// A nats-server from here on has no known fault that matters to us.
const RECOMMENDED_NATS: (i64, i64, i64) = (2, 14, 3);

/// What to look at.
#[derive(Debug, Args)]
pub struct Check {
    /// Only this module, and not NATS; without it, every module whose database is configured
    #[arg(long, value_enum)]
    module: Option<ModuleName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// To be known; it stops nothing.
    Note,
    /// It would stop an adoption, a migration or a service.
    Stop,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Stop => "STOP",
        }
    }
}

/// What was found about one thing.
#[derive(Debug)]
struct Report {
    about: String,
    lines: Vec<(Verdict, &'static str, String)>,
    /// For programs.
    more: Value,
}

impl Report {
    fn of(about: impl Display) -> Self {
        Self {
            about: about.to_string(),
            lines: Vec::new(),
            more: Value::Null,
        }
    }

    fn add(&mut self, verdict: Verdict, what: &'static str, text: impl Display) {
        self.lines.push((verdict, what, text.to_string()));
    }

    fn stops(&self) -> bool {
        self.lines
            .iter()
            .any(|(verdict, ..)| *verdict == Verdict::Stop)
    }

    fn print(&self) {
        println!("{}", self.about);
        for (verdict, what, text) in &self.lines {
            println!("  {:<5} {what:<13} {text}", verdict.word());
        }
    }

    fn as_json(&self) -> Value {
        let lines = self.lines.iter().map(|(verdict, what, text)| {
            json!({"verdict": verdict.word().to_lowercase(), "what": what, "text": text})
        });
        json!({
            "about": self.about,
            "stops": self.stops(),
            "findings": lines.collect::<Vec<_>>(),
            "details": self.more,
        })
    }
}

/// Whether somebody has stored where the element's API is reached. One that is not migrated says nothing.
async fn says_its_url(element: &ElementName, database: &PgConnectOptions) -> bool {
    let Ok(mut connection) = connection::open(database).await else {
        return false;
    };
    let table = SourceTable::of(&Source::Element(element.clone()));
    matches!(api_url::stored(&mut connection, &table).await, Ok(Some(_)))
}

/// Runs the command.
pub async fn run(config: &Config, command: &Check) -> anyhow::Result<ExitCode> {
    let targets = targets(config, command.module)?;
    let mut reports = Vec::new();
    for (module, database) in &targets {
        let mut report = of_database(module, database).await;
        if let Module::Storage(element) = module
            && config.api_url(element)?.is_none()
            && !says_its_url(element, database).await
        {
            let text = "neither its own table nor ARTSTORE_ELEMENT_API_URLS says its API URL: events \
                        and the cache show no storage_element_url; set it with `artstore element set-url NAME URL`";
            report.add(Verdict::Note, "API URL", text);
        }
        reports.push(report);
    }
    if command.module.is_none() {
        let sources: Vec<Source> = targets.iter().map(|(module, _)| source(module)).collect();
        reports.push(of_nats(config, &sources).await);
    }
    let stops = reports.iter().filter(|report| report.stops()).count();
    if command.json {
        let reports: Vec<Value> = reports.iter().map(Report::as_json).collect();
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        reports.iter().for_each(Report::print);
        match stops {
            0 => println!("nothing stops"),
            _ => println!("fix what says STOP, and check again"),
        }
    }
    Ok(ExitCode::from(u8::from(stops > 0)))
}

fn source(module: &Module) -> Source {
    match module {
        Module::Admin => Source::Admin,
        Module::Query => Source::Query,
        Module::Storage(element) => Source::Element(element.clone()),
    }
}

async fn of_database(module: &Module, database: &PgConnectOptions) -> Report {
    let mut report = Report::of(format!(
        "{module}: database {}",
        connection::shown(database)
    ));
    let mut connection = match connect(module, database).await {
        Ok(connection) => connection,
        Err(error) => {
            report.add(Verdict::Stop, "reachable", format!("{error:#}"));
            return report;
        }
    };
    if let Err(error) = look(module, database, &mut connection, &mut report).await {
        report.add(Verdict::Stop, "readable", format!("{error:#}"));
    }
    report
}

async fn look(
    module: &Module,
    database: &PgConnectOptions,
    connection: &mut PgConnection,
    report: &mut Report,
) -> anyhow::Result<()> {
    // Nothing is prepared before it is known that there is no pooler: it mixes up such statements.
    let row = sqlx::raw_sql("select pg_is_in_recovery()")
        .fetch_one(&mut *connection)
        .await?;
    let standby: bool = row.try_get(0)?;
    let server = Server::read(connection).await?;
    if let Some(problem) = server::too_old(server.version_number) {
        report.add(Verdict::Stop, "server", problem);
        return Ok(());
    }
    report.add(
        Verdict::Ok,
        "server",
        format!("PostgreSQL {}", server.version),
    );
    if let Err(error) = election::refuse_pooler(database).await {
        report.add(Verdict::Stop, "direct", error);
        return Ok(());
    }
    report.add(Verdict::Ok, "direct", "no pooler in between");
    if standby {
        let text = "a standby, which can't be changed or read from: use the primary";
        report.add(Verdict::Stop, "role", text);
    }
    tables(module, connection, report).await?;
    properties(module, connection, &server, report).await?;
    rights(module, connection, report).await?;
    let holders = artstore_migrations::holders::of(connection, module).await?;
    for holder in &holders {
        report.add(
            Verdict::Note,
            "in use",
            format!("{holder}; steps wait for it"),
        );
    }
    if holders.is_empty() {
        report.add(
            Verdict::Ok,
            "in use",
            "no transaction is open on the tables",
        );
    }
    Ok(())
}

/// What the tables' form does not show: the database's encoding and letters, and whether each table shows
/// this role all of its rows.
async fn properties(
    module: &Module,
    connection: &mut PgConnection,
    server: &Server,
    report: &mut Report,
) -> anyhow::Result<()> {
    let refused = server.refused(holds(module));
    let made = matches!(report.more["made"]["by"].as_str(), Some("artstore"));
    match refused {
        Some(problem) if !made => report.add(Verdict::Stop, "database", problem),
        _ => {
            let text = format!("encoding {}, lc_ctype {}", server.encoding, server.lc_ctype);
            report.add(Verdict::Ok, "database", text);
            for note in server.notes(holds(module)) {
                report.add(Verdict::Note, "database", note);
            }
        }
    }
    let mut tables = SourceTable::of(&source(module)).relations();
    let projected = match module {
        Module::Admin => [AuditLog::TABLES, ElementRegistry::TABLES, PROJECTION_TABLES].concat(),
        Module::Query => [QueryCache::TABLES, PROJECTION_TABLES].concat(),
        Module::Storage(_) => Vec::new(),
    };
    tables.extend(projected.iter().map(|table| format!("public.{table}")));
    match relation::unfit(connection, &tables).await? {
        Some(unfit) => report.add(Verdict::Stop, "rows", unfit),
        None => {
            for note in relation::secured(connection, &tables).await? {
                report.add(Verdict::Note, "rows", note);
            }
        }
    }
    Ok(())
}

/// Who made the tables, what adoption would say, and which steps are to come.
async fn tables(
    module: &Module,
    connection: &mut PgConnection,
    report: &mut Report,
) -> anyhow::Result<()> {
    let adoption = artstore_migrations::inspect(connection, module).await?;
    report.add(Verdict::Ok, "made by", made_by(&adoption.origin));
    for difference in &adoption.differences {
        let verdict = match difference.effect {
            Effect::Blocks => Verdict::Stop,
            Effect::Repaired | Effect::Harmless => Verdict::Note,
        };
        let text = format!("{}: {difference}", difference.effect.word());
        report.add(verdict, "differs", text);
    }
    if let Some(rows) = adoption.old_rows {
        let text = format!("{} finished, {} pending", rows.finished, rows.pending);
        report.add(Verdict::Ok, "operations", text);
    }
    let status = artstore_migrations::status(connection, module).await?;
    let pending: Vec<String> = status
        .steps
        .iter()
        .filter(|step| step.applied_at.is_none())
        .map(|step| name(&step.step))
        .collect();
    let next = match adoption.origin {
        Origin::Product { .. } => "artstore migrate adopt --up",
        Origin::Nothing | Origin::Ours { .. } => "artstore migrate up",
    };
    if pending.is_empty() {
        let text = format!("version {} is the newest", status.version);
        report.add(Verdict::Ok, "steps", text);
    } else {
        let text = format!("to come with `{next}`: {}", pending.join(", "));
        report.add(Verdict::Note, "steps", text);
    }
    report.more = inspection(&adoption);
    report.more["version"] = json!(status.version);
    report.more["latest"] = json!(status.latest);
    report.more["pending"] = json!(pending);
    Ok(())
}

/// What the steps need to be allowed.
async fn rights(
    module: &Module,
    connection: &mut PgConnection,
    report: &mut Report,
) -> anyhow::Result<()> {
    let foreign = artstore_migrations::owned_by_others(connection, module).await?;
    let already = matches!(report.more["made"]["by"].as_str(), Some("product"));
    // For tables to be adopted, the differences contain it already.
    for difference in foreign.iter().filter(|_| !already) {
        report.add(Verdict::Stop, "rights", difference);
    }
    let (role, create, trigram): (String, bool, Option<bool>) = sqlx::query_as(
        "select current_user::text, \
             has_schema_privilege('public', 'create') and has_schema_privilege('public', 'usage'), \
             (select installed_version is not null from pg_available_extensions \
                 where name = 'pg_trgm')",
    )
    .fetch_one(connection)
    .await?;
    if !create {
        let text = format!(
            "{role} may not create in the schema public: grant usage, create on schema public to {role}"
        );
        report.add(Verdict::Stop, "rights", text);
    } else if foreign.is_empty() {
        report.add(
            Verdict::Ok,
            "rights",
            format!("{role} may change the tables"),
        );
    }
    match trigram {
        _ if *module != Module::Query => {}
        Some(true) => report.add(Verdict::Ok, "pg_trgm", "installed"),
        Some(false) => report.add(Verdict::Ok, "pg_trgm", "available"),
        None => {
            let text = "not available: search for parts of words reads whole tables; install \
                        PostgreSQL's contrib package";
            report.add(Verdict::Note, "pg_trgm", text);
        }
    }
    Ok(())
}

async fn of_nats(config: &Config, sources: &[Source]) -> Report {
    let options = match config.bus(Role::Reader, "artstore migrate check") {
        Ok(options) => options,
        Err(error) => {
            let mut report = Report::of("NATS");
            report.add(Verdict::Stop, "settings", error);
            return report;
        }
    };
    let shown = artstore_bus::connection::without_password(&options.url);
    let mut report = Report::of(format!("NATS: {shown}"));
    let bus = match Bus::connect(&options).await {
        Ok(bus) => bus,
        Err(error @ (BusError::TooOld { .. } | BusError::SmallMessages { .. })) => {
            report.add(Verdict::Stop, "server", error);
            return report;
        }
        Err(error) => {
            report.add(Verdict::Stop, "reachable", error);
            return report;
        }
    };
    report.add(Verdict::Ok, "reachable", "yes");
    let version = bus.client.server_info().version;
    let (major, minor, patch) = RECOMMENDED_NATS;
    if bus.client.is_server_compatible(major, minor, patch) {
        report.add(Verdict::Ok, "server", format!("nats-server {version}"));
    } else {
        let text = format!("nats-server {version} works; {major}.{minor}.{patch} is recommended");
        report.add(Verdict::Note, "server", text);
    }
    match bus.check_account().await {
        Ok(()) => report.add(Verdict::Ok, "JetStream", "answers"),
        Err(error @ BusError::NotPermitted(_)) => {
            report.add(Verdict::Stop, "JetStream", error);
            return report;
        }
        Err(error) => {
            let text = format!("does not answer ({error}): enable it for this account");
            report.add(Verdict::Stop, "JetStream", text);
            return report;
        }
    }
    for source in sources {
        let stream = source.stream();
        match bus.stream_info(&stream).await {
            Ok(info) => match bus
                .check_streams(&[StreamName::of(source)], 1, Limits::Refuse)
                .await
            {
                Ok(()) => {
                    let messages = info.state.messages;
                    report.add(
                        Verdict::Ok,
                        "stream",
                        format!("{stream}: {}", counted(messages, "message")),
                    );
                }
                Err(error) => report.add(Verdict::Stop, "stream", error),
            },
            Err(error @ BusError::NoStream(_)) => report.add(Verdict::Note, "stream", error),
            Err(error) => report.add(Verdict::Stop, "stream", error),
        }
    }
    report
}
