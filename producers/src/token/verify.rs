//! Verifying a token. RS256 alone: the algorithm belongs to the keys, and a header that asks for another
//! one is refused.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use artstore_schemas::actor::Actor;
use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

use super::claims::Claims;
use super::header;
use super::keys::Keys;
use super::refusal::{KeysError, TokenRefused};
use super::role::Role;

/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 30;

/// What tokens have to be.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// `AUTH_PUBLIC_KEY_PATH`.
    pub public_keys: PathBuf,
    /// Where it is given, a token has to name this issuer.
    pub issuer: Option<String>,
    /// Where it is given, a token has to name this audience; otherwise it may name none.
    pub audience: Option<String>,
    /// The values of `type` that are accepted.
    pub types: Vec<String>,
}

/// A token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its owner, for events.
    pub actor: Actor,
    /// What its owner may do.
    pub role: Role,
    /// Until when it is valid.
    pub expires: DateTime<Utc>,
}

/// Verifies tokens, by the keys that there are at each moment.
#[derive(Debug)]
pub struct TokenVerifier {
    keys: Keys,
    validation: Validation,
    types: Vec<String>,
}

impl TokenVerifier {
    /// With these settings. An error reports that there are no keys.
    pub fn new(settings: TokenSettings) -> Result<Self, KeysError> {
        let verifier = Self {
            validation: validation(&settings),
            keys: Keys::at(settings.public_keys),
            types: settings.types,
        };
        verifier.keys.now()?;
        Ok(verifier)
    }

    /// The names of the keys that there are now.
    pub fn key_ids(&self) -> Result<Vec<String>, KeysError> {
        Ok(self.keys.now()?.keys().cloned().collect())
    }

    /// Verifies a token, or reports why it is worth nothing. It reads the key files.
    pub fn verify(&self, token: &str) -> Result<Verified, TokenRefused> {
        let wanted = header::key_id(token)?;
        let keys = self.keys.now()?;
        let known = keys.len();
        let tried: Vec<(&String, &DecodingKey)> = match &wanted {
            Some(wanted) => keys.get_key_value(wanted).into_iter().collect(),
            // The product's tokens name none.
            None => keys.iter().collect(),
        };
        if tried.is_empty() {
            return Err(TokenRefused::UnknownKey { known });
        }
        let known = tried.len();
        for (name, key) in tried {
            match decode::<Claims>(token, key, &self.validation) {
                Ok(decoded) => return self.verified(decoded.claims, name.clone()),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => return Err(refused(error.into_kind())),
            }
        }
        Err(TokenRefused::Signature { known })
    }

    fn verified(&self, claims: Claims, key_id: String) -> Result<Verified, TokenRefused> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |now| now.as_secs_f64());
        claims.check_issued(now, LEEWAY as f64)?;
        claims.check_type(&self.types)?;
        let role = claims.role()?;
        let expires = claims
            .exp
            .and_then(|exp| DateTime::from_timestamp(exp as i64, 0));
        Ok(Verified {
            actor: claims.actor(role, key_id)?,
            role,
            expires: expires.unwrap_or(DateTime::<Utc>::MAX_UTC),
        })
    }
}

/// That an issuer or an audience is set does not make the library require it: it compares those that are
/// there.
fn validation(settings: &TokenSettings) -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    let mut required = vec!["exp", "nbf", "sub"];
    if let Some(issuer) = &settings.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if let Some(audience) = &settings.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// In our own words: the library's may hold a text of the token. Its list of errors is open, so there is
/// a rest, and the rest is refused.
fn refused(kind: ErrorKind) -> TokenRefused {
    match kind {
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            TokenRefused::Missing(claim)
        }
        ErrorKind::ExpiredSignature => TokenRefused::Expired,
        ErrorKind::ImmatureSignature => TokenRefused::NotYetValid,
        ErrorKind::InvalidIssuer => TokenRefused::Issuer,
        ErrorKind::InvalidAudience => TokenRefused::Audience,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenRefused::Algorithm,
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => TokenRefused::Claims,
        _ => TokenRefused::Malformed,
    }
}
