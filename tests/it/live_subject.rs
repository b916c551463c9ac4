//! The caller's current record: what it says counts on the next request, on every door, whatever the token says.

use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::Answer,
    setup::{Server, Setup, millis},
    tokens::{Issuer, now},
};

/// Policy lets everybody in, so that whoever is kept out was kept out before it.
const POLICY: &str = "package p\n\nallow := true\n\nlive := input.live\n";

fn server(issuer: &Issuer, subject: &str, users: &Value) -> Server {
    let config = format!(
        "{}policy: {{bundles: [{{name: b, path: bundle}}], entrypoint: p/allow}}\nsubject: {{from: data.users{subject}}}\n\
         forward_auth: {{trusted_peers: [127.0.0.1]}}\nreload: {{settle: 10ms, debounce: 5ms}}\n\
         decision_log: {{to: file, path: decisions.log}}\n",
        issuer.section()
    );
    let data = json!({"users": users}).to_string();
    Setup::new(&config).file("bundle/p.rego", POLICY).file("bundle/data.json", &data).serve()
}

fn opa(server: &Server, token: &str) -> Answer {
    server.send("POST", "/v1/data/p/allow", &[("authorization", &format!("Bearer {token}"))], "{}")
}

/// Every way to ask, which all answer alike.
fn status(server: &Server, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let authorization = ("authorization", bearer.as_str());
    let forwarded = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/a"), authorization];
    let original = [("x-original-method", "GET"), ("x-original-uri", "/a"), authorization];
    let answers = [
        opa(server, token),
        server.send("GET", "/v1/data/p/allow", &[authorization], ""),
        server.send("POST", "/v0/data/p/allow", &[authorization], "{}"),
        server.send("POST", "/v1/batch/data/p/allow", &[authorization], r#"{"inputs":{"a":{}}}"#),
        server.send("GET", "/forward-auth/traefik", &forwarded, ""),
        server.send("GET", "/forward-auth/caddy", &forwarded, ""),
        server.send("GET", "/forward-auth/nginx", &original, ""),
    ];
    for answer in &answers {
        // nginx takes no body with a yes.
        let status = if answer.status == 204 { 200 } else { answer.status };
        assert_eq!(status, answers[0].status, "{answers:#?}");
        if answer.status == 403 {
            assert_eq!(answer.json()["code"], "forbidden");
            assert!(answer.header("www-authenticate").is_none(), "no other token would help: {answer:?}");
            assert!(!answer.text().contains("suspended") && !answer.text().contains("record"), "{answer:?}");
        }
    }
    answers[0].status
}

#[test]
fn a_record_keeps_its_subject_out_before_policy_is_asked() {
    let issuer = Issuer::new();
    let users = json!({
        "active": {"status": "active"}, "suspended": {"status": "Suspended"}, "deleted": {"status": "DELETED"},
        "unheard": {"status": "on holiday"}, "bare": {}, "null": null, "flat": "active",
        "late": {"status": "active", "valid_after": now() + 60}, "early": {"valid_after": now() - 60},
        "text": {"valid_after": "2001-01-01T00:00:00Z"}, "odd": {"valid_after": "yesterday"},
        "milliseconds": {"valid_after": (now() - 60) * 1000}, "open": {"valid_after": null},
    });
    let server = server(&issuer, ", status: status", &users);
    for (subject, want, code) in [
        ("active", 200, ""),
        ("unheard", 200, ""),
        ("bare", 200, ""),
        ("early", 200, ""),
        ("text", 200, ""),
        ("open", 200, ""),
        ("suspended", 403, "subject_suspended"),
        ("deleted", 403, "subject_deleted"),
        ("nobody", 403, "subject_unknown"),
        ("null", 403, "subject_unknown"),
        ("flat", 403, "subject_record_malformed"),
        ("odd", 403, "subject_record_malformed"),
        ("milliseconds", 403, "subject_record_malformed"),
        ("late", 401, "revoked_subject"),
    ] {
        let token = issuer.token(subject);
        let before = server.metric("claimgate_decisions_total", &[code]);
        assert_eq!(status(&server, &token), want, "{subject}");
        assert_eq!(status(&server, &token), want, "{subject}, from the cache");
        if want != 200 {
            let outcome = if want == 403 { "\"deny\"" } else { "\"rejected\"" };
            assert!(server.metric("claimgate_decisions_total", &[code, outcome]) >= before + 14.0, "{subject}");
        }
    }
    assert_eq!(status(&server, &issuer.token_with(json!({"sub": "early", "iat": null}))), 401, "never issued");
    assert_eq!(status(&server, &issuer.token_with(json!({"sub": null}))), 403, "nobody's token has no record");

    assert!(server.telemetry.flush(millis(10_000)));
    let log = std::fs::read_to_string(server.directory.path().join("decisions.log")).unwrap();
    let event = log.lines().find(|line| line.contains("subject_suspended")).unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    assert!(event.to_string().contains("\"suspended\""), "the event names the subject: {event}");
    assert!(event.get("input").is_none_or(Value::is_null), "policy was not asked: {event}");
}

#[test]
fn live_data_outranks_the_token_at_once() {
    let issuer = Issuer::new();
    let server = server(&issuer, ", status: status, unknown: claims_only", &json!({"alice": {"status": "active"}}));
    let token = issuer.token_with(json!({"sub": "alice", "role": "admin"}));
    assert_eq!(status(&server, &token), 200);
    assert_eq!(status(&server, &issuer.token("nobody")), 200, "policy decides on claims only");
    let live = |token: &str| {
        let bearer = format!("Bearer {token}");
        server.send("POST", "/v1/data/p/live", &[("authorization", &bearer)], "{}").json()["result"].take()
    };
    assert_eq!(live(&token), json!({"status": "active"}));
    assert_eq!(live(&issuer.token("nobody")), Value::Null);

    server.replace("bundle/data.json", r#"{"users": {"alice": {"status": "suspended"}}}"#);
    eventually("the suspension counts", || (opa(&server, &token).status == 403).then_some(()));
    assert_eq!(status(&server, &token), 403);
    let epoch = json!({"users": {"alice": {"status": "active", "valid_after": now() + 5}}}).to_string();
    server.replace("bundle/data.json", &epoch);
    eventually("the epoch counts", || (opa(&server, &token).status == 401).then_some(()));
    assert_eq!(status(&server, &issuer.token_with(json!({"sub": "alice", "iat": now() + 20}))), 200, "a newer token");
}

#[test]
fn without_a_status_policy_sees_the_record_and_decides() {
    let issuer = Issuer::new();
    let server = server(&issuer, "", &json!({"alice": {"status": "suspended"}, "flat": "text"}));
    for subject in ["alice", "flat", "nobody"] {
        assert_eq!(status(&server, &issuer.token(subject)), 200, "{subject}");
    }
}

#[test]
fn a_switch_that_is_off_keeps_out_as_a_word_does() {
    let issuer = Issuer::new();
    let users = json!({"on": {"active": true}, "off": {"active": false}});
    let server = server(&issuer, ", status: active", &users);
    assert_eq!(status(&server, &issuer.token("on")), 200);
    assert_eq!(status(&server, &issuer.token("off")), 403);
}

#[test]
fn records_that_could_never_be_looked_up_do_not_load() {
    let issuer = Issuer::new();
    let config = format!(
        "{}policy: {{bundles: [{{name: b, path: bundle}}]}}\nsubject: {{from: data.users}}\n",
        issuer.section()
    );
    let check = |data: &str, code: i32, said: &str| {
        let setup = Setup::new(&config).file("bundle/p.rego", POLICY).file("bundle/data.json", data);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_claimgate"));
        let output = command.current_dir(setup.path()).args(["check", "-c", "claimgate.yaml"]).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{data}: {text}");
        assert!(text.contains(said), "{data}: {text}");
    };
    check(r#"{"users": {}}"#, 0, "");
    check(r#"{"others": {}}"#, 0, "");
    check(r#"{"users": [{"name": "alice"}]}"#, 1, "subject_not_an_object");
    check(r#"{"users": "alice"}"#, 1, "is not an object of records");
}

#[test]
fn a_key_that_is_no_text_finds_its_record_or_ends_the_request() {
    let issuer = Issuer::new();
    let options = ", key: role, status: status, unknown: claims_only";
    let server = server(&issuer, options, &json!({"42": {"status": "suspended"}}));
    for (role, want) in [
        (json!("42"), 403),
        (json!(42), 403),
        (json!(43), 200),
        (json!(null), 200),
        (json!(4.5), 403),
        (json!([42]), 403),
        (json!({"id": 42}), 403),
        (json!(true), 403),
    ] {
        assert_eq!(status(&server, &issuer.token_with(json!({ "role": role }))), want, "{role}");
    }
}
