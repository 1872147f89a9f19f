//! What is left out of a body that is too large for a message, and how it is named. Bodies come from
//! [`crate::relay::translate`].

use artstore_schemas::event::{Omitted, OutboxEvent, WalEvent};
use artstore_schemas::json::Document;
use artstore_schemas::size::MAX_BODY_BYTES;
use bytes::Bytes;
use serde::Serialize;

/// A field that may be left out: its name, and a function that takes its text out of the body.
pub type Field<T> = (&'static str, fn(&mut T) -> Option<String>);

/// The fields of an operation that may be left out.
pub const WAL_FIELDS: &[Field<WalEvent>] = &[
    ("file.description", |e| e.file.as_mut()?.description.take()),
    ("file.metadata", |e| {
        e.file.as_mut()?.metadata.take().map(text)
    }),
    ("operation.data", |e| e.operation.data.take().map(text)),
    ("operation.error_message", |e| {
        e.operation.error_message.take()
    }),
    ("operation.request_id", |e| e.operation.request_id.take()),
    ("actor.id", |e| e.actor.id.take()),
    ("actor.name", |e| e.actor.name.take()),
    ("actor.role", |e| e.actor.role.take()),
    ("actor.token_id", |e| e.actor.token_id.take()),
    ("actor.key_id", |e| e.actor.key_id.take()),
    ("actor.address", |e| e.actor.address.take()),
    ("actor.user_agent", |e| e.actor.user_agent.take()),
    ("actor.session_id", |e| e.actor.session_id.take()),
];

/// The fields of an outbox event that may be left out.
pub const OUTBOX_FIELDS: &[Field<OutboxEvent>] = &[
    ("data", |e| e.data.take().map(text)),
    ("operation.request_id", |e| e.operation.request_id.take()),
    ("actor.id", |e| e.actor.id.take()),
    ("actor.name", |e| e.actor.name.take()),
    ("actor.role", |e| e.actor.role.take()),
    ("actor.token_id", |e| e.actor.token_id.take()),
    ("actor.key_id", |e| e.actor.key_id.take()),
    ("actor.address", |e| e.actor.address.take()),
    ("actor.user_agent", |e| e.actor.user_agent.take()),
    ("actor.session_id", |e| e.actor.session_id.take()),
];

pub(crate) trait Body: Serialize + Clone {
    fn omitted(&mut self) -> &mut Vec<Omitted>;
}

impl Body for WalEvent {
    fn omitted(&mut self) -> &mut Vec<Omitted> {
        &mut self.omitted
    }
}

impl Body for OutboxEvent {
    fn omitted(&mut self) -> &mut Vec<Omitted> {
        &mut self.omitted
    }
}

/// The body's bytes; the largest fields are left out until it fits.
pub(crate) fn fit<T: Body>(body: &mut T, fields: &[Field<T>]) -> Bytes {
    loop {
        let bytes = encode(body);
        if bytes.len() <= MAX_BODY_BYTES {
            return bytes;
        }
        let largest = fields
            .iter()
            .max_by_key(|(_, take)| take(&mut body.clone()).map_or(0, |text| text.len()));
        let Some((name, text)) = largest.and_then(|(name, take)| Some((name, take(body)?))) else {
            // Every other field is bounded by its column, or by what counts as a row of ours.
            return bytes;
        };
        body.omitted().push(omitted(name, &text));
    }
}

/// Takes out all that may be left out, and names it as if it had been.
pub fn take_out<T>(body: &mut T, fields: &[Field<T>]) -> Vec<Omitted> {
    fields
        .iter()
        .filter_map(|(name, take)| take(body).map(|text| omitted(name, &text)))
        .collect()
}

fn omitted(field: &str, text: &str) -> Omitted {
    Omitted {
        field: field.to_owned(),
        bytes: text.len() as u64,
        sha256: sha256(text),
    }
}

pub(crate) fn encode<T: Serialize>(body: &T) -> Bytes {
    serde_json::to_vec(body)
        .expect("a body has only texts as keys")
        .into()
}

/// A document's text, whose size and digest are stated where it is left out.
pub(crate) fn text(document: Document) -> String {
    match document {
        Document::Json(value) => value.to_string(),
        Document::Text(text) => text,
    }
}

pub(crate) fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_names_what_may_be_left_out() {
        let names = |fields: &[Field<WalEvent>]| fields.iter().map(|f| f.0).collect::<Vec<_>>();
        assert_eq!(names(WAL_FIELDS), WalEvent::MAY_BE_OMITTED);
        let names = |fields: &[Field<OutboxEvent>]| fields.iter().map(|f| f.0).collect::<Vec<_>>();
        assert_eq!(names(OUTBOX_FIELDS), OutboxEvent::MAY_BE_OMITTED);
    }
}
