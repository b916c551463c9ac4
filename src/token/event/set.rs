//! Security event tokens (RFC 8417) as the Shared Signals Framework uses them: one event, a subject in `sub_id`, and no
//! `sub`, so that none can pass for an access token. Refuses what the transmitter was not configured for.

use serde_json::{Map, Value};

use super::{
    super::{
        compact::RawToken,
        error::Untrusted,
        keys::KeyRing,
        revocation::Revocation,
        statement::{Expected, Unverified, check_audience, check_dates},
        time::{NumericDate, UnixTime, date, seconds},
    },
    Effect, EventError, EventKind, LIMITS, MAX_ID_BYTES, Notice, Transmitter, Unmoved,
    subject::tokens_of,
};

/// `typ` of RFC 8417 §2.3.
const TYPE: &str = "secevent+jwt";

/// Verifies a security event token and says what it ends.
///
/// Tokens end by the time of the event: `event_timestamp`, else `toe`, else `iat`. It may lie in the past, because a
/// token that was issued after the event is good, and at most the leeway in the future.
///
/// # Errors
/// The first check that failed.
pub fn receive_event(
    raw: &RawToken,
    transmitters: &[Transmitter],
    keys: &KeyRing,
    now: UnixTime,
) -> Result<Notice, EventError> {
    let token = Unverified::parse(raw, LIMITS)?;
    let issuer = token.issuer()?;
    let transmitter = transmitters
        .iter()
        .find(|transmitter| transmitter.issuer == issuer)
        .ok_or_else(|| EventError::SenderUnknown { issuer: Untrusted::new(issuer), what: "security event tokens" })?;
    check_audience(token.claims(), &transmitter.audiences, &transmitter.issuer)?;
    let issued = check_dates(token.claims(), transmitter.leeway, now)?;
    let expected =
        Expected { issuer: &transmitter.issuer, types: &[TYPE.to_owned()], algorithms: &transmitter.algorithms };
    let verified = token.verify(&expected, keys.get(&transmitter.issuer).map(AsRef::as_ref))?;

    let claims = &verified.claims;
    if claims.contains_key("sub") {
        return Err(EventError::ForbiddenClaim { claim: "sub", what: "a security event token" });
    }
    let id = jti(claims)?;
    let (uri, event) = only_event(claims)?;
    let kind = EventKind::of_uri(uri);
    let at = happened_at(claims, event, issued)?;
    if at.0 > now.0.saturating_add(seconds(transmitter.leeway)) {
        return Err(EventError::HappensInFuture { at: at.0, now: now.0 });
    }
    let effect = effect(claims, event, kind, at, transmitter)?;
    Ok(Notice { issuer: transmitter.issuer.clone(), id, kind, effect, content: verified.content })
}

fn effect(
    claims: &Map<String, Value>,
    event: &Map<String, Value>,
    kind: EventKind,
    until: UnixTime,
    transmitter: &Transmitter,
) -> Result<Effect, EventError> {
    if kind == EventKind::Other {
        return Ok(Effect::Nothing(Unmoved::UnknownEvent));
    }
    if !kind.ends_tokens(event) {
        return Ok(Effect::Nothing(Unmoved::Harmless));
    }
    Ok(match tokens_of(claims.get("sub_id"), kind, transmitter)? {
        Err(why) => Effect::Nothing(why),
        Ok(targets) => {
            let entry = |target| Revocation { target, valid_after: Some(until.0), expires_at: None };
            Effect::Revoke(targets.into_iter().map(entry).collect())
        }
    })
}

/// `jti`: what makes one statement one, however often it is delivered.
pub(in crate::token) fn jti(claims: &Map<String, Value>) -> Result<String, EventError> {
    match claims.get("jti") {
        Some(Value::String(id)) if (1..=MAX_ID_BYTES).contains(&id.len()) => Ok(id.clone()),
        _ => Err(EventError::IdMalformed),
    }
}

/// Exactly one event, whose value is an object.
fn only_event(claims: &Map<String, Value>) -> Result<(&str, &Map<String, Value>), EventError> {
    let Some(Value::Object(events)) = claims.get("events") else { return Err(EventError::EventsMalformed) };
    let mut events = events.iter();
    match (events.next(), events.next()) {
        (Some((uri, Value::Object(event))), None) => Ok((uri, event)),
        _ => Err(EventError::EventsMalformed),
    }
}

fn happened_at(
    claims: &Map<String, Value>,
    event: &Map<String, Value>,
    issued: NumericDate,
) -> Result<UnixTime, EventError> {
    let at = match date(event, "event_timestamp")? {
        Some(at) => at,
        None => date(claims, "toe")?.unwrap_or(issued),
    };
    Ok(UnixTime(at.floor()))
}
