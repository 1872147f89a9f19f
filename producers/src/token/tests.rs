//! Attacks on the verification, each refused for its own reason and without a text of the token, and tokens
//! of the product, which are accepted.

use std::fs;
use std::path::Path;

use artstore_schemas::actor::{ActorType, Identity};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::refusal::TokenRefused;
use super::role::Role;
use super::signed::{TestKey, account, by_secret, message, now, user};
use super::verify::{TokenSettings, TokenVerifier};

fn settings(path: &Path) -> TokenSettings {
    TokenSettings {
        public_keys: path.to_owned(),
        issuer: None,
        audience: None,
        types: vec!["access".to_owned()],
    }
}

/// A folder with the first key, as `main.pem`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("main.pem"), TestKey::first().pem()).expect("a key");
    folder
}

/// Refused for a reason with these words, and with nothing of the token.
fn refused(verifier: &TokenVerifier, token: &str, reason: &str) {
    let error = verifier.verify(token).expect_err(reason);
    let text = format!("{error} {error:?}");
    assert!(text.contains(reason), "{text}, not {reason}");
    for part in token.split('.').filter(|part| part.len() > 3) {
        assert!(!text.contains(part), "{text}");
    }
}

#[test]
fn each_attack_is_refused_for_its_reason() {
    let folder = folder();
    let verifier = TokenVerifier::new(settings(folder.path())).expect("a key");
    let (first, second) = (TestKey::first(), TestKey::second());
    let sound = first.token(&user(json!({})));
    verifier.verify(&sound).expect("a sound token");
    let header = |header: Value| first.with_header(&header, &user(json!({})));
    let claims = |changes: Value| first.token(&user(changes));
    let none = message(&json!({"alg": "none"}), &user(json!({})));
    let mut forged = sound.clone().into_bytes();
    let middle = sound.find('.').expect("a dot") + 20;
    forged[middle] ^= 1;
    let forged = String::from_utf8(forged).expect("a text");
    for (token, reason) in [
        (format!("{none}."), "another algorithm"),
        (header(json!({"alg": "None"})), "another algorithm"),
        (header(json!({"alg": "RS512"})), "another algorithm"),
        (header(json!({"alg": "rs256"})), "another algorithm"),
        (header(json!({"alg": ["RS256"]})), "another algorithm"),
        (header(json!({"typ": "JWT"})), "no token"),
        (
            by_secret(first.pem().as_bytes(), &user(json!({}))),
            "another algorithm",
        ),
        (second.token(&user(json!({}))), "its signature"),
        (forged, "its signature"),
        (
            second.with_header(&json!({"alg": "RS256", "kid": "main"}), &user(json!({}))),
            "its signature",
        ),
        (
            header(json!({"alg": "RS256", "kid": "other"})),
            "not among the 1 known",
        ),
        (
            header(json!({"alg": "RS256", "kid": "../main"})),
            "not among the 1 known",
        ),
        (
            header(json!({"alg": "RS256", "kid": folder.path().join("main.pem")})),
            "not among the 1 known",
        ),
        (
            header(json!({"alg": "RS256", "kid": "MAIN"})),
            "not among the 1 known",
        ),
        (
            header(json!({"alg": "RS256", "kid": ""})),
            "not among the 1 known",
        ),
        (header(json!({"alg": "RS256", "kid": 7})), "no token"),
        (
            header(json!({"alg": "RS256", "jku": "https://evil.example/keys"})),
            "(jku)",
        ),
        (
            header(json!({"alg": "RS256", "jwk": second.jwk("main")})),
            "(jwk)",
        ),
        (
            header(json!({"alg": "RS256", "x5u": "https://evil.example/c"})),
            "(x5u)",
        ),
        (header(json!({"alg": "RS256", "x5c": ["AAAA"]})), "(x5c)"),
        (header(json!({"alg": "RS256", "crit": ["b64"]})), "crit"),
        (claims(json!({"exp": now() - 31})), "expired"),
        (claims(json!({"exp": null})), "no claim exp"),
        (claims(json!({"exp": "2030-01-01"})), "its claims"),
        (claims(json!({"nbf": now() + 60})), "not valid yet"),
        (claims(json!({"nbf": null})), "no claim nbf"),
        (claims(json!({"iat": now() + 60})), "in the future"),
        (claims(json!({"sub": null})), "no claim sub"),
        (claims(json!({"sub": "0"})).replace('.', "|"), "no token"),
        (claims(json!({"sub": "ann"})), "a user's integer id"),
        (claims(json!({"sub": "007"})), "a user's integer id"),
        (claims(json!({"sub": 7})), "its claims"),
        (
            claims(json!({"username": "a\u{1b}[2J"})),
            "control characters",
        ),
        (claims(json!({"client_id": "sa"})), "it says both"),
        (claims(json!({"type": "refresh"})), "its type"),
        (claims(json!({"type": null})), "its type"),
        (claims(json!({"type": "Access"})), "its type"),
        (claims(json!({"type": "admin_user"})), "its type"),
        (claims(json!({"role": "superuser"})), "its role"),
        (claims(json!({"role": null})), "its role"),
        (claims(json!({"role": "admin "})), "its role"),
        (claims(json!({"aud": "elsewhere"})), "another audience"),
        (
            claims(json!({"email": "x".repeat(9_000)})),
            "at most 8192 are read",
        ),
        (String::new(), "no token"),
        ("a.b".to_owned(), "no token"),
        (format!("{sound}.x"), "no token"),
        (format!(" {sound}"), "no token"),
    ] {
        refused(&verifier, &token, reason);
    }
}

