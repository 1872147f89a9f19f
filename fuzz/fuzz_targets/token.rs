//! Tokens. As they come (first byte even), or with this header and these claims under a signature that is right: whoever is
//! let in has a role, and no refusal shows anything of the token.

#![no_main]

use std::sync::OnceLock;

use artstore_fuzz::{parts, text};
use artstore_producers::token::header;
use artstore_producers::token::verify::{TokenSettings, TokenVerifier};
use artstore_schemas::actor::Identity;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

struct Setup {
    _folder: TempDir,
    verifier: TokenVerifier,
    pair: KeyPair,
}

fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(|| {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
        let pem = BASE64.encode(der.as_ref());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("main.pem");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n");
        std::fs::write(&path, pem).expect("written");
        let verifier = TokenVerifier::new(TokenSettings {
            public_keys: folder.path().to_owned(),
            issuer: None,
            audience: None,
            types: vec![
                "access".to_owned(),
                "admin_user".to_owned(),
                "service_account".to_owned(),
            ],
        });
        let verifier = verifier.expect("a key");
        Setup {
            _folder: folder,
            verifier,
            pair,
        }
    })
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(header),
        BASE64URL_NOPAD.encode(claims)
    );
    let pair = &setup().pair;
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    pair.sign(
        &RSA_PKCS1_SHA256,
        &random,
        message.as_bytes(),
        &mut signature,
    )
    .expect("a signature");
    format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let is_signed = kind & 1 == 1;
    let token = match is_signed {
        true => {
            let [header, claims] = parts(rest);
            signed(header, claims)
        }
        false => text(rest),
    };
    let _ = header::key_id(&token);
    match setup().verifier.verify(&token) {
        Ok(verified) => {
            assert!(is_signed);
            assert_eq!(verified.actor.identity, Some(Identity::Verified));
            assert_eq!(verified.actor.role.as_deref(), Some(verified.role.as_str()));
            let id = verified.actor.id.expect("an owner");
            assert!(!id.is_empty() && !id.chars().any(char::is_control));
        }
        Err(refusal) => {
            let shown = refusal.to_string();
            let secret = token.split('.').filter(|part| part.len() > 30);
            for part in secret {
                assert!(!shown.contains(part), "{shown}");
            }
        }
    }
});
