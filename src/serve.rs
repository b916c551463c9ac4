//! Wire ↔ types. The only user of `axum`.
//!
//! A door translates one protocol: it reads a request, asks the layers below, and writes their answer. Doors
//! (`opa`, `forward_auth`, `events`, `admin`) never import one another; what they share stands beside them. No decision is made
//! here: what is allowed comes from [`crate::authorize`], or, on the OPA door, from policy itself.
//!
//! The data plane (`Settings::listen`) serves the OPA and forward-auth doors, the admin listener serves health, metrics
//! and status. They never share a listener, because the data plane faces applications and the admin listener operators.
//! What issuers push (`events`) comes in through a third one, which is open only when it is configured.

mod admin;
mod answer;
mod body;
mod challenges;
mod connections;
mod credential;
mod evaluate;
mod events;
mod forward_auth;
mod health;
mod hygiene;
mod identity;
mod json;
mod listener;
mod metadata;
mod opa;
mod params;
mod redirect;
mod tls;
mod tokens;

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use axum::{Router, response::Response};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header::CACHE_CONTROL};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};

use self::{
    answer::Answer,
    challenges::Challenges,
    events::Events,
    hygiene::Hygiene,
    identity::Senders,
    listener::{Drain, Handler, Listener, Peer},
    tls::Tls,
};
pub use self::{
    hygiene::TokenLint,
    identity::SenderSettings,
    json::Malformed,
    tls::{ClientCertificates, TlsError, TlsSettings},
    tokens::{TokenCacheSettings, VerifiedTokens},
};
use crate::{
    authorize::World,
    introspection::Introspection,
    policy::DataPath,
    revocation::{Credentials, Store},
    shutdown, snapshot,
    status_lists::{self, StatusLists},
    telemetry::Telemetry,
};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix domain socket with its file mode.
    Unix {
        /// Path of the socket; a stale socket file is replaced, any other file is refused.
        path: PathBuf,
        /// Octal mode, such as `0o660`.
        mode: u32,
    },
}

/// Where a token may stand in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// `<name>: <scheme> <token>`; the scheme is compared without case. Default: `authorization`, `Bearer`, which takes
    /// `DPoP` too.
    Header {
        /// Lower-case header name.
        name: String,
        /// Scheme before the token; empty: the whole value is the token.
        scheme: String,
    },
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// What the OPA door does with identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpaIdentity {
    /// A token on the request is verified and put into `input.token`; reserved keys are protected.
    #[default]
    Token,
    /// Behaves as plain OPA: no token is looked at, nothing is put into the input.
    Passthrough,
}

/// Sizes and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Request body as sent, in bytes (413).
    pub body_bytes: usize,
    /// Request body after gzip, in bytes (400, as in OPA).
    pub gzip_body_bytes: usize,
    /// The request line and all headers together, in bytes (431). Up to 8 KiB may be buffered whatever is set here.
    pub header_bytes: usize,
    /// From the connection (or the end of the last answer) to the end of the request headers; then the connection is
    /// closed. So this is also how long a connection may stay idle.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body (408), and to the end of a batch (503).
    pub request_timeout: Duration,
    /// Open connections per listener. One more closes the one that has been idle longest; while none is idle, it waits.
    pub connections: usize,
    /// How deep JSON may nest; at most 127.
    pub json_depth: usize,
}

/// The door for logout tokens and security event tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsSettings {
    /// Where issuers reach it.
    pub listen: Listen,
    /// What transmitters present with each security event token; `None`: nothing is asked for.
    pub credentials: Option<Credentials>,
}

