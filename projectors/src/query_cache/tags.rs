//! A file's tags: the texts of `tags` in its metadata, where that is an array. The cache keeps at
//! most 50 of at most 50 characters; what does not fit is dropped and counted.

use artstore_schemas::json::Document;
use serde_json::value::RawValue;
use std::collections::HashMap;

const MOST_TAGS: usize = 50;
const MOST_CHARACTERS: usize = 50;

/// Tags as the cache keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// None where the metadata has no array of tags.
    pub kept: Option<Vec<String>>,
    /// How many items were dropped.
    pub dropped: i32,
}

/// Reads the tags of a file's metadata.
pub fn read(metadata: Option<&Document>) -> Tags {
    let Some(items) = metadata.and_then(items) else {
        return Tags {
            kept: None,
            dropped: 0,
        };
    };
    let kept: Vec<String> = items
        .iter()
        .flatten()
        .filter(|tag| tag.chars().count() <= MOST_CHARACTERS)
        .take(MOST_TAGS)
        .cloned()
        .collect();
    let dropped = i32::try_from(items.len() - kept.len()).unwrap_or(i32::MAX);
    Tags {
        kept: Some(kept),
        dropped,
    }
}

/// The items of `tags` where that is an array; none for one that is no text.
fn items(metadata: &Document) -> Option<Vec<Option<String>>> {
    match metadata {
        Document::Json(value) => {
            let items = value.get("tags")?.as_array()?.iter();
            Some(items.map(|item| item.as_str().map(str::to_owned)).collect())
        }
        // What makes it a text (a number, nesting) may stand beside the tags: it is not read.
        Document::Text(text) => {
            let fields: HashMap<String, Box<RawValue>> = serde_json::from_str(text).ok()?;
            let items: Vec<Box<RawValue>> = serde_json::from_str(fields.get("tags")?.get()).ok()?;
            Some(
                items
                    .iter()
                    .map(|item| serde_json::from_str(item.get()).ok())
                    .collect(),
            )
        }
    }
}

/// A text array as PostgreSQL reads it, for arrays of arrays of different lengths.
pub(crate) fn array_literal(tags: &[String]) -> String {
    let items: Vec<String> = tags
        .iter()
        .map(|tag| format!("\"{}\"", tag.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tags(metadata: Value) -> Tags {
        read(Some(&Document::Json(metadata)))
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let many: Vec<String> = (0..60).map(|n| n.to_string()).collect();
        let read = tags(json!({"tags": many}));
        assert_eq!(read.kept.expect("tags").len(), 50);
        assert_eq!(read.dropped, 10);
        let read = tags(json!({"tags": ["a", 1, null, "ж".repeat(51), "ж".repeat(50)]}));
        assert_eq!(read.kept.expect("tags").len(), 2);
        assert_eq!(read.dropped, 3);
    }

    #[test]
    fn tags_that_are_no_array_are_none() {
        for metadata in [json!({"tags": "a"}), json!({}), json!([1]), json!("x")] {
            assert_eq!(tags(metadata).kept, None);
        }
    }
}
