//! The admin listener: health for probes, metrics for a scraper, and the status for an operator. It decides nothing; who
//! may reach it is a matter of where it listens. It changes nothing and identifies nobody, with one exception, which asks
//! for a credential: [`revocations`].

mod revocations;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;

use self::revocations::Summary;
use super::{App, CATCH_ALL, answer::Answer, health, params::Params};
use crate::{
    introspection,
    policy::{BundleInfo, Entrypoint},
    snapshot::{Health, Snapshot},
    status_lists,
};

/// The format that `Metrics::render` writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// RFC 7517 §8.5.1.
const JWK_SET: &str = "application/jwk-set+json";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", any(health::overall))
        .route("/health/{*rule}", any(health::by_policy))
        .route("/ready", any(health::ready))
        .route("/metrics", any(metrics))
        .route("/v1/status", any(status))
        .route("/v1/revocations", any(revocations::route))
        .route("/.well-known/jwks.json", any(jwks))
        .fallback(|| async { Answer::not_found().into_response() })
}

/// The metric's `handler`.
pub(super) fn label(path: &str) -> &'static str {
    match path {
        "/ready" => "ready",
        "/metrics" => "metrics",
        "/v1/status" => "v1/status",
        "/v1/revocations" => "v1/revocations",
        "/.well-known/jwks.json" => "jwks",
        _ if path == "/health" || path.starts_with("/health/") => "health",
        _ => CATCH_ALL,
    }
}

/// `GET /metrics`.
async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return Answer::method_not_allowed().into_response();
    }
    let answer = match app.telemetry.metrics().render() {
        Ok(text) => Answer::bytes(StatusCode::OK, HeaderValue::from_static(OPENMETRICS), text.into_bytes()),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the metrics cannot be written")
        }
    };
    answer.encoded(request.headers()).into_response()
}

/// `GET /.well-known/jwks.json`: the keys of an issuer that lives in this process.
async fn jwks(State(app): State<Arc<App>>, request: Request) -> Response {
    let answer = match &app.settings.published_jwks {
        None => Answer::not_found(),
        Some(_) if request.method() != Method::GET => Answer::method_not_allowed(),
        Some(jwks) => Answer::bytes(StatusCode::OK, HeaderValue::from_static(JWK_SET), jwks.clone().into_bytes()),
    };
    answer.into_response()
}

// === status ===

#[derive(Serialize)]
struct StatusBody<'a> {
    result: Status<'a>,
}

/// What serves now, and what keeps something newer from serving. Times are Unix seconds.
#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    labels: &'a BTreeMap<String, String>,
    started_at: u64,
    uptime_seconds: u64,
    /// `false` from the beginning of a shutdown.
    ready: bool,
    snapshot: SnapshotStatus<'a>,
    revocations: Summary,
    /// `reloads`, `reload_failures`, `errors` with their places, `restart_needed`, and `keys` by issuer.
    #[serde(flatten)]
    health: &'a Health,
    /// By issuer, since it was first asked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    introspection: BTreeMap<String, introspection::Report>,
    /// Token status lists that were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    status_lists: Vec<status_lists::Report>,
}

#[derive(Serialize)]
struct SnapshotStatus<'a> {
    revision: &'a str,
    activated_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<String>,
    modules: usize,
    bundles: BTreeMap<&'a str, BundleStatus<'a>>,
}

#[derive(Serialize)]
struct BundleStatus<'a> {
    revision: &'a str,
    roots: &'a [String],
}

/// `GET /v1/status`.
async fn status(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return Answer::method_not_allowed().into_response();
    }
    let (snapshot, health) = (app.snapshots.current(), app.snapshots.health());
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        labels: app.telemetry.labels(),
        started_at: unix_seconds(app.started),
        uptime_seconds: app.started.elapsed().map_or(0, |uptime| uptime.as_secs()),
        ready: app.is_ready(),
        snapshot: SnapshotStatus::of(&snapshot),
        revocations: Summary::of(&app, &snapshot),
        health: &health,
        introspection: app.introspection.report(),
        status_lists: app.status_lists.report(),
    };
    let pretty = Params::parse(request.uri().query()).flag("pretty");
    Answer::json(StatusCode::OK, &StatusBody { result: status }, pretty).into_response()
}

impl<'a> SnapshotStatus<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let policies = &snapshot.policies;
        let bundle = |bundle: &'a BundleInfo| {
            (bundle.name.as_str(), BundleStatus { revision: &bundle.revision, roots: &bundle.roots })
        };
        Self {
            revision: &snapshot.revision,
            activated_at: unix_seconds(snapshot.activated_at),
            entrypoint: snapshot.entrypoint.as_ref().map(Entrypoint::path).map(ToString::to_string),
            modules: policies.modules().len(),
            bundles: policies.bundles().iter().map(bundle).collect(),
        }
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_of_a_closed_list() {
        for (path, want) in [
            ("/health", "health"),
            ("/health/live", "health"),
            ("/ready", "ready"),
            ("/metrics", "metrics"),
            ("/v1/status", "v1/status"),
            ("/v1/revocations", "v1/revocations"),
            ("/.well-known/jwks.json", "jwks"),
            ("/healthy", "catchall"),
            ("/v1/data", "catchall"),
        ] {
            assert_eq!(label(path), want, "{path}");
        }
    }
}
