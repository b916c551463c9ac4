//! When to look at the files again: change events, debounced, and polls where events cannot be had.
//!
//! An event is only a hint to look: what changed is decided by comparing pictures, so a lost, doubled or misleading
//! event costs a look and never a wrong state. Directories are watched one by one, never recursively and never files:
//! a file that is replaced takes its watch along with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::sync::Notify;

use super::{
    WatchSettings,
    links::Watched,
    read::{PlaceKind, is_source_name},
};

/// A file that is being written in place is waited for until its writer closes it, but no longer than this.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Poll interval where events were wanted and cannot be had.
const FALLBACK_POLL: Duration = Duration::from_secs(1);

/// Watches directories.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    system: Mutex<System>,
}

/// What the event thread and the waiting task have in common.
#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    /// What matters; set by [`Watcher::sync`].
    wanted: Watched,
    /// Something happened since the last [`Watcher::settled`] ended.
    is_dirty: bool,
    /// When the newest thing happened.
    newest: Option<Instant>,
    /// Watched directories that were moved or removed: their watch, if any, is on something else now.
    gone: BTreeSet<PathBuf>,
    /// Files that were written to and not yet closed, and when that was first seen.
    writing: BTreeMap<PathBuf, Instant>,
    /// The system dropped events.
    overflowed: bool,
}

/// The operating system's side.
#[derive(Debug)]
struct System {
    events: Option<RecommendedWatcher>,
    /// Watched directories with device and inode.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Some directory could not be watched.
    is_partial: bool,
    has_warned: bool,
}

// === impl Watcher ===

impl Watcher {
    /// A watcher of nothing. Where the system gives no events, it says so once and polls.
    pub(super) fn new(settings: &WatchSettings) -> Self {
        let shared = Arc::new(Shared::default());
        let mut system =
            System { events: None, watched: BTreeMap::new(), is_partial: false, has_warned: !settings.events };
        if settings.events {
            let sink = Arc::clone(&shared);
            match notify::recommended_watcher(move |event| sink.receive(event)) {
                Ok(watcher) => system.events = Some(watcher),
                Err(error) => system.warn(&error),
            }
        }
        Self { shared, system: Mutex::new(system) }
    }

    /// Watches exactly the directories of `wanted`. Blocks for some system calls. Whatever changes after the return
    /// is seen; when the answer is `true`, directories were added, and the caller looks again for what changed before.
    pub(super) fn sync(&self, wanted: &Watched) -> bool {
        let mut system = lock(&self.system);
        let gone = {
            let mut seen = lock(&self.shared.seen);
            seen.wanted = wanted.clone();
            std::mem::take(&mut seen.gone)
        };
        let System { events: Some(events), watched, .. } = &mut *system else { return false };
        let stale: Vec<PathBuf> = watched
            .iter()
            .filter(|(path, identity)| {
                gone.contains(*path) || identity_of(path) != Some(**identity) || !wanted.watches(path)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in stale {
            watched.remove(&path);
            // The system often dropped it already.
            let _ = events.unwatch(&path);
        }
        let mut has_added = false;
        let mut failure = None;
        for path in wanted.directories() {
            let Some(identity) = identity_of(path).filter(|_| !watched.contains_key(path)) else { continue };
            match events.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(path.to_owned(), identity);
                    has_added = true;
                }
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) if wanted.is_needed(path) => failure = Some(error),
                Err(error) => tracing::debug!(%error, "cannot watch a directory on the way; polls cover it"),
            }
        }
        system.is_partial = failure.is_some();
        if let Some(error) = failure {
            system.warn(&error);
        }
        has_added
    }

    /// Waits for the first sign of a change.
    pub(super) async fn changed(&self) {
        loop {
            let wake = self.shared.wake.notified();
            if lock(&self.shared.seen).is_dirty {
                return;
            }
            wake.await;
        }
    }

    /// Waits until nothing happened for `settings.debounce`, at most `settings.max_debounce` in all; and longer, up to
    /// [`WRITE_PATIENCE`], for files whose writer still has them open. Restlessness is the caller's to judge.
    pub(super) async fn settled(&self, settings: &WatchSettings) {
        let begin = Instant::now();
        loop {
            let now = Instant::now();
            let wait = {
                let mut seen = lock(&self.shared.seen);
                seen.writing.retain(|_, since| now.duration_since(*since) < WRITE_PATIENCE);
                let quiet = seen.newest.map_or(settings.debounce, |newest| now.duration_since(newest));
                let left = settings.debounce.saturating_sub(quiet);
                let most = settings.max_debounce.saturating_sub(now.duration_since(begin));
                let wait = if seen.writing.is_empty() { left.min(most) } else { left.max(settings.debounce) };
                if wait.is_zero() {
                    seen.is_dirty = false;
                    return;
                }
                wait
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Can it be told that no writer has a file open?
    pub(super) fn is_quiet(&self, settings: &WatchSettings) -> bool {
        let system = lock(&self.system);
        settings.events && system.events.is_some() && !system.is_partial && lock(&self.shared.seen).writing.is_empty()
    }

    /// How long until the next look without an event; `None` when never.
    pub(super) fn poll_interval(&self, settings: &WatchSettings) -> Option<Duration> {
        let system = lock(&self.system);
        let is_blind = settings.events && (system.events.is_none() || system.is_partial);
        match settings.poll_interval {
            Some(interval) if is_blind => Some(interval.min(FALLBACK_POLL)),
            None if is_blind => Some(FALLBACK_POLL),
            other => other,
        }
    }

    /// Did the system drop events since the last call? Then no picture counts as seen.
    pub(super) fn take_overflow(&self) -> bool {
        std::mem::take(&mut lock(&self.shared.seen).overflowed)
    }
}

// === impl System ===

impl System {
    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                %error,
                "cannot watch every directory for changes and poll instead; on Linux the limits are \
                 fs.inotify.max_user_watches and fs.inotify.max_user_instances"
            );
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Runs on the event thread.
    fn receive(&self, event: notify::Result<Event>) {
        let mut seen = lock(&self.seen);
        let is_sign = match event {
            Ok(event) if event.need_rescan() => seen.lose_track(),
            Ok(event) => seen.note_all(&event),
            Err(error) => {
                tracing::debug!(%error, "file watching failed; everything is looked at again");
                seen.lose_track()
            }
        };
        if is_sign {
            seen.is_dirty = true;
            seen.newest = Some(Instant::now());
            drop(seen);
            self.wake.notify_one();
        }
    }
}

// === impl Seen ===

impl Seen {
    fn lose_track(&mut self) -> bool {
        self.writing.clear();
        self.gone.extend(self.wanted.directories().map(Path::to_owned));
        self.overflowed = true;
        true
    }

    fn note_all(&mut self, event: &Event) -> bool {
        let mut is_sign = false;
        for path in &event.paths {
            is_sign |= self.note(event.kind, path);
        }
        is_sign
    }

    /// Is this event a sign that something that matters changed?
    fn note(&mut self, kind: EventKind, path: &Path) -> bool {
        if !self.wanted.concerns(path) {
            return false;
        }
        let is_content =
            self.wanted.names(path) || path.file_name().is_none_or(|name| may_be_content(&name.to_string_lossy()));
        match kind {
            // Reading a file opens and closes it; that is us.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                self.writing.remove(path);
                is_content
            }
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                if is_content {
                    self.writing.entry(path.to_owned()).or_insert_with(Instant::now);
                }
                is_content
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => true,
            EventKind::Create(CreateKind::File) => {
                self.writing.remove(path);
                true
            }
            _ => {
                self.writing.remove(path);
                if self.wanted.watches(path) {
                    self.gone.insert(path.to_owned());
                }
                true
            }
        }
    }
}

