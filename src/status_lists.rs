//! Token status lists: fetches those that verified tokens name, and holds them for the request path, where looking one up is
//! a matter of memory alone. What a list says is judged in [`crate::token`].
//!
//! ```text
//! slot      the life of one list: one fetch at a time, refresh ahead, back-off, staleness
//! network   one fetch over `fetch`
//! ```
//!
//! Nobody is asked because of a token that did not verify. A list is asked for when a token names it: before it grows old in
//! the background, and when it is missing or old while the request waits, for a bounded time. Without a list its tokens do
//! not pass. Bounded by lists and by bytes; the one that was not used for longest goes first.

mod network;
mod slot;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::{
    runtime,
    sync::Semaphore,
    time::{Instant, timeout},
};

pub use self::slot::Lifetimes;
use self::{
    network::{FetchFault, Network, Source},
    slot::{Flight, Slot},
};
use crate::{
    fetch,
    snapshot::Handle,
    telemetry::StatusListMetrics,
    token::{KeySet, RawToken, StatusList, StatusListLimits, Statuses, UnixTime},
};

/// How lists are fetched and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Lists at a time. Default 100.
    pub lists: usize,
    /// Bytes of all lists, unpacked. Default 64 MiB.
    pub bytes: usize,
    /// Bytes of one list, unpacked. Default 8 MiB: 64 million tokens of one bit.
    pub list_bytes: usize,
    /// For how long lists are used.
    pub lifetimes: Lifetimes,
    /// How they are asked for. Its body size is that of a signed list as sent; default 4 MiB.
    pub transport: fetch::Settings,
    /// How long a request waits for a list. Default 2 s.
    pub patience: Duration,
}

/// All lists.
#[derive(Debug)]
pub struct StatusLists {
    settings: Settings,
    snapshots: Handle,
    source: Arc<dyn Source>,
    metrics: StatusListMetrics,
    slots: RwLock<Slots>,
    /// Places for fetches.
    places: Semaphore,
    /// Counts lookups, for who was used last.
    clock: AtomicU64,
    this: Weak<Self>,
}

/// How it goes with one list, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose tokens name it.
    pub issuer: String,
    /// Where it is.
    pub uri: String,
    /// Bytes, unpacked; none while it was never had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// Seconds since it was fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Code of the last failure; none since a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<&'static str>,
}

/// By issuer and URL.
type Slots = HashMap<String, HashMap<Arc<str>, Arc<Slot>>>;

/// Fetches at a time, of all lists.
const MOST_FETCHES: usize = 8;

impl Default for Settings {
    fn default() -> Self {
        let limits = StatusListLimits::default();
        Self {
            lists: 100,
            bytes: 64 << 20,
            list_bytes: limits.list_bytes,
            lifetimes: Lifetimes::default(),
            transport: fetch::Settings { max_body_bytes: limits.token_bytes, ..fetch::Settings::default() },
            patience: Duration::from_secs(2),
        }
    }
}

// === impl StatusLists ===

impl StatusLists {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(settings: Settings, snapshots: Handle, metrics: StatusListMetrics) -> Arc<Self> {
        let source = Arc::new(Network::new(settings.transport.clone()));
        Self::over(settings, snapshots, metrics, source)
    }

