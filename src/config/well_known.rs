//! Passwords that everybody knows: refused for a server that others can reach.

use std::net::IpAddr;

use super::ConfigError;

/// In lower case. Examples, images and installers have them.
const PASSWORDS: &[&str] = &[
    "123456",
    "12345678",
    "admin",
    "artstore",
    "change-me",
    "change_me",
    "changeit",
    "changeme",
    "default",
    "example",
    "guest",
    "letmein",
    "nats",
    "pass",
    "passw0rd",
    "password",
    "postgres",
    "qwerty",
    "root",
    "s3cret",
    "s3cr3t",
    "secret",
    "test",
];

/// Whether nobody but this machine reaches a host: its loopback address, or a socket in its file system.
pub(super) fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.starts_with('/')
        || host == "localhost"
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Refuses a password that everybody knows, or that is its user's name.
pub(super) fn refuse(
    variable: &str,
    host: &str,
    user: &str,
    password: &str,
) -> Result<(), ConfigError> {
    let lower = password.to_lowercase();
    if is_local(host) || !(PASSWORDS.contains(&lower.as_str()) || lower == user.to_lowercase()) {
        return Ok(());
    }
    Err(ConfigError(format!(
        "{variable}: its password is a well-known default or the user's name, which is refused for \
         a server other than this machine ({host}): give the user another password, and set it here"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_everybody_knows_is_for_this_machine_alone() {
        for host in [
            "localhost",
            "127.0.0.1",
            "127.1.2.3",
            "[::1]",
            "::1",
            "/run",
        ] {
            refuse("X", host, "ann", "postgres").expect(host);
        }
        for host in ["db", "10.0.0.1", "localhost.example", "[fd00::1]"] {
            refuse("X", host, "ann", "x7Rk2mPq").expect(host);
            for password in ["postgres", "PassWord", "Ann"] {
                let error = refuse("X", host, "ann", password).expect_err(host).0;
                assert!(error.contains(host) && error.starts_with("X: "), "{error}");
            }
        }
    }
}
