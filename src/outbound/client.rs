//! One request of a policy: from its parameters, through attempts, to an answer that is counted while it arrives. Failures get OPA's sentences where OPA has them.
//!
//! The host is looked up in the list as the URL parser reads it, which is also how it is connected to.

use std::{
    error::Error as _,
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Client, Method, Response, Url,
    header::{HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH},
};

use super::{
    Settings,
    cache::Validators,
    hosts::{self, Host},
    transport::{Forbidden, Kind, not_listed, root_cause},
};
use crate::policy::{HttpError, HttpRequest, HttpResponse};

/// Most clients that are kept for their TLS settings.
const MOST_CLIENTS: usize = 16;
/// Headers that the client writes itself.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "trailer"];
/// OPA's waits between two attempts: the first, the longest, and how they grow.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const GROWTH: f64 = 1.6;

/// Clients by what they are made for.
#[derive(Debug)]
pub(super) struct Clients {
    allow: Arc<[Host]>,
    max_response_bytes: usize,
    made: Mutex<Vec<(Kind, Client)>>,
}

/// A request that can be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    client: Client,
    request: reqwest::Request,
    retries: u32,
    max_response_bytes: usize,
    /// `Get "http://host/path"`, as Go's errors start.
    shown: Shown,
}

#[derive(Debug, Clone)]
struct Shown {
    operation: String,
    /// Without a password.
    url: String,
    /// Without a query either, which may hold a token.
    short: String,
    host: String,
}

// === impl Clients ===

impl Clients {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            allow: settings.allow.clone().into(),
            max_response_bytes: settings.max_response_bytes,
            made: Mutex::default(),
        }
    }

    /// Checks a request and makes it ready. Reads the files and variables that its TLS parameters name.
    pub(super) fn prepare(
        &self,
        request: &HttpRequest,
        validators: Option<&Validators>,
    ) -> Result<Prepared, HttpError> {
        let mut shown = Shown::new(request);
        let url = Url::parse(&request.url).map_err(|error| shown.network(&error.to_string()));
        let mut url = url.map_err(|error| match request.url.split_once(':') {
            None => shown.network("unsupported protocol scheme \"\""),
            Some(_) => error,
        })?;
        match url.scheme() {
            "http" | "https" => {}
            "unix" => return Err(HttpError::Refused("requests to Unix sockets are not supported".to_owned())),
            scheme => return Err(shown.network(&format!("unsupported protocol scheme \"{scheme}\""))),
        }
        shown.host = hosts::host_of(&url).unwrap_or_default().to_owned();
        if !hosts::allows(&self.allow, &url) {
            return Err(HttpError::Refused(not_listed(&shown.host)));
        }
        let method = if request.method.is_empty() { "GET" } else { &request.method };
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| HttpError::Failed(format!("net/http: invalid method \"{}\"", request.method)))?;
        let mut kind = Kind::of(&request.tls)?;
        kind.follow_redirects = request.follow_redirects;
        kind.plain_only = url.scheme() == "http" && !kind.follow_redirects && !kind.with_system_roots;
        let mut headers = headers(request, validators, &shown)?;
        kind.alias = alias(request, &mut url, &mut headers)?;
        let client = self.client(kind)?;
        let mut sent = client.request(method.clone(), url).headers(headers);
        if let Some(timeout) = request.timeout {
            sent = sent.timeout(timeout);
        }
        // A request that has a body by its nature says that it is empty.
        if !request.body.is_empty() || matches!(method, Method::POST | Method::PUT | Method::PATCH) {
            sent = sent.body(request.body.clone());
        }
        Ok(Prepared {
            request: sent.build().map_err(|error| shown.network(&root_cause(&error)))?,
            client,
            retries: request.retries,
            max_response_bytes: self.max_response_bytes,
            shown,
        })
    }

    fn client(&self, kind: Kind) -> Result<Client, HttpError> {
        let lock = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = lock().iter().find(|(made, _)| *made == kind) {
            return Ok(client.clone());
        }
        let client = kind.build(&self.allow)?;
        let mut made = lock();
        if made.len() >= MOST_CLIENTS {
            made.remove(0);
        }
        made.push((kind, client.clone()));
        Ok(client)
    }
}

