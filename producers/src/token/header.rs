//! The header of a token. It is read before anything is verified, so that each thing in it that somebody
//! could choose is refused with its reason: the key's name is all that counts.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;

use super::refusal::TokenRefused;

/// The longest token: the product's have less than 1 KiB.
pub(super) const MAX_BYTES: usize = 8 * 1024;

/// Where a header can bring a key, or name one that is fetched.
const OWN_KEYS: [&str; 4] = ["jku", "jwk", "x5u", "x5c"];

#[derive(Deserialize)]
struct Header {
    alg: Value,
    #[serde(default)]
    kid: Option<Value>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

/// The name of the key, where the header gives one.
pub fn key_id(token: &str) -> Result<Option<String>, TokenRefused> {
    let bytes = token.len();
    if bytes > MAX_BYTES {
        let most = MAX_BYTES;
        return Err(TokenRefused::TooLarge { bytes, most });
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, _, _] = parts.as_slice() else {
        return Err(TokenRefused::Malformed);
    };
    let header = BASE64URL_NOPAD.decode(header.as_bytes());
    let header = header.map_err(|_| TokenRefused::Malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenRefused::Malformed)?;
    if header.alg.as_str() != Some("RS256") {
        return Err(TokenRefused::Algorithm);
    }
    if let Some(own) = OWN_KEYS
        .into_iter()
        .find(|name| header.others.contains_key(*name))
    {
        return Err(TokenRefused::OwnKey(own));
    }
    if header.others.contains_key("crit") {
        return Err(TokenRefused::Critical);
    }
    match header.kid {
        None => Ok(None),
        Some(Value::String(kid)) => Ok(Some(kid)),
        Some(_) => Err(TokenRefused::Malformed),
    }
}
