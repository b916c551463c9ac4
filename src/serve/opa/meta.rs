//! Everything of OPA's API that is not about a document: policies, configuration, ad-hoc queries, and the polite refusal
//! of what a read-only engine without partial evaluation cannot do.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, Method, StatusCode, request::Parts};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::{Asker, Context, data_path, no_arrival};
use crate::{
    policy::{DataPath, EvalErrorKind, EvalOptions, Value},
    serve::{
        App, OpaIdentity,
        answer::{Answer, ErrorBody},
        json,
        params::Params,
    },
};

#[derive(Serialize)]
struct ResultBody<T> {
    result: T,
}

/// A module without OPA's `ast`, which no other engine can make.
#[derive(Serialize)]
struct Policy<'a> {
    id: &'a str,
    raw: &'a str,
}

#[derive(Serialize)]
struct Config<'a> {
    default_decision: String,
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct QueryResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    result: Vec<BTreeMap<String, Value>>,
}

/// `GET /`.
pub(super) fn page() -> Answer {
    const PAGE: &str = concat!(
        "<!doctype html>\n<title>claimgate</title>\n<h1>claimgate ",
        env!("CARGO_PKG_VERSION"),
        "</h1>\n<p>An authorization sidecar. It answers the read side of OPA's REST API (<code>POST /v1/data/…</code>) ",
        "and forward-auth sub-requests.</p>\n"
    );
    Answer::bytes(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), PAGE.as_bytes().to_vec())
}

/// `GET /v1/policies`.
pub(super) async fn policies(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = match parts.method {
        Method::GET => {
            read_modules(&app, &parts, |asker| {
                let modules = asker.snapshot.policies.modules().iter();
                let result: Vec<_> = modules.map(|module| Policy { id: &module.id, raw: &module.raw }).collect();
                Answer::json(StatusCode::OK, &ResultBody { result }, Params::parse(parts.uri.query()).flag("pretty"))
            })
            .await
        }
        _ => Answer::method_not_allowed(),
    };
    answer.into_response()
}

/// `GET /v1/policies/{id}`; the other methods would write.
pub(super) async fn policy(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let raw = parts.uri.path().strip_prefix("/v1/policies/").unwrap_or_default();
    let id = percent_decode_str(raw).decode_utf8_lossy();
    let missing = || {
        let message = format!("storage_not_found_error: policy id {}", Value::from(&*id));
        Answer::error(StatusCode::NOT_FOUND, "resource_not_found", &message)
    };
    let answer = match parts.method {
        Method::GET => {
            read_modules(&app, &parts, |asker| {
                match asker.snapshot.policies.modules().iter().find(|module| module.id == id) {
                    Some(module) => {
                        let result = Policy { id: &module.id, raw: &module.raw };
                        Answer::json(
                            StatusCode::OK,
                            &ResultBody { result },
                            Params::parse(parts.uri.query()).flag("pretty"),
                        )
                    }
                    None => missing(),
                }
            })
            .await
        }
        Method::PUT => owned_by_bundle(&app, None),
        Method::DELETE if app.snapshots.current().policies.modules().iter().any(|module| module.id == id) => {
            owned_by_bundle(&app, None)
        }
        Method::DELETE => missing(),
        _ => Answer::method_not_allowed(),
    };
    answer.into_response()
}

/// Modules name files and may name secrets. A caller with a token is a client, and asks for decisions; who serves plain
/// OPA decided that whoever reaches the listener may read.
async fn read_modules(app: &App, parts: &Parts, answer: impl FnOnce(Asker) -> Answer) -> Answer {
    if app.settings.opa_identity == OpaIdentity::Token {
        app.telemetry.metrics().refused("policies_not_served");
        return Answer::error(
            StatusCode::FORBIDDEN,
            "policies_not_served",
            "policies are shown only with `opa.identity: passthrough`; ask a rule by /v1/data",
        );
    }
    let Some(context) = Context::new(app, parts) else { return no_arrival() };
    match context.asker(parts, &DataPath::default()).await {
        Ok(asker) => answer(asker),
        Err(refusal) => refusal,
    }
}

/// `GET /v1/config`: what a client needs to know, nothing of what an operator wrote.
pub(super) async fn config(State(app): State<Arc<App>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return Answer::method_not_allowed().into_response();
    }
    let default_decision = format!("/{}", app.settings.default_decision);
    let result = Config { default_decision, labels: app.telemetry.labels() };
    let pretty = Params::parse(request.uri().query()).flag("pretty");
    Answer::json(StatusCode::OK, &ResultBody { result }, pretty).into_response()
}

/// `GET /v1/status`: the status is on the admin listener, so this is an OPA without the plugin.
pub(super) async fn status(request: Request) -> Response {
    match *request.method() {
        Method::GET => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "status plugin not enabled")
            .into_response(),
        _ => Answer::method_not_allowed().into_response(),
    }
}

