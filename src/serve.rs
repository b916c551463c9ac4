//! Wire ↔ types. The only user of `axum`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{policy::DataPath, shutdown, snapshot, telemetry::Telemetry};

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
    /// `<name>: <scheme> <token>`; the scheme is compared without case. Default: `authorization`, `Bearer`.
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
    /// Request body after gzip, in bytes (413).
    pub gzip_body_bytes: usize,
    /// All request headers together, in bytes (431).
    pub header_bytes: usize,
    /// From the connection (or the end of the last answer) to the end of the request headers (408).
    pub header_timeout: Duration,
    /// From the end of the headers to the answer (408 while reading, 503 after).
    pub request_timeout: Duration,
    /// Open connections per listener; one more waits in the kernel's queue.
    pub connections: usize,
    /// How deep JSON may nest.
    pub json_depth: usize,
}

/// Everything about the doors.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data plane.
    pub listen: Vec<Listen>,
    /// The admin listener; `None`: none.
    pub admin: Option<Listen>,
    /// Sizes and times.
    pub limits: Limits,
    /// Where tokens may stand.
    pub token_sources: Vec<TokenSource>,
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
    /// How long to answer "not ready" before the listeners close.
    pub shutdown_wait: Duration,
    /// How long requests under way may take to end.
    pub shutdown_grace: Duration,
    /// How long a request may wait for a fetch that an unknown `kid` forced.
    pub key_patience: Duration,
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
pub struct Bound {}

/// Opens all listeners.
///
/// # Errors
/// The first that cannot be opened.
pub async fn bind(settings: &Settings) -> Result<Bound, BindError> {
    let _ = settings;
    Ok(Bound {})
}

impl Bound {
    /// Addresses of the data plane as bound (real ports).
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        Vec::new()
    }
    /// Address of the admin listener as bound.
    #[must_use]
    pub fn admin_address(&self) -> Option<String> {
        None
    }
    /// Serves until the shutdown began and the drain ended. `true` when everything drained inside the deadline.
    pub async fn serve(
        self,
        settings: Settings,
        snapshots: snapshot::Handle,
        telemetry: Telemetry,
        shutdown: shutdown::Signal,
    ) -> bool {
        let _ = (settings, snapshots, telemetry, shutdown);
        true
    }
}

#[allow(dead_code)]
fn unused(_: IpAddr) {}
