//! Listeners, token sources, limits and the doors' own settings → [`Settings`].

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    notices,
    problem::Code,
    section::{Section, Text},
    sender, tls,
    tree::{Place, shorten},
    world::data_path,
};
use crate::{
    policy::DataPath,
    serve::{Limits, Listen, OpaIdentity, SenderSettings, Settings, TokenCacheSettings, TokenLint, TokenSource},
    status_lists,
};

/// Where claimgate listens when nothing is said: OPA's own port, on this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8181";
/// Where the admin listener is when nothing is said.
pub const DEFAULT_ADMIN_LISTEN: &str = "127.0.0.1:8282";
/// Headers that would hand token bytes to policy and the decision log.
const NEVER_FORWARDED: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "dpop"];
/// Headers that frame a message or address a host; an empty one would break the request.
const FRAMING: [&str; 9] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "host",
];
const SECOND: Duration = Duration::from_secs(1);
/// An authorization question is small; whoever sends more says so.
const DEFAULT_LIMITS: Limits = Limits {
    body_bytes: 1 << 20,
    gzip_body_bytes: 8 << 20,
    header_bytes: 32 << 10,
    // Also how long an idle connection stays open: longer than the pools of the usual proxies keep theirs.
    header_timeout: Duration::from_secs(75),
    request_timeout: Duration::from_secs(30),
    connections: 1_024,
    json_depth: 100,
};

/// Reads everything that the doors need but `events`, which knows the issuers; and the mode of sockets.
pub(super) fn read(root: &mut Section<'_>) -> (Settings, u32) {
    let mode = read_mode(root);
    let listen = read_listen(root, mode);
    let admin = read_admin(root, mode, &listen);
    let (token_sources, realm, token_cache, token_lint, sender, status_lists) = read_token(root);
    let (limits, key_patience) = read_limits(root);
    let (opa_identity, default_decision) = read_opa(root);
    let (trusted_peers, forwarded_headers, identity_headers) = read_forward_auth(root);
    refuse_addresses_with_tokens(root, &token_sources, &forwarded_headers);
    let mut shutdown = root.section("shutdown");
    let settings = Settings {
        listen,
        admin,
        events: None,
        tls: tls::read(root),
        limits,
        token_sources,
        token_cache,
        token_lint,
        sender,
        status_lists,
        realm,
        opa_identity,
        default_decision,
        trusted_peers,
        forwarded_headers,
        identity_headers,
        shutdown_wait: shutdown.duration("wait", Duration::ZERO, Duration::ZERO..=SECOND * 300),
        shutdown_grace: shutdown.duration("grace", SECOND * 10, Duration::ZERO..=SECOND * 3600),
        key_patience,
        published_jwks: None,
        // Of another section.
        revocation_credentials: None,
    };
    shutdown.finish();
    (settings, mode)
}

/// A token in the query stands in these headers too, as the proxy sends them.
fn refuse_addresses_with_tokens(root: &Section<'_>, sources: &[TokenSource], headers: &[String]) {
    const ADDRESSES: [&str; 4] = ["x-original-uri", "x-original-url", "x-forwarded-uri", "referer"];
    let in_query = sources.iter().any(|source| matches!(source, TokenSource::Query(_)));
    if let Some(name) = headers.iter().find(|name| in_query && ADDRESSES.contains(&name.as_str())) {
        let message = format!(
            "`{name}` holds the query, and `token.sources` takes tokens from there, so policy and the decision log would see \
             them; policy has the address without the token in `input.request`"
        );
        root.problem(Code::InvalidValue, "forward_auth.headers", message);
    }
}

fn read_listen(root: &mut Section<'_>, mode: u32) -> Vec<Listen> {
    let texts = root.text_or_texts("listen", DEFAULT_LISTEN);
    if texts.is_empty() && !root.concerns("listen") {
        root.problem(Code::InvalidValue, "listen", "it is empty, so nobody could ask; write at least one address");
    }
    let mut listen: Vec<Listen> = Vec::new();
    for text in &texts {
        let Some(address) = parse_listen(root, text, mode) else { continue };
        if listen.contains(&address) && !is_any_port(&address) {
            root.problem_at(text, format!("`{}` stands in the list twice; remove one", shorten(&text.text)));
        }
        listen.push(address);
    }
    listen
}

