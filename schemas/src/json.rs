//! Free-form JSON inside an event: a file's metadata, an operation's data.
//!
//! `jsonb` keeps numbers that a reader in another language rounds. So a publisher of ours refuses
//! what would change on the way, and a row of others that holds such a number is carried as text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest integer that every JSON reader keeps: 2^53 - 1.
pub(crate) const SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Arrays and objects in each other beyond this are not carried as JSON: many readers, serde_json
/// among them, take 128 levels, and a body puts some around a document.
const MAX_DEPTH: usize = 64;

/// A JSON document as an event carries it: as JSON where every reader gets the same value, else as
/// the text that the source's database prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Document {
    /// The value itself: numbers are integers within ±(2^53−1).
    Json(Value),
    /// The document's text: it holds a number that some readers would change, or is nested beyond
    /// what they take.
    Text(String),
}

impl Document {
    /// Takes a document as the database prints it. The JSON value null is no document.
    pub fn from_text(text: &str) -> Option<Self> {
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Null) => None,
            Ok(value) if check(&value).is_ok() => Some(Self::Json(value)),
            // A number that would change, or nesting beyond what a reader takes.
            Ok(_) | Err(_) => Some(Self::Text(text.to_owned())),
        }
    }

    /// Takes a document that was parsed already.
    pub fn from_value(value: Value) -> Option<Self> {
        match check(&value) {
            Ok(()) if value.is_null() => None,
            Ok(()) => Some(Self::Json(value)),
            Err(_) => Some(Self::Text(value.to_string())),
        }
    }

    /// The value, parsed where it is carried as text; numbers may then be rounded.
    pub fn value(&self) -> Option<Value> {
        match self {
            Self::Json(value) => Some(value.clone()),
            Self::Text(text) => serde_json::from_str(text).ok(),
        }
    }
}

/// Why a document can't be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeJson {
    /// A number that is no integer, or too large.
    #[error(
        "the number {number} at {path} would change on the way: write integers beyond \
         ±(2^53-1) and fractions as text"
    )]
    Number {
        /// The number as it was given.
        number: String,
        /// Where it stands, as a JSON pointer.
        path: String,
    },
    /// Arrays and objects in each other, too many.
    #[error(
        "more than {MAX_DEPTH} arrays and objects stand in each other at {path}: many readers refuse that"
    )]
    Depth {
        /// Where the first one too many stands, as a JSON pointer.
        path: String,
    },
    /// A NUL character, which PostgreSQL can't store.
    #[error("the text at {path} holds a NUL character, which PostgreSQL can't store")]
    Nul {
        /// Where it stands, as a JSON pointer.
        path: String,
    },
}

/// Checks that every reader gets the same document: integers within ±(2^53−1), no NUL, not
/// nested too deep.
/// (Duplicate keys can't exist in a parsed value.)
pub fn check(value: &Value) -> Result<(), UnsafeJson> {
    check_at(value, &mut String::new(), 0)
}

fn check_at(value: &Value, path: &mut String, depth: usize) -> Result<(), UnsafeJson> {
    match value {
        Value::Array(_) | Value::Object(_) if depth == MAX_DEPTH => {
            Err(UnsafeJson::Depth { path: path.clone() })
        }
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => match number.as_i64() {
            Some(n) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(&n) => Ok(()),
            _ => Err(UnsafeJson::Number {
                number: number.to_string(),
                path: path.clone(),
            }),
        },
        Value::String(text) => check_text(text, path),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            below(path, &index.to_string(), |p| check_at(item, p, depth + 1))
        }),
        Value::Object(fields) => fields.iter().try_for_each(|(key, item)| {
            check_text(key, path)?;
            below(path, key, |p| check_at(item, p, depth + 1))
        }),
    }
}

fn check_text(text: &str, path: &str) -> Result<(), UnsafeJson> {
    if text.contains('\0') {
        return Err(UnsafeJson::Nul {
            path: path.to_owned(),
        });
    }
    Ok(())
}

fn below<T>(path: &mut String, step: &str, then: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push('/');
    path.push_str(step);
    let result = then(path);
    path.truncate(length);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_readers_round_are_refused_by_place_and_carried_as_text() {
        let fraction = json!({"a": [1, {"b": 0.5}]});
        let UnsafeJson::Number { path, .. } = check(&fraction).expect_err("a fraction") else {
            panic!("not a number error");
        };
        assert_eq!(path, "/a/1/b");
        assert!(check(&json!(9_007_199_254_740_991_i64)).is_ok());
        assert!(check(&json!(9_007_199_254_740_992_i64)).is_err());
        assert_eq!(
            Document::from_text("{\"n\": 1.10}"),
            Some(Document::Text("{\"n\": 1.10}".to_owned()))
        );
        assert_eq!(Document::from_text("null"), None);
    }

    #[test]
    fn nul_is_refused_in_keys_and_texts() {
        assert!(check(&json!({"a\0": 1})).is_err());
        assert!(check(&json!(["\0"])).is_err());
    }
}
