//! The list of what is wrong, in order of its weight.

use crate::service::answer::{Problem, Process};
use crate::status::{Server, Trouble};
use crate::troubleshooting;

/// How much something matters; the first first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// Nothing can be reported or done without it.
    Nats,
    Database,
    /// What is there is not what should be there.
    Damage,
    /// A person has to act before anything continues.
    Halted,
    /// A person has stopped it, and has to let it continue.
    Paused,
    /// A person has to act for some keys; everything else continues.
    Parked,
    /// Nobody works.
    Nobody,
    /// Somebody should, and does not.
    Stuck,
    /// It works, with less safety.
    Weakened,
    LeftBehind,
}

/// What is wrong, as it is found.
#[derive(Default)]
pub(super) struct TroubleList(Vec<(Weight, Trouble)>);

impl TroubleList {
    pub(super) fn add(
        &mut self,
        weight: Weight,
        about: &str,
        what: String,
        todo: &str,
        command: Option<String>,
    ) {
        let trouble = Trouble {
            about: about.to_owned(),
            see: troubleshooting::section(&what),
            what,
            todo: todo.to_owned(),
            command,
        };
        self.0.push((weight, trouble));
    }

    /// What a relay or worker reports is wrong with it.
    pub(super) fn problem(&mut self, who: &str, about: &str, problem: &Problem) {
        let (weight, what) = match problem.halted {
            true => (Weight::Halted, "has halted"),
            false => (Weight::Stuck, "starts again"),
        };
        let command = command_in(&problem.text);
        let todo = match (problem.halted, &command) {
            (true, Some(_)) => {
                "run this, and what it names next; the rest continues by itself then"
            }
            (true, None) => "remove the cause that is named; it continues by itself then",
            (false, Some(_)) => "it tries again by itself; where that does not lead on, run this",
            (false, None) => {
                "it tries again by itself; where that does not lead on, remove the cause that is \
                 named, and look at its log"
            }
        };
        let text = format!("the {who} {what}: {}", problem.text);
        self.add(weight, about, text, todo, command);
    }

    /// The most important first.
    pub(super) fn sorted(mut self) -> Vec<Trouble> {
        self.0.sort_by_key(|(weight, _)| *weight);
        self.0.into_iter().map(|(_, trouble)| trouble).collect()
    }
}

/// Whether nothing can be asked of it: not where only one question was not answered, as behind a lock.
pub(super) fn is_down(database: &Server) -> bool {
    let problem = database.problem.as_deref().unwrap_or_default();
    problem.starts_with("can't be reached") || problem.starts_with("does not answer")
}

/// A process as it is named.
pub(super) fn shown(process: &Process) -> String {
    format!("{} (process {})", process.host, process.pid)
}

/// The command that a text names: our texts have commands between backticks.
pub(super) fn command_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("`artstore ")?;
    let (command, _) = rest.split_once('`')?;
    Some(format!("artstore {command}"))
}
