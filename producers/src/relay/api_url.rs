//! Where an element's API is reached: a fact of the element, in its own table `<element>_api`. Whoever
//! publishes reads it there, so that no process states another URL, or none, because of how it was started.
//! It is written with the rights of the tables' owner (`artstore migrate up`, `artstore element set-url`);
//! a relay writes nothing to its source.

use artstore_bus::connection::Bus;
use artstore_schemas::element::ElementName;
use artstore_schemas::source::Source;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::relay::options::RelayOptions;
use crate::relay::relay_error::{Halt, RelayError};
use crate::relay::source::SourceTable;

const UNDEFINED_TABLE: &str = "42P01";

/// The longest URL, in bytes: it rides on every message.
const LONGEST: usize = 1_500;

/// What events of an element state about its API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiUrl {
    /// The URL; none where nobody knows one, or the element has none.
    pub url: Option<String>,
    /// Whether the element's own table states it. Only then another URL in the stream is a difference.
    pub stored: bool,
}

/// What an element's table states: none where nobody has set it, or for an outbox.
pub async fn stored(
    connection: &mut PgConnection,
    table: &SourceTable,
) -> Result<Option<ApiUrl>, RelayError> {
    let Some(element) = &table.element else {
        return Ok(None);
    };
    let sql = format!("select url from public.{element}_api where set_at is not null");
    let found: Result<Option<Option<String>>, sqlx::Error> = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_optional(connection)
        .await;
    match found {
        Ok(found) => Ok(found.map(|url| ApiUrl { url, stored: true })),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Err(Halt::NotMigrated {
                table: table.table.clone(),
                problem: "the table that says where its API is reached is missing".to_owned(),
            }
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

/// What is published for as long as nobody has stored a URL: that of the settings, else what the
/// stream's last message states, so that a command that was started without the setting takes nothing back.
pub(crate) async fn assumed(bus: &Bus, options: &RelayOptions) -> Result<ApiUrl, RelayError> {
    let url = match (&options.source, &options.api_url) {
        (Source::Admin | Source::Query, _) => None,
        (Source::Element(_), Some(url)) => Some(url.clone()),
        (Source::Element(_), None) => last_published(bus, &options.source).await?,
    };
    Ok(ApiUrl { url, stored: false })
}

/// What whoever publishes states now.
pub async fn known(
    bus: &Bus,
    options: &RelayOptions,
    connection: &mut PgConnection,
) -> Result<ApiUrl, RelayError> {
    match stored(connection, &SourceTable::of(&options.source)).await? {
        Some(stored) => Ok(stored),
        None => assumed(bus, options).await,
    }
}

async fn last_published(bus: &Bus, source: &Source) -> Result<Option<String>, RelayError> {
    let stream = source.stream();
    let last = bus.stream_info(&stream).await?.state.last_sequence;
    if last == 0 {
        return Ok(None);
    }
    let Some(message) = bus.message_at(&stream, last).await? else {
        return Ok(None);
    };
    let body: Option<serde_json::Value> = serde_json::from_slice(&message.body).ok();
    Ok(body.and_then(|body| body["element"]["api_url"].as_str().map(str::to_owned)))
}

/// Whether a text can be the URL of an API; what is wrong with it, otherwise.
pub fn check(url: &str) -> Result<(), String> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("{url:?} does not begin with http:// or https://"));
    }
    if url.len() > LONGEST {
        return Err(format!(
            "the URL has {} bytes: at most {LONGEST} are published",
            url.len()
        ));
    }
    match url
        .chars()
        .find(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\'))
    {
        Some(odd) => Err(format!("{url:?} holds {odd:?}, which no URL does")),
        None => Ok(()),
    }
}

/// Stores where an element's API is reached; none: it has no URL. False: it was stored so already. Its
/// relay states the new one from its next poll on. Has to be done by the owner of the tables.
pub async fn store(
    connection: &mut PgConnection,
    element: &ElementName,
    url: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let other = "api.set_at is null or api.url is distinct from excluded.url";
    upsert(connection, element, url, other).await
}

/// Stores a URL where nobody has stored anything, not even that there is none. False: nothing was changed.
pub async fn store_first(
    connection: &mut PgConnection,
    element: &ElementName,
    url: &str,
) -> Result<bool, sqlx::Error> {
    upsert(connection, element, Some(url), "api.set_at is null").await
}

async fn upsert(
    connection: &mut PgConnection,
    element: &ElementName,
    url: Option<&str>,
    replaced: &str,
) -> Result<bool, sqlx::Error> {
    let sql = format!(
        "insert into public.{element}_api as api (url, set_at) values ($1, clock_timestamp()) \
         on conflict (id) do update set url = excluded.url, set_at = excluded.set_at \
         where {replaced}"
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(url)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_nothing_that_would_not_fit_a_message() {
        for url in ["http://a", "https://elem-01.example:8010/api?x=1"] {
            assert_eq!(check(url), Ok(()));
        }
        let long = format!("http://{}", "x".repeat(1_500));
        for url in [
            "",
            "elem-01:8010",
            "ftp://a",
            "http://a b",
            "http://a\n",
            "http://a\"",
            &long,
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
