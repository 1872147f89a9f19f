//! compose.yaml as Docker Compose reads it, as far as ours uses it: anchors and merges, then the
//! variables of `.env`. A dollar sign that this does not know is an error.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::repository::text;

/// Values of variables.
pub type Variables = BTreeMap<String, String>;

/// compose.yaml with its anchors and merges resolved, and its variables as they are there.
pub fn raw() -> Value {
    serde_saphyr::from_str(&text("compose.yaml")).unwrap()
}

/// compose.yaml with its variables filled in; or what it reports about one that is missing.
pub fn filled_with(variables: &Variables) -> Result<Value, String> {
    let mut root = raw();
    each_text(&mut root, &mut |text| interpolate(text, variables))?;
    Ok(root)
}

/// The same, with some variables.
pub fn filled() -> Value {
    filled_with(&some_variables()).unwrap()
}

pub fn services(root: &Value) -> impl Iterator<Item = (&str, &Value)> {
    root["services"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, service)| (name.as_str(), service))
}

/// The variables that compose.yaml uses.
pub fn used() -> BTreeSet<String> {
    let mut root = raw();
    let mut names = BTreeSet::new();
    each_text(&mut root, &mut |text| {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("${") {
            let name = after.split([':', '}', '-', '?']).next().unwrap();
            names.insert(name.to_owned());
            rest = after;
        }
        Ok(text.to_owned())
    })
    .unwrap();
    names
}

fn each_text(
    value: &mut Value,
    change: &mut impl FnMut(&str) -> Result<String, String>,
) -> Result<(), String> {
    match value {
        Value::String(text) => *text = change(text)?,
        Value::Array(items) => {
            for item in items {
                each_text(item, change)?;
            }
        }
        Value::Object(fields) => {
            for field in fields.values_mut() {
                each_text(field, change)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// `${NAME:-default}`, `${NAME:?message}` and `$$`. An empty value counts as none.
fn interpolate(text: &str, variables: &Variables) -> Result<String, String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            rest = after;
            continue;
        }
        let expression = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        let (expression, after) = expression.ok_or_else(|| format!("{text:?}: a lone $"))?;
        let (name, otherwise) = expression
            .split_once(':')
            .ok_or_else(|| format!("{expression}: neither a default nor a message"))?;
        let value = variables.get(name).filter(|value| !value.is_empty());
        match (value, otherwise.split_at(1)) {
            (Some(value), _) => done.push_str(value),
            (None, ("-", default)) => done.push_str(default),
            (None, ("?", message)) => return Err(format!("{name}: {message}")),
            (None, _) => return Err(format!("{expression}: not known")),
        }
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}

/// `.env.example`: what has to be filled in (empty), and what has a default (in a comment).
pub fn example() -> (BTreeSet<String>, BTreeMap<String, String>) {
    let (mut needed, mut defaults) = (BTreeSet::new(), BTreeMap::new());
    for line in text(".env.example").lines() {
        match line.strip_prefix('#').unwrap_or(line).split_once('=') {
            Some((name, "")) if !line.starts_with('#') => {
                needed.insert(name.to_owned());
            }
            Some((name, value)) if !name.contains(' ') && line.starts_with('#') => {
                defaults.insert(name.to_owned(), value.to_owned());
            }
            Some((name, _)) if !line.starts_with('#') => panic!(".env.example sets {name}"),
            _ => {}
        }
    }
    (needed, defaults)
}

/// A `.env` that is filled in. One password looks like a number, as those of chance may.
pub fn some_variables() -> Variables {
    let (needed, _) = example();
    let value = |name: &str| match name {
        "RELAY_DB_PASSWORD" => "17e4".to_owned(),
        "AUDIT_HMAC_SECRET" => "3f9c51d0a27be846f1c04d7a9be3528c".to_owned(),
        name => format!("9k{}", name.to_lowercase().replace('_', "")),
    };
    needed
        .into_iter()
        .map(|name| (name.clone(), value(&name)))
        .collect()
}

/// A service's list of words, such as its command.
pub fn words(value: &Value) -> Vec<String> {
    let items = value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is no list"));
    items
        .iter()
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

/// A service's environment, as it is where the calling shell has no value for a variable without one.
pub fn environment(service: &Value) -> Variables {
    let fields = service["environment"].as_object().into_iter().flatten();
    let fields = fields.filter(|(_, value)| !value.is_null());
    fields
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// The variables that a service takes from the calling shell.
pub fn passed_on(service: &Value) -> Vec<&str> {
    let fields = service["environment"].as_object().into_iter().flatten();
    let fields = fields.filter(|(_, value)| value.is_null());
    fields.map(|(name, _)| name.as_str()).collect()
}

/// `name:version`, with a number in the version.
pub fn is_pinned(image: &str) -> bool {
    let version = image.split_once(':').map_or("", |(_, version)| version);
    version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.')
}
