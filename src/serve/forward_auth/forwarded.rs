//! What a proxy says about a request, in the headers of its sub-request → [`AccessRequest`]. Pure, and it repairs
//! nothing: a description that is incomplete or has two readings is [`Unclear`], and there is nothing to decide about.
//!
//! Whether the proxy is believed at all was settled before. A trusted proxy overwrites the headers of its own dialect,
//! and no others: so each dialect reads its own headers only, and none that a client could have added.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, Method, StatusCode};
use ipnet::IpNet;

use crate::{
    path::{CanonicalPath, PathError},
    request::{AccessRequest, QueryError, parse_query},
    serve::{Settings, TokenSource},
};

/// The proxy at the other end, by the route that it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `X-Original-Method` with `X-Original-URI`, or with ingress-nginx's `X-Original-URL`.
    Nginx,
    /// `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri`.
    Traefik,
    /// As Traefik.
    Caddy,
}

/// The request that is asked about.
#[derive(Debug)]
pub(super) struct Forwarded<'h> {
    pub(super) access: AccessRequest,
    /// Its raw query, in which a token may stand.
    pub(super) query: Option<&'h str>,
    /// Path and query as the client sent them.
    pub(super) uri: &'h str,
}

/// Why there is nothing to decide about. Names headers, and never quotes what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unclear {
    /// The proxy does not say what has to be known.
    #[error("the header `{0}` is missing; the proxy has to set it")]
    Missing(&'static str),
    /// Two lines of one header, or two headers for one thing.
    #[error("the header `{0}` is not the only one of its kind; the proxy has to overwrite what a client sends")]
    Several(&'static str),
    /// It holds something else than it should.
    #[error("the header `{0}` is malformed")]
    Malformed(&'static str),
    /// The path has no single reading.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The query has no single reading.
    #[error("{0}")]
    Query(#[from] QueryError),
}

const ORIGINAL_METHOD: &str = "x-original-method";
const ORIGINAL_URI: &str = "x-original-uri";
const ORIGINAL_URL: &str = "x-original-url";
const FORWARDED_METHOD: &str = "x-forwarded-method";
const FORWARDED_URI: &str = "x-forwarded-uri";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Headers that policy never sees, whatever is configured: they hold credentials.
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "dpop"];

/// Reads the description of a request.
pub(super) fn read<'h>(
    dialect: Dialect,
    headers: &'h HeaderMap,
    settings: &Settings,
) -> Result<Forwarded<'h>, Unclear> {
    let (method, target) = match dialect {
        Dialect::Nginx => (method(headers, ORIGINAL_METHOD)?, nginx_target(headers)?),
        Dialect::Traefik | Dialect::Caddy => (
            method(headers, FORWARDED_METHOD)?,
            Target::of_uri(headers, one(headers, FORWARDED_URI)?.ok_or(Unclear::Missing(FORWARDED_URI))?)?,
        ),
    };
    let (path, query) = match target.uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target.uri, None),
    };
    let holds_token =
        |name: &str| settings.token_sources.iter().any(|source| *source == TokenSource::Query(name.to_owned()));
    let mut parameters = parse_query(query.unwrap_or_default())?;
    parameters.retain(|(name, _)| !holds_token(name));
    let access = AccessRequest {
        method,
        scheme: target.scheme.to_owned(),
        host: target.host.to_ascii_lowercase(),
        // `http://host` and `http://host?a` ask for `/` (RFC 9112 §3.2.1).
        path: CanonicalPath::parse(if path.is_empty() && target.may_be_empty { "/" } else { path })?,
        query: parameters,
        headers: visible_headers(headers, settings),
        source: client(headers, &settings.trusted_peers),
    };
    Ok(Forwarded { access, query, uri: target.uri })
}

/// Is the address in one of the networks?
pub(super) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

// === impl Dialect ===

impl Dialect {
    /// The status that this proxy understands. Traefik and Caddy hand every deny to the client as it is. nginx takes any
    /// 2xx for yes, hands on 401 and 403, and makes 500 of everything else, so that a client would never see a 4xx.
    pub(super) fn status(self, status: StatusCode) -> StatusCode {
        match self {
            Self::Nginx if status == StatusCode::OK => StatusCode::NO_CONTENT,
            Self::Nginx if status != StatusCode::UNAUTHORIZED && !status.is_server_error() => StatusCode::FORBIDDEN,
            _ => status,
        }
    }
}

// === impl Unclear ===

impl Unclear {
    /// Stable code.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Missing(_) => "forwarded_header_missing",
            Self::Several(_) => "forwarded_header_repeated",
            Self::Malformed(_) => "forwarded_header_malformed",
            Self::Path(error) => error.code(),
            Self::Query(error) => error.code(),
        }
    }
}

