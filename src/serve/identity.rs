//! Who asks: finds the one token that a request presents, has it verified, sees to it that its sender is its holder, and
//! says in the words of RFC 6750 and RFC 9449 why not.
//!
//! A request presents no token only when none of the configured places holds anything. Whatever stands there and is not
//! exactly one well-formed token (another scheme, an empty cookie, a second token) is refused and never becomes an
//! anonymous caller. The client learns that the token was refused, and never why; the reason is for the log, the metric
//! and the decision event.

mod find;
mod replays;
mod sender;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};

use self::find::{Presented, find};
pub use self::sender::SenderSettings;
pub(super) use self::sender::{Asked, Senders};
use super::{App, Arrival, answer::Answer};
use crate::{
    authorize::{self, DenyReason},
    input::KnownCaller,
    introspection::Introspection,
    snapshot::Snapshot,
    token::{Caller, RawToken, Scheme, SenderError, StatusError, TokenError, VerifiedClaims},
};

/// A request as far as its caller matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) arrival: &'a Arrival,
    pub(super) headers: &'a HeaderMap,
    /// The query in which a token may stand.
    pub(super) query: Option<&'a str>,
    /// What a DPoP proof must be for.
    pub(super) asked: Asked<'a>,
}

/// A caller, and the snapshot that it was verified against: the rest of the request uses the same one.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) caller: KnownCaller,
    /// How the token was sent; `None` without one.
    pub(super) scheme: Option<Scheme>,
    /// How long the token took; `None` without one.
    pub(super) verification: Option<Duration>,
}

/// No caller.
#[derive(Debug)]
pub(super) struct Unidentified {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) cause: Cause,
    /// Whose token it was, when the token itself was good: for the decision event.
    pub(super) caller: Option<Caller>,
    pub(super) scheme: Option<Scheme>,
    pub(super) verification: Option<Duration>,
}

/// Why there is no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    /// The request does not present its token in one clear way.
    #[error("{0}")]
    Request(InvalidRequest),
    /// Denied by the verifier, or because there is no token.
    #[error("{0}")]
    Denied(DenyReason),
}

/// RFC 6750 §3.1 `invalid_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidRequest {
    /// More than one token.
    #[error("more than one token was sent")]
    SeveralTokens,
    /// Something that cannot be a token in a place for one.
    #[error("the place of the token holds something that is not a token")]
    Malformed,
}

/// Finds the token and has it verified. When the issuer's keys might be out of date they are asked for once, and the
/// request goes on with the snapshot that has them.
pub(super) async fn identify(app: &App, asking: Asking<'_>) -> Result<Identified, Box<Unidentified>> {
    let mut snapshot = app.snapshots.current();
    let presented = match find(&app.settings.token_sources, asking.headers, asking.query) {
        Ok(Presented::Nothing) => None,
        Ok(Presented::Token(raw, scheme)) => Some((raw, scheme)),
        Ok(Presented::Foreign) => return Err(unidentified(snapshot, Cause::Denied(DenyReason::NoToken), None, None)),
        Err(invalid) => return Err(unidentified(snapshot, Cause::Request(invalid), None, None)),
    };
    let began = Instant::now();
    let token = presented.as_ref().map(|(raw, _)| raw);
    let mut result = look(app, &snapshot, token).await;
    if let Err(DenyReason::Token(error)) = &result
        && let Some(issuer) = error.wants_keys_of()
        && app.snapshots.request_keys(issuer, error.wanted_key(), app.settings.key_patience).await
    {
        snapshot = app.snapshots.current();
        result = look(app, &snapshot, token).await;
    }
    // The token is its issuer's. Whether it is the sender's is asked for every request anew.
    if let (Ok(known), Some((raw, scheme))) = (&result, &presented)
        && let Caller::Verified(claims) = known.caller()
        && let Err(reason) = app.senders.check(app, &snapshot, claims, (raw, *scheme), asking)
    {
        result = Err(reason);
    }
    // Last, whoever vouched for the token and however long ago: what the world has said about it since. What came before
    // may have taken time, so this is another `now`.
    let mut refused = None;
    if let (Ok(known), Some(raw)) = (&result, token)
        && let Caller::Verified(claims) = known.caller()
    {
        match admit(app, &snapshot, claims).await {
            Ok(()) => app.hygiene.look(claims.issuer(), raw, app.telemetry.metrics()),
            Err(reason) => {
                refused = Some(known.caller().clone());
                result = Err(reason);
            }
        }
    }
    let scheme = presented.as_ref().map(|(_, scheme)| *scheme);
    let verification = presented.is_some().then(|| began.elapsed());
    match result {
        Ok(caller) => Ok(Identified { snapshot, caller, scheme, verification }),
        Err(reason) => {
            if !matches!(reason, DenyReason::NoToken) && !reason.is_about_subject() {
                app.telemetry.metrics().verification_failed(reason.code());
            }
            if scheme == Some(Scheme::Dpop) {
                app.senders.renew_nonce(asking.arrival);
            }
            let unidentified = unidentified(snapshot, Cause::Denied(reason), scheme, verification);
            Err(Box::new(Unidentified { caller: refused, ..*unidentified }))
        }
    }
}

