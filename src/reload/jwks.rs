//! The life of one issuer's remote keys: load, refresh ahead, back off, answer for unknown key ids, go stale, end.
//!
//! One task per issuer, so that none waits for another. A task never touches a snapshot: it tells the publisher what
//! changed. All time is tokio's, so tests decide how it passes.

mod plan;
mod unknown;

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use self::{
    plan::{Discovered, Fetched, Plan},
    unknown::UnknownKeys,
};
use super::{
    FetchSettings, KeySource,
    discovery::Metadata,
    keep::{Keeper, Kept},
    network::{Answer, FetchError, Network, Transport},
    unix_now, until,
};
use crate::{
    snapshot::{KeyHealth, KeysFrom},
    token::{IssuerProfile, KeyOrigin, KeySet, WantedKey},
};

/// Bounds on what `Cache-Control: max-age` can ask for.
pub(super) const TTL_RANGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(60 * 60));
/// Back-off after failures: first and longest wait.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));
/// Requests that wait for one fetch. More are answered at once with "no".
const MAX_WAITERS: usize = 1024;
/// Whoever asks for keys this shortly after they changed took its snapshot before that.
const JUST_CHANGED: Duration = Duration::from_secs(1);
/// Counters of suppressed requests are told at most this often.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// What the publisher tells a task.
#[derive(Debug)]
pub(super) enum Command {
    /// A token names a key that is not there.
    Want(Waiter),
    /// The operator asks for a refresh.
    Refresh,
}

/// Who waits for a key.
#[derive(Debug)]
pub(super) struct Waiter {
    /// To be answered with whether to look again.
    pub(super) done: oneshot::Sender<bool>,
    /// The key, when the token names one.
    pub(super) wanted: Option<WantedKey>,
}

/// What a task tells the publisher.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) issuer: String,
    /// Which of the issuer's tasks says so; a replaced task's last words are void.
    pub(super) generation: u64,
    pub(super) change: KeyChange,
    pub(super) health: KeyHealth,
    /// To be answered with whether this update made a new snapshot.
    pub(super) waiters: Vec<oneshot::Sender<bool>>,
    /// A fetch ended, well or not.
    pub(super) is_attempt: bool,
}

/// What became of the keys.
#[derive(Debug)]
pub(super) enum KeyChange {
    /// As before.
    Same,
    /// A new set that replaces the old one.
    New(Arc<KeySet>),
    /// Too old to be used any longer.
    Gone,
}

/// One issuer's task.
pub(super) struct Issuer<T> {
    profile: IssuerProfile,
    source: KeySource,
    settings: FetchSettings,
    generation: u64,
    transport: Arc<T>,
    commands: mpsc::Receiver<Command>,
    updates: mpsc::Sender<Update>,
    keeper: Option<Keeper>,

    keys: Option<Arc<KeySet>>,
    etag: Option<String>,
    /// From the metadata document.
    discovered: Option<Discovered>,
    next_fetch: Instant,
    /// When the keys are removed unless a fetch succeeds before.
    end_of_keys: Option<Instant>,
    failures: u32,
    last_forced: Option<Instant>,
    last_change: Option<Instant>,

    waiters: Vec<Waiter>,
    unknown: UnknownKeys,
    health: KeyHealth,
    health_due: Option<Instant>,
}

/// A fetch under way.
type InFlight = Pin<Box<dyn Future<Output = Fetched> + Send>>;

// === impl Issuer ===

impl Issuer<Network> {
    /// A task for a remote source over the real network; `None` for a local one.
    pub(super) fn over_network(
        profile: IssuerProfile,
        source: KeySource,
        generation: u64,
        commands: mpsc::Receiver<Command>,
        updates: mpsc::Sender<Update>,
    ) -> Option<Self> {
        let (KeySource::Url { fetch, .. } | KeySource::Discovery { fetch, .. }) = &source else { return None };
        let settings = fetch.clone();
        let network = Arc::new(Network::new(settings.http.clone()));
        Some(Self::new(profile, source, settings, generation, network, commands, updates))
    }