// === one header after the other ===

/// Where a request goes.
struct Target<'h> {
    scheme: &'static str,
    host: &'h str,
    /// Path and query.
    uri: &'h str,
    may_be_empty: bool,
}

impl<'h> Target<'h> {
    fn of_uri(headers: &'h HeaderMap, uri: &'h str) -> Result<Self, Unclear> {
        let scheme = match one(headers, FORWARDED_PROTO)? {
            // Whoever wants https gets nothing from a proxy that does not say so.
            None => "http",
            Some(text) => scheme(text).ok_or(Unclear::Malformed(FORWARDED_PROTO))?,
        };
        let host = one(headers, FORWARDED_HOST)?.unwrap_or_default();
        if !is_host(host) {
            return Err(Unclear::Malformed(FORWARDED_HOST));
        }
        Ok(Self { scheme, host, uri, may_be_empty: false })
    }

    /// The URL says everything; `X-Forwarded-*` are not looked at.
    fn of_url(url: &'h str) -> Result<Self, Unclear> {
        let malformed = Unclear::Malformed(ORIGINAL_URL);
        let (proto, rest) = url.split_once("://").ok_or(malformed)?;
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, uri) = rest.split_at_checked(at).ok_or(malformed)?;
        let scheme = scheme(proto).ok_or(malformed)?;
        if host.is_empty() || !is_host(host) {
            return Err(malformed);
        }
        Ok(Self { scheme, host, uri, may_be_empty: true })
    }
}

/// A configuration sets one of the two; both means that one of them is the client's.
fn nginx_target(headers: &HeaderMap) -> Result<Target<'_>, Unclear> {
    match (one(headers, ORIGINAL_URI)?, one(headers, ORIGINAL_URL)?) {
        (Some(uri), None) => Target::of_uri(headers, uri),
        (None, Some(url)) => Target::of_url(url),
        (Some(_), Some(_)) => Err(Unclear::Several(ORIGINAL_URI)),
        (None, None) => Err(Unclear::Missing(ORIGINAL_URI)),
    }
}

/// The only value of a header.
fn one<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Unclear> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Unclear::Several(name));
    }
    value.to_str().map(Some).map_err(|_| Unclear::Malformed(name))
}

/// Never the sub-request's own method, which is GET whatever the client sent. Methods are compared with case (RFC 9110
/// §9.1), but not by every program: `delete` would pass a rule about `DELETE`.
fn method(headers: &HeaderMap, name: &'static str) -> Result<Method, Unclear> {
    let text = one(headers, name)?.ok_or(Unclear::Missing(name))?;
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Unclear::Malformed(name));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| Unclear::Malformed(name))
}

/// A WebSocket begins as a request over HTTP.
fn scheme(text: &str) -> Option<&'static str> {
    match text {
        _ if text.eq_ignore_ascii_case("https") || text.eq_ignore_ascii_case("wss") => Some("https"),
        _ if text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("ws") => Some("http"),
        _ => None,
    }
}

/// A name, an IPv4 address or a bracketed IPv6 address, with or without a port. Empty: the client named none (HTTP/1.0).
/// A dot at its end (`host.`) is the same host under another name.
fn is_host(text: &str) -> bool {
    let name = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => text,
    };
    match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            (!name.is_empty() || text.is_empty())
                && !name.ends_with('.')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    }
}

/// The configured headers, but never one that may hold a token.
fn visible_headers(headers: &HeaderMap, settings: &Settings) -> HeaderMap {
    let holds_token = |wanted: &str| {
        CREDENTIALS.contains(&wanted)
            || settings.token_sources.iter().any(|s| matches!(s, TokenSource::Header { name, .. } if name == wanted))
    };
    let mut visible = HeaderMap::new();
    for name in settings.forwarded_headers.iter().filter(|name| !holds_token(name)) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        for value in headers.get_all(&name) {
            // Fewer than the request had, and those fitted.
            visible.append(name.clone(), value.clone());
        }
    }
    visible
}

/// The client's address: the last in `X-Forwarded-For` that is no trusted proxy. What stands before it is the client's
/// own word. `None` when the proxies do not say.
fn client(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut last = None;
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        for entry in line.to_str().ok()?.rsplit(',') {
            let address = address(entry.trim())?;
            last = Some(address);
            if !is_in(trusted, address) {
                return last;
            }
        }
    }
    last
}

/// `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.parse::<IpAddr>().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare().or_else(bracketed).or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests;
