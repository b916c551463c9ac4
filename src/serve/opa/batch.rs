//! `POST /v1/batch/data[/{path}]`: one document with several inputs, in the shape of Enterprise OPA, which the official
//! SDKs call. All items are answered from one snapshot and for one caller.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{Method, StatusCode, request::Parts};
use serde::Serialize;

use super::{
    Context,
    data::{Evaluated, Warning, ask},
    data_path, no_arrival,
};
use crate::{
    authorize::DecisionId,
    policy::{EvalOptions, Outcome, Value},
    serve::{
        App,
        answer::{Answer, ErrorBody},
        body,
        evaluate::Failure,
        json,
        params::Params,
    },
};

#[derive(Serialize)]
struct BatchResponse<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    responses: BTreeMap<&'a str, Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<Warning>,
    batch_decision_id: String,
}

#[derive(Serialize)]
struct Item<'a> {
    decision_id: String,
    /// Only when items differ, and as a string: the SDKs tell items apart by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Value>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
}

/// `POST /v1/batch/data[/{path}]`.
pub(super) async fn v1(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Answer::method_not_allowed().into_response();
    }
    batch(&app, &parts, body).await.unwrap_or_else(|refusal| refusal).encoded(&parts.headers).into_response()
}

async fn batch(app: &App, parts: &Parts, body: Body) -> Result<Answer, Answer> {
    let context = Context::new(app, parts).ok_or_else(no_arrival)?;
    let params = Params::parse(parts.uri.query());
    let path = data_path(parts, "/v1/batch/data")?;
    let asker = context.asker(parts, &path).await?;
    let bytes = context.body(parts, body).await.map_err(|error| error.answer())?;
    let request = json::batch_request(&bytes, body::syntax(&parts.headers), app.settings.limits.json_depth)
        .map_err(|error| context.malformed(&format!("body contains malformed input document: {error}")))?;

    // Every input is checked before the first is evaluated, so a refused batch has no half that was decided.
    let mut inputs = Vec::new();
    for (name, input) in request.inputs.iter().flatten() {
        let merged = match &request.common_input {
            Some(common) => union(common, input),
            None => input.clone(),
        };
        inputs.push((name.as_str(), context.input(&asker, Some(merged))?));
    }
    let mut evaluated = Vec::with_capacity(inputs.len());
    for (name, input) in inputs {
        if tokio::time::Instant::now() > context.arrival.deadline {
            app.telemetry.metrics().refused("batch_timeout");
            return Err(Answer::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "batch_timeout",
                "the batch did not end in time; send fewer inputs at once",
            ));
        }
        let options =
            EvalOptions { strict_builtin_errors: params.flag("strict-builtin-errors"), ..EvalOptions::default() };
        evaluated.push((name, ask(&context, &asker, &path, input, options).await));
        // A long batch lets other requests of this worker in between.
        tokio::task::yield_now().await;
    }
    let failed = evaluated.iter().filter(|(_, item)| item.result.is_err()).count();
    let (status, mixed) = match failed {
        0 => (StatusCode::OK, false),
        n if n == evaluated.len() => (StatusCode::INTERNAL_SERVER_ERROR, false),
        _ => (StatusCode::MULTI_STATUS, true),
    };
    let response = BatchResponse {
        responses: evaluated
            .iter()
            .map(|(name, evaluated)| (*name, item(evaluated, mixed, context.shows_files())))
            .collect(),
        warning: request.inputs.is_none().then_some(Warning::INPUTS_MISSING),
        batch_decision_id: DecisionId::random().to_string(),
    };
    Ok(Answer::json(status, &response, params.flag("pretty")))
}

fn item(evaluated: &Evaluated, mixed: bool, with_files: bool) -> Item<'_> {
    let (status, result, error) = match &evaluated.result {
        Ok(Outcome::Value(value)) => ("200", Some(value), None),
        Ok(Outcome::Undefined) => ("200", None, None),
        Err(Failure::Evaluation(error)) => ("500", None, Some(ErrorBody::evaluation(error, with_files))),
        Err(Failure::Overloaded) => {
            let message = "too many evaluations are under way";
            ("500", None, Some(ErrorBody { code: "evaluation_overloaded", message, errors: Vec::new() }))
        }
    };
    Item { decision_id: evaluated.id.to_string(), http_status_code: mixed.then_some(status), result, error }
}

/// `common` with the members of `own` over it, object by object (Rego's `object.union(common, own)`).
fn union(common: &Value, own: &Value) -> Value {
    let (Value::Object(common), Value::Object(own)) = (common, own) else { return own.clone() };
    let mut merged: BTreeMap<Value, Value> = common.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in own.iter() {
        let value = match merged.get(name) {
            Some(below) => union(below, value),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    Value::from(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(common: &str, own: &str, want: &str) {
        let value = |text: &str| Value::from_json_str(text).unwrap();
        assert_eq!(union(&value(common), &value(own)), value(want), "{common} {own}");
    }

    #[test]
    fn the_common_input_lies_below_each_input() {
        check(r#"{"a":1,"b":{"c":1,"d":2}}"#, r#"{"b":{"d":3},"e":4}"#, r#"{"a":1,"b":{"c":1,"d":3},"e":4}"#);
        check(r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#);
        check(r#"{"a":1}"#, "null", "null");
        check("[1]", r#"{"a":1}"#, r#"{"a":1}"#);
    }
}
