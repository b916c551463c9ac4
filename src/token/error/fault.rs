//! Whose fault a refusal is, and what might mend it: fresh keys of an issuer.

use super::TokenError;
use crate::token::{keys::WantedKey, status_list::StatusError};

/// How a refusal is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The token: 401 `invalid_token`.
    Token,
    /// The issuer's keys were never had: 503.
    Keys,
    /// The issuer could not be asked about the token, or its answer is of no use: 503.
    Issuer,
}

// === impl TokenError ===

impl TokenError {
    /// Whose fault it is, and so how it is answered.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::KeysNeverHad { .. } => Fault::Keys,
            Self::Introspection(error) => error.fault(),
            Self::Status(StatusError::Unavailable { .. }) => Fault::Issuer,
            _ => Fault::Token,
        }
    }

    /// The configured issuer, when fresh keys of it might change the answer (unknown `kid`, or keys never had).
    #[must_use]
    pub fn wants_keys_of(&self) -> Option<&str> {
        match self {
            Self::KeysNeverHad { issuer } => Some(issuer),
            Self::UnknownKey { issuer, .. } => issuer.as_deref(),
            Self::Introspection(error) => error.wants_keys_of(),
            _ => None,
        }
    }

    /// The key that was not there, when the token names one.
    #[must_use]
    pub fn wanted_key(&self) -> Option<WantedKey> {
        match self {
            Self::UnknownKey { wanted, .. } => *wanted,
            Self::Introspection(error) => error.wanted_key(),
            _ => None,
        }
    }
}
