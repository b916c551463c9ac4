//! `providers.aws.sign_req`: a request object with the headers of AWS Signature Version 4. It sends nothing, and the
//! secret key is in nothing that it returns.

use std::collections::BTreeMap;

use aws_lc_rs::{digest, hmac};
use chrono::DateTime;
use regorus::{Value, value::Object};

use super::super::{builtins::BuiltinError, json::quote, json::to_opa_json};
use super::{
    Outcome, go_url, http,
    operand::{self, member, wrong_type},
};

const REQUIRED: [&str; 4] = ["aws_access_key", "aws_region", "aws_secret_access_key", "aws_service"];
/// Headers that proxies change.
const UNSIGNED: [&str; 3] = ["authorization", "user-agent", "x-amzn-trace-id"];
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

pub(super) fn sign_request(args: &[Value]) -> Outcome {
    let request = operand::object(args, 0)?;
    // OPA counts every operand of this builtin as its first.
    let Some(Value::Object(config)) = args.get(1) else { return Err(wrong_type(0, "object", args.get(1))) };
    check_config(config)?;
    let Some(time @ Value::Number(_)) = args.get(2) else { return Err(wrong_type(0, "number", args.get(2))) };
    let nanos = to_opa_json(time).parse::<i64>();
    let nanos = nanos.map_err(|_| type_error("operand 3 could not convert time_ns value into a unix timestamp"))?;
    http::names(request)?;
    let headers = match member(request, "headers") {
        None => BTreeMap::new(),
        Some(Value::Object(headers)) => {
            headers.iter().map(|(name, value)| (text(Some(name)), text(Some(value)))).collect()
        }
        Some(other) => {
            return Err(type_error(format!("operand 0 must be object but got {}", operand::type_name(other))));
        }
    };
    let (method, url) = (member(request, "method"), member(request, "url"));
    let wrong =
        [("method", method), ("url", url)].into_iter().filter(|(_, value)| !matches!(value, Some(Value::String(_))));
    let wrong = names(wrong.map(|(name, _)| name));
    if let Some(wrong) = wrong {
        return Err(type_error(format!("operand 1 invalid values for required request parameters(s): {wrong}")));
    }
    let url = go_url::parse(&text(url))?;
    let body = match (member(request, "raw_body"), member(request, "body")) {
        (Some(raw), _) => text(Some(raw)),
        (None, Some(body)) => to_opa_json(body),
        (None, None) => String::new(),
    };
    let content = match member(config, "disable_payload_signing") {
        None | Some(Value::Bool(false)) => hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref()),
        Some(Value::Bool(true)) => UNSIGNED_PAYLOAD.to_owned(),
        Some(_) => return Err(type_error("operand 2 invalid value for 'disable_payload_signing' in AWS config")),
    };
    let signed = sign(config, &text(method), &url, &headers, &content, nanos);
    let signed = headers.into_iter().chain(signed).map(|(name, value)| (Value::from(name), Value::from(value)));
    let mut members: BTreeMap<Value, Value> =
        request.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    members.insert(Value::from("headers"), Value::from(signed.collect::<BTreeMap<_, _>>()));
    Ok(Value::from(members))
}

/// The headers to add: `Authorization`, and those that AWS wants.
fn sign(
    config: &Object,
    method: &str,
    url: &go_url::Url,
    headers: &BTreeMap<String, String>,
    content: &str,
    nanos: i64,
) -> BTreeMap<String, String> {
    let of = |name: &str| text(member(config, name));
    let (service, region, token) = (of("aws_service"), of("aws_region"), of("aws_session_token"));
    let now = DateTime::from_timestamp_nanos(nanos);
    let (day, time) = (now.format("%Y%m%d").to_string(), now.format("%Y%m%dT%H%M%SZ").to_string());

    let mut added = BTreeMap::from([("host", url.host.clone()), ("x-amz-date", time.clone())]);
    if matches!(service.as_str(), "s3" | "glacier") {
        added.insert("x-amz-content-sha256", content.to_owned());
    }
    if !token.is_empty() {
        added.insert("x-amz-security-token", token);
    }
    let mut signed: BTreeMap<String, &str> =
        added.iter().map(|(name, value)| ((*name).to_owned(), value.as_str())).collect();
    for (name, value) in headers {
        let name = name.to_lowercase();
        if !UNSIGNED.contains(&name.as_str()) {
            signed.insert(name, value);
        }
    }
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = signed.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let canonical = format!("{method}\n{}\n{}\n{lines}\n{names}\n{content}", url.escaped_path(), url.raw_query);

    let scope = format!("{day}/{region}/{service}/aws4_request");
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let key = format!("AWS4{}", of("aws_secret_access_key")).into_bytes();
    let parts = [&day, &region, &service, "aws4_request", &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}")];
    let signature = parts
        .into_iter()
        .fold(key, |key, part| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={}",
        of("aws_access_key"),
        hex(&signature)
    );
    let mut added: BTreeMap<String, String> = added.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    added.insert("Authorization".to_owned(), authorization);
    added
}

