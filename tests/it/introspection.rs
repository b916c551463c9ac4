//! Introspection end to end: opaque tokens and second opinions on the OPA door and the forward-auth door, against an
//! authorization server on a loopback port that answers as each case says. What an answer means is tested beside
//! `token::introspection`, and how answers live beside `introspection`.

use claimgate::token::{self, Algorithm, KeyOrigin, KeySet, RawToken, SigningKey};
use serde_json::json;

use self::provider::{Provider, answer, plain};
use crate::support::{
    eventually,
    http::Answer,
    program::Program,
    setup::{Server, Setup},
    tokens::{AUDIENCE, ISSUER, Issuer, forged, now},
};

mod certificates;
mod provider;

const POLICY: &str = "package gate\n\ndefault allow := false\n\nallow if input.token.subject == \"alice\"\n\nseen := \
                      input.token\n";
const SECRET: &str = "s3cret-of-the-gate";

/// One issuer; `introspection` goes into its section, `keys` beside it.
fn setup(provider: &Provider, keys: &str, introspection: &str) -> Setup {
    let (url, door) = (provider.url("/introspect"), "forward_auth: {trusted_peers: [127.0.0.1]}");
    Setup::new(&format!(
        "issuers:\n  - issuer: {ISSUER}\n    audiences: [{AUDIENCE}]\n    claims: {{keep: [username]}}\n{keys}    \
         introspection: {{url: '{url}', client_id: 'gate:1', client_secret_file: secret, {introspection}}}\npolicy: \
         {{bundles: [{{name: b, path: bundle}}], entrypoint: gate/allow}}\n{door}\n"
    ))
    .file("bundle/gate.rego", POLICY)
    .file("secret", &format!("{SECRET}\n"))
}

fn inline(issuer: &Issuer) -> String {
    format!("    jwks: {{inline: '{}'}}\n", issuer.jwks())
}

fn opa(server: &Server, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    server.post("/v1/data/gate/allow", &[("authorization", &*bearer)], r#"{"input": {}}"#)
}

fn forward(server: &Server, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let fields = [
        ("authorization", &*bearer),
        ("x-original-method", "GET"),
        ("x-original-uri", "/"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example"),
    ];
    server.send("GET", "/forward-auth/nginx", &fields, "")
}

/// What a person is told who may not know why.
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{answer:?}");
}

#[test]
fn an_opaque_token_is_decided_like_a_jwt() {
    let provider = Provider::start();
    let server = setup(&provider, "", "opaque: true").serve();
    provider.says("good-token", &answer(json!({"username": "Alice", "email": "a@example.com"})));
    provider.says("of-bob", &answer(json!({"sub": "bob"})));
    assert_eq!(opa(&server, "good-token").result(), true);
    assert_eq!(opa(&server, "of-bob").result(), false);
    refused(&opa(&server, "unknown"), 401, "invalid_token");
    for (token, status) in [("good-token", 204), ("of-bob", 403), ("unknown", 401)] {
        assert_eq!(forward(&server, token).status, status, "{token}");
    }
    assert_eq!(provider.questions("good-token"), 1, "the answer still holds");
    assert_eq!(provider.questions("unknown"), 1);

    let seen = server.post("/v1/data/gate/seen", &[("authorization", "Bearer good-token")], "{}").result();
    assert_eq!(seen["claims"], json!({"username": "Alice"}), "only what is projected");
    assert_eq!((&seen["issuer"], &seen["subject"]), (&json!(ISSUER), &json!("alice")));
    assert_eq!(seen["scopes"], json!(["read"]));

    let request = provider.last("good-token");
    let head = request.to_ascii_lowercase();
    assert!(request.starts_with("POST /introspect HTTP/1.1\r\n"), "{request}");
    // RFC 6749 §2.3.1: both parts are form-encoded first.
    assert!(request.contains("Basic Z2F0ZSUzQTE6czNjcmV0LW9mLXRoZS1nYXRl"), "{request}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded\r\n"), "{request}");
    assert!(head.contains("accept: application/json\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\ntoken=good-token&token_type_hint=access_token"), "{request}");

    let metric = |result: &str| server.metric("claimgate_introspection_requests_total", &[&format!("\"{result}\"")]);
    assert_eq!((metric("active"), metric("inactive")), (2.0, 1.0));
    assert!(server.metric("claimgate_introspection_cache_hits_total", &["\"active\""]) >= 3.0);
    assert_eq!(server.metric("claimgate_introspection_in_flight", &[]), 0.0);
    assert_eq!(server.metric("claimgate_introspection_seconds_count", &[]), 3.0);
}

