//! The admin listener: health for probes, metrics for a scraper, the status for an operator; and that neither listener
//! serves what belongs to the other.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    eventually,
    setup::{Server, Setup, metric, millis},
    tokens::{Issuer, now},
};

const GOOD: &str = "package p\n\nallow if input.token.subject == \"alice\"\n";

fn setup(issuer: &Issuer) -> Setup {
    Setup::new(&format!(
        "{}policy: {{bundles: [{{name: folders, path: bundle}}], entrypoint: p/allow}}\n\
         forward_auth: {{trusted_peers: [127.0.0.1]}}\nreload: {{settle: 10ms, debounce: 5ms}}\n\
         decision_log: {{to: file, path: decisions.log, labels: {{environment: test}}}}\n",
        issuer.section()
    ))
    .file("bundle/p.rego", GOOD)
    .file("bundle/.manifest", r#"{"revision": "r7"}"#)
}

fn server(issuer: &Issuer) -> Server {
    setup(issuer).serve()
}

#[test]
fn each_listener_serves_its_own_routes_only() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    for path in ["/health", "/ready", "/metrics", "/v1/status"] {
        assert_eq!(server.admin(path).status, 200, "{path}");
    }
    for path in ["/v1/data", "/v1/policies", "/forward-auth/nginx", "/", "/v1/query?q=data", "/.well-known/jwks.json"] {
        assert_eq!(server.admin(path).status, 404, "{path} on the admin listener");
    }
    for path in ["/metrics", "/ready", "/.well-known/jwks.json"] {
        assert_eq!(server.get(path).status, 404, "{path} on the data plane");
    }
    for method in ["POST", "PUT", "DELETE"] {
        for path in ["/health", "/ready", "/metrics", "/v1/status"] {
            let got = crate::support::http::once(&server.admin, method, path, &[], b"");
            assert_eq!(got.status, 405, "{method} {path}");
        }
    }
}

#[test]
fn the_status_names_what_serves() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let status = server.admin("/v1/status?pretty").json()["result"].take();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["labels"]["environment"], "test");
    assert_eq!(status["ready"], true);
    assert_eq!(status["snapshot"]["revision"], server.snapshots.current().revision.as_str());
    assert_eq!(status["snapshot"]["entrypoint"], "p/allow");
    assert_eq!(status["snapshot"]["bundles"]["folders"]["revision"], "r7");
    assert_eq!(status["keys"]["https://idp.example"]["keys"], 1);
    assert_eq!(status["keys"]["https://idp.example"]["source"], "local");
    assert_eq!(status["errors"], json!([]));
    assert!(!status.to_string().contains(issuer.jwks().get(20..60).unwrap()), "no key material");
}

#[test]
fn a_reload_that_failed_shows_until_it_is_mended() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let revision = server.snapshots.current().revision.clone();
    let bearer = issuer.bearer("alice");
    let allowed = || server.send("GET", "/v1/data/p/allow", &[("authorization", &bearer)], "").result();
    server.replace("bundle/p.rego", "package p\n\nallow if {\n");
    let errors = eventually("the fault is told", || {
        let errors = server.admin("/v1/status").json()["result"]["errors"].take();
        (errors != json!([])).then_some(errors)
    });
    assert!(errors[0]["location"].to_string().contains("p.rego"), "{errors}");
    assert_eq!(allowed(), json!(true), "the last good state serves");
    assert_eq!(server.snapshots.current().revision, revision);
    assert_eq!(server.admin("/ready").status, 200, "an older state serves well");
    assert_eq!(server.admin("/health").status, 200);
    assert_eq!(server.admin("/health?reload").status, 500);
    assert_eq!(server.get("/health?reload").status, 500);
    assert!(server.metric("claimgate_reloads_total", &["failure"]) >= 1.0);
    assert!(server.metric("claimgate_reload_problems", &[]) >= 1.0);

    server.replace("bundle/p.rego", "package p\n\nallow if input.token.subject == \"bob\"\n");
    eventually("it is mended", || (server.admin("/health?reload").status == 200).then_some(()));
    eventually("the new policy decides", || (allowed() == Value::Null).then_some(()));
    assert_eq!(server.admin("/v1/status").json()["result"]["errors"], json!([]));
}

