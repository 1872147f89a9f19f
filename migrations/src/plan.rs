//! Which steps lead from the version of the database to the one that is wanted ([`crate::runner`] runs
//! them), and the SQL that they would run, for people to read first.

use sqlx::PgConnection;

use crate::error::MigrateError;
use crate::history::{self, History};
use crate::module::{Module, latest};
use crate::part;
use crate::step::{Direction, Script, Step};
use crate::transaction::SETTINGS;

/// Where a database shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// At this version or the newest, from below.
    Up(Option<u32>),
    /// At this version, from above.
    Down(u32),
    /// The current version, with its last step undone and applied again.
    Redo,
}

/// A step as it would be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// The step.
    pub step: Step,
    /// Which way.
    pub direction: Direction,
    /// Its parts, in order.
    pub parts: Vec<PlannedPart>,
}

/// A part as it would be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPart {
    /// How it is run.
    pub kind: String,
    /// Its SQL, with the element's name in it and the settings of its transaction.
    pub sql: String,
}

/// Taken down where version 1 was adopted: it goes as it came, by our version table alone.
static RELEASE: Script = Script {
    name: "initial",
    up: "",
    down: "-- Version 1 was adopted: the tables are the product's, and stay with their rows.\n",
};

pub(crate) type Way = Vec<(Step, &'static Script, Direction)>;

/// What [`crate::Migrator`] would run to reach the goal. Takes no lock, waits for nobody and
/// changes nothing; whether rows forbid a step is not looked at.
pub async fn plan(
    conn: &mut PgConnection,
    module: &Module,
    goal: Goal,
) -> Result<Vec<PlannedStep>, MigrateError> {
    check_goal(module, goal)?;
    let history = history::read(conn, module).await?;
    let way = way(module, &history, goal)?;
    Ok(way
        .into_iter()
        .map(|(step, script, direction)| planned(module, step, script, direction))
        .collect())
}

/// Whether the goal is a version that exists.
pub(crate) fn check_goal(module: &Module, goal: Goal) -> Result<(), MigrateError> {
    let latest = latest(module);
    let (to, least) = match goal {
        Goal::Up(to) => (to.unwrap_or(latest), 1),
        Goal::Down(to) => (to, 0),
        Goal::Redo => return Ok(()),
    };
    if to < least || to > latest {
        return Err(MigrateError::OutOfRange {
            module: module.clone(),
            to,
            latest,
        });
    }
    Ok(())
}

/// The steps to the goal, in the order in which they are taken. An unfinished step is taken from
/// its first part again, in the direction of the goal.
pub(crate) fn way(module: &Module, history: &History, goal: Goal) -> Result<Way, MigrateError> {
    let (version, reached) = (history.version(), history.reached());
    let wrong = |to| MigrateError::WrongDirection {
        module: module.clone(),
        version: reached,
        direction: if matches!(goal, Goal::Up(_)) {
            "up"
        } else {
            "down"
        },
        to,
    };
    let up = |above: u32, to: u32| {
        module
            .steps()
            .filter(move |(step, _)| step.version > above && step.version <= to)
            .map(|(step, script)| (step, script, Direction::Up))
    };
    let down = |above: u32| {
        module
            .steps()
            .rev()
            .filter(move |(step, _)| step.version > above && step.version <= reached)
            .map(|(step, script)| {
                let released = step.version == 1 && history.adopted;
                (
                    step,
                    if released { &RELEASE } else { script },
                    Direction::Down,
                )
            })
    };
    match goal {
        Goal::Up(to) => {
            let to = to.unwrap_or_else(|| latest(module));
            if to < reached {
                return Err(wrong(to));
            }
            Ok(up(version, to).collect())
        }
        Goal::Down(to) => {
            if to > version {
                return Err(wrong(to));
            }
            Ok(down(to).collect())
        }
        Goal::Redo => {
            if reached == 0 || (reached == 1 && history.adopted) {
                return Err(MigrateError::NothingToRedo {
                    module: module.clone(),
                });
            }
            Ok(down(reached - 1).chain(up(reached - 1, reached)).collect())
        }
    }
}

fn planned(
    module: &Module,
    step: Step,
    script: &'static Script,
    direction: Direction,
) -> PlannedStep {
    let parts = part::cut(&module.render(script.sql(direction)))
        .into_iter()
        .map(|part| {
            let sql = part.sql.trim();
            let sql = match &part.kind {
                part::Kind::Transaction | part::Kind::Batched(_) => {
                    format!("begin;\n{SETTINGS}\n{sql}\ncommit;")
                }
                part::Kind::Concurrently(_) | part::Kind::Refuse(_) | part::Kind::Loses(_) => {
                    sql.to_owned()
                }
            };
            PlannedPart {
                kind: part.kind.to_string(),
                sql,
            }
        })
        .collect();
    PlannedStep {
        step,
        direction,
        parts,
    }
}
