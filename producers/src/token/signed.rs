//! Keys and tokens for tests, made anew in each run. The header is what a test says, whatever a library
//! would make of it.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

/// A pair of keys.
pub(crate) struct TestKey(RsaKeyPair);

impl TestKey {
    pub(crate) fn new() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    /// The same for all tests: making one takes its time.
    pub(crate) fn first() -> &'static Self {
        static KEY: OnceLock<TestKey> = OnceLock::new();
        KEY.get_or_init(Self::new)
    }

    /// Another one.
    pub(crate) fn second() -> &'static Self {
        static KEY: OnceLock<TestKey> = OnceLock::new();
        KEY.get_or_init(Self::new)
    }

    pub(crate) fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().expect("DER");
        let body = BASE64.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        // RSAPublicKey is a sequence of both integers.
        let der = self.0.public_key().as_ref();
        let e = [1, 0, 1];
        let n = &der[der.len() - e.len() - 2 - 256..der.len() - e.len() - 2];
        json!({"kty": "RSA", "kid": kid, "n": BASE64URL_NOPAD.encode(n), "e": BASE64URL_NOPAD.encode(&e)})
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.with_header(&json!({"alg": "RS256", "typ": "JWT"}), claims)
    }

    pub(crate) fn with_header(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .expect("a signature");
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

/// Signed by a secret, as a verifier would that takes the algorithm from the header.
pub(crate) fn by_secret(secret: &[u8], claims: &Value) -> String {
    let message = message(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

pub(crate) fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// The claims of the product's user 7, with these changes.
pub(crate) fn user(changes: Value) -> Value {
    let claims = json!({
        "sub": "7", "username": "ann", "email": "ann@example.com", "role": "admin", "type": "access",
        "iat": now(), "nbf": now(), "exp": now() + 600,
    });
    changed(claims, changes)
}

/// The same of a service account.
pub(crate) fn account(changes: Value) -> Value {
    let claims = json!({
        "sub": "0191f1f0-abcd-7000-8000-000000000000", "client_id": "sa_prod_backup_0a1b2c3d",
        "name": "backup", "role": "auditor", "rate_limit": 100, "type": "access",
        "iat": now(), "nbf": now(), "exp": now() + 600,
    });
    changed(claims, changes)
}

/// Null takes a claim away.
fn changed(mut claims: Value, changes: Value) -> Value {
    if let (Some(claims), Value::Object(changes)) = (claims.as_object_mut(), changes) {
        for (name, value) in changes {
            match value {
                Value::Null => drop(claims.remove(&name)),
                value => drop(claims.insert(name, value)),
            }
        }
    }
    claims
}
