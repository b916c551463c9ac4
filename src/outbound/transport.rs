//! A client for a request's TLS settings: whose certificates are believed, who we say we are, which redirects are followed
//! and which addresses a name may have. It sends nothing.
//!
//! Names are resolved here, and the addresses that were checked are those that are connected to.

use std::{error::Error as _, fs::File, io::Read as _, net::SocketAddr, sync::Arc};

use reqwest::{
    Certificate, Client, Identity,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::{Attempt, Policy},
};

use super::hosts::{self, Host};
use crate::policy::{HttpError, HttpTls, PemSource};

/// Most redirects of one request.
const MOST_REDIRECTS: usize = 10;
/// Largest certificate or key file.
const MAX_PEM_BYTES: u64 = 1 << 20;
/// Most headers of an answer.
const MOST_HEADERS: usize = 1_000;

/// What a client is made for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Kind {
    pub(super) follow_redirects: bool,
    /// Without TLS: the system's certificates, which may be missing, are not loaded.
    pub(super) plain_only: bool,
    /// Name for TLS, and the host that it stands for.
    pub(super) alias: Option<(String, String)>,
    insecure: bool,
    /// PEM, each added to the one before.
    roots: Vec<Vec<u8>>,
    pub(super) with_system_roots: bool,
    identity: Option<Vec<u8>>,
}

/// What forbids a request while it is under way; travels inside of the client's errors.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Forbidden {
    #[error("{}", not_listed(.0))]
    Host(String),
    #[error(
        "host `{0}` has only link-local or metadata addresses, which are asked only when they are listed themselves"
    )]
    Address(String),
    #[error("more than {MOST_REDIRECTS} redirects")]
    Redirects,
    #[error("no such host")]
    Unknown,
}

pub(super) fn not_listed(host: &str) -> String {
    let host: String = host.chars().take(100).collect();
    format!("host `{host}` is not allowed; list it in `policy.http_send.allow`, or name it with `--allow-http-send`")
}

// === impl Kind ===

impl Kind {
    pub(super) fn of(tls: &HttpTls) -> Result<Self, HttpError> {
        let mut roots = Vec::new();
        if let Some(inline) = &tls.ca_cert.inline {
            roots.push(inline.replace("\\n", "\n").into_bytes());
        }
        roots.extend(tls.ca_cert.file.as_deref().map(read).transpose()?);
        roots.extend(tls.ca_cert.env.as_deref().map(variable));
        let pair = |part: fn(&PemSource) -> Option<&String>| part(&tls.client_cert).zip(part(&tls.client_key));
        let identity = if let Some((cert, key)) = pair(|pem| pem.inline.as_ref()) {
            Some((cert.clone().into_bytes(), key.clone().into_bytes()))
        } else if let Some((cert, key)) = pair(|pem| pem.file.as_ref()) {
            Some((read(cert)?, read(key)?))
        } else {
            pair(|pem| pem.env.as_ref()).map(|(cert, key)| (variable(cert), variable(key)))
        };
        let identity = identity.map(|(cert, key)| [cert.as_slice(), b"\n", &key].concat());
        Ok(Self {
            insecure: tls.insecure_skip_verify,
            with_system_roots: tls.use_system_certs == Some(true),
            roots,
            identity,
            ..Self::default()
        })
    }

