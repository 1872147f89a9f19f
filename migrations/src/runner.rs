//! Up, down, redo, status: runs the steps of [`crate::plan`] on the database, part by part.

use std::time::Duration;

use artstore_runtime::crash;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use crate::error::{MigrateError, Task};
use crate::module::{Module, latest};
use crate::part::{self, Kind, Part};
use crate::patience::{DEFAULT_PATIENCE, Waiting};
use crate::plan::{Goal, check_goal, way};
use crate::step::{Direction, Script, Step};
use crate::transaction::{self, Version};
use crate::{batched, check, concurrent, guard, history, lock};

/// The version of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which module.
    pub module: Module,
    /// The version that the database is at; 0 where nothing of ours is there.
    pub version: u32,
    /// The last version that this program knows.
    pub latest: u32,
    /// Every known step, in order.
    pub steps: Vec<StepStatus>,
}

/// One step of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepStatus {
    /// The step.
    pub step: Step,
    /// When it was applied; `None` while it is pending.
    pub applied_at: Option<DateTime<Utc>>,
    /// Begun, up or down, and not finished: the next `up` or `down` does it.
    pub unfinished: bool,
}

/// Takes one module's database from version to version.
///
/// A step and its row in the version table commit together: after a crash a step is there as a
/// whole or not at all. A step of several parts may be left unfinished; then the next run takes it
/// up from its first part, each of which can be run again. Two migrators at once wait for each
/// other. Nothing is written where the database is another module's, or its tables are not ours.
///
/// Takes a direct connection of its own (no pooler, no open transaction). A caller that gives up
/// half-way should close it: the lock goes with the session.
#[derive(Debug)]
pub struct Migrator<'a> {
    conn: &'a mut PgConnection,
    module: &'a Module,
    patience: Duration,
    accept_loss: bool,
}

impl<'a> Migrator<'a> {
    /// With the default patience, and refusing to lose data.
    pub fn new(conn: &'a mut PgConnection, module: &'a Module) -> Self {
        Self {
            conn,
            module,
            patience: DEFAULT_PATIENCE,
            accept_loss: false,
        }
    }

    /// How long each part of a step may wait for tables that others hold. It asks for a table for a
    /// second at most and releases them in between, so that others are held up for moments only.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether steps down may lose rows and columns that the lower version has no place for.
    #[must_use]
    pub fn accept_loss(mut self, accept_loss: bool) -> Self {
        self.accept_loss = accept_loss;
        self
    }

    /// Migrates to the goal, and returns the applied steps, in order; none where it is there already.
    pub async fn run(mut self, goal: Goal) -> Result<Vec<(Step, Direction)>, MigrateError> {
        check_goal(self.module, goal)?;
        if self.conn.is_in_transaction() {
            return Err(MigrateError::InTransaction {
                module: self.module.clone(),
            });
        }
        lock::acquire(self.conn, self.module).await?;
        let result = self.walk(goal).await;
        lock::release(self.conn, self.module).await;
        result
    }

    /// Holds the lock: what another migrator did before us is read only now.
    async fn walk(&mut self, goal: Goal) -> Result<Vec<(Step, Direction)>, MigrateError> {
        if let Goal::Up(_) = goal {
            guard::refuse_other_modules(self.conn, self.module).await?;
        }
        let history = history::read(self.conn, self.module).await?;
        let way = way(self.module, &history, goal)?;
        if matches!(goal, Goal::Up(_)) && history.reached() == 0 {
            guard::refuse_unmanaged(self.conn, self.module).await?;
        }
        // What a step down may lose is seen from any version above it, so it is asked before the
        // first one; a step up is asked when those before it are done.
        for (step, script, direction) in &way {
            if *direction == Direction::Down {
                let unfinished = history.unfinished && step.version == history.reached();
                self.check(*step, script, *direction, unfinished).await?;
            }
        }
        let mut done = Vec::new();
        let mut has_table = history.exists;
        for (step, script, direction) in way {
            if direction == Direction::Up {
                let unfinished = history.unfinished && step.version == history.reached();
                self.check(step, script, direction, unfinished).await?;
            }
            self.step(step, script, direction, !has_table).await?;
            // It comes with the first step and goes with it.
            has_table = step.version > 1 || direction == Direction::Up;
            tracing::debug!(module = %self.module, %step, direction = direction.word(),
                "migration step done");
            done.push((step, direction));
        }
        Ok(done)
    }

