//! One question over HTTP: where to, our credentials, and what the status and the media type of the answer mean. Secrets
//! are read for each question and kept nowhere; nothing that a server sent is repeated.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::sync::OnceCell;

use crate::{
    fetch::{self, Client, HeaderValue, Request, Response, StatusCode, Url, header},
    snapshot::Handle,
    state::{describe_io, read_regular},
    token::{
        ASSERTION_TYPE, AnswerForm, ClientAuthentication, IntrospectionEndpoint, IntrospectionFault as Fault,
        IntrospectionRequest, IntrospectionSettings, Secret, SecretSource, client_assertion,
    },
};

/// Asks. A trait so that caches and breakers can be tested with a made-up issuer and a made-up clock.
pub(super) trait Transport: Send + Sync + 'static {
    /// One question.
    fn ask(&self, form: IntrospectionRequest) -> impl Future<Output = Result<(AnswerForm, Vec<u8>), Fault>> + Send;
}

/// The real network, for one issuer.
#[derive(Debug)]
pub(super) struct Network {
    issuer: String,
    settings: IntrospectionSettings,
    snapshots: Handle,
    /// Made with the first question.
    client: OnceCell<Arc<Client>>,
}

const JSON: &str = "application/json";
const SIGNED: &str = "application/token-introspection+jwt";
const FORM: &str = "application/x-www-form-urlencoded";
/// Longest secret.
const MOST_SECRET_BYTES: u64 = 64 << 10;
/// Connections that are kept for the next question.
const KEPT_CONNECTIONS: usize = 8;

// === impl Network ===

impl Network {
    pub(super) fn new(issuer: &str, settings: &IntrospectionSettings, snapshots: Handle) -> Self {
        Self { issuer: issuer.to_owned(), settings: settings.clone(), snapshots, client: OnceCell::new() }
    }

    fn endpoint(&self) -> Result<Url, Fault> {
        let text = match &self.settings.endpoint {
            IntrospectionEndpoint::Url(url) => Some(url.clone()),
            IntrospectionEndpoint::Discovered => self.snapshots.introspection_endpoint(&self.issuer),
        };
        let Some(text) = text else {
            let reason = "its metadata was not read yet, or names no `introspection_endpoint`";
            return Err(Fault::Endpoint(reason.to_owned()));
        };
        fetch::admit(&text, self.settings.allow_http).map_err(|error| Fault::Endpoint(error.to_string()))
    }

    async fn client(&self) -> Result<&Arc<Client>, Fault> {
        let settings = fetch::Settings {
            timeout: self.settings.timeout,
            connect_timeout: fetch::Settings::default().connect_timeout.min(self.settings.timeout),
            max_body_bytes: self.settings.max_bytes,
            allow_http: self.settings.allow_http,
            ca_file: self.settings.ca_file.clone(),
            client_certificate: self.settings.client_certificate.as_ref().map(|(certificate, _)| certificate.clone()),
            client_key: self.settings.client_certificate.as_ref().map(|(_, key)| key.clone()),
            idle_connections: KEPT_CONNECTIONS,
        };
        let make = || async move {
            let made = tokio::task::spawn_blocking(move || Client::new(settings)).await;
            match made {
                Ok(Ok(client)) => Ok(Arc::new(client)),
                Ok(Err(error)) => Err(Fault::Credentials(error.to_string())),
                Err(error) => Err(Fault::Credentials(error.to_string())),
            }
        };
        self.client.get_or_try_init(make).await
    }