/// `GET|POST /v1/query`. An ad-hoc query reads all data and runs any code, whatever the policy says about the caller. So
/// it is served only where nobody is identified anyway.
pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = match parts.method {
        Method::GET | Method::POST if app.settings.opa_identity == OpaIdentity::Token => {
            app.telemetry.metrics().refused("query_not_served");
            Answer::error(
                StatusCode::FORBIDDEN,
                "query_not_served",
                "ad-hoc queries are served only with `opa.identity: passthrough`; ask a rule by /v1/data",
            )
        }
        Method::GET | Method::POST => run_query(&app, &parts, body).await.unwrap_or_else(|refusal| refusal),
        _ => Answer::method_not_allowed(),
    };
    answer.into_response()
}

async fn run_query(app: &Arc<App>, parts: &Parts, body: Body) -> Result<Answer, Answer> {
    let context = Context::new(app, parts).ok_or_else(no_arrival)?;
    let params = Params::parse(parts.uri.query());
    let request = if parts.method == Method::GET {
        let query = params.last("q").ok_or_else(|| context.malformed("missing parameter 'q'"))?;
        json::QueryRequest { query: query.to_owned(), input: None }
    } else {
        let bytes = context.body(parts, body).await.map_err(|error| error.answer())?;
        json::query_request(&bytes, app.settings.limits.json_depth)
            .map_err(|error| context.malformed(&format!("error(s) occurred while decoding request: {error}")))?
    };
    let snapshot = app.snapshots.current();
    // A query may call any builtin, so it never runs on a worker.
    let policies = Arc::clone(&snapshot.policies);
    let places = if policies.may_wait() { &app.waiting } else { &app.blocking };
    let options = EvalOptions { foreign_query: true, ..EvalOptions::default() };
    let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
        return Err(Answer::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "evaluation_overloaded",
            "too many evaluations are under way",
        ));
    };
    let work = tokio::task::spawn_blocking(move || {
        let result = policies.query(&request.query, request.input, &options);
        drop(permit);
        result
    });
    let result = match tokio::time::timeout_at(context.arrival.deadline, work).await {
        Ok(Ok(result)) => result,
        _ => {
            return Err(Answer::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "evaluation_timeout",
                "the query did not end in time",
            ));
        }
    };
    match result {
        Ok(rows) => {
            let rows = rows.rows.into_iter().map(|row| row.bindings.into_iter().collect());
            Ok(Answer::json(StatusCode::OK, &QueryResponse { result: rows.collect() }, params.flag("pretty")))
        }
        Err(error) if error.kind == EvalErrorKind::Query => {
            Ok(Answer::json(StatusCode::BAD_REQUEST, &ErrorBody::query(&error), true))
        }
        Err(error) => Ok(Answer::evaluation(&error, true)),
    }
}

/// `POST /v1/compile[/{path}]`: partial evaluation, which the engine does not have.
pub(super) async fn compile(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Answer::method_not_allowed().into_response();
    }
    let refusal = match Context::new(&app, &parts) {
        None => no_arrival(),
        Some(context) => match context.body(&parts, body).await {
            Err(error) => error.answer(),
            Ok(bytes) => match json::query_request(&bytes, app.settings.limits.json_depth) {
                Err(error) => context.malformed(&format!("error(s) occurred while decoding request: {error}")),
                Ok(request) if request.query.trim().is_empty() && parts.uri.path() == "/v1/compile" => {
                    context.malformed("missing required 'query' value")
                }
                Ok(_) => Answer::error(
                    StatusCode::NOT_IMPLEMENTED,
                    "not_implemented",
                    "partial evaluation is not supported; evaluate a rule by /v1/data",
                ),
            },
        },
    };
    refusal.encoded(&parts.headers).into_response()
}

/// A write below `/v1/data`.
pub(super) fn read_only(app: &App, parts: &Parts, route: &str) -> Answer {
    match data_path(parts, route) {
        Ok(path) => owned_by_bundle(app, Some(&path)),
        Err(refusal) => refusal,
    }
}

/// Refuses a write in the words that OPA has for paths that belong to a bundle. What no bundle owns belongs to the
/// operator's files.
fn owned_by_bundle(app: &App, path: Option<&DataPath>) -> Answer {
    app.telemetry.metrics().refused("read_only");
    let snapshot = app.snapshots.current();
    let bundles = snapshot.policies.bundles();
    let segments = path.map(DataPath::segments).unwrap_or_default();
    if path.is_some() && segments.is_empty() && !bundles.is_empty() {
        return Answer::bad_request("can't write to document root with bundle roots configured");
    }
    for bundle in bundles {
        let owns_all = bundle.roots.is_empty() || bundle.roots.iter().any(String::is_empty);
        if owns_all || path.is_none() {
            return Answer::bad_request(&format!("all paths owned by bundle {}", Value::from(bundle.name.as_str())));
        }
        let below = |root: &String| root.split('/').zip(segments).all(|(root, segment)| root == segment);
        if bundle.roots.iter().any(below) {
            let name = Value::from(bundle.name.as_str());
            return Answer::bad_request(&format!("path {} is owned by bundle {name}", segments.join("/")));
        }
    }
    Answer::bad_request("policies and data are read-only here; change the files that they are loaded from")
}
