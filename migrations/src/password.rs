//! What PostgreSQL keeps of a password: its verifier (SCRAM-SHA-256, RFC 5802 and 7677). Sent in the place of the
//! password, so that statements in a server's log, and whoever reads them, have nothing to log in with.

use std::num::NonZeroU32;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::{digest, hmac, pbkdf2};
use data_encoding::BASE64;

/// PostgreSQL's own.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

/// A verifier of this password, with a salt of its own. It contains no quotes.
pub(crate) fn verifier(password: &str) -> String {
    let mut salt = [0; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .expect("the system has random numbers");
    let keys = Keys::of(password, &salt);
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        BASE64.encode(&salt),
        BASE64.encode(&keys.stored),
        BASE64.encode(&keys.server)
    )
}

struct Keys {
    stored: [u8; 32],
    server: [u8; 32],
}

impl Keys {
    fn of(password: &str, salt: &[u8]) -> Self {
        let mut salted = [0; 32];
        let prepared = prepared(password);
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(
            algorithm,
            ITERATIONS,
            salt,
            prepared.as_bytes(),
            &mut salted,
        );
        let client = sign(&salted, b"Client Key");
        Self {
            stored: bytes(digest::digest(&digest::SHA256, &client).as_ref()),
            server: sign(&salted, b"Server Key"),
        }
    }
}

/// As the server and its clients do: a password that SASLprep does not allow is taken as it is.
fn prepared(password: &str) -> String {
    match stringprep::saslprep(password) {
        Ok(prepared) if !prepared.is_empty() => prepared.into_owned(),
        Ok(_) | Err(_) => password.to_owned(),
    }
}

fn sign(key: &[u8], text: &[u8]) -> [u8; 32] {
    bytes(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref())
}

fn bytes(digest: &[u8]) -> [u8; 32] {
    digest.try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_keys_are_those_of_the_specification() {
        let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::of("pencil", &salt);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let message = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
        );
        assert_eq!(
            BASE64.encode(&sign(&keys.server, message.as_bytes())),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        // The proof of the client, taken off its signature, is the key that the stored one is the digest of.
        let proof = BASE64
            .decode(b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
            .unwrap();
        let signature = sign(&keys.stored, message.as_bytes());
        let client: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        assert_eq!(
            digest::digest(&digest::SHA256, &client).as_ref(),
            keys.stored
        );
    }

    #[test]
    fn passwords_that_people_take_for_the_same_are_the_same() {
        for (typed, same) in [("I\u{ad}X", "IX"), ("\u{aa}", "a"), ("user", "user")] {
            assert_eq!(prepared(typed), same);
        }
        // Not allowed, or nothing is left.
        for kept in ["\u{7}", "\u{627}1", "\u{ad}"] {
            assert_eq!(prepared(kept), kept);
        }
    }

    #[test]
    fn each_verifier_has_a_salt_of_its_own() {
        let (first, second) = (verifier("p'w"), verifier("p'w"));
        assert_ne!(first, second);
        assert!(first.starts_with("SCRAM-SHA-256$4096:") && !first.contains(['\'', '"']));
    }
}
