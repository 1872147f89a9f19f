//! Numbers in Prometheus' text format, version 0.0.4. Written by hand: all numbers are read at the
//! moment of a scrape from states that exist anyway, so a registry would have nothing to keep,
//! and the format itself is a few lines.

use std::fmt::{Display, Write as _};

/// The content type of a scrape's answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics as text.
#[derive(Debug, Default)]
pub struct Text(String);

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// It goes up and down.
    Gauge,
    /// It goes up, from the start of the process.
    Counter,
    /// Counts by upper bounds, with sum and count.
    Histogram,
}

/// One metric, to be filled with a line for each of its label sets.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Text {
    /// Begins a metric. Each name is begun once.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        push(
            &mut self.0,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
        Family {
            text: &mut self.0,
            name,
        }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One line.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// A line of a histogram: `suffix` is `_bucket`, `_sum` or `_count`.
    pub(super) fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        push(self.text, format_args!("{}{suffix}", self.name));
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            push(
                self.text,
                format_args!("{before}{label}=\"{}\"", escaped(text)),
            );
        }
        let after = if labels.is_empty() { "" } else { "}" };
        push(self.text, format_args!("{after} {value}\n"));
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_as_prometheus_wants_it() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "first line\nwith a \\")
            .sample(&[("x", "a \"b\" \\ c\nd"), ("y", "")], 3);
        text.family("b", Kind::Gauge, "none").sample(&[], f64::NAN);
        assert_eq!(
            text.into_string(),
            "# HELP a_total first line\\nwith a \\\\\n# TYPE a_total counter\n\
             a_total{x=\"a \\\"b\\\" \\\\ c\\nd\",y=\"\"} 3\n\
             # HELP b none\n# TYPE b gauge\nb NaN\n"
        );
    }
}