    async fn request(&self, mut form: IntrospectionRequest) -> Result<Request, Fault> {
        let url = self.endpoint()?;
        let client_id = &self.settings.client_id;
        let authorization = match &self.settings.authentication {
            ClientAuthentication::Basic(source) => {
                let pair = secret(source).await?.basic(client_id);
                Some(sensitive(&format!("Basic {}", STANDARD.encode(pair.expose())))?)
            }
            ClientAuthentication::Post(source) => {
                let secret = secret(source).await?;
                form.field("client_id", client_id);
                form.field("client_secret", secret.expose());
                None
            }
            ClientAuthentication::Bearer(source) => {
                Some(sensitive(&format!("Bearer {}", secret(source).await?.expose()))?)
            }
            ClientAuthentication::PrivateKey(source) => {
                let key = secret(source).await?;
                let (id, now) = (uuid::Uuid::new_v4().to_string(), SystemTime::now().into());
                let assertion = client_assertion(&key, client_id, &self.issuer, &id, now);
                form.field("client_id", client_id);
                form.field("client_assertion_type", ASSERTION_TYPE);
                form.field("client_assertion", &assertion.map_err(|error| Fault::Credentials(error.to_string()))?);
                None
            }
            ClientAuthentication::Certificate => {
                form.field("client_id", client_id);
                None
            }
        };
        let accept = if self.settings.signed { SIGNED } else { JSON };
        let request = Request::post(url, accept, FORM, form.into_body());
        Ok(match authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        })
    }

    /// A 200 of the media type that was asked for is an answer.
    fn answer(&self, response: Response) -> Result<(AnswerForm, Vec<u8>), Fault> {
        match response.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Fault::Unauthorized(response.status.as_u16()));
            }
            StatusCode::BAD_REQUEST => return Err(Fault::Rejected(response.status.as_u16())),
            status => return Err(Fault::Status(status.as_u16())),
        }
        let (form, wanted) = if self.settings.signed { (AnswerForm::Signed, SIGNED) } else { (AnswerForm::Json, JSON) };
        let mut types = response.headers.get_all(header::CONTENT_TYPE).iter();
        let found = types.next().and_then(|value| value.to_str().ok()).filter(|_| types.next().is_none());
        let essence = found.and_then(|value| value.split(';').next()).map(str::trim);
        if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(wanted)) {
            Ok((form, response.body))
        } else {
            Err(Fault::ContentType(wanted))
        }
    }
}

impl Transport for Network {
    async fn ask(&self, form: IntrospectionRequest) -> Result<(AnswerForm, Vec<u8>), Fault> {
        let request = self.request(form).await?;
        let response = self.client().await?.send(request).await;
        self.answer(response.map_err(fault)?)
    }
}

fn fault(error: fetch::Error) -> Fault {
    match error {
        fetch::Error::Timeout => Fault::Timeout,
        fetch::Error::Redirect { status } => Fault::Status(status),
        fetch::Error::TooLarge { limit } => Fault::TooLarge(limit),
        fetch::Error::Compressed => Fault::ContentType("uncompressed"),
        fetch::Error::BadUrl { .. } | fetch::Error::NotHttps { .. } | fetch::Error::ForbiddenAddress { .. } => {
            Fault::Endpoint(error.to_string())
        }
        fetch::Error::File { .. } | fetch::Error::Client { .. } => Fault::Credentials(error.to_string()),
        fetch::Error::Transport { reason } => Fault::Unreachable(reason),
    }
}

/// A header's value that no log shows.
fn sensitive(text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Fault::Credentials("the secret has a character that no header may have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn secret(source: &SecretSource) -> Result<Secret, Fault> {
    let path = match source {
        SecretSource::Text(secret) => return Ok(secret.clone()),
        SecretSource::File(path) => path.clone(),
    };
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_regular(&path, MOST_SECRET_BYTES)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(Fault::Credentials(format!("`{shown}`: {}", describe_io(&error)))),
        Err(error) => return Err(Fault::Credentials(error.to_string())),
    };
    let text = String::from_utf8(bytes).map_err(|_| Fault::Credentials(format!("`{shown}` is not UTF-8 text")))?;
    let secret = Secret::new(&text);
    if secret.is_empty() {
        return Err(Fault::Credentials(format!("`{shown}` is empty")));
    }
    Ok(secret)
}
