//! Which stream a command is about, why, and how ranges are shown.

use artstore_producers::relay::RelayOptions;
use artstore_producers::relay::publish::PublishMode;
use artstore_repair::operator_command::OperatorDecision;
use artstore_schemas::ranges::Ranges;
use artstore_schemas::source::Source;
use clap::Args;
use serde_json::{Value, json};

use crate::config::{Config, ConfigError};
use crate::names;
use crate::operator;

/// The longest reason, in characters: it travels with the record.
pub(super) const LONGEST_REASON: usize = 2_000;

/// How many lines of a list people are shown.
pub(super) const SHOWN: usize = 20;

/// Which source, and whether.
#[derive(Debug, Args)]
pub struct Choice {
    /// The source: an element's name, admin, query, or its stream
    #[arg(long, value_parser = names::source)]
    pub(super) source: Source,
    /// Do it; without, nothing is changed
    #[arg(long, requires = "reason")]
    pub(super) yes: bool,
    /// Why: it travels with the record
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Print JSON, with everything that is affected
    #[arg(long)]
    pub(super) json: bool,
}

impl Choice {
    /// The operator's word, where it was given. Asked once: nobody who is named is a warning.
    pub(super) fn decision(&self, command: &str) -> Result<Option<OperatorDecision>, ConfigError> {
        let reason = self.reason.clone().unwrap_or_default();
        if self.yes && reason.trim().is_empty() {
            return Err(ConfigError(
                "--reason says why: it can't be empty".to_owned(),
            ));
        }
        if reason.chars().count() > LONGEST_REASON || reason.contains('\0') {
            return Err(ConfigError(format!(
                "--reason has more than {LONGEST_REASON} characters, or a NUL"
            )));
        }
        Ok(self.yes.then(|| OperatorDecision {
            reason,
            actor: operator::actor(command),
            by: operator::recorded_person().unwrap_or_else(|| "unknown".to_owned()),
        }))
    }

    pub(super) fn options(&self, config: &Config) -> Result<RelayOptions, ConfigError> {
        let found = config.sources(std::slice::from_ref(&self.source))?;
        let (source, database) = found.into_iter().next().ok_or_else(|| {
            ConfigError(format!(
                "--source {}: no database is configured for it",
                self.source
            ))
        })?;
        let api_url = match &source {
            Source::Element(name) => config.api_url(name)?,
            Source::Admin | Source::Query => None,
        };
        Ok(RelayOptions {
            source,
            database,
            api_url,
            mode: PublishMode::Auto,
            poll_interval: std::time::Duration::from_secs(1),
        })
    }
}

/// Ranges as people read them: the first ones, and how many more there are.
pub(super) fn shown(ranges: &Ranges) -> String {
    const MOST: usize = 8;
    let mut parts: Vec<String> = ranges
        .as_slice()
        .iter()
        .take(MOST)
        .map(|r| match r.first == r.last {
            true => r.first.to_string(),
            false => format!("{} to {}", r.first, r.last),
        })
        .collect();
    let more = ranges.as_slice().len().saturating_sub(MOST);
    if more > 0 {
        parts.push(format!("and {more} more ranges"));
    }
    parts.join(", ")
}

pub(super) fn ranges_json(ranges: &Ranges) -> Value {
    json!(ranges.as_slice())
}

/// Says how many lines of a list were left out.
pub(super) fn rest(total: usize) {
    if total > SHOWN {
        println!("  … and {} more; all with --json", total - SHOWN);
    }
}