/// Everything about the doors.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data plane.
    pub listen: Vec<Listen>,
    /// TLS on the TCP addresses of the data plane; `None`: plain HTTP.
    pub tls: Option<TlsSettings>,
    /// The admin listener; `None`: none.
    pub admin: Option<Listen>,
    /// The listener for what issuers push; `None`: none.
    pub events: Option<EventsSettings>,
    /// Sizes and times.
    pub limits: Limits,
    /// Where tokens may stand.
    pub token_sources: Vec<TokenSource>,
    /// How many verified tokens are remembered.
    pub token_cache: TokenCacheSettings,
    /// How the status lists that tokens name are fetched and held.
    pub status_lists: status_lists::Settings,
    /// What becomes of what the lint rules find in the tokens that come.
    pub token_lint: TokenLint,
    /// How senders prove that a token is theirs.
    pub sender: SenderSettings,
    /// `realm` of the challenges.
    pub realm: String,
    /// OPA door.
    pub opa_identity: OpaIdentity,
    /// What `POST /` asks (`system/main`).
    pub default_decision: DataPath,
    /// Peers whose `X-Forwarded-*` (and `X-Original-*`) the forward-auth door believes. Unix sockets are always trusted.
    pub trusted_peers: Vec<ipnet::IpNet>,
    /// Request headers that policy may see on the forward-auth door (lower case). Never `authorization`, `cookie`.
    pub forwarded_headers: Vec<String>,
    /// Headers by which policy tells the application who the caller is (lower case). The forward-auth door sends each
    /// of them with every allow, empty when policy did not set it, so that a value from the client never survives.
    pub identity_headers: Vec<String>,
    /// How long to answer "not ready" before the listeners close.
    pub shutdown_wait: Duration,
    /// How long requests under way may take to end.
    pub shutdown_grace: Duration,
    /// How long a request may wait for a fetch that an unknown `kid` forced.
    pub key_patience: Duration,
    /// Who may post revocations on the admin listener; `None`: nobody.
    pub revocation_credentials: Option<Credentials>,
    /// Served at `/.well-known/jwks.json` on the admin listener (the demo's issuer).
    pub published_jwks: Option<String>,
}

/// A listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// As configured.
    pub address: String,
    /// The operating system's word.
    pub source: std::io::Error,
}

/// Open listeners, not yet serving.
#[derive(Debug)]
pub struct Bound {
    data: Vec<Listener>,
    admin: Option<Listener>,
    events: Option<Listener>,
    tls: Option<Tls>,
}

/// Reads the body of `POST /v1/data` and gives its `input`; pure, so that it can be tested with any bytes.
///
/// # Errors
/// [`Malformed`] when the body is no JSON, no object, or nests deeper than `depth`.
pub fn parse_question(body: &[u8], depth: usize) -> Result<Option<crate::policy::Value>, Malformed> {
    json::data_request(body, json::Syntax::Json, depth).map(|request| request.input)
}

/// Opens all listeners.
///
/// # Errors
/// The first that cannot be opened.
pub async fn bind(settings: &Settings) -> Result<Bound, BindError> {
    let tls = settings.tls.as_ref().map(Tls::load).transpose().map_err(|error| BindError {
        address: "the addresses of `listen` with TLS".to_owned(),
        source: std::io::Error::other(error),
    })?;
    let mut data = Vec::with_capacity(settings.listen.len());
    for listen in &settings.listen {
        data.push(Listener::open(listen, tls.clone()).await?);
    }
    let admin = match &settings.admin {
        Some(listen) => Some(Listener::open(listen, None).await?),
        None => None,
    };
    let events = match &settings.events {
        Some(events) => Some(Listener::open(&events.listen, None).await?),
        None => None,
    };
    Ok(Bound { data, admin, events, tls })
}

/// What every door holds.
#[derive(Debug)]
struct App {
    settings: Settings,
    snapshots: snapshot::Handle,
    telemetry: Telemetry,
    shutdown: shutdown::Signal,
    challenges: Challenges,
    tokens: VerifiedTokens,
    hygiene: Hygiene,
    senders: Senders,
    revocations: Arc<Store>,
    introspection: Introspection,
    status_lists: Arc<StatusLists>,
    events: Events,
    /// Places for evaluations that may block a thread.
    blocking: Arc<Semaphore>,
    /// Places for evaluations that may wait for `http.send`.
    waiting: Arc<Semaphore>,
    requests: AtomicU64,
    /// Has the log said that a peer is not trusted?
    warned_of_peer: AtomicBool,
    started: SystemTime,
}

