//! Revocation end to end: who may revoke, what it does to the next request on every door, the watched file, and that an
//! acknowledged revocation outlives `kill -9`.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::{Answer, once},
    program::Program,
    setup::{Server, Setup},
    tokens::{ISSUER, Issuer, now},
};

const CREDENTIAL: &str = "operator-credential-0123456789";
const POLICY: &str = "package p\n\nallow := true\n";

fn config(issuer: &Issuer, revocation: &str) -> String {
    format!(
        "{}policy: {{bundles: [{{name: b, path: bundle}}], entrypoint: p/allow}}\nrevocation: {{{revocation}}}\n\
         forward_auth: {{trusted_peers: [127.0.0.1]}}\nreload: {{settle: 10ms, debounce: 5ms}}\n",
        issuer.section()
    )
}

fn setup(issuer: &Issuer, revocation: &str) -> Setup {
    Setup::new(&config(issuer, revocation)).file("bundle/p.rego", POLICY)
}

fn server(issuer: &Issuer) -> Server {
    setup(issuer, &format!("token: {CREDENTIAL}, tenant_claim: org_id, max_entries: 1000")).serve()
}

fn post(admin: &str, credential: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {credential}");
    once(admin, "POST", "/v1/revocations", &[("authorization", &bearer)], body.as_bytes())
}

fn revoke(server: &Server, entry: &Value) -> Value {
    let answer = post(&server.admin, CREDENTIAL, &entry.to_string());
    assert_eq!(answer.status, 200, "{entry}: {answer:?}");
    answer.json()["result"].take()
}

/// What the OPA door says.
fn opa(server: &Server, token: &str) -> Answer {
    server.send("POST", "/v1/data/p/allow", &[("authorization", &format!("Bearer {token}"))], "{}")
}

/// What the OPA and the forward-auth door say about a token: both the same.
fn status(server: &Server, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let forwarded = [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/a"), ("authorization", bearer.as_str())];
    let opa = opa(server, token);
    let proxy = server.send("GET", "/forward-auth/traefik", &forwarded, "");
    assert_eq!(opa.status, proxy.status, "{opa:?} {proxy:?}");
    if opa.status == 401 {
        assert!(opa.header("www-authenticate").is_some_and(|challenge| challenge.contains("invalid_token")));
        assert!(!opa.text().contains("revoked"), "a client never learns why: {opa:?}");
    }
    opa.status
}

#[test]
fn every_kind_of_revocation_counts_on_the_next_request_and_hits_no_other_token() {
    let issuer = Issuer::new();
    let old = now() - 100;
    let claims = |changes: Value| {
        let mut claims =
            json!({"iat": old, "jti": "t1", "sub": "alice", "sid": "s1", "client_id": "app", "org_id": "acme"});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        issuer.token_with(claims)
    };
    let until = now() - 50;
    for (entry, code, other) in [
        (json!({"revoke": "token", "iss": ISSUER, "jti": "t1"}), "revoked_token", json!({"jti": "t2"})),
        (
            json!({"revoke": "subject", "iss": ISSUER, "sub": "alice", "valid_after": until}),
            "revoked_subject",
            json!({"sub": "bob"}),
        ),
        (
            json!({"revoke": "session", "iss": ISSUER, "sid": "s1", "valid_after": until}),
            "revoked_session",
            json!({"sid": "s2"}),
        ),
        (
            json!({"revoke": "client", "iss": ISSUER, "client_id": "app", "valid_after": until}),
            "revoked_client",
            json!({"client_id": "web", "azp": null}),
        ),
        (json!({"revoke": "tenant", "tenant": "acme", "valid_after": until}), "revoked_tenant", json!({"org_id": "b"})),
        (json!({"revoke": "issuer", "iss": ISSUER, "valid_after": until}), "revoked_issuer", json!({"iat": now()})),
        (
            json!({"revoke": "key", "iss": ISSUER, "kid": "k1", "valid_after": until}),
            "revoked_key",
            json!({"iat": now()}),
        ),
    ] {
        let server = server(&issuer);
        let (hit, other) = (claims(json!({})), claims(other));
        // Twice: the second time they come from the cache.
        for token in [&hit, &other, &hit, &other] {
            assert_eq!(status(&server, token), 200, "{entry}");
        }
        assert_eq!(revoke(&server, &entry), json!({"accepted": 1, "new": 1, "persisted": false}));
        assert_eq!((status(&server, &hit), status(&server, &other)), (401, 200), "{entry}");
        assert_eq!(server.metric("claimgate_token_verification_failures_total", &[code]), 2.0, "{entry}");
        assert_eq!(revoke(&server, &entry)["new"], 0, "saying it again changes nothing");
        if code != "revoked_token" {
            assert_eq!(
                status(&server, &claims(json!({"jti": "t3", "iat": now()}))),
                200,
                "issued after the epoch: {entry}"
            );
            assert_eq!(status(&server, &claims(json!({"jti": "t4", "iat": null}))), 401, "never issued: {entry}");
        }
    }
}

#[test]
fn a_key_without_an_epoch_is_revoked_whatever_its_tokens_claim() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    assert_eq!(status(&server, &issuer.token("alice")), 200);
    revoke(&server, &json!({"revoke": "key", "iss": ISSUER, "kid": "k1"}));
    assert_eq!(status(&server, &issuer.token_with(json!({"iat": now() + 20}))), 401);
}

