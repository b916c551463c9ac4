//! The port of `http.send` and `net.lookup_ip_addr`: what a policy asks of the network, what comes back, and whom to ask during an evaluation.
//! Nothing here opens a connection: whoever can is handed in as [`HttpSend`] with the settings of the policy set.
//!
//! Within one evaluation the same question has one answer, as in OPA: [`Session`] remembers answers and failures for as
//! long as an evaluation lasts.

use std::{cell::RefCell, collections::HashMap, fmt, net::IpAddr, sync::Arc, time::Duration};

/// Sends the requests of policies. Called on the thread of the evaluation, and may block it.
pub trait HttpSend: Send + Sync + fmt::Debug {
    /// Sends one request, or answers from a cache.
    ///
    /// # Errors
    /// [`HttpError`]; two of its kinds are the policy's to handle, the others end the evaluation.
    fn send(&self, request: &HttpRequest) -> Result<Arc<HttpResponse>, HttpError>;

    /// The addresses of a host's name, which is no address itself; takes `time_left` at most.
    ///
    /// # Errors
    /// [`HttpError::Failed`] when there is no such host; the others end the evaluation.
    fn lookup(&self, name: &str, time_left: Duration) -> Result<Vec<IpAddr>, HttpError>;
}

/// One call of `http.send`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Upper case; empty stands for `GET`.
    pub method: String,
    /// As the policy wrote it.
    pub url: String,
    /// Names and values, each name once.
    pub headers: Vec<(String, String)>,
    /// Empty for none.
    pub body: Vec<u8>,
    /// Follow redirects; each hop is checked as the first URL is.
    pub follow_redirects: bool,
    /// How the server is believed, and who we are.
    pub tls: HttpTls,
    /// For one attempt; `None`: only the evaluation's deadline.
    pub timeout: Option<Duration>,
    /// Further attempts after one that failed on the network.
    pub retries: u32,
    /// May an answer be kept for other evaluations?
    pub caching: Option<HttpCaching>,
    /// Equal for calls that may share an answer.
    pub key: String,
    /// The evaluation's time, in nanoseconds since 1970.
    pub now_ns: u64,
    /// What is left of the evaluation's time.
    pub time_left: Duration,
}

/// The `tls_…` parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HttpTls {
    /// `tls_use_system_certs`.
    pub use_system_certs: Option<bool>,
    /// `tls_insecure_skip_verify`.
    pub insecure_skip_verify: bool,
    /// `tls_server_name`, or the name in the header `Host`.
    pub server_name: Option<String>,
    /// Certificates to believe, PEM.
    pub ca_cert: PemSource,
    /// Our certificate, PEM.
    pub client_cert: PemSource,
    /// Its key, PEM.
    pub client_key: PemSource,
}

/// A PEM text, or where it is. Later fields add to earlier ones, as in OPA.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct PemSource {
    /// The text.
    pub inline: Option<String>,
    /// A file's path.
    pub file: Option<String>,
    /// An environment variable's name.
    pub env: Option<String>,
}

/// What `cache` and `force_cache` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpCaching {
    /// Keep it for so long, whatever the answer's headers say.
    pub force: Option<Duration>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// As sent: `200 OK`.
    pub status: String,
    /// `200`.
    pub status_code: u16,
    /// Names in lower case, each with its values in order.
    pub headers: Vec<(String, Vec<String>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No request could be made of the parameters, or the body broke off: `eval_http_send_internal_error`.
    #[error("{0}")]
    Failed(String),
    /// The network or the server failed: `eval_http_send_network_error`.
    #[error("{message}")]
    Network {
        /// Operation, URL and cause, as Go words it.
        message: String,
        /// What a raised error says instead: OPA has another sentence for a request that timed out.
        raised: Option<String>,
    },
    /// A rule of the configuration forbids it, or the answer is larger than it allows. OPA would have had an answer, so
    /// undefined could turn a deny into an allow: this ends the evaluation.
    #[error("{0}")]
    Refused(String),
    /// The evaluation's time is over.
    #[error("execution exceeded time limit")]
    Deadline,
}

