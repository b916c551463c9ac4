//! What each refusal of a token is to the rest of the house: its stable code, the step that it ends, whose fault it is, and
//! whether fresh keys might change it.

use super::{
    super::{json::JsonFault, keys::WantedKey, status_list::StatusError},
    Fault, TokenError,
};

impl TokenError {
    /// Stable `snake_case` code for logs and metrics: `expired`, `bad_signature`, …
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "token_too_large",
            Self::ForbiddenCharacter { .. } => "forbidden_character",
            Self::Encrypted => "encrypted_token",
            Self::SegmentCount { .. } => "wrong_segment_count",
            Self::EmptySegment { .. } => "empty_segment",
            Self::Base64 { .. } => "bad_base64url",
            Self::Header(fault) => match fault {
                JsonFault::Invalid => "header_invalid_json",
                JsonFault::NotAnObject => "header_not_an_object",
                JsonFault::DuplicateMember => "header_duplicate_member",
                JsonFault::TooDeep(_) => "header_too_deep",
                JsonFault::TooManyMembers(_) => "header_too_many_members",
                JsonFault::BadNumber => "header_bad_number",
            },
            Self::AlgorithmMalformed => "algorithm_malformed",
            Self::AlgorithmNone => "algorithm_none",
            Self::AlgorithmUnsupported { .. } => "algorithm_unsupported",
            Self::CriticalExtension => "critical_extension",
            Self::ForbiddenHeader { .. } => "forbidden_header",
            Self::NestedToken => "nested_token",
            Self::KeyIdMalformed => "key_id_malformed",
            Self::TypeMalformed => "type_malformed",
            Self::OtherTokenKind { .. } => "other_token_kind",
            Self::Payload(fault) => match fault {
                JsonFault::Invalid => "claims_invalid_json",
                JsonFault::NotAnObject => "claims_not_an_object",
                JsonFault::DuplicateMember => "claims_duplicate_member",
                JsonFault::TooDeep(_) => "claims_too_deep",
                JsonFault::TooManyMembers(_) => "claims_too_many_members",
                JsonFault::BadNumber => "claims_bad_number",
            },
            Self::IssuerMalformed => "issuer_malformed",
            Self::IssuerUnknown { .. } => "issuer_unknown",
            Self::TypeNotAllowed { .. } => "type_not_allowed",
            Self::AlgorithmNotAllowed { .. } => "algorithm_not_allowed",
            Self::TooManyClaims { .. } => "too_many_claims",
            Self::ArrayTooLong { .. } => "array_too_long",
            Self::ExpiryMissing => "expiry_missing",
            Self::DateMalformed { .. } => "date_malformed",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::IssuedInFuture { .. } => "issued_in_future",
            Self::IssuedAfterExpiry { .. } => "issued_after_expiry",
            Self::LifetimeTooLong { .. } => "lifetime_too_long",
            Self::IssuedAtMissing => "issued_at_missing",
            Self::TooOld { .. } => "token_too_old",
            Self::KeysNeverHad { .. } => "keys_never_had",
            Self::UnknownKey { .. } => "unknown_key",
            Self::KeyForOtherAlgorithm { .. } => "key_for_other_algorithm",
            Self::AmbiguousKey { .. } => "ambiguous_key",
            Self::BadSignature { .. } => "bad_signature",
            Self::AudienceMissing { .. } => "audience_missing",
            Self::AudienceMalformed => "audience_malformed",
            Self::AudienceMismatch { .. } => "audience_mismatch",
            Self::SubjectMalformed => "subject_malformed",
            Self::ClaimMalformed { .. } => "claim_malformed",
            Self::TenantMalformed { .. } => "tenant_malformed",
            Self::ScopeMalformed { .. } => "scope_malformed",
            Self::RequiredClaimMissing { .. } => "required_claim_missing",
            Self::NotAnAccessToken { .. } => "not_an_access_token",
            Self::ConfirmationMalformed => "confirmation_malformed",
            Self::ConfirmationUnknown { .. } => "confirmation_unknown",
            Self::Status(error) => error.code(),
            Self::Introspection(error) => error.code(),
        }
    }

    /// The pipeline step that failed: `format`, `header`, `payload`, `issuer`, `profile`, `time`, `key`, `signature`,
    /// `claims` or, where the issuer is asked, `introspection`.
    #[must_use]
    pub const fn step(&self) -> &'static str {
        match self {
            Self::TooLarge { .. }
            | Self::ForbiddenCharacter { .. }
            | Self::Encrypted
            | Self::SegmentCount { .. }
            | Self::EmptySegment { .. }
            | Self::Base64 { .. } => "format",
            Self::Header(_)
            | Self::AlgorithmMalformed
            | Self::AlgorithmNone
            | Self::AlgorithmUnsupported { .. }
            | Self::CriticalExtension
            | Self::ForbiddenHeader { .. }
            | Self::NestedToken
            | Self::KeyIdMalformed
            | Self::TypeMalformed
            | Self::OtherTokenKind { .. } => "header",
            Self::Payload(_) => "payload",
            Self::IssuerMalformed | Self::IssuerUnknown { .. } => "issuer",
            Self::TypeNotAllowed { .. }
            | Self::AlgorithmNotAllowed { .. }
            | Self::TooManyClaims { .. }
            | Self::ArrayTooLong { .. } => "profile",
            Self::ExpiryMissing
            | Self::DateMalformed { .. }
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::IssuedInFuture { .. }
            | Self::IssuedAfterExpiry { .. }
            | Self::LifetimeTooLong { .. }
            | Self::IssuedAtMissing
            | Self::TooOld { .. } => "time",
            Self::KeysNeverHad { .. }
            | Self::UnknownKey { .. }
            | Self::KeyForOtherAlgorithm { .. }
            | Self::AmbiguousKey { .. } => "key",
            Self::BadSignature { .. } => "signature",
            Self::AudienceMissing { .. }
            | Self::AudienceMalformed
            | Self::AudienceMismatch { .. }
            | Self::SubjectMalformed
            | Self::ClaimMalformed { .. }
            | Self::TenantMalformed { .. }
            | Self::ScopeMalformed { .. }
            | Self::RequiredClaimMissing { .. }
            | Self::NotAnAccessToken { .. }
            | Self::ConfirmationMalformed
            | Self::ConfirmationUnknown { .. } => "claims",
            Self::Status(error) => error.step(),
            Self::Introspection(_) => "introspection",
        }
    }

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
