//! One row of the log and the bytes that are signed: a fixed order of fields, each with its length,
//! so that no two different rows have the same bytes. `docs/audit-format.md` is the contract for
//! other implementations.

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the bytes of a row begin with.
const DOMAIN: &[u8] = b"artstore/audit-row/v1\0";

/// The version of the row's form, as the column `format` has it; 0 is a row of the product, which
/// nothing can verify.
pub const FORMAT: i16 = 1;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// A row, as far as it is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which mapping made it of its message.
    pub mapping: u32,
    /// The stream.
    pub stream: String,
    /// The message's sequence there.
    pub sequence: u64,
    /// The event; none where the message can't be read.
    pub event_id: Option<Uuid>,
    /// What happened.
    pub event_type: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// `user`, `service_account` or `system`.
    pub actor_type: String,
    /// Who: a copy, so that no other table states who it was.
    pub actor_id: Option<String>,
    /// The name that they had.
    pub actor_name: Option<String>,
    /// The role that they had.
    pub actor_role: Option<String>,
    /// What kind of thing it happened to.
    pub resource_type: Option<String>,
    /// Which one.
    pub resource_id: Option<String>,
    /// What was done.
    pub action: String,
    /// The network address that the request came from.
    pub ip_address: Option<String>,
    /// The user agent of the request.
    pub user_agent: Option<String>,
    /// The caller's correlation id.
    pub request_id: Option<String>,
    /// The session of the request.
    pub session_id: Option<String>,
    /// Everything else: RFC 8785 text.
    pub data: Option<String>,
    /// Whether it succeeded.
    pub success: bool,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it happened, by the source's clock: microseconds since 1970.
    pub created_at: i64,
}

/// Why bytes are no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// They begin otherwise, or end before a field does.
    #[error("these are no bytes of a row: {0}")]
    Malformed(&'static str),
    /// A field has a value that it can't have.
    #[error("the field {0} of the row holds an invalid value")]
    Field(&'static str),
}

impl Row {
    /// A row that contains nothing yet but its stream and sequence.
    pub fn bare(mapping: u32, stream: String, sequence: u64) -> Self {
        Self {
            mapping,
            stream,
            sequence,
            event_id: None,
            event_type: String::new(),
            severity: "info".to_owned(),
            actor_type: "system".to_owned(),
            actor_id: None,
            actor_name: None,
            actor_role: None,
            resource_type: None,
            resource_id: None,
            action: String::new(),
            ip_address: None,
            user_agent: None,
            request_id: None,
            session_id: None,
            data: None,
            success: true,
            error_message: None,
            created_at: 0,
        }
    }

    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.extend(self.mapping.to_be_bytes());
        put(&mut out, Some(self.stream.as_bytes()));
        out.extend(self.sequence.to_be_bytes());
        put(
            &mut out,
            self.event_id.as_ref().map(|id| id.as_bytes().as_slice()),
        );
        for (_, text) in self.head_texts() {
            put(&mut out, text.map(str::as_bytes));
        }
        put(&mut out, Some(&[u8::from(self.success)]));
        put(&mut out, self.error_message.as_deref().map(str::as_bytes));
        put(&mut out, Some(&self.created_at.to_be_bytes()));
        out
    }

    /// The texts between the event's id and `success`, in their order.
    fn head_texts(&self) -> [(&'static str, Option<&str>); 14] {
        [
            ("event_type", Some(&self.event_type)),
            ("severity", Some(&self.severity)),
            ("actor_type", Some(&self.actor_type)),
            ("actor_id", self.actor_id.as_deref()),
            ("actor_name", self.actor_name.as_deref()),
            ("actor_role", self.actor_role.as_deref()),
            ("resource_type", self.resource_type.as_deref()),
            ("resource_id", self.resource_id.as_deref()),
            ("action", Some(&self.action)),
            ("ip_address", self.ip_address.as_deref()),
            ("user_agent", self.user_agent.as_deref()),
            ("request_id", self.request_id.as_deref()),
            ("session_id", self.session_id.as_deref()),
            ("data", self.data.as_deref()),
        ]
    }

    /// Reads the bytes of a row. What it returns has exactly these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RowError> {
        let rest = bytes
            .strip_prefix(DOMAIN)
            .ok_or(RowError::Malformed("they do not begin as a row does"))?;
        let mut reader = Reader { rest };
        let row = Self {
            mapping: u32::from_be_bytes(reader.array()?),
            stream: reader.required("stream")?,
            sequence: u64::from_be_bytes(reader.array()?),
            event_id: reader
                .field()?
                .map(|id| Uuid::from_slice(id).map_err(|_| RowError::Field("event_id")))
                .transpose()?,
            event_type: reader.required("event_type")?,
            severity: reader.required("severity")?,
            actor_type: reader.required("actor_type")?,
            actor_id: reader.text("actor_id")?,
            actor_name: reader.text("actor_name")?,
            actor_role: reader.text("actor_role")?,
            resource_type: reader.text("resource_type")?,
            resource_id: reader.text("resource_id")?,
            action: reader.required("action")?,
            ip_address: reader.text("ip_address")?,
            user_agent: reader.text("user_agent")?,
            request_id: reader.text("request_id")?,
            session_id: reader.text("session_id")?,
            data: reader.text("data")?,
            success: match reader.field()? {
                Some([0]) => false,
                Some([1]) => true,
                Some(_) | None => return Err(RowError::Field("success")),
            },
            error_message: reader.text("error_message")?,
            created_at: match reader.field()?.map(<[u8; 8]>::try_from) {
                Some(Ok(bytes)) => i64::from_be_bytes(bytes),
                Some(Err(_)) | None => return Err(RowError::Field("created_at")),
            },
        };
        if !reader.rest.is_empty() {
            return Err(RowError::Malformed("something follows the last field"));
        }
        Ok(row)
    }

    /// The leaf of the tree: SHA-256 of a zero byte and the row's bytes.
    pub fn leaf(&self) -> Hash {
        leaf_hash(&self.bytes())
    }

    /// The time as people read it.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.created_at)
    }

    /// The columns `user_id` and `service_account_id`, which are not signed: they follow from the
    /// actor.
    pub fn account_ids(&self) -> (Option<i32>, Option<Uuid>) {
        let id = self.actor_id.as_deref();
        match self.actor_type.as_str() {
            "user" => (id.and_then(|id| id.parse().ok()), None),
            "service_account" => (None, id.and_then(|id| id.parse().ok())),
            _ => (None, None),
        }
    }
}

