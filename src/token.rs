//! Bytes → [`VerifiedClaims`], or why not. The only user of `jsonwebtoken`. Pure: time, keys and profiles are arguments.
//!
//! One ordered pipeline, in [`verify()`]; each step leaves a type behind that the next step needs:
//!
//! ```text
//! RawToken ─ format ─► Compact ─ header ─► Header ─ payload ─► Payload ─ issuer ─► IssuerProfile
//!   ─ profile (typ, alg) ─ time ─► Times ─ key ─► VerifyKey ─ signature ─► SignatureChecked ─ claims ─► VerifiedClaims
//! ```
//!
//! Cheap refusals stand before the cryptography. Everything that the header and the claims say is untrusted until the
//! signature step passed: before it, nothing but the fields that the steps need is looked at, and a refusal names
//! them only escaped and cut short. The module refuses encrypted tokens, JSON serialisations, unsigned tokens, every
//! `crit` extension and every key that a token brings along; it fetches nothing and reads no clock.

mod algorithm;
mod binding;
mod claims;
mod compact;
mod dpop;
mod error;
mod event;
mod header;
mod inspect;
mod introspection;
mod json;
mod keys;
mod lint;
mod logout;
mod profile;
mod profiles;
mod revocation;
mod signature;
mod signing;
mod statement;
mod status_list;
mod time;
mod untrusted;
mod verify;

use std::sync::Arc;

pub use self::{
    algorithm::{Algorithm, UnknownAlgorithm},
    binding::{
        CertificateFault, Confirmation, ProofRules, Scheme, SenderConstraint, SenderError, Sent, SentProof,
        certificate::{CertificateHeader, CertificateThumbprint},
        check_sender,
    },
    claims::VerifiedClaims,
    compact::{Fingerprint, Limits, RawToken},
    dpop::{AcceptedProof, Nonces, ProofError, ProofHolder, ProofName, ProofOrigin, ProofTarget},
    error::{Fault, TokenError},
    event::{Effect, EventError, EventFault, EventKind, Notice, Transmitter, Unmoved, receive_event},
    inspect::{Inspection, inspect},
    introspection::{
        ASSERTION_TYPE, AnswerForm, ClientAuthentication, IntrospectionEndpoint, IntrospectionError,
        IntrospectionFault, IntrospectionRequest, IntrospectionSettings, JwtOpinion, Secret, SecretSource,
        client_assertion, confirm, is_jose, judge_answer,
    },
    json::JsonFault,
    keys::{DroppedKey, KeyRing, KeySet, KeySetError, WantedKey},
    lint::{Finding, LintLimits, Report, Rule, Severity, lint, lint_projection},
    logout::{LogoutEnds, LogoutSettings, receive_logout},
    profile::{IssuerProfile, KeyOrigin, ProfileError, ProfileSettings},
    profiles::Profiles,
    revocation::{
        MOST_ENTRIES, Mark, Revocation, RevocationDigest, RevocationFault, RevocationKey, RevocationKind,
        RevocationSet, Revocations, Revoked, Target, find_revocation, parse_revocation_file, parse_revocations,
    },
    signing::SigningKey,
    status_list::{
        NotAnOrigin, Origin, Status, StatusError, StatusList, StatusListError, StatusListLimits, StatusListUse,
        StatusReference, Statuses, check_status,
    },
    time::UnixTime,
    untrusted::Untrusted,
    verify::{STEPS, StepPassed, verify, verify_explained, verify_signature_only},
};

/// Who asks. A rejected token never becomes `Anonymous`.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The request carried no token at all.
    Anonymous,
    /// The request carried one token and every check passed.
    Verified(Arc<VerifiedClaims>),
}
