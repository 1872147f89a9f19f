//! An error as people read it.

use artstore_runtime::relation;
use artstore_runtime::words::words;

/// An error with its causes, each stated once: many texts already contain those of their causes.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let database = cause.downcast_ref::<sqlx::Error>();
        let said = database.map_or_else(|| cause.to_string(), words);
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        // What is behind it are its own words again.
        if database.is_some() {
            break;
        }
    }
    let advice = error
        .chain()
        .find_map(|cause| relation::advice(cause.downcast_ref()?));
    match advice {
        Some(advice) => format!("{text}: {advice}"),
        None => text,
    }
}
