//! Outcome + caller → [`Decision`]. Deny is the default: only exact `true`, or an object whose `allow` (or `allowed`)
//! is exactly `true` and whose other members are well formed, makes a [`Permit`]. Undefined, any other type, a
//! conflict, a limit and an error are a [`Denial`] with a stable code.
//!
//! This is the only place that makes a `Permit`. It does no I/O and reads no clock.

mod challenge;
mod effects;
mod subject;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::SystemTime};

pub use challenge::Challenge;
pub use effects::{Effects, EffectsError};
use uuid::Uuid;

use crate::{
    policy::{EvalError, Outcome, Value},
    snapshot::{Anonymous, Snapshot},
    token::{self, Caller, Fault, RawToken, Revocations, Revoked, SenderError, Statuses, TokenError, VerifiedClaims},
};

/// Names one decision in the answer and in the decision log: a UUID of version 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId(Uuid);

/// What claimgate answers to one access request.
#[derive(Debug)]
pub struct Decision {
    /// Its name.
    pub id: DecisionId,
    /// Revision of the snapshot it was made with.
    pub revision: String,
    /// The answer itself.
    pub verdict: Verdict,
}

/// Allow or deny.
#[derive(Debug)]
pub enum Verdict {
    /// The request may go on.
    Allow(Permit),
    /// It may not.
    Deny(Denial),
}

/// Proof that policy said yes. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Permit {
    effects: Effects,
}

/// A no, with what the caller may be told.
#[derive(Debug)]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// What policy wants sent along; empty unless policy itself decided.
    pub effects: Effects,
}

/// Why a request was denied. Closed; each variant has a stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DenyReason {
    /// No token, and the configuration lets no anonymous caller through to policy.
    #[error("no token was sent")]
    NoToken,
    /// A token that did not verify.
    #[error("{0}")]
    Token(TokenError),
    /// A good token, and a sender who does not prove to be its holder.
    #[error("{0}")]
    Sender(SenderError),
    /// The token was good when it was issued, and was taken back since.
    #[error("{0}")]
    Revoked(Revoked),
    /// The subject has no record in live data, and one is demanded.
    #[error("the caller has no record in `data`, and `subject.unknown` is `deny`")]
    SubjectUnknown,
    /// The subject's record says that it is suspended.
    #[error("the caller's record in `data` says that it is suspended")]
    SubjectSuspended,
    /// The subject's record says that it is deleted.
    #[error("the caller's record in `data` says that it is deleted")]
    SubjectDeleted,
    /// The subject's record cannot be understood.
    #[error("the caller's record in `data` cannot be used: {0}")]
    SubjectMalformed(&'static str),
    /// Policy said `false`, or an object whose `allow` is `false`.
    #[error("policy denied the request")]
    Policy,
    /// The entrypoint is undefined for this input.
    #[error("the decision is undefined; policy has no rule for this request")]
    Undefined,
    /// The entrypoint gave something that is neither a boolean nor an object with a boolean `allow`.
    #[error("the decision is {0}; expected a boolean, or an object whose `allow` is a boolean")]
    NotADecision(&'static str),
    /// `allow` is `true`, but another member of the decision object cannot be carried out.
    #[error("the decision object cannot be carried out: {0}")]
    Effects(EffectsError),
    /// Evaluation ended without an outcome.
    #[error("{0}")]
    Evaluation(EvalError),
    /// The snapshot has no entrypoint, so nothing can be asked.
    #[error("no entrypoint is configured; set `policy.entrypoint`")]
    NoEntrypoint,
}

/// Verifies what the request presented.
///
/// # Errors
/// [`DenyReason::NoToken`] or [`DenyReason::Token`]. A token that was sent and refused never becomes
/// [`Caller::Anonymous`].
pub fn identify(snapshot: &Snapshot, presented: Option<&RawToken>, now: SystemTime) -> Result<Caller, DenyReason> {
    match presented {
        None if snapshot.anonymous == Anonymous::AllowToPolicy => Ok(Caller::Anonymous),
        None => Err(DenyReason::NoToken),
        Some(raw) => token::verify(raw, &snapshot.profiles, &snapshot.keys, now.into())
            .map(|claims| Caller::Verified(Arc::new(claims)))
            .map_err(DenyReason::Token),
    }
}

/// What may have changed about a token since it was issued, and is asked on every request.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// Revocations that arrived while the program runs. Those of the watched file are in the snapshot.
    pub revocations: &'a dyn Revocations,
    /// Status lists at hand.
    pub statuses: &'a dyn Statuses,
}

/// May a caller whose token verified be let in now? Asked on every request, also when the token was verified before:
/// time, which the token itself tells about, is checked elsewhere.
///
/// # Errors
/// [`DenyReason::Revoked`], one of the reasons about the subject, or [`DenyReason::Token`] with what its status list says.
pub fn admit(
    snapshot: &Snapshot,
    claims: &VerifiedClaims,
    world: World<'_>,
    now: SystemTime,
) -> Result<(), DenyReason> {
    let known: [&dyn Revocations; 2] = [world.revocations, &*snapshot.revocations];
    if let Some(revoked) = known.into_iter().find_map(|known| known.find(claims, now.into())) {
        return Err(DenyReason::Revoked(revoked));
    }
    subject::check(snapshot, claims)?;
    let keys = snapshot.keys.get(claims.issuer()).map(AsRef::as_ref);
    let status = token::check_status(claims, world.statuses, keys, now.into());
    status.map_err(|error| DenyReason::Token(TokenError::Status(error)))
}