    /// With keys over a restart.
    pub(super) fn with(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// Runs until the publisher is gone.
    pub(super) async fn run_over_network(mut self) {
        self.recall().await;
        self.run().await;
    }
}

impl<T: Transport> Issuer<T> {
    fn new(
        profile: IssuerProfile,
        source: KeySource,
        settings: FetchSettings,
        generation: u64,
        transport: Arc<T>,
        commands: mpsc::Receiver<Command>,
        updates: mpsc::Sender<Update>,
    ) -> Self {
        Self {
            profile,
            source,
            settings,
            generation,
            transport,
            commands,
            updates,
            keeper: None,
            keys: None,
            etag: None,
            discovered: None,
            next_fetch: Instant::now(),
            end_of_keys: None,
            failures: 0,
            last_forced: None,
            last_change: None,
            waiters: Vec::new(),
            unknown: UnknownKeys::default(),
            health: KeyHealth::default(),
            health_due: None,
        }
    }

    /// Begins with the keys that were kept, for what is left of their time.
    async fn recall(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let max_stale = self.settings.max_stale;
        let Some(Kept { keys, fetched_at, age }) = keeper.load(&self.profile, max_stale).await else { return };
        let (issuer, age_seconds) = (self.profile.issuer(), age.as_secs());
        tracing::info!(issuer, age_seconds, keys = keys.len(), "keys that were kept on disk serve until new ones come");
        let change = self.replace(keys);
        self.health.source = Some(KeysFrom::Disk);
        self.health.last_success = Some(fetched_at);
        self.end_of_keys = Instant::now().checked_add(max_stale.saturating_sub(age));
        self.tell(change, false).await;
    }

    async fn run(mut self) {
        let mut in_flight: Option<InFlight> = None;
        loop {
            tokio::select! {
                biased;
                fetched = land(&mut in_flight) => {
                    in_flight = None;
                    let change = self.take(fetched);
                    self.tell(change, true).await;
                }
                () = until(self.end_of_keys) => {
                    self.expire();
                    self.tell(KeyChange::Gone, false).await;
                }
                // Before the commands: a flood of them must not keep a refresh from beginning.
                () = sleep_until(self.next_fetch), if in_flight.is_none() => in_flight = Some(self.begin(false)),
                command = self.commands.recv() => match command {
                    None => return,
                    Some(Command::Refresh) => in_flight = Some(in_flight.unwrap_or_else(|| self.begin(true))),
                    Some(Command::Want(waiter)) => in_flight = self.want(waiter, in_flight),
                },
                () = until(self.health_due) => self.tell(KeyChange::Same, false).await,
            }
        }
    }

    /// A token names an unknown key. The slot is taken before the fetch and whatever comes of it, so a flood of
    /// made-up key ids costs one fetch per cooldown, also when the issuer is down or has no keys.
    fn want(&mut self, waiter: Waiter, in_flight: Option<InFlight>) -> Option<InFlight> {
        let now = Instant::now();
        if waiter.wanted.is_some_and(|wanted| self.unknown.holds(wanted, now)) {
            // The asker may have stopped waiting.
            let _ = waiter.done.send(false);
            self.health.negative_hits = self.health.negative_hits.saturating_add(1);
            self.health_due.get_or_insert(now + HEALTH_INTERVAL);
            return in_flight;
        }
        if in_flight.is_some() {
            self.wait(waiter);
            return in_flight;
        }
        let cooldown = self.settings.unknown_kid_cooldown;
        if self.last_forced.is_some_and(|last| now.duration_since(last) < cooldown) {
            let just_changed = self.last_change.is_some_and(|last| now.duration_since(last) < JUST_CHANGED);
            let _ = waiter.done.send(just_changed);
            if !just_changed {
                self.health.suppressed_refreshes = self.health.suppressed_refreshes.saturating_add(1);
                self.health_due.get_or_insert(now + HEALTH_INTERVAL);
            }
            return None;
        }
        self.last_forced = Some(now);
        self.health.forced_refreshes = self.health.forced_refreshes.saturating_add(1);
        self.wait(waiter);
        Some(self.begin(false))
    }