/// A name for TLS other than the host's: the request goes to that name, which stands for the host's addresses.
fn alias(request: &HttpRequest, url: &mut Url, headers: &mut HeaderMap) -> Result<Option<(String, String)>, HttpError> {
    let host = hosts::host_of(url).unwrap_or_default().to_owned();
    let name = request.tls.server_name.as_deref().filter(|_| url.scheme() == "https");
    let Some(name) = name.map(|name| name.split_once(':').map_or(name, |(name, _)| name).to_ascii_lowercase()) else {
        return Ok(None);
    };
    if name == host {
        return Ok(None);
    }
    if request.follow_redirects {
        let message = "redirects cannot be followed with a `tls_server_name` that is not the host";
        return Err(HttpError::Refused(message.to_owned()));
    }
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let bad = || HttpError::Failed("tls_server_name is not a name".to_owned());
    url.set_host(Some(&name)).map_err(|_| bad())?;
    if !matches!(url.domain(), Some(domain) if domain == name) {
        // An address would be connected to.
        return Err(bad());
    }
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::from_str(&authority).map_err(|_| bad())?);
    }
    Ok(Some((name, host)))
}

fn headers(request: &HttpRequest, validators: Option<&Validators>, shown: &Shown) -> Result<HeaderMap, HttpError> {
    let mut headers = HeaderMap::new();
    // What frames a message is not the policy's to say; Go leaves these out too.
    let framing = |name: &str| FRAMING.iter().any(|own| name.eq_ignore_ascii_case(own));
    for (name, value) in request.headers.iter().filter(|(name, _)| !framing(name)) {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| shown.network(&format!("net/http: invalid header field name \"{name}\"")))?;
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| shown.network(&format!("net/http: invalid header field value for \"{name}\"")))?;
        headers.insert(parsed, value);
    }
    let mut add = |name: HeaderName, value: &Option<String>| {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    };
    if let Some(validators) = validators {
        add(IF_NONE_MATCH, &validators.etag);
        add(IF_MODIFIED_SINCE, &validators.last_modified);
    }
    Ok(headers)
}

// === impl Prepared ===

impl Prepared {
    pub(super) async fn run(self) -> Result<HttpResponse, HttpError> {
        let mut delay = FIRST_DELAY;
        let mut left = self.retries;
        // As Go does: a kept connection that the server closed meanwhile is no failure of a request without effects.
        let mut may_repeat = matches!(*self.request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let response = loop {
            let Some(request) = self.request.try_clone() else {
                return Err(HttpError::Failed("the request cannot be sent".to_owned()));
            };
            match self.client.execute(request).await {
                Ok(response) => break response,
                Err(error) if may_repeat && was_closed(&error) => {
                    may_repeat = false;
                    continue;
                }
                Err(error) => {
                    let error = self.shown.classify(&error);
                    if left == 0 || matches!(error, HttpError::Refused(_)) {
                        return Err(error);
                    }
                }
            }
            left -= 1;
            tokio::time::sleep(delay).await;
            delay = delay.mul_f64(GROWTH).min(LONGEST_DELAY);
        };
        self.read(response).await
    }

    async fn read(&self, mut response: Response) -> Result<HttpResponse, HttpError> {
        let status = response.status();
        let reason = match response.extensions().get::<hyper::ext::ReasonPhrase>() {
            Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
            None => status.canonical_reason().unwrap_or_default().to_owned(),
        };
        let headers = shown_headers(response.headers());
        let limit = self.max_response_bytes;
        let too_large = || {
            let host = &self.shown.host;
            HttpError::Refused(format!(
                "answer of `{host}` has more than {limit} bytes (`policy.http_send.response_bytes`)"
            ))
        };
        if response.content_length().is_some_and(|length| length > u64::try_from(limit).unwrap_or(u64::MAX)) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
            if body.len().saturating_add(chunk.len()) > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let status_code = status.as_u16();
        Ok(HttpResponse { status: format!("{status_code} {reason}").trim_end().to_owned(), status_code, headers, body })
    }
}

/// Names in lower case and in order, without those that Go's client takes for itself.
fn shown_headers(headers: &HeaderMap) -> Vec<(String, Vec<String>)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut all: Vec<(String, Vec<String>)> = headers
        .keys()
        .map(|name| (name.as_str().to_owned(), headers.get_all(name).iter().map(text).collect()))
        .filter(|(name, values): &(String, Vec<String>)| match name.as_str() {
            "transfer-encoding" | "trailer" => false,
            "connection" => !values.iter().any(|value| value.eq_ignore_ascii_case("close")),
            _ => true,
        })
        .collect();
    all.sort();
    all
}

