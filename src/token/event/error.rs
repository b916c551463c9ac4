//! Why a statement of an issuer was refused: one closed enum with stable codes. Messages are for the operator's log; what
//! the sender learns is one of the few words of RFC 8935.

use super::super::{
    error::{TokenError, Untrusted},
    keys::WantedKey,
};

/// Why a logout token or a security event token was refused: the first check that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A check that access tokens have too: format, header, dates, audience, key, signature.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Nobody configured that this issuer may say so.
    #[error("{issuer} is not configured to send {what}")]
    SenderUnknown {
        /// What the token says.
        issuer: Untrusted,
        /// `logout tokens` or `security event tokens`.
        what: &'static str,
    },
    /// No `exp` where one is needed.
    #[error("`exp` is missing, and without it a logout token could be sent again for ever")]
    ExpiryMissing,
    /// Lives longer than access tokens of that issuer may.
    #[error("the logout token lives for {seconds} s; the limit of its issuer (`max_lifetime`) is {limit} s")]
    LifetimeTooLong {
        /// `exp - iat`.
        seconds: i64,
        /// The profile's limit.
        limit: i64,
    },
    /// No usable `jti`.
    #[error("`jti` is missing, or not a string of 1 to 1024 bytes")]
    IdMalformed,
    /// A claim that such a token must not have.
    #[error("it has `{claim}`, which {what} must not have")]
    ForbiddenClaim {
        /// The claim.
        claim: &'static str,
        /// `a logout token` or `a security event token`.
        what: &'static str,
    },
    /// `events` is no object of one event.
    #[error("`events` is not an object with one event whose value is an object")]
    EventsMalformed,
    /// A logout token about something else.
    #[error("`events` does not name the logout event of OpenID Connect")]
    NotALogout,
    /// Nobody is named.
    #[error("neither `sub` nor `sid` is there, so nobody is named")]
    NobodyNamed,
    /// An identifier of a wrong type.
    #[error("`{claim}` is not a string of 1 to 1024 bytes")]
    IdentifierMalformed {
        /// The claim.
        claim: &'static str,
    },
    /// `sub_id` does not have the form of RFC 9493.
    #[error("`sub_id` is missing, or not a subject identifier as RFC 9493 has them")]
    SubjectMalformed,
    /// The event is told for a time to come.
    #[error("the event is told for {at}, and now is {now}: it has not happened yet; compare the clocks")]
    HappensInFuture {
        /// `event_timestamp` or `toe`.
        at: i64,
        /// The time of the check.
        now: i64,
    },
}

/// How a refusal is answered, in the words of RFC 8935 §2.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFault {
    /// `invalid_request`.
    Request,
    /// `invalid_key`.
    Key,
    /// `invalid_issuer`.
    Issuer,
    /// `invalid_audience`.
    Audience,
    /// Ours: the keys were never had. The sender may try again.
    Unavailable,
}

// === impl EventError ===

impl EventError {
    /// Stable `snake_case` code for logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::SenderUnknown { .. } => "sender_unknown",
            Self::ExpiryMissing => "expiry_missing",
            Self::LifetimeTooLong { .. } => "lifetime_too_long",
            Self::IdMalformed => "id_malformed",
            Self::ForbiddenClaim { .. } => "forbidden_claim",
            Self::EventsMalformed => "events_malformed",
            Self::NotALogout => "not_a_logout",
            Self::NobodyNamed => "nobody_named",
            Self::IdentifierMalformed { .. } => "identifier_malformed",
            Self::SubjectMalformed => "subject_id_malformed",
            Self::HappensInFuture { .. } => "happens_in_future",
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> EventFault {
        match self {
            Self::Token(error) => match error {
                TokenError::KeysNeverHad { .. } => EventFault::Unavailable,
                TokenError::UnknownKey { .. }
                | TokenError::KeyForOtherAlgorithm { .. }
                | TokenError::AmbiguousKey { .. }
                | TokenError::AlgorithmNotAllowed { .. }
                | TokenError::BadSignature { .. } => EventFault::Key,
                TokenError::IssuerMalformed | TokenError::IssuerUnknown { .. } => EventFault::Issuer,
                TokenError::AudienceMissing { .. }
                | TokenError::AudienceMalformed
                | TokenError::AudienceMismatch { .. } => EventFault::Audience,
                _ => EventFault::Request,
            },
            Self::SenderUnknown { .. } => EventFault::Issuer,
            _ => EventFault::Request,
        }
    }

    /// The configured issuer, when fresh keys of it might change the answer.
    #[must_use]
    pub fn wants_keys_of(&self) -> Option<&str> {
        match self {
            Self::Token(error) => error.wants_keys_of(),
            _ => None,
        }
    }

    /// The key that was not there, when one was named.
    #[must_use]
    pub fn wanted_key(&self) -> Option<WantedKey> {
        match self {
            Self::Token(error) => error.wanted_key(),
            _ => None,
        }
    }
}