    fn wait(&mut self, waiter: Waiter) {
        self.waiters.retain(|waiter| !waiter.done.is_closed());
        if self.waiters.len() < MAX_WAITERS {
            self.waiters.push(waiter);
        }
    }

    /// Starts a fetch; `looks`: at the files of certificates first.
    fn begin(&self, looks: bool) -> InFlight {
        let plan = Plan {
            profile: self.profile.clone(),
            source: self.source.clone(),
            allow_http: self.settings.http.allow_http,
            default_ttl: self.settings.ttl,
            max_stale: self.settings.max_stale,
            discovered: self.discovered.clone(),
            etag: self.etag.clone(),
            looks,
        };
        Box::pin(plan.fetch(Arc::clone(&self.transport)))
    }

    /// A fetch ended; are there keys in it?
    fn take(&mut self, fetched: Fetched) -> KeyChange {
        self.discovered = fetched.discovered;
        if let Some(metadata) = fetched.metadata {
            self.learn(metadata);
        }
        let answer = match fetched.answer {
            Ok(answer) => answer,
            Err(error) => {
                self.fail(&error);
                return KeyChange::Same;
            }
        };
        let (change, max_age) = match answer {
            Answer::NotModified { max_age } if self.keys.is_some() => (KeyChange::Same, max_age),
            // The keys ended while the request was under way.
            Answer::NotModified { .. } => {
                self.fail(&FetchError::StrayNotModified);
                return KeyChange::Same;
            }
            Answer::Body { bytes, etag, max_age } => match self.parse(&bytes) {
                Ok(keys) => {
                    self.etag = etag;
                    if let Some(keeper) = &mut self.keeper {
                        keeper.hold(&keys, &bytes);
                    }
                    self.health.dropped = dropped_by_reason(&keys);
                    let is_same = self.keys.as_ref().is_some_and(|old| old.digest() == keys.digest());
                    if is_same { (KeyChange::Same, max_age) } else { (self.replace(keys), max_age) }
                }
                Err(error) => {
                    self.fail(&error);
                    return KeyChange::Same;
                }
            },
        };
        let now = Instant::now();
        let ttl = max_age.map_or(self.settings.ttl, |age| age.clamp(TTL_RANGE.0, TTL_RANGE.1));
        self.next_fetch = now + ttl.mul_f64(0.75 + 0.1 * random());
        self.end_of_keys = (now + ttl).checked_add(self.settings.max_stale);
        if self.failures > 0 {
            tracing::info!(issuer = self.profile.issuer(), "keys can be had again");
        }
        self.failures = 0;
        self.health.last_error = None;
        self.health.last_success = unix_now();
        self.health.source = Some(KeysFrom::Network);
        self.health.fetches = self.health.fetches.saturating_add(1);
        if let Some(keeper) = &mut self.keeper {
            keeper.write();
        }
        self.note_unknown(now);
        change
    }

    /// Of the keys that are waited for, those that did not come.
    fn note_unknown(&mut self, now: Instant) {
        let Some(keys) = &self.keys else { return };
        for wanted in self.waiters.iter().filter_map(|waiter| waiter.wanted) {
            if keys.has_named(wanted) {
                self.unknown.forget(wanted);
            } else {
                self.unknown.note(wanted, now, self.settings.unknown_kid_cooldown);
            }
        }
    }

