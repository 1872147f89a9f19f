//! The status for people: three tables and what is wrong, in lines no wider than the terminal. Words
//! carry everything; colour only helps to find it. Pure: from the status to a text.

use super::lines::{Line, Row, Table, Tone, age, events, grouped, wrapped};
use super::{
    Pace, ProjectionStatus, ProjectionStream, Rows, SourceStatus, Status, StreamStatus, Working,
};
use crate::service::answer::{Process, Stage};
use crate::terminal;
use artstore_runtime::count::counted;

/// What is not known.
const UNKNOWN: &str = "?";

/// How many troubles are written out.
const TOLD: usize = 3;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    /// Everything.
    Full,
    /// Without processes, streams that are well, and empty lines.
    Short,
    /// Of sources, streams and projections only those with something wrong; the others are counted.
    Bad,
}

/// The whole screen, each line ending with a line feed. With a height, as much as fits into it: what
/// is wrong and the verdict come first.
pub fn show(status: &Status, width: usize, height: Option<usize>, colour: bool) -> String {
    let mut lines = Vec::new();
    for detail in [Detail::Full, Detail::Short, Detail::Bad] {
        lines = tables(status, width, detail);
        let verdict = verdict(status, width);
        let rows = lines.len() + verdict.len();
        let Some(height) = height.filter(|height| rows > *height) else {
            lines.extend(verdict);
            break;
        };
        if detail == Detail::Bad {
            lines.truncate(height.saturating_sub(verdict.len() + 1));
            lines.push(Line::new("...".to_owned(), Tone::Plain));
            lines.extend(verdict);
        }
    }
    let mut text = String::new();
    for line in lines.iter().take(height.unwrap_or(usize::MAX)) {
        line.write(&mut text, width, colour);
    }
    text
}

/// All but the verdict.
fn tables(status: &Status, width: usize, detail: Detail) -> Vec<Line> {
    let mut lines = vec![Line::new(
        format!("artstore, {} UTC", status.at.format("%Y-%m-%d %H:%M:%S")),
        Tone::Plain,
    )];
    let full = detail == Detail::Full;
    let gap = |lines: &mut Vec<Line>| {
        if full {
            lines.push(Line::empty());
        }
    };
    let cut = |table: Table| match detail {
        Detail::Full | Detail::Short => table,
        Detail::Bad => table.only_bad(),
    };
    if let Some(problem) = &status.nats.problem {
        let text = format!("NATS {}: {problem}", status.nats.name);
        lines.extend(wrapped(&text, 4, width, Tone::Bad));
    }
    if !status.sources.is_empty() {
        gap(&mut lines);
        lines.extend(cut(sources(&status.sources)).lines(width));
        if full {
            lines.extend(proven(&status.sources, width));
            lines.extend(relays(&status.sources, width));
        }
    }
    let bad_streams = || status.streams.iter().any(|stream| stream.problem.is_some());
    if !status.streams.is_empty() && (full || bad_streams()) {
        gap(&mut lines);
        lines.extend(cut(streams(&status.streams)).lines(width));
    }
    for projection in &status.projections {
        gap(&mut lines);
        lines.extend(cut(places(projection)).lines(width));
        if full {
            lines.extend(processes(projection, width));
        }
    }
    match &status.read_model {
        None => {
            gap(&mut lines);
            lines.push(Line::new(
                "QUERY-CACHE: not shown, QUERY_DATABASE_URL is not set".to_owned(),
                Tone::Plain,
            ));
        }
        Some(database) => {
            if let Some(problem) = &database.problem {
                let text = format!("query database {}: {problem}", database.name);
                lines.extend(wrapped(&text, 4, width, Tone::Bad));
            }
        }
    }
    gap(&mut lines);
    lines
}

