//! How a connection to PostgreSQL is encrypted: by the settings of libpq. Outside this machine no connection falls back
//! to plain text, and a mode that does less here than its name promises is refused.

use std::path::Path;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use artstore_runtime::configuration::ConfigError;
use artstore_runtime::secret_file;

use super::well_known;

/// The files, by their names in a URL and in the environment.
const FILES: [(&str, &str); 3] = [
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
];

/// The options of a database, with a mode where neither its URL nor `PGSSLMODE` has one. `variable`: the setting that
/// has the database.
pub(super) fn encrypted(
    variable: &str,
    url: Option<&str>,
    options: PgConnectOptions,
) -> Result<PgConnectOptions, ConfigError> {
    let files = files(&options);
    for ((in_url, in_environment), file) in FILES.iter().zip(&files) {
        if let Some(file) = file {
            read(file).map_err(|reason| {
                ConfigError(format!(
                    "{variable}: {in_url} ({in_environment}): {file}: {reason}"
                ))
            })?;
        }
    }
    if let Some(key) = &files[2] {
        let setting = format!("{variable}: sslkey (PGSSLKEY)");
        secret_file::warn_where_shared(&setting, Path::new(key));
    }
    let [authority, certificate, key] = files;
    if certificate.is_some() != key.is_some() {
        return Err(ConfigError(format!(
            "{variable}: sslcert and sslkey (PGSSLCERT, PGSSLKEY) go together"
        )));
    }
    let given = url.is_some_and(has_mode) || std::env::var_os("PGSSLMODE").is_some();
    let mode = match options.get_ssl_mode() {
        mode if given => mode,
        mode if is_local(&options) => mode,
        _ if authority.is_some() => PgSslMode::VerifyFull,
        _ => PgSslMode::Require,
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
            "{variable}: sslmode (PGSSLMODE) is {refused}: use verify-full"
        ))),
    }
}

/// What a URL or the environment has of each of [`FILES`]; none for PEM in the place of a file's name.
fn files(options: &PgConnectOptions) -> [Option<String>; 3] {
    let url = options.to_url_lossy();
    FILES.map(|(name, _)| {
        let (_, value) = url.query_pairs().find(|(key, _)| key == name)?;
        value.strip_prefix("file: ").map(str::to_owned)
    })
}

fn read(file: &str) -> Result<(), String> {
    let pem = std::fs::read(Path::new(file)).map_err(|error| error.to_string())?;
    let is_pem = pem.windows(11).any(|some| some == b"-----BEGIN ");
    is_pem
        .then_some(())
        .ok_or_else(|| "it holds no PEM".to_owned())
}

fn has_mode(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let keys = query.split('&').filter_map(|pair| pair.split('=').next());
    keys.into_iter()
        .any(|key| key == "sslmode" || key == "ssl-mode")
}

/// Whether the server is on this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || well_known::is_local(options.get_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<String, String> {
        let encrypted = encrypted("X", Some(url), url.parse().unwrap());
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
}
