//! Subject identifiers (RFC 9493, and the `complex` format of the Shared Signals Framework) → which tokens are meant. An
//! identifier that no token can be found by names nobody here; one that is malformed is refused.

use serde_json::{Map, Value};

use super::{super::revocation::Target, EventError, EventKind, MAX_ID_BYTES, Transmitter, Unmoved};

/// Identifiers in one `aliases`.
const MAX_ALIASES: usize = 16;

/// The tokens that `sub_id` names for this event, or why none.
pub(super) fn tokens_of(
    sub_id: Option<&Value>,
    kind: EventKind,
    transmitter: &Transmitter,
) -> Result<Result<Vec<Target>, Unmoved>, EventError> {
    let Some(Value::Object(subject)) = sub_id else { return Err(EventError::SubjectMalformed) };
    if format(subject)? == "complex" {
        return complex(subject, kind, transmitter);
    }
    let mut found = one(subject, transmitter, true)?;
    // What an opaque identifier of a revoked session names, the session or its user, is the transmitter's choice (CAEP
    // §3.1 shows both).
    if let (EventKind::SessionRevoked, Some("opaque"), Ok(targets)) = (kind, text(subject, "format"), &mut found) {
        targets.insert(0, session(transmitter, id(subject, "id")?));
    }
    Ok(found)
}

/// One identifier. `aliases` do not nest.
fn one(
    subject: &Map<String, Value>,
    transmitter: &Transmitter,
    with_aliases: bool,
) -> Result<Result<Vec<Target>, Unmoved>, EventError> {
    let issuer = || transmitter.tokens_of.clone();
    let named = match format(subject)? {
        "opaque" => return Ok(Ok(vec![user(transmitter, id(subject, "id")?)])),
        "iss_sub" => user(transmitter, id(subject, "sub")?),
        "jwt_id" => Target::Token { issuer: issuer(), id: id(subject, "jti")?.to_owned() },
        "aliases" if with_aliases => return aliases(subject, transmitter),
        "aliases" | "complex" => return Err(EventError::SubjectMalformed),
        _ => return Ok(Err(Unmoved::UnmappedSubject)),
    };
    let of = id(subject, "iss")?;
    let is_ours = of == transmitter.tokens_of || of == transmitter.issuer;
    Ok(if is_ours { Ok(vec![named]) } else { Err(Unmoved::OtherIssuer) })
}

fn user(transmitter: &Transmitter, id: &str) -> Target {
    Target::Subject { issuer: transmitter.tokens_of.clone(), subject: id.to_owned() }
}

fn session(transmitter: &Transmitter, id: &str) -> Target {
    Target::Session { issuer: transmitter.tokens_of.clone(), session: id.to_owned() }
}

/// All that can be mapped: they are names of one subject.
fn aliases(
    subject: &Map<String, Value>,
    transmitter: &Transmitter,
) -> Result<Result<Vec<Target>, Unmoved>, EventError> {
    let Some(Value::Array(identifiers)) = subject.get("identifiers") else { return Err(EventError::SubjectMalformed) };
    if identifiers.is_empty() || identifiers.len() > MAX_ALIASES {
        return Err(EventError::SubjectMalformed);
    }
    let (mut all, mut why) = (Vec::new(), Unmoved::UnmappedSubject);
    for identifier in identifiers {
        let Value::Object(identifier) = identifier else { return Err(EventError::SubjectMalformed) };
        match one(identifier, transmitter, false)? {
            Ok(targets) => all.extend(targets),
            Err(other) => why = other,
        }
    }
    all.sort();
    all.dedup();
    Ok(if all.is_empty() { Err(why) } else { Ok(all) })
}

/// A user, a session and more, which hold together (Shared Signals Framework 1.0 §3.2). What tokens can be
/// found by is taken: for a revoked session the session before its user, for other events the user. What cannot be
/// narrowed down, such as a user's tokens on one device, ends more, never less. A tenant alone names nobody here: tenants
/// are those of all issuers, and a transmitter speaks for one.
fn complex(
    subject: &Map<String, Value>,
    kind: EventKind,
    transmitter: &Transmitter,
) -> Result<Result<Vec<Target>, Unmoved>, EventError> {
    let member = |name: &str, of_opaque: fn(&Transmitter, &str) -> Target| match subject.get(name) {
        None => Ok(None),
        Some(Value::Object(identifier)) if text(identifier, "format") == Some("opaque") => {
            Ok(Some(Ok(vec![of_opaque(transmitter, id(identifier, "id")?)])))
        }
        Some(Value::Object(identifier)) => one(identifier, transmitter, true).map(Some),
        Some(_) => Err(EventError::SubjectMalformed),
    };
    let (user, session) = (member("user", user)?, member("session", session)?);
    let named = if kind == EventKind::SessionRevoked { [session, user] } else { [user, session] };
    let mut why = None;
    for found in named.into_iter().flatten() {
        match found {
            Ok(targets) => return Ok(Ok(targets)),
            Err(unmoved) => why = why.or(Some(unmoved)),
        }
    }
    // `format` alone.
    if subject.len() < 2 {
        return Err(EventError::SubjectMalformed);
    }
    Ok(Err(why.unwrap_or(Unmoved::UnmappedSubject)))
}

fn format(subject: &Map<String, Value>) -> Result<&str, EventError> {
    text(subject, "format").filter(|format| !format.is_empty()).ok_or(EventError::SubjectMalformed)
}

/// A member that must be there, of a length that can be kept.
fn id<'s>(subject: &'s Map<String, Value>, member: &str) -> Result<&'s str, EventError> {
    let id = text(subject, member).filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()));
    id.ok_or(EventError::SubjectMalformed)
}

fn text<'s>(subject: &'s Map<String, Value>, member: &str) -> Option<&'s str> {
    subject.get(member).and_then(Value::as_str)
}
