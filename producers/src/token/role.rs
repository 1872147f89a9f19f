//! The product's roles.

use std::str::FromStr;

/// A role of a user or a service account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Operates storage elements.
    Operator,
    /// Files.
    User,
    /// Reads and exports evidence.
    Auditor,
    /// Reads.
    Readonly,
}

/// A text that is no role: it gives no rights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no role")]
pub struct UnknownRole;

impl Role {
    const ALL: [Self; 5] = [
        Self::Admin,
        Self::Operator,
        Self::User,
        Self::Auditor,
        Self::Readonly,
    ];

    /// As it stands in a token and in an event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::User => "user",
            Self::Auditor => "auditor",
            Self::Readonly => "readonly",
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    /// Exactly, but for the case of ASCII letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter();
        let mut fitting = known.filter(|role| role.as_str().eq_ignore_ascii_case(text));
        fitting.next().ok_or(UnknownRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_exact_but_for_its_case() {
        for (text, role) in [
            ("admin", Role::Admin),
            ("ADMIN", Role::Admin),
            ("Auditor", Role::Auditor),
        ] {
            assert_eq!(text.parse(), Ok(role));
        }
        for text in [
            "",
            " admin",
            "admin ",
            "administrator",
            "admin\0",
            "adm\u{131}n",
            "root",
        ] {
            assert_eq!(text.parse::<Role>(), Err(UnknownRole), "{text:?}");
        }
    }
}
