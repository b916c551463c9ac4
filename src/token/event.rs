//! What an issuer tells after a token was issued: security event tokens (RFC 8417) with CAEP and RISC events, and logout
//! tokens (`logout`). Each becomes a [`Notice`]: the event, and which tokens it ends. Nothing is revoked here, and nothing
//! is fetched; a statement that does not hold in every point ends nothing.

mod error;
mod kind;
mod set;
mod subject;

use std::time::Duration;

pub use self::{
    error::{EventError, EventFault},
    kind::EventKind,
    set::receive_event,
};
pub(super) use self::{kind::LOGOUT_EVENT, set::jti};
use super::{
    algorithm::Algorithm,
    compact::{Fingerprint, Limits},
    revocation::Revocation,
};

/// Whose security event tokens are accepted, and about whose tokens they speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmitter {
    /// Exact `iss` of its security event tokens.
    pub issuer: String,
    /// Accepted `aud`; at least one of the token's is among them.
    pub audiences: Vec<String>,
    /// Accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// Clock skew.
    pub leeway: Duration,
    /// The configured issuer whose tokens the events end. It may be the transmitter itself.
    pub tokens_of: String,
}

/// What a verified statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The configured transmitter or issuer that signed it.
    pub issuer: String,
    /// `jti`.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// What follows for tokens.
    pub effect: Effect,
    /// Names the content: a statement that is delivered again has the same.
    pub content: Fingerprint,
}

/// What an event ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// These tokens.
    Revoke(Vec<Revocation>),
    /// Nothing, and why.
    Nothing(Unmoved),
}

/// Why an accepted event ends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmoved {
    /// The event never ends tokens: a verification, a new session, a raised assurance level.
    Harmless,
    /// The event is not known here.
    UnknownEvent,
    /// The subject is named in a way that no token can be found by: an email address, a phone number, a device.
    UnmappedSubject,
    /// The subject is one of an issuer that this transmitter does not speak for.
    OtherIssuer,
}

/// What is looked at before anything is believed: small statements only.
const LIMITS: Limits = Limits { token_bytes: 16 * 1024, json_depth: 16, json_members: 500 };

/// Longest identifier that is kept.
pub(super) const MAX_ID_BYTES: usize = 1024;

// === impl Unmoved ===

impl Unmoved {
    /// Stable `snake_case` word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Harmless => "harmless_event",
            Self::UnknownEvent => "unknown_event",
            Self::UnmappedSubject => "subject_not_mapped",
            Self::OtherIssuer => "subject_of_other_issuer",
        }
    }
}
