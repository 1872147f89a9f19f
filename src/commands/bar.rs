//! Progress bars, all of them: a line never passes the terminal's end, and a rate is a whole number.

use std::fmt::Write;

use indicatif::{ProgressState, ProgressStyle};

use crate::status::lines::grouped;

/// The style of a bar. What is fixed in `form` leaves room on 80 columns: the message gives way.
pub(super) fn style(form: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(form).expect("a valid template");
    style.with_key("per_sec", |state: &ProgressState, out: &mut dyn Write| {
        let rate = state.per_sec().round();
        // Where it does not fit, nothing is lost but a bar.
        let _ = write!(out, "{}/s", grouped(rate as i64));
    })
}

/// With a name before it.
pub(super) fn named() -> ProgressStyle {
    style("{wide_msg} {bar:12} {pos:>9}/{len} {per_sec:>9} {eta:>4}")
}
