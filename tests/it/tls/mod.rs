//! Encrypted connections to NATS and PostgreSQL: what must be accepted, what must be refused, and that nothing falls
//! back to plain text.

mod nats;
mod postgres;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::Program;

/// An authority of certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, in PEM.
struct Certificate {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Two of one name would be taken for one with a wrong signature.
        let name = uuid::Uuid::new_v4().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn issue(&self, name: &str) -> Certificate {
        self.issue_until(name, 4_000)
    }

    /// Valid until that year.
    fn issue_until(&self, name: &str, year: i32) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let issued = params.signed_by(&key, &self.issuer).unwrap();
        Certificate {
            certificate: issued.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A file of a folder with this content; its path.
fn file(folder: &std::path::Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// It ends by itself, and does not wait for a server: exit code 1 and this in its error.
async fn refused(program: Program, says: &[&str]) {
    let (status, log) = program.finish().await;
    assert_eq!(status.code(), Some(1), "{log}");
    for text in says {
        assert!(log.contains(text), "{text:?} is not in: {log}");
    }
}
