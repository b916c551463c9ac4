//! Answers that other evaluations may use, as OPA's inter-query cache keeps them, in a store of bounded size; and one
//! request under way for each question, however many ask it. It reads no clock but to give up waiting: how old an answer
//! is follows from the times of the evaluations that ask.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

use crate::policy::{HttpCaching, HttpError, HttpResponse};

/// Statuses whose answers may be kept (RFC 9110 §15.1), as OPA lists them.
const CACHEABLE: [u16; 11] = [200, 203, 204, 206, 300, 301, 404, 405, 410, 414, 501];
/// What an entry takes besides its texts.
const ENTRY_BYTES: usize = 256;

/// An answer and how long it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) response: Arc<HttpResponse>,
    /// Nanoseconds since 1970; `None`: not to be kept at all.
    expires_ns: Option<u64>,
}

/// By what a server knows an answer that it gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// What there is when somebody asks.
#[derive(Debug)]
pub(super) enum Entered<'c> {
    /// An answer that is good.
    Fresh(Arc<HttpResponse>),
    /// Nobody asks at present: the caller does, and says how it went.
    First { stale: Option<Arc<Entry>>, flight: Flight<'c> },
    /// Somebody else asked, and failed.
    Failed(HttpError),
    /// Somebody else asked, and the answer must not be shared.
    Alone,
    /// Somebody else asked, and gave up.
    Abandoned,
    /// The time was over before somebody else had an answer.
    Late,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Flight<'c> {
    cache: &'c Cache,
    key: String,
    board: Arc<Board>,
}

/// Where those who wait look.
#[derive(Debug, Default)]
struct Board {
    landing: Mutex<Option<Landing>>,
    changed: Condvar,
}

#[derive(Debug, Clone)]
enum Landing {
    Kept(Entry),
    Failed(HttpError),
    Alone,
    Abandoned,
}

/// The store.
#[derive(Debug)]
pub(super) struct Cache {
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Stored>,
    /// Keys as they came, the oldest first; some are gone or came again.
    order: VecDeque<(u64, String)>,
    bytes: usize,
    number: u64,
    flights: HashMap<String, Arc<Board>>,
}

#[derive(Debug)]
struct Stored {
    entry: Arc<Entry>,
    bytes: usize,
    number: u64,
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, state: Mutex::default() }
    }

    /// Looks, and waits until `end` for somebody who asks already.
    pub(super) fn enter(&self, key: &str, now_ns: u64, end: Instant) -> Entered<'_> {
        let board = {
            let mut state = self.lock();
            let known = state.entries.get(key).map(|stored| Arc::clone(&stored.entry));
            if let Some(entry) = known.as_ref().filter(|entry| entry.is_fresh(now_ns)) {
                return Entered::Fresh(Arc::clone(&entry.response));
            }
            match state.flights.get(key) {
                Some(board) => Arc::clone(board),
                None => {
                    let board = Arc::<Board>::default();
                    state.flights.insert(key.to_owned(), Arc::clone(&board));
                    // OPA drops an old answer before it asks whether it is still right.
                    state.remove(key);
                    return Entered::First { stale: known, flight: Flight { cache: self, key: key.to_owned(), board } };
                }
            }
        };
        match board.wait(end) {
            None => Entered::Late,
            Some(Landing::Kept(entry)) if entry.is_fresh(now_ns) => Entered::Fresh(entry.response),
            Some(Landing::Kept(_) | Landing::Alone) => Entered::Alone,
            Some(Landing::Failed(error)) => Entered::Failed(error),
            Some(Landing::Abandoned) => Entered::Abandoned,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn insert(&mut self, key: &str, entry: Entry, max_bytes: usize) {
        self.remove(key);
        let bytes = ENTRY_BYTES + key.len() * 2 + entry.bytes();
        if bytes > max_bytes {
            return;
        }
        while self.bytes + bytes > max_bytes {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|stored| stored.number == number) {
                self.remove(&oldest);
            }
        }
        self.number += 1;
        self.bytes += bytes;
        self.order.push_back((self.number, key.to_owned()));
        self.entries.insert(key.to_owned(), Stored { entry: Arc::new(entry), bytes, number: self.number });
        // Keys that came again and again leave marks behind.
        if self.order.len() > 16 + self.entries.len() * 2 {
            let entries = &self.entries;
            self.order.retain(|(number, key)| entries.get(key).is_some_and(|stored| stored.number == *number));
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(stored) = self.entries.remove(key) {
            self.bytes -= stored.bytes;
        }
    }
}

// === impl Flight ===

