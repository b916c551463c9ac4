//! One fetch of a status list, and what its answer must be. Nothing that a server sent is repeated.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::OnceCell;

use crate::{
    fetch::{self, Client, Request, StatusCode, Url},
    token::StatusListError,
};

/// Asks. A trait so that the life of lists can be tested with a made-up network and a made-up clock.
pub(super) trait Source: fmt::Debug + Send + Sync {
    fn get(&self, url: Url) -> Pin<Box<dyn Future<Output = Result<Answer, FetchFault>> + Send + '_>>;
}

/// A body that could be a signed list.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) max_age: Option<Duration>,
}

/// Why there is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchFault {
    #[error("{0}")]
    Request(fetch::Error),
    #[error("the server answered {0}")]
    Status(u16),
    #[error("the answer is not text")]
    NotText,
    #[error("{0}")]
    List(StatusListError),
    #[error("its issuer is not configured any more")]
    IssuerGone,
}

/// The real network.
#[derive(Debug)]
pub(super) struct Network {
    settings: fetch::Settings,
    /// Made with the first fetch.
    client: OnceCell<Arc<Client>>,
}

/// §5.1 of the draft.
const STATUS_LIST: &str = "application/statuslist+jwt";

// === impl Network ===

impl Network {
    pub(super) fn new(settings: fetch::Settings) -> Self {
        Self { settings, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&Arc<Client>, FetchFault> {
        let make = || async {
            let settings = self.settings.clone();
            let made = tokio::task::spawn_blocking(move || Client::new(settings)).await;
            let made = made.unwrap_or_else(|error| Err(fetch::Error::Client { reason: error.to_string() }));
            made.map(Arc::new).map_err(FetchFault::Request)
        };
        self.client.get_or_try_init(make).await
    }
}

impl Source for Network {
    fn get(&self, url: Url) -> Pin<Box<dyn Future<Output = Result<Answer, FetchFault>> + Send + '_>> {
        Box::pin(async move {
            let sent = self.client().await?.send(Request::get(url, STATUS_LIST)).await;
            let response = sent.map_err(FetchFault::Request)?;
            if response.status != StatusCode::OK {
                return Err(FetchFault::Status(response.status.as_u16()));
            }
            let max_age = response.max_age();
            let mut text = String::from_utf8(response.body).map_err(|_| FetchFault::NotText)?;
            // Files that people publish end with a line break.
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
            Ok(Answer { text, max_age })
        })
    }
}

// === impl FetchFault ===

impl FetchFault {
    /// Stable code, also a metric's label.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Request(error) => error.code(),
            Self::Status(_) => "fetch_status",
            Self::NotText => "status_list_not_text",
            Self::List(error) => error.code(),
            Self::IssuerGone => "issuer_gone",
        }
    }
}