#[test]
fn only_the_credential_opens_the_route() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let entry = json!({"revoke": "subject", "iss": ISSUER, "sub": "alice", "valid_after": now()}).to_string();
    let almost = CREDENTIAL.strip_suffix(char::is_numeric).unwrap();
    for authorization in [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(format!("Bearer {almost}")),
        Some(format!("Bearer {CREDENTIAL}0")),
        Some(format!("Basic {CREDENTIAL}")),
        Some(CREDENTIAL.to_owned()),
        Some(issuer.bearer("alice")),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let fields: Vec<_> = authorization.as_deref().map(|value| ("authorization", value)).into_iter().collect();
            let answer = once(&server.admin, method, "/v1/revocations", &fields, entry.as_bytes());
            assert_eq!(answer.status, 401, "{method} {authorization:?}");
            assert!(answer.header("www-authenticate").is_some());
        }
    }
    let bearer = format!("Bearer {CREDENTIAL}");
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(once(&server.admin, "POST", "/v1/revocations", &twice, entry.as_bytes()).status, 401);
    let delete = once(&server.admin, "DELETE", "/v1/revocations", &[("authorization", &bearer)], b"");
    assert_eq!(delete.status, 405);
    assert_eq!(
        server.post("/v1/revocations", &[("authorization", &bearer)], &entry).status,
        404,
        "not for applications"
    );
    assert_eq!(status(&server, &issuer.token("alice")), 200, "nothing was revoked");

    let closed = setup(&issuer, "").serve();
    let answer = post(&closed.admin, CREDENTIAL, &entry);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("revocations_closed")));
}

