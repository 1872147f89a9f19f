//! Why a token is refused. No text of the token is in a reason: reasons are logged and recorded.

use std::path::PathBuf;

/// Why a token is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// Larger than any of the product's.
    #[error("the token has {bytes} bytes, at most {most} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// It has not the form of a token.
    #[error("it is no token: three parts of base64url, divided by dots, were expected")]
    Malformed,
    /// Another algorithm than that of the keys, or none.
    #[error("its header asks for another algorithm than RS256")]
    Algorithm,
    /// Its header names a key, or where to get one.
    #[error("its header brings a key of its own ({0}): keys come from AUTH_PUBLIC_KEY_PATH alone")]
    OwnKey(&'static str),
    /// Its header has extensions that must be understood.
    #[error("its header has extensions (crit) that this program does not know")]
    Critical,
    /// No key has the name that the header gives.
    #[error("its header names a key (kid) that is not among the {known} known ones")]
    UnknownKey {
        /// How many there are.
        known: usize,
    },
    /// It was signed by another key, or changed.
    #[error("its signature is not that of {}", signer(*.known))]
    Signature {
        /// How many keys were tried.
        known: usize,
    },
    /// A claim that has to be there is not.
    #[error("it has no claim {0}, or not in its form")]
    Missing(String),
    /// A claim has another form.
    #[error("its claim {claim} is not {expected}")]
    Claim {
        /// Which.
        claim: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// Its claims can't be read.
    #[error("its claims have not the form of the product's")]
    Claims,
    /// After `exp`.
    #[error("it has expired (exp)")]
    Expired,
    /// Before `nbf`.
    #[error("it is not valid yet (nbf)")]
    NotYetValid,
    /// `iat` is in the future.
    #[error("it was issued in the future (iat): are the clocks set right?")]
    IssuedInTheFuture,
    /// Not by the configured issuer.
    #[error("its issuer (iss) is not AUTH_ISSUER")]
    Issuer,
    /// For somebody else.
    #[error("it is for another audience (aud) than AUTH_AUDIENCE")]
    Audience,
    /// A refresh token, for example.
    #[error("its type is not one that is accepted here: {accepted}")]
    Type {
        /// Those of the settings.
        accepted: String,
    },
    /// A role that gives no rights.
    #[error("its role is not known, so it gives no rights")]
    Role,
    /// There are no keys to verify it with.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

fn signer(known: usize) -> &'static str {
    match known {
        1 => "the key that it should be signed with",
        _ => "any key that it may be signed with",
    }
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("AUTH_PUBLIC_KEY_PATH: {}: {reason}", .path.display())]
pub struct KeysError {
    /// What the setting says.
    pub path: PathBuf,
    /// What is wrong there.
    pub reason: String,
}
