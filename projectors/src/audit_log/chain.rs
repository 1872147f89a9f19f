//! The chain of a stream's rows: each signature covers the one before it, with a key that the
//! database does not contain. No database access.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::row::{Hash, sha256};

const DOMAIN: &[u8] = b"artstore/audit-chain/v1\0";
const KEY_INFO: &[u8] = b"artstore/audit-chain-key/v1\0";
const KID_INFO: &[u8] = b"artstore/audit-chain-kid/v1\0";

/// The least length of a secret, in characters.
pub(crate) const LEAST_SECRET: usize = 32;

/// A key, made of one secret. Its id (`kid`) follows from the secret, so that no configuration can
/// mix them up.
#[derive(Clone)]
pub struct ChainKey {
    kid: String,
    key: hmac::Key,
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainKey({})", self.kid)
    }
}

/// Why a secret can't be used. It is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It can be guessed.
    #[error("it has {0} characters; at least {LEAST_SECRET} are needed")]
    Short(usize),
    /// It stands in an example somewhere.
    #[error("it is a well-known default; make one of your own, of random characters")]
    WellKnown,
}

impl ChainKey {
    /// The key of a secret.
    pub fn of(secret: &str) -> Result<Self, SecretError> {
        let length = secret.chars().count();
        if length < LEAST_SECRET {
            return Err(SecretError::Short(length));
        }
        if is_well_known(secret) {
            return Err(SecretError::WellKnown);
        }
        let kid: [u8; 8] = derive(secret, &[KID_INFO]);
        let kid = data_encoding::HEXLOWER.encode(&kid);
        let key: [u8; 32] = derive(secret, &[KEY_INFO, kid.as_bytes()]);
        Ok(Self {
            kid,
            key: hmac::Key::new(HMAC_SHA256, &key),
        })
    }

    /// The key's id: 16 hex digits.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The signature of a row, from the one before it and its leaf.
    pub fn sign(&self, previous: &Hash, leaf: &Hash) -> Hash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(DOMAIN);
        context.update(self.kid.as_bytes());
        context.update(previous);
        context.update(leaf);
        let mut signature = [0; 32];
        signature.copy_from_slice(context.sign().as_ref());
        signature
    }
}

/// What the first row of a stream is chained to.
pub fn origin_hash(origin: &str) -> Hash {
    sha256(origin.as_bytes())
}

/// The key that signs now, and those that signed before.
#[derive(Debug, Clone)]
pub struct Keyring {
    current: ChainKey,
    old: Vec<ChainKey>,
}

impl Keyring {
    /// The secret in use first.
    pub fn new(current: ChainKey, old: Vec<ChainKey>) -> Self {
        Self { current, old }
    }

    /// The key that signs.
    pub fn current(&self) -> &ChainKey {
        &self.current
    }

    /// The key with this id.
    pub fn get(&self, kid: &str) -> Option<&ChainKey> {
        std::iter::once(&self.current)
            .chain(&self.old)
            .find(|key| key.kid == kid)
    }
}

/// Of words that examples have, or of few different characters.
fn is_well_known(secret: &str) -> bool {
    let lower = secret.to_lowercase();
    let example = [
        "change",
        "example",
        "your-",
        "your_",
        "default",
        "secret-key",
        "secret_key",
    ]
    .iter()
    .any(|word| lower.contains(word));
    let mut characters: Vec<char> = lower.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    example || characters.len() < 8
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive<const N: usize>(secret: &str, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    Salt::new(HKDF_SHA256, &[])
        .extract(secret.as_bytes())
        .expand(info, Length(N))
        .and_then(|okm| okm.fill(&mut out))
        .expect("a length that HKDF has");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "k3Jq8vX1mZ0wR7tY5uB2nC6dF9gH4sLa";

    #[test]
    fn secrets_that_others_know_are_refused() {
        assert_eq!(ChainKey::of("short").unwrap_err(), SecretError::Short(5));
        for bad in [
            "change-this-in-production-0123456789",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "YOUR-SECRET-KEY-0123456789-0123456789",
        ] {
            assert_eq!(
                ChainKey::of(bad).unwrap_err(),
                SecretError::WellKnown,
                "{bad}"
            );
        }
        assert!(ChainKey::of(SECRET).is_ok());
    }

    #[test]
    fn a_signature_depends_on_key_row_and_place() {
        let key = ChainKey::of(SECRET).expect("a secret");
        let other = ChainKey::of("Qw8eRt5yUi2oPa7sDf4gHj1kLz9xCv6b").expect("a secret");
        let first = origin_hash("log/ARTSTORE_ADMIN");
        let signature = key.sign(&first, &[1; 32]);
        assert_ne!(signature, other.sign(&first, &[1; 32]));
        assert_ne!(signature, key.sign(&first, &[2; 32]));
        assert_ne!(signature, key.sign(&signature, &[1; 32]));
        let ring = Keyring::new(other.clone(), vec![key.clone()]);
        assert_eq!(ring.get(key.kid()).map(ChainKey::kid), Some(key.kid()));
        assert_eq!(ring.current().kid(), other.kid());
        assert!(ring.get("0").is_none());
    }
}