#[test]
fn what_is_malformed_or_could_hit_nothing_is_refused_as_a_whole() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let good = json!({"revoke": "subject", "iss": ISSUER, "sub": "alice", "valid_after": now()});
    for (body, place) in [
        (String::new(), "it is not valid JSON"),
        ("{".to_owned(), "it is not valid JSON"),
        (json!([good, {"revoke": "token", "iss": ISSUER}]).to_string(), "[1].jti: "),
        (json!([good, {"revoke": "token", "iss": "https://other", "jti": "x"}]).to_string(), "[1].iss: no issuer"),
        (json!({"revoke": "token", "iss": format!("{ISSUER}/"), "jti": "x"}).to_string(), "iss: no issuer"),
        (
            json!({"revoke": "subject", "iss": ISSUER, "sub": "alice", "valid_after": now() * 1000}).to_string(),
            "valid_after: ",
        ),
        (json!({"revoke": "subject", "iss": ISSUER, "sub": "alice", "valid_after": 1, "x": 1}).to_string(), "x: "),
    ] {
        let answer = post(&server.admin, CREDENTIAL, &body);
        let got = answer.json();
        assert_eq!((answer.status, got["code"].as_str()), (400, Some("revocation_malformed")), "{body}");
        assert!(got["message"].as_str().unwrap().starts_with(place), "{body}: {got}");
    }
    assert_eq!(status(&server, &issuer.token("alice")), 200, "nothing was revoked");
    let many: Vec<_> = (0..1001).map(|n| json!({"revoke": "token", "iss": ISSUER, "jti": n.to_string()})).collect();
    let answer = post(&server.admin, CREDENTIAL, &Value::from(many).to_string());
    assert_eq!((answer.status, answer.json()["code"].as_str()), (507, Some("revocations_full")));
    let no_tenant = setup(&issuer, &format!("token: {CREDENTIAL}")).serve();
    let answer = post(&no_tenant.admin, CREDENTIAL, r#"{"revoke":"tenant","tenant":"acme","valid_after":1}"#);
    assert!(answer.status == 400 && answer.text().contains("revocation.tenant_claim"), "{answer:?}");
}

#[test]
fn an_operator_sees_how_many_there_are() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let entries = json!([
        {"revoke": "token", "iss": ISSUER, "jti": "a"}, {"revoke": "token", "iss": ISSUER, "jti": "b"},
        {"revoke": "key", "iss": ISSUER, "kid": "old"}
    ]);
    revoke(&server, &entries);
    let bearer = format!("Bearer {CREDENTIAL}");
    let seen =
        once(&server.admin, "GET", "/v1/revocations", &[("authorization", &bearer)], b"").json()["result"].take();
    assert_eq!(
        (&seen["entries"]["token"], &seen["entries"]["key"], &seen["entries"]["issuer"]),
        (&json!(2), &json!(1), &json!(0))
    );
    assert!(seen["bytes"].as_u64().unwrap() > 0);
    assert_eq!(server.metric("claimgate_revocations", &["\"token\"", "\"received\""]), 2.0);
    assert_eq!(server.admin("/v1/status").json()["result"]["revocations"]["entries"]["token"], 2);
}

#[test]
fn the_watched_file_is_a_part_that_its_replacement_replaces_and_a_bad_one_leaves_alone() {
    let issuer = Issuer::new();
    let line = |subject: &str| {
        json!({"revoke": "subject", "iss": ISSUER, "sub": subject, "valid_after": now() + 60}).to_string() + "\n"
    };
    let server = setup(&issuer, "file: revoked.jsonl").file("revoked.jsonl", &line("alice")).serve();
    let (alice, bob) = (issuer.token("alice"), issuer.token("bob"));
    assert_eq!((status(&server, &alice), status(&server, &bob)), (401, 200));

    server.replace("revoked.jsonl", &line("bob"));
    eventually("the new file counts", || (opa(&server, &bob).status == 401).then_some(()));
    assert_eq!(status(&server, &alice), 200, "what the file does not say any more is not revoked");
    assert_eq!(server.metric("claimgate_revocations", &["\"subject\"", "\"file\""]), 1.0);

    server.replace("revoked.jsonl", &format!("{}{{\"revoke\": \"subject\"}}\n", line("alice")));
    let errors = eventually("the fault is told", || {
        let errors = server.admin("/v1/status").json()["result"]["errors"].take();
        (errors != json!([])).then_some(errors)
    });
    assert_eq!(errors[0]["code"], "revocation_file_error");
    assert!(errors[0]["message"].as_str().unwrap().starts_with("line 2: iss: it is missing"), "{errors}");
    assert_eq!((status(&server, &alice), status(&server, &bob)), (200, 401), "the last good file counts");

    // Policies that break meanwhile do not keep a revocation from counting.
    server.replace("bundle/p.rego", "package p\n\nallow if {\n");
    server.replace("revoked.jsonl", &(line("alice") + &line("bob")));
    eventually("the mended file counts", || (opa(&server, &alice).status == 401).then_some(()));
    assert_eq!(status(&server, &bob), 401);
    eventually("the fault of the policy is told", || {
        let errors = server.admin("/v1/status").json()["result"]["errors"].take().to_string();
        (errors.contains("p.rego") && !errors.contains("revoked.jsonl")).then_some(())
    });
}

