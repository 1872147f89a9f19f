//! How a connection to PostgreSQL is encrypted: by the settings of libpq. Outside this machine no connection falls back
//! to plain text, and a mode that does less here than its name promises is refused.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use artstore_runtime::configuration::ConfigError;
use artstore_runtime::secret_file;

use super::well_known;

/// A setting: its names in a URL, the first of which is libpq's, and its variable.
type Setting = (&'static [&'static str], &'static str);

const MODE: Setting = (&["sslmode", "ssl-mode"], "PGSSLMODE");
const AUTHORITY: Setting = (&["sslrootcert", "ssl-root-cert", "ssl-ca"], "PGSSLROOTCERT");
const CERTIFICATE: Setting = (&["sslcert", "ssl-cert"], "PGSSLCERT");
const KEY: Setting = (&["sslkey", "ssl-key"], "PGSSLKEY");

/// The options of a database, with a mode where neither its URL nor `PGSSLMODE` has one. `variable`: the setting that
/// has the database.
pub(super) fn encrypted(
    variable: &str,
    url: Option<&Url>,
    options: PgConnectOptions,
) -> Result<PgConnectOptions, ConfigError> {
    let [authority, certificate, key] = [AUTHORITY, CERTIFICATE, KEY].map(|setting| {
        let given = given(setting, url)?;
        // Or the PEM itself stands there.
        if !given.trim().starts_with("-----BEGIN") {
            let (names, in_environment) = setting;
            let name = format!("{variable}: {} ({in_environment})", names[0]);
            return Some(read(&name, given));
        }
        Some(Ok(given))
    });
    let (authority, certificate) = (authority.transpose()?, certificate.transpose()?);
    let key = key.transpose()?;
    if certificate.is_some() != key.is_some() {
        return Err(ConfigError(format!(
            "{variable}: sslcert and sslkey (PGSSLCERT, PGSSLKEY) go together"
        )));
    }
    if let Some(key) = &key {
        let setting = format!("{variable}: sslkey (PGSSLKEY)");
        secret_file::warn_where_shared(&setting, Path::new(key));
    }
    // The client takes a variable that it can't read for none.
    let mode = given(MODE, url).map(|mode| {
        mode.parse().map_err(|_| {
            ConfigError(format!(
                "{variable}: sslmode (PGSSLMODE) is none of disable, prefer, require and verify-full"
            ))
        })
    });
    let mode = match mode.transpose()? {
        Some(mode) => mode,
        None if is_local(&options) => PgSslMode::Prefer,
        None if authority.is_some() => PgSslMode::VerifyFull,
        None => PgSslMode::Require,
    };
    let refused = match mode {
        PgSslMode::Allow => Some("allow (it would never encrypt here)"),
        // The client trusts the public authorities as well: anybody has a certificate of one of them.
        PgSslMode::VerifyCa => Some("verify-ca (any public certificate would do)"),
        PgSslMode::Require if authority.is_some() => {
            Some("require beside an authority (it would not be used)")
        }
        PgSslMode::Require | PgSslMode::VerifyFull | PgSslMode::Prefer | PgSslMode::Disable => None,
    };
    match refused {
        None => Ok(options.ssl_mode(mode)),
        Some(refused) => Err(ConfigError(format!(
            "{variable}: sslmode (PGSSLMODE) is {refused}: use verify-full, with the name that is in the \
             server's certificate as its host"
        ))),
    }
}

/// What a URL says, else the environment; empty says nothing.
fn given((names, variable): Setting, url: Option<&Url>) -> Option<String> {
    let in_url = url.and_then(|url| {
        let named = |name: &str| names.contains(&name);
        // Of several the last one counts, as for the client.
        let values = url.query_pairs().filter(|(name, _)| named(name));
        values.last().map(|(_, value)| value.into_owned())
    });
    let in_environment =
        || std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned());
    in_url
        .or_else(in_environment)
        .filter(|value| !value.is_empty())
}

/// The file's name, where it is one of PEM.
fn read(name: &str, file: String) -> Result<String, ConfigError> {
    let refused = |reason: String| ConfigError(format!("{name}: {file}: {reason}"));
    let pem = std::fs::read(Path::new(&file)).map_err(|error| refused(error.to_string()))?;
    match pem.windows(11).any(|some| some == b"-----BEGIN ") {
        true => Ok(file),
        false => Err(refused("it holds no PEM".to_owned())),
    }
}

/// Whether the server is on this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || well_known::is_local(options.get_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<String, String> {
        let encrypted = encrypted("X", Some(&url.parse().unwrap()), url.parse().unwrap());
        encrypted
            .map(|options| format!("{:?}", options.get_ssl_mode()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_falls_back_to_plain_text_outside_this_machine() {
        for local in [
            "localhost",
            "127.0.0.1:5432",
            "[::1]",
            "%2Frun%2Fpostgresql",
        ] {
            assert_eq!(
                mode(&format!("postgres://a@{local}/b")),
                Ok("Prefer".to_owned())
            );
        }
        for (elsewhere, wanted) in [
            ("postgres://a@db/b", "Require"),
            ("postgres://a@10.0.0.1/b", "Require"),
            ("postgres://a@localhost.example/b", "Require"),
            ("postgres://a@db/b?application_name=x", "Require"),
            ("postgres://a@db/b?sslmode=disable", "Disable"),
            ("postgres://a@db/b?x=y&ssl-mode=prefer", "Prefer"),
            ("postgres://a@db/b?sslmode=verify-full", "VerifyFull"),
        ] {
            assert_eq!(mode(elsewhere), Ok(wanted.to_owned()), "{elsewhere}");
        }
    }

    #[test]
    fn an_authority_is_used_or_the_setting_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let pem = file("ca.pem", "-----BEGIN CERTIFICATE-----\n");
        let url = |rest: &str| mode(&format!("postgres://a@db/b?{rest}"));
        assert_eq!(
            url(&format!("sslrootcert={pem}")),
            Ok("VerifyFull".to_owned())
        );
        for (rest, reason) in [
            ("sslmode=allow".to_owned(), "never encrypt"),
            ("sslmode=verify-ca".to_owned(), "verify-full"),
            (format!("sslmode=require&sslrootcert={pem}"), "verify-full"),
            (format!("sslcert={pem}"), "go together"),
            ("sslrootcert=/no/such".to_owned(), "PGSSLROOTCERT"),
            (format!("sslrootcert={}", file("none", "x")), "no PEM"),
        ] {
            let refused = url(&rest).unwrap_err();
            assert!(refused.contains(reason), "{rest}: {refused}");
        }
    }

    #[test]
    fn hosts_that_are_no_part_of_a_url_are_taken() {
        let options = PgConnectOptions::new_without_pgpass;
        for (host, user, wanted) in [
            ("/var/run/postgresql", "ann", "Prefer"),
            ("::1", "ann", "Prefer"),
            ("fd00::1", "ann", "Require"),
            ("db", "a:b/c", "Require"),
        ] {
            let encrypted = encrypted("X", None, options().host(host).username(user)).unwrap();
            assert_eq!(format!("{:?}", encrypted.get_ssl_mode()), wanted, "{host}");
        }
    }
}
