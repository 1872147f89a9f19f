//! The public keys that tokens are verified with, at `AUTH_PUBLIC_KEY_PATH`: a PEM file, a folder of them,
//! where a file's name without `.pem` is the key's, or a JWK set. The files are read for each token, so a
//! key counts from the moment that its file is there, and not a token longer than its file is.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{PublicKey, PublicKeyComponents};
use aws_lc_rs::signature::RsaParameters;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use jsonwebtoken::DecodingKey;
use serde_json::Value;

use super::refusal::KeysError;

/// The weakest key in bits: also the weakest that the verification takes.
const LEAST_BITS: u32 = 2_048;

/// The largest file.
const MAX_BYTES: u64 = 1024 * 1024;

/// The keys, by their names.
pub type ByName = BTreeMap<String, DecodingKey>;

/// Files by their names, as they were read.
type Files = Vec<(String, Vec<u8>)>;

/// Where the keys are, and those that were read last.
#[derive(Debug)]
pub(super) struct Keys {
    path: PathBuf,
    read: Mutex<Option<(Files, Arc<ByName>)>>,
}

impl Keys {
    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            path,
            read: Mutex::new(None),
        }
    }

    /// Those that there are now.
    pub(super) fn now(&self) -> Result<Arc<ByName>, KeysError> {
        let error = |reason| KeysError {
            path: self.path.clone(),
            reason,
        };
        let is_folder = self.path.is_dir();
        let files = match is_folder {
            true => folder(&self.path),
            false => file(&self.path).map(|file| vec![(stem(&self.path), file)]),
        };
        let files = files.map_err(error)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, keys)) = read.as_ref()
            && *before == files
        {
            return Ok(keys.clone());
        }
        let keys = match is_folder {
            true => of_folder(&files),
            false => match files.first() {
                Some((name, bytes)) => of_file(name, bytes),
                None => Err("there is nothing".to_owned()),
            },
        };
        let keys = Arc::new(keys.map_err(error)?);
        *read = Some((files, keys.clone()));
        Ok(keys)
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // A pipe would never end.
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is neither a file nor a folder".to_owned());
    }
    let opened = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = opened.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(format!("it has more than {MAX_BYTES} bytes")),
        false => Ok(bytes),
    }
}

/// The PEM files of a folder. One that can't be read is no key; tokens that it signed are refused.
fn folder(path: &Path) -> Result<Files, String> {
    let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
    let mut files = Files::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.extension().is_none_or(|extension| extension != "pem") {
            continue;
        }
        match file(&path) {
            Ok(bytes) => files.push((stem(&path), bytes)),
            Err(reason) => tracing::warn!("key {} is not used: {reason}", path.display()),
        }
    }
    files.sort();
    Ok(files)
}

fn of_folder(files: &[(String, Vec<u8>)]) -> Result<ByName, String> {
    let mut keys = ByName::new();
    for (name, bytes) in files {
        match pem(bytes) {
            Ok(key) => drop(keys.insert(name.clone(), key)),
            Err(reason) => tracing::warn!("key {name}.pem is not used: {reason}"),
        }
    }
    match keys.is_empty() {
        true => Err("the folder has no file *.pem with an RSA public key".to_owned()),
        false => Ok(keys),
    }
}

/// The keys in a file of this name: one in PEM, or those of a JWK set. The error shows nothing of the file.
pub fn of_file(name: &str, bytes: &[u8]) -> Result<ByName, String> {
    match bytes.trim_ascii_start().starts_with(b"{") {
        true => jwk_set(bytes),
        false => Ok(ByName::from([(name.to_owned(), pem(bytes)?)])),
    }
}

/// One public key in PEM, as `openssl` writes it.
fn pem(bytes: &[u8]) -> Result<DecodingKey, String> {
    const EXPECTED: &str = "it is no public key in PEM (BEGIN PUBLIC KEY)";
    let text = std::str::from_utf8(bytes).map_err(|_| EXPECTED.to_owned())?;
    if text.contains("PRIVATE KEY") {
        return Err("it holds a private key: only the public one belongs here".to_owned());
    }
    let mut lines = text.lines().map(str::trim);
    let begin = lines.find(|line| line.starts_with("-----BEGIN "));
    if !matches!(
        begin,
        Some("-----BEGIN PUBLIC KEY-----" | "-----BEGIN RSA PUBLIC KEY-----")
    ) {
        return Err(EXPECTED.to_owned());
    }
    let mut body = String::new();
    let is_whole = lines.by_ref().any(|line| {
        let is_end = line.starts_with("-----END ");
        if !is_end {
            body.push_str(line);
        }
        is_end
    });
    if !is_whole {
        return Err("its end is missing".to_owned());
    }
    if lines.any(|line| line.starts_with("-----BEGIN ")) {
        return Err("it holds more than one key: each needs a file of its own".to_owned());
    }
    let der = BASE64.decode(body.as_bytes());
    let der = der.map_err(|_| "its text is no base64".to_owned())?;
    rsa(&der)
}

/// The RSA keys of a set that may sign; others in it are for somebody else.
fn jwk_set(bytes: &[u8]) -> Result<ByName, String> {
    let set: Value = serde_json::from_slice(bytes).map_err(|_| "it is no JSON".to_owned())?;
    let all = set.get("keys").and_then(Value::as_array);
    let all = all.ok_or_else(|| "it is no JWK set: it has no list `keys`".to_owned())?;
    let mut keys = ByName::new();
    for (number, key) in all.iter().enumerate() {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let is_for_us = text("kty") == Some("RSA")
            && matches!(text("use"), None | Some("sig"))
            && matches!(text("alg"), None | Some("RS256"));
        if !is_for_us {
            continue;
        }
        let wrong = |reason: &str| format!("key {} of the set: {reason}", number + 1);
        if ["d", "p", "q"].iter().any(|part| key.get(part).is_some()) {
            return Err(wrong("it is a private key: only public ones belong here"));
        }
        let name = text("kid").ok_or_else(|| wrong("it has no kid"))?;
        let part = |name: &str| {
            let part = text(name).and_then(|part| BASE64URL_NOPAD.decode(part.as_bytes()).ok());
            part.ok_or_else(|| wrong("n and e have to be base64url"))
        };
        let (n, e) = (part("n")?, part("e")?);
        let key = from_components(&n, &e).map_err(|reason| wrong(&reason))?;
        if keys.insert(name.to_owned(), key).is_some() {
            return Err(wrong("its kid is there twice"));
        }
    }
    match keys.is_empty() {
        true => Err("the set has no RSA key for RS256".to_owned()),
        false => Ok(keys),
    }
}

fn from_components(n: &[u8], e: &[u8]) -> Result<DecodingKey, String> {
    let components = PublicKeyComponents { n, e };
    let der: Result<PublicKeyX509Der<'_>, _> = components.as_der();
    rsa(der.map_err(|_| "it is no RSA key".to_owned())?.as_ref())
}

fn rsa(der: &[u8]) -> Result<DecodingKey, String> {
    let key = PublicKey::from_der(der).map_err(|_| "it is no RSA public key".to_owned())?;
    let bits = RsaParameters::public_modulus_len(key.as_ref());
    let bits = bits.map_err(|_| "it is no RSA public key".to_owned())?;
    match bits >= LEAST_BITS {
        true => Ok(DecodingKey::from_rsa_der(key.as_ref())),
        false => Err(format!(
            "it has {bits} bits, at least {LEAST_BITS} are needed"
        )),
    }
}
