//! A setting that can't be used.

/// What is wrong with a setting, and what to do. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);
