//! A head: the signed state of a stream's log at one size (C2SP tlog-checkpoint). No database access.

use std::fmt::Write as _;

use data_encoding::BASE64;

use super::note::{self, NoteError, SignerKey, VerifierKey};
use super::row::Hash;

/// The product's own rows, which came before the log and can't be verified: how many there were,
/// and a digest of them. A line of every head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    /// How many rows.
    pub rows: u64,
    /// The highest id among them; 0 where there were none.
    pub last_id: i64,
    /// What [`super::legacy`] computes of them.
    pub digest: Hash,
}

/// The log of a stream at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The log: the key's name and the stream.
    pub origin: String,
    /// How many rows.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// What came before the log.
    pub legacy: Boundary,
}

/// The log of a stream: the name of the key that signs its heads, and the stream.
pub fn origin(name: &str, stream: &str) -> String {
    format!("{name}/{stream}")
}

/// Why a note is no head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not a note, or not by a trusted key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Signed, but no head.
    #[error("line {0} of the head is not as it should be")]
    Line(usize),
}

impl Head {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            BASE64.encode(&self.root)
        );
        let Boundary {
            rows,
            last_id,
            digest,
        } = self.legacy;
        writeln!(text, "legacy {rows} {last_id} {}", BASE64.encode(&digest))
            .expect("a text takes what is written");
        text
    }

    /// The signed note. The same head and key give the same bytes.
    pub fn sign(&self, key: &SignerKey) -> String {
        key.sign(&self.text())
    }

    /// Reads a head that one of these keys has signed.
    pub fn open<'k>(
        note: &str,
        trusted: &'k [VerifierKey],
    ) -> Result<(Self, &'k VerifierKey), HeadError> {
        let (text, by) = note::open(note, trusted)?;
        Ok((Self::parse(text)?, by))
    }

    /// Reads the text of a head; its content counts only where it is signed.
    pub fn parse(text: &str) -> Result<Self, HeadError> {
        let mut lines = (1..).zip(text.lines());
        let mut line = || lines.next().unwrap_or((5, ""));
        let (number, origin) = line();
        let bad = |number| HeadError::Line(number);
        if origin.is_empty() {
            return Err(bad(number));
        }
        let origin = origin.to_owned();
        let (number, size) = line();
        let size = decimal(size).ok_or_else(|| bad(number))?;
        let (number, root) = line();
        let root = hash(root).ok_or_else(|| bad(number))?;
        let (number, legacy) = line();
        let legacy = boundary(legacy).ok_or_else(|| bad(number))?;
        let head = Self {
            origin,
            size,
            root,
            legacy,
        };
        // One text for one head.
        if head.text() != text {
            return Err(bad(5));
        }
        Ok(head)
    }
}

fn boundary(line: &str) -> Option<Boundary> {
    let mut parts = line.strip_prefix("legacy ")?.split(' ');
    Some(Boundary {
        rows: decimal(parts.next()?)?,
        last_id: i64::try_from(decimal(parts.next()?)?).ok()?,
        digest: hash(parts.next()?)?,
    })
}

/// A decimal number without leading zeroes.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A hash in base64.
pub(super) fn hash(text: &str) -> Option<Hash> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn sample() -> Head {
        Head {
            origin: origin("example.com/audit", "ARTSTORE_ADMIN"),
            size: 256,
            root: [3; 32],
            legacy: Boundary {
                rows: 2,
                last_id: 17,
                digest: [4; 32],
            },
        }
    }

    #[test]
    fn a_head_is_signed_text_and_back() {
        let key = SignerKey::of_seed("example.com/audit", [7; 32]).expect("a name");
        let note = sample().sign(&key);
        assert_eq!(note, sample().sign(&key), "the same bytes");
        let trusted = [key.verifier().clone()];
        let (head, by) = Head::open(&note, &trusted).expect("signed");
        assert_eq!((head, by), (sample(), &trusted[0]));
    }

    #[test]
    fn a_line_that_is_not_as_it_should_be_is_named() {
        let text = sample().text();
        for (from, to, line) in [
            ("256", "0256", 2),
            ("256", "-1", 2),
            ("AwMD", "?", 3),
            ("legacy", "older", 4),
        ] {
            let wrong = text.replace(from, to);
            assert_eq!(Head::parse(&wrong), Err(HeadError::Line(line)), "{to}");
        }
        assert_eq!(
            Head::parse(&format!("{text}more\n")),
            Err(HeadError::Line(5))
        );
        assert_eq!(Head::parse(""), Err(HeadError::Line(5)));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(legacy |[0-9]|\n|[a-zA-Z+/=]|é){0,80}") {
            if let Ok(head) = Head::parse(&text) {
                prop_assert_eq!(head.text(), text);
            }
        }
    }
}
