//! `http.send`: OPA's parameters → [`HttpRequest`], and an answer → OPA's result object, with OPA's sentences for what
//! is wrong. It sends nothing itself; see [`super::super::http`].
//!
//! With `raise_error: false` a failure is a value with `status_code` 0 and `error`, else it is the builtin's error. What
//! claimgate refuses to do, and OPA would have done, ends the evaluation in both cases.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use regorus::{Value, value::Object};
use serde_json::value::RawValue;

use super::{
    super::{
        builtins::BuiltinError,
        document, guard,
        http::{HttpCaching, HttpError, HttpRequest, HttpResponse, HttpTls, PemSource, Session},
        json::{quote, to_opa_json},
    },
    Outcome, operand,
};

/// Every parameter that OPA knows.
const PARAMETERS: [&str; 28] = [
    "body",
    "cache",
    "cache_ignored_headers",
    "caching_mode",
    "enable_redirect",
    "force_cache",
    "force_cache_duration_seconds",
    "force_json_decode",
    "force_yaml_decode",
    "headers",
    "max_retry_attempts",
    "method",
    "raise_error",
    "raw_body",
    "timeout",
    "tls_ca_cert",
    "tls_ca_cert_env_variable",
    "tls_ca_cert_file",
    "tls_client_cert",
    "tls_client_cert_env_variable",
    "tls_client_cert_file",
    "tls_client_key",
    "tls_client_key_env_variable",
    "tls_client_key_file",
    "tls_insecure_skip_verify",
    "tls_server_name",
    "tls_use_system_certs",
    "url",
];
/// OPA's limit for a request that names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Statuses whose answers are remembered within an evaluation, and may be kept beyond it (RFC 9110 §15.1).
const CACHEABLE: [u16; 11] = [200, 203, 204, 206, 300, 301, 404, 405, 410, 414, 501];

/// A failure that `raise_error: false` turns into a value.
enum Failure {
    /// Raised by the builtin: carries the builtin's code and name in its message.
    Builtin(BuiltinError),
    /// Of the executor itself: its message stands alone.
    Bare(String),
    /// Of the port.
    Port(HttpError),
}

pub(super) fn send(args: &[Value]) -> Outcome {
    let parameters = operand::object(args, 0)?;
    let raise = match operand::member(parameters, "raise_error") {
        None => true,
        Some(Value::Bool(raise)) => *raise,
        Some(_) => return Err(operand::failed("invalid value for raise_error field")),
    };
    match answer(parameters) {
        Ok(value) => Ok(value),
        Err(Failure::Builtin(error @ (BuiltinError::Limit(_) | BuiltinError::Refused(_)))) => Err(error),
        Err(Failure::Port(HttpError::Refused(message))) => Err(BuiltinError::Refused(message)),
        Err(Failure::Port(error @ HttpError::Deadline)) => Err(BuiltinError::Limit(error.to_string())),
        Err(failure) if raise => Err(failure.raised()),
        Err(failure) => Ok(failure.value()),
    }
}

fn answer(parameters: &Object) -> Result<Value, Failure> {
    names(parameters).map_err(Failure::Builtin)?;
    let key = key(parameters)?;
    let caching = caching(parameters).map_err(Failure::Builtin)?;
    let [json, yaml] = ["force_json_decode", "force_yaml_decode"].map(|name| flag(parameters, name));
    let (json, yaml) = (json.map_err(Failure::Builtin)?, yaml.map_err(Failure::Builtin)?);
    let answer = match Session::remembered(&key) {
        Some(answer) => answer,
        None => {
            let request = request(parameters, key, caching)?;
            let answer = Session::ask(&request);
            let keep = request.caching.is_some()
                || answer.as_ref().map_or(true, |answer| CACHEABLE.contains(&answer.status_code));
            if keep {
                Session::remember(&request.key, &answer);
            }
            answer
        }
    };
    let response: Arc<HttpResponse> = answer.map_err(Failure::Port)?;
    result(&response, json, yaml).map_err(Failure::Builtin)
}

// === parameters ===