fn sources(sources: &[SourceStatus]) -> Table {
    let number = |number: Option<i64>| number.map_or_else(|| UNKNOWN.to_owned(), grouped);
    Table {
        title: "SOURCE".to_owned(),
        heads: vec![
            ("POSITION", true),
            ("PUBLISHED", true),
            ("UNPUBLISHED", true),
            ("GAPS", true),
            ("PENDING", true),
            ("RELAY", false),
        ],
        rows: sources
            .iter()
            .map(|source| Row {
                name: source.source.clone(),
                cells: vec![
                    number(source.position),
                    number(source.high_water_mark),
                    rows(source.unpublished),
                    number(source.gap_positions),
                    rows(source.pending),
                    relay(source),
                ],
                notes: source_notes(source),
                bad: source.database.problem.is_some()
                    || source.relay.problem.is_some()
                    || source.relay.stuck_seconds.is_some()
                    || matches!(
                        source.relay.state,
                        Working::None | Working::Waiting | Working::Silent
                    ),
            })
            .collect(),
    }
}

fn source_notes(source: &SourceStatus) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(problem) = &source.database.problem {
        notes.push(format!("database {}: {problem}", source.database.name));
    }
    if let Some(seconds) = source.relay.stuck_seconds {
        notes.push(format!("STUCK: no progress for {}", age(seconds)));
    }
    let mut facts = Vec::new();
    if !source.gaps.is_empty() {
        let ranges = source.gaps.iter().take(4).map(|range| {
            if range.first == range.last {
                range.first.to_string()
            } else {
                format!("{}-{}", range.first, range.last)
            }
        });
        let ranges: Vec<String> = ranges.collect();
        let more = if source.gaps.len() > 4 { ", …" } else { "" };
        facts.push(format!("gaps {}{more}", ranges.join(", ")));
    }
    let oldest = |rows: Option<Rows>| rows.and_then(|rows| rows.oldest_seconds);
    if let Some(seconds) = oldest(source.unpublished) {
        facts.push(format!("oldest unpublished row {}", age(seconds)));
    }
    if let Some(seconds) = oldest(source.pending) {
        facts.push(format!("oldest pending operation {}", age(seconds)));
    }
    if !facts.is_empty() {
        notes.push(facts.join("; "));
    }
    notes
}

fn rows(rows: Option<Rows>) -> String {
    let Some(rows) = rows else {
        return UNKNOWN.to_owned();
    };
    let more = if rows.at_least { "+" } else { "" };
    format!("{}{more}", grouped(rows.rows))
}

fn relay(source: &SourceStatus) -> String {
    let state = worked(source.relay.state);
    match source.relay.standby {
        0 => state.to_owned(),
        others => format!("{state} +{others}"),
    }
}

fn worked(state: Working) -> &'static str {
    match state {
        Working::Active => "active",
        Working::Silent => "SILENT",
        Working::Halted => "HALTED",
        Working::TakingOver => "taking over",
        Working::Waiting => "WAITING",
        Working::None => "NONE",
        Working::NotKnown => UNKNOWN,
    }
}

fn proven(sources: &[SourceStatus], width: usize) -> Vec<Line> {
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for source in sources {
        match &source.proven {
            Some(proven) => {
                let position = proven.position.map_or_else(|| UNKNOWN.to_owned(), grouped);
                let ago = age(proven.seconds);
                known.push(format!("{} {position} ({ago} ago)", source.source));
            }
            None => unknown.push(source.source.as_str()),
        }
    }
    let text = match (known.is_empty(), unknown.is_empty()) {
        (true, _) => "not verified".to_owned(),
        (false, true) => known.join(", "),
        (false, false) => format!("{}; not verified: {}", known.join(", "), unknown.join(", ")),
    };
    wrapped(&format!("proven up to: {text}"), 4, width, Tone::Plain)
}

fn relays(sources: &[SourceStatus], width: usize) -> Vec<Line> {
    let answers = sources
        .iter()
        .flat_map(|source| source.relay.answers.iter().flatten());
    let all = answers.map(|answer| (&answer.process, answer.stage == Stage::Active));
    who("relays", all, width)
}

