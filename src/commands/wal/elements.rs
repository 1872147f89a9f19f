//! The elements whose operations a command is about, and its other arguments.

use std::time::Duration;

use anyhow::Context as _;
use artstore_producers::relay::source::SourceTable;
use artstore_producers::relay::source_check;
use artstore_runtime::connection;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Config, ConfigError};
use crate::status::database::not_connected;

/// The longest reason, in characters: it travels with the event.
pub(super) const LONGEST_REASON: usize = 2_000;

/// An element that is connected.
pub(super) type Connected = (ElementName, PgConnection);

pub(super) fn check_reason(reason: Option<&str>) -> Result<(), ConfigError> {
    match reason.map(|reason| reason.chars().count()) {
        Some(length) if length > LONGEST_REASON => Err(ConfigError(format!(
            "--reason has {length} characters, at most {LONGEST_REASON} are allowed"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// All configured elements, or the one that --element names.
pub(super) async fn connect(config: &Config) -> anyhow::Result<Vec<Connected>> {
    let elements = match config.element {
        Some(_) => vec![config.one_element(config.element()?.as_str())?],
        None => config.elements()?,
    };
    if elements.is_empty() {
        return Err(ConfigError(
            "no element's database is configured: set ARTSTORE_ELEMENTS, or STORAGE_DATABASE_URL \
             with --element"
                .to_owned(),
        )
        .into());
    }
    let mut connected = Vec::new();
    for (element, database) in elements {
        let connection = reach(&element, &database).await?;
        connected.push((element, connection));
    }
    Ok(connected)
}

pub(super) async fn reach(
    element: &ElementName,
    database: &PgConnectOptions,
) -> anyhow::Result<PgConnection> {
    let database = database.clone().application_name("artstore wal");
    let connected = connection::open(&database).await.map_err(|error| {
        let check = "ARTSTORE_ELEMENTS or STORAGE_DATABASE_URL, and the server";
        not_connected(&database, check, error)
    });
    let mut connection = connected.with_context(|| format!("element {element}"))?;
    let table = SourceTable::of(&Source::Element(element.clone()));
    let shows_all = source_check::shows_all(&mut connection, &table).await;
    shows_all.with_context(|| format!("element {element}"))?;
    Ok(connection)
}

/// A number and its unit: `90s`, `15m`, `1h`, `2d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no duration: a whole number with s, m, h or d, as 90s or 1h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = count.checked_mul(seconds).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}
