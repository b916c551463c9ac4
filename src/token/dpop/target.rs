//! What a request is for, and what a proof says it is for, as text that can be compared: RFC 3986 §6.2.2 and §6.2.3
//! normalisation of `http` and `https` URIs, without query and fragment (RFC 9449 §4.3 and its note on `htu`). What is
//! no such URI is refused, so that no two readings of one text can disagree.

use std::{fmt::Write as _, net::Ipv6Addr};

/// Method and URI of a request as the client sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofTarget {
    method: String,
    uri: String,
}

/// Scheme and authority, normalised: `https://api.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofOrigin(String);

// === impl ProofTarget ===

impl ProofTarget {
    /// `path` as the client sent it, not decoded; a query in it is left out. `None`: there is no such URI.
    #[must_use]
    pub fn new(method: &str, origin: &ProofOrigin, path: &str) -> Option<Self> {
        if !path.is_empty() && !path.starts_with(['/', '?']) {
            return None;
        }
        Some(Self { method: method.to_owned(), uri: normal(&format!("{}{path}", origin.0))? })
    }

    /// A whole URL, whose query and fragment are left out. `None`: it is none of `http` or `https`.
    #[must_use]
    pub fn of_url(method: &str, url: &str) -> Option<Self> {
        Some(Self { method: method.to_owned(), uri: normal(url)? })
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }
}

// === impl ProofOrigin ===

impl ProofOrigin {
    /// `https://host`, with or without a port and a `/` at its end. `None` for anything more or less.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(['?', '#']) {
            return None;
        }
        let normal = normal(text)?;
        let origin = normal.strip_suffix('/')?;
        // Nothing but `://` may have a slash.
        (origin.matches('/').count() == 2 && !text.ends_with("//")).then(|| Self(origin.to_owned()))
    }
}

/// The one text for all URIs that are equal to this one, without query and fragment.
pub(super) fn normal(text: &str) -> Option<String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let (scheme, default_port) = match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => ("https", 443),
        _ if scheme.eq_ignore_ascii_case("http") => ("http", 80),
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, port) = authority_parts(authority)?;
    let mut normal = format!("{scheme}://{host}");
    if let Some(port) = port.filter(|port| *port != default_port) {
        // Writing to a `String` does not fail.
        let _ = write!(normal, ":{port}");
    }
    normal.push_str(&without_dot_segments(&with_normal_escapes(path)?));
    Some(normal)
}

