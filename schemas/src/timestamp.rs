//! Times as an event carries them: RFC 3339, UTC, always six digits of microseconds, so that the
//! same row always gives the same bytes.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serializer};

/// The text of a time: `2026-01-02T03:04:05.000006Z`.
pub fn format(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// For serde's `with`: a time.
pub fn serialize<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(time))
}

/// For serde's `with`: a time in any RFC 3339 form.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
    DateTime::<Utc>::deserialize(from)
}

/// The same for a time that may be null.
pub mod optional {
    use super::{DateTime, Deserialize, Deserializer, Serializer, Utc};

    /// For serde's `with`: a time or null.
    pub fn serialize<S: Serializer>(
        time: &Option<DateTime<Utc>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    /// For serde's `with`: a time or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        Option::<DateTime<Utc>>::deserialize(from)
    }
}