#[test]
fn issuer_and_audience_are_required_where_they_are_configured() {
    let folder = folder();
    let configured = TokenSettings {
        issuer: Some("artstore".to_owned()),
        audience: Some("events".to_owned()),
        ..settings(folder.path())
    };
    let verifier = TokenVerifier::new(configured).expect("a key");
    let token = |changes: Value| TestKey::first().token(&user(changes));
    for (changes, reason) in [
        (json!({}), "no claim"),
        (json!({"iss": "artstore"}), "no claim aud"),
        (json!({"aud": "events"}), "no claim iss"),
        (json!({"iss": "other", "aud": "events"}), "issuer"),
        (json!({"iss": "artstore", "aud": "other"}), "audience"),
        (json!({"iss": "artstore", "aud": []}), "audience"),
    ] {
        refused(&verifier, &token(changes), reason);
    }
    for audience in [json!("events"), json!(["other", "events"])] {
        let token = token(json!({"iss": "artstore", "aud": audience}));
        verifier.verify(&token).expect("its own");
    }
}

#[test]
fn tokens_of_the_product_name_their_owner() {
    let folder = folder();
    let verifier = TokenVerifier::new(settings(folder.path())).expect("a key");
    let key = TestKey::first();
    let verified = verifier.verify(&key.token(&user(json!({"role": "ADMIN"}))));
    let verified = verified.expect("a user");
    assert_eq!(verified.role, Role::Admin);
    let actor = verified.actor;
    assert_eq!(actor.identity, Some(Identity::Verified));
    assert_eq!(actor.kind, ActorType::User);
    assert_eq!(actor.id.as_deref(), Some("7"));
    assert_eq!(actor.name.as_deref(), Some("ann"));
    assert_eq!(actor.role.as_deref(), Some("admin"));
    assert_eq!(actor.key_id.as_deref(), Some("main"));
    assert_eq!(actor.token_id, None);

    let verified = verifier.verify(&key.token(&account(json!({"jti": "t-1"}))));
    let verified = verified.expect("a service account");
    assert_eq!(verified.role, Role::Auditor);
    let actor = verified.actor;
    assert_eq!(actor.kind, ActorType::ServiceAccount);
    assert_eq!(
        actor.id.as_deref(),
        Some("0191f1f0-abcd-7000-8000-000000000000")
    );
    assert_eq!(actor.name.as_deref(), Some("sa_prod_backup_0a1b2c3d"));
    assert_eq!(actor.token_id.as_deref(), Some("t-1"));

    // Clocks differ by some seconds.
    for changes in [
        json!({"exp": now() - 20}),
        json!({"nbf": now() + 20}),
        json!({"iat": now() + 20}),
    ] {
        let token = key.token(&user(changes.clone()));
        let verified = verifier.verify(&token);
        verified.unwrap_or_else(|error| panic!("{changes}: {error}"));
    }
}

#[test]
fn the_later_version_has_types_of_its_own_which_have_to_be_listed() {
    let folder = folder();
    let listed = TokenSettings {
        types: vec!["admin_user".to_owned(), "service_account".to_owned()],
        ..settings(folder.path())
    };
    let verifier = TokenVerifier::new(listed).expect("a key");
    let key = TestKey::first();
    let later = json!({"type": "admin_user", "username": null, "name": "Ann"});
    let verified = verifier.verify(&key.token(&user(later))).expect("listed");
    assert_eq!(verified.actor.name.as_deref(), Some("Ann"));
    let later = json!({"type": "service_account", "client_id": null});
    let verified = verifier.verify(&key.token(&account(later)));
    assert_eq!(
        verified.expect("listed").actor.kind,
        ActorType::ServiceAccount
    );
    let mixed = json!({"type": "service_account", "username": null});
    refused(&verifier, &key.token(&user(mixed)), "UUID");
    refused(&verifier, &key.token(&user(json!({}))), "its type");
}

