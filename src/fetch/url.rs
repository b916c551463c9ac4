//! Where requests may go: which URLs an operator may write, and which a document may name. Pure; addresses behind names
//! are looked at by the resolver.

use std::net::IpAddr;

use reqwest::Url;

use super::Error;
use crate::outbound::is_forbidden;

/// Admits a URL that the operator wrote. An address that is written out in it is used, whatever it is.
///
/// # Errors
/// [`Error::BadUrl`] and [`Error::NotHttps`].
pub fn admit(text: &str, allow_http: bool) -> Result<Url, Error> {
    // User names and passwords in URLs end in logs; the message must not put them there either.
    let bad = |reason: &str| {
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        Error::BadUrl { url: shown.to_owned(), reason: reason.to_owned() }
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
        "http" => return Err(Error::NotHttps { url: text.to_owned() }),
        _ => return Err(bad("its scheme is neither http nor https")),
    }
    url.set_fragment(None);
    Ok(url)
}

/// Admits a URL that a document at `from` named: `http` needs permission, or a document that itself came from a loopback
/// host; a written-out link-local address needs to be the document's own.
///
/// # Errors
/// [`Error::BadUrl`], [`Error::NotHttps`] and [`Error::ForbiddenAddress`].
pub fn admit_discovered(text: &str, from: &Url, allow_http: bool) -> Result<Url, Error> {
    let url = admit(text, allow_http)?;
    if url.scheme() == "http" && !allow_http && !is_loopback(from) {
        return Err(Error::NotHttps { url: text.to_owned() });
    }
    match literal_address(&url) {
        Some(address) if is_forbidden(address) && url.host() != from.host() => {
            Err(Error::ForbiddenAddress { host: address.to_string() })
        }
        _ => Ok(url),
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || literal_address(url).is_some_and(|address| address.is_loopback())
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
}
