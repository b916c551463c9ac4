//! The access request: the protocol-neutral question that a door asks about one HTTP request of the application.
//!
//! It holds what the doors that see the application's request (forward auth, `ext_authz`) know about it. It never holds
//! the token, and its path went through [`crate::path`]. [`parse_query`] is the one reading of a query string.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use percent_encoding::percent_decode;

use crate::path::CanonicalPath;

/// One request of the application, as a proxy or the application itself described it.
#[derive(Debug, Clone)]
pub struct AccessRequest {
    /// The request method, as sent (`GET`, `POST`, …).
    pub method: Method,
    /// `http` or `https`, as the trusted peer said.
    pub scheme: String,
    /// Host with an optional port, lower-cased.
    pub host: String,
    /// The canonical path; see [`crate::path`].
    pub path: CanonicalPath,
    /// Query parameters in order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// The headers that policy may see (names are lower case by type); never `authorization` or `cookie`.
    pub headers: HeaderMap,
    /// The address of the client, when a trusted peer named it or it connected itself.
    pub source: Option<IpAddr>,
}

/// A query string that has no single reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A `%` that two hexadecimal digits do not follow.
    #[error("query has a `%` that is not followed by two hexadecimal digits")]
    BadEncoding,
    /// The decoded bytes of a name or value are not UTF-8.
    #[error("query is not UTF-8 after percent-decoding")]
    NotUtf8,
}

/// Splits a raw query (without `?`) at `&` and decodes it as HTML forms do: `+` is a space. A parameter without `=` has
/// an empty value; empty parameters (`a&&b`) are skipped.
///
/// # Errors
/// [`QueryError`] when a name or value cannot be decoded.
pub fn parse_query(raw: &str) -> Result<Vec<(String, String)>, QueryError> {
    raw.split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

// === impl QueryError ===

impl QueryError {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BadEncoding => "query_bad_encoding",
            Self::NotUtf8 => "query_not_utf8",
        }
    }
}

fn decode(raw: &str) -> Result<String, QueryError> {
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_hexdigit());
        if byte == b'%' && !(hex(bytes.next()) && hex(bytes.next())) {
            return Err(QueryError::BadEncoding);
        }
    }
    let spaced = raw.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8().map_err(|_| QueryError::NotUtf8)?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, want: Result<&[(&str, &str)], QueryError>) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        assert_eq!(parse_query(raw), want.map(|pairs| pairs.iter().map(owned).collect()), "{raw:?}");
    }

    #[test]
    fn a_query_is_read_as_a_form() {
        check("", Ok(&[]));
        check("a=1&b=2&a=3", Ok(&[("a", "1"), ("b", "2"), ("a", "3")]));
        check("a&b=&=c&&", Ok(&[("a", ""), ("b", ""), ("", "c")]));
        check("a+b=c%20d%2B&e=f=g", Ok(&[("a b", "c d+"), ("e", "f=g")]));
        check("a;b=1", Ok(&[("a;b", "1")]));
        check("%c3%a9=%C3%A9", Ok(&[("é", "é")]));
    }

    #[test]
    fn a_query_that_cannot_be_decoded_is_refused() {
        for raw in ["%", "a=%2", "a=%zz", "%u0041=1"] {
            check(raw, Err(QueryError::BadEncoding));
        }
        for raw in ["a=%ff", "%c0%af=1"] {
            check(raw, Err(QueryError::NotUtf8));
        }
    }
}
