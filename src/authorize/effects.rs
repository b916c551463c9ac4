//! What a decision object asks to be done besides allowing or denying: reasons, headers, status, body, metadata.
//!
//! Names are those of opa-envoy-plugin where it has one. Everything is checked here, once: a header that could not be
//! sent, or a status that no proxy accepts, is an error and never a silent omission.

use http::{HeaderName, HeaderValue, StatusCode};

use super::Challenge;
use crate::policy::Value;

/// The checked members of a decision object. `Default` is: nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// `reason` (a string) and `reasons` (an array or set of strings), in that order.
    pub reasons: Vec<String>,
    /// `headers`: on allow they go to the application with the request, on deny to the client with the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `response_headers_to_add`: they go to the client with the application's answer.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// `request_headers_to_remove`: the application must not see them.
    pub remove_headers: Vec<HeaderName>,
    /// `http_status` of a deny: 3xx, 4xx or 5xx.
    pub status: Option<StatusCode>,
    /// `challenge` of a deny: what the client has to do first.
    pub challenge: Option<Challenge>,
    /// `body` of a deny.
    pub body: Option<String>,
    /// `dynamic_metadata`, an object for proxies that take one.
    pub dynamic_metadata: Option<Value>,
    /// `obligations`, as policy wrote them.
    pub obligations: Option<Value>,
}

/// A member of the decision object has the wrong shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` {problem}")]
pub struct EffectsError {
    /// The member's name.
    pub member: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Effects {
    /// Reads the members of a decision object; unknown members are left to the application.
    ///
    /// # Errors
    /// The first member whose shape is wrong.
    pub(super) fn parse(decision: &Value) -> Result<Self, EffectsError> {
        let member = |name: &'static str| match decision {
            Value::Object(members) => members.get(&Value::from(name)),
            _ => None,
        };
        let mut reasons = Vec::new();
        match member("reason") {
            None | Some(Value::Null) => {}
            Some(Value::String(reason)) => reasons.push(reason.to_string()),
            Some(_) => return Err(problem("reason", "is not a string")),
        }
        if let Some(value) = member("reasons") {
            reasons.extend(strings("reasons", value)?);
        }
        Ok(Self {
            reasons,
            headers: member("headers").map_or(Ok(Vec::new()), |v| headers("headers", v))?,
            response_headers: member("response_headers_to_add")
                .map_or(Ok(Vec::new()), |v| headers("response_headers_to_add", v))?,
            remove_headers: member("request_headers_to_remove").map_or(Ok(Vec::new()), remove_headers)?,
            status: member("http_status").map(status).transpose()?,
            challenge: member("challenge").map(Challenge::parse).transpose()?,
            body: match member("body") {
                None | Some(Value::Null) => None,
                Some(Value::String(body)) => Some(body.to_string()),
                Some(_) => return Err(problem("body", "is not a string")),
            },
            dynamic_metadata: match member("dynamic_metadata") {
                None => None,
                Some(value @ Value::Object(_)) => Some(value.clone()),
                Some(_) => return Err(problem("dynamic_metadata", "is not an object")),
            },
            obligations: member("obligations").cloned(),
        })
    }
}

pub(super) fn problem(member: &'static str, problem: &'static str) -> EffectsError {
    EffectsError { member, problem }
}

fn strings(member: &'static str, value: &Value) -> Result<Vec<String>, EffectsError> {
    let text = |item: &Value| match item {
        Value::String(text) => Ok(text.to_string()),
        _ => Err(problem(member, "holds something that is not a string")),
    };
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Set(items) => items.iter().map(text).collect(),
        _ => Err(problem(member, "is neither an array nor a set of strings")),
    }
}

/// `{name: string | [string]}`, or a list of such objects.
fn headers(member: &'static str, value: &Value) -> Result<Vec<(HeaderName, HeaderValue)>, EffectsError> {
    let mut all = Vec::new();
    match value {
        Value::Array(objects) => {
            for object in objects.iter() {
                append_headers(member, object, &mut all)?;
            }
        }
        object => append_headers(member, object, &mut all)?,
    }
    Ok(all)
}

fn append_headers(
    member: &'static str,
    object: &Value,
    all: &mut Vec<(HeaderName, HeaderValue)>,
) -> Result<(), EffectsError> {
    let Value::Object(members) = object else {
        return Err(problem(member, "is neither an object nor an array of objects"));
    };
    for (name, value) in members.iter() {
        let name = header_name(member, name)?;
        let mut append = |value: &Value| match value {
            Value::String(text) => {
                let value = HeaderValue::from_str(text)
                    .map_err(|_| problem(member, "holds a value that a header cannot carry"))?;
                all.push((name.clone(), value));
                Ok(())
            }
            _ => Err(problem(member, "holds a value that is not a string")),
        };
        match value {
            Value::Array(values) => values.iter().try_for_each(append)?,
            value => append(value)?,
        }
    }
    Ok(())
}

fn header_name(member: &'static str, name: &Value) -> Result<HeaderName, EffectsError> {
    let Value::String(name) = name else {
        return Err(problem(member, "holds a header name that is not a string"));
    };
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| problem(member, "holds a name that is not a header name"))?;
    // A proxy copies these headers; framing and hop-by-hop headers would let a policy corrupt the connection.
    const FORBIDDEN: [&str; 8] = [
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "proxy-connection",
    ];
    if FORBIDDEN.contains(&name.as_str()) {
        return Err(problem(member, "sets a header that frames the message; the proxy owns it"));
    }
    Ok(name)
}

fn remove_headers(value: &Value) -> Result<Vec<HeaderName>, EffectsError> {
    const MEMBER: &str = "request_headers_to_remove";
    let names = strings(MEMBER, value)?;
    // They are sent too, as empty headers: an empty `transfer-encoding` would leave the proxy without an answer.
    names.into_iter().map(|name| header_name(MEMBER, &Value::from(name))).collect()
}

fn status(value: &Value) -> Result<StatusCode, EffectsError> {
    let code = match value {
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        _ => None,
    };
    match code.map(StatusCode::from_u16) {
        // A deny with a 1xx or 2xx would be read as an allow by a proxy.
        Some(Ok(status)) if (300..600).contains(&status.as_u16()) => Ok(status),
        _ => Err(problem("http_status", "is not a status between 300 and 599")),
    }
}