/// Most evaluations that wait for `http.send` at a time; the runtime has some more threads than that.
const MOST_WAITING: usize = 256;
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The metric's `handler` for every path that has no route.
const CATCH_ALL: &str = "catchall";

/// One request, as it arrived. Travels in the request's extensions.
#[derive(Debug, Clone)]
struct Arrival {
    peer: Peer,
    number: u64,
    at: Instant,
    /// When the body must have arrived.
    deadline: tokio::time::Instant,
    /// A nonce for DPoP proofs that the answer should carry, whatever it is.
    nonce: Arc<OnceLock<HeaderValue>>,
}

// === impl Bound ===

impl Bound {
    /// Addresses of the data plane as bound (real ports).
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.data.iter().map(|listener| listener.address().to_owned()).collect()
    }

    /// Address of the admin listener as bound.
    #[must_use]
    pub fn admin_address(&self) -> Option<String> {
        self.admin.as_ref().map(|listener| listener.address().to_owned())
    }

    /// Address of the listener for issuers as bound.
    #[must_use]
    pub fn events_address(&self) -> Option<String> {
        self.events.as_ref().map(|listener| listener.address().to_owned())
    }

    /// Serves until the shutdown began and the drain ended. `true` when everything drained inside the deadline.
    ///
    /// The drain: "not ready" at once; after `shutdown_wait` the data plane closes its listeners and lets requests under
    /// way end, for at most `shutdown_grace`; the admin listener answers until then, so that the probes see it.
    pub async fn serve(
        self,
        settings: Settings,
        snapshots: snapshot::Handle,
        telemetry: Telemetry,
        revocations: Arc<Store>,
        mut shutdown: shutdown::Signal,
    ) -> bool {
        let limits = settings.limits.clone();
        let (wait, grace) = (settings.shutdown_wait, settings.shutdown_grace);
        let app = Arc::new(App::new(settings, snapshots, telemetry.clone(), revocations, shutdown.clone()));
        let (stop_data, data_stopped) = watch::channel(false);
        let (stop_admin, admin_stopped) = watch::channel(false);

        if let Some(tls) = self.tls {
            tokio::spawn(tls.follow(data_stopped.clone()));
        }
        let mut data = tokio::task::JoinSet::new();
        let routes = opa::routes().merge(forward_auth::routes()).merge(metadata::routes()).with_state(Arc::clone(&app));
        let plane = Plane { app: Arc::clone(&app), routes: TowerToHyperService::new(routes), label: data_plane_label };
        for listener in self.data {
            let (plane, limits, telemetry, stop) =
                (plane.clone(), limits.clone(), telemetry.clone(), data_stopped.clone());
            data.spawn(listener.serve(plane, limits, telemetry, stop, Drain { grace }));
        }
        if let Some(listener) = self.events {
            let routes = TowerToHyperService::new(events::routes().with_state(Arc::clone(&app)));
            let plane = Plane { app: Arc::clone(&app), routes, label: events::label };
            let (limits, telemetry, stop) = (limits.clone(), telemetry.clone(), data_stopped.clone());
            data.spawn(listener.serve(plane, limits, telemetry, stop, Drain { grace }));
        }
        if self.admin.is_some() && app.settings.revocation_credentials.is_none() {
            tracing::info!("`/v1/revocations` is closed: no `revocation.token_file` says who may revoke tokens");
        }
        let admin = self.admin.map(|listener| {
            let routes = TowerToHyperService::new(admin::routes().with_state(Arc::clone(&app)));
            let plane = Plane { app, routes, label: admin::label };
            // A scrape under way is not worth a longer shutdown.
            let drain = Drain { grace: grace.min(Duration::from_millis(500)) };
            tokio::spawn(listener.serve(plane, limits, telemetry, admin_stopped, drain))
        });

        shutdown.begun().await;
        tracing::info!(wait = ?wait, grace = ?grace, "shutting down: not ready from now on");
        tokio::time::sleep(wait).await;
        stop_data.send_replace(true);
        let drained = data.join_all().await.into_iter().all(|drained| drained);
        stop_admin.send_replace(true);
        if let Some(admin) = admin {
            // Whether the last scrape ended is of no interest.
            let _ = admin.await;
        }
        drained
    }
}

