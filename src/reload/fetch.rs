//! One bounded HTTP GET for keys or issuer metadata, and the rules on where it may go.
//!
//! No redirects, no proxy, no cookies, no decompression, no reuse of connections; the body is counted while it
//! streams; names that resolve to link-local or cloud metadata addresses are refused, and the address that was checked
//! is the one that is connected to. It knows nothing of keys and keeps no state.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderMap, HeaderValue},
    redirect::Policy,
};

use super::{FetchSettings, KeySource, describe_io};
use crate::outbound::is_forbidden;

/// A longer entity tag is not remembered.
const MAX_ETAG: usize = 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Get {
    /// A URL that [`admit`] or [`admit_discovered`] let through.
    pub(super) url: Url,
    /// The entity tag of what the caller still has.
    pub(super) etag: Option<String>,
}

/// A usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// 304: what the caller has is still right.
    NotModified { max_age: Option<Duration> },
    /// 200.
    Body { bytes: Vec<u8>, etag: Option<String>, max_age: Option<Duration> },
}

/// Asks. A trait so that the life of keys can be tested with a made-up network and a made-up clock.
pub(super) trait Transport: Send + Sync + 'static {
    /// One request.
    fn get(&self, get: Get) -> impl Future<Output = Result<Answer, FetchError>> + Send;
}

/// Why keys could not be had. Names the operator's own URLs, never what a server sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{url}` is not an absolute http or https URL: {reason}")]
    BadUrl { url: String, reason: String },
    #[error("`{url}` is not https; whoever is on the path could replace the keys (`allow_http` permits it)")]
    NotHttps { url: String },
    #[error("`{host}` has only link-local or metadata addresses; keys are never fetched from there")]
    ForbiddenAddress { host: String },
    #[error("the HTTP client cannot be made: {reason}")]
    Client { reason: String },
    #[error("no answer within the time limit")]
    Timeout,
    #[error("the request failed: {reason}")]
    Transport { reason: String },
    #[error("the server answered {status}, which is a redirect; redirects are not followed, configure the final URL")]
    Redirect { status: u16 },
    #[error("the server answered {status}")]
    Status { status: u16 },
    #[error("the server answered 304 though nothing was there to be unmodified")]
    StrayNotModified,
    #[error("the body has more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body is compressed though that was not asked for")]
    Compressed,
    #[error("the metadata document is not usable: {reason}")]
    BadMetadata { reason: String },
    #[error("the metadata document is of another issuer than the configured one; `issuer` must be equal byte by byte")]
    IssuerMismatch,
    #[error("the answer is not a usable key set: {reason}")]
    BadKeySet { code: &'static str, reason: String },
}

/// The real network.
#[derive(Debug, Clone)]
pub(super) struct Network {
    client: Client,
    max_body_bytes: usize,
}

/// Is the source written in a way that can be fetched at all? Local sources always are.
pub(super) fn check_source(issuer: &str, source: &KeySource) -> Result<(), FetchError> {
    match source {
        KeySource::File(_) | KeySource::Inline(_) => Ok(()),
        KeySource::Url { url, fetch } => admit(url, fetch.allow_http).map(drop),
        KeySource::Discovery { url, fetch } => metadata_url(issuer, url.as_deref(), fetch.allow_http).map(drop),
    }
}

/// The metadata document's URL: the configured one, or OpenID Connect's place for it.
pub(super) fn metadata_url(issuer: &str, url: Option<&str>, allow_http: bool) -> Result<Url, FetchError> {
    let default = || format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    admit(&url.map_or_else(default, str::to_owned), allow_http)
}

/// Admits a URL that the operator wrote. An address that is written out in it is used, whatever it is.
pub(super) fn admit(text: &str, allow_http: bool) -> Result<Url, FetchError> {
    // User names and passwords in URLs end in logs; the message must not put them there either.
    let bad = |reason: &str| {
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        FetchError::BadUrl { url: shown.to_owned(), reason: reason.to_owned() }
    };
    let mut url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    if url.host_str().is_none() {
        return Err(bad("it has no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds a user name or password"));
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_http || is_loopback(&url) => {}
        "http" => return Err(FetchError::NotHttps { url: text.to_owned() }),
        _ => return Err(bad("its scheme is neither http nor https")),
    }
    url.set_fragment(None);
    Ok(url)
}

/// Admits a URL that a metadata document at `from` named: `http` needs permission, or a document that itself came
/// from a loopback host; a written-out link-local address needs to be the document's own.
pub(super) fn admit_discovered(text: &str, from: &Url, allow_http: bool) -> Result<Url, FetchError> {
    let url = admit(text, allow_http)?;
    if url.scheme() == "http" && !allow_http && !is_loopback(from) {
        return Err(FetchError::NotHttps { url: text.to_owned() });
    }
    match literal_address(&url) {
        Some(address) if is_forbidden(address) && url.host() != from.host() => {
            Err(FetchError::ForbiddenAddress { host: address.to_string() })
        }
        _ => Ok(url),
    }
}

