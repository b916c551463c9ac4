//! A start without the network, by the real program: the keys of the last fetch serve for as long as `max_stale` says from
//! when they were fetched, and for no longer.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;

use crate::support::{
    eventually,
    program::Program,
    setup::{Setup, metric},
    tokens::{AUDIENCE, ISSUER, Issuer, now},
};

/// Answers every request with a key set until it is told to stop; then its port is closed.
struct Keys {
    port: u16,
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Keys {
    fn serve(jwks: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                let length = jwks.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{jwks}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { port, is_over, thread }
    }

    fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.port));
        self.thread.join().unwrap();
    }
}

fn config(port: u16, max_stale: &str) -> String {
    format!(
        "listen: 127.0.0.1:0\nadmin: {{listen: '127.0.0.1:0'}}\nstate: {{directory: state}}\n\
         issuers: [{{issuer: '{ISSUER}', audiences: [{AUDIENCE}], jwks: {{url: 'http://127.0.0.1:{port}/keys', \
         max_stale: {max_stale}}}}}]\npolicy: {{bundles: [bundle], entrypoint: p/allow}}\n"
    )
}

/// The file of kept keys.
fn kept(state: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(state).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    names.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "json"))
}

#[test]
fn keys_of_the_last_fetch_serve_a_start_without_the_network_until_they_are_too_old() {
    let issuer = Issuer::new();
    let keys = Keys::serve(issuer.jwks());
    let port = keys.port;
    let directory = Setup::new(&config(port, "24h"))
        .file("bundle/p.rego", "package p\n\nallow if input.token.subject == \"alice\"\n")
        .into_directory();
    let state = directory.path().join("state");
    let bearer = issuer.bearer("alice");
    let ask = |program: &Program| program.send("POST", "/v1/data/p/allow", &[("authorization", &bearer)], "{}");
    let status = |program: &Program| program.admin("/v1/status").json()["result"]["keys"][ISSUER].clone();

    let program = Program::run(directory.path());
    assert_eq!(ask(&program).status, 200);
    assert_eq!(status(&program)["source"], "network");
    let file = eventually("the keys are kept", || kept(&state));
    drop(program);
    keys.end();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&state), mode(&file)), (0o700, 0o600));
    let content = fs::read_to_string(&file).unwrap();
    let fetched_at = serde_json::from_str::<Value>(&content).unwrap()["fetched_at"].as_i64().unwrap();

    let program = Program::run(directory.path());
    assert_eq!(ask(&program).status, 200, "{}", program.log());
    let keys = status(&program);
    assert_eq!((&keys["source"], &keys["last_success"]), (&"disk".into(), &fetched_at.into()));
    assert!(keys["last_error"].is_string(), "{keys}");
    let metrics = program.admin("/metrics").text();
    assert_eq!(metric(&metrics, "claimgate_jwks_from_disk", &[ISSUER]), 1.0);
    assert_eq!(metric(&metrics, "claimgate_jwks_failing", &[ISSUER]), 1.0);
    drop(program);

    let refused = |why: &str| {
        let program = Program::run(directory.path());
        let answer = ask(&program);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("temporarily_unavailable")), "{why}");
        assert!(program.log().contains(why), "{why}: {}", program.log());
    };
    eventually("the keys are older than a second", || (now() > fetched_at).then_some(()));
    fs::write(directory.path().join("claimgate.yaml"), config(port, "1s")).unwrap();
    refused("longer than `max_stale`");
    fs::write(directory.path().join("claimgate.yaml"), config(port, "24h")).unwrap();
    fs::write(&file, content.replace(&fetched_at.to_string(), &(fetched_at - 1).to_string())).unwrap();
    refused("damaged");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    refused("others may write it");
}

#[test]
fn a_state_directory_that_others_may_write_keeps_the_program_from_starting() {
    let directory = Setup::new(&config(1, "24h")).file("bundle/p.rego", "package p\n").into_directory();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o770)).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_claimgate"));
    let output = command.args(["run", "-c", "claimgate.yaml"]).current_dir(directory.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("claimgate.yaml:3:") && text.contains("chmod go-w"), "{text}");
}