    fn parts(&self, script: &Script, direction: Direction) -> Vec<Part> {
        part::cut(&self.module.render(script.sql(direction)))
    }

    async fn check(
        &mut self,
        step: Step,
        script: &'static Script,
        direction: Direction,
        unfinished: bool,
    ) -> Result<(), MigrateError> {
        let parts = self.parts(script, direction);
        let task = self.task(step, direction, 0, 0);
        check::run(self.conn, &task, &parts, self.accept_loss, unfinished).await
    }

    async fn step(
        &mut self,
        step: Step,
        script: &'static Script,
        direction: Direction,
        no_table: bool,
    ) -> Result<(), MigrateError> {
        let mut parts = self.parts(script, direction);
        parts.retain(|part| !part.kind.is_check());
        let of = u16::try_from(parts.len()).expect("parts are few");
        let make_table = step.version == 1 && direction == Direction::Up && no_table;
        let alone = of == 1 && parts[0].kind == Kind::Transaction;
        if !alone {
            let task = self.task(step, direction, 0, of);
            self.transaction(&task, script, "", Version::Begin).await?;
            crash::point("migrate.begun");
        }
        let mut finished = false;
        for (part, number) in parts.iter().zip(1..) {
            let task = self.task(step, direction, number, of);
            let patience = self.patience;
            match &part.kind {
                Kind::Transaction => {
                    finished = number == of;
                    let version = if finished {
                        Version::Finish(make_table)
                    } else {
                        Version::Keep
                    };
                    let sql = part.sent();
                    self.transaction(&task, script, &sql, version).await?;
                }
                Kind::Concurrently(extension) => {
                    let (statements, extension) = (part.statements(), extension.as_deref());
                    concurrent::run(self.conn, &task, &statements, extension, patience).await?;
                }
                Kind::Batched(keys) => {
                    batched::run(self.conn, &task, keys, &part.sql, patience).await?;
                }
                Kind::Refuse(_) | Kind::Loses(_) => {}
            }
            // A crash here leaves the step unfinished, unless this was its last transaction.
            crash::point("migrate.part");
        }
        if !finished {
            let task = self.task(step, direction, of, of);
            self.transaction(&task, script, "", Version::Finish(make_table))
                .await?;
        }
        Ok(())
    }

    async fn transaction(
        &mut self,
        task: &Task<'_>,
        script: &'static Script,
        sql: &str,
        version: Version,
    ) -> Result<(), MigrateError> {
        let waiting = Waiting::new(self.patience);
        transaction::run(self.conn, task, script, sql, version, waiting).await
    }

    fn task(&self, step: Step, direction: Direction, part: u16, of: u16) -> Task<'a> {
        Task {
            module: self.module,
            step,
            direction,
            part,
            of,
        }
    }
}

/// Applies the steps above the database's version up to `to` (all without it) and returns them in
/// order; none where it is already there. As [`Migrator`] with its defaults.
pub async fn up(
    conn: &mut PgConnection,
    module: &Module,
    to: Option<u32>,
) -> Result<Vec<Step>, MigrateError> {
    let done = Migrator::new(conn, module).run(Goal::Up(to)).await?;
    Ok(done.into_iter().map(|(step, _)| step).collect())
}

/// Undoes the steps above `to`, the latest first, and returns them in that order. Version 0
/// leaves nothing of ours: no table, type, function or sequence; where version 1 was adopted, the
/// product's tables stay. As [`Migrator`] with its defaults:
/// what would lose data is refused.
pub async fn down(
    conn: &mut PgConnection,
    module: &Module,
    to: u32,
) -> Result<Vec<Step>, MigrateError> {
    let done = Migrator::new(conn, module).run(Goal::Down(to)).await?;
    Ok(done.into_iter().map(|(step, _)| step).collect())
}

/// Reports the version of a module, without a lock and without changing anything. A version table that
/// is not in order (see [`MigrateError`]) is an error here too.
pub async fn status(conn: &mut PgConnection, module: &Module) -> Result<Status, MigrateError> {
    let history = history::read(conn, module).await?;
    let mut applied_at = history.applied_at.iter().copied();
    Ok(Status {
        module: module.clone(),
        version: history.version(),
        latest: latest(module),
        steps: module
            .steps()
            .map(|(step, _)| StepStatus {
                step,
                applied_at: applied_at.next(),
                unfinished: history.unfinished && step.version == history.reached(),
            })
            .collect(),
    })
}
