//! The state that a snapshot is to show: at a time, or at sequences of streams.

use std::collections::BTreeMap;
use std::str::FromStr;

use artstore_projectors::rebuild::snapshot::AsOf;
use chrono::{DateTime, Utc};

use crate::names;

/// A time or positions, as written on the command line.
#[derive(Debug, Clone)]
pub(super) struct AsOfArgument(pub(super) AsOf);

impl FromStr for AsOfArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self(AsOf::Time(time.with_timezone(&Utc))));
        }
        let mut streams = BTreeMap::new();
        for part in text.split(',') {
            let (stream, sequence) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is neither a time like 2026-01-31T12:00:00Z nor STREAM=SEQUENCE")
            })?;
            let sequence = sequence
                .parse()
                .map_err(|_| format!("{sequence:?} is no sequence of a message"))?;
            let stream = names::stream(stream).map_err(|error| error.to_string())?;
            if streams.insert(stream.clone(), sequence).is_some() {
                return Err(format!("stream {stream} is named twice"));
            }
        }
        Ok(Self(AsOf::Streams(streams)))
    }
}
