//! What a command is given: lists of elements and their databases, reports of `artstore verify --json`, and what processes
//! answer to `artstore status`.

#![no_main]

use std::collections::BTreeSet;

use artstore::service::answer::{ProjectorAnswer, RelayAnswer};
use artstore::{config, repair};
use artstore_fuzz::text;
use artstore_verification::pass::State;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read is written, and read as the same.
fn again<T: DeserializeOwned + Serialize>(text: &str) {
    if let Ok(read) = serde_json::from_str::<T>(text) {
        let written = serde_json::to_string(&read).expect("JSON");
        serde_json::from_str::<T>(&written).expect("it was written by ourselves");
    }
}

fuzz_target!(|data: &[u8]| {
    let text = text(data);
    match config::elements(&text) {
        Ok(elements) => {
            let names: BTreeSet<_> = elements.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), elements.len());
        }
        Err(error) => assert!(!error.to_string().contains(":secret@"), "{error}"),
    }
    let _ = repair::from_report(&text);
    again::<RelayAnswer>(&text);
    again::<ProjectorAnswer>(&text);
    again::<State>(&text);
});
