//! All logs, one after another, and the result, for people and for programs.

use artstore_runtime::count::{by, counted};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use artstore_bus::connection::Bus;
use artstore_projectors::runtime::workers;
use artstore_schemas::source::Source;
use serde_json::json;
use sqlx::PgConnection;

use super::LegacySeen;
use super::against::{self, AgainstReport};
use super::archives::{self, Archives};
use super::finding::{Finding, Kind, Layer};
use super::legacy::{self, LegacyReport};
use super::log::{self, Check, LogReport};
use super::printed::plain;

/// How many findings of a kind are listed.
const LISTED: usize = 20;

impl Check<'_> {
    /// Checks the logs of these sources, and the product's own rows; `against_stream`: also against
    /// the messages.
    pub async fn all(
        &self,
        connection: &mut PgConnection,
        sources: &[Source],
        against_stream: bool,
    ) -> anyhow::Result<Outcome> {
        let mut seen = LegacySeen::default();
        let mut logs = Vec::new();
        let mut derived = Vec::new();
        for source in sources {
            let report = log::check(self, source, &mut seen).await?;
            if let Some(bus) = self.bus.filter(|_| against_stream) {
                let against = self.against(connection, bus, source, report.size).await?;
                derived.push((source.stream(), against));
            }
            logs.push(report);
        }
        let legacy = legacy::check(connection, &seen).await?;
        let archives = match self.archives {
            None => Archives::default(),
            Some(folder) => {
                let wanted = logs.iter().filter_map(|log| log.archived.as_ref());
                archives::check_all(folder, wanted, self.trusted, self.ring)
            }
        };
        Ok(Outcome {
            form: Vec::new(),
            logs,
            derived,
            legacy,
            archives,
        })
    }

    /// The rows of a log against the messages of its stream. A log without a stream is a finding.
    async fn against(
        &self,
        connection: &mut PgConnection,
        bus: &Bus,
        source: &Source,
        size: u64,
    ) -> anyhow::Result<AgainstReport> {
        let stream = source.stream();
        if !workers::list(bus).await?.contains(source) {
            let mut report = AgainstReport::default();
            report.findings.add(Finding::of_log(
                &stream,
                Kind::LogChanged,
                Layer::Bus,
                format!(
                    "the bus has no stream {stream} that a log of {} could be of",
                    counted(size, "row")
                ),
            ));
            return Ok(report);
        }
        let (first, last) = self.range.unwrap_or((1, u64::MAX));
        let range = (first, last.min(size));
        let count = |rows| {
            self.done.fetch_add(rows, Ordering::Relaxed);
        };
        against::check(connection, bus, source, self.trusted, range, count).await
    }
}

/// What came of a check of all logs.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Tables that are not those that the migrations made.
    pub form: Vec<Finding>,
    /// Each log.
    pub logs: Vec<LogReport>,
    /// By stream: rows derived again.
    pub derived: Vec<(String, AgainstReport)>,
    /// The product's own rows.
    pub legacy: LegacyReport,
    /// Archives, where they were given.
    pub archives: Archives,
}

