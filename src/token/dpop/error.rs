//! Why a DPoP proof was refused: one closed enum with stable codes, one for each check of RFC 9449 §4.3 at least. No
//! proof bytes are in a message; what a proof claims appears only escaped and cut short.

use crate::token::{
    algorithm::Algorithm,
    error::{TokenError, Untrusted},
    json::JsonFault,
};

/// The first check that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// No `DPoP` header.
    #[error("the scheme is DPoP, but there is no `DPoP` header with a proof")]
    Missing,
    /// More than one `DPoP` header.
    #[error("there is more than one `DPoP` header")]
    Several,
    /// Nobody who is trusted said what the client asked for.
    #[error(
        "what the client asked for is not known, so no DPoP proof can be checked: let a trusted peer say it in \
         `X-Forwarded-*`, or set `token.dpop.external_url`"
    )]
    TargetUnknown,
    /// Not a compact JWS with a header that could be a proof's.
    #[error("the DPoP proof is malformed: read as a token, {0}")]
    Malformed(TokenError),
    /// `typ`.
    #[error("the DPoP proof's `typ` is {}; it must be `dpop+jwt`", shown(found.as_ref()))]
    Type {
        /// What it says.
        found: Option<Untrusted>,
    },
    /// `alg` is none, missing or unknown.
    #[error("the DPoP proof's algorithm: read as a token, {0}")]
    Algorithm(TokenError),
    /// `alg` is a shared secret's, or not in the list.
    #[error("the DPoP proof's `alg` is {found}, which `token.dpop.algorithms` does not list")]
    AlgorithmNotAllowed {
        /// What it says.
        found: Algorithm,
    },
    /// No `jwk`.
    #[error("the DPoP proof's header has no `jwk`")]
    KeyMissing,
    /// A private key, a weak key, no key.
    #[error("the DPoP proof's `jwk` is refused: {reason}")]
    Key {
        /// As for the keys of a key set.
        reason: &'static str,
    },
    /// The claims are not one strict JSON object.
    #[error("the DPoP proof's payload {0}")]
    Claims(JsonFault),
    /// `jti`, `htm`, `htu`, `iat` or `ath`.
    #[error("`{claim}` is missing in the DPoP proof")]
    ClaimMissing {
        /// The claim.
        claim: &'static str,
    },
    /// A claim of a wrong type, or one that says nothing.
    #[error("`{claim}` in the DPoP proof is malformed")]
    ClaimMalformed {
        /// The claim.
        claim: &'static str,
    },
    /// `htm`.
    #[error("the DPoP proof is for the method {found}, and the request has {expected}")]
    OtherMethod {
        /// `htm`.
        found: Untrusted,
        /// The request's.
        expected: Untrusted,
    },
    /// `htu`.
    #[error("the DPoP proof is for {found}, and the request is for {expected}")]
    OtherUri {
        /// `htu`, normalised.
        found: Untrusted,
        /// The request's.
        expected: Untrusted,
    },
    /// A nonce is needed.
    #[error("the DPoP proof has no `nonce`; the client gets one")]
    NonceMissing,
    /// A nonce of another server, of another run, or of long ago.
    #[error("the DPoP proof's `nonce` is not one of the newest; the client gets a new one")]
    NonceUnknown,
    /// `iat` is too long ago.
    #[error("the DPoP proof is too old: `iat` is {issued_at}, now is {now}, `token.dpop.window` is {window} s")]
    TooOld {
        /// `iat`.
        issued_at: i64,
        /// The time of the check.
        now: i64,
        /// Seconds.
        window: i64,
    },
    /// `iat` or `nbf` is too far in the future.
    #[error("the DPoP proof begins in the future: at {issued_at}, now is {now}, `token.dpop.leeway` is {leeway} s")]
    FromFuture {
        /// The later of `iat` and `nbf`.
        issued_at: i64,
        /// The time of the check.
        now: i64,
        /// Seconds.
        leeway: i64,
    },
    /// It has an `exp`, and that is over.
    #[error("the DPoP proof expired: its `exp` is {expires_at}, now is {now}")]
    Expired {
        /// `exp`.
        expires_at: i64,
        /// The time of the check.
        now: i64,
    },
    /// `ath`.
    #[error("the DPoP proof's `ath` is not the hash of the token that came with it")]
    OtherToken,
    /// The thumbprint of `jwk` is not `cnf.jkt`.
    #[error("the DPoP proof's key is not the one that the token is bound to")]
    OtherKey,
    /// The signature.
    #[error("the DPoP proof's signature does not verify")]
    BadSignature,
    /// Seen before.
    #[error("the DPoP proof was used before")]
    Replayed,
    /// No room to remember it, so that a repetition would pass.
    #[error(
        "there is no room to remember the DPoP proof; raise `token.dpop.replay_entries`, or shorten `token.dpop.window`"
    )]
    NoRoom,
    /// One key sent more proofs than its share of the store.
    #[error("the key of the DPoP proof has used up its share of `token.dpop.replay_entries`")]
    ShareUsedUp,
}

fn shown(text: Option<&Untrusted>) -> String {
    text.map_or_else(|| "absent".to_owned(), ToString::to_string)
}

// === impl ProofError ===

impl ProofError {
    /// Stable code for logs, metrics and decision events.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "dpop_proof_missing",
            Self::Several => "dpop_proof_repeated",
            Self::TargetUnknown => "dpop_target_unknown",
            Self::Malformed(TokenError::TooLarge { .. }) => "dpop_proof_too_large",
            Self::Malformed(_) | Self::Claims(_) => "dpop_proof_malformed",
            Self::Type { .. } => "dpop_type_not_allowed",
            Self::Algorithm(_) | Self::AlgorithmNotAllowed { .. } => "dpop_algorithm_not_allowed",
            Self::KeyMissing => "dpop_key_missing",
            Self::Key { .. } => "dpop_key_refused",
            Self::ClaimMissing { .. } => "dpop_claim_missing",
            Self::ClaimMalformed { .. } => "dpop_claim_malformed",
            Self::OtherMethod { .. } => "dpop_method_mismatch",
            Self::OtherUri { .. } => "dpop_target_mismatch",
            Self::NonceMissing => "dpop_nonce_missing",
            Self::NonceUnknown => "dpop_nonce_unknown",
            Self::TooOld { .. } => "dpop_proof_too_old",
            Self::FromFuture { .. } => "dpop_proof_from_future",
            Self::Expired { .. } => "dpop_proof_expired",
            Self::OtherToken => "dpop_token_mismatch",
            Self::OtherKey => "dpop_key_mismatch",
            Self::BadSignature => "dpop_bad_signature",
            Self::Replayed => "dpop_proof_replayed",
            Self::NoRoom => "dpop_replay_store_full",
            Self::ShareUsedUp => "dpop_replay_share_used_up",
        }
    }

    /// RFC 9449 §8: should the client try again with a nonce of ours?
    #[must_use]
    pub const fn wants_nonce(&self) -> bool {
        matches!(self, Self::NonceMissing | Self::NonceUnknown)
    }

    /// Is it our fault: a good proof, and no room for it?
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::NoRoom | Self::ShareUsedUp)
    }
}
