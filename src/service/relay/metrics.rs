//! The numbers of a relay, and of the check of its source.

use artstore_producers::relay::progress::RelayState;
use artstore_runtime::progress::Stage;
use artstore_verification::finding::Kind as FindingKind;

use super::RelayRole;
use super::view::{Reached, View};
use crate::service::metrics::{Kind, Text};
use crate::service::readiness::{STALE, is_fresh};

/// What a check of a source can find.
const FINDING_KINDS: [FindingKind; 9] = [
    FindingKind::MessageMissing,
    FindingKind::MessageExtra,
    FindingKind::MessageDoubled,
    FindingKind::MessageChanged,
    FindingKind::MessageDisordered,
    FindingKind::StreamHole,
    FindingKind::StreamBroken,
    FindingKind::MessageForeign,
    FindingKind::RowUnnumbered,
];

impl RelayRole {
    pub(super) fn write_metrics(&self, text: &mut Text) {
        let seen: Vec<(String, String, RelayState, Reached)> = self
            .sources
            .iter()
            .map(|w| {
                (
                    w.relay.source.to_string(),
                    w.relay.source.stream(),
                    w.relay.progress.read(),
                    w.reached().clone(),
                )
            })
            .collect();
        let mut write = |name, kind, help, value: &dyn Fn(&View<'_>) -> Option<f64>| {
            let mut family = text.family(name, kind, help);
            for (source, stream, state, reached) in &seen {
                let view = View {
                    started: self.started,
                    stale: STALE + self.poll_interval,
                    state,
                    reached,
                };
                if let Some(value) = value(&view) {
                    family.sample(&[("source", source), ("stream", stream)], value);
                }
            }
        };
        let flag = |on: bool| Some(f64::from(u8::from(on)));
        // A standby relay knows nothing of the lag; the active one reports it.
        let mine = |view: &View<'_>| view.state.stage != Stage::Standby;
        let read = |view: &View<'_>| mine(view) && view.state.polled.is_some();
        write(
            "artstore_relay_active",
            Kind::Gauge,
            "1 on the relay that publishes this source.",
            &|v| flag(v.state.stage == Stage::Active),
        );
        write(
            "artstore_relay_standby",
            Kind::Gauge,
            "1 while this relay is a standby: another one has this source.",
            &|v| flag(v.state.stage == Stage::Standby),
        );
        write(
            "artstore_relay_halted",
            Kind::Gauge,
            "1 while halted: an operator has to act, and /health/ready says why.",
            &|v| flag(v.state.problem.as_ref().is_some_and(|p| p.halted)),
        );
        write(
            "artstore_relay_stream_up",
            Kind::Gauge,
            "1 while the stream can be reached.",
            &|v| flag(is_fresh(v.reached.last, STALE)),
        );
        write(
            "artstore_relay_position",
            Kind::Gauge,
            "Position of the stream's last message, as this relay knows it.",
            &|v| v.state.position.map(|position| position as f64),
        );
        write(
            "artstore_relay_high_water_mark",
            Kind::Gauge,
            "High-water mark: the highest position in the stream, as this relay knows it.",
            &|v| read(v).then_some(v.state.high_water_mark as f64),
        );
        write(
            "artstore_relay_gap_positions",
            Kind::Gauge,
            "Positions in gaps: below the high-water mark, neither in the stream nor known to be aborted.",
            &|v| read(v).then_some(v.state.gap_positions as f64),
        );
        write(
            "artstore_relay_aborted_positions_total",
            Kind::Counter,
            "Aborted positions: drawn from the sequence by transactions that rolled back.",
            &|v| Some(v.state.aborted as f64),
        );
        write(
            "artstore_relay_stream_sequence",
            Kind::Gauge,
            "Last sequence of the stream, as this relay knows it.",
            &|v| read(v).then_some(v.state.sequence as f64),
        );
        write(
            "artstore_relay_published_total",
            Kind::Counter,
            "Messages stored and acknowledged.",
            &|v| Some(v.state.published as f64),
        );
        write(
            "artstore_relay_retries_total",
            Kind::Counter,
            "Times that the relay read the stream's end again or started again after an error.",
            &|v| Some(v.state.retries as f64),
        );
        write(
            "artstore_relay_lag_up",
            Kind::Gauge,
            "1 while the lag can be measured.",
            &|v| {
                if mine(v) {
                    flag(v.lag_events().is_some())
                } else {
                    None
                }
            },
        );
        write(
            "artstore_relay_lag_events",
            Kind::Gauge,
            "Finished rows that are not published; NaN while it can't be measured.",
            &|v| mine(v).then(|| v.lag_events().map_or(f64::NAN, |events| events as f64)),
        );
        write(
            "artstore_relay_lag_seconds",
            Kind::Gauge,
            "Age of the oldest finished row that is not published; grows while it can't be measured.",
            &|v| mine(v).then(|| v.lag_seconds()),
        );
        write(
            "artstore_relay_poll_age_seconds",
            Kind::Gauge,
            "Time since the source last answered a poll.",
            &|v| mine(v).then(|| v.state.polled.unwrap_or(v.started).elapsed().as_secs_f64()),
        );
        self.proven_metrics(text);
    }

    fn proven_metrics(&self, text: &mut Text) {
        let proven = self.proven();
        if proven.is_empty() {
            return;
        }
        let mut family = text.family(
            "artstore_proven_position",
            Kind::Gauge,
            "Every position up to this one has its row and its message, and they agree.",
        );
        for (source, state) in &proven {
            if let Some(position) = state.position {
                family.sample(&[("source", &source.to_string())], position);
            }
        }
        let mut family = text.family(
            "artstore_findings",
            Kind::Gauge,
            "What does not agree, by kind; `artstore verify` lists it.",
        );
        for (source, state) in &proven {
            for kind in FINDING_KINDS {
                let count = state.findings.get(&kind).copied().unwrap_or(0);
                let (source, kind) = (source.to_string(), kind.to_string());
                family.sample(&[("source", &source), ("kind", &kind)], count);
            }
        }
        let mut family = text.family("artstore_proven_up", Kind::Gauge, "1 while the check runs.");
        for (source, state) in &proven {
            let on = state.problem.is_none()
                && is_fresh(state.updated, artstore_verification::proven::STALE);
            family.sample(&[("source", &source.to_string())], u8::from(on));
        }
    }
}
