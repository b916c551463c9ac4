//! The requests that claimgate itself sends: for keys and metadata, for introspection, for status lists. One guarded
//! client for all of them.
//!
//! No redirects, no proxy of the environment, no cookies, no decompression; the body is counted while it streams; names
//! that resolve to link-local or cloud metadata addresses are refused, and the address that was checked is the one that is
//! connected to. Certificates may be the operator's own, and are read again when their files change. It knows nothing of
//! what is fetched. (The requests of policies have other rules: [`crate::outbound`].)

mod files;
mod url;

use std::{
    error::Error as _,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use reqwest::Url;
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use self::files::Files;
pub use self::url::{admit, admit_discovered};
use crate::{outbound::is_forbidden, state::describe_io};

/// Files of certificates are looked at again when this long passed since the last look.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How requests are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Default 2 s.
    pub connect_timeout: Duration,
    /// For a whole request. Default 5 s.
    pub timeout: Duration,
    /// Largest body of an answer, counted while it streams. Default 256 KiB.
    pub max_body_bytes: usize,
    /// Allows `http` to hosts other than loopback: whoever is on the path can then read and replace everything. Default
    /// `false`. [`admit`] is what asks for it.
    pub allow_http: bool,
    /// Certificates (PEM) of the authorities that are believed, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) that is shown to servers that ask for one.
    pub client_certificate: Option<PathBuf>,
    /// The key (PEM) of `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// Connections that are kept open for the next request. Default 0.
    pub idle_connections: usize,
}

/// One request. Its `Debug` shows neither body nor headers, which may hold secrets.
#[derive(Clone)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// A URL that [`admit`] or [`admit_discovered`] let through.
    pub url: Url,
    /// Headers besides `user-agent` and `accept-encoding: identity`.
    pub headers: HeaderMap,
    /// The body of a `POST`.
    pub body: Option<Vec<u8>>,
}

/// One answer that is no redirect. Its `Debug` does not show the body, which may hold secrets.
#[derive(Clone)]
pub struct Response {
    /// As sent.
    pub status: StatusCode,
    /// As sent.
    pub headers: HeaderMap,
    /// Of a 2xx answer; empty for all others, whose bodies are not read.
    pub body: Vec<u8>,
}

/// Why there is no answer. Names the operator's own URLs and files, never what a server sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a URL that can be asked.
    #[error("`{url}` is not an absolute http or https URL: {reason}")]
    BadUrl {
        /// As written, without a password.
        url: String,
        /// Why.
        reason: String,
    },
    /// Plain HTTP to another machine.
    #[error("`{url}` is not https; whoever is on the path could replace what is fetched (`allow_http` permits it)")]
    NotHttps {
        /// As written, without a password.
        url: String,
    },
    /// The guard against server-side request forgery.
    #[error("`{host}` has only link-local or metadata addresses; nothing is ever fetched from there")]
    ForbiddenAddress {
        /// The name or address.
        host: String,
    },
    /// A file of certificates or keys; `setting` is its key in the configuration.
    #[error("`{setting}`: `{}`: {reason}", .path.display())]
    File {
        /// `ca_file`, `client_certificate` or `client_key`.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The client.
    #[error("the HTTP client cannot be made: {reason}")]
    Client {
        /// Why.
        reason: String,
    },
    /// Time.
    #[error("no answer within the time limit")]
    Timeout,
    /// DNS, TCP, TLS or HTTP.
    #[error("the request failed: {reason}")]
    Transport {
        /// Why.
        reason: String,
    },
    /// 3xx.
    #[error("the server answered {status}, which is a redirect; redirects are not followed, configure the final URL")]
    Redirect {
        /// The status.
        status: u16,
    },
    /// Size.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// The limit that it went beyond.
        limit: usize,
    },
    /// `Content-Encoding`.
    #[error("the body is compressed though that was not asked for")]
    Compressed,
}

/// A guarded client. Cheap to share by `Arc`.
pub struct Client {
    settings: Settings,
    made: RwLock<Made>,
}

/// The client as the files stood at the last look.
struct Made {
    client: reqwest::Client,
    files: Files,
    looked_at: Instant,
    /// What is wrong with the files as they stand now; the client is that of older ones.
    problem: Option<Error>,
}

// === impl Client ===

