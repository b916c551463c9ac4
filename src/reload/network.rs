//! The requests of this module: a key set or a metadata document, with the entity tag of what is at hand. What is asked
//! goes through [`crate::fetch`]; what its answers mean for keys is decided here. Keeps no state.

use std::{sync::Arc, time::Duration};

use tokio::sync::OnceCell;

use crate::fetch::{self, Client, HeaderValue, Request, StatusCode, Url, header};

/// A longer entity tag is not remembered.
const MAX_ETAG: usize = 1024;
const ACCEPT: &str = "application/jwk-set+json, application/json";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Get {
    /// A URL that was admitted.
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

    /// The operator asks to look at everything anew: files of certificates too.
    fn look(&self) -> impl Future<Output = ()> + Send;
}

/// Why keys could not be had. Names the operator's own URLs and files, never what a server sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Http(#[from] fetch::Error),
    #[error("the server answered {status}")]
    Status { status: u16 },
    #[error("the server answered 304 though nothing was there to be unmodified")]
    StrayNotModified,
    #[error("the metadata document is not usable: {reason}")]
    BadMetadata { reason: String },
    #[error("the metadata document is of another issuer than the configured one; `issuer` must be equal byte by byte")]
    IssuerMismatch,
    #[error("neither of the two metadata documents can be used; OpenID Connect: {openid}; OAuth (RFC 8414): {oauth}")]
    NoMetadata { openid: Box<FetchError>, oauth: Box<FetchError> },
    #[error("the answer is not a usable key set: {reason}")]
    BadKeySet { code: &'static str, reason: String },
}

/// The real network.
#[derive(Debug)]
pub(super) struct Network {
    settings: fetch::Settings,
    /// Made by the first request; one that cannot be made is tried again by the next.
    client: OnceCell<Arc<Client>>,
}

// === impl Network ===

impl Network {
    /// A client for one issuer.
    pub(super) fn new(settings: fetch::Settings) -> Self {
        Self { settings, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&Arc<Client>, FetchError> {
        let make = async || {
            let settings = self.settings.clone();
            // Loading certificates reads files.
            let made = tokio::task::spawn_blocking(move || Client::new(settings)).await;
            made.map_err(|error| fetch::Error::Client { reason: error.to_string() })?.map(Arc::new)
        };
        Ok(self.client.get_or_try_init(make).await?)
    }
}

impl Transport for Network {
    async fn get(&self, get: Get) -> Result<Answer, FetchError> {
        let mut request = Request::get(get.url, ACCEPT);
        let tag = get.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
        let has_tag = tag.is_some();
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let response = self.client().await?.send(request).await?;
        let max_age = response.max_age();
        match response.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if has_tag => return Ok(Answer::NotModified { max_age }),
            StatusCode::NOT_MODIFIED => return Err(FetchError::StrayNotModified),
            status => return Err(FetchError::Status { status: status.as_u16() }),
        }
        let etag = response.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let etag = etag.filter(|tag| tag.len() <= MAX_ETAG);
        Ok(Answer::Body { bytes: response.body, etag, max_age })
    }

    async fn look(&self) {
        if let Some(client) = self.client.get() {
            client.look().await;
        }
    }
}

// === impl FetchError ===

impl FetchError {
    /// Stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Http(error) => match error {
                fetch::Error::BadUrl { .. } => "key_url_invalid",
                fetch::Error::NotHttps { .. } => "key_url_not_https",
                fetch::Error::ForbiddenAddress { .. } => "key_address_forbidden",
                fetch::Error::File { .. } => "key_certificate_file_error",
                fetch::Error::Client { .. } => "key_client_error",
                fetch::Error::Timeout => "key_fetch_timeout",
                fetch::Error::Transport { .. } => "key_fetch_failed",
                fetch::Error::Redirect { .. } => "key_fetch_redirect",
                fetch::Error::TooLarge { .. } => "key_set_too_large",
                fetch::Error::Compressed => "key_set_compressed",
            },
            Self::Status { .. } | Self::StrayNotModified => "key_fetch_status",
            Self::BadMetadata { .. } => "issuer_metadata_invalid",
            Self::IssuerMismatch => "issuer_metadata_mismatch",
            // The one that says more than that there is nothing.
            Self::NoMetadata { openid, oauth } => {
                if matches!(**openid, Self::Status { .. }) {
                    oauth.code()
                } else {
                    openid.code()
                }
            }
            Self::BadKeySet { code, .. } => code,
        }
    }

    /// Did the server answer at all? Then another of its documents may be better.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Http(fetch::Error::Redirect { .. } | fetch::Error::TooLarge { .. } | fetch::Error::Compressed) => {
                true
            }
            Self::Http(_) => false,
            _ => true,
        }
    }
}