#[test]
fn metrics_count_decisions_failures_and_refusals() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let expired = format!("Bearer {}", issuer.token_with(json!({"iat": now() - 900, "exp": now() - 600})));
    let forward = |uri: &str, authorization: &str| {
        let fields = [("x-forwarded-method", "GET"), ("x-forwarded-uri", uri), ("authorization", authorization)];
        server.send("GET", "/forward-auth/traefik", &fields, "").status
    };
    assert_eq!(forward("/a", &issuer.bearer("alice")), 200);
    assert_eq!(forward("/a", &issuer.bearer("bob")), 403);
    assert_eq!(forward("/a", &expired), 401);
    assert_eq!(forward("/a/../b", &issuer.bearer("alice")), 400);
    for (path, who) in [("/v1/data/p/allow", "alice"), ("/v1/data/p/allow", "bob"), ("/v1/data/p", "alice")] {
        assert_eq!(server.send("GET", path, &[("authorization", &issuer.bearer(who))], "").status, 200);
    }

    let got = server.admin("/metrics");
    let text = got.text();
    assert!(got.header("content-type").is_some_and(|kind| kind.contains("version=")), "{got:?}");
    let count = |name: &str, labels: &[&str]| metric(&text, name, labels);
    let decisions = "claimgate_decisions_total";
    assert_eq!(count(decisions, &["forward_auth", "\"allow\""]), 1.0, "{text}");
    assert_eq!(count(decisions, &["forward_auth", "\"deny\""]), 1.0);
    assert_eq!(count(decisions, &["forward_auth", "\"rejected\"", "expired"]), 1.0);
    // Only what the entrypoint says is known to be a decision.
    assert_eq!(count(decisions, &["\"opa\"", "\"allow\"", "\"ok\""]), 1.0);
    assert_eq!(count(decisions, &["\"opa\"", "\"deny\"", "decision_undefined"]), 1.0);
    assert_eq!(count(decisions, &["\"opa\"", "\"result\""]), 1.0);
    assert_eq!(count("claimgate_token_verification_failures_total", &["expired"]), 1.0);
    assert_eq!(count("claimgate_requests_refused_total", &["path_dot_segment"]), 1.0);
    assert_eq!(count("claimgate_snapshot_info", &[&server.snapshots.current().revision]), 1.0);
    assert_eq!(count("claimgate_jwks_keys", &["idp.example"]), 1.0);
    assert_eq!(count("claimgate_jwks_generation", &["idp.example"]), 1.0);
    assert_eq!(count("claimgate_jwks_failing", &["idp.example"]), 0.0);
    assert_eq!(count("claimgate_jwks_from_disk", &["idp.example"]), 0.0);
    for result in ["fetched", "suppressed", "negative"] {
        assert_eq!(count("claimgate_jwks_forced_refreshes_total", &["idp.example", result]), 0.0);
    }
    assert!(count("claimgate_evaluation_seconds_count", &[]) >= 3.0);
    assert!(text.trim_end().ends_with("# EOF") || !text.contains("# EOF"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "not a sample: {line}");
    }
}

#[test]
fn every_decision_is_logged_once_and_without_token_bytes() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let token = issuer.token("alice");
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str())];
    let data = server.post("/v1/data/p/allow", &fields, r#"{"input":{"action":"view"}}"#);
    let forged = format!("Bearer {}", crate::support::tokens::forged(&token));
    let refused = server.post("/v1/data/p/allow", &[("authorization", &forged)], "{}");
    let mut forward = vec![("x-forwarded-method", "GET"), ("x-forwarded-uri", "/a?access_token=hidden")];
    forward.extend(fields);
    let allowed = server.send("GET", "/forward-auth/traefik", &forward, "");
    assert_eq!((data.status, refused.status, allowed.status), (200, 401, 200));

    let path = server.directory.path().join("decisions.log");
    assert!(server.telemetry.flush(millis(10_000)));
    let text = fs::read_to_string(path).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 3, "{text}");
    assert_eq!(events[0]["decision_id"], data.json()["decision_id"]);
    assert_eq!(events[0]["path"], "p/allow");
    assert_eq!(events[0]["result"], true);
    assert_eq!(events[0]["input"]["action"], "view");
    assert_eq!(events[0]["input"]["token"]["subject"], "alice");
    assert_eq!(events[0]["labels"]["environment"], "test");
    assert_eq!(events[0]["bundles"]["folders"]["revision"], "r7");
    assert_eq!(events[1]["result"], Value::Null);
    assert_eq!(events[2]["decision_id"].as_str(), allowed.header("x-claimgate-decision-id"));
    for part in token.split('.').chain(forged.rsplit('.').take(1)) {
        assert!(!text.contains(part), "token bytes in the log: {part}");
    }
}

#[test]
fn a_drain_shows_on_the_admin_listener_until_it_ends() {
    let issuer = Issuer::new();
    let server = setup(&issuer)
        .tweak(|settings| {
            settings.serve.shutdown_wait = millis(300);
            settings.serve.shutdown_grace = millis(20_000);
        })
        .serve();
    server.begin_shutdown();
    eventually("not ready", || (server.admin("/ready").status == 503).then_some(()));
    assert_eq!(server.admin("/health").status, 200);
    assert_eq!(server.admin("/v1/status").json()["result"]["ready"], false);
    assert!(server.end());
}

#[test]
fn what_is_unwise_in_the_tokens_that_come_is_counted() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let token = issuer.token_with(json!({ "permissions": ["read"], "jti": "1", "client_id": "web" }));
    let samples = || server.metric("claimgate_token_lint_samples_total", &[crate::support::tokens::ISSUER]);
    // The first token is looked at, and after it one in a second.
    for _ in 0..20 {
        server.send("GET", "/v1/data/p/allow", &[("authorization", &format!("Bearer {token}"))], "");
    }
    assert!(samples() >= 1.0);
    assert!(samples() < 20.0);
    let found = |rule: &str| server.metric("claimgate_token_lint_findings_total", &[rule]);
    assert!((found("permissions_in_token") - samples()).abs() < f64::EPSILON);
}
