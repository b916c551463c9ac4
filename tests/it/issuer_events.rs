//! What issuers push, end to end: a token passes, a logout token or a security event token comes, and the same token does not
//! pass any more, also where it was verified a moment ago, and after a restart. And the door itself: what it answers to
//! whom, and what a flood costs.

use serde_json::{Value, json};

use crate::support::{
    http::{Answer, Fields, once},
    program::Program,
    setup::{Server, Setup},
    tokens::{ISSUER, Issuer, forged, now},
};

const POLICY: &str = "package authz\nallow if input.token.subject\n";
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
const FORM: &str = "application/x-www-form-urlencoded";
const EVENT: &str = "application/secevent+jwt";

fn setup(issuer: &Issuer, more: &str) -> Setup {
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{listen: '127.0.0.1:0'}}\nstate: {{directory: state}}\n{}    logout: {{audience: web}}\n\
         policy: {{bundles: [policy]}}\nevents:\n  listen: 127.0.0.1:0\n  transmitters:\n  - {{issuer: '{ISSUER}', audience: gate}}\n{more}",
        issuer.section()
    );
    let setup = Setup::new(&config).file("policy/p.rego", POLICY);
    // The program makes it, the library's parts do not.
    std::fs::create_dir(setup.path().join("state")).unwrap();
    setup
}

/// What the data plane answers to a token.
fn status(address: &str, token: &str) -> u16 {
    let fields = [("authorization", &*format!("Bearer {token}"))];
    once(address, "POST", "/v1/data/authz/allow", &fields, b"{}").status
}

fn logout_token(issuer: &Issuer, claims: Value) -> String {
    let all = json!({"aud": "web", "jti": "l-1", "exp": now() + 100, "sub": null, "events": {LOGOUT: {}}});
    issuer.signed("logout+jwt", with(all, claims))
}

fn event_token(issuer: &Issuer, kind: &str, subject: Value, claims: Value) -> String {
    let uri = format!("https://schemas.openid.net/secevent/{kind}");
    let all = json!({"aud": "gate", "jti": "e-1", "exp": null, "sub": null, "events": {uri: {}}});
    let all = with(all, Value::Object([("sub_id".to_owned(), subject)].into_iter().collect()));
    issuer.signed("secevent+jwt", with(all, claims))
}

fn with(mut all: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("claims are an object") };
    all.as_object_mut().unwrap().extend(changes);
    all
}

fn subject(sub: &str) -> Value {
    json!({"format": "iss_sub", "iss": ISSUER, "sub": sub})
}

fn log_out(address: &str, token: &str) -> Answer {
    once(address, "POST", "/logout/backchannel", &[("content-type", FORM)], format!("logout_token={token}").as_bytes())
}

fn push(address: &str, token: &str) -> Answer {
    once(address, "POST", "/events", &[("content-type", EVENT)], token.as_bytes())
}

#[test]
fn a_token_ends_with_its_session_on_the_next_request_and_after_a_restart() {
    let issuer = Issuer::new();
    let setup = setup(&issuer, "");
    let mut program = Program::run(setup.path());
    let ours = issuer.token_with(json!({"sub": "alice", "sid": "s-1"}));
    let other = issuer.token_with(json!({"sub": "alice", "sid": "s-2"}));
    for _ in 0..3 {
        assert_eq!((status(&program.address, &ours), status(&program.address, &other)), (200, 200));
    }
    let answer = log_out(&program.events, &logout_token(&issuer, json!({"sid": "s-1", "sub": "alice"})));
    assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!((status(&program.address, &ours), status(&program.address, &other)), (401, 200));
    let log = program.log();
    assert!(log.contains("an event was accepted and ends tokens"), "{log}");
    assert!(!log.contains("s-1") && !log.contains("alice"), "{log}");
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0));
    let program = Program::run(setup.path());
    assert_eq!((status(&program.address, &ours), status(&program.address, &other)), (401, 200));
}

#[test]
fn tokens_up_to_the_time_of_an_event_end_and_later_ones_pass() {
    let issuer = Issuer::new();
    let server = setup(&issuer, "").serve();
    let token = |sub: &str, age: i64| issuer.token_with(json!({"sub": sub, "iat": now() - age}));
    let (old, new, bob) = (token("alice", 60), token("alice", 5), token("bob", 60));
    let all = |server: &Server| [&old, &new, &bob].map(|token| status(&server.address, token));
    assert_eq!(all(&server), [200, 200, 200]);
    let uri = "https://schemas.openid.net/secevent/caep/event-type/token-claims-change";
    let event = json!({"events": {uri: {"event_timestamp": now() - 30, "claims": {"role": "none"}}}});
    let answer = push(&server.events, &event_token(&issuer, "x", subject("alice"), event));
    assert_eq!((answer.status, answer.text().as_str()), (202, ""), "{answer:?}");
    assert_eq!(all(&server), [401, 200, 200]);
    let disabled = event_token(&issuer, "risc/event-type/account-disabled", subject("bob"), json!({}));
    assert_eq!(push(&server.events, &disabled).status, 202);
    assert_eq!(all(&server), [401, 200, 401]);
    let counted = |event: &str, result: &str| {
        let labels = [&*format!("event=\"{event}\""), &*format!("result=\"{result}\"")];
        server.metric("claimgate_issuer_events_total", &labels)
    };
    // Delivered again, it has the same effect and the same answer.
    assert_eq!(push(&server.events, &disabled).status, 202);
    assert_eq!(counted("account_disabled", "revoked") + counted("account_disabled", "repeated"), 2.0);
    assert_eq!(counted("token_claims_change", "revoked"), 1.0);
    assert_eq!(server.metric("claimgate_token_verification_failures_total", &["revoked_subject"]), 3.0);
}