/// Are its members those of a request?
pub(super) fn names(parameters: &Object) -> Result<(), BuiltinError> {
    let set = |names: Vec<String>| format!("{{{}}}", names.join(", "));
    let unknown = parameters.iter_sorted().filter(|(name, _)| match name {
        Value::String(name) => !PARAMETERS.contains(&&**name),
        _ => true,
    });
    let unknown: Vec<String> = unknown.map(|(name, _)| to_opa_json(name)).collect();
    if !unknown.is_empty() {
        let message = format!("operand 1 invalid request parameters(s): {}", set(unknown));
        return Err(BuiltinError::Type(message));
    }
    let missing = ["method", "url"].into_iter().filter(|name| operand::member(parameters, name).is_none());
    let missing: Vec<String> = missing.map(quote).collect();
    if !missing.is_empty() {
        let message = format!("operand 1 missing required request parameters(s): {}", set(missing));
        return Err(BuiltinError::Type(message));
    }
    Ok(())
}

/// What makes two calls the same: all parameters, without the headers that the call says do not matter.
fn key(parameters: &Object) -> Result<String, Failure> {
    let mut members: BTreeMap<Value, Value> =
        parameters.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let ignored = members.remove(&Value::from("cache_ignored_headers")).filter(|ignored| *ignored != Value::Null);
    if let (Some(ignored), Some(Value::Object(headers))) = (ignored, operand::member(parameters, "headers")) {
        let bad = || Failure::Bare("cache_ignored_headers must be an array of strings".to_owned());
        let ignored = operand::elements(&ignored).ok_or_else(bad)?.into_iter().cloned().collect::<Vec<_>>();
        if !ignored.iter().all(|name| matches!(name, Value::String(_))) {
            return Err(bad());
        }
        let kept = headers.iter().filter(|(name, _)| !ignored.contains(name));
        let kept: BTreeMap<Value, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        members.insert(Value::from("headers"), Value::from(kept));
    }
    Ok(to_opa_json(&Value::from(members)))
}

fn caching(parameters: &Object) -> Result<Option<HttpCaching>, BuiltinError> {
    let cache = flag(parameters, "cache")?;
    if flag(parameters, "force_cache")? {
        let seconds = operand::member(parameters, "force_cache_duration_seconds").ok_or_else(|| {
            operand::failed("'force_cache' set but 'force_cache_duration_seconds' parameter is missing")
        })?;
        let text = to_opa_json(seconds);
        let seconds: i32 = text
            .parse()
            .map_err(|_| operand::failed(format!("strconv.ParseInt: parsing {}: invalid syntax", quote(&text))))?;
        let force = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
        return Ok(Some(HttpCaching { force }));
    }
    Ok(cache.then_some(HttpCaching { force: None }))
}

/// A parameter that must be a boolean when it is there.
fn flag(parameters: &Object, name: &str) -> Result<bool, BuiltinError> {
    match operand::member(parameters, name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(operand::failed(format!("invalid value for {} field", quote(name)))),
    }
}

/// A parameter that Go reads as `true`, `false`, 1 or 0.
fn go_bool(parameters: &Object, name: &str) -> Result<Option<bool>, BuiltinError> {
    let Some(value) = operand::member(parameters, name) else { return Ok(None) };
    match to_opa_json(value).as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        text => Err(operand::failed(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text)))),
    }
}

/// A parameter that must be text when it is there. OPA cuts quotes off its ends.
fn text(parameters: &Object, name: &str) -> Result<Option<String>, BuiltinError> {
    match operand::member(parameters, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim_matches('"').to_owned())),
        Some(_) => Err(operand::failed(format!("{} must be a string", quote(name)))),
    }
}

fn pem(parameters: &Object, name: &str) -> Result<PemSource, BuiltinError> {
    let part = |suffix: &str| {
        let text = text(parameters, &format!("{name}{suffix}"))?;
        Ok(text.filter(|text| !text.is_empty()))
    };
    Ok(PemSource { inline: part("")?, file: part("_file")?, env: part("_env_variable")? })
}

