//! The end of the real program: SIGTERM, "not ready", the request under way is answered, and the exit code.

use std::net::TcpStream;

use serde_json::json;

use crate::support::{
    eventually,
    http::{Client, request},
    program::Program,
    setup::Setup,
};

const CONFIG: &str = "opa: {identity: passthrough}\npolicy: {bundles: [{name: b, path: bundle}]}\n\
                      decision_log: {to: file, path: decisions.log}\n";

fn setup(more: &str) -> Setup {
    Setup::new(&format!("{CONFIG}{more}")).file("bundle/p.rego", "package p\nallow := input.user == \"alice\"\n")
}

#[test]
fn sigterm_lets_the_request_under_way_end_and_the_program_end_well() {
    let directory = setup("shutdown: {wait: 300ms, grace: 20s}\n").into_directory();
    let mut program = Program::run(directory.path());
    let mut slow = Client::connect(&program.address);
    assert_eq!(slow.get("/health").status, 200);
    let bytes = request("POST", "/v1/data/p/allow", &[], br#"{"input":{"user":"alice"}}"#);
    slow.write(&bytes[..bytes.len() - 5]);

    let mut probe = Client::connect(&program.admin);
    assert_eq!(probe.get("/ready").status, 200);
    program.signal("TERM");
    eventually("not ready", || (probe.get("/ready").status == 503).then_some(()));
    assert_eq!(probe.get("/health").status, 200, "alive until the end");
    eventually("the listener is closed", || TcpStream::connect(&program.address).is_err().then_some(()));

    slow.write(&bytes[bytes.len() - 5..]);
    assert_eq!(slow.answer(false).result(), json!(true), "the request under way is answered");
    assert_eq!(program.wait(), Some(0), "{}", program.log());
    let decisions = std::fs::read_to_string(directory.path().join("decisions.log")).unwrap();
    assert!(decisions.lines().last().is_some_and(|line| line.contains("\"path\":\"p/allow\"")), "{decisions}");
}

#[test]
fn a_request_that_never_ends_does_not_hold_the_program() {
    let directory = setup("shutdown: {wait: 0s, grace: 50ms}\n").into_directory();
    let mut program = Program::run(directory.path());
    let mut stuck = Client::connect(&program.address);
    assert_eq!(stuck.get("/health").status, 200);
    stuck.write(b"POST /v1/data/p/allow HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{");
    program.signal("TERM");
    assert_eq!(program.wait(), Some(0), "{}", program.log());
    assert!(stuck.is_closed());
}

#[test]
fn sighup_reloads_and_opens_the_decision_log_anew() {
    let directory = setup("reload: {events: false, poll_interval: 1h}\n").into_directory();
    let program = Program::run(directory.path());
    let ask = || program.send("POST", "/v1/data/p/allow", &[], r#"{"input":{"user":"bob"}}"#).result();
    assert_eq!(ask(), json!(false));
    std::fs::write(directory.path().join("bundle/p.rego"), "package p\nallow := input.user == \"bob\"\n").unwrap();
    let log = directory.path().join("decisions.log");
    eventually("the event is written", || std::fs::read_to_string(&log).ok()?.contains("p/allow").then_some(()));
    std::fs::rename(&log, directory.path().join("decisions.1")).unwrap();
    program.signal("HUP");
    eventually("the new policy decides", || (ask() == json!(true)).then_some(()));
    eventually("events go to the new file", || {
        ask();
        std::fs::read_to_string(&log).ok()?.contains("p/allow").then_some(())
    });
}
