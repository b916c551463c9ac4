//! Whom policies may ask: names and addresses, with or without a port. It resolves nothing.
//!
//! Link-local and cloud metadata addresses are asked only when they stand in the list themselves: a name in the list
//! that resolves to one is no way around that.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use reqwest::Url;

/// A host that may be asked: `api.example.com`, `api.example.com:8443`, `10.0.0.7`, `[::1]:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Lower case; addresses without brackets.
    name: String,
    /// `None`: any.
    port: Option<u16>,
}

/// Why a text is no [`Host`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a host; write a name or an address, such as `api.example.com` or `10.0.0.7:8443`")]
pub struct BadHost {
    text: String,
}

/// Does one of the hosts stand for this URL?
pub(super) fn allows(hosts: &[Host], url: &Url) -> bool {
    let Some(name) = host_of(url) else { return false };
    let port = url.port_or_known_default();
    hosts.iter().any(|host| host.name == name && (host.port.is_none() || host.port == port))
}

/// Is this name in the list, with whatever port?
pub(super) fn names(hosts: &[Host], name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    hosts.iter().any(|host| host.name.eq_ignore_ascii_case(name))
}

/// Is this very address in the list?
pub(super) fn lists(hosts: &[Host], address: IpAddr) -> bool {
    hosts.iter().any(|host| host.name.parse() == Ok(address))
}

/// The name or address, without brackets.
pub(super) fn host_of(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    Some(host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host))
}

/// Addresses that only the machine itself or its cloud answers on: link-local, instance metadata, unspecified, multicast.
pub(crate) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                // Instance metadata of Alibaba Cloud and Oracle Cloud.
                || v4 == Ipv4Addr::new(100, 100, 100, 200)
                || v4 == Ipv4Addr::new(192, 0, 0, 192)
        }
        IpAddr::V6(v6) => {
            let embedded = v6.to_ipv4().filter(|_| !v6.is_loopback()).or_else(|| nat64(v6));
            v6.is_unicast_link_local()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
                || embedded.is_some_and(|v4| is_forbidden(IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address inside `64:ff9b::/96` (RFC 6052).
fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

// === impl Host ===

impl FromStr for Host {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let bad = || BadHost { text: text.chars().take(100).collect() };
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { name: address.to_string(), port: None });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                (name, Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad)?))
            }
            _ => (text, None),
        };
        // What the URL of a request makes of the name: lower case, addresses in one spelling.
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/\\@?#*%".contains(c);
        if name.is_empty() || name.contains(odd) {
            return Err(bad());
        }
        let url = Url::parse(&format!("http://{name}/")).map_err(|_| bad())?;
        let name = host_of(&url).filter(|_| url.port().is_none()).ok_or_else(bad)?;
        Ok(Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.name),
            (false, Some(port)) => write!(f, "{}:{port}", self.name),
            (_, None) => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_or_without_a_port() {
        for (text, want) in [
            ("api.example.com", Some("api.example.com")),
            ("API.Example.com:8443", Some("api.example.com:8443")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("::1", Some("::1")),
            ("[::1]", Some("::1")),
            ("[0:0::1]:80", Some("[::1]:80")),
            ("2130706433", Some("127.0.0.1")),
            ("", None),
            ("http://a", None),
            ("a/b", None),
            ("*.example.com", None),
            ("user@host", None),
            ("a:b", None),
            ("a:0", None),
            ("a:70000", None),
            ("a:1:2", None),
            ("a b", None),
            ("a%2fb", None),
        ] {
            assert_eq!(text.parse::<Host>().ok().map(|host| host.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_url_is_allowed_by_its_host_and_port_alone() {
        let hosts: Vec<Host> = ["a.example", "b.example:8443", "::1", "10.0.0.7"].map(|h| h.parse().unwrap()).into();
        for (url, want) in [
            ("http://a.example/x", true),
            ("https://A.EXAMPLE:9/", true),
            ("https://b.example:8443", true),
            ("https://b.example", false),
            ("http://[::1]:7/", true),
            ("http://10.0.0.7", true),
            ("http://0xa.0.0.7", true),
            ("http://a.example.evil.test", false),
            ("http://evil.test/a.example", false),
            ("http://a.example@evil.test/", false),
            ("http://evil.test#a.example", false),
            ("http://a.example\\@evil.test/", true),
            ("http://a.example./", false),
            ("http://169.254.169.254/", false),
        ] {
            assert_eq!(allows(&hosts, &Url::parse(url).unwrap()), want, "{url}");
        }
    }

    #[test]
    fn metadata_and_link_local_addresses_are_known_in_every_spelling() {
        for (address, want) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("100.100.100.200", true),
            ("0.0.0.0", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_forbidden(address.parse().unwrap()), want, "{address}");
        }
    }
}
