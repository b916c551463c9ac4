//! The forward-auth door: a proxy asks by a sub-request whether a request of a client may go on.
//!
//! nginx (`auth_request`), Traefik (`ForwardAuth`) and Caddy (`forward_auth`) each have a route, because each describes
//! the request in headers of its own and each reads the answer's status in its own way ([`Dialect`]). What the headers
//! say is believed only when the connection comes from a trusted peer, and only when it has one reading
//! ([`forwarded`]). Everything but a [`Permit`] is answered with a status that the proxy takes for a no.

mod forwarded;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Instant, SystemTime},
};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    request::Parts,
};

use self::forwarded::{Dialect, Forwarded};
use super::{
    App, Arrival,
    answer::Answer,
    evaluate::{Failure, evaluate},
    identity::{self, Asked, Asking, Identified, Unidentified},
    listener::Peer,
};
use crate::{
    authorize::{self, Challenge, DecisionId, Denial, DenyReason, Permit, Verdict},
    input,
    policy::{DataPath, Entrypoint, EvalOptions, Outcome},
    snapshot::Snapshot,
    telemetry::Record,
};

/// Below this every path belongs to the door.
pub(super) const PREFIX: &str = "/forward-auth/";
/// The door's name in decision events and metrics.
pub(super) const LABEL: &str = "forward_auth";

/// A sub-request comes with any method: what counts is the method that the proxy names.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/forward-auth/nginx", any(nginx))
        .route("/forward-auth/traefik", any(traefik))
        .route("/forward-auth/caddy", any(caddy))
}

async fn nginx(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, Dialect::Nginx, request).await
}

async fn traefik(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, Dialect::Traefik, request).await
}

async fn caddy(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, Dialect::Caddy, request).await
}

/// The body of a sub-request is not read: no decision depends on it.
async fn answer(app: &App, dialect: Dialect, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut answer = ask(app, dialect, &parts).await.unwrap_or_else(|refusal| refusal);
    answer.status = dialect.status(answer.status);
    answer.into_response()
}

async fn ask(app: &App, dialect: Dialect, parts: &Parts) -> Result<Answer, Answer> {
    let arrival = parts.extensions.get::<Arrival>().ok_or_else(|| {
        Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the request has no arrival")
    })?;
    if !arrival.peer.is_trusted(&app.settings) {
        return Err(untrusted(app, &arrival.peer));
    }
    let forwarded = forwarded::read(dialect, &parts.headers, &app.settings).map_err(|unclear| {
        app.telemetry.metrics().refused(unclear.code());
        tracing::debug!(code = unclear.code(), peer = %arrival.peer.text, "a forwarded request was refused");
        Answer::error(StatusCode::BAD_REQUEST, unclear.code(), &unclear.to_string())
    })?;
    let access = &forwarded.access;
    let asking = Asking {
        arrival,
        headers: &parts.headers,
        query: forwarded.query,
        asked: Asked::Forwarded {
            method: &access.method,
            scheme: &access.scheme,
            host: &access.host,
            uri: forwarded.uri,
        },
    };
    let identified = match identity::identify(app, asking).await {
        Ok(identified) => identified,
        Err(refused) => return Err(rejected(app, arrival, &refused)),
    };
    Ok(decide(app, arrival, &forwarded, &identified).await)
}

/// Asks policy, and records what came of it before it is answered.
async fn decide(app: &App, arrival: &Arrival, forwarded: &Forwarded<'_>, identified: &Identified) -> Answer {
    let Identified { snapshot, caller, verification, .. } = identified;
    let nowhere = DataPath::default();
    let about = Record {
        caller: Some(caller.caller()),
        verification: *verification,
        ..record(arrival, snapshot, entrypoint_path(snapshot, &nowhere))
    };
    if snapshot.entrypoint.is_none() {
        return conclude(app, arrival, identified, &about, &Verdict::deny(DenyReason::NoEntrypoint));
    }
    let input = input::for_access(&forwarded.access, caller, snapshot, SystemTime::now());
    let began = Instant::now();
    let result = evaluate(app, snapshot, about.path, Some(input.clone()), EvalOptions::default()).await;
    let about = Record { input: Some(&input), evaluation: Some(began.elapsed()), ..about };
    match &result {
        Ok(outcome) => {
            let value = match outcome {
                Outcome::Value(value) => Some(value),
                Outcome::Undefined => None,
            };
            conclude(app, arrival, identified, &Record { result: value, ..about }, &authorize::decide(Ok(outcome)))
        }
        Err(Failure::Evaluation(error)) => {
            conclude(app, arrival, identified, &Record { error: Some(error), ..about }, &authorize::decide(Err(error)))
        }
        Err(failure @ Failure::Overloaded) => {
            let id = about.id;
            let total = arrival.at.elapsed();
            app.telemetry.decided(&Record { outcome: "deny", reason: failure.code(), total, ..about });
            Answer::error(StatusCode::SERVICE_UNAVAILABLE, failure.code(), &failure.to_string()).of_decision(id)
        }
    }
}

