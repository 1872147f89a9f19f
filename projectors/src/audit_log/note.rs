//! Signed notes (C2SP signed-note) with Ed25519, and the text encodings of their keys. No database access.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use data_encoding::{BASE64, HEXLOWER};

use super::row::sha256;

/// The type byte of Ed25519.
const ED25519_TYPE: u8 = 1;

/// A note's signatures come after this line.
const DASH: &str = "\u{2014} ";

/// More signatures are not read.
const MOST_SIGNATURES: usize = 64;

/// Why a key or a note can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the text form of a key.
    #[error("this is no {0} key; expected {1}")]
    Key(&'static str, &'static str),
    /// A key's name is empty, or has a blank or a plus sign in it.
    #[error("a key's name is a text without blanks and plus signs, such as example.com/audit")]
    Name,
    /// Not the form of a note.
    #[error("this is no signed note: {0}")]
    Malformed(&'static str),
    /// No signature by a key that is trusted here.
    #[error("the note is not signed by a key that is trusted here; it is signed by {0}")]
    Unknown(String),
    /// A signature by a trusted key that does not fit the text.
    #[error("the signature by {0} does not fit the text: text or signature was changed")]
    Forged(String),
}

/// A public key: `NAME+ID+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

impl VerifierKey {
    /// Reads the text form. An id that does not fit name and key is refused.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let refuse = || NoteError::Key("verifier", "NAME+ID+BASE64, as `audit keygen` prints it");
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse());
        };
        let key = BASE64.decode(key.as_bytes()).map_err(|_| refuse())?;
        let [ED25519_TYPE, key @ ..] = key.as_slice() else {
            return Err(refuse());
        };
        let key = Self {
            name: checked(name)?,
            key: key.try_into().map_err(|_| refuse())?,
        };
        if HEXLOWER.encode(&key.id()) != id {
            return Err(refuse());
        }
        Ok(key)
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Four bytes that distinguish keys of one name.
    pub fn id(&self) -> [u8; 4] {
        let mut named = self.name.as_bytes().to_vec();
        named.extend([b'\n', ED25519_TYPE]);
        named.extend(self.key);
        let hash = sha256(&named);
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_TYPE];
        key.extend(self.key);
        let id = HEXLOWER.encode(&self.id());
        write!(f, "{}+{id}+{}", self.name, BASE64.encode(&key))
    }
}

/// A private key: `PRIVATE+KEY+NAME+ID+BASE64`.
pub struct SignerKey {
    verifier: VerifierKey,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.verifier)
    }
}

impl SignerKey {
    /// Makes a new one.
    pub fn generate(name: &str) -> Result<Self, NoteError> {
        let mut seed = [0; 32];
        aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut seed)
            .expect("the system has random numbers");
        Self::of_seed(name, seed)
    }

    /// The key of a seed.
    pub fn of_seed(name: &str, seed: [u8; 32]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed");
        let key = pair.public_key().as_ref();
        Ok(Self {
            verifier: VerifierKey {
                name: checked(name)?,
                key: key.try_into().expect("a public key has 32 bytes"),
            },
            seed,
            pair,
        })
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let refuse = || {
            NoteError::Key(
                "signing",
                "PRIVATE+KEY+NAME+ID+BASE64, as `audit keygen` writes it",
            )
        };
        let rest = text
            .trim()
            .strip_prefix("PRIVATE+KEY+")
            .ok_or_else(refuse)?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(seed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse());
        };
        let seed = BASE64.decode(seed.as_bytes()).map_err(|_| refuse())?;
        let [ED25519_TYPE, seed @ ..] = seed.as_slice() else {
            return Err(refuse());
        };
        let key = Self::of_seed(name, seed.try_into().map_err(|_| refuse())?)?;
        if HEXLOWER.encode(&key.verifier.id()) != id {
            return Err(refuse());
        }
        Ok(key)
    }

    /// The text form. It is a secret.
    pub fn to_private_text(&self) -> String {
        let mut seed = vec![ED25519_TYPE];
        seed.extend(self.seed);
        let id = HEXLOWER.encode(&self.verifier.id());
        format!(
            "PRIVATE+KEY+{}+{id}+{}",
            self.verifier.name,
            BASE64.encode(&seed)
        )
    }

    /// Its public part.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text, which ends with a line end. The same text gives the same note.
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.verifier.id().to_vec();
        signature.extend(self.pair.sign(text.as_bytes()).as_ref());
        format!(
            "{text}\n{DASH}{} {}\n",
            self.verifier.name,
            BASE64.encode(&signature)
        )
    }
}

