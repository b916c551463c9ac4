//! Why a token was refused: one closed enum with stable codes. Messages are for the operator; no token bytes are in
//! them, and what a token claims appears only escaped and cut short. What a client may learn is the doors' matter.

mod fault;

pub use self::fault::Fault;
pub(super) use super::untrusted::Untrusted;
use super::{
    algorithm::Algorithm, introspection::IntrospectionError, json::JsonFault, keys::WantedKey,
    status_list::StatusError, untrusted::OrAbsent,
};

/// Why a token was refused: the first check that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    // format
    /// More bytes than allowed.
    #[error("the token has {bytes} bytes; the limit is {limit}: put fewer claims into it")]
    TooLarge {
        /// Bytes received.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A byte that is neither base64url nor a dot.
    #[error(
        "the token has a forbidden character at byte {position}; a compact JWS has only A-Z a-z 0-9 `-` `_` and two dots"
    )]
    ForbiddenCharacter {
        /// Offset of the first such byte.
        position: usize,
    },
    /// Five segments: a JWE.
    #[error("the token has five segments: it is encrypted (JWE), and only signed tokens are accepted")]
    Encrypted,
    /// Neither three segments nor five.
    #[error("the token has {found} segment{}; a compact JWS has three", if *.found == 1 { "" } else { "s" })]
    SegmentCount {
        /// Segments found.
        found: usize,
    },
    /// Nothing between two dots.
    #[error("the token's {segment} is empty")]
    EmptySegment {
        /// `header`, `payload` or `signature`.
        segment: &'static str,
    },
    /// Not unpadded, canonical base64url.
    #[error("the token's {segment} is not unpadded base64url with zero unused bits")]
    Base64 {
        /// `header`, `payload` or `signature`.
        segment: &'static str,
    },

    // header
    /// The header is not one strict JSON object.
    #[error("the token's header {0}")]
    Header(JsonFault),
    /// `alg` is missing or not a string.
    #[error("`alg` in the token's header is missing or not a string")]
    AlgorithmMalformed,
    /// `none`, in whatever case.
    #[error("the token is not signed: its `alg` is `none`")]
    AlgorithmNone,
    /// `alg` names no algorithm that is known here.
    #[error("the token's `alg` is {name}, which is not supported")]
    AlgorithmUnsupported {
        /// What the token says.
        name: Untrusted,
    },
    /// `crit` is there, whatever it lists.
    #[error("the token's header has `crit`; no extension is supported")]
    CriticalExtension,
    /// A header member that changes what is signed or belongs to encryption.
    #[error("the token's header has `{member}`, which a signed access token must not have")]
    ForbiddenHeader {
        /// The member.
        member: &'static str,
    },
    /// `cty` says that the payload is another token.
    #[error("the token's `cty` says that it wraps another token; nested tokens are not accepted")]
    NestedToken,
    /// `kid` is not a string of 1 to 256 bytes.
    #[error("`kid` in the token's header is not a string of 1 to 256 bytes")]
    KeyIdMalformed,
    /// `typ` is not a string.
    #[error("`typ` in the token's header is not a string")]
    TypeMalformed,
    /// `typ` or `events` names another kind of JWT.
    #[error("the token is {kind}, not an access token")]
    OtherTokenKind {
        /// What it is.
        kind: &'static str,
    },

    // payload
    /// The claims are not one strict JSON object.
    #[error("the token's claims set {0}")]
    Payload(JsonFault),

    // issuer
    /// `iss` is missing or not a string.
    #[error("`iss` is missing or not a string")]
    IssuerMalformed,
    /// No profile has exactly this issuer.
    #[error("no issuer profile is for {issuer}; `iss` must equal a configured issuer byte for byte")]
    IssuerUnknown {
        /// What the token says.
        issuer: Untrusted,
    },

    // profile
    /// `typ` is not in the profile.
    #[error("the token's `typ` is {}; {issuer} allows {allowed}", OrAbsent(.found.as_ref()))]
    TypeNotAllowed {
        /// What the token says, if anything.
        found: Option<Untrusted>,
        /// The profile's list.
        allowed: String,
        /// The profile.
        issuer: String,
    },
    /// `alg` is not in the profile.
    #[error("the token's `alg` is {found}; {issuer} allows {allowed}")]
    AlgorithmNotAllowed {
        /// What the token says.
        found: Algorithm,
        /// The profile's list.
        allowed: String,
        /// The profile.
        issuer: String,
    },

    /// More claims than the profile allows.
    #[error("the token has {found} claims; the limit of its issuer (`max_claims`) is {limit}: keep the rest in `data`")]
    TooManyClaims {
        /// Claims found.
        found: usize,
        /// The profile's limit.
        limit: usize,
    },
    /// A longer list than the profile allows.
    #[error(
        "{claim} has a list of {found} elements; the limit of its issuer (`max_array`) is {limit}: keep lists in `data`"
    )]
    ArrayTooLong {
        /// The claim in which it stands.
        claim: Untrusted,
        /// Elements found.
        found: usize,
        /// The profile's limit.
        limit: usize,
    },

    // time
    /// No `exp`.
    #[error("`exp` is missing")]
    ExpiryMissing,
    /// `exp`, `nbf` or `iat` is not a number of seconds.
    #[error("`{claim}` is not a number of seconds between 0 and 2^53")]
    DateMalformed {
        /// The claim.
        claim: &'static str,
    },
    /// Now is on or after `exp + leeway`.
    #[error("the token expired: `exp` is {expires_at}, now is {now}, leeway is {leeway} s")]
    Expired {
        /// `exp`.
        expires_at: i64,
        /// The time of the check.
        now: i64,
        /// Seconds.
        leeway: i64,
    },
    /// `nbf` is more than the leeway ahead.
    #[error("the token is not valid yet: `nbf` is {not_before}, now is {now}, leeway is {leeway} s")]
    NotYetValid {
        /// `nbf`.
        not_before: i64,
        /// The time of the check.
        now: i64,
        /// Seconds.
        leeway: i64,
    },
    /// `iat` is more than the leeway ahead.
    #[error(
        "the token was issued in the future: `iat` is {issued_at}, now is {now}, leeway is {leeway} s; compare the clocks"
    )]
    IssuedInFuture {
        /// `iat`.
        issued_at: i64,
        /// The time of the check.
        now: i64,
        /// Seconds.
        leeway: i64,
    },
    /// `iat` is after `exp`.
    #[error("the token was issued after it expired: `iat` is {issued_at}, `exp` is {expires_at}")]
    IssuedAfterExpiry {
        /// `iat`.
        issued_at: i64,
        /// `exp`.
        expires_at: i64,
    },
    /// Lives longer than the profile allows.
    #[error("the token lives for {seconds} s; the limit of its issuer (`max_lifetime`) is {limit} s")]
    LifetimeTooLong {
        /// `exp - iat`, or `exp - now` without `iat`.
        seconds: i64,
        /// The profile's limit.
        limit: i64,
    },

    /// No `iat`, where the age is limited.
    #[error("`iat` is missing, and its issuer limits the age of tokens (`max_age`)")]
    IssuedAtMissing,
    /// Issued longer ago than the profile allows.
    #[error("the token was issued {age} s ago; the limit of its issuer (`max_age`) is {limit} s, leeway is {leeway} s")]
    TooOld {
        /// `now - iat`.
        age: i64,
        /// The profile's limit.
        limit: i64,
        /// Seconds.
        leeway: i64,
    },

    // key
    /// The issuer's keys have never been loaded.
    #[error("the keys of {issuer} have never been loaded")]
    KeysNeverHad {
        /// The profile.
        issuer: String,
    },
    /// No key of the issuer fits; fresh keys might.
    #[error("no {algorithm} key {} is among the keys of {}", OrAbsent(.key_id.as_ref()), .issuer.as_deref().unwrap_or("the given set"))]
    UnknownKey {
        /// The profile; nothing when the keys were given by hand.
        issuer: Option<String>,
        /// The token's `kid`, if any.
        key_id: Option<Untrusted>,
        /// The same, for whoever fetches keys.
        wanted: Option<WantedKey>,
        /// The token's `alg`.
        algorithm: Algorithm,
    },
    /// The key exists, for another algorithm.
    #[error("the key {key_id} is bound to {bound}; the token's `alg` is {algorithm}")]
    KeyForOtherAlgorithm {
        /// The token's `kid`.
        key_id: Untrusted,
        /// The one algorithm of that key.
        bound: Algorithm,
        /// The token's `alg`.
        algorithm: Algorithm,
    },
    /// No `kid`, and several keys fit.
    #[error("the token has no `kid`, and {candidates} keys fit its `alg` {algorithm}; the issuer must name the key")]
    AmbiguousKey {
        /// How many.
        candidates: usize,
        /// The token's `alg`.
        algorithm: Algorithm,
    },

    // signature
    /// The signature does not verify.
    #[error("the signature does not verify with the issuer's {algorithm} key {}", .key_id.as_deref().unwrap_or("(without `kid`)"))]
    BadSignature {
        /// The key that was tried, as its own set names it.
        key_id: Option<String>,
        /// Its algorithm.
        algorithm: Algorithm,
    },

    // claims
    /// No `aud`.
    #[error("`aud` is missing; {issuer} must issue tokens for {expected}")]
    AudienceMissing {
        /// The profile's list.
        expected: String,
        /// The profile.
        issuer: String,
    },
    /// `aud` is neither a string nor an array of strings.
    #[error("`aud` is neither a string nor an array of strings")]
    AudienceMalformed,
    /// No audience in common.
    #[error("the token is for {found}; accepted is {expected}")]
    AudienceMismatch {
        /// The token's audiences, escaped and cut short.
        found: Untrusted,
        /// The profile's list.
        expected: String,
    },
    /// `sub` is not a string, or empty.
    #[error("`sub` is not a string, or empty")]
    SubjectMalformed,
    /// A registered claim of a wrong type.
    #[error("`{claim}` is not a string")]
    ClaimMalformed {
        /// The claim.
        claim: &'static str,
    },
    /// The tenant claim (`revocation.tenant_claim`) holds something that is no name of a tenant.
    #[error("`{claim}`, the tenant claim, is neither a string nor an integer, nor an array of them")]
    TenantMalformed {
        /// The claim, as the configuration names it.
        claim: String,
    },
    /// `scope`, `scp` or `scopes` of a wrong type.
    #[error("`{claim}` is neither a space-separated string nor an array of strings")]
    ScopeMalformed {
        /// The claim.
        claim: &'static str,
    },
    /// A claim that the profile requires is missing or null.
    #[error("`{claim}` is missing; the issuer profile requires it (`required_claims`)")]
    RequiredClaimMissing {
        /// The claim, as the profile names it.
        claim: String,
    },
    /// An ID token, a refresh token or the like.
    #[error("the token looks like an ID token or another token that is not for access: {sign}; send the access token")]
    NotAnAccessToken {
        /// What gave it away.
        sign: &'static str,
    },
    /// `cnf` is no object, is empty, or binds to something that is no thumbprint.
    #[error("`cnf` is not an object of SHA-256 thumbprints in base64url (`jkt`, `x5t#S256`)")]
    ConfirmationMalformed,
    /// `cnf` has a member whose meaning is not known here, so nobody could hold its sender to it.
    #[error("`cnf` has the member {member}; only `jkt` and `x5t#S256` can be checked")]
    ConfirmationUnknown {
        /// Its name.
        member: Untrusted,
    },
    /// What the token says about its status list, or that about it.
    #[error("{0}")]
    Status(StatusError),

    // introspection
    /// The issuer was asked about the token, or could not be.
    #[error("{0}")]
    Introspection(IntrospectionError),
}

// === impl TokenError ===

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
}
