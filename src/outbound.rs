//! The requests that policies send: `http.send` and `net.lookup_ip_addr`, for real. Whom it may ask is a list that the operator writes; without
//! one, nobody.
//!
//! ```text
//! hosts      the list, and addresses that are asked only when they stand in it themselves
//! transport  certificates, redirects, names
//! client     one request: attempts, size, time; OPA's sentences for what fails
//! cache      answers that may be used again, in a bounded store; one request under way for each of them
//! ```
//!
//! A call blocks the thread of its evaluation, which is never a worker of the doors, and for no longer than the
//! evaluation's deadline. The sockets are served by threads of their own. Nothing here knows Rego, and no proxy of the
//! environment is used.

mod cache;
mod client;
mod hosts;
mod transport;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

pub(crate) use self::hosts::is_forbidden;
pub use self::hosts::{BadHost, Host};
use self::{
    cache::{Cache, Entered, Entry, Validators},
    client::Clients,
};
use crate::policy::{HttpCaching, HttpError, HttpRequest, HttpResponse, HttpSend, quote};

/// Threads that wait for names to be resolved.
const MOST_LOOKUPS: usize = 32;

/// Whom policies may ask, and for how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Hosts that may be asked; empty: none.
    pub allow: Vec<Host>,
    /// Largest body of an answer.
    pub max_response_bytes: usize,
    /// What the answers that are kept may take in all.
    pub max_cache_bytes: usize,
}

/// Sends the requests of policies.
pub struct Outbound {
    settings: Settings,
    clients: Clients,
    cache: Cache,
    runtime: OnceLock<Result<Runtime, String>>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self { allow: Vec::new(), max_response_bytes: 1 << 20, max_cache_bytes: 16 << 20 }
    }
}

// === impl Outbound ===

impl Outbound {
    /// Opens nothing until something is asked.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            clients: Clients::new(&settings),
            cache: Cache::new(settings.max_cache_bytes),
            runtime: OnceLock::new(),
            settings,
        }
    }

    /// As made.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn cached(
        &self,
        request: &HttpRequest,
        caching: HttpCaching,
        end: Instant,
    ) -> Result<Arc<HttpResponse>, HttpError> {
        loop {
            match self.cache.enter(&request.key, request.now_ns, end) {
                Entered::Fresh(response) => return Ok(response),
                Entered::Failed(error) => return Err(error),
                Entered::Late => return Err(HttpError::Deadline),
                // Somebody else asked and gave up for lack of time: it is our turn.
                Entered::Abandoned => {}
                // Somebody else asked, and the answer was for nobody but them.
                Entered::Alone => return self.fetch(request, None, end).map(Arc::new),
                Entered::First { stale, flight } => {
                    let result = self.refresh(request, caching, stale, end);
                    return flight.land(result);
                }
            }
        }
    }

    /// A new answer, or an old one that the server says is still right.
    fn refresh(
        &self,
        request: &HttpRequest,
        caching: HttpCaching,
        stale: Option<Arc<Entry>>,
        end: Instant,
    ) -> Result<Entry, HttpError> {
        let now = request.now_ns;
        if let Some(stale) = stale
            && let Some(validators) = Validators::of(&stale.response)
        {
            let answer = self.fetch(request, Some(&validators), end)?;
            match answer.status_code {
                200 => return Ok(Entry::new(answer, caching, now)),
                304 => return Ok(stale.confirmed(answer, caching, now)),
                _ => {}
            }
        }
        self.fetch(request, None, end).map(|answer| Entry::new(answer, caching, now))
    }

    /// Asks the network, and waits until `end` at most.
    fn fetch(
        &self,
        request: &HttpRequest,
        validators: Option<&Validators>,
        end: Instant,
    ) -> Result<HttpResponse, HttpError> {
        let prepared = self.clients.prepare(request, validators)?;
        let runtime = self.runtime.get_or_init(runtime).as_ref();
        let runtime = runtime.map_err(|error| HttpError::Refused(format!("no threads for requests: {error}")))?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let task = runtime.spawn(async move {
            // Nobody waits any more when the deadline was first.
            let _ = sender.send(prepared.run().await);
        });
        let left = end.saturating_duration_since(Instant::now());
        let answer = receiver.recv_timeout(left);
        task.abort();
        answer.unwrap_or(Err(HttpError::Deadline))
    }
}

impl HttpSend for Outbound {
    fn send(&self, request: &HttpRequest) -> Result<Arc<HttpResponse>, HttpError> {
        let now = Instant::now();
        let end = now.checked_add(request.time_left).unwrap_or(now);
        match request.caching {
            None => self.fetch(request, None, end).map(Arc::new),
            Some(caching) => self.cached(request, caching, end),
        }
    }

    /// Names that may be asked for requests may be looked up, and `localhost`, which is the machine itself.
    fn lookup(&self, name: &str, time_left: Duration) -> Result<Vec<IpAddr>, HttpError> {
        if !name.eq_ignore_ascii_case("localhost") && !hosts::names(&self.settings.allow, name) {
            let name = quote(name);
            return Err(HttpError::Refused(format!("the host {name} is not in `policy.http_send.allow`")));
        }
        let runtime = self.runtime.get_or_init(runtime).as_ref();
        let runtime = runtime.map_err(|error| HttpError::Refused(format!("no threads for requests: {error}")))?;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let asked = name.to_owned();
        let task = runtime.spawn(async move {
            let found = tokio::net::lookup_host((asked.as_str(), 0)).await;
            let _ = sender.send(found.map(|found| found.map(|address| address.ip()).collect()));
        });
        let answer: Result<std::io::Result<Vec<IpAddr>>, _> = receiver.recv_timeout(time_left);
        task.abort();
        match answer {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(_)) => Err(HttpError::Failed(format!("lookup {name}: no such host"))),
            Err(_) => Err(HttpError::Deadline),
        }
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        if let Some(Ok(runtime)) = self.runtime.take() {
            // Waiting for its threads is not allowed on the threads of another runtime.
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MOST_LOOKUPS)
        .thread_keep_alive(Duration::from_secs(10))
        .thread_name("claimgate-http")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}