/// The text of a note that is signed by one of these keys, and by which.
pub fn open<'a, 'k>(
    note: &'a str,
    trusted: &'k [VerifierKey],
) -> Result<(&'a str, &'k VerifierKey), NoteError> {
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("it holds a control character"));
    }
    let end = note
        .rfind("\n\n")
        .ok_or(NoteError::Malformed("it has no signatures"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    if !signatures.ends_with('\n') {
        return Err(NoteError::Malformed("it does not end with a line end"));
    }
    let mut by = None;
    let mut unknown = Vec::new();
    for (number, line) in signatures.lines().enumerate() {
        if number == MOST_SIGNATURES {
            return Err(NoteError::Malformed("it has too many signatures"));
        }
        let parts = line
            .strip_prefix(DASH)
            .and_then(|line| line.split_once(' '));
        let (name, signature) = parts.ok_or(NoteError::Malformed("a signature line"))?;
        let decoded = BASE64.decode(signature.as_bytes());
        let decoded = decoded.map_err(|_| NoteError::Malformed("a signature line"))?;
        let Some((id, signature)) = decoded.split_at_checked(4) else {
            return Err(NoteError::Malformed("a signature line"));
        };
        let key = trusted
            .iter()
            .find(|key| key.name == name && key.id() == id);
        let Some(key) = key else {
            unknown.push(format!("{name}+{}", HEXLOWER.encode(id)));
            continue;
        };
        UnparsedPublicKey::new(&ED25519, key.key)
            .verify(text.as_bytes(), signature)
            .map_err(|_| NoteError::Forged(name.to_owned()))?;
        by = by.or(Some(key));
    }
    match by {
        Some(key) => Ok((text, key)),
        None if unknown.is_empty() => Err(NoteError::Malformed("it has no signatures")),
        None => Err(NoteError::Unknown(unknown.join(", "))),
    }
}

/// A key's name is one token of a line.
fn checked(name: &str) -> Result<String, NoteError> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
        return Err(NoteError::Name);
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SignerKey {
        SignerKey::of_seed("example.com/audit", [7; 32]).expect("a name")
    }

    #[test]
    fn keys_are_text_and_back() {
        let key = key();
        let again = SignerKey::parse(&key.to_private_text()).expect("its own text");
        assert_eq!(again.verifier(), key.verifier());
        let text = key.verifier().to_string();
        assert_eq!(VerifierKey::parse(&text).as_ref(), Ok(key.verifier()));
        assert!(VerifierKey::parse(&text.replace("audit", "audip")).is_err());
        assert!(VerifierKey::parse("").is_err() && SignerKey::parse("PRIVATE+KEY+a+b+c").is_err());
        assert_eq!(SignerKey::generate("a b").err(), Some(NoteError::Name));
        assert!(!format!("{key:?}").contains(&key.to_private_text()[40..]));
    }

    /// The example of C2SP signed-note.
    #[test]
    fn a_note_of_another_implementation_opens() {
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let trusted = [VerifierKey::parse(key).expect("a key")];
        let (text, by) = open(note, &trusted).expect("its signature");
        assert!(text.ends_with("your problem is.\n"));
        assert_eq!(by.name(), "PeterNeumann");
    }

    #[test]
    fn strangers_are_ignored_and_forgeries_are_not() {
        let key = key();
        let other = SignerKey::of_seed("witness", [8; 32]).expect("a name");
        let note = key.sign("a\n\nb\n");
        let trusted = [key.verifier().clone()];
        assert_eq!(open(&note, &trusted), Ok(("a\n\nb\n", &trusted[0])));
        let line = other.sign("a\n\nb\n");
        let line = line.lines().last().expect("a signature");
        let both = format!("{note}{line}\n");
        assert!(open(&both, &trusted).is_ok());
        assert!(matches!(
            open(&note, &[other.verifier().clone()]),
            Err(NoteError::Unknown(_))
        ));
        assert!(matches!(
            open(&note.replace('b', "c"), &trusted),
            Err(NoteError::Forged(_))
        ));
        // One key more that signs again with the same name: another id.
        let renewed = SignerKey::of_seed("example.com/audit", [9; 32]).expect("a name");
        assert!(matches!(
            open(&renewed.sign("a\n"), &trusted),
            Err(NoteError::Unknown(_))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(note in "(a|\n|\u{2014} |example.com/audit|[ -~]|é){0,60}") {
            let trusted = [key().verifier().clone()];
            prop_assert!(open(&note, &trusted).is_err());
            prop_assert!(VerifierKey::parse(&note).is_err());
        }

        #[test]
        fn no_changed_note_opens_as_another_text(
            at in any::<prop::sample::Index>(), with in any::<char>(),
        ) {
            let trusted = [key().verifier().clone()];
            let note = key().sign("origin\n12\nroot\n");
            let mut changed: Vec<char> = note.chars().collect();
            let place = at.index(changed.len());
            changed[place] = with;
            let changed: String = changed.into_iter().collect();
            if let Ok((text, _)) = open(&changed, &trusted) {
                prop_assert_eq!(text, "origin\n12\nroot\n");
            }
        }
    }
}
