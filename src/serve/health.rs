//! Health: what `/health` and its relatives say, for both listeners. Reads what the snapshot channel knows and changes
//! nothing.
//!
//! - `/health`: the process is alive and serves; true until the end of a drain.
//! - `/health?bundles`: policies are active and no shutdown has begun. (A process without a snapshot does not listen.)
//! - `/health?plugins`: as before, and every issuer had its keys once; minus each `exclude-plugin`.
//! - `/health?reload`: and the newest reload succeeded. Not part of readiness: an older snapshot serves well.
//! - `/health/{rule}`: `data.system.health.{rule}`, as in OPA.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{Method, StatusCode};
use serde::Serialize;

use super::{
    App,
    answer::Answer,
    evaluate::{Failure, evaluate},
    params::Params,
};
use crate::policy::{DataPath, EvalOptions, Outcome, Value};

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// What OPA calls plugins: the parts whose state readiness depends on.
const BUNDLE: &str = "bundle";
const KEYS: &str = "keys";

/// `GET /health`.
pub(super) async fn overall(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return Answer::method_not_allowed().into_response();
    }
    let params = Params::parse(request.uri().query());
    let wants_bundles = params.flag("bundles") || params.flag("bundle");
    let plugins = app.plugins();
    let error = if wants_bundles && !app.is_ready() {
        Some("one or more bundles are not activated")
    } else if params.flag("plugins")
        && plugins.iter().any(|(name, ok)| !ok && !params.all("exclude-plugin").any(|excluded| excluded == *name))
    {
        Some("one or more plugins are not up")
    } else if params.flag("reload") && !app.snapshots.health().errors.is_empty() {
        Some("the newest reload failed; an older snapshot serves, see /v1/status on the admin listener")
    } else {
        None
    };
    answer(error).into_response()
}

/// `GET /ready` on the admin listener: the same as `/health?bundles`, with 503 when not.
pub(super) async fn ready(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return Answer::method_not_allowed().into_response();
    }
    let mut answer = answer((!app.is_ready()).then_some("shutting down"));
    if !app.is_ready() {
        // A route of ours: it says what it means, where OPA's `/health` has 500 for everything.
        answer.status = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer.into_response()
}

/// `GET /health/{rule}`.
pub(super) async fn by_policy(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return Answer::method_not_allowed().into_response();
    }
    let raw = request.uri().path().strip_prefix("/health/").unwrap_or_default();
    let mut segments = vec!["system".to_owned(), "health".to_owned()];
    match super::opa::path_segments(raw) {
        Ok(rule) => segments.extend(rule),
        Err(invalid) => return Answer::bad_request(&format!("invalid path: {invalid}")).into_response(),
    }
    let path = DataPath::new(segments);
    let snapshot = app.snapshots.current();
    let plugins = app.plugins();
    let states =
        plugins.iter().map(|(name, ok)| (Value::from(*name), Value::from(if *ok { "OK" } else { "NOT_READY" })));
    let input = Value::from(BTreeMap::from([
        (Value::from("plugin_state"), Value::from(states.collect::<BTreeMap<_, _>>())),
        (Value::from("plugins_ready"), Value::from(app.is_ready())),
    ]));
    let name = super::opa::reference(&path);
    let error = match evaluate(&app, &snapshot, &path, Some(input), EvalOptions::default()).await {
        Ok(Outcome::Value(Value::Bool(true))) => None,
        Ok(Outcome::Undefined) => Some(format!("health check ({name}) was undefined")),
        Ok(Outcome::Value(_)) => Some(format!("health check ({name}) returned unexpected value")),
        Err(Failure::Evaluation(error)) => Some(error.to_string()),
        Err(failure @ Failure::Overloaded) => Some(failure.to_string()),
    };
    answer(error.as_deref()).into_response()
}

fn answer(error: Option<&str>) -> Answer {
    let status = if error.is_some() { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    Answer::json(status, &Body { error }, false)
}

impl App {
    /// May requests be sent here?
    pub(super) fn is_ready(&self) -> bool {
        !self.shutdown.has_begun()
    }

    fn plugins(&self) -> [(&'static str, bool); 2] {
        let health = self.snapshots.health();
        let have_keys = health.keys.values().all(|issuer| issuer.keys.is_some());
        [(BUNDLE, self.is_ready()), (KEYS, have_keys)]
    }
}
