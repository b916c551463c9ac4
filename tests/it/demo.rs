//! `claimgate demo` as a newcomer meets it: the printed lines are pasted into a shell, one after the other, and what
//! they say happens.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::PATIENCE;

/// From a saved file to the first decision with it; the target is half of this.
const TURN: Duration = Duration::from_secs(1);

/// A running demo; killed when dropped.
struct Demo {
    child: Child,
    /// What it prints, line by line.
    text: Vec<String>,
    log: Receiver<String>,
}

impl Demo {
    fn start(directory: &Path, temporary: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_claimgate"))
            .args(["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .current_dir(directory)
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("claimgate runs");
        let stdout = lines(child.stdout.take().expect("piped"));
        let log = lines(child.stderr.take().expect("piped"));
        let mut text = Vec::new();
        loop {
            match stdout.recv_timeout(PATIENCE) {
                Ok(line) if line.contains("Ctrl-C ends the demo") => break,
                Ok(line) => text.push(line),
                Err(_) => panic!("the demo stopped after {text:#?}\n{:#?}", log.try_iter().collect::<Vec<_>>()),
            }
        }
        Self { child, text, log }
    }

    /// The line below `# {number}. `.
    fn line(&self, number: usize) -> &str {
        let title = self.text.iter().position(|line| line.starts_with(&format!("# {number}. ")));
        let title = title.unwrap_or_else(|| panic!("no scene {number} in {:#?}", self.text));
        &self.text[title + 1]
    }

    /// The path after a name of the introduction.
    fn path(&self, name: &str) -> &Path {
        let line = self.text.iter().find_map(|line| line.strip_prefix(&format!("  {name}")));
        Path::new(line.unwrap_or_else(|| panic!("no {name}")).trim())
    }

    /// Pastes a curl line: the answer's body and status.
    fn ask(&self, number: usize) -> (Value, u16) {
        let printed = shell(self.line(number));
        let (body, status) = printed.trim_end().rsplit_once('\n').unwrap_or_else(|| panic!("{number}: {printed:?}"));
        let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{number}: {body:?}: {error}"));
        (body, status.parse().expect("a status"))
    }

    /// Pastes until the answer is as expected; how long that took.
    fn ask_until(&self, number: usize, is_expected: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let (body, _) = self.ask(number);
            if is_expected(&body) {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "{number}: still {body}");
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pipe to its end, so that its writer never waits.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // The receiver goes first when a test fails.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: curl is not installed, and the demo's lines use it");
    }
    found
}

#[test]
fn every_line_of_the_demo_does_what_it_says() {
    if !has_curl() {
        return;
    }
    let (elsewhere, temporary) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let demo = Demo::start(elsewhere.path(), temporary.path());
    assert!(demo.path("data").starts_with(temporary.path()), "outside the repository copies are served");

    for (number, reason) in [
        (1, None),
        (2, None),
        (3, Some("nobody granted `edit` on folder `campaign-2026`")),
        (4, Some("the account is suspended")),
        (5, Some("the quota is used up")),
    ] {
        let (body, status) = demo.ask(number);
        assert_eq!(status, 200, "{number}: {body}");
        assert_eq!(body["result"]["allow"], reason.is_none(), "{number}: {body}");
        assert_eq!(body["result"]["reason"].as_str(), reason, "{number}: {body}");
    }
    let refused: Vec<(Value, u16)> = [6, 7, 8].map(|number| demo.ask(number)).into();
    assert!(refused.iter().all(|(_, status)| *status == 401), "{refused:?}");
    assert_eq!(refused[0], refused[1], "a client cannot tell an expired token from a forged one");

    shell(demo.line(9));
    let took = demo.ask_until(1, |body| body["result"]["reason"] == "the account is suspended");
    assert!(took < TURN, "the suspension took {took:?}");
    shell(demo.line(10));
    let took = demo.ask_until(1, |body| body["result"]["allow"] == true);
    assert!(took < TURN, "the way back took {took:?}");

    shell(&format!("kill -TERM {}", demo.child.id()));
    let mut log = String::new();
    // The pipe closes when the demo ends.
    while let Ok(line) = demo.log.recv_timeout(PATIENCE) {
        log.push_str(&line);
        log.push('\n');
    }
    for code in ["expired", "bad_signature", "no_token"] {
        assert!(log.contains(&format!("code=\"{code}\"")), "`{code}` is not in the log:\n{log}");
    }
    let decisions = fs::read_to_string(demo.path("decisions")).expect("a decision log");
    assert!(decisions.lines().count() >= 10, "{decisions}");
    for number in 1..=7 {
        let token = demo.line(number).split_once("Bearer ").expect("a token").1.split('\'').next().expect("its end");
        for part in token.split('.').skip(1) {
            assert!(!log.contains(part), "scene {number}: token bytes are in the log");
            assert!(!decisions.contains(part), "scene {number}: token bytes are in the decision log");
        }
    }
}

#[test]
fn in_a_checkout_the_demo_serves_the_checkout() {
    let temporary = tempfile::tempdir().expect("a directory");
    let demo = Demo::start(Path::new(env!("CARGO_MANIFEST_DIR")), temporary.path());
    assert_eq!(demo.path("policy"), Path::new(env!("CARGO_MANIFEST_DIR")).join("rego"));
    assert_eq!(demo.path("data"), Path::new(env!("CARGO_MANIFEST_DIR")).join("data"));
    assert!(demo.path("config").starts_with(temporary.path()));
}