/// Could a file of this name be read, whatever place it stands in?
fn may_be_content(name: &str) -> bool {
    is_source_name(PlaceKind::Bundle, name) || is_source_name(PlaceKind::Data, name)
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave a half-made state behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    /// A state that watches `/b` whole and the name `keys.json` in `/k`.
    fn seen() -> Seen {
        let mut wanted = Watched::default();
        wanted.directory(Path::new("/b"));
        wanted.entry(Path::new("/k"), "keys.json".as_ref());
        Seen { wanted, ..Seen::default() }
    }

    const READ: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Read));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    const CHMOD: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    const CREATED: EventKind = EventKind::Create(CreateKind::File);
    const REMOVED: EventKind = EventKind::Remove(RemoveKind::File);

    #[test]
    fn only_what_could_change_the_content_is_a_sign() {
        for (kind, path, expected) in [
            (WRITTEN, "/b/policy.rego", true),
            (CLOSED, "/b/data.json", true),
            (WRITTEN, "/b/notes.txt", false),
            (WRITTEN, "/b/sub/policy.rego", false),
            (WRITTEN, "/k/keys.json", true),
            (WRITTEN, "/k/other.json", false),
            (WRITTEN, "/elsewhere/policy.rego", false),
            (READ, "/b/policy.rego", false),
            (CREATED, "/b/sub", true),
            (RENAMED, "/b/..data", true),
            (REMOVED, "/b/policy.rego", true),
            (CHMOD, "/b/policy.rego", true),
        ] {
            assert_eq!(seen().note(kind, Path::new(path)), expected, "{kind:?} {path}");
        }
    }

    #[test]
    fn a_file_counts_as_being_written_from_its_first_byte_until_it_is_closed_or_gone() {
        for end in [CLOSED, REMOVED, RENAMED] {
            let mut seen = seen();
            let path = Path::new("/b/policy.rego");
            seen.note(CREATED, path);
            assert!(seen.writing.is_empty());
            seen.note(WRITTEN, path);
            assert_eq!(seen.writing.len(), 1);
            seen.note(end, path);
            assert!(seen.writing.is_empty(), "{end:?}");
        }
    }

    #[test]
    fn a_watched_directory_that_goes_is_watched_anew() {
        let mut seen = seen();
        assert!(seen.note(REMOVED, Path::new("/b")));
        assert_eq!(seen.gone, BTreeSet::from([PathBuf::from("/b")]));
    }

    #[test]
    fn lost_events_make_everything_count_as_changed() {
        let shared = Shared::default();
        *lock(&shared.seen) = seen();
        shared.receive(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        let seen = lock(&shared.seen);
        assert!(seen.is_dirty && seen.overflowed);
        assert_eq!(seen.gone.len(), 2);
    }

    #[test]
    fn where_events_cannot_be_had_it_polls_at_least_every_second() {
        let check = |events: bool, is_partial: bool, poll: Option<u64>, expected: Option<u64>| {
            let settings = WatchSettings { events, poll_interval: poll.map(Duration::from_secs), ..Default::default() };
            let watcher = Watcher::new(&settings);
            lock(&watcher.system).is_partial = is_partial;
            assert_eq!(watcher.poll_interval(&settings), expected.map(Duration::from_secs));
        };
        check(true, false, Some(5), Some(5));
        check(true, false, None, None);
        check(true, true, Some(5), Some(1));
        check(true, true, None, Some(1));
        check(false, false, Some(5), Some(5));
        check(false, false, None, None);
    }
}