#[test]
fn events_that_end_nothing_are_accepted() {
    let issuer = Issuer::new();
    let server = setup(&issuer, "").serve();
    let token = issuer.token("alice");
    for (kind, subject) in [
        ("ssf/event-type/verification", json!({"format": "opaque", "id": "stream"})),
        ("caep/event-type/session-established", subject("alice")),
        ("risc/event-type/account-disabled", json!({"format": "email", "email": "alice@idp.example"})),
        ("risc/event-type/account-disabled", json!({"format": "iss_sub", "iss": "https://x.example", "sub": "alice"})),
    ] {
        let answer = push(&server.events, &event_token(&issuer, kind, subject, json!({})));
        assert_eq!(answer.status, 202, "{kind}: {answer:?}");
        assert_eq!(status(&server.address, &token), 200, "{kind}");
    }
    assert_eq!(server.metric("claimgate_issuer_events_total", &["result=\"nothing_to_do\""]), 4.0);
}

#[test]
fn a_transmitter_with_keys_of_its_own_speaks_about_its_issuer_and_issues_no_access_tokens() {
    let (issuer, signals) = (Issuer::new(), Issuer::with_key_id("s1"));
    let name = "https://signals.example";
    let more = format!(
        "  - {{issuer: '{name}', audience: gate, tokens_of: '{ISSUER}', algorithms: [ES256], jwks: {{inline: '{}'}}}}\n",
        signals.jwks()
    );
    let server = setup(&issuer, &more).serve();
    let token = issuer.token("alice");
    assert_eq!(status(&server.address, &token), 200);
    let as_access_token = signals.token_with(json!({"iss": name, "aud": "gate"}));
    assert_eq!(status(&server.address, &as_access_token), 401);
    let event =
        |by: &Issuer| event_token(by, "caep/event-type/session-revoked", subject("alice"), json!({"iss": name}));
    let answer = push(&server.events, &event(&issuer));
    assert_eq!((answer.status, &answer.json()["err"]), (400, &json!("invalid_key")), "the issuer's key is not its key");
    assert_eq!(push(&server.events, &event(&signals)).status, 202);
    assert_eq!(status(&server.address, &token), 401);
}

