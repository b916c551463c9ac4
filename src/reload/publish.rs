//! The only writer of snapshots: puts together what the files and each issuer's keys say, and keeps the health report.
//!
//! It waits for nobody's I/O. Files and issuers report through channels and fail on their own; a snapshot is published
//! when, and only when, its content differs from the current one.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{self, SHA256};
use tokio::{
    sync::{Notify, mpsc},
    task::{AbortHandle, JoinHandle},
};

use super::{
    KeySource, Pinned, Reconfigure, RevocationFile, Settings, aside,
    files::{Change, Files},
    jwks::{Command, Issuer, KeyChange, Update, Waiter, dropped_by_reason},
    keep::Keeper,
    load::{self, Loaded, problem},
    unix_now,
};
use crate::{
    shutdown,
    snapshot::{self, Handle, Health, KeyHealth, KeyRequest, KeysFrom, Problem, Publisher, Snapshot},
    token::{IssuerProfile, KeyRing, KeySet},
};

/// Messages that may wait for the publisher, which never waits itself.
const QUEUE: usize = 64;
/// Requests that may wait for one issuer's task; more are answered with "no".
const MAX_COMMANDS: usize = 1024;

/// The writer.
#[derive(Debug)]
struct Writer {
    publisher: Publisher,
    state: State,
    issuers: Issuers,
    /// What the program started with and does not change until it starts again.
    started_with: Pinned,
}

/// What the next snapshot is made from.
#[derive(Debug)]
struct State {
    world: Loaded,
    keys: KeyRing,
    revoked: RevocationFile,
}

/// The tasks that hold remote keys.
#[derive(Debug)]
struct Issuers {
    tasks: BTreeMap<String, Task>,
    updates: mpsc::Sender<Update>,
    next_generation: u64,
    /// Where keys are kept over a restart.
    directory: Option<PathBuf>,
}

#[derive(Debug)]
struct Task {
    generation: u64,
    /// Source and algorithms: when they change, the task is replaced.
    identity: String,
    commands: mpsc::Sender<Command>,
    handle: AbortHandle,
}

/// See [`super::start`].
pub(super) async fn start(
    settings: Settings,
    reconfigure: Option<Reconfigure>,
    force: Arc<Notify>,
    mut shutdown: shutdown::Signal,
) -> Result<(Handle, JoinHandle<()>), Vec<Problem>> {
    let settings = Arc::new(settings);
    let to_load = Arc::clone(&settings);
    let first = aside::run(move || load::once(&to_load)).await.map_err(|problem| vec![problem])??;

    let mut state = State { keys: KeyRing::default(), world: first.0.clone(), revoked: first.0.revoked.clone() };
    let mut health = Health { reloads: 1, last_success: unix_now(), ..Health::default() };
    for (issuer, keys) in &state.world.local_keys {
        state.keys.insert(issuer.clone(), Arc::clone(keys));
        health.keys.insert(issuer.clone(), KeyHealth { generation: 1, ..local_health(keys) });
    }

    let (updates, mut from_issuers) = mpsc::channel(QUEUE);
    let mut issuers =
        Issuers { tasks: BTreeMap::new(), updates, next_generation: 0, directory: settings.state_directory.clone() };
    issuers.reconcile(&settings.profiles);
    let patience = settings.startup.key_wait;
    first_keys(&issuers, &mut from_issuers, &mut state, &mut health, patience).await;

    let started_with = all_pinned(&settings);
    let (publisher, handle, requests) = snapshot::channel(state.snapshot(), health);
    let (changes, from_files) = mpsc::channel(QUEUE);
    let files = tokio::spawn(Files::new(settings, reconfigure, first, changes, force).run());
    let writer = Writer { publisher, state, issuers, started_with };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = shutdown.begun() => {}
            () = writer.run(from_files, from_issuers, requests) => {}
        }
        files.abort();
    });
    Ok((handle, task))
}

