//! The access request: the protocol-neutral question that a door asks about one HTTP request of the application.
//!
//! It holds what the doors that see the application's request (forward auth, ext_authz) know about it. It never holds
//! the token, and its path went through [`crate::path`].

use std::net::IpAddr;

use http::{HeaderMap, Method};

use crate::path::CanonicalPath;

/// One request of the application, as a proxy or the application itself described it.
#[derive(Debug, Clone)]
pub struct AccessRequest {
    /// The request method, as sent (`GET`, `POST`, …).
    pub method: Method,
    /// `http` or `https`, as the trusted peer said.
    pub scheme: String,
    /// Host with an optional port, lower-cased.
    pub host: String,
    /// The canonical path; see [`crate::path`].
    pub path: CanonicalPath,
    /// Query parameters in order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// The headers that policy may see (names are lower case by type); never `authorization` or `cookie`.
    pub headers: HeaderMap,
    /// The address of the client, when a trusted peer named it or it connected itself.
    pub source: Option<IpAddr>,
}