/// Reads `jwks_uri` of the metadata document of `issuer` (OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3).
pub(super) fn jwks_uri(document: &[u8], issuer: &str, from: &Url, allow_http: bool) -> Result<Url, FetchError> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let metadata: Metadata = serde_json::from_slice(document).map_err(|error| {
        // The error's text can quote the document; its place and kind are enough.
        let reason = format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column());
        FetchError::BadMetadata { reason: reason.to_lowercase() }
    })?;
    if metadata.issuer != issuer {
        return Err(FetchError::IssuerMismatch);
    }
    admit_discovered(&metadata.jwks_uri, from, allow_http)
}

// === impl Network ===

impl Network {
    /// A client for one issuer. Loads the system's certificates (or those of `SSL_CERT_FILE`).
    pub(super) fn new(settings: &FetchSettings) -> Result<Self, FetchError> {
        let client = Client::builder()
            .user_agent(concat!("claimgate/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            // Minutes lie between two requests: a kept connection would mostly be a dead one.
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(GuardedResolver))
            .build()
            .map_err(|e| FetchError::Client { reason: root_cause(&e) })?;
        Ok(Self { client, max_body_bytes: settings.max_body_bytes })
    }
}

impl Transport for Network {
    async fn get(&self, get: Get) -> Result<Answer, FetchError> {
        let mut request = self
            .client
            .get(get.url)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::ACCEPT_ENCODING, "identity");
        let tag = get.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
        let has_tag = tag.is_some();
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let mut response = request.send().await.map_err(|e| classify(&e))?;
        let status = response.status();
        let max_age = max_age(response.headers());
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if has_tag => return Ok(Answer::NotModified { max_age }),
            StatusCode::NOT_MODIFIED => return Err(FetchError::StrayNotModified),
            _ if status.is_redirection() => return Err(FetchError::Redirect { status: status.as_u16() }),
            _ => return Err(FetchError::Status { status: status.as_u16() }),
        }
        if response.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(FetchError::Compressed);
        }
        let too_large = FetchError::TooLarge { limit: self.max_body_bytes };
        let limit = u64::try_from(self.max_body_bytes).unwrap_or(u64::MAX);
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        let etag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| classify(&e))? {
            if bytes.len().saturating_add(chunk.len()) > self.max_body_bytes {
                return Err(too_large);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer::Body { bytes, etag: etag.filter(|tag| tag.len() <= MAX_ETAG), max_age })
    }
}

/// Resolves names and leaves out addresses that keys are never fetched from.
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
                return Err(FetchError::ForbiddenAddress { host }.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

// === helpers ===

fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || literal_address(url).is_some_and(|address| address.is_loopback())
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// `max-age` less `Age` (RFC 9111 §4.2). `no-store` and `no-cache` are an age of nothing.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives: Vec<String> =
        values.flat_map(|value| value.split(',')).map(|part| part.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|directive| directive == "no-store" || directive == "no-cache") {
        return Some(Duration::ZERO);
    }
    let text = directives.iter().find_map(|directive| directive.strip_prefix("max-age="))?;
    let seconds: u64 = text.trim_matches('"').parse().ok()?;
    let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()).and_then(|age| age.trim().parse().ok());
    Some(Duration::from_secs(seconds.saturating_sub(age.unwrap_or(0))))
}

fn classify(error: &reqwest::Error) -> FetchError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(known) = inner.downcast_ref::<FetchError>() {
            return known.clone();
        }
        cause = inner.source();
    }
    if error.is_timeout() { FetchError::Timeout } else { FetchError::Transport { reason: root_cause(error) } }
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

impl FetchError {
    /// Stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "key_url_invalid",
            Self::NotHttps { .. } => "key_url_not_https",
            Self::ForbiddenAddress { .. } => "key_address_forbidden",
            Self::Client { .. } => "key_client_error",
            Self::Timeout => "key_fetch_timeout",
            Self::Transport { .. } => "key_fetch_failed",
            Self::Redirect { .. } => "key_fetch_redirect",
            Self::Status { .. } | Self::StrayNotModified => "key_fetch_status",
            Self::TooLarge { .. } => "key_set_too_large",
            Self::Compressed => "key_set_compressed",
            Self::BadMetadata { .. } => "issuer_metadata_invalid",
            Self::IssuerMismatch => "issuer_metadata_mismatch",
            Self::BadKeySet { code, .. } => code,
        }
    }
}

#[cfg(test)]
mod tests;
