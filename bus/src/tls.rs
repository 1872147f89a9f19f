//! The encryption of connections to NATS: which authority is trusted, and what the client shows of itself.

use std::io;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;

use crate::bus_error::BusError;

/// Files in PEM. Where one is given, a server without TLS is refused; `tls://` in a server's URL demands TLS as well.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The authorities whose certificates are accepted, in the place of those that this machine trusts.
    pub authority: Option<PathBuf>,
    /// The client's certificate, with those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// The key of the client's certificate.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// The client reads them at each connection: renewed ones count from the next one on. They are looked at here, so
    /// that a wrong setting is named.
    pub(crate) fn set(&self, mut connect: ConnectOptions) -> Result<ConnectOptions, BusError> {
        if let Some(authority) = &self.authority {
            readable("NATS_CA", authority)?;
            connect = connect.add_root_certificates(authority.clone());
        }
        match (&self.certificate, &self.key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                readable("NATS_CERT", certificate)?;
                readable("NATS_KEY", key)?;
                connect = connect.add_client_certificate(certificate.clone(), key.clone());
            }
            (Some(certificate), None) => return Err(missing("NATS_KEY", certificate)),
            (None, Some(key)) => return Err(missing("NATS_CERT", key)),
        }
        let any = self.authority.is_some() || self.certificate.is_some();
        Ok(if any {
            connect.require_tls(true)
        } else {
            connect
        })
    }
}

fn readable(variable: &'static str, path: &Path) -> Result<(), BusError> {
    let read = std::fs::read(path).and_then(|pem| {
        let is_pem = pem.windows(11).any(|some| some == b"-----BEGIN ");
        let no_pem = || io::Error::new(io::ErrorKind::InvalidData, "it holds no PEM");
        is_pem.then_some(()).ok_or_else(no_pem)
    });
    read.map_err(|cause| BusError::TlsFile {
        variable,
        path: path.display().to_string(),
        cause,
    })
}

fn missing(variable: &'static str, beside: &Path) -> BusError {
    BusError::TlsFile {
        variable,
        path: format!("what belongs to {}", beside.display()),
        cause: io::Error::new(io::ErrorKind::NotFound, "certificate and key go together"),
    }
}
