//! The life of one status list: at most one fetch at a time, a refresh ahead of its end, ever longer waits after failures,
//! and for how long it is used when no new one can be had. Knows no network; every time is an argument.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::Report;
use crate::token::{StatusList, UnixTime};

/// For how long lists are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetimes {
    /// Where neither the list (`ttl`) nor the answer (`Cache-Control: max-age`) says so. Default 5 min.
    pub ttl: Duration,
    /// Shortest and longest that an issuer may say. Default 10 s to 24 h.
    pub ttl_range: (Duration, Duration),
    /// How long a list is used after that when no new one can be had, and never beyond its `exp`. Default 10 min.
    pub max_stale: Duration,
}

/// One list.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    used: AtomicU64,
}

/// A list that may be used.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) list: Arc<StatusList>,
    /// It is time to ask for the next one.
    pub(super) is_due: bool,
}

/// What became of the wish to fetch.
#[derive(Debug)]
pub(super) enum Flight {
    /// Another fetch is under way; its receiver ends with it.
    Joined(watch::Receiver<()>),
    /// The caller fetches, and drops the sender when that ended.
    Begun(watch::Sender<()>, watch::Receiver<()>),
    /// The last one failed a moment ago.
    TooEarly,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// Failures since the last success; also 1 when the first fetch takes too long for those who wait.
    failures: u32,
    last_failure: Option<&'static str>,
    next_attempt: Option<Instant>,
    in_flight: Option<watch::Receiver<()>>,
}

#[derive(Debug)]
struct Held {
    list: Arc<StatusList>,
    fetched: Instant,
    refresh_at: Instant,
    fresh_until: Instant,
    stale_until: Instant,
    /// `exp`, with the leeway.
    expires_at: Option<UnixTime>,
}

/// Waits after failures: first and longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Beyond any list's life; keeps sums of times in range.
const FAR: Duration = Duration::from_secs(366 * 24 * 3600);

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            ttl_range: (Duration::from_secs(10), Duration::from_secs(24 * 3600)),
            max_stale: Duration::from_secs(600),
        }
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(tick: u64) -> Self {
        Self { state: Mutex::default(), used: AtomicU64::new(tick) }
    }

    /// The list, if it may be used now. A list that is past its `ttl` is used only while new ones cannot be had.
    pub(super) fn look(&self, now: Instant, wall: UnixTime, tick: u64) -> Option<Found> {
        self.used.store(tick, Ordering::Relaxed);
        let state = self.state();
        let held = state.held.as_ref()?;
        if held.expires_at.is_some_and(|end| wall >= end) {
            return None;
        }
        let is_usable = now < held.fresh_until || (state.failures > 0 && now < held.stale_until);
        let is_due = now >= held.refresh_at && state.may_begin(now);
        is_usable.then(|| Found { list: Arc::clone(&held.list), is_due })
    }

    pub(super) fn begin(&self, now: Instant) -> Flight {
        let mut state = self.state();
        if let Some(landed) = state.under_way() {
            return Flight::Joined(landed.clone());
        }
        if !state.may_begin(now) {
            return Flight::TooEarly;
        }
        let (taken_off, landed) = watch::channel(());
        state.in_flight = Some(landed.clone());
        Flight::Begun(taken_off, landed)
    }

    /// A new list came. `true` when failures stood before it.
    pub(super) fn take(
        &self,
        list: Arc<StatusList>,
        max_age: Option<Duration>,
        lifetimes: &Lifetimes,
        now: Instant,
        wall: UnixTime,
    ) -> bool {
        let (shortest, longest) = lifetimes.ttl_range;
        // The signed word before that of the server (§13.7 of the draft).
        let ttl = list.ttl().or(max_age).unwrap_or(lifetimes.ttl).clamp(shortest, longest.max(shortest));
        let left = list.expires_at().map(|end| end.0.saturating_sub(wall.0));
        let left = left.map_or(FAR, |left| Duration::from_secs(u64::try_from(left).unwrap_or(0)).min(FAR));
        let fresh = ttl.min(left);
        let held = Held {
            fetched: now,
            refresh_at: now + fresh.mul_f64(0.75 + 0.15 * random()),
            fresh_until: now + fresh,
            stale_until: now + fresh.saturating_add(lifetimes.max_stale).min(left),
            expires_at: list.expires_at(),
            list,
        };
        let mut state = self.state();
        let had_failures = state.last_failure.is_some();
        *state = State { held: Some(held), ..State::default() };
        had_failures
    }

    /// No list came. `true` when this is another failure than the last one.
    pub(super) fn fail(&self, code: &'static str, now: Instant) -> bool {
        let mut state = self.state();
        let wait = BACKOFF.0.saturating_mul(1_u32.checked_shl(state.failures).unwrap_or(u32::MAX)).min(BACKOFF.1);
        state.failures = state.failures.saturating_add(1).min(16);
        state.next_attempt = Some(now + wait.mul_f64(0.75 + 0.5 * random()));
        state.in_flight = None;
        state.last_failure.replace(code) != Some(code)
    }

    /// Those who waited for the fetch under way wait no longer: from here on an old list is used meanwhile.
    pub(super) fn is_slow(&self) {
        let mut state = self.state();
        state.failures = state.failures.max(1);
    }

    /// Bytes of the list.
    pub(super) fn size(&self) -> usize {
        self.state().held.as_ref().map_or(0, |held| held.list.size())
    }

    pub(super) fn last_used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self, issuer: &str, uri: &str) -> Report {
        let state = self.state();
        Report {
            issuer: issuer.to_owned(),
            uri: uri.to_owned(),
            bytes: state.held.as_ref().map(|held| held.list.size()),
            age_seconds: state.held.as_ref().map(|held| held.fetched.elapsed().as_secs()),
            last_failure: state.last_failure,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// The fetch under way. One whose task is gone without a word has ended.
    fn under_way(&self) -> Option<&watch::Receiver<()>> {
        self.in_flight.as_ref().filter(|landed| landed.has_changed().is_ok())
    }

    fn may_begin(&self, now: Instant) -> bool {
        self.under_way().is_none() && self.next_attempt.is_none_or(|next| now >= next)
    }
}

/// Uniform in 0..1, to spread the requests of many sidecars. Without randomness, they come together.
fn random() -> f64 {
    let mut bytes = [0; 4];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