// === impl App ===

impl App {
    fn new(
        settings: Settings,
        snapshots: snapshot::Handle,
        telemetry: Telemetry,
        revocations: Arc<Store>,
        shutdown: shutdown::Signal,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            challenges: Challenges::new(&settings.realm, &settings.sender),
            senders: Senders::new(&settings.sender, telemetry.metrics().dpop_proofs()),
            tokens: VerifiedTokens::new(settings.token_cache, telemetry.metrics().token_cache()),
            hygiene: Hygiene::new(settings.token_lint),
            introspection: Introspection::new(snapshots.clone(), telemetry.metrics().introspection()),
            events: Events::new(settings.events.as_ref(), telemetry.metrics().events()),
            status_lists: StatusLists::new(
                settings.status_lists.clone(),
                snapshots.clone(),
                telemetry.metrics().status_lists(),
            ),
            settings,
            snapshots,
            telemetry,
            revocations,
            shutdown,
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            blocking: Arc::new(Semaphore::new((cores * 4).max(8))),
            requests: AtomicU64::new(0),
            warned_of_peer: AtomicBool::new(false),
            started: SystemTime::now(),
        }
    }

    /// What is asked about a token on every request, beside the snapshot.
    fn world(&self) -> World<'_> {
        World { revocations: &*self.revocations, statuses: &*self.status_lists }
    }
}

/// One listener's routes, with what is done around every request.
#[derive(Clone)]
struct Plane {
    app: Arc<App>,
    routes: TowerToHyperService<Router>,
    /// The metric's `handler` for a path; one of a closed list.
    label: fn(&str) -> &'static str,
}

impl Handler for Plane {
    async fn handle(&self, mut request: Request<Incoming>, peer: &Peer) -> Response {
        let at = Instant::now();
        let handler = (self.label)(request.uri().path());
        let method = method_label(request.method());
        let nonce = Arc::default();
        request.extensions_mut().insert(Arrival {
            peer: peer.clone(),
            number: self.app.requests.fetch_add(1, Ordering::Relaxed) + 1,
            at,
            deadline: tokio::time::Instant::from_std(at) + self.app.settings.limits.request_timeout,
            nonce: Arc::clone(&nonce),
        });
        let mut response = match redirect::to_tidy(request.method(), request.uri(), |_| handler != CATCH_ALL) {
            Some(redirect) => redirect.into_response(),
            None => self.answer(request).await,
        };
        if let Some(nonce) = nonce.get() {
            response.headers_mut().insert(DPOP_NONCE, nonce.clone());
            // RFC 9449 §8.2: nobody else may get this nonce out of a cache.
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        self.app.telemetry.metrics().answered(handler, method, response.status().as_u16(), at.elapsed());
        response
    }
}

impl Plane {
    /// Runs the route. A panic in it is a bug of ours: it is logged, answered with 500, and ends nothing else.
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let mut route = pin!(self.routes.call(request));
        let result = std::future::poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| route.as_mut().poll(context)))
                .map_or_else(|_| Poll::Ready(None), |poll| poll.map(Result::ok))
        })
        .await;
        result.unwrap_or_else(|| {
            tracing::error!("a request handler panicked; please report this");
            Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "an internal error occurred")
                .into_response()
        })
    }
}

fn data_plane_label(path: &str) -> &'static str {
    match path {
        _ if path.starts_with(forward_auth::PREFIX) => forward_auth::LABEL,
        metadata::PATH => metadata::LABEL,
        _ => opa::label(path),
    }
}

/// The metric's `method`: one of a closed list, so that clients cannot grow it.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "other",
    }
}
