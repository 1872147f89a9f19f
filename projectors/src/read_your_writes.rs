//! Read your writes: waits until a projection shows what a publisher has just written.
//!
//! Finishing an operation assigns a position. The checkpoint of each stream states which positions
//! its projection's rows show: all up to `source_high` except those in `source_missing`. A reader
//! that waits for its position, and queries after that, sees its own write.
//!
//! A position that a rolled back transaction drew is *aborted*. The relay learns that some polls later,
//! and its next message states it: such a position is covered with the element's next event, and
//! not before. Nobody has to wait for one: a position means nothing before the commit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use artstore_schemas::element::ElementName;
use artstore_schemas::ranges::{InvalidRanges, Ranges};
use artstore_schemas::source::Source;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};
use tokio::time::Instant;

/// The pause between two reads of the checkpoints: the first one and the longest. A read is one small statement.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// A position of an element that a reader wants to see. As text: `element:position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtLeast {
    /// The element.
    pub element: ElementName,
    /// What finishing the operation returned; from 1.
    pub position: i64,
}

/// A text that is no `element:position`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no ELEMENT:POSITION: expected one like storage_elem_01:4711")]
pub struct InvalidAtLeast {
    text: String,
}

impl FromStr for AtLeast {
    type Err = InvalidAtLeast;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (element, position) = text.split_once(':')?;
            let position: i64 = position.parse().ok().filter(|p| *p > 0)?;
            // An element is also known by its stream.
            let element = match Source::of_stream(element) {
                Some(Source::Element(element)) => element,
                Some(Source::Admin | Source::Query) | None => element.parse().ok()?,
            };
            Some(Self { element, position })
        };
        read().ok_or_else(|| InvalidAtLeast {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for AtLeast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.element, self.position)
    }
}

/// Why a position is not shown.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time is over. The text states the status of each position and what to check.
    #[error("not visible after {:.1} s: {}", .waited.as_secs_f64(), list(.left))]
    NotYet {
        /// How long was waited.
        waited: Duration,
        /// The positions that are not shown.
        left: Vec<NotShown>,
    },
    /// A checkpoint that can't be read.
    #[error("the checkpoint of stream {stream}: {error}")]
    Checkpoint {
        /// The stream.
        stream: String,
        /// What is wrong with it.
        error: InvalidRanges,
    },
    /// The database failed.
    #[error("the query database: {}", artstore_runtime::words::words(.0))]
    Database(#[from] sqlx::Error),
}

/// A position that is not shown.
#[derive(Debug, Clone)]
pub struct NotShown {
    /// Which one.
    pub wanted: AtLeast,
    /// Why it is not shown.
    pub standing: Standing,
}

/// Why a projection does not show a position yet.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It has no checkpoint of the element's stream. The streams that it has read.
    NothingRead(Vec<String>),
    /// It is behind.
    Behind {
        /// The highest position that it shows.
        high_water_mark: i64,
        /// What that was when the wait began.
        before: i64,
        /// When the checkpoint moved last.
        moved_at: DateTime<Utc>,
    },
    /// It is past it, without it.
    Missing {
        /// The highest position that it shows.
        high_water_mark: i64,
        /// When the checkpoint moved last.
        moved_at: DateTime<Utc>,
    },
}

fn list(left: &[NotShown]) -> String {
    let texts: Vec<String> = left.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl fmt::Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AtLeast { element, position } = &self.wanted;
        let stream = Source::Element(element.clone()).stream();
        write!(f, "position {position} of element {element}: ")?;
        match &self.standing {
            Standing::NothingRead(read) => {
                let read = match read.as_slice() {
                    [] => "no stream at all".to_owned(),
                    streams => streams.join(", "),
                };
                write!(
                    f,
                    "the projection has read nothing of stream {stream} yet (it has read {read}); \
                     check the element's name, and that its relay and the projector run"
                )
            }
            Standing::Behind {
                high_water_mark,
                before,
                moved_at,
            } if high_water_mark > before => write!(
                f,
                "the projection is at {high_water_mark} (at {before} when the wait began, last moved \
                 {moved_at:.3}); it catches up: wait longer"
            ),
            Standing::Behind {
                high_water_mark,
                moved_at,
                ..
            } => write!(
                f,
                "the projection stands still at {high_water_mark} (last moved {moved_at:.3}); look at the \
                 log of the projector (`artstore run projector`) and of the element's relay \
                 (`artstore run relay`), and whether the operation was committed"
            ),
            Standing::Missing {
                high_water_mark,
                moved_at,
            } => write!(
                f,
                "the projection is at {high_water_mark} (last moved {moved_at:.3}) and this number is \
                 missing below it: its transaction is still open, or was rolled back (that shows \
                 with the element's next event)"
            ),
        }
    }
}

