//! `/.well-known/oauth-protected-resource` (RFC 9728): where a client that was refused learns which issuers' tokens are
//! taken, and how they are sent. It is public and says nothing that a challenge would not.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::any};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{App, TokenSource, answer::Answer};
use crate::token::{IssuerProfile, SenderConstraint};

/// The path below which the document is; the path of the resource itself may follow (RFC 9728 §3.1).
pub(super) const PATH: &str = "/.well-known/oauth-protected-resource";
/// The metric's `handler`.
pub(super) const LABEL: &str = "protected_resource";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, any(answer)).route(&format!("{PATH}/{{*path}}"), any(answer))
}

async fn answer(State(app): State<Arc<App>>, method: Method) -> Response {
    let answer = match (&app.settings.sender.resource, method) {
        (None, _) => Answer::not_found(),
        (Some(resource), Method::GET | Method::HEAD) => Answer::json(StatusCode::OK, &document(&app, resource), true),
        (Some(_), _) => Answer::method_not_allowed(),
    };
    answer.into_response()
}

fn document(app: &App, resource: &str) -> Value {
    let snapshot = app.snapshots.current();
    let issuers: Vec<&str> = snapshot.profiles.iter().map(IssuerProfile::issuer).collect();
    let demands = |all: &[SenderConstraint]| {
        !issuers.is_empty() && snapshot.profiles.iter().all(|profile| all.contains(&profile.sender_constraint()))
    };
    let sources = &app.settings.token_sources;
    let is_standard =
        |source: &TokenSource| matches!(source, TokenSource::Header { name, .. } if name == "authorization");
    let is_query = |source: &TokenSource| *source == TokenSource::Query("access_token".to_owned());
    // RFC 6750 knows these two; other headers and cookies are between the operator and his clients.
    let methods = [("header", sources.iter().any(is_standard)), ("query", sources.iter().any(is_query))];
    let methods: Vec<&str> = methods.iter().filter(|(_, is_taken)| *is_taken).map(|(name, _)| *name).collect();
    let sender = &app.settings.sender;
    let algorithms: Vec<&str> = sender.proofs.algorithms.iter().map(|algorithm| algorithm.name()).collect();
    json!({
        "resource": resource,
        "authorization_servers": issuers,
        "bearer_methods_supported": methods,
        "dpop_signing_alg_values_supported": algorithms,
        "dpop_bound_access_tokens_required": demands(&[SenderConstraint::Dpop]),
        "tls_client_certificate_bound_access_tokens": demands(&[SenderConstraint::Mtls]),
    })
}