/// Fills in the verdict, records it and answers it.
fn conclude(app: &App, arrival: &Arrival, identified: &Identified, about: &Record<'_>, verdict: &Verdict) -> Answer {
    app.telemetry.decided(&Record {
        outcome: verdict.label(),
        reason: verdict.code(),
        detail: match verdict {
            Verdict::Allow(_) => None,
            Verdict::Deny(denial) => Some(denial.reason.to_string()),
        },
        total: arrival.at.elapsed(),
        ..*about
    });
    let answer = match verdict {
        Verdict::Allow(permit) => allowed(permit, &app.settings.identity_headers),
        Verdict::Deny(denial) => denied(denial, app, identified),
    };
    answer.of_decision(about.id)
}

/// The token, or its absence, was refused before policy was asked.
fn rejected(app: &App, arrival: &Arrival, refused: &Unidentified) -> Answer {
    let Unidentified { snapshot, cause, caller, verification, .. } = refused;
    let nowhere = DataPath::default();
    let about = record(arrival, snapshot, entrypoint_path(snapshot, &nowhere));
    let id = about.id;
    app.telemetry.decided(&Record {
        outcome: cause.outcome(),
        reason: cause.code(),
        detail: Some(cause.to_string()),
        caller: caller.as_ref(),
        verification: *verification,
        ..about
    });
    refused.answer(app).of_decision(id)
}

/// What is known before anything was asked; denies until something else is said.
fn record<'a>(arrival: &'a Arrival, snapshot: &'a Snapshot, path: &'a DataPath) -> Record<'a> {
    Record {
        door: LABEL,
        id: DecisionId::random(),
        snapshot,
        path,
        input: None,
        result: None,
        error: None,
        outcome: "deny",
        reason: "",
        detail: None,
        caller: None,
        requested_by: &arrival.peer.text,
        request_number: arrival.number,
        verification: None,
        evaluation: None,
        total: arrival.at.elapsed(),
    }
}

fn entrypoint_path<'a>(snapshot: &'a Snapshot, nowhere: &'a DataPath) -> &'a DataPath {
    snapshot.entrypoint.as_ref().map_or(nowhere, Entrypoint::path)
}

// === trust ===

/// Nothing that this peer says about a request is believed, so there is no request to decide about.
fn untrusted(app: &App, peer: &Peer) -> Answer {
    app.telemetry.metrics().refused("untrusted_peer");
    // Every request of a proxy that was forgotten comes here. The metric counts them; one line says what to do.
    if !app.warned_of_peer.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            peer = %peer.text,
            "forward-auth requests of this peer are refused; if it is the proxy, add it to `forward_auth.trusted_peers`"
        );
    }
    Answer::error(StatusCode::FORBIDDEN, "untrusted_peer", "this peer may not ask about requests of others")
}

// === answers ===

/// `200` with the headers that the proxy copies. Each identity header is there, empty when policy did not set it: a
/// proxy that copies it then overwrites what the client sent under that name. The same removes a header.
fn allowed(permit: &Permit, identity_headers: &[String]) -> Answer {
    let effects = permit.effects();
    let mut answer = Answer::empty(StatusCode::OK);
    let mut fits =
        append(&mut answer.headers, &effects.headers) && append(&mut answer.headers, &effects.response_headers);
    let identity = identity_headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    for name in identity.chain(effects.remove_headers.iter().cloned()) {
        if !answer.headers.contains_key(&name) {
            fits &= answer.headers.try_insert(name, HeaderValue::from_static("")).is_ok();
        }
    }
    if fits { answer } else { too_many_headers() }
}

/// The deny that policy wrote, or `403` with its reasons. A `401` always carries a challenge (RFC 9110 §15.5.2).
fn denied(denial: &Denial, app: &App, identified: &Identified) -> Answer {
    let effects = &denial.effects;
    let challenge = effects.challenge.as_ref();
    let status = effects.status.or(challenge.map(Challenge::status)).unwrap_or(StatusCode::FORBIDDEN);
    let code = challenge.map_or("forbidden", Challenge::error);
    let mut answer = match &effects.body {
        Some(body) => Answer::text(status, body.as_str()),
        None if effects.reasons.is_empty() => Answer::error(status, code, "the request is not allowed"),
        None => Answer::error(status, code, &effects.reasons.join("; ")),
    };
    if effects.headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        answer.headers.remove(CONTENT_TYPE);
    }
    if !append(&mut answer.headers, &effects.headers) {
        return too_many_headers();
    }
    let is_asked = challenge.is_some() || status == StatusCode::UNAUTHORIZED;
    if is_asked && !answer.headers.contains_key(WWW_AUTHENTICATE) {
        let parameters = challenge.map(Challenge::parameters).unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for challenge in app.challenges.values(&identified.snapshot.profiles, identified.scheme, &parameters) {
            answer = answer.with(WWW_AUTHENTICATE, challenge);
        }
    }
    answer
}

/// `false` when the map is full: it holds some ten thousand headers.
fn append(map: &mut HeaderMap, headers: &[(HeaderName, HeaderValue)]) -> bool {
    headers.iter().all(|(name, value)| map.try_append(name.clone(), value.clone()).is_ok())
}

fn too_many_headers() -> Answer {
    Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the decision has too many headers")
}