    pub(super) fn build(&self, allow: &Arc<[Host]>) -> Result<Client, HttpError> {
        let mut roots = Vec::new();
        for pem in &self.roots {
            let found = Certificate::from_pem_bundle(pem).unwrap_or_default();
            if found.is_empty() {
                return Err(HttpError::Failed("could not append certificates".to_owned()));
            }
            roots.extend(found);
        }
        let Self { follow_redirects, plain_only, .. } = *self;
        let is_usual = *self == Self { follow_redirects, plain_only, ..Self::default() };
        let mut builder = Client::builder()
            .user_agent(concat!("claimgate/", env!("CARGO_PKG_VERSION")))
            .redirect(if self.follow_redirects { redirects(Arc::clone(allow)) } else { Policy::none() })
            .no_proxy()
            .referer(false)
            .http1_only()
            .http1_title_case_headers()
            .http1_max_headers(MOST_HEADERS)
            // Go reads them.
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .pool_max_idle_per_host(if is_usual { 32 } else { 0 })
            .tls_danger_accept_invalid_certs(self.insecure)
            .dns_resolver(Arc::new(CheckedResolver { allow: Arc::clone(allow), alias: self.alias.clone() }));
        if roots.is_empty() && plain_only {
            builder = builder.tls_certs_only([]);
        } else if !roots.is_empty() {
            let merge = self.with_system_roots;
            builder = if merge { builder.tls_certs_merge(roots) } else { builder.tls_certs_only(roots) };
        }
        if let Some(identity) = &self.identity {
            let bad = |error: reqwest::Error| HttpError::Failed(format!("tls: {}", root_cause(&error)));
            builder = builder.identity(Identity::from_pem(identity).map_err(bad)?);
        }
        builder.build().map_err(|error| HttpError::Failed(root_cause(&error)))
    }
}

fn read(path: &str) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut bytes));
    file.map(|_| bytes).map_err(|error| {
        // The message may reach a client, who never learns where files are.
        tracing::warn!(path, %error, "a file that `http.send` names cannot be read");
        HttpError::Failed(format!("open: {}", error.kind()))
    })
}

fn variable(name: &str) -> Vec<u8> {
    std::env::var(name).unwrap_or_default().into_bytes()
}

fn redirects(allow: Arc<[Host]>) -> Policy {
    Policy::custom(move |attempt: Attempt<'_>| {
        if attempt.previous().len() > MOST_REDIRECTS {
            return attempt.error(Forbidden::Redirects);
        }
        if !hosts::allows(&allow, attempt.url()) {
            let host = hosts::host_of(attempt.url()).unwrap_or_default().to_owned();
            return attempt.error(Forbidden::Host(host));
        }
        attempt.follow()
    })
}

/// Resolves names, and leaves out addresses that are not asked.
#[derive(Debug)]
struct CheckedResolver {
    allow: Arc<[Host]>,
    alias: Option<(String, String)>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = match &self.alias {
            Some((name_of, host)) if name_of == name.as_str() => host.clone(),
            _ => name.as_str().to_owned(),
        };
        let allow = Arc::clone(&self.allow);
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let found: Vec<SocketAddr> = found.map_err(|_| Forbidden::Unknown)?.collect();
            let is_known = !found.is_empty();
            let permitted = |at: &SocketAddr| !hosts::is_forbidden(at.ip()) || hosts::lists(&allow, at.ip());
            let kept: Vec<SocketAddr> = found.into_iter().filter(permitted).collect();
            if kept.is_empty() {
                return Err(if is_known { Forbidden::Address(host) } else { Forbidden::Unknown }.into());
            }
            let addresses: Addrs = Box::new(kept.into_iter());
            Ok(addresses)
        })
    }
}

/// The innermost cause, which is the one that says something.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_no_way_to_an_address_that_is_not_asked() {
        for (host, listed, want) in [
            ("127.0.0.1", "a.test", Ok(1)),
            ("169.254.169.254", "a.test", Err("link-local or metadata")),
            ("169.254.169.254", "169.254.169.254", Ok(1)),
            ("fe80::1", "a.test", Err("link-local or metadata")),
            ("no-such-host.invalid", "a.test", Err("no such host")),
        ] {
            let allow: Arc<[Host]> = vec![listed.parse().unwrap()].into();
            let resolver = CheckedResolver { allow, alias: Some(("a.test".to_owned(), host.to_owned())) };
            match (resolver.resolve("a.test".parse().unwrap()).await, want) {
                (Ok(found), Ok(want)) => assert_eq!(found.count(), want, "{host}"),
                (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{host}: {error}"),
                (got, want) => panic!("{host}: {:?}, not {want:?}", got.err()),
            }
        }
    }
}
