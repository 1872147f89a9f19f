//! Names: what is read shows itself as it was, and belongs where it came from.

#![no_main]

use artstore::{day_or_time, names};
use artstore_fuzz::{parts, text};
use artstore_projectors::read_your_writes::AtLeast;
use artstore_projectors::search::query::{Mode, Order, Sort};
use artstore_schemas::element::ElementName;
use artstore_schemas::envelope::{Snapshot, is_traceparent};
use artstore_schemas::event::EventType;
use artstore_schemas::source::Source;
use artstore_schemas::subject::{belongs, subject};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fn shows_itself<T: std::str::FromStr + ToString>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
    }
}

fuzz_target!(|data: &[u8]| {
    let [name, event_type, of_message] = parts(data);
    let (name, event_type, of_message) = (text(name), text(event_type), text(of_message));
    shows_itself::<ElementName>(&name);
    shows_itself::<EventType>(&name);
    shows_itself::<Snapshot>(&name);
    shows_itself::<Mode>(&name);
    shows_itself::<Sort>(&name);
    shows_itself::<Order>(&name);
    if let Some(source) = Source::of_stream(&name) {
        assert_eq!(source.stream(), name);
    }
    if let Ok(source) = names::source(&name) {
        assert_eq!(names::source(&source.stream()).as_ref(), Ok(&source));
        if let Ok(event_type) = event_type.parse::<EventType>() {
            let key = Some(Uuid::from_u128(of_message.len() as u128));
            assert!(belongs(
                &subject(&source, key, &event_type),
                &source,
                &event_type
            ));
            if belongs(&of_message, &source, &event_type) {
                let all = subject(&source, None, &event_type);
                let (before, after) = all.split_once(".p00.").expect("a partition");
                assert!(of_message.starts_with(before) && of_message.ends_with(after));
                assert_eq!(of_message.len(), all.len());
            }
        }
    }
    if let Ok(at_least) = name.parse::<AtLeast>() {
        assert_eq!(at_least.to_string().parse(), Ok(at_least));
    }
    if let (Ok(first), Ok(last)) = (day_or_time::first(&name), day_or_time::last(&name)) {
        assert!(first <= last);
    }
    assert!(!is_traceparent(&name) || name.len() == 55);
    artstore_bus::connection::without_password(&name);
});
