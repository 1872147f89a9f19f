//! Why a database was not migrated. Every message states what happened, to what, and what to do.

use artstore_runtime::words::words;
use std::fmt;

use crate::module::Module;
use crate::step::{Direction, Step};

/// Why a database was not migrated, or not to the end. Steps that were already done stay done. A
/// step of several parts may be left unfinished: the status says so, and the next `up` or `down`
/// finishes it in its own direction.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The version asked for does not exist.
    #[error("{module} has no version {to}: up takes 1 to {latest}, down takes 0 to {latest}")]
    OutOfRange {
        /// Whose.
        module: Module,
        /// What was asked for.
        to: u32,
        /// The last version that this program knows.
        latest: u32,
    },
    /// Up was asked for a version below the current one, or down for one above it.
    #[error(
        "{module} is at version {version}, so {direction} to {to} is not possible: \
         nothing was changed; use {}",
        if *direction == "up" { "down" } else { "up" }
    )]
    WrongDirection {
        /// Whose.
        module: Module,
        /// The version that is there.
        version: u32,
        /// "up" or "down".
        direction: &'static str,
        /// What was asked for.
        to: u32,
    },
    /// The connection is in a transaction of the caller's, where a step would not be kept.
    #[error(
        "the connection is already in a transaction: migrating {module} commits step by step and \
         needs a connection of its own; nothing was changed"
    )]
    InTransaction {
        /// What was to be migrated.
        module: Module,
    },
    /// The database is another module's.
    #[error(
        "database \"{database}\" holds {owner} table {table}: refusing to create {whose} tables \
         there; nothing was changed; check {variable}"
    )]
    WrongDatabase {
        /// Its name.
        database: String,
        /// Whose table was found: "the query module's".
        owner: &'static str,
        /// The table.
        table: String,
        /// Whose tables were to be made: "admin's".
        whose: String,
        /// The variable that names the database.
        variable: &'static str,
    },
    /// The module's tables exist, but these migrations did not create them.
    #[error(
        "database \"{database}\" already holds {} of {module}, but not our version table \
         {version_table}: they were created by something else; nothing was changed; if that was the \
         product, run `artstore migrate adopt`; if not, use an empty database, or check {}",
        found.join(", "),
        module.variable()
    )]
    Unmanaged {
        /// The database.
        database: String,
        /// Whose tables.
        module: Module,
        /// What was found.
        found: Vec<String>,
        /// What is missing.
        version_table: String,
    },
    /// A newer program has migrated the database.
    #[error(
        "{module} in database \"{database}\" is at version {version}, but this program knows only \
         {latest}: nothing was changed; use the program that migrated it, or a newer one"
    )]
    TooNew {
        /// The database.
        database: String,
        /// Whose.
        module: Module,
        /// The version that is there.
        version: i64,
        /// The last version that this program knows.
        latest: u32,
    },
    /// The version table is not a run of versions from 1.
    #[error(
        "table {version_table} in database \"{database}\" should list the versions 1, 2, 3 and so \
         on, but has {found} where {expected} should be: somebody changed it; nothing else was \
         changed; restore the row, or the database"
    )]
    BrokenHistory {
        /// The database.
        database: String,
        /// The table.
        version_table: String,
        /// The version that should come.
        expected: i64,
        /// The version that comes.
        found: i64,
    },
    /// A step was applied from another text than the one that this program has.
    #[error(
        "step {step} of {module} was applied to database \"{database}\" from another text \
         (checksum {applied}) than this program has ({embedded}): an applied migration must not \
         change; nothing was changed; use the program that applied it"
    )]
    Changed {
        /// The database.
        database: String,
        /// Whose.
        module: Module,
        /// The step.
        step: Step,
        /// SHA-256 of the applied text, from the version table.
        applied: String,
        /// SHA-256 of the embedded text.
        embedded: String,
    },
    /// Another migrator of the same module did not end.
    #[error(
        "another migrator of {module} (backend {}) still works after {waited_s} s: nothing was \
         changed; wait for it, or end it with pg_terminate_backend, and try again",
        pid.map_or("unknown".to_owned(), |pid| pid.to_string())
    )]
    Busy {
        /// Whose.
        module: Module,
        /// The backend that holds the lock, where it can be seen.
        pid: Option<i32>,
        /// How long we waited, in seconds.
        waited_s: u64,
    },
    /// There is no step to do again.
    #[error(
        "{module} has no step of ours to redo: it is at version 0, or at 1 by adoption; use up"
    )]
    NothingToRedo {
        /// Whose.
        module: Module,
    },
    /// Rows forbid a step, or would be lost by it.
    #[error(
        "{direction} step {step} of {module} {}, so nothing of it was changed: {found}{}",
        if *loses { "would lose data" } else { "can't be done with these rows" },
        if *loses { "; --accept-loss continues all the same" } else { "" }
    )]
    Refused {
        /// Whose.
        module: Module,
        /// The step.
        step: Step,
        /// "up" or "down".
        direction: &'static str,
        /// Which rows.
        found: Box<FoundTables>,
        /// Whether it can be done, but loses them.
        loses: bool,
    },
    /// A step could not get its locks.
    #[error(
        "{direction} step {step} of {module} got no lock on its tables in {waited_s} s: \
         {progress}{}; {}; end them or wait, and try again (--patience SECONDS waits longer)",
        match index_left {
            Some(index) => format!(
                ", but for the unfinished index {index}, which could not be dropped: it costs every \
                 writer, and a unique one refuses rows, until the step is tried again"
            ),
            None => String::new(),
        },
        if holders.is_empty() {
            "nobody holds one any more".to_owned()
        } else {
            format!("it waited for {}", holders.join(", "))
        }
    )]
    Blocked {
        /// Whose.
        module: Module,
        /// The step.
        step: Step,
        /// "up" or "down".
        direction: &'static str,
        /// How long it was tried, in seconds.
        waited_s: u64,
        /// Who held locks on the module's tables right after the last attempt, or, where that may
        /// have kept it waiting, an old snapshot.
        holders: Vec<String>,
        /// What was kept of the step.
        progress: StepProgress,
        /// An index whose building was given up and that could not be dropped either.
        index_left: Option<String>,
    },
    /// A step failed.
    #[error(
        "{direction} step {step} of {module} failed: {}; {progress}, steps before it stay \
         done; fix the cause and try again",
        words(.source)
    )]
    Step {
        /// Whose.
        module: Module,
        /// The step.
        step: Step,
        /// "up" or "down".
        direction: &'static str,
        /// The database's message.
        source: sqlx::Error,
        /// What was kept of the step.
        progress: StepProgress,
    },
    /// The connection was lost, or the database refused, while a step was being committed.
    #[error(
        "{direction} step {step} of {module}: a commit was not confirmed: {}; whether it was \
         kept shows in the status of the migrations, and trying again is safe",
        words(.source)
    )]
    Commit {
        /// Whose.
        module: Module,
        /// The step.
        step: Step,
        /// "up" or "down".
        direction: &'static str,
        /// The database's message.
        source: sqlx::Error,
    },
    /// Adoption could not repair something.
    #[error(
        "adopting {module}: repairing this failed: {what}: {}; what was repaired before \
         stays and does no harm, nothing else was changed; fix the cause and try again",
        words(.source)
    )]
    Repair {
        /// Whose.
        module: Module,
        /// What was to be repaired.
        what: String,
        /// The database's message.
        source: sqlx::Error,
    },
    /// A repair could not get its locks.
    #[error(
        "adopting {module}: a repair got no lock in {attempts} attempts: {what}; what was repaired \
         before stays and does no harm; {}; end them or wait, and try again",
        if holders.is_empty() {
            "nobody holds one any more".to_owned()
        } else {
            format!("locks are held by {}", holders.join(", "))
        }
    )]
    RepairBlocked {
        /// Whose.
        module: Module,
        /// What was to be repaired.
        what: String,
        /// How often it was tried.
        attempts: u32,
        /// Who held locks on the module's tables right after the last attempt.
        holders: Vec<String>,
    },
    /// Somebody changed the tables during an adoption.
    #[error(
        "adopting {module}: the tables were changed meanwhile: {what}; nothing was recorded; \
         try again"
    )]
    ChangedMeanwhile {
        /// Whose.
        module: Module,
        /// What was not so before.
        what: String,
    },
    /// A question to the database failed.
    #[error(
        "{doing} for {module} failed: {}; nothing was changed; check {}",
        words(.source),
        module.variable()
    )]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Whose.
        module: Module,
        /// The database's message.
        source: sqlx::Error,
    },
}