/// Old and new keys overlap; a key whose file is gone is worth nothing from then on.
#[test]
fn keys_come_and_go_with_their_files() {
    let folder = folder();
    let verifier = TokenVerifier::new(settings(folder.path())).expect("a key");
    let (first, second) = (TestKey::first(), TestKey::second());
    let old = first.token(&user(json!({})));
    let new = second.token(&user(json!({})));
    let named = json!({"alg": "RS256", "kid": "next"});
    let new_named = second.with_header(&named, &user(json!({})));
    refused(&verifier, &new, "its signature");
    refused(&verifier, &new_named, "not among");

    fs::write(folder.path().join("next.pem"), second.pem()).expect("a key");
    for token in [&old, &new, &new_named] {
        verifier.verify(token).expect("both keys count");
    }
    // A half-written one is no key, and the others stay.
    fs::write(
        folder.path().join("third.pem"),
        "-----BEGIN PUBLIC KEY-----\nMIIB",
    )
    .expect("a file");
    verifier.verify(&old).expect("as before");
    assert_eq!(verifier.key_ids().expect("keys"), ["main", "next"]);

    fs::remove_file(folder.path().join("main.pem")).expect("removed");
    refused(&verifier, &old, "its signature");
    verifier.verify(&new).expect("it stays");

    // Another key under the same name, of the same size.
    fs::write(folder.path().join("next.pem"), first.pem()).expect("a key");
    refused(&verifier, &new_named, "its signature");
    verifier.verify(&old).expect("it is back");

    fs::remove_file(folder.path().join("next.pem")).expect("removed");
    let error = verifier.verify(&old).expect_err("no key is left");
    assert!(matches!(error, TokenRefused::Keys(_)), "{error}");
}

#[test]
fn keys_are_a_file_a_folder_or_a_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        settings(&path)
    };
    let (first, second) = (TestKey::first(), TestKey::second());
    let token = first.token(&user(json!({})));
    let of_file = TokenVerifier::new(at("one.pem", &first.pem())).expect("a file");
    let verified = of_file.verify(&token).expect("its own");
    assert_eq!(verified.actor.key_id.as_deref(), Some("one"));

    let set = json!({"keys": [
        {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
        first.jwk("a"),
        second.jwk("b"),
    ]});
    let of_set = TokenVerifier::new(at("keys.json", &set.to_string())).expect("a set");
    assert_eq!(of_set.key_ids().expect("keys"), ["a", "b"]);
    let verified = of_set.verify(&token).expect("its own");
    assert_eq!(verified.actor.key_id.as_deref(), Some("a"));
    let named = json!({"alg": "RS256", "kid": "b"});
    refused(
        &of_set,
        &first.with_header(&named, &user(json!({}))),
        "its signature",
    );

    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let twice = json!({"keys": [first.jwk("a"), second.jwk("a")]}).to_string();
    let mut private_key = first.jwk("a");
    private_key["d"] = json!("AAAA");
    let private_set = json!({"keys": [private_key]}).to_string();
    let weak = json!({"keys": [{"kty": "RSA", "kid": "w", "n": "wPUX", "e": "AQAB"}]}).to_string();
    for (text, reason) in [
        ("", "no public key in PEM"),
        (private, "private key"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "no public key in PEM",
        ),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "its end is missing"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "no RSA public key",
        ),
        (&first.pem().repeat(2), "more than one key"),
        ("{}", "no list `keys`"),
        ("{\"keys\": []}", "no RSA key"),
        (&twice, "kid is there twice"),
        (&private_set, "private key"),
        (&weak, "key 1 of the set"),
    ] {
        let error = TokenVerifier::new(at("bad", text)).expect_err(reason);
        let error = error.to_string();
        assert!(error.contains(reason), "{error}, not {reason}");
        assert!(error.starts_with("AUTH_PUBLIC_KEY_PATH: "), "{error}");
    }
    let nowhere = settings(&folder.path().join("nowhere"));
    TokenVerifier::new(nowhere).expect_err("there is nothing");
    let empty = tempfile::tempdir().expect("a folder");
    TokenVerifier::new(settings(empty.path())).expect_err("there is no key");
}
