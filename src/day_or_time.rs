//! A moment as people give it to a command: a time, or a day in UTC.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, TimeDelta, Utc};

/// A time, or the first moment of a day.
pub fn first(text: &str) -> Result<DateTime<Utc>, String> {
    time(text, |day| day.and_time(NaiveTime::MIN).and_utc())
}

/// A time, or the last moment of a day, as databases keep times.
pub fn last(text: &str) -> Result<DateTime<Utc>, String> {
    time(text, |day| {
        let first = day.and_time(NaiveTime::MIN).and_utc();
        first + TimeDelta::days(1) - TimeDelta::microseconds(1)
    })
}

fn time(text: &str, of_day: impl Fn(NaiveDate) -> DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    // Of the years of RFC 3339, as a time is.
    let day = text.parse::<NaiveDate>().ok();
    if let Some(day) = day.filter(|day| (0..=9_999).contains(&day.year())) {
        return Ok(of_day(day));
    }
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| "expected a date like 2026-01-31, or a time like 2026-01-31T15:04:05Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_taken_as_a_whole() {
        let (first, last) = (first("2026-01-31"), last("2026-01-31"));
        assert_eq!(
            first.expect("a day").to_rfc3339(),
            "2026-01-31T00:00:00+00:00"
        );
        assert_eq!(
            last.expect("a day").to_rfc3339(),
            "2026-01-31T23:59:59.999999+00:00"
        );
        assert!(super::first("31.1.2026").is_err());
        for beyond in ["+262142-12-31", "+10000-01-01", "-0001-01-01"] {
            assert!(super::first(beyond).is_err(), "{beyond}");
            assert!(super::last(beyond).is_err(), "{beyond}");
        }
        assert!(super::first("9999-12-31") < super::last("9999-12-31"));
        let moment = super::first("2026-01-31T15:04:05+03:00").expect("a time");
        assert_eq!(moment.to_rfc3339(), "2026-01-31T12:04:05+00:00");
    }
}