fn check_config(config: &Object) -> Result<(), BuiltinError> {
    let missing = names(REQUIRED.into_iter().filter(|name| member(config, name).is_none()));
    if let Some(missing) = missing {
        return Err(type_error(format!("operand 2 missing required AWS config parameters(s): {missing}")));
    }
    let wrong = names(REQUIRED.into_iter().filter(|name| !matches!(member(config, name), Some(Value::String(_)))));
    if let Some(wrong) = wrong {
        return Err(type_error(format!("operand 2 invalid values for required AWS config parameters(s): {wrong}")));
    }
    Ok(())
}

/// The text of a string; empty for anything else.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// As a set of Rego, if there are any.
fn names<'n, I: Iterator<Item = &'n str>>(names: I) -> Option<String> {
    let names: Vec<String> = names.map(quote).collect();
    if names.is_empty() { None } else { Some(format!("{{{}}}", names.join(", "))) }
}

fn type_error(message: impl Into<String>) -> BuiltinError {
    BuiltinError::Type(message.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        r#"{"aws_access_key": "A", "aws_region": "r", "aws_secret_access_key": "S", "aws_service": "x"}"#;

    /// The name of the headers that are signed, or the message.
    fn call(request: &str, config: &str, time: &str) -> String {
        let args = [request, config, time].map(|json| Value::from_json_str(json).unwrap());
        match sign_request(&args) {
            Ok(signed) => {
                let authorization = signed["headers"]["Authorization"].as_string().unwrap().to_string();
                assert!(!to_opa_json(&signed).contains("\"S\""));
                authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap().to_owned()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused_with_opas_sentence() {
        let request = r#"{"method": "GET", "url": "http://h"}"#;
        for (request, config, time, want) in [
            (request, CONFIG, "0", "host;x-amz-date"),
            (request, CONFIG, "-9223372036854775808", "host;x-amz-date"),
            (request, CONFIG, "9223372036854775808", "operand 3 could not convert time_ns value into a unix timestamp"),
            (request, CONFIG, "1.5", "operand 3 could not convert time_ns value into a unix timestamp"),
            (request, CONFIG, "\"1\"", "operand 1 must be number but got string"),
            (request, "[]", "0", "operand 1 must be object but got array"),
            (
                request,
                r#"{"aws_access_key": "A", "aws_region": 1, "aws_secret_access_key": null, "aws_service": "x"}"#,
                "0",
                r#"operand 2 invalid values for required AWS config parameters(s): {"aws_region", "aws_secret_access_key"}"#,
            ),
            (r#"{"method": "GET"}"#, CONFIG, "0", r#"operand 1 missing required request parameters(s): {"url"}"#),
            (
                r#"{"method": "GET", "url": "http://h", "headers": []}"#,
                CONFIG,
                "0",
                "operand 0 must be object but got array",
            ),
            (
                r#"{"method": "GET", "url": "http://h", "headers": {"A": 1, "User-Agent": "u", "AUTHORIZATION": "a"}}"#,
                CONFIG,
                "0",
                "a;host;x-amz-date",
            ),
            (
                r#"{"method": "GET", "url": "http://h/%zz"}"#,
                CONFIG,
                "0",
                r#"parse "http://h/%zz": invalid URL escape "%zz""#,
            ),
        ] {
            assert_eq!(call(request, config, time), want, "{request} {config} {time}");
        }
    }
}
