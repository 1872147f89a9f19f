//! Whether source, stream and cache agree, from the databases and the streams themselves, while
//! they are in use. In the order in which data flows:
//!
//! - [`reader`]: the messages of a stream
//! - [`accepted`]: breaks and damage that an operator accepted
//! - [`links`]: each message and the one before it
//! - [`matching`]: each message and its row
//! - [`candidates`]: possible differences
//! - [`pass`]: one pass over stream and source, with bounded memory
//! - `settle`: candidates become findings, or turn out to be none
//! - `without_row`: messages of lost rows, and messages that no relay wrote
//! - [`finding`]: a difference, and the command that repairs it
//! - [`source`]: a source and its stream, from beginning to end
//! - [`resume`]: a pass that resumes where an earlier process stopped
//! - [`continuous`]: the same for as long as a relay runs
//! - [`proven`]: how far that has come, for whoever shows it
//! - [`cache`]: the read model and `_files`, streams and messages
//! - [`stream`]: the steps that check a message, and the check of repairs, which lists all damage of a stream
//! - `same_verdicts`: tests that both checks of a stream find the same
//! - [`audit`]: whether the audit log is what was signed

pub mod accepted;
pub mod audit;
pub mod cache;
pub mod candidates;
pub mod continuous;
pub mod finding;
pub mod links;
pub mod matching;
pub mod pass;
pub mod proven;
pub mod reader;
pub mod resume;
#[cfg(test)]
mod same_verdicts;
mod settle;
pub mod source;
pub mod stream;
mod without_row;

/// A value as its text, in files of a pass.
pub(crate) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}
