//! Revocation: what an operator or an identity provider says about tokens after they were issued.
//!
//! An entry takes one token away by `(iss, jti)`, or, with an epoch, all tokens of a subject, a session, a client, a
//! tenant, an issuer or a key that were issued up to a moment. An entry is never keyed on token text: the same claims can
//! be signed, and the same signature written, in more than one way.
//!
//! Epochs only grow, and entries that say the same twice say it once; so the order in which they arrive does not matter.
//! Nothing here does I/O or reads a clock: [`crate::revocation`] keeps entries, this module judges with them.

mod parse;
mod set;

use std::fmt;

pub use self::{
    parse::{MOST_ENTRIES, RevocationFault, parse_revocation_file, parse_revocations},
    set::{Mark, RevocationDigest, RevocationKey, RevocationSet, find_revocation},
};
use super::{claims::VerifiedClaims, time::UnixTime};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens.
    pub target: Target,
    /// Tokens issued at or before this are refused, and those that do not say when they were issued; Unix seconds.
    /// `None`: all of them, whenever issued. Means nothing for [`Target::Token`].
    pub valid_after: Option<i64>,
    /// From here on the entry means nothing; Unix seconds. `None`: for as long as a token that it hits can be valid.
    pub expires_at: Option<i64>,
}

/// Whose tokens an entry takes away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// One token.
    Token {
        /// `iss`.
        issuer: String,
        /// `jti`.
        id: String,
    },
    /// A subject's.
    Subject {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
    },
    /// A session's.
    Session {
        /// `iss`.
        issuer: String,
        /// `sid`.
        session: String,
    },
    /// Those that were issued to a client.
    Client {
        /// `iss`.
        issuer: String,
        /// `client_id`, or `azp`.
        client: String,
    },
    /// A tenant's, whichever issuer they are from.
    Tenant {
        /// The value of the configured tenant claim.
        tenant: String,
    },
    /// All of an issuer.
    Issuer {
        /// `iss`.
        issuer: String,
    },
    /// Those that a key signed. Whoever has stolen a key also chooses `iat`: without an epoch all of them are refused.
    Key {
        /// `iss`.
        issuer: String,
        /// `kid`.
        key_id: String,
    },
}

/// What kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevocationKind {
    /// `(iss, jti)`.
    Token,
    /// `(iss, sub)`.
    Subject,
    /// `(iss, sid)`.
    Session,
    /// `(iss, client_id)` or `(iss, azp)`.
    Client,
    /// The tenant claim's value.
    Tenant,
    /// `iss`.
    Issuer,
    /// `(iss, kid)`.
    Key,
}

/// Which entry hit a token, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// The kind of entry.
    pub kind: RevocationKind,
    /// Its epoch; `None`: it refuses tokens whenever issued.
    pub valid_after: Option<i64>,
    /// The token's `iat`.
    pub issued_at: Option<i64>,
}

/// Whoever knows entries.
pub trait Revocations: fmt::Debug + Send + Sync {
    /// The entry that takes this token away, if there is one.
    fn find(&self, claims: &VerifiedClaims, now: UnixTime) -> Option<Revoked>;
}

// === impl Target ===

impl Target {
    /// What kind.
    #[must_use]
    pub fn kind(&self) -> RevocationKind {
        self.parts().0
    }

    /// The issuer, for targets that have one.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::Tenant { .. } => None,
            other => Some(other.parts().1),
        }
    }

    /// Kind, issuer (empty for a tenant) and value (empty for an issuer).
    #[must_use]
    pub fn parts(&self) -> (RevocationKind, &str, &str) {
        match self {
            Self::Token { issuer, id } => (RevocationKind::Token, issuer, id),
            Self::Subject { issuer, subject } => (RevocationKind::Subject, issuer, subject),
            Self::Session { issuer, session } => (RevocationKind::Session, issuer, session),
            Self::Client { issuer, client } => (RevocationKind::Client, issuer, client),
            Self::Tenant { tenant } => (RevocationKind::Tenant, "", tenant),
            Self::Issuer { issuer } => (RevocationKind::Issuer, issuer, ""),
            Self::Key { issuer, key_id } => (RevocationKind::Key, issuer, key_id),
        }
    }

    /// The inverse of [`Target::parts`].
    #[must_use]
    pub fn from_parts(kind: RevocationKind, issuer: String, value: String) -> Self {
        match kind {
            RevocationKind::Token => Self::Token { issuer, id: value },
            RevocationKind::Subject => Self::Subject { issuer, subject: value },
            RevocationKind::Session => Self::Session { issuer, session: value },
            RevocationKind::Client => Self::Client { issuer, client: value },
            RevocationKind::Tenant => Self::Tenant { tenant: value },
            RevocationKind::Issuer => Self::Issuer { issuer },
            RevocationKind::Key => Self::Key { issuer, key_id: value },
        }
    }
}

// === impl RevocationKind ===

impl RevocationKind {
    /// All kinds, in the order in which they are asked.
    pub const ALL: [Self; 7] =
        [Self::Token, Self::Subject, Self::Session, Self::Client, Self::Tenant, Self::Issuer, Self::Key];

    /// Its place in [`RevocationKind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word for it in entries, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Subject => "subject",
            Self::Session => "session",
            Self::Client => "client",
            Self::Tenant => "tenant",
            Self::Issuer => "issuer",
            Self::Key => "key",
        }
    }

    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Token => "revoked_token",
            Self::Subject => "revoked_subject",
            Self::Session => "revoked_session",
            Self::Client => "revoked_client",
            Self::Tenant => "revoked_tenant",
            Self::Issuer => "revoked_issuer",
            Self::Key => "revoked_key",
        }
    }
}

// === impl Revoked ===

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.valid_after) {
            (RevocationKind::Token, _) => f.write_str("the token was revoked by its `jti`"),
            (kind, None) => write!(f, "all tokens of the token's {} were revoked", kind.as_str()),
            (kind, Some(valid_after)) => {
                let kind = kind.as_str();
                write!(f, "tokens of this {kind} that were issued up to {valid_after} are revoked, and `iat` is ")?;
                match self.issued_at {
                    Some(issued_at) => issued_at.fmt(f),
                    None => f.write_str("absent"),
                }
            }
        }
    }
}