/// A body that does not come to its end.
fn broken(error: &reqwest::Error) -> HttpError {
    let message = if error.is_timeout() {
        "context deadline exceeded (Client.Timeout or context cancellation while reading body)".to_owned()
    } else {
        "unexpected EOF".to_owned()
    };
    HttpError::Failed(message)
}

/// Did the connection end before anything of an answer came?
fn was_closed(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<std::io::Error>() {
            return matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        }
        if inner.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        cause = inner.source();
    }
    false
}

// === impl Shown ===

impl Shown {
    fn new(request: &HttpRequest) -> Self {
        let method = request.method.to_ascii_lowercase();
        let mut letters = method.chars();
        let operation = match letters.next() {
            Some(first) => first.to_ascii_uppercase().to_string() + letters.as_str(),
            None => "Get".to_owned(),
        };
        let parsed = Url::parse(&request.url).ok();
        let has_password = parsed.as_ref().is_some_and(|url| url.password().is_some());
        let url = match parsed {
            Some(mut url) if has_password => {
                // It has a host, so this cannot fail.
                let _ = url.set_password(Some("xxxxx"));
                url.to_string()
            }
            Some(_) => request.url.clone(),
            // What is no URL may hold anything before an `@`.
            None => request.url.rsplit_once('@').map_or(request.url.as_str(), |(_, rest)| rest).to_owned(),
        };
        let short = url.split(['?', '#']).next().unwrap_or_default().to_owned();
        Self { operation, url, short, host: String::new() }
    }

    fn network(&self, cause: &str) -> HttpError {
        let Self { operation, url, short, .. } = self;
        HttpError::Network {
            message: format!("{operation} \"{url}\": {cause}"),
            raised: Some(format!("{operation} \"{short}\": {cause}")),
        }
    }

    fn classify(&self, error: &reqwest::Error) -> HttpError {
        let mut cause = error.source();
        while let Some(inner) = cause {
            match inner.downcast_ref::<Forbidden>() {
                Some(Forbidden::Unknown) => {
                    return self.network(&format!("dial tcp: lookup {}: no such host", self.host));
                }
                Some(forbidden) => return HttpError::Refused(forbidden.to_string()),
                None if inner.downcast_ref().is_some_and(hyper::Error::is_parse_too_large) => {
                    return HttpError::Refused(format!("headers of the answer of `{}` are too large", self.host));
                }
                None => cause = inner.source(),
            }
        }
        if !error.is_timeout() {
            return self.network(&root_cause(error));
        }
        let Self { operation, short, .. } = self;
        match self.network("context deadline exceeded (Client.Timeout exceeded while awaiting headers)") {
            HttpError::Network { message, .. } => {
                HttpError::Network { message, raised: Some(format!("{operation} {short}: request timed out")) }
            }
            other => other,
        }
    }
}
