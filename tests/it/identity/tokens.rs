//! `artstore token check`: each attack ends with its reason and exit code 1, and shows nothing of the token.

use serde_json::{Value, json};

use super::{assert_absent, file, keys, signed, text};
use crate::support::signed::{TestKey, account, by_secret, message, now, user};
use crate::support::{Program, run};

/// What it printed and logged, at its most talkative.
async fn checked(keys: &str, token: &str, more: &[(&str, &str)]) -> (Option<i32>, String) {
    let arguments = ["token", "check", "--token-file", text(&file("t", token))].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let program = Program::new(&arguments)
        .env("AUTH_PUBLIC_KEY_PATH", keys)
        .env("LOG_LEVEL", "trace");
    let program = more
        .iter()
        .fold(program, |program, (name, value)| program.env(name, value));
    let mut process = program.start();
    let status = process.ended().await;
    (status.code(), process.output() + &process.log())
}

#[test]
fn each_attack_ends_with_its_reason_and_shows_nothing_of_the_token() {
    run(async {
        let folder = keys();
        let (first, second) = (TestKey::first(), TestKey::second());
        let none = message(&json!({"alg": "none", "typ": "JWT"}), &user(json!({})));
        let header = |header: Value| first.with_header(&header, &user(json!({})));
        let claims = |changes: Value| signed(&user(changes));
        for (token, reason) in [
            (format!("{none}."), "another algorithm"),
            (
                by_secret(first.pem().as_bytes(), &user(json!({}))),
                "another algorithm",
            ),
            (second.token(&user(json!({}))), "signature is not"),
            (claims(json!({"exp": now() - 60})), "expired"),
            (claims(json!({"nbf": now() + 60})), "not valid yet"),
            (claims(json!({"iat": now() + 60})), "issued in the future"),
            (claims(json!({"type": "refresh"})), "its type"),
            (
                header(json!({"alg": "RS256", "kid": "unknown"})),
                "names a key (kid)",
            ),
            (
                header(json!({"alg": "RS256", "kid": "../keys/main"})),
                "names a key (kid)",
            ),
            (
                header(json!({"alg": "RS256", "jku": "https://evil.example/keys"})),
                "(jku)",
            ),
            (claims(json!({"role": "superuser"})), "its role"),
            (claims(json!({"email": "x".repeat(9_000)})), "at most 8192"),
            (claims(json!({"aud": "elsewhere"})), "another audience"),
        ] {
            let (code, said) = checked(text(&folder), &token, &[]).await;
            assert_eq!(code, Some(1), "{reason}: {said}");
            assert!(said.contains(reason), "{reason}: {said}");
            assert_absent(&token, &said);
        }
        let audience: &[(&str, &str)] = &[("AUTH_AUDIENCE", "events")];
        let (code, said) = checked(text(&folder), &claims(json!({})), audience).await;
        assert!(code == Some(1) && said.contains("no claim aud"), "{said}");
    });
}

#[test]
fn a_token_of_the_product_is_shown_with_its_owner() {
    run(async {
        let folder = keys();
        let token = signed(&user(json!({"jti": "t-1"})));
        let (code, said) = checked(text(&folder), &token, &[]).await;
        assert_eq!(code, Some(0), "{said}");
        for line in [
            "token      valid",
            "type       user",
            "id         7",
            "name       ann",
            "role       admin",
            "token id   t-1",
            "key        main",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert_absent(&token, &said);

        let token = signed(&account(json!({})));
        let program = Program::new(&["token", "check", "--json"])
            .env("AUTH_PUBLIC_KEY_PATH", text(&folder))
            .env("ARTSTORE_TOKEN", &token);
        let (status, said) = program.output().await;
        assert!(status.success(), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["valid"], true);
        assert_eq!(said["actor"]["type"], "service_account");
        assert_eq!(said["actor"]["identity"], "verified");
    });
}

#[test]
fn a_key_counts_as_long_as_its_file_is_there() {
    run(async {
        let folder = keys();
        let (old, new) = (TestKey::first(), TestKey::second());
        let (old, new) = (old.token(&user(json!({}))), new.token(&user(json!({}))));
        let code = async |token: &str| checked(text(&folder), token, &[]).await.0;
        assert_eq!((code(&old).await, code(&new).await), (Some(0), Some(1)));
        std::fs::write(folder.join("next.pem"), TestKey::second().pem()).unwrap();
        assert_eq!((code(&old).await, code(&new).await), (Some(0), Some(0)));
        std::fs::remove_file(folder.join("main.pem")).unwrap();
        assert_eq!((code(&old).await, code(&new).await), (Some(1), Some(0)));
        // Nothing is left to verify with: that is a setting to correct.
        std::fs::remove_file(folder.join("next.pem")).unwrap();
        assert_eq!((code(&old).await, code(&new).await), (Some(2), Some(2)));
    });
}
