//! The arguments of the command line, and the question that they become.

use artstore_projectors::read_your_writes::AtLeast;
use artstore_projectors::search::filters::Filters;
use artstore_projectors::search::query::{Mode, Order, Page, Search, Sort};
use artstore_schemas::element::ElementName;
use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use crate::config::{Config, ConfigError};
use crate::day_or_time;
use crate::names;

/// What to look for, and how the hits are shown.
#[derive(Debug, Args)]
pub struct SearchCommand {
    /// What to look for; may be left out where a filter is given. After `--` it may begin with `-`
    #[arg(default_value = "", hide_default_value = true)]
    query: String,
    /// exact: the file's name; partial: a part of name or description; fulltext: words, in any form
    #[arg(long, default_value = "fulltext", value_parser = names::<Mode>(Mode::NAMES))]
    mode: Mode,
    /// Part of the file's name
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    filename: Option<String>,
    /// The end of the name behind a dot: pdf
    #[arg(long, help_heading = "Filters")]
    extension: Option<String>,
    /// Has this tag, or one of several (repeat it)
    #[arg(long = "tag", value_name = "TAG", help_heading = "Filters")]
    tags: Vec<String>,
    /// Created by this user
    #[arg(long, help_heading = "Filters")]
    username: Option<String>,
    /// At least so large: bytes, or 10K, 10M, 10G, 10T (of 1,024)
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Filters")]
    min_size: Option<i64>,
    /// At most so large
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Filters")]
    max_size: Option<i64>,
    /// Created at this time or later: 2026-01-31 (UTC), or 2026-01-31T15:04:05Z
    #[arg(long, value_name = "TIME", value_parser = day_or_time::first, help_heading = "Filters")]
    created_from: Option<DateTime<Utc>>,
    /// Created at this time or earlier; a date means all of that day
    #[arg(long, value_name = "TIME", value_parser = day_or_time::last, help_heading = "Filters")]
    created_to: Option<DateTime<Utc>>,
    /// Lives on this element (its name, or its stream's); --element says the same
    #[arg(long, value_name = "ELEMENT", value_parser = names::element, help_heading = "Filters")]
    storage_element: Option<ElementName>,
    /// What the hits are ordered by
    #[arg(long, default_value = "relevance", value_parser = names::<Sort>(Sort::NAMES))]
    sort: Sort,
    /// Lowest or highest first [default: asc for filename, desc for the others]
    #[arg(long, value_parser = names::<Order>(Order::NAMES))]
    order: Option<Order>,
    /// How many hits are shown, 1 to 1000
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// How many hits are skipped
    #[arg(long, default_value_t = 0)]
    offset: u32,
    /// Go on behind a page: the token that it ended with
    #[arg(long, value_name = "TOKEN", conflicts_with = "offset")]
    after: Option<String>,
    /// Wait until this write is visible: the position that finishing the operation returned
    #[arg(long, value_name = "ELEMENT:POSITION")]
    pub(super) at_least: Vec<AtLeast>,
    /// How long to wait for it, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(super) timeout: u64,
    /// Print how the database would find it, and don't search
    #[arg(long)]
    pub(super) explain: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl SearchCommand {
    /// The element on which files are to live, from either option.
    pub(super) fn element(&self, config: &Config) -> Result<Option<ElementName>, ConfigError> {
        let by_setting = match config.element_is_asked {
            true => Some(config.element()?),
            false => None,
        };
        match (&self.storage_element, by_setting) {
            (Some(one), Some(other)) if *one != other => Err(ConfigError(format!(
                "--storage-element {one} and --element {other}: a file is on one element"
            ))),
            (Some(element), _) => Ok(Some(element.clone())),
            (None, by_setting) => Ok(by_setting),
        }
    }

    /// The question.
    pub(super) fn search(&self, config: &Config) -> Result<Search, ConfigError> {
        let element = self.element(config)?;
        if let (Some(from), Some(to)) = (self.created_from, self.created_to)
            && from > to
        {
            return Err(ConfigError(format!(
                "--created-from {from} is later than --created-to {to}: no file can be in between"
            )));
        }
        if let (Some(min), Some(max)) = (self.min_size, self.max_size)
            && min > max
        {
            return Err(ConfigError(format!(
                "--min-size {min} is more than --max-size {max}: no file can be in between"
            )));
        }
        Ok(Search {
            text: self.query.clone(),
            mode: self.mode,
            filters: Filters {
                filename: self.filename.clone(),
                extension: self.extension.clone(),
                tags: self.tags.clone(),
                username: self.username.clone(),
                min_size: self.min_size,
                max_size: self.max_size,
                created_from: self.created_from,
                created_to: self.created_to,
                storage_element: element.map(String::from),
            },
            sort: self.sort,
            order: self.order,
            page: Page {
                limit: self.limit,
                offset: self.offset,
                after: self.after.clone(),
            },
        })
    }
}

/// One of a fixed list of names; `--help` shows them.
fn names<T>(names: &'static [&'static str]) -> impl clap::builder::TypedValueParser<Value = T>
where
    T: std::str::FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

fn size(text: &str) -> Result<i64, String> {
    let (number, power) = match text.char_indices().last() {
        Some((end, unit)) if unit.is_ascii_alphabetic() => {
            let power = "KMGT".find(unit.to_ascii_uppercase());
            (&text[..end], power.map(|power| power + 1))
        }
        _ => (text, Some(0)),
    };
    let bytes = || {
        let number: i64 = number.parse().ok().filter(|n| *n >= 0)?;
        number.checked_mul(1024_i64.checked_pow(u32::try_from(power?).ok()?)?)
    };
    bytes().ok_or_else(|| "expected bytes, or a number with K, M, G or T: 10M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("2k", 2_048),
            ("3M", 3 << 20),
            ("1T", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "k", "-1", "1X", "1.5M", "9999999T", "1 M", "М"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
