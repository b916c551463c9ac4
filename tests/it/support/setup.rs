//! A directory with a configuration, policies, data and keys, and the library's server on it: the same parts that
//! `claimgate run` puts together, on ports that the system chooses.

use std::{fs, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

use claimgate::{
    config::{self, Origin},
    reload,
    revocation::Store,
    serve,
    shutdown::{self, Trigger},
    snapshot::Handle,
    telemetry::Telemetry,
};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};

use super::{
    PATIENCE,
    http::{Answer, Client, Fields, once},
};

/// Files in a directory of their own.
pub(crate) struct Setup {
    directory: TempDir,
    tweak: Box<dyn FnOnce(&mut config::Settings) + Send>,
}

/// A running server of the library; ends with the test.
pub(crate) struct Server {
    pub(crate) directory: TempDir,
    /// First address of the data plane.
    pub(crate) address: String,
    /// The admin listener's address.
    pub(crate) admin: String,
    /// The address of the listener for issuers.
    pub(crate) events: String,
    pub(crate) snapshots: Handle,
    pub(crate) telemetry: Telemetry,
    trigger: Trigger,
    thread: Option<JoinHandle<bool>>,
}

/// As the program's own workers have: policy is evaluated on them.
const STACK: usize = 8 << 20;

/// Listeners on ports that the system chooses.
const LISTEN: &str = "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}\n";

// === impl Setup ===

impl Setup {
    /// With this configuration file; where to listen is added when it does not say.
    pub(crate) fn new(config: &str) -> Self {
        let setup = Self { directory: tempfile::tempdir().unwrap(), tweak: Box::new(|_| ()) };
        let listen = if config.contains("listen:") { "" } else { LISTEN };
        setup.file("claimgate.yaml", &format!("{listen}{config}"))
    }

    /// Plain OPA on one bundle in `bundle/`.
    pub(crate) fn passthrough() -> Self {
        Self::new("opa: {identity: passthrough}\npolicy: {bundles: [{name: b, path: bundle}]}\n")
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        write(self.directory.path(), path, content);
        self
    }

    /// Copies a directory of the repository to `to`.
    pub(crate) fn copy(self, from: &str, to: &str) -> Self {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(from), &self.directory.path().join(to));
        self
    }

    /// Changes settings that a configuration file cannot express, such as times that are too short for any user.
    pub(crate) fn tweak(self, tweak: impl FnOnce(&mut config::Settings) + Send + 'static) -> Self {
        Self { tweak: Box::new(tweak), ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn into_directory(self) -> TempDir {
        self.directory
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn serve(self) -> Server {
        let Self { directory, tweak } = self;
        let origin = Origin { file: Some(directory.path().join("claimgate.yaml")), overrides: Vec::new() };
        let mut settings = config::load(&origin, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"));
        tweak(&mut settings);
        let (trigger, signal) = shutdown::channel();
        let (started, start) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2).thread_stack_size(STACK).enable_all();
            let runtime = runtime.build().unwrap();
            runtime.block_on(async move {
                let bound = serve::bind(&settings.serve).await.unwrap();
                let force = Arc::new(Notify::new());
                let (snapshots, _) = reload::start(settings.reload, None, force, signal.clone())
                    .await
                    .unwrap_or_else(|problems| panic!("{problems:#?}"));
                let revocations = Arc::new(Store::open(&settings.revocation).unwrap());
                let telemetry =
                    Telemetry::new(settings.decision_log, snapshots.clone(), Arc::clone(&revocations)).unwrap();
                let addresses = (bound.addresses(), bound.admin_address(), bound.events_address());
                assert!(started.send((addresses, snapshots.clone(), telemetry.clone())).is_ok());
                let drained = bound.serve(settings.serve, snapshots, telemetry.clone(), revocations, signal).await;
                drained && telemetry.flush(PATIENCE)
            })
        });
        let Ok(((addresses, admin, events), snapshots, telemetry)) = start.blocking_recv() else {
            let reason = thread.join().map_or_else(|panic| panic_text(&*panic), |_| "it ended".to_owned());
            panic!("the server did not start: {reason}");
        };
        Server {
            directory,
            address: addresses[0].clone(),
            admin: admin.unwrap_or_default(),
            events: events.unwrap_or_default(),
            snapshots,
            telemetry,
            trigger,
            thread: Some(thread),
        }
    }
}

// === impl Server ===

impl Server {
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    /// One request to the data plane on a connection of its own.
    pub(crate) fn send(&self, method: &str, target: &str, fields: Fields<'_>, body: &str) -> Answer {
        once(&self.address, method, target, fields, body.as_bytes())
    }

    pub(crate) fn post(&self, target: &str, fields: Fields<'_>, body: &str) -> Answer {
        self.send("POST", target, fields, body)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], "")
    }

    pub(crate) fn admin(&self, target: &str) -> Answer {
        once(&self.admin, "GET", target, &[], b"")
    }

    /// Replaces a file as editors do: a new file is renamed over the old one.
    pub(crate) fn replace(&self, path: &str, content: &str) {
        let fresh = self.directory.path().join(format!("{path}.tmp"));
        fs::write(&fresh, content).unwrap();
        fs::rename(&fresh, self.directory.path().join(path)).unwrap();
    }

    /// Begins the shutdown without waiting for its end.
    pub(crate) fn begin_shutdown(&self) {
        self.trigger.begin();
    }

    /// Waits for the end of the shutdown; `true` when everything drained.
    pub(crate) fn end(mut self) -> bool {
        self.trigger.begin();
        self.thread.take().is_some_and(|thread| thread.join().unwrap())
    }

    /// The sum of all samples of a metric whose labels contain `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        metric(&self.telemetry.metrics().render().unwrap(), name, labels)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.trigger.begin();
        if let Some(thread) = self.thread.take() {
            // A panic of the server was reported on its own thread.
            let _ = thread.join();
        }
    }
}

/// The sum of all samples called `name` with all of `labels`.
pub(crate) fn metric(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    exposition
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

pub(crate) fn write(directory: &Path, path: &str, content: &str) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// A short time for settings.
pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
