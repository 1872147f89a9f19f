//! `--dry-run`: the steps that would be applied, as an SQL script with headers.

use artstore_migrations::{Direction, Module, PlannedStep};
use artstore_runtime::count::counted;
use serde_json::{Value, json};

/// For people. A part that runs in batches has `$1`; everything else can be run as it is.
pub(super) fn text(module: &Module, steps: &[PlannedStep]) -> String {
    let mut text = format!("-- {module}: {} would run\n", counted(steps.len(), "step"));
    for planned in steps {
        let (step, of) = (planned.step, planned.parts.len());
        text += &format!("\n-- {module}: {} {step}\n", planned.direction.word());
        for (part, number) in planned.parts.iter().zip(1..) {
            text += &format!("\n-- part {number} of {of}: {}\n{}\n", part.kind, part.sql);
        }
        let version = module.version_table();
        let way = match planned.direction {
            Direction::Up => "into",
            Direction::Down => "out of",
        };
        text += &format!("\n-- and its row {way} public.{version}\n");
    }
    text
}

/// For programs.
pub(super) fn json(module: &Module, steps: &[PlannedStep]) -> Value {
    json!({
        "module": module.to_string(),
        "would_run": steps.iter().map(|planned| json!({
            "version": planned.step.version,
            "name": planned.step.name,
            "direction": planned.direction.word(),
            "parts": planned.parts.iter().map(|part| json!({
                "kind": part.kind,
                "sql": part.sql,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}