fn timeout(parameters: &Object) -> Result<Option<Duration>, BuiltinError> {
    let nanoseconds = match operand::member(parameters, "timeout") {
        None => return Ok(Some(DEFAULT_TIMEOUT)),
        Some(value @ Value::Number(number)) => number.as_i64().ok_or_else(|| {
            operand::failed(format!("invalid timeout number value {}, must be int64", to_opa_json(value)))
        })?,
        Some(Value::String(text)) => match text.parse::<i64>() {
            Ok(nanoseconds) => nanoseconds,
            Err(_) => {
                let parsed = guard::engine("time.parse_duration_ns", &[Value::String(text.clone())]);
                let invalid = || operand::failed(format!("invalid timeout value {}", quote(text)));
                parsed.ok().and_then(|value| value.as_i64().ok()).ok_or_else(invalid)?
            }
        },
        Some(other) => {
            let got = operand::type_name(other);
            let message = format!("operand 1 'timeout' must be one of {{string, number}} but got {got}");
            return Err(BuiltinError::Type(message));
        }
    };
    // As in Go, nothing and less is no limit.
    Ok(u64::try_from(nanoseconds).ok().filter(|ns| *ns > 0).map(Duration::from_nanos))
}

fn headers(parameters: &Object) -> Result<Vec<(String, String)>, BuiltinError> {
    let Some(value) = operand::member(parameters, "headers") else { return Ok(Vec::new()) };
    let Value::Object(members) = value else { return Err(operand::failed("invalid type for headers key")) };
    let mut headers: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (name, value) in members.iter_sorted() {
        let Value::String(value) = value else {
            let shown = quote(&to_opa_json(value));
            return Err(operand::failed(format!("invalid type for headers value {shown}")));
        };
        let name = match name {
            Value::String(name) => name.to_string(),
            other => to_opa_json(other),
        };
        headers.insert(name.to_ascii_lowercase(), (name, value.to_string()));
    }
    Ok(headers.into_values().collect())
}

fn request(parameters: &Object, key: String, caching: Option<HttpCaching>) -> Result<HttpRequest, Failure> {
    let retries = match operand::member(parameters, "max_retry_attempts") {
        None => 0,
        Some(value) => {
            let number = if let Value::Number(number) = value { number.as_u64() } else { None };
            number.and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
                let shown = to_opa_json(value);
                Failure::Bare(format!("invalid value {shown} for field \"max_retry_attempts\""))
            })?
        }
    };
    let parts = || -> Result<HttpRequest, BuiltinError> {
        let headers = headers(parameters)?;
        let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, host)| host.clone());
        let body = match (text(parameters, "raw_body")?, operand::member(parameters, "body")) {
            (Some(raw), _) => raw.into_bytes(),
            (None, Some(body)) => to_opa_json(body).into_bytes(),
            (None, None) => Vec::new(),
        };
        Ok(HttpRequest {
            method: text(parameters, "method")?.unwrap_or_default().to_uppercase(),
            url: text(parameters, "url")?.unwrap_or_default(),
            headers,
            body,
            follow_redirects: go_bool(parameters, "enable_redirect")?.unwrap_or_default(),
            tls: HttpTls {
                use_system_certs: go_bool(parameters, "tls_use_system_certs")?,
                insecure_skip_verify: go_bool(parameters, "tls_insecure_skip_verify")?.unwrap_or_default(),
                server_name: text(parameters, "tls_server_name")?.filter(|name| !name.is_empty()).or(host),
                ca_cert: pem(parameters, "tls_ca_cert")?,
                client_cert: pem(parameters, "tls_client_cert")?,
                client_key: pem(parameters, "tls_client_key")?,
            },
            timeout: timeout(parameters)?,
            retries,
            caching,
            key,
            now_ns: guard::now_ns()?,
            time_left: guard::time_left(),
        })
    };
    parts().map_err(Failure::Builtin)
}

// === results ===