#[test]
fn token_verify_tells_of_the_file() {
    let issuer = Issuer::new();
    let line = json!({"revoke": "subject", "iss": ISSUER, "sub": "alice", "valid_after": now() + 60}).to_string();
    let setup = setup(&issuer, "file: revoked.jsonl").file("revoked.jsonl", &line);
    for (subject, code, said) in
        [("alice", 1, "FAILED revocation revoked_subject: "), ("bob", 0, "passed revocation none of the 1 ")]
    {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_claimgate"));
        command.current_dir(setup.path()).args(["token", "verify", "-c", "claimgate.yaml", &issuer.token(subject)]);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn an_acknowledged_revocation_outlives_a_kill_in_the_middle_of_many() {
    let issuer = Issuer::new();
    let directory =
        setup(&issuer, "token_file: credential").file("credential", &format!("{CREDENTIAL}\n")).into_directory();
    let path = directory.path();
    let text = fs::read_to_string(path.join("claimgate.yaml")).unwrap();
    fs::write(path.join("claimgate.yaml"), format!("{text}state: {{directory: state}}\n")).unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..3 {
        let mut program = Program::run(path);
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let (admin, stop) = (program.admin.clone(), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let mut done = Vec::new();
                    for number in 0.. {
                        let id = format!("{round}-{sender}-{number}");
                        let entry = json!({"revoke": "token", "iss": ISSUER, "jti": id}).to_string();
                        match try_post(&admin, &entry) {
                            Some(200) => done.push(id),
                            Some(status) => panic!("{status}"),
                            // The program is gone.
                            None => break,
                        }
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    done
                })
            })
            .collect();
        eventually("some are acknowledged", || {
            let size = fs::metadata(path.join("state/revocations.journal")).ok()?.len();
            (size > 2_000 * (round + 1)).then_some(())
        });
        program.signal("KILL");
        program.wait();
        stop.store(true, Ordering::Relaxed);
        acknowledged.extend(senders.into_iter().flat_map(|sender| sender.join().unwrap()));
    }
    assert!(acknowledged.len() > 30, "{} acknowledged prove little", acknowledged.len());
    let program = Program::run(path);
    for id in &acknowledged {
        let bearer = format!("Bearer {}", issuer.token_with(json!({"jti": id})));
        let answer = program.send("POST", "/v1/data/p/allow", &[("authorization", &bearer)], "{}");
        assert_eq!(answer.status, 401, "{id} was acknowledged and is not revoked");
    }
    let bearer = issuer.bearer("alice");
    assert_eq!(program.send("POST", "/v1/data/p/allow", &[("authorization", &bearer)], "{}").status, 200);
}

/// `None` when the program went away before its answer came.
fn try_post(admin: &str, entry: &str) -> Option<u16> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(admin).ok()?;
    let request = format!(
        "POST /v1/revocations HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {CREDENTIAL}\r\n\
         content-length: {}\r\n\r\n{entry}",
        entry.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_damaged_journal_stops_the_start_and_says_where() {
    let issuer = Issuer::new();
    let directory = setup(&issuer, "").into_directory();
    let path = directory.path();
    let text = fs::read_to_string(path.join("claimgate.yaml")).unwrap();
    fs::write(path.join("claimgate.yaml"), format!("{text}state: {{directory: state}}\n")).unwrap();
    drop(Program::run(path));
    let mut journal = fs::read(path.join("state/revocations.journal")).unwrap();
    journal.extend_from_slice(&[7; 64]);
    fs::write(path.join("state/revocations.journal"), journal).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_claimgate"));
    let output = command.current_dir(path).args(["run", "-c", "claimgate.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("damaged at byte 24") && said.contains("truncate --size=24"), "{said}");
}