/// Waits until every remote issuer tried once, or patience ends. No keys are no reason not to start.
async fn first_keys(
    issuers: &Issuers,
    updates: &mut mpsc::Receiver<Update>,
    state: &mut State,
    health: &mut Health,
    patience: Duration,
) {
    let mut missing: Vec<String> = issuers.tasks.keys().cloned().collect();
    let all = async {
        while !missing.is_empty() {
            let Some(update) = updates.recv().await else { return };
            if update.is_attempt {
                missing.retain(|issuer| *issuer != update.issuer);
            }
            if let KeyChange::New(keys) = update.change {
                state.keys.insert(update.issuer.clone(), keys);
            }
            health.keys.insert(update.issuer, update.health);
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(issuers = ?missing, "starting without the keys of these issuers; their tokens are answered with 503 until they come");
    }
    for issuer in missing {
        health.keys.entry(issuer).or_default();
    }
}

// === impl Writer ===

impl Writer {
    async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        mut updates: mpsc::Receiver<Update>,
        mut requests: mpsc::Receiver<KeyRequest>,
    ) {
        let mut has_files = true;
        loop {
            tokio::select! {
                change = changes.recv(), if has_files => match change {
                    Some(change) => self.apply(change),
                    None => {
                        has_files = false;
                        let message = "files are not looked at any more; restart, and please report this";
                        self.report(vec![problem("internal_error", message, None)]);
                    }
                },
                Some(update) = updates.recv() => self.update(update),
                Some(request) = requests.recv() => self.issuers.pass_on(request),
                else => return,
            }
        }
    }

    /// What the files said.
    fn apply(&mut self, change: Change) {
        for (issuer, keys) in change.local_keys {
            self.publisher.update_health(|health| {
                let before = health.keys.get(&issuer).map_or(0, |keys| keys.generation);
                let now = KeyHealth { generation: before.saturating_add(1), ..local_health(&keys) };
                health.keys.insert(issuer.clone(), now);
            });
            self.state.keys.insert(issuer, keys);
        }
        for (issuer, problem) in change.key_problems {
            self.publisher.update_health(|health| {
                health.keys.entry(issuer).or_default().last_error = Some(problem.message);
            });
        }
        if let Some(world) = change.world {
            self.state.world = world;
        }
        if let Some(revoked) = change.revoked {
            self.state.revoked = revoked;
        }
        if let Some(settings) = &change.settings {
            self.adopt(settings);
        }
        if change.is_forced {
            self.issuers.refresh();
        }
        let has_published = self.publish();
        if has_published {
            self.publisher.update_health(|health| health.reloads += 1);
        } else if change.is_forced && change.report.as_ref().is_some_and(Vec::is_empty) {
            tracing::info!("looked at everything as asked; nothing has changed");
        }
        if let Some(problems) = change.report {
            self.report(problems);
        }
    }

    /// Issuers come and go with the configuration. The keys of one whose source or algorithms changed are not carried
    /// over: they were admitted under other rules.
    fn adopt(&mut self, settings: &Settings) {
        self.note_restart(self.started_with.differences(&all_pinned(settings)));
        let replaced = self.issuers.reconcile(&settings.profiles);
        let is_known = |issuer: &str| settings.profiles.iter().any(|(profile, _)| profile.issuer() == issuer);
        let known: Vec<String> = self.publisher.health().keys.keys().cloned().collect();
        for issuer in known {
            let is_replaced = replaced.contains(&issuer) && !self.state.world.local_keys.contains_key(&issuer);
            if !is_known(&issuer) || is_replaced {
                self.state.keys.remove(&issuer);
                self.publisher.update_health(|health| drop(health.keys.remove(&issuer)));
            }
        }
        for (profile, _) in settings.profiles.iter().filter(|(_, source)| *source != KeySource::None) {
            self.publisher.update_health(|health| {
                health.keys.entry(profile.issuer().to_owned()).or_default();
            });
        }
    }

    /// Tells of settings that were read and wait for the next start.
    fn note_restart(&self, sections: Vec<String>) {
        if self.publisher.health().restart_needed == sections {
            return;
        }
        if sections.is_empty() {
            tracing::info!("the configuration is again the one that the program started with; no restart is needed");
        } else {
            let sections = sections.join(", ");
            tracing::warn!(sections, "these sections changed and only take effect after a restart");
        }
        self.publisher.update_health(|health| health.restart_needed = sections);
    }

    /// What an issuer's task said.
    fn update(&mut self, update: Update) {
        if self.issuers.tasks.get(&update.issuer).is_none_or(|task| task.generation != update.generation) {
            return;
        }
        match update.change {
            KeyChange::Same => {}
            KeyChange::New(keys) => self.state.keys.insert(update.issuer.clone(), keys),
            KeyChange::Gone => self.state.keys.remove(&update.issuer),
        }
        self.publisher.update_health(|health| drop(health.keys.insert(update.issuer, update.health)));
        let has_published = self.publish();
        for waiter in update.waiters {
            // Whoever asked may have stopped waiting.
            let _ = waiter.send(has_published);
        }
    }

    /// Publishes, unless the content is what already serves.
    fn publish(&self) -> bool {
        let next = self.state.snapshot();
        let current = self.publisher.current();
        if next.revision == current.revision {
            return false;
        }
        tracing::info!(revision = next.revision, previous = current.revision, "snapshot activated");
        self.publisher.publish(next);
        true
    }

    fn report(&self, problems: Vec<Problem>) {
        if problems.is_empty() {
            if !self.publisher.health().errors.is_empty() {
                tracing::info!("reload works again; all problems are mended");
            }
            self.publisher.update_health(|health| {
                health.errors = Vec::new();
                health.last_success = unix_now();
            });
            return;
        }
        for problem in &problems {
            let location = problem.location.as_deref().unwrap_or("-");
            tracing::error!(
                code = problem.code,
                location,
                "reload failed, the last good state serves: {}",
                problem.message
            );
        }
        self.publisher.update_health(|health| {
            health.errors = problems;
            health.reload_failures += 1;
            health.last_failure = unix_now();
        });
    }
}

