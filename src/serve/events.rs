//! The door for issuers: back-channel logout (OpenID Connect Back-Channel Logout 1.0 §2.5) and pushed security event tokens
//! (RFC 8935). It has a listener of its own, because issuers must reach it and operators' doors must not be reached from
//! there; it answers nothing but these two paths.
//!
//! What a statement ends is on disk before it is answered with success. One that is delivered again has the same effect
//! and the same answer. A forged one costs its signature check, and at most one fetch of keys in each cooldown. The
//! sender learns in the protocol's few words what was wrong; the log has the reason.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use quick_cache::sync::Cache;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{App, Arrival, CATCH_ALL, EventsSettings, Limits, answer::Answer, body, credential::Credential};
use crate::{
    request::parse_query,
    revocation::Source,
    snapshot::Snapshot,
    telemetry::EventMetrics,
    token::{self, Effect, EventError, EventFault, Fingerprint, Notice, RawToken, UnixTime},
};

/// What the door keeps between requests.
#[derive(Debug)]
pub(super) struct Events {
    credential: Option<Arc<Credential>>,
    metrics: EventMetrics,
    /// Statements whose effect is on disk.
    done: Cache<Fingerprint, ()>,
    /// Places for statements under way.
    places: Semaphore,
    said: Mutex<Option<Instant>>,
}

/// What became of a statement.
enum Outcome {
    Done,
    Refused(EventFault),
    Unavailable,
}

/// Verifies a statement of one of the two kinds.
type Receive = fn(&RawToken, &Snapshot, UnixTime) -> Result<Notice, EventError>;

/// RFC 6749 §5.2, as the logout specification has it.
#[derive(Serialize)]
struct LogoutError {
    error: &'static str,
    error_description: &'static str,
}

/// RFC 8935 §2.3.
#[derive(Serialize)]
struct EventRefusal {
    err: &'static str,
    description: &'static str,
}

const LOGOUT_PATH: &str = "/logout/backchannel";
const EVENTS_PATH: &str = "/events";
const FORM: &str = "application/x-www-form-urlencoded";
const EVENT: &str = "application/secevent+jwt";
/// A statement is smaller than this, and so is a form that holds one.
const MOST_BYTES: usize = 32 << 10;
/// Statements under way; one more is told to come again.
const MOST_AT_A_TIME: usize = 64;
/// Statements that are remembered, so that a repeated one costs no write.
const REMEMBERED: usize = 4096;
/// How often at most the log tells of refusals.
const REFUSALS_PAUSE: Duration = Duration::from_secs(10);
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(LOGOUT_PATH, any(logout))
        .route(EVENTS_PATH, any(event))
        .fallback(|| async { Answer::not_found().into_response() })
}

/// The metric's `handler`.
pub(super) fn label(path: &str) -> &'static str {
    match path {
        LOGOUT_PATH => "logout/backchannel",
        EVENTS_PATH => "events",
        _ => CATCH_ALL,
    }
}

/// `POST /logout/backchannel`: a form with exactly one `logout_token`.
async fn logout(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::POST {
        return Answer::method_not_allowed().into_response();
    }
    let refused = |status| {
        let error_description = "the request is not a form with exactly one well-formed logout_token";
        Answer::json(status, &LogoutError { error: "invalid_request", error_description }, false)
    };
    let answer = match text_of(&app, request, FORM).await {
        Err(status) => refused(status),
        Ok(form) => match only_token(&form) {
            None => refused(StatusCode::BAD_REQUEST),
            Some(raw) => {
                let receive: Receive =
                    |raw, snapshot, now| token::receive_logout(raw, &snapshot.profiles, &snapshot.keys, now);
                logout_answer(&app.receive(&raw, receive, Source::Logout).await)
            }
        },
    };
    answer.with(CACHE_CONTROL, NO_STORE).into_response()
}

