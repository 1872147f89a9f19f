//! One measure beside its raw limit.

use serde::Serialize;

/// One measurement beside its limit.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) ours: f64,
    pub(super) raw: f64,
    /// Ours as a part of the limit for rates, as a multiple of it for times.
    pub(super) ratio: f64,
    pub(super) limit: &'static str,
}

impl Line {
    /// The median of each side's rounds.
    pub(super) fn of(
        what: &'static str,
        unit: &'static str,
        limit: &'static str,
        rounds: Vec<(f64, f64)>,
    ) -> Self {
        let (ours, raw): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        let (ours, raw) = (median(ours), median(raw));
        Self {
            what,
            unit,
            ours,
            raw,
            ratio: ours / raw,
            limit,
        }
    }
}

impl Line {
    pub(super) fn digits(&self) -> usize {
        usize::from(self.unit == "ms")
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