impl Outcome {
    /// What is wrong; of each kind and log, at most some thousand.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let logs = self.logs.iter().flat_map(|log| log.findings.iter());
        let derived = self.derived.iter();
        let derived = derived.flat_map(|(_, derived)| derived.findings.iter());
        let form = self.form.iter();
        form.chain(logs)
            .chain(derived)
            .chain(&self.legacy.findings)
            .chain(&self.archives.findings)
    }

    /// How many more there are of each kind.
    fn more(&self) -> BTreeMap<Kind, u64> {
        let logs = self.logs.iter().map(|log| &log.findings);
        let derived = self.derived.iter().map(|(_, derived)| &derived.findings);
        let mut all = BTreeMap::new();
        for (kind, more) in logs.chain(derived).flat_map(|findings| findings.more()) {
            *all.entry(*kind).or_default() += more;
        }
        all
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let more = self.more();
        let more: BTreeMap<&str, &u64> = more.iter().map(|(kind, n)| (kind.name(), n)).collect();
        json!({
            "ok": self.findings().next().is_none(),
            "logs": self.logs,
            "derived": self.derived.iter().map(|(stream, report)| {
                json!({"stream": stream, "derived": report.derived, "gone": report.gone})
            }).collect::<Vec<_>>(),
            "product_rows": {"covered": self.legacy.rows, "uncovered": self.legacy.uncovered},
            "archives": {"checked": self.archives.checked, "rows": self.archives.rows},
            "findings": self.findings().collect::<Vec<_>>(),
            "findings_not_listed": more,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines =
            vec![["STREAM", "ROWS", "HEADS", "PROVEN UP TO", "FINDINGS"].map(str::to_owned)];
        for log in &self.logs {
            let derived = self
                .derived
                .iter()
                .filter(|(stream, _)| *stream == log.stream);
            let more: u64 = derived.map(|(_, derived)| derived.findings.len()).sum();
            lines.push([
                log.stream.clone(),
                log.size.to_string(),
                log.heads.to_string(),
                log.proven.to_string(),
                (log.findings.len() + more).to_string(),
            ]);
        }
        let mut text = String::new();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        };
        for line in &lines {
            let mut shown = format!("{:<width$}", line[0], width = width(0));
            for (column, cell) in line.iter().enumerate().skip(1) {
                shown += &format!("  {cell:>width$}", width = width(column));
            }
            text += shown.trim_end();
            text.push('\n');
        }
        for (stream, derived) in &self.derived {
            let gone = match derived.gone {
                0 => String::new(),
                gone => format!(", {gone} of messages that are gone"),
            };
            text += &format!(
                "{stream}: {} derived again{gone}\n",
                counted(derived.derived, "row")
            );
        }
        for archived in self.logs.iter().filter_map(|log| log.archived.as_ref()) {
            text += &format!(
                "{}: rows 1 to {} are archived, digest {}\n",
                archived.stream,
                archived.last,
                plain(&archived.digest)
            );
        }
        if self.archives.checked > 0 {
            text += &format!(
                "archives: {} checked, {}\n",
                self.archives.checked,
                counted(self.archives.rows, "row")
            );
        }
        if self.legacy.rows + self.legacy.uncovered > 0 {
            text += &format!(
                "product's own rows: {} below the boundary, {} since, which nothing covers\n",
                self.legacy.rows, self.legacy.uncovered
            );
        }
        self.list_findings(&mut text);
        text
    }

    /// The findings by their kinds, and the verdict.
    fn list_findings(&self, text: &mut String) {
        let mut kinds: BTreeMap<_, Vec<&Finding>> = BTreeMap::new();
        for finding in self.findings() {
            kinds.entry(finding.kind).or_default().push(finding);
        }
        let more = self.more();
        let mut found = 0;
        for (kind, findings) in &kinds {
            let all = findings.len() as u64 + more.get(kind).unwrap_or(&0);
            found += all;
            *text += &format!("\n{} ({all})\n", kind.name());
            for finding in findings.iter().take(LISTED) {
                let stream = finding.stream.as_deref().unwrap_or("audit_logs");
                let layers: Vec<&str> = finding.layers.iter().map(|l: &Layer| l.name()).collect();
                let told = plain(&finding.text);
                // What `audit show` takes.
                let id = finding
                    .id
                    .map_or_else(String::new, |id| format!(" (id {id})"));
                *text += &format!("  {stream}: {told}{id} [{}]\n", layers.join(", "));
            }
            if findings.len() > LISTED {
                let unlisted = all - LISTED as u64;
                *text += &format!(
                    "  and {unlisted} more: --json lists {} of them\n",
                    findings.len() - LISTED
                );
            }
        }
        if kinds.contains_key(&Kind::HeadForged) || kinds.contains_key(&Kind::SignatureEdited) {
            *text += "\nWhere every head or every row is named, look first whether the keys and the secret are \
                      those of this log: SECURITY_AUDIT_VERIFIER_KEYS_PATH, SECURITY_AUDIT_HMAC_SECRET.\n";
        }
        let rows: u64 = self.logs.iter().map(|log| log.rows).sum();
        let proven: u64 = self.logs.iter().map(|log| log.rows_proven).sum();
        *text += &match (found, rows, proven) {
            (0, 0, _) => "\nThere are no rows to check.\n".to_owned(),
            (0, _, 0) => format!(
                "\nNothing is wrong with {}, but no signed head covers one of them yet: \
                 nothing proves them.\n",
                counted(rows, "row")
            ),
            (0, _, proven) if proven < rows => format!(
                "\nAll {rows} rows are as they should be; {proven} of them {} proven by signed \
                 heads.\n",
                by(proven, "is", "are")
            ),
            (0, 1, _) => {
                "\nThe only row is as it was signed; a signed head proves it.\n".to_owned()
            }
            (0, ..) => {
                format!("\nAll {rows} rows are as they were signed; signed heads prove them.\n")
            }
            (found, ..) => format!(
                "\nNOT AS IT WAS SIGNED: {}. Keep database, bus and logs as they are; \
                 docs/audit.md says what each finding means.\n",
                counted(found, "finding")
            ),
        };
    }
}
