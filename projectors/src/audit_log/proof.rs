//! A proof that a row is in the log (C2SP tlog-proof), checked offline: row, index, hashes and signed head
//! in one text. No database access.

use std::fmt::Write as _;

use data_encoding::BASE64;

use super::head::{Head, HeadError, decimal, hash, origin};
use super::note::VerifierKey;
use super::row::{Hash, Row, RowError};
use super::tree::is_included;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// A tree of 2^64 leaves has proofs of 64 hashes.
const MOST_HASHES: usize = 64;

/// A row's index in a signed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The bytes of the row. Nobody has signed them by themselves: what proves them is that their
    /// hash leads to the signed root.
    pub row: Vec<u8>,
    /// The row's index, from 0: the sequence of its message less one.
    pub index: u64,
    /// From the leaf's sibling upwards.
    pub hashes: Vec<Hash>,
    /// The signed head.
    pub head: String,
}

/// What a proof that holds proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The row.
    pub row: Row,
    /// The head that covers it.
    pub head: Head,
    /// The key that signed the head.
    pub by: VerifierKey,
}

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not the form of a proof.
    #[error("this is no proof: {0}")]
    Malformed(&'static str),
    /// The head.
    #[error("the proof's head: {0}")]
    Head(#[from] HeadError),
    /// The row.
    #[error("the proof's row: {0}")]
    Row(#[from] RowError),
    /// The row's own stream or sequence is not where the proof states that it is.
    #[error("the row says stream {stream}, sequence {sequence}; the proof is about another place")]
    Place {
        /// As the row states.
        stream: String,
        /// As the row states.
        sequence: u64,
    },
    /// The hashes do not lead from the row to the root.
    #[error("the row is not in the signed tree at this place: row or proof was changed")]
    NotIncluded,
}

impl Proof {
    /// The text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nextra {}\n", BASE64.encode(&self.row));
        let written = writeln!(text, "index {}", self.index);
        written.expect("a text takes what is written");
        for hash in &self.hashes {
            text.push_str(&BASE64.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.head);
        text
    }

    /// Reads the text.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let malformed = ProofError::Malformed;
        let (front, head) = text
            .split_once("\n\n")
            .ok_or(malformed("it has no head behind an empty line"))?;
        let mut lines = front.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("its first line is another one"));
        }
        let row = lines.next().and_then(|line| line.strip_prefix("extra "));
        let row = row.and_then(|row| BASE64.decode(row.as_bytes()).ok());
        let row = row.ok_or(malformed(
            "its second line is not `extra` with the row's bytes",
        ))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(decimal);
        let index = index.ok_or(malformed("its third line is not `index` with a number"))?;
        let hashes: Option<Vec<Hash>> = lines.map(hash).collect();
        let hashes = hashes.ok_or(malformed("one of its hashes is none"))?;
        if hashes.len() > MOST_HASHES {
            return Err(malformed("it has too many hashes"));
        }
        Ok(Self {
            row,
            index,
            hashes,
            head: head.to_owned(),
        })
    }

    /// Checks it with public keys alone.
    pub fn check(&self, trusted: &[VerifierKey]) -> Result<Proven, ProofError> {
        let (head, by) = Head::open(&self.head, trusted)?;
        let row = Row::from_bytes(&self.row)?;
        let place = (row.sequence.checked_sub(1), origin(by.name(), &row.stream));
        if place != (Some(self.index), head.origin.clone()) {
            return Err(ProofError::Place {
                stream: row.stream,
                sequence: row.sequence,
            });
        }
        if !is_included(self.index, head.size, &row.leaf(), &self.hashes, &head.root) {
            return Err(ProofError::NotIncluded);
        }
        Ok(Proven {
            row,
            head,
            by: by.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::head::Boundary;
    use super::super::note::SignerKey;
    use super::super::row::tests::sample;
    use super::super::tree::{inclusion, root};
    use super::*;

    fn key() -> SignerKey {
        SignerKey::of_seed("example.com/audit", [7; 32]).expect("a name")
    }

    fn proof() -> Proof {
        let rows: Vec<Row> = (1..=11)
            .map(|sequence| Row {
                sequence,
                ..sample()
            })
            .collect();
        let leaves: Vec<Hash> = rows.iter().map(Row::leaf).collect();
        let head = Head {
            origin: origin(key().verifier().name(), "ARTSTORE_ADMIN"),
            size: 11,
            root: root(leaves.as_slice(), 11).expect("all leaves"),
            legacy: Boundary {
                rows: 0,
                last_id: 0,
                digest: [0; 32],
            },
        };
        Proof {
            row: rows[6].bytes(),
            index: 6,
            hashes: inclusion(leaves.as_slice(), 6, 11).expect("in the tree"),
            head: head.sign(&key()),
        }
    }

    #[test]
    fn a_proof_is_text_and_back_and_holds() {
        let proof = proof();
        assert_eq!(Proof::parse(&proof.to_text()).as_ref(), Ok(&proof));
        let trusted = [key().verifier().clone()];
        let proven = proof.check(&trusted).expect("it holds");
        assert_eq!(
            proven.row,
            Row {
                sequence: 7,
                ..sample()
            }
        );
        assert_eq!(proven.head.size, 11);
    }

    #[test]
    fn a_proof_of_another_place_row_or_log_does_not_hold() {
        let trusted = [key().verifier().clone()];
        let mut moved = proof();
        moved.index = 5;
        assert!(matches!(
            moved.check(&trusted),
            Err(ProofError::Place { .. })
        ));
        let mut other = proof();
        other.row = Row {
            sequence: 7,
            success: false,
            ..sample()
        }
        .bytes();
        assert_eq!(other.check(&trusted), Err(ProofError::NotIncluded));
        let mut stream = proof();
        let row = Row {
            sequence: 7,
            stream: "ARTSTORE_QUERY".to_owned(),
            ..sample()
        };
        stream.row = row.bytes();
        assert!(matches!(
            stream.check(&trusted),
            Err(ProofError::Place { .. })
        ));
        let stranger = SignerKey::of_seed("example.com/audit", [9; 32]).expect("a name");
        let check = proof().check(&[stranger.verifier().clone()]);
        assert!(matches!(check, Err(ProofError::Head(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(
            text in "(c2sp.org/tlog-proof@v1\n|extra |index |\n|[0-9]|[a-zA-Z+/=]|\u{2014} ){0,80}",
        ) {
            if let Ok(proof) = Proof::parse(&text) {
                prop_assert!(proof.check(&[key().verifier().clone()]).is_err());
            }
        }

        #[test]
        fn no_changed_proof_proves_another_row(
            at in any::<prop::sample::Index>(), with in any::<char>(),
        ) {
            let mut changed: Vec<char> = proof().to_text().chars().collect();
            let place = at.index(changed.len());
            changed[place] = with;
            let changed: String = changed.into_iter().collect();
            let trusted = [key().verifier().clone()];
            if let Ok(proven) = Proof::parse(&changed).and_then(|proof| proof.check(&trusted)) {
                prop_assert_eq!(proven.row, Row { sequence: 7, ..sample() });
            }
        }
    }
}