fn logout_answer(outcome: &Outcome) -> Answer {
    let failed =
        |status, error, error_description| Answer::json(status, &LogoutError { error, error_description }, false);
    match outcome {
        Outcome::Done => Answer::empty(StatusCode::OK),
        Outcome::Refused(fault) => failed(StatusCode::BAD_REQUEST, "invalid_request", words(*fault).1),
        Outcome::Unavailable => {
            failed(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", UNAVAILABLE).with(RETRY_AFTER, AGAIN)
        }
    }
}

/// `POST /events`: one security event token.
async fn event(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::POST {
        return Answer::method_not_allowed().into_response();
    }
    if let Some(credential) = &app.events.credential
        && !credential.is_presented(request.headers()).await
    {
        app.telemetry.metrics().refused("event_credential");
        let refused = refusal(StatusCode::UNAUTHORIZED, "authentication_failed", "the credential is missing or wrong");
        return refused.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")).into_response();
    }
    let answer = match text_of(&app, request, EVENT).await {
        Err(status) => refusal(status, "invalid_request", "the body is not one security event token"),
        Ok(text) => {
            let receive: Receive =
                |raw, snapshot, now| token::receive_event(raw, snapshot.profiles.transmitters(), &snapshot.keys, now);
            match app.receive(&RawToken::new(text), receive, Source::Event).await {
                Outcome::Done => Answer::empty(StatusCode::ACCEPTED).with(CACHE_CONTROL, NO_STORE),
                Outcome::Refused(fault) => {
                    let (err, description) = words(fault);
                    refusal(StatusCode::BAD_REQUEST, err, description)
                }
                Outcome::Unavailable => {
                    refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", UNAVAILABLE).with(RETRY_AFTER, AGAIN)
                }
            }
        }
    };
    answer.into_response()
}

fn refusal(status: StatusCode, err: &'static str, description: &'static str) -> Answer {
    let answer = Answer::json(status, &EventRefusal { err, description }, false);
    answer.with(CONTENT_LANGUAGE, HeaderValue::from_static("en")).with(CACHE_CONTROL, NO_STORE)
}

const UNAVAILABLE: &str = "the token cannot be verified or its effect cannot be kept at the moment";
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// The code of RFC 8935 §2.4, and a sentence that says no more than the code.
fn words(fault: EventFault) -> (&'static str, &'static str) {
    match fault {
        EventFault::Key => ("invalid_key", "the signature, its key or its algorithm is not accepted"),
        EventFault::Issuer => ("invalid_issuer", "the issuer is not accepted"),
        EventFault::Audience => ("invalid_audience", "the token is not for this recipient"),
        EventFault::Request | EventFault::Unavailable => ("invalid_request", "the token is not accepted"),
    }
}

/// The body, when the request is of this media type and small enough.
async fn text_of(app: &App, request: Request, media_type: &str) -> Result<String, StatusCode> {
    if !is_of_type(request.headers(), media_type) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let deadline = request.extensions().get::<Arrival>().map_or_else(tokio::time::Instant::now, |at| at.deadline);
    let limits = Limits { body_bytes: MOST_BYTES, gzip_body_bytes: MOST_BYTES, ..app.settings.limits.clone() };
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts.headers, body, &limits, deadline).await.map_err(|error| {
        app.telemetry.metrics().refused(error.code());
        error.answer().status
    })?;
    String::from_utf8(bytes.into()).map_err(|_| StatusCode::BAD_REQUEST)
}

/// One `Content-Type`, its parameters left aside.
fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.to_str().ok().and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type))
}

/// The one `logout_token`. Other fields may stand beside it, as the specification allows.
fn only_token(form: &str) -> Option<RawToken> {
    let fields = parse_query(form).ok()?;
    let mut tokens = fields.into_iter().filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) if !token.is_empty() => Some(RawToken::new(token)),
        _ => None,
    }
}

// === impl Events ===

impl Events {
    pub(super) fn new(settings: Option<&EventsSettings>, metrics: EventMetrics) -> Self {
        let credentials = settings.and_then(|settings| settings.credentials.clone());
        Self {
            credential: credentials.map(Credential::new),
            metrics,
            done: Cache::new(REMEMBERED),
            places: Semaphore::new(MOST_AT_A_TIME),
            said: Mutex::default(),
        }
    }

    /// Tells of a refusal, unless one was told a moment ago: whoever reaches the door can cause them.
    fn tell(&self, error: &EventError) {
        tracing::debug!(code = error.code(), detail = %error, "a statement of an issuer was refused");
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= REFUSALS_PAUSE) {
            *said = Some(Instant::now());
            tracing::warn!(code = error.code(), detail = %error, "a statement of an issuer was refused; more may follow untold");
        }
    }
}

