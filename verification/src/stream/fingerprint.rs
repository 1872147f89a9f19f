//! The content of a message and of its row, in one representation that can be compared: the row is
//! translated again. Where an element's API is reached is in no row and is not
//! compared; what was left out because of its size is compared by its digest.

use artstore_schemas::actor::Actor;
use artstore_schemas::envelope::Envelope;
use artstore_schemas::event::{Event, Omitted, OutboxEvent, WalEvent};
use artstore_schemas::subject::subject;
use artstore_schemas::timestamp;
use aws_lc_rs::digest::{self, Context};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use artstore_producers::relay::omit;
use artstore_producers::relay::source::SourceRow;
use artstore_producers::relay::translate::Translator;

/// Sixteen bytes of a SHA-256.
pub type Digest = [u8; 16];

/// What is compared.
#[derive(Debug, Clone, Serialize)]
pub struct ComparableEvent {
    subject: String,
    #[serde(rename = "type")]
    event_type: String,
    about: Option<String>,
    time: String,
    traceparent: Option<String>,
    body: Body,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Body {
    Wal(Box<WalEvent>),
    Outbox(Box<OutboxEvent>),
}

impl ComparableEvent {
    /// Of a row.
    pub fn from_row(translator: &Translator, row: SourceRow) -> Self {
        let (translated, event) = translator.typed(row);
        Self {
            subject: subject(translator.source(), translated.key, &translated.event_type),
            event_type: translated.event_type.to_string(),
            about: translated.subject,
            time: timestamp::format(&translated.time),
            traceparent: translated.traceparent,
            body: Body::of(event),
        }
    }

    /// Of a message.
    pub fn from_message(subject: &str, envelope: &Envelope, event: Event) -> Self {
        Self {
            subject: subject.to_owned(),
            event_type: envelope.event_type.to_string(),
            about: envelope.subject.clone(),
            time: timestamp::format(&envelope.time),
            traceparent: envelope.traceparent.clone(),
            body: Body::of(event),
        }
    }

    /// `ce-subject`.
    pub(crate) fn about(&self) -> Option<&str> {
        self.about.as_deref()
    }

    /// The same without the file's state: what can be compared where the state was that of
    /// `_files` at the time.
    pub fn without_state(mut self) -> Self {
        if let Body::Wal(event) = &mut self.body {
            event.file = None;
            event.omitted.retain(|o| !o.field.starts_with("file."));
        }
        self
    }

    /// The same for the same content, and for no other.
    pub fn digest(&self) -> Digest {
        let mut context = Context::new(&digest::SHA256);
        context.update(&serde_json::to_vec(self).expect("it has only texts as keys"));
        let mut short = Digest::default();
        short.copy_from_slice(&context.finish().as_ref()[..16]);
        short
    }

    /// The fields in which two differ, with dots.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let value = |event: &Self| serde_json::to_value(event).expect("it has only texts as keys");
        let mut found = Vec::new();
        differ(&value(self), &value(other), "", &mut found);
        found
    }
}

impl Body {
    fn of(event: Event) -> Self {
        match event {
            Event::Wal(mut event) => {
                event.element.api_url = None;
                event.actor = of_today(event.actor);
                let mut omitted = std::mem::take(&mut event.omitted);
                omitted.extend(omit::take_out(&mut *event, omit::WAL_FIELDS));
                event.omitted = sorted(omitted);
                Self::Wal(event)
            }
            Event::Outbox(mut event) => {
                event.actor = event.actor.identified();
                let mut omitted = std::mem::take(&mut event.omitted);
                omitted.extend(omit::take_out(&mut *event, omit::OUTBOX_FIELDS));
                event.omitted = sorted(omitted);
                Self::Outbox(event)
            }
        }
    }
}

/// Earlier versions published a recorded id as it was, and no identity. It means the same actor.
fn of_today(actor: Actor) -> Actor {
    let actor = actor.identified();
    let before = match actor.id.as_deref() {
        None | Some("") => Actor::system(),
        Some(id) if Uuid::parse_str(id).is_ok() => Actor::service_account(id),
        Some(id) => Actor::user(id),
    };
    match actor == before {
        true => Actor::from_recorded_id(actor.id.as_deref()),
        false => actor,
    }
}

fn sorted(mut omitted: Vec<Omitted>) -> Vec<Omitted> {
    omitted.sort_by(|a, b| a.field.cmp(&b.field));
    omitted
}

fn differ(a: &Value, b: &Value, path: &str, found: &mut Vec<String>) {
    let below = |key: &str| match (path, key) {
        ("", "body") => String::new(),
        ("", key) => key.to_owned(),
        (path, key) => format!("{path}.{key}"),
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys.filter(|key| *key != "omitted") {
                let null = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                differ(a, b, &below(key), found);
            }
            taken_out(a.get("omitted"), b.get("omitted"), found);
        }
        (a, b) if a != b => found.push(path.to_owned()),
        _ => {}
    }
}

/// Adds the fields that only one of both omits, or omits in another form.
fn taken_out(a: Option<&Value>, b: Option<&Value>, found: &mut Vec<String>) {
    let none = Vec::new();
    let list = |value: Option<&Value>| value.and_then(Value::as_array).unwrap_or(&none).clone();
    let (a, b) = (list(a), list(b));
    let missing_in = |these: &[Value], those: &[Value]| -> Vec<String> {
        these
            .iter()
            .filter(|one| !those.contains(one))
            .filter_map(|one| one["field"].as_str().map(str::to_owned))
            .collect()
    };
    let mut fields = missing_in(&a, &b);
    fields.extend(missing_in(&b, &a));
    fields.sort();
    fields.dedup();
    found.extend(fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_before_show_a_recorded_id_as_it_stands() {
        let upper = "0191F1F0-ABCD-7000-8000-000000000000";
        for (before, today) in [
            (Actor::user("admin"), Actor::from_recorded_id(Some("admin"))),
            (Actor::user(" 7 "), Actor::user("7")),
            (
                Actor::service_account(upper),
                Actor::service_account(upper.to_lowercase()),
            ),
        ] {
            assert_eq!(of_today(before), today);
            assert_eq!(of_today(today.clone()), today);
        }
        let without_identity = Actor {
            identity: None,
            ..Actor::user("7")
        };
        assert_eq!(of_today(without_identity), Actor::user("7"));
        // What no row was ever published with stays a difference.
        for other in [
            Actor::service_account("7"),
            Actor::user(upper),
            Actor::user("admin").named("a"),
        ] {
            assert_eq!(of_today(other.clone()), other);
        }
    }
}