/// Who presents this, according to one snapshot: by the token itself, or by what its issuer says about it.
async fn look(app: &App, snapshot: &Snapshot, presented: Option<&RawToken>) -> Result<KnownCaller, DenyReason> {
    let now = SystemTime::now();
    let Some(raw) = presented else { return authorize::identify(snapshot, None, now).map(KnownCaller::new) };
    let known = match app.introspection.identify(snapshot, raw, now).await {
        Some(asked) => asked.map_err(DenyReason::Token)?,
        None => {
            let known = app.tokens.identify(snapshot, raw, now)?;
            // Nobody is asked about what is known to be revoked.
            if let Caller::Verified(claims) = known.caller()
                && Introspection::asks_about(snapshot, claims)
                && let Err(revoked @ DenyReason::Revoked(_)) = authorize::admit(snapshot, claims, app.world(), now)
            {
                return Err(revoked);
            }
            app.introspection.confirm(snapshot, raw, known.caller(), now).await.map_err(DenyReason::Token)?;
            known
        }
    };
    Ok(known)
}

/// What the world has said about the token since it was issued. A status list that is not at hand is asked for, once.
async fn admit(app: &App, snapshot: &Snapshot, claims: &VerifiedClaims) -> Result<(), DenyReason> {
    let look = || authorize::admit(snapshot, claims, app.world(), SystemTime::now());
    match look() {
        Err(DenyReason::Token(TokenError::Status(StatusError::Unavailable { issuer, uri })))
            if app.status_lists.fetch(&issuer, &uri).await =>
        {
            look()
        }
        admitted => admitted,
    }
}

fn unidentified(
    snapshot: Arc<Snapshot>,
    cause: Cause,
    scheme: Option<Scheme>,
    verification: Option<Duration>,
) -> Box<Unidentified> {
    tracing::debug!(code = cause.code(), detail = %cause, "the caller was not identified");
    Box::new(Unidentified { snapshot, cause, caller: None, scheme, verification })
}

// === impl Unidentified ===

impl Unidentified {
    pub(super) fn answer(&self, app: &App) -> Answer {
        let code = self.cause.public_code();
        let mut answer = Answer::error(self.cause.status(), code, self.cause.message());
        match code {
            "temporarily_unavailable" => return answer.with(RETRY_AFTER, HeaderValue::from_static("5")),
            // No other token would help.
            "forbidden" => return answer,
            _ => {}
        }
        let parameters = [("error", code), ("error_description", self.cause.message())];
        // RFC 6750 §3.1: who sent no credentials gets no error.
        let parameters = if code == "unauthorized" { &[][..] } else { &parameters };
        for challenge in app.challenges.values(&self.snapshot.profiles, self.scheme, parameters) {
            answer = answer.with(WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

// === impl Cause ===

impl Cause {
    /// Stable code for the log, the metric and the decision event; the client never gets it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Request(invalid) => invalid.code(),
            Self::Denied(reason) => reason.code(),
        }
    }

    /// The outcome of a request that ends so: a good token whose subject is kept out is denied, not rejected.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Denied(reason) if reason.is_about_subject() => "deny",
            _ => "rejected",
        }
    }

    /// The code that the client gets: one for all reasons why a token was refused, and the two of RFC 9449 that a client
    /// can do something about.
    fn public_code(&self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::Denied(reason) if reason.is_unavailable() => "temporarily_unavailable",
            Self::Denied(reason) if reason.is_about_subject() => "forbidden",
            Self::Denied(DenyReason::NoToken) => "unauthorized",
            Self::Denied(DenyReason::Sender(SenderError::Proof(error))) if error.wants_nonce() => "use_dpop_nonce",
            Self::Denied(DenyReason::Sender(SenderError::Proof(_))) => "invalid_dpop_proof",
            Self::Denied(_) => "invalid_token",
        }
    }

    fn message(&self) -> &'static str {
        match self.public_code() {
            "invalid_request" => "the request must present exactly one well-formed token",
            "temporarily_unavailable" => "tokens of this issuer cannot be verified at the moment",
            "forbidden" => "the request is not allowed",
            "unauthorized" => "authentication is required",
            "use_dpop_nonce" => "the DPoP proof must have the nonce of the header DPoP-Nonce",
            "invalid_dpop_proof" => "the DPoP proof was not accepted",
            _ => "the token was not accepted",
        }
    }

    /// RFC 6750 §3.1, and 503 when the fault is ours.
    fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Denied(reason) if reason.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Denied(reason) if reason.is_about_subject() => StatusCode::FORBIDDEN,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
        }
    }
}

// === impl InvalidRequest ===

impl InvalidRequest {
    fn code(self) -> &'static str {
        match self {
            Self::SeveralTokens => "several_tokens",
            Self::Malformed => "malformed_token",
        }
    }
}