impl App {
    /// Verifies a statement and carries out what it says.
    async fn receive(&self, raw: &RawToken, receive: Receive, source: Source) -> Outcome {
        let Ok(_place) = self.events.places.try_acquire() else {
            self.events.metrics.received("none", "unavailable");
            return Outcome::Unavailable;
        };
        let now = || UnixTime::from(SystemTime::now());
        let mut result = receive(raw, &self.snapshots.current(), now());
        if let Err(error) = &result
            && let Some(issuer) = error.wants_keys_of()
            && self.snapshots.request_keys(issuer, error.wanted_key(), self.settings.key_patience).await
        {
            result = receive(raw, &self.snapshots.current(), now());
        }
        match result {
            Ok(notice) => self.carry_out(notice, source).await,
            Err(error) => {
                self.events.tell(&error);
                let is_ours = error.fault() == EventFault::Unavailable;
                self.events.metrics.received("none", if is_ours { "unavailable" } else { "refused" });
                if is_ours { Outcome::Unavailable } else { Outcome::Refused(error.fault()) }
            }
        }
    }

    async fn carry_out(&self, notice: Notice, source: Source) -> Outcome {
        let Notice { issuer, id, kind, effect, content } = notice;
        let event = kind.label();
        // Signed, but still text of somebody else.
        let id = id.escape_default().to_string();
        let counted = |result| self.events.metrics.received(event, result);
        let entries = match effect {
            Effect::Nothing(why) => {
                counted("nothing_to_do");
                tracing::info!(
                    issuer,
                    event,
                    jti = id,
                    reason = why.code(),
                    "an event was accepted and ends no tokens"
                );
                return Outcome::Done;
            }
            Effect::Revoke(_) if self.events.done.get(&content).is_some() => {
                counted("repeated");
                return Outcome::Done;
            }
            Effect::Revoke(entries) => entries,
        };
        match self.revocations.revoke(entries, source).await {
            Ok(accepted) => {
                self.events.done.insert(content, ());
                counted("revoked");
                tracing::info!(
                    issuer,
                    event,
                    jti = id,
                    entries = accepted.accepted,
                    "an event was accepted and ends tokens"
                );
                Outcome::Done
            }
            Err(error) => {
                counted("unavailable");
                tracing::error!(issuer, event, jti = id, %error, "an event was not accepted");
                Outcome::Unavailable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_exactly_one_logout_token() {
        for (form, expected) in [
            ("logout_token=a.b.c", true),
            ("x=1&logout_token=a.b.c&y", true),
            ("logout%5Ftoken=a.b.c", true),
            ("", false),
            ("logout_token", false),
            ("logout_token=", false),
            ("logout_token=a.b.c&logout_token=a.b.c", false),
            ("logout_token=a.b.c&logout%5Ftoken=a.b.c", false),
            ("LOGOUT_TOKEN=a.b.c", false),
            ("token=a.b.c", false),
            ("logout_token=%zz", false),
            ("logout_token=a.b.c&x=%ff", false),
            ("{\"logout_token\":\"a.b.c\"}", false),
        ] {
            assert_eq!(only_token(form).is_some(), expected, "{form}");
        }
    }

    #[test]
    fn a_media_type_is_one_header_with_or_without_parameters() {
        for (values, expected) in [
            (&["application/secevent+jwt"][..], true),
            (&["Application/SecEvent+JWT; charset=utf-8"], true),
            (&["application/jwt"], false),
            (&["application/secevent+jwt2"], false),
            (&["text/plain; application/secevent+jwt"], false),
            (&[""], false),
            (&[], false),
            (&["application/secevent+jwt", "application/secevent+jwt"], false),
        ] {
            let headers = values.iter().map(|value| (CONTENT_TYPE, value.parse().unwrap())).collect();
            assert_eq!(is_of_type(&headers, EVENT), expected, "{values:?}");
        }
    }

    #[test]
    fn a_label_is_one_of_a_closed_list() {
        for (path, want) in [
            ("/events", "events"),
            ("/logout/backchannel", "logout/backchannel"),
            ("/events/", "catchall"),
            ("/health", "catchall"),
            ("/v1/data", "catchall"),
        ] {
            assert_eq!(label(path), want, "{path}");
        }
    }
}
