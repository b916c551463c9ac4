//! Documents: `GET|POST /v1/data`, `POST /v0/data`, `POST /` and `GET /`. Reads one document with one input.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{Method, StatusCode, request::Parts};
use serde::Serialize;

use super::{Asker, Context, DOOR, data_path, meta, nanoseconds, no_arrival, reference};
use crate::{
    authorize::{self, DecisionId},
    input::KnownCaller,
    policy::{DataPath, EvalOptions, Outcome, Value},
    serve::{
        App,
        answer::Answer,
        body,
        evaluate::{Failure, evaluate},
        json,
        params::Params,
    },
    telemetry::Record,
};

/// The body of an answer, in OPA's order. The decision id is always there: it is how an answer is found in the log.
#[derive(Serialize)]
struct DataResponse<'a> {
    decision_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<Provenance<'a>>,
    /// Always empty: the engine has no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Timers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<Warning>,
}

#[derive(Serialize)]
struct Provenance<'a> {
    version: &'static str,
    build_commit: &'static str,
    build_timestamp: &'static str,
    build_hostname: &'static str,
    bundles: BTreeMap<&'a str, ProvenanceBundle<'a>>,
}

#[derive(Serialize)]
struct ProvenanceBundle<'a> {
    revision: &'a str,
}

/// OPA's names. The query is always prepared, so the cache is always hit.
#[derive(Default, Serialize)]
pub(super) struct Timers {
    counter_server_query_cache_hit: u64,
    timer_rego_external_resolve_ns: u64,
    timer_rego_input_parse_ns: u64,
    timer_rego_query_eval_ns: u64,
    timer_server_handler_ns: u64,
}

#[derive(Serialize)]
pub(super) struct Warning {
    code: &'static str,
    message: &'static str,
}

/// How one evaluation went, for the answer and the record.
pub(super) struct Evaluated {
    pub(super) id: DecisionId,
    pub(super) result: Result<Outcome, Failure>,
}

/// `GET|POST /v1/data[/{path}]`; the other methods would write.
pub(super) async fn v1(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = match parts.method {
        Method::GET | Method::POST => {
            v1_read(&app, &parts, body).await.unwrap_or_else(|refusal| refusal).encoded(&parts.headers)
        }
        Method::PUT | Method::PATCH => meta::read_only(&app, &parts, "/v1/data"),
        Method::DELETE if parts.uri.path() != "/v1/data" => meta::read_only(&app, &parts, "/v1/data"),
        _ => Answer::method_not_allowed(),
    };
    answer.into_response()
}

async fn v1_read(app: &App, parts: &Parts, body: Body) -> Result<Answer, Answer> {
    let context = Context::new(app, parts).ok_or_else(no_arrival)?;
    let params = Params::parse(parts.uri.query());
    let path = data_path(parts, "/v1/data")?;
    let asker = context.asker(parts, &path).await?;

    let parsing = Instant::now();
    let depth = app.settings.limits.json_depth;
    let is_post = parts.method == Method::POST;
    let document = if is_post {
        let bytes = context.body(parts, body).await.map_err(|error| error.answer())?;
        json::data_request(&bytes, body::syntax(&parts.headers), depth)
            .map_err(|error| context.malformed(&format!("body contains malformed input document: {error}")))?
            .input
    } else {
        params
            .last("input")
            .map(|text| json::parameter(text, depth))
            .transpose()
            .map_err(|error| context.malformed(&format!("parameter contains malformed input document: {error}")))?
    };
    let warning = (is_post && document.is_none()).then_some(Warning::INPUT_MISSING);
    let input = context.input(&asker, document)?;
    let mut timers = Timers {
        counter_server_query_cache_hit: 1,
        timer_rego_input_parse_ns: nanoseconds(parsing),
        ..Timers::default()
    };

    let evaluating = Instant::now();
    let options = EvalOptions { strict_builtin_errors: params.flag("strict-builtin-errors"), ..EvalOptions::default() };
    let evaluated = ask(&context, &asker, &path, input, options).await;
    timers.timer_rego_query_eval_ns = nanoseconds(evaluating);
    timers.timer_server_handler_ns = nanoseconds(context.arrival.at);

    let outcome = match &evaluated.result {
        Ok(outcome) => outcome,
        Err(failure) => return Ok(failed(failure, context.shows_files())),
    };
    let result = match outcome {
        Outcome::Undefined => None,
        Outcome::Value(value) => Some(value),
    };
    let explain = params.all("explain").find(|mode| matches!(*mode, "notes" | "fails" | "full" | "debug"));
    let id = evaluated.id.to_string();
    let response = DataResponse {
        decision_id: &id,
        provenance: params.flag("provenance").then(|| provenance(&asker, context.shows_files())),
        // OPA explains an undefined result only in full.
        explanation: explain.filter(|mode| result.is_some() || *mode == "full").map(|_| []),
        metrics: (params.flag("metrics") || params.flag("instrument")).then_some(timers),
        result,
        warning,
    };
    Ok(Answer::json(StatusCode::OK, &response, params.flag("pretty")))
}

/// `POST /v0/data[/{path}]`.
pub(super) async fn v0(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = match parts.method {
        Method::POST => {
            let path = data_path(&parts, "/v0/data");
            match path {
                Ok(path) => bare(&app, &parts, body, &path).await.unwrap_or_else(|refusal| refusal),
                Err(refusal) => refusal,
            }
            .encoded(&parts.headers)
        }
        Method::GET => Answer::method_not_allowed().encoded(&parts.headers),
        _ => Answer::method_not_allowed(),
    };
    answer.into_response()
}