#[test]
fn whatever_the_server_answers_no_token_passes_that_is_not_active() {
    let provider = Provider::start();
    let server = setup(&provider, "", "opaque: true, timeout: 300ms, max_bytes: 4KiB").serve();
    provider.says("good", &answer(json!({})));
    let json_type = "Content-Type: application/json\r\n";
    let big = format!(r#"{{"active": true, "x": "{}"}}"#, "x".repeat(5_000));
    let active = answer(json!({}));
    let body = active.split_once("\r\n\r\n").unwrap().1;
    let redirect = format!("Location: {}\r\n{json_type}", provider.url("/introspect"));
    for (number, (reply, status, result)) in [
        (plain("200 OK", json_type, r#"{"active": false}"#), 401, "inactive"),
        (plain("200 OK", json_type, r#"{"active": "true"}"#), 503, "answer_malformed"),
        (plain("200 OK", json_type, r#"{"active": 1}"#), 503, "answer_malformed"),
        (plain("200 OK", json_type, r#"{"active": null}"#), 503, "answer_malformed"),
        (plain("200 OK", json_type, r#"{"active": false, "active": true}"#), 503, "answer_malformed"),
        (plain("200 OK", json_type, "[true]"), 503, "answer_malformed"),
        (plain("200 OK", json_type, ""), 503, "answer_malformed"),
        (plain("200 OK", json_type, &big), 503, "answer_too_large"),
        (plain("200 OK", json_type, r#"{"active": true}"#), 401, "refused"),
        (answer(json!({"aud": "other"})), 401, "refused"),
        (answer(json!({"iss": "https://other.example"})), 401, "refused"),
        (answer(json!({"exp": now() - 60})), 401, "refused"),
        (answer(json!({"token_type": "refresh_token"})), 401, "refused"),
        (plain("200 OK", "Content-Type: text/html\r\n", "<html>Sign in</html>"), 503, "answer_content_type"),
        (plain("200 OK", "", body), 503, "answer_content_type"),
        (plain("200 OK", "Content-Type: application/jwt\r\n", "e30.e30.AA"), 503, "answer_content_type"),
        (plain("200 OK", &format!("{json_type}Content-Encoding: gzip\r\n"), body), 503, "answer_content_type"),
        (plain("201 Created", json_type, body), 503, "status"),
        (plain("204 No Content", "", ""), 503, "status"),
        (plain("302 Found", &redirect, body), 503, "status"),
        (plain("304 Not Modified", "", ""), 503, "status"),
        (plain("400 Bad Request", json_type, body), 503, "rejected"),
        (plain("401 Unauthorized", json_type, body), 503, "unauthorized"),
        (plain("403 Forbidden", json_type, body), 503, "unauthorized"),
        (plain("404 Not Found", json_type, body), 503, "status"),
        (plain("429 Too Many Requests", json_type, body), 503, "status"),
        (plain("500 Internal Server Error", json_type, body), 503, "status"),
        (String::new(), 503, "unreachable"),
        ("not http\r\n\r\n".to_owned(), 503, "unreachable"),
        (format!("HTTP/1.1 200 OK\r\n{json_type}Content-Length: 500\r\n\r\n{body}"), 503, "unreachable"),
        (provider::SILENCE.to_owned(), 503, "timeout"),
    ]
    .into_iter()
    .enumerate()
    {
        let (token, good) = (format!("case-{number}"), format!("good-{number}"));
        provider.says(&token, &reply);
        provider.says(&good, &active);
        let metric = || server.metric("claimgate_introspection_requests_total", &[&format!("\"{result}\"")]);
        let before = metric();
        let code = if status == 401 { "invalid_token" } else { "temporarily_unavailable" };
        refused(&opa(&server, &token), status, code);
        assert_eq!(metric(), before + 1.0, "case {number}: {result}");
        // The failures of the cases do not add up.
        assert_eq!(opa(&server, &good).result(), true, "case {number}");
    }
}

#[test]
fn a_second_opinion_comes_after_every_local_check() {
    let provider = Provider::start();
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let server = setup(&provider, &inline(&issuer), "jwt: always, cache_ttl: 0s, inactive_ttl: 0s").serve();
    let token = issuer.token("alice");
    let jti = json!({"sub": "alice", "jti": "one"});
    let named = issuer.token_with(jti);
    for token in [&token, &named] {
        provider.says(token, &plain("200 OK", "Content-Type: application/json\r\n", r#"{"active": true}"#));
        assert_eq!(opa(&server, token).result(), true);
    }
    // Revoked: the very next request knows, although the token itself is remembered as verified.
    provider.says(&token, &plain("200 OK", "Content-Type: application/json\r\n", r#"{"active": false}"#));
    refused(&opa(&server, &token), 401, "invalid_token");
    provider.says(&named, &answer(json!({"sub": "alice", "jti": "another"})));
    refused(&opa(&server, &named), 401, "invalid_token");
    assert!(provider.forget(&token) >= 2 && provider.forget(&named) >= 2);

    for bad in [
        forged(&token),
        stranger.token("alice"),
        issuer.token_with(json!({"exp": now() - 60})),
        issuer.token_with(json!({"aud": "other"})),
        issuer.token_with(json!({"iss": "https://other.example"})),
        "opaque".to_owned(),
    ] {
        refused(&opa(&server, &bad), 401, "invalid_token");
    }
    assert_eq!(provider.all(), 0, "nothing of this is the issuer's, and nobody else gets it");
}

#[test]
fn what_is_revoked_here_is_refused_whatever_its_issuer_says() {
    let provider = Provider::start();
    let issuer = Issuer::new();
    let setup = setup(&provider, &inline(&issuer), "opaque: true, jwt: always");
    let config = std::fs::read_to_string(setup.path().join("claimgate.yaml")).unwrap();
    let server = setup
        .file("claimgate.yaml", &format!("{config}revocation: {{file: revoked.jsonl}}\n"))
        .file("revoked.jsonl", "")
        .serve();
    provider.otherwise(&answer(json!({})));
    let (jwt, opaque) = (issuer.token_with(json!({"iat": now() - 60})), "opaque-token");
    provider.says(opaque, &answer(json!({"iat": now() - 60})));
    for token in [jwt.as_str(), opaque] {
        assert_eq!(opa(&server, token).result(), true);
    }
    let asked = provider.all();
    server.replace(
        "revoked.jsonl",
        &format!("{}\n", json!({"revoke": "subject", "iss": ISSUER, "sub": "alice", "valid_after": now() - 5})),
    );
    for token in [jwt.as_str(), opaque] {
        eventually("the file is read", || (opa(&server, token).status == 401).then_some(()));
    }
    let fresh = issuer.token_with(json!({"iat": now() - 61}));
    refused(&opa(&server, &fresh), 401, "invalid_token");
    assert_eq!(provider.all(), asked, "nobody is asked about a JWT that is revoked here");
}

#[test]
fn a_flood_of_made_up_tokens_holds_up_nobody_else() {
    let provider = Provider::start();
    let issuer = Issuer::new();
    let server = setup(&provider, &inline(&issuer), "opaque: true, concurrency: 4, timeout: 10s").serve();
    provider.says("good", &answer(json!({})));
    assert_eq!(opa(&server, "good").result(), true);
    provider.otherwise(provider::SILENCE);
    std::thread::scope(|scope| {
        // They wait for an issuer that says nothing.
        let waiting: Vec<_> = (0..4)
            .map(|number| {
                scope.spawn({
                    let server = &server;
                    move || opa(server, &format!("slow-{number}")).status
                })
            })
            .collect();
        eventually("all places are taken", || (provider.all() == 5).then_some(()));
        for number in 0..50 {
            refused(&opa(&server, &format!("made-up-{number}")), 503, "temporarily_unavailable");
        }
        assert_eq!(provider.all(), 5);
        assert_eq!(opa(&server, "good").result(), true, "what is known needs no place");
        assert_eq!(opa(&server, &issuer.token("alice")).result(), true);
        assert_eq!(server.metric("claimgate_introspection_in_flight", &[]), 4.0);
        provider.hang_up();
        for status in waiting {
            assert_eq!(status.join().unwrap(), 503);
        }
    });
}

#[test]
fn a_jwt_is_never_sent_to_the_issuer_of_opaque_tokens() {
    let provider = Provider::start();
    let issuer = Issuer::new();
    let server = setup(&provider, &inline(&issuer), "opaque: true").serve();
    let token = issuer.token("alice");
    assert_eq!(opa(&server, &token).result(), true, "its own JWTs are verified here");
    let foreign = issuer.token_with(json!({"iss": "https://other.example"}));
    let (cut, five) = (foreign.trim_end_matches(|c| c != '.').to_owned(), format!("{foreign}.AA.AA"));
    for bad in [forged(&token), foreign, cut, five] {
        refused(&opa(&server, &bad), 401, "invalid_token");
    }
    for bad in ["a b", "a=b", "\"quoted\"", "{}"] {
        refused_request(&opa(&server, bad));
    }
    refused(&opa(&server, &"a".repeat(9_000)), 401, "invalid_token");
    assert_eq!(provider.all(), 0);
    refused(&opa(&server, "aaa.bbb.ccc"), 401, "invalid_token");
    assert_eq!(provider.all(), 1, "three segments alone make no JWT");
}

fn refused_request(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_request")), "{answer:?}");
}

#[test]
fn where_signed_answers_are_required_nothing_else_counts() {
    let provider = Provider::start();
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let server = setup(&provider, &inline(&issuer), "opaque: true, signed: true").serve();
    let inner = json!({"active": true, "aud": AUDIENCE, "sub": "alice", "exp": now() + 300});
    let outer = json!({"aud": "gate:1", "sub": null, "exp": null, "token_introspection": inner});
    let signed = |issuer: &Issuer, changes: serde_json::Value| {
        let serde_json::Value::Object(changes) = changes else { panic!("an object") };
        let mut claims = outer.clone();
        claims.as_object_mut().unwrap().extend(changes);
        let jwt = issuer.signed("token-introspection+jwt", claims);
        plain("200 OK", "Content-Type: application/token-introspection+jwt\r\n", &jwt)
    };
    let swapped = json!({"iss": "gate:1", "aud": ISSUER});
    for (token, reply, status) in [
        ("other-audience", signed(&issuer, json!({"aud": "other"})), 503),
        ("swapped", signed(&issuer, swapped), 503),
        ("recorded", signed(&issuer, json!({"iat": now() - 3_600})), 503),
        ("good", signed(&issuer, json!({})), 200),
        ("forged", signed(&stranger, json!({})), 503),
        ("plain", answer(json!({})), 503),
        ("inactive", signed(&issuer, json!({"token_introspection": {"active": false}})), 401),
    ] {
        provider.says(token, &reply);
        assert_eq!(opa(&server, token).status, status, "{token}");
    }
    assert!(provider.last("good").to_ascii_lowercase().contains("accept: application/token-introspection+jwt\r\n"));
}

#[test]
fn a_server_that_is_down_is_given_a_rest_and_the_status_shows_it() {
    let provider = Provider::start();
    let server = setup(&provider, "", "opaque: true").serve();
    provider.says("good", &answer(json!({})));
    assert_eq!(opa(&server, "good").result(), true);
    let down = plain("503 Service Unavailable", "", "");
    provider.otherwise(&down);
    let status = || server.admin("/v1/status").json()["result"]["introspection"][ISSUER].take();
    assert_eq!(status(), json!({"breaker": "closed", "failures": 0, "in_flight": 0}));
    for number in 0..20 {
        refused(&opa(&server, &format!("t{number}")), 503, "temporarily_unavailable");
    }
    assert_eq!(status(), json!({"breaker": "open", "failures": 5, "in_flight": 0, "last_failure": "status"}));
    assert_eq!(server.metric("claimgate_introspection_breaker_state", &[]), 2.0);
    assert_eq!(provider.all(), 6, "nothing is sent while it rests");
    assert_eq!(opa(&server, "good").result(), true, "what it said still holds");
    provider.otherwise(&answer(json!({})));
    eventually("the probe succeeds", || (opa(&server, "fresh").status == 200).then_some(()));
    assert_eq!(status()["breaker"], "closed");
    assert_eq!(server.metric("claimgate_introspection_breaker_state", &[]), 0.0);
}

#[test]
fn new_policies_ask_nothing_anew() {
    let provider = Provider::start();
    let server = setup(&provider, "", "opaque: true, cache_ttl: 5m").serve();
    provider.otherwise(&answer(json!({})));
    assert_eq!(opa(&server, "opaque").result(), true);
    server.replace("bundle/gate.rego", &POLICY.replace("\"alice\"", "\"bob\""));
    eventually("the policy is in force", || (opa(&server, "opaque").result() == false).then_some(()));
    assert_eq!(provider.all(), 1, "what the issuer said is about the token, not about our policies");
}

#[test]
fn credentials_are_read_anew_and_their_lack_is_our_fault() {
    let provider = Provider::start();
    let server = setup(&provider, "", "opaque: true, authentication: client_secret_post").serve();
    provider.otherwise(&answer(json!({})));
    assert_eq!(opa(&server, "one").result(), true);
    let post = "&client_id=gate%3A1&client_secret=s3cret-of-the-gate";
    assert!(provider.last("one").ends_with(post), "{}", provider.last("one"));
    assert!(!provider.last("one").to_ascii_lowercase().contains("authorization:"));
    server.replace("secret", "rotated\n");
    assert_eq!(opa(&server, "two").result(), true);
    assert!(provider.last("two").ends_with("client_secret=rotated"), "{}", provider.last("two"));
    server.replace("secret", "\n");
    refused(&opa(&server, "three"), 503, "temporarily_unavailable");
    assert_eq!(provider.questions("three"), 0);
}

#[test]
fn a_private_key_signs_who_we_are() {
    let (provider, key) = (Provider::start(), SigningKey::generate_jwk(Algorithm::EdDSA, "gate-1").unwrap());
    let public = SigningKey::from_jwk(key.as_bytes()).unwrap().public_jwks().unwrap();
    let keys = KeySet::parse(public.as_bytes(), KeyOrigin::Remote, &[Algorithm::EdDSA]).unwrap();
    let url = provider.url("/introspect");
    let server = Setup::new(&format!(
        "issuers:\n  - issuer: {ISSUER}\n    audiences: [{AUDIENCE}]\n    introspection: {{url: '{url}', client_id: gate, \
         private_key_file: key, opaque: true}}\npolicy: {{bundles: [{{name: b, path: bundle}}], entrypoint: gate/allow}}\n"
    ))
    .file("bundle/gate.rego", POLICY)
    .file("key", &key)
    .serve();
    provider.otherwise(&answer(json!({})));
    let mut seen = Vec::new();
    for token in ["one", "two"] {
        assert_eq!(opa(&server, token).result(), true);
        let request = provider.last(token);
        let (_, assertion) = request.split_once("&client_assertion=").unwrap();
        assert!(request.contains(
            "&client_id=gate&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&"
        ));
        let raw = RawToken::new(assertion);
        token::verify_signature_only(&raw, &keys, None).unwrap();
        let claims = token::inspect(&raw).unwrap().claims;
        let member = |name: &str| claims[name].as_str().unwrap().to_owned();
        assert_eq!((member("iss"), member("sub"), member("aud")), ("gate".into(), "gate".into(), ISSUER.into()));
        assert!((now() - 5..=now()).contains(&claims["iat"].as_i64().unwrap()));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
        seen.push(member("jti"));
    }
    assert_ne!(seen[0], seen[1], "an assertion is good for one question");
    for bad in [
        "no key",
        r#"{"kty":"oct","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldC1zZWNyZXQ","alg":"HS256"}"#,
        &public,
    ] {
        server.replace("key", bad);
        refused(&opa(&server, &format!("bad-{}", bad.len())), 503, "temporarily_unavailable");
    }
    assert_eq!(provider.all(), 2);
}

#[test]
fn the_place_to_ask_is_found_in_the_metadata() {
    let provider = Provider::start();
    let (base, keys) = (provider.url(""), Issuer::new());
    let json_type = "Content-Type: application/json\r\n";
    let metadata = json!({"issuer": base, "jwks_uri": provider.url("/jwks"), "introspection_endpoint": provider.url("/introspect")});
    provider.serves("/.well-known/openid-configuration", &plain("200 OK", json_type, &metadata.to_string()));
    provider.serves("/jwks", &plain("200 OK", json_type, &keys.jwks()));
    provider.says("good", &answer(json!({"iss": base})));
    let server = Setup::new(&format!(
        "issuers:\n  - issuer: {base}\n    audiences: [{AUDIENCE}]\n    discovery: true\n    introspection: {{token_file: \
         secret, opaque: true}}\npolicy: {{bundles: [{{name: b, path: bundle}}], entrypoint: gate/allow}}\n"
    ))
    .file("bundle/gate.rego", POLICY)
    .file("secret", SECRET)
    .serve();
    assert_eq!(opa(&server, "good").result(), true);
    assert!(provider.last("good").contains(&format!("Bearer {SECRET}")));
}

#[test]
fn an_issuer_without_keys_has_no_jwts() {
    let provider = Provider::start();
    let server = setup(&provider, "", "opaque: true").serve();
    refused(&opa(&server, &Issuer::new().token("alice")), 401, "invalid_token");
    assert_eq!(provider.all(), 0);
    assert_eq!(server.admin("/health?plugins").status, 200, "keys that nobody needs are not missing");
}

#[test]
fn neither_token_nor_secret_reaches_the_log() {
    let provider = Provider::start();
    let directory = setup(&provider, "", "opaque: true").file("more", "").into_directory();
    let file = directory.path().join("claimgate.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}log: {{level: trace}}\ndecision_log: {{to: stdout}}\n")).unwrap();
    let program = Program::run(directory.path());
    let (good, bad, broken) = ("opaque-token-of-alice", "opaque-token-of-mallory", "opaque-token-that-breaks");
    provider.says(good, &answer(json!({})));
    provider.says(broken, &plain("500 Internal Server Error", "", ""));
    for (token, status) in [(good, 200), (bad, 401), (broken, 503)] {
        let bearer = format!("Bearer {token}");
        let fields = [("authorization", &*bearer)];
        assert_eq!(program.send("POST", "/v1/data/gate/allow", &fields, "{}").status, status, "{token}");
    }
    let log = eventually("the log tells of the failure", || {
        Some(program.log()).filter(|log| log.contains("introspection failed") && log.contains("token_inactive"))
    });
    let everything = format!("{log}{}{}", program.admin("/metrics").text(), program.admin("/v1/status").text());
    for secret in [good, bad, broken, SECRET, "Z2F0ZSUzQTE6"] {
        assert!(!everything.contains(secret), "`{secret}` is in the log");
    }
    assert_eq!(log.matches("introspection failed").count(), 1);
}
