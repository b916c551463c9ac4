//! Outcome → verdict, as a table.

use super::*;

fn check(outcome: &str, want: &str) {
    let outcome = match outcome {
        "undefined" => Outcome::Undefined,
        json => Outcome::Value(Value::from_json_str(json).unwrap()),
    };
    assert_eq!(decide(Ok(&outcome)).code(), want, "{outcome:?}");
}

#[test]
fn only_exact_true_makes_a_permit() {
    for (outcome, want) in [
        ("true", "ok"),
        (r#"{"allow":true}"#, "ok"),
        (r#"{"allowed":true}"#, "ok"),
        (r#"{"allow":true,"allowed":true}"#, "ok"),
        (r#"{"allow":true,"reason":"owner","headers":{"x-user":"u"},"unknown":[1]}"#, "ok"),
        ("false", "policy_denied"),
        (r#"{"allow":false,"reasons":["a","b"]}"#, "policy_denied"),
        (r#"{"allow":false,"http_status":200}"#, "policy_denied"),
        ("undefined", "decision_undefined"),
        ("null", "decision_malformed"),
        ("1", "decision_malformed"),
        (r#""true""#, "decision_malformed"),
        ("[true]", "decision_malformed"),
        ("{}", "decision_malformed"),
        (r#"{"allow":"true"}"#, "decision_malformed"),
        (r#"{"allow":1}"#, "decision_malformed"),
        (r#"{"allow":null,"allowed":true}"#, "decision_malformed"),
        (r#"{"allow":true,"allowed":false}"#, "decision_malformed"),
        (r#"{"allow":true,"headers":{"bad name":"v"}}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"headers":{"x":"a\nb"}}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"headers":{"content-length":"0"}}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"request_headers_to_remove":["Transfer-Encoding"]}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"request_headers_to_remove":["bad name"]}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"request_headers_to_remove":["x-user"]}"#, "ok"),
        (r#"{"allow":true,"headers":[{"x":["1","2"]},7]}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"http_status":200}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"reason":5}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"challenge":{"error":"insufficient_scope"}}"#, "decision_effects_malformed"),
        (r#"{"allow":true,"challenge":null}"#, "decision_effects_malformed"),
    ] {
        check(outcome, want);
    }
}

#[test]
fn a_denial_carries_what_policy_wants_sent() {
    let value = Value::from_json_str(
        r#"{"allow":false,"reason":"suspended","reasons":["ask an admin"],"http_status":404,"body":"no",
            "headers":{"X-Why":["a","b"]}}"#,
    )
    .unwrap();
    let Verdict::Deny(denial) = decide(Ok(&Outcome::Value(value))) else { panic!("allowed") };
    assert_eq!(denial.effects.reasons, ["suspended", "ask an admin"]);
    assert_eq!(denial.effects.status, Some(StatusCode::NOT_FOUND));
    assert_eq!(denial.effects.body.as_deref(), Some("no"));
    assert_eq!(denial.effects.headers.len(), 2);
}

#[test]
fn a_challenge_is_whole_and_harmless_or_none() {
    let check = |challenge: &str, want: Option<(u16, &str)>| {
        let value = format!(r#"{{"allow":false,"reason":"r","challenge":{challenge}}}"#);
        let value = Value::from_json_str(&value).unwrap();
        let Verdict::Deny(denial) = decide(Ok(&Outcome::Value(value))) else { panic!("allowed") };
        let got = denial.effects.challenge.map(|challenge| {
            let parameters = challenge.parameters();
            let shown: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (challenge.status().as_u16(), shown.join(", "))
        });
        assert_eq!(got.as_ref().map(|(status, shown)| (*status, shown.as_str())), want, "{challenge}");
    };
    check(
        r#"{"error":"insufficient_user_authentication","acr_values":"urn:a urn:b","max_age":300}"#,
        Some((401, "error=insufficient_user_authentication, acr_values=urn:a urn:b, max_age=300")),
    );
    check(
        r#"{"error":"insufficient_user_authentication","error_description":"a second factor, please","max_age":0}"#,
        Some((401, "error=insufficient_user_authentication, error_description=a second factor, please, max_age=0")),
    );
    check(
        r#"{"error":"insufficient_scope","scope":"folders:write a"}"#,
        Some((403, "error=insufficient_scope, scope=folders:write a")),
    );
    check(r#"{"error":"insufficient_scope"}"#, Some((403, "error=insufficient_scope")));
    for broken in [
        "null",
        "[]",
        "\"insufficient_scope\"",
        "{}",
        r#"{"error":"invalid_token"}"#,
        r#"{"error":"Insufficient_scope"}"#,
        r#"{"error":["insufficient_scope"]}"#,
        r#"{"error":"insufficient_scope","scope":"a\" , error=\"b"}"#,
        r#"{"error":"insufficient_scope","scope":"a\\b"}"#,
        r#"{"error":"insufficient_scope","scope":"a\nb"}"#,
        r#"{"error":"insufficient_scope","scope":"é"}"#,
        r#"{"error":"insufficient_scope","scope":""}"#,
        r#"{"error":"insufficient_scope","scope":"a  b"}"#,
        r#"{"error":"insufficient_scope","scope":["a"]}"#,
        r#"{"error":"insufficient_scope","max_age":1}"#,
        r#"{"error":"insufficient_scope","realm":"x"}"#,
        r#"{"error":"insufficient_user_authentication","scope":"a"}"#,
        r#"{"error":"insufficient_user_authentication","max_age":-1}"#,
        r#"{"error":"insufficient_user_authentication","max_age":1.5}"#,
        r#"{"error":"insufficient_user_authentication","max_age":"300"}"#,
        r#"{"error":"insufficient_user_authentication","acr_values":7}"#,
        r#"{"error":"insufficient_user_authentication","error_description":"a\"b"}"#,
    ] {
        check(broken, None);
    }
}

use http::StatusCode;