fn result(response: &HttpResponse, json: bool, yaml: bool) -> Outcome {
    let content_type = response.headers.iter().find(|(name, _)| name == "content-type");
    let content_type = content_type.and_then(|(_, values)| values.first()).map_or("", String::as_str);
    let raw = String::from_utf8_lossy(&response.body);
    let body = if json || is_json(content_type) {
        decode_json(&raw)?
    } else if yaml || ["application/yaml", "application/x-yaml"].iter().any(|kind| content_type.contains(kind)) {
        decode_yaml(&raw)?
    } else {
        Value::Null
    };
    let list = |values: &Vec<String>| Value::from(values.iter().map(|v| Value::from(v.as_str())).collect::<Vec<_>>());
    let headers = response.headers.iter().map(|(name, values)| (Value::from(name.as_str()), list(values)));
    Ok(operand::record([
        ("status", Value::from(response.status.as_str())),
        ("status_code", Value::from(u64::from(response.status_code))),
        ("body", body),
        ("raw_body", Value::from(&*raw)),
        ("headers", Value::from(headers.collect::<BTreeMap<_, _>>())),
    ]))
}

/// `application/json` or `application/…+json`, with well-formed parameters.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';');
    let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let well_formed = parts.all(|parameter| parameter.trim().is_empty() || parameter.contains('='));
    let subtype = kind.strip_prefix("application/");
    well_formed && subtype.is_some_and(|name| !name.contains('/') && (name == "json" || name.ends_with("+json")))
}

/// The first value of the text, as OPA reads it; what is no JSON is null. JSON that we do not take (a number of a
/// million digits) is no null: a rule that asks for what is missing could allow what OPA denies.
fn decode_json(text: &str) -> Outcome {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>();
    let whole = values.next().and_then(Result::ok);
    let Some(first) = whole.as_deref().map(RawValue::get).or_else(|| leading_scalar(text)) else {
        return Ok(Value::Null);
    };
    document::parse_json(first).map_err(|error| BuiltinError::Limit(format!("body cannot be read: {error}")))
}

/// The number or word that a text starts with, whatever comes after it: Go's reader looks no further.
fn leading_scalar(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if let Some(word) = ["true", "false", "null"].into_iter().find(|word| text.starts_with(word)) {
        return Some(word);
    }
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = usize::from(text.starts_with('-'));
    end += match bytes.get(end)? {
        b'0' => 1,
        _ => Some(digits(end)).filter(|count| *count > 0)?,
    };
    if bytes.get(end) == Some(&b'.') {
        end += 1 + Some(digits(end + 1)).filter(|count| *count > 0)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        end += 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end += Some(digits(end)).filter(|count| *count > 0)?;
    }
    text.get(..end)
}

/// What is no YAML is null in OPA too; but the readers differ in what they take, so doubt ends the evaluation.
fn decode_yaml(text: &str) -> Outcome {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    document::parse_yaml(text).map_err(|error| BuiltinError::Limit(format!("body cannot be read: {error}")))
}

// === impl Failure ===

impl Failure {
    /// As the builtin's error.
    fn raised(self) -> BuiltinError {
        match self {
            Self::Builtin(error) => error,
            Self::Bare(message) => BuiltinError::Failed(message),
            Self::Port(HttpError::Network { message, raised }) => BuiltinError::Failed(raised.unwrap_or(message)),
            Self::Port(error) => BuiltinError::Failed(error.to_string()),
        }
    }

    /// As a value. OPA writes the place of the call in front of the message of a builtin's error; a builtin does not
    /// know it here.
    fn value(self) -> Value {
        let (code, message) = match self {
            Self::Port(HttpError::Network { message, .. }) => ("eval_http_send_network_error", message),
            Self::Port(error) => ("eval_http_send_internal_error", format!("eval_builtin_error: http.send: {error}")),
            Self::Builtin(BuiltinError::Type(message)) => {
                ("eval_http_send_internal_error", format!("eval_type_error: http.send: {message}"))
            }
            Self::Builtin(error) => {
                ("eval_http_send_internal_error", format!("eval_builtin_error: http.send: {error}"))
            }
            Self::Bare(message) => ("eval_http_send_internal_error", message),
        };
        let error = operand::record([("code", Value::from(code)), ("message", Value::from(message))]);
        operand::record([("status_code", Value::from(0_u64)), ("error", error)])
    }
}