// === impl State ===

impl State {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision(),
            activated_at: SystemTime::now(),
            policies: Arc::clone(&self.world.policies),
            entrypoint: self.world.entrypoint.clone(),
            profiles: Arc::clone(&self.world.profiles),
            keys: Arc::new(self.keys.clone()),
            subject: self.world.subject.clone(),
            anonymous: self.world.anonymous,
            revocations: Arc::clone(&self.revoked.set),
        }
    }

    /// Equal content, equal revision. Every field is preceded by its length, so that none can pass for another.
    fn revision(&self) -> String {
        let mut context = digest::Context::new(&SHA256);
        let mut field = |text: &str| {
            context.update(&text.len().to_le_bytes());
            context.update(text.as_bytes());
        };
        field(self.world.policies.digest());
        for profile in self.world.profiles.iter() {
            field(&format!("{profile:?}"));
            let keys = self.keys.get(profile.issuer());
            field(keys.map_or("none", |keys| keys.digest()));
        }
        for transmitter in self.world.profiles.transmitters() {
            field(&format!("{transmitter:?}"));
            field(self.keys.get(&transmitter.issuer).map_or("none", |keys| keys.digest()));
        }
        field(&format!("{:?}", self.world.entrypoint));
        field(&format!("{:?}", self.world.anonymous));
        field(&format!("{:?}", self.world.subject));
        field(&format!("{:?}", self.revoked.digest));
        let digest = context.finish();
        digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

// === impl Issuers ===

impl Issuers {
    /// Starts, replaces and ends tasks so that they are those of `profiles`. Returns the issuers whose task is new or
    /// gone.
    fn reconcile(&mut self, profiles: &[(IssuerProfile, KeySource)]) -> Vec<String> {
        let mut wanted: BTreeMap<String, &(IssuerProfile, KeySource)> = BTreeMap::new();
        for pair in profiles.iter().filter(|(_, source)| source.is_remote()) {
            wanted.insert(pair.0.issuer().to_owned(), pair);
        }
        let mut changed = Vec::new();
        self.tasks.retain(|issuer, task| {
            let is_kept = wanted.get(issuer).is_some_and(|pair| identity(pair) == task.identity);
            if !is_kept {
                changed.push(issuer.clone());
            }
            is_kept
        });
        for (issuer, pair) in wanted {
            if !self.tasks.contains_key(&issuer) && self.begin(&issuer, pair) {
                changed.push(issuer);
            }
        }
        changed
    }

    fn begin(&mut self, issuer: &str, pair: &(IssuerProfile, KeySource)) -> bool {
        let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
        let generation = self.next_generation;
        self.next_generation += 1;
        let (profile, source) = pair.clone();
        let keeper = Keeper::new(self.directory.clone(), &profile, &source);
        let task = Issuer::over_network(profile, source, generation, receiver, self.updates.clone());
        let Some(task) = task else { return false };
        let task = task.with(keeper);
        let handle = tokio::spawn(task.run_over_network()).abort_handle();
        let task = Task { generation, identity: identity(pair), commands, handle };
        self.tasks.insert(issuer.to_owned(), task);
        true
    }

    /// Hands a request to its issuer's task. A dropped request is answered with "no".
    fn pass_on(&self, request: KeyRequest) {
        if let Some(task) = self.tasks.get(&request.issuer) {
            // A full queue drops it too.
            let _ = task.commands.try_send(Command::Want(Waiter { done: request.done, wanted: request.wanted }));
        }
    }

    fn refresh(&self) {
        for task in self.tasks.values() {
            // A full queue means that the issuer is busy fetching already.
            let _ = task.commands.try_send(Command::Refresh);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// What needs a restart to change, the part that this module knows included.
fn all_pinned(settings: &Settings) -> Pinned {
    let mut pinned = settings.pinned.clone();
    pinned.set("reload.events", &settings.watch.events);
    pinned
}

fn identity((profile, source): &(IssuerProfile, KeySource)) -> String {
    format!("{:?} {source:?}", profile.algorithms())
}

fn local_health(keys: &KeySet) -> KeyHealth {
    KeyHealth {
        keys: Some(keys.len()),
        source: Some(KeysFrom::Local),
        last_success: unix_now(),
        dropped: dropped_by_reason(keys),
        ..KeyHealth::default()
    }
}
