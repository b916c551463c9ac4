//! `/v1/revocations`: an operator takes tokens back, and sees how many are taken back. Only whoever presents the
//! configured credential gets that far; without one the route is closed. An answer of 200 means that the entries are in
//! effect and, with a state directory, on disk.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::{
    revocation::{Report, RevokeError, Source},
    serve::{App, Arrival, answer::Answer, body},
    snapshot::Snapshot,
    token::{Revocation, RevocationKind, Target, UnixTime, parse_revocations},
};

#[derive(Serialize)]
struct Body<T> {
    result: T,
}

/// What is taken back at the moment.
#[derive(Serialize)]
pub(super) struct Summary {
    /// What arrived while the program runs, and what its journal kept.
    #[serde(flatten)]
    received: Report,
    /// What the watched file says, by kind; nothing without one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    file: BTreeMap<&'static str, usize>,
}

/// `POST /v1/revocations` and `GET /v1/revocations`.
pub(super) async fn route(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, request).await.unwrap_or_else(|refusal| refusal).into_response()
}

async fn answer(app: &App, request: Request) -> Result<Answer, Answer> {
    let (parts, body) = request.into_parts();
    admit(app, &parts.headers).await?;
    match parts.method {
        Method::GET => {
            Ok(Answer::json(StatusCode::OK, &Body { result: Summary::of(app, &app.snapshots.current()) }, true))
        }
        Method::POST => {
            let arrival = parts.extensions.get::<Arrival>().ok_or_else(|| {
                Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the request has no arrival")
            })?;
            let bytes = body::read(&parts.headers, body, &app.settings.limits, arrival.deadline).await;
            let bytes = bytes.map_err(|error| {
                app.telemetry.metrics().refused(error.code());
                error.answer()
            })?;
            revoke(app, &bytes).await
        }
        _ => Err(Answer::method_not_allowed()),
    }
}

async fn revoke(app: &App, bytes: &[u8]) -> Result<Answer, Answer> {
    let malformed = |message: &str| {
        app.telemetry.metrics().refused("revocation_malformed");
        Answer::error(StatusCode::BAD_REQUEST, "revocation_malformed", message)
    };
    let now = UnixTime::from(SystemTime::now());
    let entries = parse_revocations(bytes, now).map_err(|fault| malformed(&fault.to_string()))?;
    let snapshot = app.snapshots.current();
    let is_array = bytes.trim_ascii_start().starts_with(b"[");
    for (index, entry) in entries.iter().enumerate() {
        if let Some((member, message)) = strangeness(entry, &snapshot) {
            let place = if is_array { format!("[{index}].{member}") } else { member.to_owned() };
            return Err(malformed(&format!("{place}: {message}")));
        }
    }
    match app.revocations.revoke(entries, Source::Operator).await {
        Ok(accepted) => Ok(Answer::json(StatusCode::OK, &Body { result: accepted }, true)),
        Err(error) => {
            let status = match error {
                RevokeError::NameTooLong => StatusCode::BAD_REQUEST,
                RevokeError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
                RevokeError::NotPersisted => StatusCode::SERVICE_UNAVAILABLE,
            };
            let answer = Answer::error(status, error.code(), &error.to_string());
            Err(match error {
                RevokeError::NotPersisted => answer.with(RETRY_AFTER, HeaderValue::from_static("5")),
                _ => answer,
            })
        }
    }
}

/// An entry that can hit nothing here is most likely written wrongly, and whoever sent it would believe that it works.
fn strangeness(entry: &Revocation, snapshot: &Snapshot) -> Option<(&'static str, &'static str)> {
    let profiles = &snapshot.profiles;
    match &entry.target {
        Target::Tenant { .. } if profiles.iter().all(|profile| profile.tenant_claim().is_none()) => {
            Some(("tenant", "no claim is known to name the tenant; set `revocation.tenant_claim`"))
        }
        target if target.issuer().is_some_and(|issuer| profiles.get(issuer).is_none()) => {
            Some(("iss", "no issuer of this name is configured; it must equal `iss` of the tokens byte for byte"))
        }
        _ => None,
    }
}

/// Nobody learns whether a credential was nearly right.
async fn admit(app: &App, headers: &HeaderMap) -> Result<(), Answer> {
    let Some(credentials) = app.settings.revocation_credentials.clone() else {
        app.telemetry.metrics().refused("revocations_closed");
        let message = "nobody may revoke: no credential is configured (`revocation.token_file`)";
        return Err(Answer::error(StatusCode::FORBIDDEN, "revocations_closed", message));
    };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let presented = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().and_then(|value| value.split_once(' ')),
        _ => None,
    };
    let presented = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let presented = presented.map(|(_, credential)| credential.trim_matches(' ').to_owned()).unwrap_or_default();
    // The credential may be in a file.
    let compared = tokio::task::spawn_blocking(move || credentials.accept(&presented)).await;
    match compared {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => {
            app.telemetry.metrics().refused("revocations_unauthorized");
            let answer =
                Answer::error(StatusCode::UNAUTHORIZED, "unauthorized", "the operator's credential is required");
            Err(answer.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"claimgate-admin\"")))
        }
        failed => {
            match failed {
                Ok(Err(error)) => tracing::error!("`revocation.token_file`: {error}; nobody can revoke"),
                _ => tracing::error!("the operator's credential could not be compared; please report this"),
            }
            let message = "the operator's credential cannot be checked at the moment";
            Err(Answer::error(StatusCode::SERVICE_UNAVAILABLE, "credential_unavailable", message))
        }
    }
}

// === impl Summary ===

impl Summary {
    pub(super) fn of(app: &App, snapshot: &Snapshot) -> Self {
        let counts = RevocationKind::ALL.into_iter().map(|kind| (kind.as_str(), snapshot.revocations.count(kind)));
        let file = if snapshot.revocations.is_empty() { BTreeMap::new() } else { counts.collect() };
        Self { received: app.revocations.report(), file }
    }
}
