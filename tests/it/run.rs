//! `claimgate run` as an operator meets it: the start, signals, the end, and what a changed configuration does.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, eventually, http::once};

/// A running server on ports that the system chose; killed when dropped.
struct Server {
    child: Child,
    log: Receiver<String>,
    /// What the log said so far.
    seen: Vec<String>,
    listen: String,
}

impl Server {
    fn start(directory: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_claimgate"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(args)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("claimgate runs");
        let pipe = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                // The receiver goes first when a test fails.
                let _ = sender.send(line);
            }
        });
        let mut server = Self { child, log, seen: Vec::new(), listen: String::new() };
        let ready = server.wait_for("claimgate is ready");
        let (_, rest) = ready.split_once("listen").expect("an address");
        server.listen = rest.trim_start_matches(['=', '"', ':']).split('"').next().unwrap_or_default().to_owned();
        server
    }

    /// Reads the log until a line contains `text`.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("`{text}` is not in the log: {:#?}", self.seen),
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Reads the log to its end; the exit code and everything that was logged.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        (self.child.wait().expect("a child").code(), std::mem::take(&mut self.seen))
    }

    /// `result` of a document, or `null`.
    fn ask(&self, path: &str) -> Value {
        let answer = once(&self.listen, "GET", &format!("/v1/data/{path}"), &[], b"");
        answer.json()["result"].take()
    }

    /// Asks until the answer is `expected`.
    fn ask_until(&self, path: &str, expected: &Value) {
        eventually(&format!("data.{path} is {expected}"), || (self.ask(path) == *expected).then_some(()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with a configuration and a bundle for each of some numbers: `data.p.x` is the number.
fn directory(config: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for number in [1, 2] {
        let bundle = directory.path().join(number.to_string());
        fs::create_dir(&bundle).expect("writable");
        fs::write(bundle.join("p.rego"), format!("package p\n\nx := {number}\n")).expect("writable");
    }
    fs::write(directory.path().join("claimgate.yaml"), config).expect("writable");
    directory
}

fn has_content(file: &Path) -> Option<()> {
    fs::metadata(file).is_ok_and(|file| file.len() > 0).then_some(())
}

const ONE: &str = "opa: {identity: passthrough}\npolicy: {bundles: [\"1\"]}\n";

#[test]
fn the_ready_line_names_addresses_and_revision_and_sigterm_ends_with_code_zero() {
    let directory = directory(ONE);
    let server = Server::start(directory.path(), &["-c", "claimgate.yaml"]);
    let ready = server.seen.last().expect("a line").clone();
    for name in ["listen=\"127.0.0.1:", "admin=\"127.0.0.1:", "revision=\"", "version=\""] {
        assert!(ready.contains(name), "{ready}");
    }
    assert_eq!(server.ask("p/x"), json!(1));
    server.signal("TERM");
    let listen = server.listen.clone();
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.last().is_some_and(|line| line.ends_with("stopped")), "{log:#?}");
    assert!(TcpStream::connect(listen).is_err());
}

#[test]
fn a_second_signal_ends_without_a_drain() {
    let directory = directory(ONE);
    let mut server = Server::start(directory.path(), &["-c", "claimgate.yaml", "--set", "shutdown.wait=5m"]);
    server.signal("INT");
    server.wait_for("not ready from now on");
    server.signal("INT");
    let began = Instant::now();
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("a second signal: ending without a drain")), "{log:#?}");
    assert!(began.elapsed() < PATIENCE, "{log:#?}");
}

#[test]
fn sighup_opens_the_decision_log_anew() {
    let directory = directory(ONE);
    let mut server =
        Server::start(directory.path(), &["-c", "claimgate.yaml", "--set", "decision_log.path=decisions.log"]);
    let (log, rotated) = (directory.path().join("decisions.log"), directory.path().join("decisions.log.1"));
    server.ask("p/x");
    eventually("an event is written", || has_content(&log));
    fs::rename(&log, &rotated).expect("movable");
    server.signal("HUP");
    server.wait_for("SIGHUP");
    eventually("an event is in the new file", || {
        server.ask("p/x");
        has_content(&log)
    });
}

#[test]
fn a_changed_configuration_takes_effect_and_flags_stay() {
    let directory = directory(ONE);
    let file = directory.path().join("claimgate.yaml");
    let mut server = Server::start(directory.path(), &["-c", "claimgate.yaml", "--set", "limits.json_depth=50"]);
    assert_eq!(server.ask("p/x"), json!(1));
    fs::write(&file, ONE.replace("\"1\"", "\"2\"")).expect("writable");
    server.ask_until("p/x", &json!(2));

    fs::write(&file, ONE.replace("bundles", "bundle")).expect("writable");
    let line = server.wait_for("claimgate.yaml:2:10");
    assert!(line.contains("did you mean `bundles`?"), "{line}");
    assert_eq!(server.ask("p/x"), json!(2), "the last good state serves");

    fs::write(&file, ONE).expect("writable");
    server.ask_until("p/x", &json!(1));
}

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let directory = directory(ONE);
    let server = Server::start(directory.path(), &["-c", "claimgate.yaml", "--set", "log.format=json"]);
    server.signal("TERM");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log:#?}");
    for line in log {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(line["message"].is_string() && line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn a_health_check_believes_the_status() {
    let directory = directory(ONE);
    let server = Server::start(directory.path(), &["-c", "claimgate.yaml"]);
    for (path, code, stdout, stderr) in
        [("/health?bundles", 0, "ready\n", ""), ("/no/such/page", 1, "", "/no/such/page answered 404")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
            .args(["healthcheck", "--admin-url", &format!("http://{}{path}", server.listen)])
            .output()
            .expect("claimgate runs");
        let text = format!("{path}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{text}");
        assert!(text.contains(stderr), "{text}");
    }
}