fn read_admin(root: &mut Section<'_>, mode: u32, others: &[Listen]) -> Option<Listen> {
    let mut admin = root.section("admin");
    let text = admin.text("listen");
    let default =
        || Text { text: DEFAULT_ADMIN_LISTEN.to_owned(), place: Place::Nowhere, key: "admin.listen".to_owned() };
    let text = text.unwrap_or_else(default);
    let listen = if text.text == "none" { None } else { parse_listen(&admin, &text, mode) };
    if let Some(address) = listen.as_ref().filter(|address| others.contains(address) && !is_any_port(address)) {
        let shown = match address {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix { path, .. } => path.display().to_string(),
        };
        let message = format!(
            "`{shown}` is an address of `listen` too; applications and operators never share one, so choose another, \
             or `none`"
        );
        admin.problem_at(&text, message);
    }
    admin.finish();
    listen
}

pub(super) fn parse_listen(section: &Section<'_>, text: &Text, mode: u32) -> Option<Listen> {
    if let Some(path) = text.text.strip_prefix("unix:") {
        if path.is_empty() {
            section.problem_at(text, "`unix:` names no path; write `unix:/run/claimgate.sock`");
            return None;
        }
        let path: PathBuf = section.resolve(&Text { text: path.to_owned(), ..text.clone() });
        return Some(Listen::Unix { path, mode });
    }
    if let Ok(address) = text.text.parse::<SocketAddr>() {
        return Some(Listen::Tcp(address));
    }
    let shown = shorten(&text.text);
    let hint = match text.text.rsplit_once(':') {
        Some(("", port)) => format!("write `127.0.0.1:{port}` for this machine only, or `0.0.0.0:{port}` for all"),
        Some(("localhost", port)) => format!("names are not looked up; write `127.0.0.1:{port}`"),
        None if !text.text.is_empty() && text.text.chars().all(|c| c.is_ascii_digit()) => {
            format!("write `127.0.0.1:{shown}` for this machine only, or `0.0.0.0:{shown}` for all")
        }
        _ => "write an IP address and a port such as `127.0.0.1:8181`, or `unix:/path`".to_owned(),
    };
    section.problem_at(text, format!("`{shown}` is not an address; {hint}"));
    None
}

/// Port 0 is another port each time.
fn is_any_port(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.port() == 0)
}

fn read_mode(root: &mut Section<'_>) -> u32 {
    const DEFAULT: u32 = 0o660;
    let Some(text) = root.text("socket_mode") else { return DEFAULT };
    match u32::from_str_radix(&text.text, 8) {
        Ok(mode) if mode <= 0o777 => mode,
        _ => {
            let message =
                format!("`{}` is not a file mode; write one in octal such as `\"0660\"`", shorten(&text.text));
            root.problem_at(&text, message);
            DEFAULT
        }
    }
}

type TokenSection = (Vec<TokenSource>, String, TokenCacheSettings, TokenLint, SenderSettings, status_lists::Settings);

fn read_token(root: &mut Section<'_>) -> TokenSection {
    let mut token = root.section("token");
    let texts = token.texts("sources", &["header"]);
    if texts.is_empty() && !token.concerns("sources") {
        token.problem(Code::InvalidValue, "sources", "it is empty, so no token could be found; write `[header]`");
    }
    let sources = texts.iter().filter_map(|text| parse_source(&token, text)).collect();
    let realm = token.text("realm");
    if let Some(text) = realm.as_ref().filter(|text| text.text.chars().any(|c| c.is_control() || c == '"' || c == '\\'))
    {
        token.problem_at(text, "it holds a quote, a backslash or a control character, which a challenge cannot carry");
    }
    let mut cache = token.section("cache");
    let token_cache = TokenCacheSettings {
        entries: cache.count("entries", 10_000, 0..=10_000_000),
        bytes: cache.size("bytes", 32 << 20, 64 << 10..=4 << 30),
    };
    cache.finish();
    let choices = [("off", TokenLint::Off), ("metrics", TokenLint::Metrics), ("warn", TokenLint::Warn)];
    let lint = token.text("lint").and_then(|text| token.choose(&text, &choices)).unwrap_or_default();
    let sender = sender::read(&mut token);
    let status_lists = notices::read_status_lists(&mut token);
    token.finish();
    (sources, realm.map_or_else(|| "claimgate".to_owned(), |text| text.text), token_cache, lint, sender, status_lists)
}