/// `POST /`: the default decision. `GET /`: a page that says what this is.
pub(super) async fn index(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = match parts.method {
        Method::POST => {
            let path = app.settings.default_decision.clone();
            bare(&app, &parts, body, &path).await.unwrap_or_else(|refusal| refusal)
        }
        Method::GET => meta::page(),
        _ => Answer::method_not_allowed(),
    };
    answer.into_response()
}

/// The body is the input and the answer is the bare value; undefined is 404.
async fn bare(app: &App, parts: &Parts, body: Body, path: &DataPath) -> Result<Answer, Answer> {
    let context = Context::new(app, parts).ok_or_else(no_arrival)?;
    let asker = context.asker(parts, path).await?;
    let bytes = context.body(parts, body).await.map_err(|error| match error {
        body::BodyError::TooLarge | body::BodyError::TooSlow => error.answer(),
        error => Answer::bad_request(&format!("unexpected parse error for input: {error}")),
    })?;
    let document =
        json::document(&bytes, body::syntax(&parts.headers), app.settings.limits.json_depth).map_err(|error| {
            context.malformed(&format!(
                "unexpected parse error for input: body contains malformed input document: {error}"
            ))
        })?;
    // Without a body the input is `null`, not undefined.
    let input = context.input(&asker, Some(document.unwrap_or(Value::Null)))?;
    let evaluated = ask(&context, &asker, path, input, EvalOptions::default()).await;
    let answer = match &evaluated.result {
        Err(failure) => failed(failure, context.shows_files()),
        Ok(Outcome::Undefined) => {
            let what = if asker.snapshot.policies.defines(path) { "undefined" } else { "missing" };
            let message = format!("document {what}: {}", reference(path));
            Answer::error(StatusCode::NOT_FOUND, "undefined_document", &message)
        }
        Ok(Outcome::Value(value)) => {
            Answer::json(StatusCode::OK, value, Params::parse(parts.uri.query()).flag("pretty"))
        }
    };
    // The bare value has no room for the decision id.
    Ok(answer.of_decision(evaluated.id))
}

/// Evaluates and records. The record is written before the answer, and for failed evaluations too.
pub(super) async fn ask(
    context: &Context<'_>,
    asker: &Asker,
    path: &DataPath,
    input: Option<Value>,
    options: EvalOptions,
) -> Evaluated {
    let id = DecisionId::random();
    let began = Instant::now();
    let result = evaluate(context.app, &asker.snapshot, path, input.clone(), options).await;
    let evaluation = began.elapsed();
    // Only of the entrypoint is it known that what it says is a decision. The answer is the document all the same.
    let is_decision = asker.snapshot.entrypoint.as_ref().is_some_and(|entrypoint| entrypoint.path() == path);
    let verdict = result.as_ref().ok().filter(|_| is_decision).map(|outcome| authorize::decide(Ok(outcome)));
    let (label, code) = verdict.as_ref().map_or((None, "ok"), |verdict| (Some(verdict.label()), verdict.code()));
    let (outcome, reason, value, error) = match &result {
        Ok(Outcome::Value(value)) => (label.unwrap_or("result"), code, Some(value), None),
        Ok(Outcome::Undefined) => (label.unwrap_or("undefined"), code, None, None),
        Err(Failure::Evaluation(error)) => ("error", error.kind.code(), None, Some(error)),
        Err(failure @ Failure::Overloaded) => ("error", failure.code(), None, None),
    };
    context.app.telemetry.decided(&Record {
        door: DOOR,
        id,
        snapshot: &asker.snapshot,
        path,
        input: input.as_ref(),
        result: value,
        error,
        outcome,
        reason,
        detail: None,
        caller: asker.caller.as_ref().map(KnownCaller::caller),
        requested_by: &context.arrival.peer.text,
        request_number: context.arrival.number,
        verification: asker.verification,
        evaluation: Some(evaluation),
        total: context.arrival.at.elapsed(),
    });
    Evaluated { id, result }
}

/// An evaluation without an outcome.
fn failed(failure: &Failure, with_files: bool) -> Answer {
    match failure {
        Failure::Evaluation(error) => Answer::evaluation(error, with_files),
        Failure::Overloaded => Answer::error(StatusCode::SERVICE_UNAVAILABLE, failure.code(), &failure.to_string()),
    }
}

/// A bundle without a name of its own is named by its path.
fn shown(name: &str, with_files: bool) -> &str {
    if with_files { name } else { name.rsplit('/').next().unwrap_or_default() }
}

fn provenance(asker: &Asker, with_files: bool) -> Provenance<'_> {
    let bundles = asker.snapshot.policies.bundles().iter();
    Provenance {
        version: env!("CARGO_PKG_VERSION"),
        build_commit: "",
        build_timestamp: "",
        build_hostname: "",
        bundles: bundles.map(|b| (shown(&b.name, with_files), ProvenanceBundle { revision: &b.revision })).collect(),
    }
}

// === impl Warning ===

impl Warning {
    const INPUT_MISSING: Self = Self::usage("'input' key missing from the request");
    pub(super) const INPUTS_MISSING: Self = Self::usage("'inputs' key missing from the request");

    const fn usage(message: &'static str) -> Self {
        Self { code: "api_usage_warning", message }
    }
}
