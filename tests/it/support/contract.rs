//! What the relay has published, against the contract: each body fits the schema that its message names.

use std::collections::HashMap;
use std::sync::OnceLock;

use artstore_schemas::registry::EVENT_SCHEMAS;
use async_nats::HeaderMap;
use jsonschema::Validator;
use serde_json::Value;

#[track_caller]
pub fn fits_its_schema(headers: &HeaderMap, body: &[u8]) {
    static VALIDATORS: OnceLock<HashMap<String, Validator>> = OnceLock::new();
    let validators = VALIDATORS.get_or_init(|| {
        let of = |schema: &Value| {
            let options = jsonschema::options().should_validate_formats(true);
            options.build(schema).unwrap()
        };
        let each = EVENT_SCHEMAS.iter();
        each.map(|form| (form.schema_uri(), of(&form.schema())))
            .collect()
    });
    let named = headers.get("ce-dataschema").unwrap().as_str();
    let body: Value = serde_json::from_slice(body).unwrap();
    let errors = validators[named].iter_errors(&body);
    let errors = errors.map(|error| format!("{}: {error}", error.instance_path()));
    let errors: Vec<String> = errors.collect();
    assert!(errors.is_empty(), "{named}: {errors:#?}");
}
