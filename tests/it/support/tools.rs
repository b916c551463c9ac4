//! Programs that some tests need and cannot bring along. Without one a test says that it was skipped, and why; where
//! `CLAIMGATE_CI` is set, a missing program is a failure, unless `CLAIMGATE_WITHOUT` names it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The program, or `None` when it is not installed and may be missing. `variable` names an environment variable that
/// overrides where it is looked for.
pub(crate) fn find(name: &str, variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.filter(|path| path.is_file()).or_else(|| {
        let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        places.map(|place| place.join(name)).find(|candidate| candidate.is_file())
    });
    if found.is_none() && std::env::var("CLAIMGATE_WITHOUT").is_ok_and(|without| without == name) {
        say(&format!("skipped: {name} is not installed"));
    } else if found.is_none() {
        missing(&format!("{name} is not installed (or say where by {variable})"));
    }
    found
}

/// Ends the test as skipped, or as failed where everything must be there.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("CLAIMGATE_CI").is_none(), "{what}, and CLAIMGATE_CI forbids to skip the test");
    say(&format!("skipped: {what}"));
}

/// The test harness hides what passing tests print; this goes around it.
fn say(line: &str) {
    // Nobody to hear it is no reason to fail.
    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), format!("{line}\n").as_bytes());
}

/// A child process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let program = Path::new(command.get_program()).to_path_buf();
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
    }
}

impl Drop for Running {
    /// First a plea, so that a program ends its own children too; then force.
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = Command::new("kill").arg(self.0.id().to_string()).status();
            let began = Instant::now();
            while matches!(self.0.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(5) {
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