impl Flight<'_> {
    /// Ends it: keeps the answer when it may be kept, and tells those who wait.
    pub(super) fn land(self, result: Result<Entry, HttpError>) -> Result<Arc<HttpResponse>, HttpError> {
        let landing = match &result {
            Ok(entry) if entry.expires_ns.is_some() => Landing::Kept(entry.clone()),
            Ok(_) => Landing::Alone,
            Err(HttpError::Deadline) => Landing::Abandoned,
            Err(error) => Landing::Failed(error.clone()),
        };
        if let Landing::Kept(entry) = &landing {
            self.cache.lock().insert(&self.key, entry.clone(), self.cache.max_bytes);
        }
        self.board.post(landing);
        result.map(|entry| entry.response)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.cache.lock().flights.remove(&self.key);
        self.board.post(Landing::Abandoned);
    }
}

// === impl Board ===

impl Board {
    /// The first word stands.
    fn post(&self, landing: Landing) {
        self.landing.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(landing);
        self.changed.notify_all();
    }

    fn wait(&self, end: Instant) -> Option<Landing> {
        let guard = self.landing.lock().unwrap_or_else(PoisonError::into_inner);
        let left = end.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(guard, left, |landing| landing.is_none());
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        guard.clone()
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(response: HttpResponse, caching: HttpCaching, now_ns: u64) -> Self {
        let keeps = CACHEABLE.contains(&response.status_code)
            && (caching.force.is_some() || !directives(&response).any(|name| name == "no-store"));
        let expires_ns = if keeps { expiry(&response, caching, now_ns) } else { None };
        Self { response: Arc::new(response), expires_ns }
    }

    /// After a 304: the old answer, with the headers that came with it (RFC 9111 §4.3.4).
    pub(super) fn confirmed(&self, answer: HttpResponse, caching: HttpCaching, now_ns: u64) -> Self {
        let expires_ns = expiry(&answer, caching, now_ns);
        let mut response = HttpResponse::clone(&self.response);
        response.headers.retain(|(name, _)| answer.headers.iter().all(|(other, _)| other != name));
        response.headers.extend(answer.headers);
        response.headers.sort();
        Self { response: Arc::new(response), expires_ns }
    }

    fn is_fresh(&self, now_ns: u64) -> bool {
        self.expires_ns.is_some_and(|expires| now_ns < expires)
    }

    fn bytes(&self) -> usize {
        let headers = self.response.headers.iter();
        let header =
            |(name, values): &(String, Vec<String>)| name.len() + values.iter().map(String::len).sum::<usize>();
        self.response.body.len() + headers.map(header).sum::<usize>()
    }
}

impl Validators {
    /// `None` when the server gave none.
    pub(super) fn of(response: &HttpResponse) -> Option<Self> {
        let etag = header(response, "etag").map(str::to_owned);
        let last_modified = header(response, "last-modified").map(str::to_owned);
        (etag.is_some() || last_modified.is_some()).then_some(Self { etag, last_modified })
    }
}

// === ages ===

fn header<'r>(response: &'r HttpResponse, name: &str) -> Option<&'r str> {
    let (_, values) = response.headers.iter().find(|(own, _)| own == name)?;
    values.first().map(String::as_str).filter(|value| !value.is_empty())
}

fn directives(response: &HttpResponse) -> impl Iterator<Item = String> {
    let all = header(response, "cache-control").unwrap_or_default().split(',');
    all.map(|directive| directive.trim().to_ascii_lowercase())
}

/// When an answer stops being good; `None` when its headers contradict themselves. Without any word on it, it is old at
/// once, and kept to be asked about.
fn expiry(response: &HttpResponse, caching: HttpCaching, now_ns: u64) -> Option<u64> {
    let after = |start: u64, age: Duration| start.saturating_add(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
    if let Some(force) = caching.force {
        return Some(after(now_ns, force));
    }
    let date = |name: &str| header(response, name).and_then(|text| httpdate::parse_http_date(text).ok());
    let since_1970 = |at: std::time::SystemTime| {
        at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    };
    let mut max_age =
        directives(response).filter_map(|directive| directive.strip_prefix("max-age=").map(str::to_owned));
    if directives(response).any(|directive| directive == "no-cache") {
        return Some(0);
    }
    match max_age.next() {
        Some(text) => {
            let seconds = text.parse::<u128>().ok()?;
            let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
            // A server whose clock is ahead does not make its answers last longer.
            let made = since_1970(date("date")?).min(now_ns);
            Some(after(made, Duration::from_secs(u64::try_from(seconds).unwrap_or_default())))
        }
        None => Some(date("expires").map_or(0, since_1970)),
    }
}

#[cfg(test)]
mod tests;