    fn over(settings: Settings, snapshots: Handle, metrics: StatusListMetrics, source: Arc<dyn Source>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            settings,
            snapshots,
            source,
            metrics,
            slots: RwLock::default(),
            places: Semaphore::new(MOST_FETCHES),
            clock: AtomicU64::new(0),
            this: Weak::clone(this),
        })
    }

    /// Asks for a list that a verified token names, unless that was tried a moment ago, and waits for it. `true`: look
    /// again.
    pub async fn fetch(&self, issuer: &str, uri: &Arc<str>) -> bool {
        let Some(slot) = self.slot(issuer, uri) else { return false };
        let Some(mut landed) = self.begin(&slot, issuer, uri) else { return false };
        // The sender is dropped when the fetch ends, well or not.
        let in_time = timeout(self.settings.patience, landed.changed()).await.is_ok();
        if !in_time {
            slot.is_slow();
        }
        true
    }

    /// All lists, for the operator.
    #[must_use]
    pub fn report(&self) -> Vec<Report> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let of_issuer = |(issuer, slots): (&String, &HashMap<Arc<str>, Arc<Slot>>)| -> Vec<Report> {
            let report = |(uri, slot): (&Arc<str>, &Arc<Slot>)| slot.report(issuer, uri);
            slots.iter().map(report).collect()
        };
        let mut all: Vec<Report> = slots.iter().flat_map(of_issuer).collect();
        all.sort_by(|one, other| (&one.issuer, &one.uri).cmp(&(&other.issuer, &other.uri)));
        all
    }

    fn find(&self, issuer: &str, uri: &Arc<str>) -> Option<Arc<Slot>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(issuer)?.get(uri).map(Arc::clone)
    }

    /// The slot of a list, made when there is none. A full house makes room first.
    fn slot(&self, issuer: &str, uri: &Arc<str>) -> Option<Arc<Slot>> {
        if let Some(slot) = self.find(issuer, uri) {
            return Some(slot);
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        while slots.values().map(HashMap::len).sum::<usize>() >= self.settings.lists.max(1) {
            if !drop_oldest(&mut slots, None) {
                return None;
            }
        }
        let of_issuer = slots.entry(issuer.to_owned()).or_default();
        let slot = of_issuer.entry(Arc::clone(uri)).or_insert_with(|| Arc::new(Slot::new(self.tick())));
        Some(Arc::clone(slot))
    }

    /// Starts a fetch, or joins the one under way. `None`: it is too early to try again.
    fn begin(&self, slot: &Arc<Slot>, issuer: &str, uri: &Arc<str>) -> Option<tokio::sync::watch::Receiver<()>> {
        let (this, runtime) = (self.this.upgrade()?, runtime::Handle::try_current().ok()?);
        match slot.begin(Instant::now()) {
            Flight::Joined(landed) => Some(landed),
            Flight::TooEarly => None,
            Flight::Begun(taken_off, landed) => {
                let (slot, issuer, uri) = (Arc::clone(slot), issuer.to_owned(), Arc::clone(uri));
                runtime.spawn(async move {
                    this.run(&slot, &issuer, &uri).await;
                    drop(taken_off);
                });
                Some(landed)
            }
        }
    }

    /// One fetch from its beginning to its end.
    async fn run(&self, slot: &Slot, issuer: &str, uri: &Arc<str>) {
        let result = self.load(issuer, uri).await;
        let now = Instant::now();
        match result {
            Ok((list, max_age)) => {
                self.metrics.fetched("ok");
                if slot.take(Arc::new(list), max_age, &self.settings.lifetimes, now, SystemTime::now().into()) {
                    tracing::info!(issuer, uri = &**uri, "the status list can be had again");
                }
                self.make_room(slot);
            }
            Err(fault) => {
                self.metrics.fetched(fault.code());
                if slot.fail(fault.code(), now) {
                    let have_list = slot.size() > 0;
                    tracing::error!(issuer, uri = &**uri, code = fault.code(), error = %fault, have_list, "a status list cannot be had");
                }
            }
        }
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let all = || slots.values().flat_map(HashMap::values);
        self.metrics.holds(all().filter(|slot| slot.size() > 0).count(), all().map(|slot| slot.size()).sum());
    }

    async fn load(&self, issuer: &str, uri: &Arc<str>) -> Result<(StatusList, Option<Duration>), FetchFault> {
        // Nothing closes it.
        let _place = self.places.acquire().await.ok();
        let url = fetch::admit(uri, self.settings.transport.allow_http).map_err(FetchFault::Request)?;
        let answer = self.source.get(url).await?;
        let raw = RawToken::new(answer.text);
        match self.open(&raw, issuer, uri).await {
            Err(FetchFault::List(error)) if error.wants_keys_of().is_some() => {
                // Signed with a key that is newer than those at hand.
                if !self.snapshots.request_keys(issuer, error.wanted_key(), self.settings.patience).await {
                    return Err(FetchFault::List(error));
                }
                self.open(&raw, issuer, uri).await
            }
            other => other,
        }
        .map(|list| (list, answer.max_age))
    }

    /// Verifies and unpacks, which is work for a thread that may take its time.
    async fn open(&self, raw: &RawToken, issuer: &str, uri: &Arc<str>) -> Result<StatusList, FetchFault> {
        let snapshot = self.snapshots.current();
        let limits = StatusListLimits {
            token_bytes: self.settings.transport.max_body_bytes,
            list_bytes: self.settings.list_bytes.min(self.settings.bytes),
        };
        let (raw, issuer, uri) = (raw.clone(), issuer.to_owned(), Arc::clone(uri));
        let opened = tokio::task::spawn_blocking(move || {
            let profile = snapshot.profiles.get(&issuer).ok_or(FetchFault::IssuerGone)?;
            let keys = snapshot.keys.get(&issuer).map(AsRef::as_ref);
            StatusList::open(&raw, &uri, profile, keys, limits, SystemTime::now().into()).map_err(FetchFault::List)
        });
        opened.await.unwrap_or(Err(FetchFault::IssuerGone))
    }

    /// Drops the lists that were not used for longest until all fit; never the one that just came.
    fn make_room(&self, newest: &Slot) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        while slots.values().flat_map(HashMap::values).map(|slot| slot.size()).sum::<usize>() > self.settings.bytes {
            if !drop_oldest(&mut slots, Some(newest)) {
                return;
            }
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}

impl Statuses for StatusLists {
    fn list(&self, issuer: &str, uri: &Arc<str>, keys: &KeySet, now: UnixTime) -> Option<Arc<StatusList>> {
        let slot = self.find(issuer, uri)?;
        let found = slot.look(Instant::now(), now, self.tick())?;
        if found.is_due {
            // In the background; whether it began is of no interest here.
            let _ = self.begin(&slot, issuer, uri);
        }
        // A key that was taken back takes back what it signed.
        found.list.holds_with(keys).then_some(found.list)
    }
}

/// Drops the slot that was not used for longest. `false`: there is none to drop.
fn drop_oldest(slots: &mut Slots, spared: Option<&Slot>) -> bool {
    let all = slots.iter().flat_map(|(issuer, of)| of.iter().map(move |(uri, slot)| (issuer, uri, slot)));
    let droppable = all.filter(|(_, _, slot)| !spared.is_some_and(|spared| std::ptr::eq(&***slot, spared)));
    let oldest = droppable.min_by_key(|(_, _, slot)| slot.last_used());
    let Some((issuer, uri)) = oldest.map(|(issuer, uri, _)| (issuer.clone(), Arc::clone(uri))) else { return false };
    let Some(of_issuer) = slots.get_mut(&issuer) else { return false };
    of_issuer.remove(&uri);
    if of_issuer.is_empty() {
        slots.remove(&issuer);
    }
    true
}