/// SHA-256 of a zero byte and the bytes of an entry (RFC 6962).
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    let mut hashed = Vec::with_capacity(bytes.len() + 1);
    hashed.push(0);
    hashed.extend(bytes);
    sha256(&hashed)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

pub(super) fn put(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.push(0),
        Some(bytes) => {
            // A message has at most 900 KiB, and no field has more than its message.
            let length = u32::try_from(bytes.len()).expect("a field has less than 4 GiB");
            out.push(1);
            out.extend(length.to_be_bytes());
            out.extend(bytes);
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], RowError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(RowError::Malformed("they end before a field does"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes as were asked for"))
    }

    fn field(&mut self) -> Result<Option<&'a [u8]>, RowError> {
        match self.take(1)? {
            [0] => Ok(None),
            [1] => {
                let length = u32::from_be_bytes(self.array()?);
                let length =
                    usize::try_from(length).map_err(|_| RowError::Malformed("a length"))?;
                self.take(length).map(Some)
            }
            _ => Err(RowError::Malformed("a field begins with neither 0 nor 1")),
        }
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, RowError> {
        let field = self.field()?;
        field
            .map(|bytes| String::from_utf8(bytes.to_vec()).map_err(|_| RowError::Field(name)))
            .transpose()
    }

    fn required(&mut self, name: &'static str) -> Result<String, RowError> {
        self.text(name)?.ok_or(RowError::Field(name))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn sample() -> Row {
        Row {
            mapping: 1,
            stream: "ARTSTORE_ADMIN".to_owned(),
            sequence: 7,
            event_id: Some(Uuid::from_u128(0x0191_f1f0_0000_7000_8000_0000_0000_0001)),
            event_type: "user_delete".to_owned(),
            severity: "warning".to_owned(),
            actor_type: "user".to_owned(),
            actor_id: Some("12".to_owned()),
            actor_name: Some("ann".to_owned()),
            actor_role: Some("admin".to_owned()),
            resource_type: Some("user".to_owned()),
            resource_id: Some("34".to_owned()),
            action: "delete".to_owned(),
            ip_address: Some("192.0.2.1".to_owned()),
            user_agent: None,
            request_id: Some(String::new()),
            session_id: None,
            data: Some("{\"username\":\"bob\"}".to_owned()),
            success: true,
            error_message: None,
            created_at: 1_767_323_045_000_006,
        }
    }

    fn rows() -> impl Strategy<Value = Row> {
        let text = || "[ab\u{0}é]{0,3}";
        let some = || proptest::option::of(text());
        (
            (
                any::<u32>(),
                text(),
                any::<u64>(),
                proptest::option::of(any::<u128>()),
            ),
            (text(), text(), text(), some(), some(), some()),
            (
                some(),
                some(),
                text(),
                some(),
                some(),
                some(),
                some(),
                some(),
            ),
            (any::<bool>(), some(), any::<i64>()),
        )
            .prop_map(|(a, b, c, d)| Row {
                mapping: a.0,
                stream: a.1,
                sequence: a.2,
                event_id: a.3.map(Uuid::from_u128),
                event_type: b.0,
                severity: b.1,
                actor_type: b.2,
                actor_id: b.3,
                actor_name: b.4,
                actor_role: b.5,
                resource_type: c.0,
                resource_id: c.1,
                action: c.2,
                ip_address: c.3,
                user_agent: c.4,
                request_id: c.5,
                session_id: c.6,
                data: c.7,
                success: d.0,
                error_message: d.1,
                created_at: d.2,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn no_two_rows_have_the_same_bytes(a in rows(), b in rows()) {
            prop_assert_eq!(Row::from_bytes(&a.bytes()), Ok(a.clone()));
            prop_assert_eq!(a == b, a.bytes() == b.bytes());
        }

        #[test]
        fn bytes_that_are_read_are_the_bytes_of_the_row(
            row in rows(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = row.bytes();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            if let Ok(read) = Row::from_bytes(&bytes) {
                prop_assert_eq!(read.bytes(), bytes.clone());
            }
            let end = cut.index(bytes.len());
            prop_assert!(Row::from_bytes(&bytes[..end]).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut all = DOMAIN.to_vec();
            all.extend(bytes);
            if let Ok(read) = Row::from_bytes(&all) {
                prop_assert_eq!(read.bytes(), all);
            }
        }
    }

    #[test]
    fn null_and_the_empty_text_differ_and_bytes_do_not_move_between_fields() {
        let row = sample();
        let mut null = row.clone();
        null.request_id = None;
        assert_ne!(row.leaf(), null.leaf());
        let mut moved = row.clone();
        moved.actor_name = Some("anna".to_owned());
        moved.actor_role = Some("dmin".to_owned());
        assert_ne!(row.leaf(), moved.leaf());
    }
}
