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
mod tests {
    //! What headers say, as tables: one reading, or a refusal with its code.

    use std::{fmt::Write, time::Duration};

    use http::HeaderValue;

    use super::*;
    use crate::{
        policy::DataPath,
        serve::{Limits, OpaIdentity, SenderSettings, TokenCacheSettings, TokenLint},
    };

    fn settings() -> Settings {
        Settings {
            listen: Vec::new(),
            tls: None,
            admin: None,
            events: None,
            limits: Limits {
                body_bytes: 0,
                gzip_body_bytes: 0,
                header_bytes: 0,
                header_timeout: Duration::ZERO,
                request_timeout: Duration::ZERO,
                connections: 0,
                json_depth: 0,
            },
            token_sources: vec![
                TokenSource::Header { name: "x-token".to_owned(), scheme: String::new() },
                TokenSource::Query("access_token".to_owned()),
            ],
            token_cache: TokenCacheSettings { entries: 0, bytes: 0 },
            status_lists: crate::status_lists::Settings::default(),
            token_lint: TokenLint::Off,
            sender: SenderSettings::default(),
            realm: String::new(),
            opa_identity: OpaIdentity::Token,
            default_decision: DataPath::default(),
            trusted_peers: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            forwarded_headers: ["x-request-id", "x-token", "cookie"].map(str::to_owned).to_vec(),
            identity_headers: Vec::new(),
            shutdown_wait: Duration::ZERO,
            shutdown_grace: Duration::ZERO,
            key_patience: Duration::ZERO,
            published_jwks: None,
            revocation_credentials: None,
        }
    }

