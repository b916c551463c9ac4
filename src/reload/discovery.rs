//! Issuer metadata: where it is (OpenID Connect Discovery 1.0 §4, RFC 8414 §3), and what of it is believed. Pure.
//!
//! Only a document whose `issuer` is the configured one, byte by byte, says anything. What it says never widens what the
//! configuration allows: the algorithms it lists are a hint for the operator.

use serde_json::Value;

use super::{KeySource, network::FetchError};
use crate::{
    fetch::{self, Url},
    token::Algorithm,
};

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// What is taken from a metadata document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Where the keys are.
    pub(super) jwks: Url,
    /// Where the issuer answers questions about tokens (RFC 7662), when it says so and the place is admitted.
    pub(super) introspection: Option<Url>,
    /// It lists algorithms, and none of them is configured.
    pub(super) has_no_common_algorithm: bool,
}

/// Where the metadata of an issuer may be, in the order in which to ask: the configured place, or the two standard ones.
pub(super) fn places(issuer: &str, url: Option<&str>, allow_http: bool) -> Result<Vec<Url>, FetchError> {
    if let Some(url) = url {
        return Ok(vec![fetch::admit(url, allow_http)?]);
    }
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let openid = fetch::admit(&format!("{base}{OPENID}"), allow_http)?;
    let mut oauth = fetch::admit(base, allow_http)?;
    // RFC 8414 puts its part between host and path.
    let path = oauth.path().trim_end_matches('/').to_owned();
    oauth.set_path(&format!("{OAUTH}{path}"));
    Ok(vec![openid, oauth])
}

/// Is the source written in a way that can be fetched at all? Local sources always are.
pub(super) fn check_source(issuer: &str, source: &KeySource) -> Result<(), FetchError> {
    match source {
        KeySource::None | KeySource::File(_) | KeySource::Inline(_) => Ok(()),
        KeySource::Url { url, fetch } => Ok(fetch::admit(url, fetch.http.allow_http).map(drop)?),
        KeySource::Discovery { url, fetch } => places(issuer, url.as_deref(), fetch.http.allow_http).map(drop),
    }
}

/// Reads the metadata document of `issuer` that came from `from` (OpenID Connect Discovery 1.0 §4.3, RFC 8414 §3.3).
pub(super) fn read(
    document: &[u8],
    issuer: &str,
    from: &Url,
    allow_http: bool,
    algorithms: &[Algorithm],
) -> Result<Metadata, FetchError> {
    // A member that stands twice is an error for those that matter.
    #[derive(serde::Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
        introspection_endpoint: Option<Value>,
        id_token_signing_alg_values_supported: Option<Value>,
        access_token_signing_alg_values_supported: Option<Value>,
    }
    let document: Document = serde_json::from_slice(document).map_err(|error| {
        // The error's text can quote the document; its place and kind are enough.
        let reason = format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column());
        FetchError::BadMetadata { reason: reason.to_lowercase() }
    })?;
    if document.issuer != issuer {
        return Err(FetchError::IssuerMismatch);
    }
    let jwks = fetch::admit_discovered(&document.jwks_uri, from, allow_http)?;
    let introspection = document.introspection_endpoint.as_ref().and_then(Value::as_str);
    // Whoever wants to use it says that it is missing; keys do not depend on it.
    let introspection = introspection.and_then(|url| fetch::admit_discovered(url, from, allow_http).ok());
    let lists = [document.id_token_signing_alg_values_supported, document.access_token_signing_alg_values_supported];
    Ok(Metadata { jwks, introspection, has_no_common_algorithm: is_none_common(&lists, algorithms) })
}

/// Lists of signature algorithms that are about tokens, against the configured ones.
fn is_none_common(lists: &[Option<Value>], algorithms: &[Algorithm]) -> bool {
    let mut listed = lists.iter().flatten().filter_map(Value::as_array).flatten().peekable();
    let is_configured = |name: &Value| {
        name.as_str().and_then(|name| name.parse::<Algorithm>().ok()).is_some_and(|found| algorithms.contains(&found))
    };
    listed.peek().is_some() && !listed.any(is_configured)
}

#[cfg(test)]
mod tests;
