//! The numbers of a projector.

use artstore_projectors::runtime::progress::Durations;
use artstore_runtime::progress::Stage;

use super::ProjectorRole;
use super::view::{Answer, View};
use crate::service::metrics::{Family, Kind, Text};

impl ProjectorRole {
    pub(super) fn write_metrics(&self, text: &mut Text) {
        let none = Answer::default();
        let mut databases = Vec::new();
        let mut workers = Vec::new();
        for shown in &self.shown {
            let measured = shown.measured().clone();
            let name = shown.projection.name();
            for (source, state) in shown.progress.workers() {
                let lag = measured.lags.get(&source).unwrap_or(&none).clone();
                let database = measured.database.clone();
                workers.push((name, source.stream(), state, database, lag));
            }
            databases.push((name, measured.database));
        }
        let mut writable = text.family(
            "artstore_projector_database_writable",
            Kind::Gauge,
            "1 while the read model's database answers and takes writes.",
        );
        for (name, database) in &databases {
            let well = database.is_fresh() && database.value == Some(true);
            writable.sample(&[("projection", name)], u8::from(well));
        }
        let mut write = |name, kind, help, value: &dyn Fn(&View<'_>) -> Option<f64>| {
            let mut family = text.family(name, kind, help);
            for (projection, stream, state, database, lag) in &workers {
                let view = View {
                    started: self.started,
                    state,
                    database,
                    lag,
                    still: None,
                };
                if let Some(value) = value(&view) {
                    family.sample(&[("projection", projection), ("stream", stream)], value);
                }
            }
        };
        let flag = |on: bool| Some(f64::from(u8::from(on)));
        write(
            "artstore_projector_active",
            Kind::Gauge,
            "1 on the process that has this stream.",
            &|v| flag(v.state.stage == Stage::Active),
        );
        write(
            "artstore_projector_standby",
            Kind::Gauge,
            "1 while this process is a standby: another one has this stream.",
            &|v| flag(v.state.stage == Stage::Standby),
        );
        write(
            "artstore_projector_halted",
            Kind::Gauge,
            "1 while halted: an operator has to act, and /health/ready says why.",
            &|v| flag(v.state.problem.as_ref().is_some_and(|p| p.halted)),
        );
        write(
            "artstore_projector_checkpoint_sequence",
            Kind::Gauge,
            "Sequence of the last message applied, as last read from the database.",
            &|v| v.lag.value.map(|lag| lag.checkpoint as f64),
        );
        write(
            "artstore_projector_stream_sequence",
            Kind::Gauge,
            "Last sequence of the stream, as last read from NATS.",
            &|v| v.lag.value.map(|lag| lag.last as f64),
        );
        write(
            "artstore_projector_lag_up",
            Kind::Gauge,
            "1 while the lag can be measured.",
            &|v| flag(v.lag_events().is_some()),
        );
        write(
            "artstore_projector_lag_events",
            Kind::Gauge,
            "Messages that are not applied; NaN while it can't be measured.",
            &|v| Some(v.lag_events().map_or(f64::NAN, |events| events as f64)),
        );
        write(
            "artstore_projector_lag_seconds",
            Kind::Gauge,
            "Age of the oldest message that is not applied; grows while it can't be measured.",
            &|v| Some(v.lag_seconds()),
        );
        write(
            "artstore_projector_lag_age_seconds",
            Kind::Gauge,
            "Time since the lag was last measured.",
            &|v| Some(v.lag.at.unwrap_or(v.started).elapsed().as_secs_f64()),
        );
        write(
            "artstore_projector_applied_total",
            Kind::Counter,
            "Events applied and committed.",
            &|v| Some(v.state.applied as f64),
        );
        write(
            "artstore_projector_parked_total",
            Kind::Counter,
            "Parked events (dead letters): they can't be applied, or wait behind one that can't.",
            &|v| Some(v.state.parked as f64),
        );
        write(
            "artstore_projector_batches_total",
            Kind::Counter,
            "Batches committed.",
            &|v| Some(v.state.commits.count() as f64),
        );
        write(
            "artstore_projector_retries_total",
            Kind::Counter,
            "Times that the worker started again after an error.",
            &|v| Some(v.state.retries as f64),
        );
        let mut commits = text.family(
            "artstore_projector_commit_seconds",
            Kind::Histogram,
            "How long the transaction of a batch took, from its first statement to its commit.",
        );
        for (projection, stream, state, ..) in &workers {
            let labels = [("projection", *projection), ("stream", stream.as_str())];
            histogram(&mut commits, labels, &state.commits);
        }
    }
}

fn histogram(family: &mut Family<'_>, labels: [(&str, &str); 2], of: &Durations) {
    let [projection, stream] = labels;
    for (bound, count) in of.cumulative() {
        let bound = bound.to_string();
        family.line("_bucket", &[projection, stream, ("le", &bound)], count);
    }
    family.line("_bucket", &[projection, stream, ("le", "+Inf")], of.count());
    family.line("_sum", &labels, of.sum().as_secs_f64());
    family.line("_count", &labels, of.count());
}
