//! All that a check has found, printed as JSON or for people.

use serde::Serialize;
use serde_json::json;

use super::idle::Note;
use super::table;
use crate::error_text::error_text;
use artstore_verification::audit::report::Outcome;
use artstore_verification::cache;
use artstore_verification::source::Report;

/// All that is known, in the order in which it was checked.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) notes: Vec<Note>,
    pub(super) reports: Vec<Report>,
    pub(super) cache: Option<cache::Report>,
    pub(super) audit: Option<Audit>,
    pub(super) problems: Vec<Problem>,
    /// Whether sources and cache were printed already.
    pub(super) shown: bool,
}

/// A part that could not be checked, or not to its end.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    part: String,
    error: String,
}

impl Checked {
    pub(super) fn problem(&mut self, part: &str, error: &anyhow::Error) {
        self.problems.push(Problem {
            part: part.to_owned(),
            error: error_text(error),
        });
    }

    pub(super) fn stopped(&mut self, part: &str, error: String) {
        self.problems.push(Problem {
            part: part.to_owned(),
            error,
        });
    }

    pub(super) fn is_clean(&self) -> bool {
        let audit_is_clean = match &self.audit {
            Some(Audit::Checked(outcome)) => outcome.findings().next().is_none(),
            Some(Audit::Nothing(_) | Audit::NotChecked(_)) | None => true,
        };
        self.problems.is_empty()
            && audit_is_clean
            && self.reports.iter().all(Report::is_clean)
            && self.cache.as_ref().is_none_or(cache::Report::is_clean)
    }

    /// One whole object, whatever could not be checked.
    pub(super) fn json(&self) -> serde_json::Value {
        let (audit, reason) = match &self.audit {
            Some(Audit::Checked(outcome)) => (Some(outcome.json()), None),
            Some(Audit::Nothing(reason) | Audit::NotChecked(reason)) => (None, Some(*reason)),
            None => (None, Some("the check did not come to it")),
        };
        json!({
            "agree": self.is_clean(), "notes": self.notes, "sources": self.reports,
            "cache": self.cache, "audit": audit, "audit_not_checked": reason,
            "problems": self.problems,
        })
    }

    /// What was not printed on the way, and the command to continue with.
    pub(super) fn print_rest(&self) {
        let known = !self.reports.is_empty() || self.cache.is_some();
        if known && !self.shown {
            print!("{}", table::show(&self.reports, self.cache.as_ref()));
        }
        match &self.audit {
            Some(Audit::Checked(outcome)) => print!("\nAudit log\n{}", outcome.text()),
            Some(Audit::NotChecked(reason)) => println!("\nAudit log: NOT CHECKED: {reason}."),
            Some(Audit::Nothing(_)) | None => {}
        }
        for problem in &self.problems {
            eprintln!("artstore: {}: NOT CHECKED: {}", problem.part, problem.error);
        }
        if let Some(next) = table::next(&self.reports, self.cache.as_ref()) {
            println!("Next: {next}");
        }
    }
}

/// What is known of the audit log.
pub(super) enum Audit {
    Checked(Outcome),
    /// There is none: neither rows nor heads.
    Nothing(&'static str),
    /// Why nothing is said of one that is there, or may be.
    NotChecked(&'static str),
}