#[test]
fn the_doors_answer_in_the_words_of_their_protocols() {
    let issuer = Issuer::new();
    let server = setup(&issuer, "").serve();
    let logout = logout_token(&issuer, json!({"sid": "s-1"}));
    let event = event_token(&issuer, "caep/event-type/session-revoked", subject("alice"), json!({}));
    let form = format!("logout_token={logout}");
    let large = "x".repeat(40 << 10);
    let stranger = event_token(&Issuer::new(), "caep/event-type/session-revoked", subject("alice"), json!({}));
    let elsewhere = event_token(&issuer, "caep/event-type/session-revoked", subject("a"), json!({"aud": "x"}));
    let unknown =
        event_token(&issuer, "caep/event-type/session-revoked", subject("a"), json!({"iss": "https://x.example"}));
    let twice = format!("{form}&{form}");
    let with_nonce = format!("logout_token={}", logout_token(&issuer, json!({"sid": "s-1", "nonce": "n"})));
    let form_type: Fields<'_> = &[("content-type", FORM)];
    let event_type: Fields<'_> = &[("content-type", EVENT)];
    for (method, path, fields, body, want) in [
        ("POST", "/logout/backchannel", form_type, &*form, (200, "")),
        ("POST", "/logout/backchannel", form_type, &twice, (400, "invalid_request")),
        ("POST", "/logout/backchannel", form_type, &with_nonce, (400, "invalid_request")),
        ("POST", "/logout/backchannel", form_type, "", (400, "invalid_request")),
        ("POST", "/logout/backchannel", form_type, &large, (413, "invalid_request")),
        ("POST", "/logout/backchannel", event_type, &*form, (400, "invalid_request")),
        ("POST", "/logout/backchannel", &[], &*form, (400, "invalid_request")),
        ("GET", "/logout/backchannel", form_type, "", (405, "")),
        ("POST", "/events", event_type, &*event, (202, "")),
        ("POST", "/events", event_type, &forged(&event), (400, "invalid_key")),
        ("POST", "/events", event_type, &stranger, (400, "invalid_key")),
        ("POST", "/events", event_type, &elsewhere, (400, "invalid_audience")),
        ("POST", "/events", event_type, &unknown, (400, "invalid_issuer")),
        ("POST", "/events", event_type, &logout, (400, "invalid_audience")),
        ("POST", "/events", event_type, "", (400, "invalid_request")),
        ("POST", "/events", event_type, "{}", (400, "invalid_request")),
        ("POST", "/events", event_type, &large, (413, "invalid_request")),
        ("POST", "/events", &[("content-type", "application/json")], &*event, (400, "invalid_request")),
        ("PUT", "/events", event_type, &*event, (405, "")),
        ("POST", "/v1/data", &[], "{}", (404, "")),
        ("GET", "/health", &[], "", (404, "")),
        ("GET", "/metrics", &[], "", (404, "")),
        ("POST", "/v1/revocations", &[], "{}", (404, "")),
    ] {
        let answer = once(&server.events, method, path, fields, body.as_bytes());
        let word = match answer.header("content-type") {
            Some("application/json") => {
                let json = answer.json();
                json["err"].as_str().or(json["error"].as_str()).unwrap_or("?").to_owned()
            }
            _ => String::new(),
        };
        assert_eq!((answer.status, &*word), want, "{method} {path} {body:.40}: {answer:?}");
        if path == "/events" && !word.is_empty() {
            assert_eq!(answer.header("content-language"), Some("en"));
        }
        assert!(!answer.text().contains("https://"), "{answer:?}");
    }
    // Issuers' doors are nowhere else.
    for address in [&server.address, &server.admin] {
        for path in ["/events", "/logout/backchannel"] {
            let answer = once(address, "POST", path, event_type, event.as_bytes());
            assert_eq!(answer.status, 404, "{address}{path}");
        }
    }
}

#[test]
fn a_transmitter_presents_the_credential_when_one_is_configured() {
    let issuer = Issuer::new();
    let setup = setup(&issuer, "  authorization_file: credential\n").file("credential", "0123456789abcdef\n");
    let server = setup.serve();
    let event = event_token(&issuer, "caep/event-type/session-revoked", subject("alice"), json!({}));
    for (authorization, want) in [
        (None, 401),
        (Some("Bearer 0123456789abcdeX"), 401),
        (Some("0123456789abcdef"), 401),
        (Some("Bearer 0123456789abcdef"), 202),
    ] {
        let mut fields = vec![("content-type", EVENT)];
        fields.extend(authorization.map(|value| ("authorization", value)));
        let answer = once(&server.events, "POST", "/events", &fields, event.as_bytes());
        assert_eq!(answer.status, want, "{authorization:?}: {answer:?}");
        if want == 401 {
            assert_eq!(answer.json()["err"], "authentication_failed");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    // Logout tokens come from browsers' issuers without one.
    assert_eq!(log_out(&server.events, &logout_token(&issuer, json!({"sid": "s"}))).status, 200);
}

#[test]
fn what_cannot_be_verified_yet_is_to_be_sent_again() {
    let issuer = Issuer::new();
    // Nothing answers there, so the keys of this transmitter are never had.
    let more = format!(
        "  - {{issuer: 'https://down.example', audience: gate, tokens_of: '{ISSUER}', jwks: {{url: 'http://127.0.0.1:1/jwks'}}}}\n"
    );
    let server = setup(&issuer, &more).tweak(|settings| settings.reload.startup.key_wait /= 100).serve();
    let event =
        event_token(&issuer, "caep/event-type/session-revoked", subject("a"), json!({"iss": "https://down.example"}));
    let answer = push(&server.events, &event);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
    assert_eq!(server.metric("claimgate_issuer_events_total", &["result=\"unavailable\""]), 1.0);
}

#[test]
fn a_flood_of_forged_statements_writes_nothing() {
    let issuer = Issuer::new();
    let setup = setup(&issuer, "");
    let server = setup.serve();
    let size = |server: &Server| {
        let files = std::fs::read_dir(server.directory.path().join("state")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let token = issuer.token("alice");
    assert_eq!(status(&server.address, &token), 200);
    let before = size(&server);
    let good = event_token(&issuer, "caep/event-type/session-revoked", subject("alice"), json!({}));
    let bad = forged(&good);
    for _ in 0..200 {
        assert_eq!(push(&server.events, &bad).status, 400);
    }
    assert_eq!(size(&server), before);
    assert_eq!(status(&server.address, &token), 200);
    assert_eq!(push(&server.events, &good).status, 202);
    let after = size(&server);
    assert!(after > before, "the good one is on disk");
    for _ in 0..50 {
        assert_eq!(push(&server.events, &good).status, 202);
    }
    assert_eq!(size(&server), after, "repeated, it is not written again");
}