struct CheckpointState {
    stream: String,
    high_water_mark: i64,
    gaps: Ranges,
    moved_at: DateTime<Utc>,
}

/// Waits until the projection's rows show all these positions, and returns how long that took. It
/// asks on this one connection, which must be in no transaction, every few milliseconds at first
/// and ten times a second at most.
pub async fn wait(
    connection: &mut PgConnection,
    projection: &str,
    wanted: &[AtLeast],
    timeout: Duration,
) -> Result<Duration, WaitError> {
    let started = Instant::now();
    let mut first: Option<Vec<CheckpointState>> = None;
    let mut interval = INTERVALS.0;
    while !wanted.is_empty() {
        let last_look = started.elapsed() >= timeout;
        let looked = look(connection, projection).await?;
        let before = first.as_deref().unwrap_or(&looked);
        let left: Vec<NotShown> = wanted
            .iter()
            .filter_map(|wanted| {
                Some(NotShown {
                    wanted: wanted.clone(),
                    standing: standing(wanted, &looked, before)?,
                })
            })
            .collect();
        if left.is_empty() {
            break;
        }
        if last_look {
            return Err(WaitError::NotYet {
                waited: started.elapsed(),
                left,
            });
        }
        first.get_or_insert(looked);
        let rest = timeout.saturating_sub(started.elapsed());
        tokio::time::sleep(interval.min(rest)).await;
        interval = (interval * 2).min(INTERVALS.1);
    }
    Ok(started.elapsed())
}

/// Why the projection does not show a position; none where it does.
fn standing(
    wanted: &AtLeast,
    looked: &[CheckpointState],
    before: &[CheckpointState],
) -> Option<Standing> {
    let stream = Source::Element(wanted.element.clone()).stream();
    let Some(now) = looked.iter().find(|l| l.stream == stream) else {
        let read = looked.iter().map(|l| l.stream.clone()).collect();
        return Some(Standing::NothingRead(read));
    };
    if wanted.position > now.high_water_mark {
        let before = before.iter().find(|l| l.stream == stream);
        return Some(Standing::Behind {
            high_water_mark: now.high_water_mark,
            before: before.map_or(0, |l| l.high_water_mark),
            moved_at: now.moved_at,
        });
    }
    now.gaps
        .contains(wanted.position)
        .then_some(Standing::Missing {
            high_water_mark: now.high_water_mark,
            moved_at: now.moved_at,
        })
}

async fn look(
    connection: &mut PgConnection,
    projection: &str,
) -> Result<Vec<CheckpointState>, WaitError> {
    let rows = sqlx::query(
        "select stream, source_high, source_missing, updated_at \
         from public.projection_checkpoints where projection = $1 order by stream",
    )
    .bind(projection)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let stream: String = row.try_get("stream")?;
            let gaps: String = row.try_get("source_missing")?;
            Ok(CheckpointState {
                gaps: gaps.parse().map_err(|error| WaitError::Checkpoint {
                    stream: stream.clone(),
                    error,
                })?,
                stream,
                high_water_mark: row.try_get("source_high")?,
                moved_at: row.try_get("updated_at")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let at_least: AtLeast = "storage_elem_01:4711".parse().expect("valid");
        assert_eq!(at_least.to_string(), "storage_elem_01:4711");
        for bad in [
            "", "elem", "elem:", "elem:0", "elem:-1", ":1", "Elem:1", "elem:1:2",
        ] {
            assert!(bad.parse::<AtLeast>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_position_is_shown_unless_it_is_above_or_missing() {
        let looked = [CheckpointState {
            stream: "ARTSTORE_WAL_elem".to_owned(),
            high_water_mark: 10,
            gaps: "3,4+2".parse().expect("valid"),
            moved_at: Utc::now(),
        }];
        for position in 1..=12 {
            let wanted = AtLeast {
                element: "elem".parse().expect("valid"),
                position,
            };
            let shown = standing(&wanted, &looked, &looked).is_none();
            assert_eq!(shown, [1, 2, 4, 5, 6, 10].contains(&position), "{position}");
        }
    }
}