/// Turns what the engine said into a verdict. Everything that is not a clear yes is a no.
#[must_use]
pub fn decide(outcome: Result<&Outcome, &EvalError>) -> Verdict {
    let value = match outcome {
        Err(error) => return Verdict::deny(DenyReason::Evaluation(error.clone())),
        Ok(Outcome::Undefined) => return Verdict::deny(DenyReason::Undefined),
        Ok(Outcome::Value(value)) => value,
    };
    match value {
        Value::Bool(true) => Verdict::Allow(Permit { effects: Effects::default() }),
        Value::Bool(false) => Verdict::deny(DenyReason::Policy),
        Value::Object(members) => {
            let member = |name: &str| members.get(&Value::from(name));
            let allowed = match (member("allow"), member("allowed")) {
                (Some(Value::Bool(a)), None) | (None, Some(Value::Bool(a))) => *a,
                // Two words for one answer are accepted only when they agree.
                (Some(Value::Bool(a)), Some(Value::Bool(b))) if a == b => *a,
                (Some(Value::Bool(_)), Some(Value::Bool(_))) => {
                    return Verdict::deny(DenyReason::NotADecision("an object whose `allow` and `allowed` disagree"));
                }
                _ => return Verdict::deny(DenyReason::NotADecision("an object without a boolean `allow`")),
            };
            match (allowed, Effects::parse(value)) {
                (true, Ok(Effects { challenge: Some(_), .. })) => {
                    let problem = "asks something of the client, although `allow` is `true`";
                    Verdict::deny(DenyReason::Effects(EffectsError { member: "challenge", problem }))
                }
                (true, Ok(effects)) => Verdict::Allow(Permit { effects }),
                (true, Err(error)) => Verdict::deny(DenyReason::Effects(error)),
                // A deny stays a deny when its decoration is broken.
                (false, effects) => {
                    Verdict::Deny(Denial { reason: DenyReason::Policy, effects: effects.unwrap_or_default() })
                }
            }
        }
        other => Verdict::deny(DenyReason::NotADecision(type_name(other))),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Set(_) => "a set",
        Value::Object(_) => "an object",
        Value::Undefined => "undefined",
    }
}

// === impl DecisionId ===

impl DecisionId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

// === impl Verdict ===

impl Verdict {
    /// A denial that carries nothing but its reason.
    #[must_use]
    pub fn deny(reason: DenyReason) -> Self {
        Self::Deny(Denial { reason, effects: Effects::default() })
    }

    /// `allow` or `deny`: the metric and log label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Deny(_) => "deny",
        }
    }

    /// The reason code: `ok` for an allow.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Allow(_) => "ok",
            Self::Deny(denial) => denial.reason.code(),
        }
    }
}

// === impl Permit ===

impl Permit {
    /// What policy wants done along with the allow.
    #[must_use]
    pub fn effects(&self) -> &Effects {
        &self.effects
    }
}

// === impl DenyReason ===

impl DenyReason {
    /// Stable code for logs, metrics and decision events.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Token(error) => error.code(),
            Self::Sender(error) => error.code(),
            Self::Revoked(revoked) => revoked.kind.code(),
            Self::SubjectUnknown => "subject_unknown",
            Self::SubjectSuspended => "subject_suspended",
            Self::SubjectDeleted => "subject_deleted",
            Self::SubjectMalformed(_) => "subject_record_malformed",
            Self::Policy => "policy_denied",
            Self::Undefined => "decision_undefined",
            Self::NotADecision(_) => "decision_malformed",
            Self::Effects(_) => "decision_effects_malformed",
            Self::Evaluation(error) => error.kind.code(),
            Self::NoEntrypoint => "no_entrypoint",
        }
    }

    /// Is the caller unauthenticated (401), as opposed to not allowed (403)?
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        match self {
            Self::NoToken | Self::Revoked(_) => true,
            Self::Token(error) => error.fault() == Fault::Token,
            Self::Sender(_) => !self.is_unavailable(),
            _ => false,
        }
    }

    /// Is the token good, and its subject kept out by live data (403)?
    #[must_use]
    pub fn is_about_subject(&self) -> bool {
        matches!(self, Self::SubjectUnknown | Self::SubjectSuspended | Self::SubjectDeleted | Self::SubjectMalformed(_))
    }

    /// Is it no fault of the caller (503): the issuer's keys were never had, the issuer cannot be asked, or there is no room
    /// to remember a proof?
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Token(error) => error.fault() != Fault::Token,
            Self::Sender(SenderError::Proof(error)) => error.is_unavailable(),
            _ => false,
        }
    }
}