/// `header`, `header:NAME`, `header:NAME:SCHEME`, `cookie:NAME`, `query:NAME`.
fn parse_source(section: &Section<'_>, text: &Text) -> Option<TokenSource> {
    let mut parts = text.text.splitn(3, ':');
    let (kind, name, scheme) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let source = match (kind, name, scheme) {
        ("header", None, None) => {
            Some(TokenSource::Header { name: "authorization".to_owned(), scheme: "Bearer".to_owned() })
        }
        ("header", Some(name), scheme) => http::HeaderName::from_bytes(name.as_bytes()).ok().map(|name| {
            // A bare `authorization` without a scheme would take the word `Bearer` for a token.
            let standard = if name == http::header::AUTHORIZATION { "Bearer" } else { "" };
            TokenSource::Header { name: name.to_string(), scheme: scheme.unwrap_or(standard).to_owned() }
        }),
        ("cookie", Some(name), None) if is_token(name) => Some(TokenSource::Cookie(name.to_owned())),
        ("query", Some(name), None) if !name.is_empty() => Some(TokenSource::Query(name.to_owned())),
        _ => None,
    };
    if source.is_none() {
        let message = format!(
            "`{}` is not a place for a token; write `header` (`Authorization: Bearer …`), `header:NAME`, \
             `header:NAME:SCHEME`, `cookie:NAME` or `query:NAME`",
            shorten(&text.text)
        );
        section.problem_at(text, message);
    }
    source
}

/// RFC 9110 `token`, which RFC 6265 uses for cookie names.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn read_limits(root: &mut Section<'_>) -> (Limits, Duration) {
    let mut limits = root.section("limits");
    let times = Duration::from_millis(10)..=SECOND * 3600;
    let settings = Limits {
        body_bytes: limits.size("body_bytes", DEFAULT_LIMITS.body_bytes, 1..=1 << 30),
        gzip_body_bytes: limits.size("gzip_body_bytes", DEFAULT_LIMITS.gzip_body_bytes, 1..=4 << 30),
        header_bytes: limits.size("header_bytes", DEFAULT_LIMITS.header_bytes, 8 << 10..=1 << 20),
        header_timeout: limits.duration("header_timeout", DEFAULT_LIMITS.header_timeout, times.clone()),
        request_timeout: limits.duration("request_timeout", DEFAULT_LIMITS.request_timeout, times),
        connections: limits.count("connections", DEFAULT_LIMITS.connections, 1..=1_000_000),
        json_depth: limits.count("json_depth", DEFAULT_LIMITS.json_depth, 1..=127),
    };
    let patience = limits.duration("key_patience", SECOND * 2, Duration::ZERO..=SECOND * 60);
    limits.finish();
    (settings, patience)
}

fn read_opa(root: &mut Section<'_>) -> (OpaIdentity, DataPath) {
    let mut opa = root.section("opa");
    let choices = [("token", OpaIdentity::Token), ("passthrough", OpaIdentity::Passthrough)];
    let identity = opa.choice("identity", &choices, OpaIdentity::Token);
    let decision = opa.text("default_decision").and_then(|text| data_path(&opa, &text, "system/main"));
    opa.finish();
    (identity, decision.unwrap_or_else(|| DataPath::from_slash("system/main")))
}

fn read_forward_auth(root: &mut Section<'_>) -> (Vec<ipnet::IpNet>, Vec<String>, Vec<String>) {
    let mut section = root.section("forward_auth");
    let mut peers = Vec::new();
    for text in section.texts("trusted_peers", &[]) {
        let address = || text.text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        match text.text.parse::<ipnet::IpNet>().or_else(|_| address()) {
            Ok(network) => peers.push(network),
            Err(_) => {
                let message = format!(
                    "`{}` is not an address or a network; write one such as `10.0.0.7` or `10.0.0.0/8`",
                    shorten(&text.text)
                );
                section.problem_at(&text, message);
            }
        }
    }
    let mut headers = Vec::new();
    for text in section.texts("headers", &[]) {
        match http::HeaderName::from_bytes(text.text.as_bytes()) {
            Ok(name) if NEVER_FORWARDED.contains(&name.as_str()) => {
                let message = format!("`{name}` carries credentials; policy never sees it, only what was verified");
                section.problem_at(&text, message);
            }
            Ok(name) => headers.push(name.to_string()),
            Err(_) => section.problem_at(&text, format!("`{}` is not a header name", shorten(&text.text))),
        }
    }
    let mut identity = Vec::new();
    for text in section.texts("identity_headers", &[]) {
        match http::HeaderName::from_bytes(text.text.as_bytes()) {
            Ok(name) if FRAMING.contains(&name.as_str()) => {
                let message = format!("`{name}` belongs to the connection and says nothing about a caller; remove it");
                section.problem_at(&text, message);
            }
            Ok(name) => identity.push(name.to_string()),
            Err(_) => section.problem_at(&text, format!("`{}` is not a header name", shorten(&text.text))),
        }
    }
    section.finish();
    (peers, headers, identity)
}