    /// One header a line: `name: value`.
    fn map(lines: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let (name, value) = line.trim().split_once(": ").unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// `want`: `METHOD scheme host path [name=value]…`, or the code of the refusal.
    fn check(dialect: Dialect, lines: &str, want: &str) {
        let got = match read(dialect, &map(lines), &settings()) {
            Err(unclear) => unclear.code().to_owned(),
            Ok(Forwarded { access, .. }) => {
                let host = if access.host.is_empty() { "-" } else { &access.host };
                let mut text = format!("{} {} {host} {}", access.method, access.scheme, access.path.as_str());
                for (name, value) in &access.query {
                    write!(text, " {name}={value}").unwrap();
                }
                text
            }
        };
        assert_eq!(got, want, "{dialect:?} {lines}");
    }

    const BASE: &str = "x-forwarded-method: GET\nx-forwarded-proto: https\nx-forwarded-host: a.example\n";

    #[test]
    fn each_proxy_is_read_by_its_own_headers() {
        let nginx = "x-original-method: POST\nx-original-uri: /a%20b/c?d=1&d=2\nx-forwarded-proto: https\n\
                     x-forwarded-host: A.Example:8443\n";
        check(Dialect::Nginx, nginx, "POST https a.example:8443 /a b/c d=1 d=2");
        for other in [Dialect::Traefik, Dialect::Caddy] {
            check(other, nginx, "forwarded_header_missing");
            check(other, &format!("{BASE}x-forwarded-uri: /a?b=%3D\n"), "GET https a.example /a b==");
            check(
                other,
                &format!("{BASE}x-forwarded-uri: /a\nx-original-uri: /b\nx-original-method: PUT\n"),
                "GET https a.example /a",
            );
        }
        check(Dialect::Nginx, &format!("{BASE}x-forwarded-uri: /a\n"), "forwarded_header_missing");
    }

    #[test]
    fn a_whole_url_says_everything() {
        let check = |url: &str, want: &str| {
            let lines = format!(
                "x-original-method: GET\nx-forwarded-proto: http\nx-forwarded-host: evil\nx-original-url: {url}\n"
            );
            check(Dialect::Nginx, &lines, want);
        };
        check("https://a.example/b?c=1", "GET https a.example /b c=1");
        check("http://a.example", "GET http a.example /");
        check("http://a.example?c", "GET http a.example / c=");
        check("wss://[::1]:8443/x", "GET https [::1]:8443 /x");
        for url in [
            "ftp://a/b",
            "/b",
            "https:///b",
            "https://user@a/b",
            "https://a:/b",
            "https://a b/c",
            "://a/b",
            "a.example/b",
        ] {
            check(url, "forwarded_header_malformed");
        }
        check("https://a/b#c", "path_delimiter");
        check("https://a#/b", "path_not_absolute");
        let both = "x-original-method: GET\nx-original-url: http://a/b\nx-original-uri: /b\n";
        super::tests::check(Dialect::Nginx, both, "forwarded_header_repeated");
    }

    #[test]
    fn what_is_missing_said_twice_or_malformed_is_refused() {
        let check = |lines: &str, want| check(Dialect::Traefik, lines, want);
        check("x-forwarded-uri: /a\n", "forwarded_header_missing");
        check("x-forwarded-method: GET\n", "forwarded_header_missing");
        check("x-forwarded-method: GET\nx-forwarded-uri: /a\n", "GET http - /a");
        for twice in [
            "x-forwarded-method: GET",
            "x-forwarded-proto: https",
            "x-forwarded-host: a.example",
            "x-forwarded-uri: /a",
        ] {
            check(&format!("{BASE}x-forwarded-uri: /a\n{twice}\n"), "forwarded_header_repeated");
        }
        for malformed in ["get", "Get", "G T", "GET, POST", "(GET)"] {
            check(&format!("x-forwarded-uri: /a\nx-forwarded-method: {malformed}\n"), "forwarded_header_malformed");
        }
        for malformed in [
            "proto: ftp",
            "proto: https, http",
            "host: a, b",
            "host: a/b",
            "host: a.",
            "host: a.:80",
            "host: [::1",
            "host: ::1",
            "host: a:b",
            "host: :80",
            "host: [::g]",
        ] {
            let lines = format!("x-forwarded-method: GET\nx-forwarded-uri: /a\nx-forwarded-{malformed}\n");
            check(&lines, "forwarded_header_malformed");
        }
    }

    #[test]
    fn an_ambiguous_target_is_refused_with_the_code_of_the_canonicaliser() {
        for (uri, want) in [
            ("/a/../b", "path_dot_segment"),
            ("//a", "path_empty_segment"),
            ("/a%2fb", "path_encoded_slash"),
            ("/a;b", "path_parameter"),
            ("*", "path_not_absolute"),
            ("?a", "path_not_absolute"),
            ("http://a/b", "path_not_absolute"),
            ("/a?b=%zz", "query_bad_encoding"),
            ("/a?b=%ff", "query_not_utf8"),
        ] {
            check(Dialect::Caddy, &format!("{BASE}x-forwarded-uri: {uri}\n"), want);
        }
    }

    #[test]
    fn policy_never_sees_the_place_of_a_token() {
        let headers = map(&format!(
            "{BASE}x-forwarded-uri: /a?access_token=aaa&b=1&access%5ftoken=bbb\nx-token: aaa\ncookie: a=b\n\
             authorization: Bearer aaa\nx-request-id: 1\nx-request-id: 2\nx-other: 3\n"
        ));
        let Forwarded { access, query, uri } = read(Dialect::Traefik, &headers, &settings()).unwrap();
        assert_eq!(access.query, [("b".to_owned(), "1".to_owned())]);
        assert_eq!(access.headers, map("x-request-id: 1\nx-request-id: 2\n"));
        assert_eq!(query, Some("access_token=aaa&b=1&access%5ftoken=bbb"));
        assert_eq!(uri, "/a?access_token=aaa&b=1&access%5ftoken=bbb");
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxy() {
        for (lines, want) in [
            ("", None),
            ("x-forwarded-for: 203.0.113.7\n", Some("203.0.113.7")),
            ("x-forwarded-for: 198.51.100.1, 203.0.113.7, 10.1.1.1\n", Some("203.0.113.7")),
            (
                "x-forwarded-for: 198.51.100.1\nx-forwarded-for: 203.0.113.7\nx-forwarded-for: fd00::1\n",
                Some("203.0.113.7"),
            ),
            ("x-forwarded-for: 10.2.2.2, 10.1.1.1\n", Some("10.2.2.2")),
            ("x-forwarded-for: nonsense, 203.0.113.7\n", Some("203.0.113.7")),
            ("x-forwarded-for: nonsense, 10.1.1.1\n", None),
            ("x-forwarded-for: 203.0.113.7:4711\n", Some("203.0.113.7")),
            ("x-forwarded-for: [2001:db8::1]:4711, ::ffff:10.0.0.1\n", Some("2001:db8::1")),
            ("x-forwarded-for: [2001:db8::1]\n", Some("2001:db8::1")),
        ] {
            assert_eq!(
                client(&map(lines), &settings().trusted_peers),
                want.map(|text| text.parse().unwrap()),
                "{lines}"
            );
        }
    }

    #[test]
    fn nginx_gets_no_status_but_those_that_it_knows() {
        for (status, nginx) in
            [(200, 204), (401, 401), (403, 403), (302, 403), (400, 403), (404, 403), (429, 403), (500, 500), (503, 503)]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Dialect::Nginx.status(status).as_u16(), nginx);
            assert_eq!(Dialect::Traefik.status(status), status);
            assert_eq!(Dialect::Caddy.status(status), status);
        }
    }
}
