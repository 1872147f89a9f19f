//! JSON as text that is the same everywhere: RFC 8785, for documents whose numbers are integers
//! within ±(2^53−1). The text is what is signed; the column holds the same value as `jsonb`.

use serde_json::{Map, Number, Value};

/// The largest integer that every JSON reader keeps: 2^53 - 1.
const SAFE_INTEGER: i64 = (1 << 53) - 1;

/// A number that RFC 8785 would print in another way than it stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the number {0} is no integer within ±(2^53-1)")]
pub struct UnsafeNumber(pub String);

/// The document's text: no blanks, keys in the order of their UTF-16 code units.
pub fn text(value: &Value) -> Result<String, UnsafeNumber> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &Value, out: &mut String) -> Result<(), UnsafeNumber> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => match safe(number) {
            Some(number) => out.push_str(&number.to_string()),
            None => return Err(UnsafeNumber(number.to_string())),
        },
        Value::String(string) => write_string(string, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, (key, item)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// `\b \t \n \f \r \" \\` and `\u00xx` for the other characters below U+0020; nothing else is
/// escaped.
fn write_string(string: &str, out: &mut String) {
    out.push('"');
    for character in string.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn safe(number: &Number) -> Option<i64> {
    number
        .as_i64()
        .filter(|n| (-SAFE_INTEGER..=SAFE_INTEGER).contains(n))
}

/// The same document in a form that `jsonb` keeps and every reader reads alike: other numbers as
/// their text, NUL as U+FFFD.
pub fn carried(value: Value) -> Value {
    match value {
        Value::Number(number) => match safe(&number) {
            Some(_) => Value::Number(number),
            None => Value::String(number.to_string()),
        },
        Value::String(string) => Value::String(without_nul(string)),
        Value::Array(items) => Value::Array(items.into_iter().map(carried).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, item)| (without_nul(key), carried(item)))
                .collect::<Map<String, Value>>(),
        ),
        other @ (Value::Null | Value::Bool(_)) => other,
    }
}

/// PostgreSQL stores no NUL.
pub(crate) fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_is_that_of_rfc_8785() {
        let value = json!({
            "\u{20ac}": "Euro", "\r": "CR", "\u{fb33}": "Hebrew", "1": "One",
            "\u{1f600}": "Smiley", "\u{80}": "Control", "\u{f6}": "Latin",
            "s": "\u{f}\n\"\\/\u{7f}", "n": [-0, 9_007_199_254_740_991_i64, null, true],
        });
        let expected = "{\"\\r\":\"CR\",\"1\":\"One\",\
             \"n\":[0,9007199254740991,null,true],\"s\":\"\\u000f\\n\\\"\\\\/\u{7f}\",\
             \"\u{80}\":\"Control\",\"\u{f6}\":\"Latin\",\"\u{20ac}\":\"Euro\",\
             \"\u{1f600}\":\"Smiley\",\"\u{fb33}\":\"Hebrew\"}";
        assert_eq!(text(&value), Ok(expected.to_owned()));
    }

    #[test]
    fn a_number_that_would_change_is_refused_and_carried_as_text() {
        for number in [
            "1.5",
            "9007199254740992",
            "-9007199254740992",
            "-0.0",
            "1E2",
        ] {
            let value = serde_json::from_str::<Value>(number).expect("a number");
            assert!(text(&value).is_err(), "{number}");
            assert!(carried(value).is_string(), "{number}");
        }
        // No number of this program at all: whoever reads such a document carries it as text.
        assert!(serde_json::from_str::<Value>("1e400").is_err());
        assert_eq!(
            carried(json!({"a\0": ["\0"]})),
            json!({"a\u{fffd}": ["\u{fffd}"]})
        );
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_carried_reads_back_as_it_is(value in documents()) {
            let value = carried(value);
            let text = text(&value).expect("safe numbers");
            prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }
    }
}
