//! URIs of certificates as Go's `url.URL` has them in JSON. What it would take apart further is an error.

use regorus::Value;

use super::{Outcome, failed, record};

/// A URI as Go's `url.URL`; one with user information or an escaped path is an error.
pub(super) fn value(uri: &str) -> Outcome {
    let (rest, fragment) = uri.split_once('#').unwrap_or((uri, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').ok_or_else(|| failed("x509: cannot parse URI"))?;
    let (opaque, host, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let at = rest.find('/').unwrap_or(rest.len());
            let (host, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
            ("", host, path)
        }
        None if rest.starts_with('/') => ("", "", rest),
        None => (rest, "", ""),
    };
    if host.contains('@') || uri.contains('%') {
        return Err(failed("x509: URIs with user information or escapes are not supported"));
    }
    Ok(record([
        ("ForceQuery", Value::from(uri.ends_with('?') && query.is_empty())),
        ("Fragment", Value::from(fragment)),
        ("Host", Value::from(host)),
        ("OmitHost", Value::from(false)),
        ("Opaque", Value::from(opaque)),
        ("Path", Value::from(path)),
        ("RawFragment", Value::from("")),
        ("RawPath", Value::from("")),
        ("RawQuery", Value::from(query)),
        ("Scheme", Value::from(scheme.to_ascii_lowercase())),
        ("User", Value::Null),
    ]))
}