impl MigrateError {
    /// For `map_err`: a question about a module that failed.
    pub(crate) fn database(
        doing: &'static str,
        module: &Module,
    ) -> impl FnOnce(sqlx::Error) -> Self {
        let module = module.clone();
        move |source| Self::Database {
            doing,
            module,
            source,
        }
    }
}

/// Rows that a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTables {
    /// What is wrong with them.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// The first ten of them.
    pub rows: Vec<String>,
    /// How many there are.
    pub count: i64,
}

impl fmt::Display for FoundTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.problem)?;
        for row in &self.rows {
            write!(f, "\n  {row}")?;
        }
        let more = self.count - i64::try_from(self.rows.len()).unwrap_or(i64::MAX);
        if more > 0 {
            write!(f, "\n  and {more} more, {} in all", self.count)?;
        }
        write!(f, "\n{}", self.remedy)
    }
}

/// What is kept of a step that could not continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepProgress {
    /// Nothing.
    Nothing,
    /// The parts before this one.
    Unfinished {
        /// From 1.
        part: u16,
        /// How many there are.
        of: u16,
    },
}

impl fmt::Display for StepProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing of it was kept"),
            Self::Unfinished { part, of } => write!(
                f,
                "it is unfinished, at part {part} of {of}: `up` finishes it, `down` takes it back"
            ),
        }
    }
}

/// What is being done, for errors and logs.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) module: &'a Module,
    pub(crate) step: Step,
    pub(crate) direction: Direction,
    /// Which part, from 1; 0 before the first.
    pub(crate) part: u16,
    /// Of how many.
    pub(crate) of: u16,
}

impl Task<'_> {
    /// What is kept of the step if its present part fails.
    pub(crate) fn progress(&self) -> StepProgress {
        if self.part == 0 || self.of <= 1 {
            return StepProgress::Nothing;
        }
        StepProgress::Unfinished {
            part: self.part,
            of: self.of,
        }
    }

    pub(crate) fn failed(&self, failure: Failure) -> MigrateError {
        let (module, step) = (self.module.clone(), self.step);
        let direction = self.direction.word();
        match failure {
            Failure::Work(source) => MigrateError::Step {
                module,
                step,
                direction,
                source,
                progress: self.progress(),
            },
            Failure::Commit(source) => MigrateError::Commit {
                module,
                step,
                direction,
                source,
            },
        }
    }
}

/// Where one try ended: before its commit nothing was kept, at the commit it is not known.
pub(crate) enum Failure {
    Work(sqlx::Error),
    Commit(sqlx::Error),
}