fn processes(projection: &ProjectionStatus, width: usize) -> Vec<Line> {
    let of = |place: &'_ ProjectionStream| {
        let active = place.workers.active.iter().map(|p| (p.clone(), true));
        let others = place.workers.standby.iter().map(|p| (p.clone(), false));
        active.chain(others).collect::<Vec<_>>()
    };
    let all: Vec<(Process, bool)> = projection.streams.iter().flat_map(of).collect();
    who("workers", all.iter().map(|(p, active)| (p, *active)), width)
}

/// Which process is active for how many.
fn who<'a>(title: &str, all: impl Iterator<Item = (&'a Process, bool)>, width: usize) -> Vec<Line> {
    let mut counts = std::collections::BTreeMap::new();
    for (process, active) in all {
        let count: &mut (usize, usize) = counts.entry(process).or_default();
        count.0 += usize::from(active);
        count.1 += usize::from(!active);
    }
    let all: Vec<String> = counts
        .into_iter()
        .map(|(process, (active, others))| {
            let name = format!("{} {}", process.host, process.pid);
            match (active, others) {
                (active, 0) => format!("{name} active for {active}"),
                (active, others) => format!("{name} active for {active} of {}", active + others),
            }
        })
        .collect();
    if all.is_empty() {
        return Vec::new();
    }
    wrapped(
        &format!("{title}: {}", all.join(", ")),
        4,
        width,
        Tone::Plain,
    )
}

fn streams(streams: &[StreamStatus]) -> Table {
    let mirrors = streams.iter().flat_map(|stream| &stream.facts);
    let mirrors = mirrors.clone().any(|facts| facts.mirror.is_some());
    let mut heads = vec![
        ("MESSAGES", true),
        ("SIZE", true),
        ("LAST MESSAGE", true),
        ("REPLICAS", true),
    ];
    if mirrors {
        heads.push(("MIRROR", true));
    }
    let cells = |stream: &StreamStatus| {
        let Some(facts) = &stream.facts else {
            return vec![UNKNOWN.to_owned(); heads.len()];
        };
        let last = facts.last_seconds;
        let mut cells = vec![
            grouped(facts.messages),
            terminal::human(i64::try_from(facts.bytes).unwrap_or(i64::MAX)),
            last.map_or_else(|| "none".to_owned(), |last| format!("{} ago", age(last))),
            format!("{} of {}", facts.replicas_current, facts.replicas),
        ];
        if mirrors {
            cells.push(match &facts.mirror {
                None => "-".to_owned(),
                Some(mirror) => format!("{} behind", grouped(mirror.lag)),
            });
        }
        cells
    };
    Table {
        title: "STREAM OF".to_owned(),
        rows: streams
            .iter()
            .map(|stream| Row {
                name: stream.source.clone(),
                cells: cells(stream),
                notes: match &stream.facts {
                    Some(facts) if facts.replicas_lag > 0 => vec![format!(
                        "a replica is {} behind",
                        counted(grouped(facts.replicas_lag), "operation")
                    )],
                    Some(_) | None => Vec::new(),
                },
                bad: stream.problem.is_some(),
            })
            .collect(),
        heads,
    }
}

fn places(projection: &ProjectionStatus) -> Table {
    let version = projection
        .version
        .map(|version| format!(" v{version}"))
        .unwrap_or_default();
    Table {
        title: format!("{}{version}", projection.projection.to_uppercase()),
        heads: vec![
            ("SEQUENCE", true),
            ("BEHIND", true),
            ("LAG", true),
            ("RATE", true),
            ("WORKERS", false),
            ("STATE", false),
        ],
        rows: projection
            .streams
            .iter()
            .map(|place| Row {
                name: place.source.clone(),
                cells: vec![
                    place.sequence.map_or_else(|| UNKNOWN.to_owned(), grouped),
                    place.lag_events.map_or_else(|| UNKNOWN.to_owned(), grouped),
                    match (place.lag_events, place.lag_seconds) {
                        (Some(0), _) => "-".to_owned(),
                        (_, Some(lag)) => age(lag),
                        (_, None) => UNKNOWN.to_owned(),
                    },
                    place.rate.map_or_else(
                        || UNKNOWN.to_owned(),
                        |rate| format!("{}/s", grouped(rate.round() as u64)),
                    ),
                    workers(place),
                    state(place),
                ],
                notes: Vec::new(),
                bad: matches!(
                    place.state,
                    Pace::Stuck | Pace::Halted | Pace::Paused | Pace::OffTheStream
                ) || place.workers.problem.is_some()
                    || matches!(place.workers.state, Working::None | Working::Waiting),
            })
            .collect(),
    }
}