/// Host in lower case and port. There is no place for a user's name: it would be a place to hide another host.
fn authority_parts(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let host = match host.strip_prefix('[') {
        Some(rest) => format!("[{}]", rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None => host.to_ascii_lowercase(),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_name = !host.is_empty() && (host.starts_with('[') || host.bytes().all(is_plain));
    is_name.then_some((host, port))
}

/// Escapes of characters that need none are undone, the others get upper-case digits (RFC 3986 §6.2.2.1, §6.2.2.2).
fn with_normal_escapes(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        normal.push_str(before);
        let digits = after.get(..2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            let _ = write!(normal, "%{byte:02X}");
        }
        rest = after.get(2..)?;
    }
    normal.push_str(rest);
    Some(normal)
}

/// RFC 3986 §5.2.4 and §6.2.3: a path begins with `/`, and none of its segments is `.` or `..`.
fn without_dot_segments(path: &str) -> String {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let last = segments.len().saturating_sub(1);
    let mut kept: Vec<&str> = Vec::with_capacity(segments.len());
    for (index, segment) in segments.iter().enumerate() {
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if index == last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_uris_become_one_text() {
        for (text, want) in [
            ("https://a.example", "https://a.example/"),
            ("https://a.example/", "https://a.example/"),
            ("HTTPS://A.Example/", "https://a.example/"),
            ("https://a.example:443/x", "https://a.example/x"),
            ("https://a.example:/x", "https://a.example/x"),
            ("https://a.example:0443/x", "https://a.example/x"),
            ("http://a.example:80/x", "http://a.example/x"),
            ("http://a.example:443/x", "http://a.example:443/x"),
            ("https://a.example:8443/x", "https://a.example:8443/x"),
            ("https://a.example/X", "https://a.example/X"),
            ("https://a.example?q=1", "https://a.example/"),
            ("https://a.example#f", "https://a.example/"),
            ("https://a.example/x?q=/../y#f", "https://a.example/x"),
            ("https://a.example/%7Ex/%2d%41", "https://a.example/~x/-A"),
            ("https://a.example/a%2fb%3f", "https://a.example/a%2Fb%3F"),
            ("https://a.example/./a/../b/./c/..", "https://a.example/b/"),
            ("https://a.example/a/%2E%2e/b", "https://a.example/b"),
            ("https://a.example/../../a", "https://a.example/a"),
            ("https://a.example/a/.", "https://a.example/a/"),
            ("https://a.example//a//b/", "https://a.example//a//b/"),
            ("https://a.example/a;b=1,2/@:!$&'()*+", "https://a.example/a;b=1,2/@:!$&'()*+"),
            ("https://[2001:DB8:0::1]:443/x", "https://[2001:db8::1]/x"),
            ("https://[::1]", "https://[::1]/"),
            ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ] {
            assert_eq!(normal(text).as_deref(), Some(want), "{text}");
            assert_eq!(normal(want).as_deref(), Some(want), "{want} is normal");
        }
    }

    #[test]
    fn what_is_no_http_uri_has_no_normal_form() {
        for text in [
            "",
            "/x",
            "a.example/x",
            "https:a.example",
            "https:/a.example",
            "https://",
            "https:///x",
            "https://:443/x",
            "ftp://a.example/x",
            "javascript://a.example/x",
            "https://user@a.example/x",
            "https://a.example@evil.example/x",
            "https://a.example:x/",
            "https://a.example:65536/",
            "https://a.example:-1/",
            "https://a.example:80:80/",
            "https://a.example\\x",
            "https://a .example/",
            "https://a.example/ x",
            "https://a.example/x\n",
            "https://a.example/\u{e9}",
            "https://\u{e9}.example/",
            "https://a%2eexample/x",
            "https://a.example/%",
            "https://a.example/%2",
            "https://a.example/%zz",
            "https://a.example/%+1",
            "https://[::1/x",
            "https://::1/x",
            "https://[x]/",
            "https://[::1]x/",
        ] {
            assert_eq!(normal(text), None, "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever it is made of, a normal form is normal, and an equal of it has the same one.
        #[test]
        fn normalising_twice_is_normalising_once(
            text in "(?i:https?)://[a-zA-Z0-9.-]{0,6}(:[0-9]{0,4})?(/|%[0-9a-fA-F]{2}|[a-z.~?#@:]|\\.\\.){0,12}",
        ) {
            let Some(once) = normal(&text) else { return Ok(()) };
            proptest::prop_assert_eq!(normal(&once), Some(once.clone()), "{}", text);
            proptest::prop_assert!(!once.contains(['?', '#']), "{}", once);
            let segments: Vec<&str> = once.split('/').skip(3).collect();
            proptest::prop_assert!(!segments.contains(&"..") && !segments.contains(&"."), "{}", once);
            let shouted = text.replacen("http", "HTTP", 1);
            proptest::prop_assert_eq!(normal(&shouted), Some(once));
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        for (text, want) in [
            ("https://A.example:443", Some("https://a.example")),
            ("https://a.example/", Some("https://a.example")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            ("https://a.example/x", None),
            ("https://a.example//", None),
            ("https://a.example/.", Some("https://a.example")),
            ("https://a.example/?", None),
            ("https://a.example#", None),
            ("a.example", None),
        ] {
            assert_eq!(ProofOrigin::parse(text).map(|origin| origin.0).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_target_cannot_leave_its_origin() {
        let origin = ProofOrigin::parse("https://a.example").unwrap();
        for (path, want) in [
            ("", Some("https://a.example/")),
            ("/x?y", Some("https://a.example/x")),
            ("?y", Some("https://a.example/")),
            ("//evil.example/x", Some("https://a.example//evil.example/x")),
            ("@evil.example/x", None),
            (".evil.example/x", None),
            (":81/x", None),
            ("*", None),
        ] {
            assert_eq!(ProofTarget::new("GET", &origin, path).map(|it| it.uri).as_deref(), want, "{path}");
        }
    }
}
