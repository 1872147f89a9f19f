//! Free-form JSON, as the database prints it: it is carried as the same value, or as its text.

#![no_main]

use artstore_fuzz::text;
use artstore_projectors::audit_log::canonical;
use artstore_projectors::query_cache::tags;
use artstore_schemas::json::{self, Document};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let text = text(data);
    if let Some(document) = Document::from_text(&text) {
        match &document {
            Document::Json(value) => assert!(json::check(value).is_ok()),
            Document::Text(carried) => assert_eq!(*carried, text),
        }
        let written = serde_json::to_string(&document).expect("JSON");
        let read: Document = serde_json::from_str(&written).expect("it was written by ourselves");
        assert_eq!(read, document);
        let tags = tags::read(Some(&document));
        assert!(tags.kept.is_none_or(|kept| kept.len() <= 50));
    }
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        // The form in which the audit log signs it.
        let carried = canonical::carried(value);
        let signed = canonical::text(&carried).expect("carried documents have safe numbers");
        let read: Value = serde_json::from_str(&signed).expect("it was written by ourselves");
        assert_eq!(read, carried);
        assert_eq!(canonical::text(&read).as_ref(), Ok(&signed));
    }
});