    /// What the metadata said besides where the keys are.
    fn learn(&mut self, metadata: Metadata) {
        let issuer = self.profile.issuer();
        if metadata.has_no_common_algorithm && !self.health.has_no_common_algorithm {
            let configured: Vec<&str> = self.profile.algorithms().iter().map(|algorithm| algorithm.name()).collect();
            let configured = configured.join(", ");
            tracing::warn!(
                issuer,
                configured,
                "the issuer's metadata lists signature algorithms, and none of the configured ones is among them; if \
                 its tokens are refused, look at `algorithms`"
            );
        }
        self.health.has_no_common_algorithm = metadata.has_no_common_algorithm;
        self.health.introspection_endpoint = metadata.introspection.map(String::from);
    }

    fn replace(&mut self, keys: KeySet) -> KeyChange {
        self.health.keys = Some(keys.len());
        self.health.generation = self.health.generation.saturating_add(1);
        self.health.dropped = dropped_by_reason(&keys);
        let (issuer, dropped) = (self.profile.issuer(), &self.health.dropped);
        if dropped.is_empty() {
            tracing::info!(issuer, keys = keys.len(), "keys changed");
        } else {
            tracing::warn!(issuer, keys = keys.len(), ?dropped, "keys changed; some were not usable");
        }
        let keys = Arc::new(keys);
        self.keys = Some(Arc::clone(&keys));
        self.last_change = Some(Instant::now());
        KeyChange::New(keys)
    }

    fn parse(&self, bytes: &[u8]) -> Result<KeySet, FetchError> {
        KeySet::parse(bytes, KeyOrigin::Remote, self.profile.algorithms())
            .map_err(|error| FetchError::BadKeySet { code: error.code, reason: error.to_string() })
    }

    /// A failure keeps what there is and tries again later, ever later. Each distinct error is logged once.
    fn fail(&mut self, error: &FetchError) {
        let text = error.to_string();
        if self.health.last_error.as_ref() != Some(&text) {
            let (issuer, code) = (self.profile.issuer(), error.code());
            tracing::error!(issuer, code, error = text, have_keys = self.keys.is_some(), "keys cannot be had");
        }
        self.health.last_error = Some(text);
        self.health.last_failure = unix_now();
        self.health.fetch_failures = self.health.fetch_failures.saturating_add(1);
        let wait = BACKOFF.0.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(BACKOFF.1);
        self.failures = self.failures.saturating_add(1).min(16);
        self.next_fetch = Instant::now() + wait.mul_f64(0.75 + 0.5 * random());
    }

    fn expire(&mut self) {
        let issuer = self.profile.issuer();
        tracing::error!(
            issuer,
            "keys are too old to be used any longer; tokens of this issuer are refused until new ones come"
        );
        self.keys = None;
        self.etag = None;
        self.end_of_keys = None;
        self.health.keys = Some(0);
        self.health.source = None;
    }

    async fn tell(&mut self, change: KeyChange, is_attempt: bool) {
        self.health_due = None;
        let update = Update {
            issuer: self.profile.issuer().to_owned(),
            generation: self.generation,
            change,
            health: self.health.clone(),
            waiters: if is_attempt { self.waiters.drain(..).map(|waiter| waiter.done).collect() } else { Vec::new() },
            is_attempt,
        };
        // The publisher is gone: so are the commands, and the loop ends.
        let _ = self.updates.send(update).await;
    }
}

/// Resolves when the fetch under way ends; never when there is none.
async fn land(in_flight: &mut Option<InFlight>) -> Fetched {
    match in_flight {
        Some(fetch) => fetch.as_mut().await,
        None => std::future::pending().await,
    }
}

/// How many keys of a set were dropped, by reason; the reasons are a closed list.
pub(super) fn dropped_by_reason(keys: &KeySet) -> BTreeMap<String, usize> {
    keys.dropped().iter().fold(BTreeMap::new(), |mut dropped, key| {
        *dropped.entry(key.reason.to_owned()).or_default() += 1;
        dropped
    })
}

/// Uniform in 0..1, to spread the requests of many sidecars. Without randomness, they come together.
fn random() -> f64 {
    let mut bytes = [0; 4];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
