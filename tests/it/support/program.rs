//! The real program: `claimgate run` as a child process, on ports that the system chooses, found in its log.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use super::{
    eventually,
    http::{Answer, Fields, once},
    tools::Running,
};

/// A running `claimgate run`; killed at the end of the test.
pub(crate) struct Program {
    running: Running,
    /// First address of the data plane.
    pub(crate) address: String,
    /// The admin listener's address.
    pub(crate) admin: String,
    /// The address of the listener for issuers; `none` without one.
    pub(crate) events: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts `claimgate run -c claimgate.yaml` in `directory` and waits until it is ready.
    pub(crate) fn run(directory: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimgate"));
        command.current_dir(directory).args(["run", "-c", "claimgate.yaml"]);
        let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let log = Arc::new(Mutex::new(Vec::new()));
        let keep = |pipe: Box<dyn std::io::Read + Send>| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    log.lock().unwrap().push(line);
                }
            });
        };
        keep(Box::new(running.0.stdout.take().unwrap()));
        keep(Box::new(running.0.stderr.take().unwrap()));
        let mut program = Self { running, address: String::new(), admin: String::new(), events: String::new(), log };
        (program.address, program.admin, program.events) = eventually("the program says where it listens", || {
            assert!(program.running.0.try_wait().unwrap().is_none(), "the program ended:\n{}", program.log());
            listeners(&program.log())
        });
        eventually("the program is ready", || (program.admin("/ready").status == 200).then_some(()));
        program
    }

    pub(crate) fn admin(&self, target: &str) -> Answer {
        once(&self.admin, "GET", target, &[], b"")
    }

    pub(crate) fn send(&self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> Answer {
        once(&self.address, method, target, fields, body.as_bytes())
    }

    pub(crate) fn id(&self) -> u32 {
        self.running.0.id()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends a signal by its name (`TERM`, `HUP`).
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        eventually("the program ends", || self.running.0.try_wait().unwrap()).code()
    }
}

/// The addresses of the data plane and of the admin listener in the line that says that all is ready.
fn listeners(log: &str) -> Option<(String, String, String)> {
    let line = log.lines().find(|line| line.contains("claimgate is ready"))?;
    let value = |name: &str| {
        let (_, rest) =
            line.split_once(&format!("{name}=\"")).or_else(|| line.split_once(&format!("\"{name}\":\"")))?;
        rest.split(['"', ',']).next().map(str::to_owned)
    };
    Some((value("listen")?, value("admin")?, value("events")?))
}