/// Answers by [`HttpRequest::key`].
type Answers = HashMap<String, Result<Arc<HttpResponse>, HttpError>>;

/// Addresses by name.
type Lookups = HashMap<String, Result<Vec<IpAddr>, HttpError>>;

/// Most requests of one evaluation, and most that their answers may hold: a loop of calls would take all memory.
const MOST_REQUESTS: usize = 1_000;
const MOST_BYTES: usize = 64 << 20;

struct Current {
    port: Option<Arc<dyn HttpSend>>,
    answers: Answers,
    lookups: Lookups,
    requests: usize,
    bytes: usize,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Says whom `http.send` asks on this thread, until dropped.
pub(super) struct Session {
    before: Option<Current>,
}

// === impl Session ===

impl Session {
    pub(super) fn start(port: Option<Arc<dyn HttpSend>>) -> Self {
        let fresh = Current { port, answers: Answers::new(), lookups: Lookups::new(), requests: 0, bytes: 0 };
        Self { before: CURRENT.with(|current| current.replace(Some(fresh))) }
    }

    /// Asks the port of this evaluation.
    pub(super) fn ask(request: &HttpRequest) -> Result<Arc<HttpResponse>, HttpError> {
        let port = CURRENT.with(|current| {
            let mut current = current.borrow_mut();
            let current = current.as_mut().ok_or_else(nobody)?;
            if current.requests >= MOST_REQUESTS {
                return Err(HttpError::Refused(format!("more than {MOST_REQUESTS} requests in one evaluation")));
            }
            current.requests += 1;
            current.port.clone().ok_or_else(nobody)
        })?;
        let response = port.send(request)?;
        CURRENT.with(|current| match current.borrow_mut().as_mut() {
            Some(current) if current.bytes.saturating_add(response.body.len()) <= MOST_BYTES => {
                current.bytes += response.body.len();
                Ok(response)
            }
            _ => Err(HttpError::Refused(format!("answers of more than {MOST_BYTES} bytes in one evaluation"))),
        })
    }

    /// Asks the port for the addresses of a name, once in an evaluation.
    pub(super) fn lookup(name: &str, time_left: Duration) -> Result<Vec<IpAddr>, HttpError> {
        let port = CURRENT.with(|current| {
            let mut current = current.borrow_mut();
            let current = current.as_mut().ok_or_else(nobody)?;
            if let Some(known) = current.lookups.get(name) {
                return known.clone().map(Err);
            }
            if current.requests >= MOST_REQUESTS {
                return Err(HttpError::Refused(format!("more than {MOST_REQUESTS} requests in one evaluation")));
            }
            current.requests += 1;
            current.port.clone().ok_or_else(nobody).map(Ok)
        })?;
        let port = match port {
            Ok(port) => port,
            Err(known) => return Ok(known),
        };
        let addresses = port.lookup(name, time_left);
        CURRENT.with(|current| {
            if let Some(current) = current.borrow_mut().as_mut() {
                current.lookups.insert(name.to_owned(), addresses.clone());
            }
        });
        addresses
    }

    /// What this evaluation was answered before.
    pub(super) fn remembered(key: &str) -> Option<Result<Arc<HttpResponse>, HttpError>> {
        CURRENT.with(|current| current.borrow().as_ref().and_then(|current| current.answers.get(key).cloned()))
    }

    pub(super) fn remember(key: &str, answer: &Result<Arc<HttpResponse>, HttpError>) {
        CURRENT.with(|current| {
            if let Some(current) = current.borrow_mut().as_mut() {
                current.answers.insert(key.to_owned(), answer.clone());
            }
        });
    }
}

fn nobody() -> HttpError {
    HttpError::Refused("no host is allowed in `policy.http_send.allow`".to_owned())
}

impl Drop for Session {
    fn drop(&mut self) {
        CURRENT.with(|current| current.replace(self.before.take()));
    }
}

// === impl PemSource ===

impl PemSource {
    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for PemSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may be a private key.
        let inline = self.inline.as_ref().map(|_| "…");
        f.debug_struct("PemSource").field("inline", &inline).field("file", &self.file).field("env", &self.env).finish()
    }
}