/// The database counts all; those that answered are those that are known by name.
fn workers(place: &ProjectionStream) -> String {
    let workers = &place.workers;
    // Its lock shows that it exists, its checkpoint shows its progress.
    let state = match workers.state {
        Working::Silent => "active",
        state => worked(state),
    };
    let others = match workers.sessions {
        Some(sessions) => sessions - i64::from(workers.lock_held == Some(true)),
        None => i64::try_from(workers.standby.len()).unwrap_or(0),
    };
    if others > 0 {
        format!("{state} +{others}")
    } else {
        state.to_owned()
    }
}

fn state(place: &ProjectionStream) -> String {
    match (place.state, place.state_seconds) {
        (Pace::UpToDate, None) => "nothing yet".to_owned(),
        (Pace::UpToDate, Some(seconds)) => format!("nothing new for {}", age(seconds)),
        (Pace::CatchingUp, None) => "catching up".to_owned(),
        (Pace::CatchingUp, Some(seconds)) => format!("{} to catch up", age(seconds)),
        (Pace::Stuck, seconds) => format!("STUCK for {}", age(seconds.unwrap_or(0.0))),
        (Pace::Halted, _) => "HALTED".to_owned(),
        (Pace::Paused, seconds) => format!("PAUSED for {}", age(seconds.unwrap_or(0.0))),
        (Pace::OffTheStream, _) => "OFF THE STREAM".to_owned(),
        (Pace::NotKnown, _) => "not known".to_owned(),
    }
}

fn verdict(status: &Status, width: usize) -> Vec<Line> {
    if status.troubles.is_empty() {
        let behind: Vec<String> = status
            .projections
            .iter()
            .flat_map(|projection| &projection.streams)
            .filter(|place| place.state == Pace::CatchingUp)
            .map(|place| {
                let behind = events(place.lag_events.unwrap_or(0));
                format!("{} ({behind})", place.source)
            })
            .collect();
        let text = match behind.is_empty() {
            true => "All is well.".to_owned(),
            false => format!("All is well; catching up: {}.", behind.join(", ")),
        };
        return wrapped(&text, 4, width, Tone::Good);
    }
    let mut lines = Vec::new();
    for (index, trouble) in status.troubles.iter().take(TOLD).enumerate() {
        let title = if index == 0 { "NOT WELL" } else { "ALSO" };
        let text = format!("{title}: {}: {}", trouble.about, trouble.what);
        lines.extend(wrapped(&text, 4, width, Tone::Bad));
        let colon = if trouble.command.is_some() { ":" } else { "" };
        let todo = format!("  DO: {}{colon}", trouble.todo);
        lines.extend(wrapped(&todo, 6, width, Tone::Plain));
        // On a line of its own, as it can be copied.
        if let Some(command) = &trouble.command {
            lines.push(Line::new(format!("      {command}"), Tone::Plain));
        } else if let Some(see) = &trouble.see {
            lines.push(Line::new(format!("  SEE: {see}"), Tone::Plain));
        }
    }
    let more = status.troubles.len().saturating_sub(TOLD);
    if more > 0 {
        let text = format!("and {more} more, which `artstore status --json` lists");
        lines.push(Line::new(text, Tone::Plain));
    }
    lines
}
