//! The origin of a URL: scheme, host and port. A URL is read here more narrowly than HTTP clients read it, so that no two
//! of them can take it for different hosts: only the characters of RFC 3986, no user name, and a host of plain letters.

use std::{fmt, str::FromStr};

/// Scheme, host in lower case, and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

/// Not an absolute `http` or `https` URL in its plainest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the origin of an https URL; write one such as `https://status.example.com`")]
pub struct NotAnOrigin;

// === impl Origin ===

impl Origin {
    /// The origin of an absolute URL with any path and query.
    ///
    /// # Errors
    /// [`NotAnOrigin`].
    pub fn of_url(url: &str) -> Result<Self, NotAnOrigin> {
        const OTHERS: &[u8] = b"-._~:/?[]@!$&'()*+,;=%";
        if !url.bytes().all(|byte| byte.is_ascii_alphanumeric() || OTHERS.contains(&byte)) {
            return Err(NotAnOrigin);
        }
        let (scheme, rest) = url.split_once("://").ok_or(NotAnOrigin)?;
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(NotAnOrigin),
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| NotAnOrigin)?
            }
            Some(_) => return Err(NotAnOrigin),
        };
        let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_address = address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_name && !is_address {
            return Err(NotAnOrigin);
        }
        Ok(Self { is_https, host: host.to_ascii_lowercase(), port })
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    /// An origin alone: nothing but a `/` may follow.
    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let rest = text.split_once("://").ok_or(NotAnOrigin)?.1;
        if rest.strip_suffix('/').unwrap_or(rest).contains(['/', '?']) {
            return Err(NotAnOrigin);
        }
        Self::of_url(text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.is_https { "https" } else { "http" }, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;

    fn check(url: &str, expected: Option<&str>) {
        assert_eq!(Origin::of_url(url).ok().map(|origin| origin.to_string()).as_deref(), expected, "{url}");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        check("https://idp.example", Some("https://idp.example:443"));
        check("https://IDP.Example/lists/1?x=1", Some("https://idp.example:443"));
        check("https://idp.example:8443/lists", Some("https://idp.example:8443"));
        check("http://127.0.0.1:1/", Some("http://127.0.0.1:1"));
        check("http://[::1]/a", Some("http://[::1]:80"));
        check("https://[2001:db8::1]:9/a", Some("https://[2001:db8::1]:9"));
        check("https://idp.example?@evil.example", Some("https://idp.example:443"));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_no_origin() {
        for url in [
            "",
            "idp.example",
            "//idp.example/",
            "https:/idp.example",
            "https://",
            "https:///path",
            "HTTPS://idp.example",
            "ftp://idp.example/",
            "file:///etc/passwd",
            "https://user@idp.example/",
            "https://user:pw@idp.example/",
            "https://idp.example@evil.example/",
            "https://idp.example\\@evil.example/",
            "https://idp.example\\evil",
            "https://idp.example#@evil.example",
            "https://idp.example/#x",
            "https://idp example/",
            "https://idp.example\t/",
            "https://idp.example\n",
            "https://idp.example:/",
            "https://idp.example:99999/",
            "https://idp.example:+1/",
            "https://idp.example:8443:1/",
            "https://b\u{fc}cher.example/",
            "https://%69dp.example/",
            "https://idp_x.example/",
            "https://[::1/",
            "https://[::1]x/",
            "https://::1/",
            "https://[fe80::1%25eth0]/",
        ] {
            check(url, None);
        }
    }

    #[test]
    fn an_origin_alone_has_no_path() {
        for (text, expected) in [
            ("https://status.example", true),
            ("https://status.example/", true),
            ("https://status.example/lists", false),
            ("https://status.example?x", false),
            ("status.example", false),
        ] {
            assert_eq!(text.parse::<Origin>().is_ok(), expected, "{text}");
        }
    }
}
