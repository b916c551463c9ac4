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

use http::StatusCode;
