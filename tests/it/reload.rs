//! Files change → a new snapshot, or the last good one with a report. Real directories, real events, and polling; every
//! wait is for a snapshot or a report and bounded.

mod changes;
mod configuration;
mod faults;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use claimgate::{
    policy::{DataPath, EvalOptions, Outcome},
    reload::{self, BundleSpec, Reconfigure, Settings, WatchSettings},
    shutdown,
    snapshot::{Handle, Health, Problem, Snapshot},
};
use tempfile::TempDir;
use tokio::sync::Notify;

/// Longest wait for anything; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is asked of every policy here.
const ANSWER: &str = "t/answer";

/// How changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watching {
    Events,
    Polls,
}

impl Watching {
    fn settings(self) -> WatchSettings {
        let brief = WatchSettings {
            debounce: Duration::from_millis(40),
            settle: Duration::from_millis(100),
            ..WatchSettings::default()
        };
        match self {
            Self::Events => WatchSettings { poll_interval: None, ..brief },
            Self::Polls => WatchSettings { events: false, poll_interval: Some(Duration::from_millis(50)), ..brief },
        }
    }
}

/// A temporary directory.
struct Tree {
    root: TempDir,
}

impl Tree {
    fn new() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    /// A bundle `b` that answers `version`.
    fn answering(version: &str) -> Self {
        let tree = Self::new();
        tree.write("b/policy.rego", policy(version));
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Puts a whole file in place at once, its directories included.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = self.path(".beside");
        fs::write(&beside, content).unwrap();
        fs::rename(beside, path).unwrap();
    }

    /// Empties a file and writes it, as programs do that take no care.
    fn write_in_place(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn link(&self, target: &str, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Bundle `b`.
    fn settings(&self, watching: Watching) -> Settings {
        let bundle = BundleSpec { name: "b".to_owned(), path: self.path("b") };
        Settings { bundles: vec![bundle], watch: watching.settings(), ..Settings::default() }
    }
}

/// A policy whose answer is `version`.
fn policy(version: &str) -> String {
    format!("package t\n\nanswer := \"{version}\"\n")
}

/// A policy whose answer is what the data at `data.version` says.
const FROM_DATA: &str = "package t\n\nanswer := data.version\n";

/// A running `reload`.
struct World {
    handle: Handle,
    force: Arc<Notify>,
    _shutdown: shutdown::Trigger,
}

impl World {
    async fn start(settings: Settings) -> Self {
        Self::configured(settings, None).await
    }

    async fn configured(settings: Settings, reconfigure: Option<Reconfigure>) -> Self {
        let (trigger, signal) = shutdown::channel();
        let force = Arc::new(Notify::new());
        let (handle, _task) = reload::start(settings, reconfigure, Arc::clone(&force), signal).await.unwrap();
        Self { handle, force, _shutdown: trigger }
    }

    fn answer(&self) -> String {
        answer(&self.handle.current())
    }

    fn revision(&self) -> String {
        self.handle.current().revision.clone()
    }

    /// Waits until policy answers `expected`.
    async fn until_answer(&mut self, context: impl fmt::Debug, expected: &str) {
        let reached = async {
            while self.answer() != expected {
                assert!(self.handle.changed().await, "reload runs");
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{context:?}: still {}, not {expected}; {:?}", self.answer(), self.handle.health());
        }
    }

    /// Waits until the report is as wanted.
    async fn until_health(&self, context: impl fmt::Debug, wanted: impl Fn(&Health) -> bool) -> Arc<Health> {
        let begin = Instant::now();
        loop {
            let health = self.handle.health();
            if wanted(&health) {
                return health;
            }
            assert!(begin.elapsed() < PATIENCE, "{context:?}: never came: {health:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a report of problems.
    async fn until_problems(&self, context: impl fmt::Debug) -> Vec<Problem> {
        self.until_health(context, |health| !health.errors.is_empty()).await.errors.clone()
    }
}

/// What the policy of a snapshot answers, as text; data is quoted as JSON.
fn answer(snapshot: &Snapshot) -> String {
    let options = EvalOptions { deadline: Some(PATIENCE), ..EvalOptions::default() };
    match snapshot.policies.evaluate(&DataPath::from_slash(ANSWER), None, &options) {
        Ok(Outcome::Undefined) => "undefined".to_owned(),
        Ok(Outcome::Value(value)) => value.to_string().trim_matches('"').to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}
