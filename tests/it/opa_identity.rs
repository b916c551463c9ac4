//! The OPA door over real sockets, where a token says who asks: what it adds to the input, what a client cannot set, what
//! a refusal looks like, and what is not served to clients at all.

use serde_json::{Value, json};

use crate::{
    opa_rest::recorded_server,
    support::{
        http::Fields,
        setup::{Server, Setup},
        tokens::{Issuer, forged, now},
    },
};

/// A policy that shows what it sees.
const SEES: &str = "package sees\n\ninput_document := input\n\nsubject := input.token.subject\n\nallow if input.token.subject == \"alice\"\n";

fn identity_server(issuer: &Issuer, more: &str) -> Server {
    Setup::new(&format!(
        "{}policy: {{bundles: [{{name: b, path: bundle}}]}}\nsubject: {{from: data.users, key: sub}}\n{more}",
        issuer.section()
    ))
    .file("bundle/sees.rego", SEES)
    .file("bundle/data.json", r#"{"users": {"alice": {"status": "active"}}}"#)
    .serve()
}

#[test]
fn a_verified_token_becomes_input_token_beside_the_applications_input() {
    let issuer = Issuer::new();
    let server = identity_server(&issuer, "");
    let token = issuer.token_with(json!({
        "sub": "alice", "org_id": "acme", "role": "vp", "secret_claim": "hidden", "scope": "a b", "jti": "t1"
    }));
    let bearer = format!("Bearer {token}");
    let fields: Fields<'_> = &[("authorization", &bearer)];
    let seen = server
        .post("/v1/data/sees/input_document", fields, r#"{"input":{"action":"edit","request":{"method":"GET"}}}"#)
        .result();
    assert_eq!(seen["action"], "edit");
    assert_eq!(seen["request"], json!({"method": "GET"}), "on this door `request` is the application's");
    assert_eq!(seen["token"]["subject"], "alice");
    assert_eq!(seen["token"]["claims"], json!({"org_id": "acme", "role": "vp"}), "only projected claims");
    assert_eq!(seen["token"]["scopes"], json!(["a", "b"]));
    assert_eq!(seen["live"], json!({"status": "active"}));
    assert_eq!(seen["meta"]["revision"], server.snapshots.current().revision.as_str());
    assert!(!seen.to_string().contains(&token), "the token itself never reaches policy");

    // The same on every way to ask.
    assert_eq!(server.send("GET", "/v1/data/sees/allow", fields, "").result(), json!(true));
    assert_eq!(server.post("/v0/data/sees/subject", fields, "{}").json(), json!("alice"));
    let batch = server.post("/v1/batch/data/sees/subject", fields, r#"{"inputs":{"a":{},"b":{}}}"#).json();
    assert_eq!(batch["responses"]["b"]["result"], "alice");
}

#[test]
fn what_claimgate_asserts_cannot_come_from_a_client() {
    let issuer = Issuer::new();
    let server = identity_server(&issuer, "anonymous: allow_to_policy\n");
    let bearer = issuer.bearer("mallory");
    for key in ["token", "live", "meta"] {
        for value in ["null", "{}", r#"{"subject":"alice"}"#] {
            let input = format!("{{\"{key}\":{value}}}");
            let encoded = input.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
            let batch = format!("{{\"inputs\":{{\"a\":{{}},\"b\":{input}}}}}");
            let common = format!("{{\"inputs\":{{\"a\":{{}}}},\"common_input\":{input}}}");
            let wrapped = format!("{{\"input\":{input}}}");
            let asked: [(&str, String, &str); 6] = [
                ("POST", "/v1/data/sees/allow".to_owned(), &wrapped),
                ("GET", format!("/v1/data/sees/allow?input={encoded}"), ""),
                ("POST", "/v0/data/sees/allow".to_owned(), &input),
                ("POST", "/".to_owned(), &input),
                ("POST", "/v1/batch/data/sees/allow".to_owned(), &batch),
                ("POST", "/v1/batch/data/sees/allow".to_owned(), &common),
            ];
            for (method, path, body) in &asked {
                for fields in [&[("authorization", bearer.as_str())][..], &[]] {
                    let got = server.send(method, path, fields, body);
                    assert_eq!(got.status, 400, "{method} {path} {body}: {got:?}");
                    assert_eq!(got.json()["code"], "reserved_input_key", "{method} {path} {body}");
                }
            }
        }
    }
    // A second `input` or a second key must not get past the check.
    for body in [
        r#"{"input":{"a":1},"input":{"token":{"subject":"alice"}}}"#,
        r#"{"input":{"token":1,"a":2,"token":{"subject":"alice"}}}"#,
        r#"{"input":{"to\u006ben":{"subject":"alice"}}}"#,
    ] {
        let got = server.post("/v1/data/sees/allow", &[], body);
        assert_eq!((got.status, got.json()["code"].as_str()), (400, Some("reserved_input_key")), "{body}");
    }
    // Inputs that nothing can be put beside.
    for body in [r#"{"input":[1]}"#, r#"{"input":"x"}"#, r#"{"input":1}"#] {
        let got = server.post("/v1/data/sees/allow", &[], body);
        assert_eq!((got.status, got.json()["code"].as_str()), (400, Some("input_not_an_object")), "{body}");
    }
}

#[test]
fn a_refused_token_is_401_with_a_challenge_and_one_public_reason() {
    let issuer = Issuer::new();
    let other = Issuer::new();
    let server = identity_server(&issuer, "anonymous: allow_to_policy\n");
    let good = issuer.token("alice");
    let refused = [
        ("expired", issuer.token_with(json!({"iat": now() - 900, "exp": now() - 600}))),
        ("not yet valid", issuer.token_with(json!({"nbf": now() + 600}))),
        ("without exp", issuer.token_with(json!({"exp": null}))),
        ("for others", issuer.token_with(json!({"aud": "payroll"}))),
        ("of an unknown issuer", issuer.token_with(json!({"iss": "https://evil.example"}))),
        ("forged", forged(&good)),
        ("signed with another key", other.token("alice")),
        ("unsigned", format!("{}.", good.rsplit_once('.').unwrap().0)),
        ("cut", good.get(..good.len() - 4).unwrap().to_owned()),
        ("not a token", "abc".to_owned()),
    ];
    let challenge =
        "Bearer realm=\"claimgate\", error=\"invalid_token\", error_description=\"the token was not accepted\"";
    let mut bodies = std::collections::BTreeSet::new();
    for (what, token) in &refused {
        for path in ["/v1/data/sees/allow", "/v1/data", "/v0/data/sees/allow", "/", "/v1/batch/data/sees"] {
            let got = server.send("POST", path, &[("authorization", &format!("Bearer {token}"))], "{}");
            assert_eq!(got.status, 401, "{what} {path}: {got:?}");
            assert_eq!(got.header("www-authenticate"), Some(challenge), "{what}");
            bodies.insert(got.text());
        }
    }
    assert_eq!(bodies.len(), 1, "the client cannot tell why: {bodies:?}");
    assert!(bodies.iter().all(|body| body.contains("\"invalid_token\"")), "{bodies:?}");
    // The operator can.
    let failures = server.metric("claimgate_token_verification_failures_total", &[]);
    assert!(failures >= 45.0, "{failures}");
    assert_eq!(
        server.send("GET", "/v1/data/sees/allow", &[("authorization", &format!("Bearer {good}"))], "").result(),
        json!(true)
    );
}

#[test]
fn without_a_token_the_configuration_decides() {
    let issuer = Issuer::new();
    let denying = identity_server(&issuer, "");
    let got = denying.get("/v1/data/sees/allow");
    assert_eq!((got.status, got.header("www-authenticate")), (401, Some("Bearer realm=\"claimgate\"")));
    assert_eq!(got.json()["code"], "unauthorized");
    let basic = denying.send("GET", "/v1/data/sees/allow", &[("authorization", "Basic YTpi")], "");
    assert_eq!((basic.status, basic.header("www-authenticate")), (401, Some("Bearer realm=\"claimgate\"")));

    let letting = identity_server(&issuer, "anonymous: allow_to_policy\n");
    let seen = letting.get("/v1/data/sees/input_document").result();
    assert_eq!(seen["token"], Value::Null);
    assert!(seen["meta"]["revision"].is_string());
    // Something in the token's place is never nothing.
    for value in ["Basic YTpi", "", "Bearer", "Bearer a b", "Bearer x, Bearer y"] {
        let got = letting.send("GET", "/v1/data/sees/allow", &[("authorization", value)], "");
        assert!(matches!(got.status, 400 | 401), "{value:?}: {got:?}");
    }
    let bearer = issuer.bearer("alice");
    let twice: Fields<'_> = &[("authorization", &bearer), ("authorization", &bearer)];
    let got = letting.send("GET", "/v1/data/sees/allow", twice, "");
    assert_eq!((got.status, got.json()["code"].as_str()), (400, Some("invalid_request")));
}

#[test]
fn an_evaluation_that_fails_tells_a_client_the_line_and_never_the_file() {
    let issuer = Issuer::new();
    let bearer = issuer.bearer("alice");
    let conflict = "package twice\n\nx := 1\n\nx := input.y\n";
    let server = Setup::new(&format!("{}policy: {{bundles: [bundle]}}\n", issuer.section()))
        .file("bundle/twice.rego", conflict)
        .serve();
    let ask = |path: &str, body: &str| server.send("POST", path, &[("authorization", &bearer)], body).text();
    let single = ask("/v1/data/twice/x?pretty", r#"{"input": {"y": 2}}"#);
    let batch = ask("/v1/batch/data/twice/x", r#"{"inputs": {"a": {"y": 2}}}"#);
    for text in [&single, &batch, &ask("/v0/data/twice/x", r#"{"y": 2}"#)] {
        assert!(text.contains("eval_conflict_error") && text.contains("row"), "{text}");
        assert!(!text.contains("twice.rego") && !text.contains("bundle/"), "{text}");
    }
    let provenance = ask("/v1/data/twice?provenance", r#"{"input": {"y": 1}}"#);
    assert!(provenance.contains("\"bundle\"") && !provenance.contains("/bundle"), "{provenance}");
}

#[test]
fn an_issuer_whose_keys_were_never_had_is_503() {
    let issuer = Issuer::new();
    // Nobody listens on the discard port of this machine.
    let config = "issuers: [{issuer: 'https://idp.example', audiences: [folders], jwks: {url: 'http://127.0.0.1:9/jwks'}}]\n\
                  policy: {bundles: [{name: b, path: bundle}]}\nlimits: {key_patience: 10ms}\n";
    let server = Setup::new(config)
        .file("bundle/p.rego", "package p\nallow := true\n")
        .tweak(|settings| settings.reload.startup.key_wait = crate::support::setup::millis(50))
        .serve();
    let got = server.send("GET", "/v1/data/p/allow", &[("authorization", &issuer.bearer("alice"))], "");
    assert_eq!(got.status, 503, "{got:?}");
    assert_eq!(got.json()["code"], "temporarily_unavailable");
    assert!(got.header("retry-after").is_some());
    assert_eq!(got.header("www-authenticate"), None);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/health?plugins").status, 500);
    assert_eq!(server.get("/health?plugins&exclude-plugin=keys").status, 200);
}

#[test]
fn ad_hoc_queries_and_policy_text_are_only_for_plain_opa() {
    let issuer = Issuer::new();
    let server = identity_server(&issuer, "");
    let got = server.send("GET", "/v1/query?q=data", &[("authorization", &issuer.bearer("alice"))], "");
    assert_eq!((got.status, got.json()["code"].as_str()), (403, Some("query_not_served")));
    for path in ["/v1/policies", "/v1/policies/p.rego"] {
        let got = server.send("GET", path, &[("authorization", &issuer.bearer("alice"))], "");
        assert_eq!((got.status, got.json()["code"].as_str()), (403, Some("policies_not_served")));
    }
    let server = recorded_server();
    assert_eq!(server.get("/v1/query?q=x%3Ddata.list%5B_%5D").json(), json!({"result": [{"x": 10}, {"x": 20}]}));
    assert_eq!(
        server.post("/v1/query", &[], r#"{"query":"input.a = 1","input":{"a":1}}"#).json(),
        json!({"result": [{}]})
    );
    // The parser would read the last one for hours.
    let deep = format!("x = {}1{}", "[".repeat(30), "]".repeat(30));
    for (query, during, code) in [
        ("x = ", "parsing", "rego_parse_error"),
        ("nope(1)", "compiling", "rego_type_error"),
        ("y", "compiling", "rego_unsafe_var_error"),
        (&deep, "parsing", "rego_limit_error"),
    ] {
        let refused = server.post("/v1/query", &[], &json!({"query": query}).to_string());
        let body = refused.json();
        assert_eq!((refused.status, body["errors"][0]["code"].as_str()), (400, Some(code)), "{query}");
        assert_eq!(body["message"], format!("error(s) occurred while {during} query"), "{query}");
    }
}