impl Client {
    /// Reads the files of `settings`, or the system's certificates (or those of `SSL_CERT_FILE`): not for async workers.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Client`].
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let files = Files::read(&settings)?;
        let client = build(&settings, &files)?;
        let made = Made { client, files, looked_at: Instant::now(), problem: None };
        Ok(Self { settings, made: RwLock::new(made) })
    }

    /// As made.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// One request. Files of certificates that changed are read before it, when the last look is ten seconds ago.
    ///
    /// # Errors
    /// When there is no answer, a redirect, or one whose body is too large or compressed. Other statuses are answers.
    pub async fn send(self: &Arc<Self>, request: Request) -> Result<Response, Error> {
        if self.settings.has_files() && self.is_look_due() {
            self.look().await;
        }
        let client = self.read().client.clone();
        let mut sent = client
            .request(request.method, request.url)
            .headers(request.headers)
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(body) = request.body {
            sent = sent.body(body);
        }
        let mut answer = sent.send().await.map_err(|error| classify(&error))?;
        let status = answer.status();
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            return Err(Error::Redirect { status: status.as_u16() });
        }
        let headers = std::mem::take(answer.headers_mut());
        if !status.is_success() {
            return Ok(Response { status, headers, body: Vec::new() });
        }
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Error::Compressed);
        }
        let limit = self.settings.max_body_bytes;
        let too_large = Error::TooLarge { limit };
        if answer.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
            return Err(too_large);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| classify(&error))? {
            if body.len().saturating_add(chunk.len()) > limit {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers, body })
    }

    /// Looks at the files of certificates now. Those that do not load are told in the log, and the ones before them stay
    /// in use.
    pub async fn look(self: &Arc<Self>) {
        if !self.settings.has_files() {
            return;
        }
        // First, so that requests that come meanwhile do not look too.
        self.made.write().unwrap_or_else(PoisonError::into_inner).looked_at = Instant::now();
        let this = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || this.look_blocking()).await;
        if let Err(error) = looked {
            tracing::error!(%error, "the files of certificates cannot be looked at");
        }
    }

    fn look_blocking(&self) {
        let files = Files::read(&self.settings);
        let rebuilt = match files {
            Ok(files) if files == self.read().files => Ok(None),
            Ok(files) => build(&self.settings, &files).map(|client| Some((client, files))),
            Err(error) => Err(error),
        };
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        match rebuilt {
            Ok(None) => made.problem = None,
            Ok(Some((client, files))) => {
                tracing::info!(files = %self.settings.shown_files(), "certificates for requests have changed");
                (made.client, made.files, made.problem) = (client, files, None);
            }
            Err(error) => {
                if made.problem.as_ref() != Some(&error) {
                    tracing::error!(code = error.code(), %error, "the certificates before these stay in use");
                }
                made.problem = Some(error);
            }
        }
    }

    fn is_look_due(&self) -> bool {
        self.read().looked_at.elapsed() >= LOOK_AGAIN
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Made> {
        self.made.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn build(settings: &Settings, files: &Files) -> Result<reqwest::Client, Error> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("claimgate/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .pool_max_idle_per_host(settings.idle_connections)
        .dns_resolver(Arc::new(GuardedResolver));
    files.apply(settings, builder)?.build().map_err(|error| Error::Client { reason: root_cause(&error) })
}

// === impl Settings ===

impl Settings {
    /// Reads the files and tries them, as the first request would.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn check_files(&self) -> Result<(), Error> {
        if self.has_files() { Files::read(self)?.check(self) } else { Ok(()) }
    }

    fn has_files(&self) -> bool {
        self.files().next().is_some()
    }

    /// Files with the names of their settings.
    fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [("ca_file", &self.ca_file), ("client_certificate", &self.client_certificate), ("client_key", &self.client_key)]
            .into_iter()
            .filter_map(|(setting, path)| path.as_ref().map(|path| (setting, path)))
    }

    fn shown_files(&self) -> String {
        self.files().map(|(_, path)| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            max_body_bytes: 256 * 1024,
            allow_http: false,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            idle_connections: 0,
        }
    }
}

// === impl Request, Response ===

impl Request {
    /// A `GET` of what is preferably of the media type `accept`.
    #[must_use]
    pub fn get(url: Url, accept: &'static str) -> Self {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        Self { method: Method::GET, url, headers, body: None }
    }

    /// A `POST` of a body of this media type.
    #[must_use]
    pub fn post(url: Url, accept: &'static str, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = HeaderMap::from_iter([
            (header::ACCEPT, HeaderValue::from_static(accept)),
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        ]);
        Self { method: Method::POST, url, headers, body: Some(body) }
    }

    /// With one more header; mark secrets with [`HeaderValue::set_sensitive`].
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method, self.url)
    }
}

impl Response {
    /// How long the answer is fresh: `max-age` less `Age` (RFC 9111 §4.2). `no-store` and `no-cache` are an age of nothing.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        let values = self.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let directives: Vec<String> =
            values.flat_map(|value| value.split(',')).map(|part| part.trim().to_ascii_lowercase()).collect();
        if directives.iter().any(|directive| directive == "no-store" || directive == "no-cache") {
            return Some(Duration::ZERO);
        }
        let text = directives.iter().find_map(|directive| directive.strip_prefix("max-age="))?;
        let seconds: u64 = text.trim_matches('"').parse().ok()?;
        let age =
            self.headers.get(header::AGE).and_then(|age| age.to_str().ok()).and_then(|age| age.trim().parse().ok());
        Some(Duration::from_secs(seconds.saturating_sub(age.unwrap_or(0))))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status.as_u16(), self.body.len())
    }
}

// === impl Error ===

impl Error {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "url_invalid",
            Self::NotHttps { .. } => "url_not_https",
            Self::ForbiddenAddress { .. } => "address_forbidden",
            Self::File { .. } => "certificate_file_error",
            Self::Client { .. } => "client_error",
            Self::Timeout => "fetch_timeout",
            Self::Transport { .. } => "fetch_failed",
            Self::Redirect { .. } => "fetch_redirect",
            Self::TooLarge { .. } => "fetch_too_large",
            Self::Compressed => "fetch_compressed",
        }
    }
}

/// Resolves names and leaves out addresses that are never asked.
#[derive(Debug)]
struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let is_known = !found.is_empty();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| !is_forbidden(address.ip())).collect();
            if allowed.is_empty() && is_known {
                return Err(Error::ForbiddenAddress { host }.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

// === helpers ===

fn classify(error: &reqwest::Error) -> Error {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(known) = inner.downcast_ref::<Error>() {
            return known.clone();
        }
        cause = inner.source();
    }
    if error.is_timeout() { Error::Timeout } else { Error::Transport { reason: root_cause(error) } }
}

/// The innermost cause, which is the one that says something: `Connection refused`, not `error sending request`.
fn root_cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.downcast_ref().map_or_else(|| inner.to_string(), describe_io);
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
