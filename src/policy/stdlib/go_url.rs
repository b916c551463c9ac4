//! URLs as Go's `net/url` reads them, because OPA's builtins show its parts. Bytes that are not UTF-8 after unescaping
//! cannot be told as a string of the engine and are refused.

use std::net::Ipv6Addr;

use super::super::builtins::BuiltinError;
use super::{graphql::go_quote, operand::failed};

/// The parts of a URL.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub scheme: String,
    /// With port and brackets.
    pub host: String,
    /// Unescaped.
    pub path: String,
    /// As written, where escaping the path again would give something else; else empty.
    pub raw_path: String,
    pub raw_query: String,
    /// Unescaped.
    pub fragment: String,
}

/// Which part is unescaped or escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    User,
    Host,
    Zone,
    Fragment,
}

/// Why a text is no URL.
enum Fault {
    Wrong(String),
    NotText,
}

type Parsed<T> = Result<T, Fault>;

/// Parses as `url.Parse` does.
pub(super) fn parse(text: &str) -> Result<Url, BuiltinError> {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let said = |whole: &str, fault| match fault {
        Fault::Wrong(message) => failed(format!("parse {}: {message}", go_quote(whole))),
        Fault::NotText => BuiltinError::Refused("URLs whose parts are not UTF-8 are not supported".to_owned()),
    };
    let mut url = before_fragment(before).map_err(|fault| said(before, fault))?;
    url.fragment = unescape(fragment, Part::Fragment).map_err(|fault| said(text, fault))?;
    Ok(url)
}

// === impl Url ===

impl Url {
    /// The host without port and brackets.
    pub(super) fn host_name(&self) -> &str {
        let host = self.host_and_port().0;
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Empty when there is none.
    pub(super) fn port(&self) -> &str {
        self.host_and_port().1
    }

    fn host_and_port(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (&self.host, ""),
        }
    }

    /// The path with escapes: as written if that is a valid escaping of it.
    pub(super) fn escaped_path(&self) -> String {
        let allowed = |byte: u8| b"!$&'()*+,;=:@[]%".contains(&byte) || !must_escape(byte, Part::Path);
        if !self.raw_path.is_empty() && self.raw_path.bytes().all(allowed) {
            return self.raw_path.clone();
        }
        if self.path == "*" {
            return self.path.clone();
        }
        escape(&self.path, Part::Path)
    }
}

fn before_fragment(text: &str) -> Parsed<Url> {
    let wrong = |message: &str| Err(Fault::Wrong(message.to_owned()));
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return wrong("net/url: invalid control character in URL");
    }
    let mut url = Url::default();
    if text == "*" {
        url.path = "*".to_owned();
        return Ok(url);
    }
    let (scheme, rest) = scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.raw_query = query.to_owned();
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            return Ok(url);
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return wrong("first path segment in URL cannot contain colon");
        }
    }
    let mut path = rest;
    if (!url.scheme.is_empty() || !rest.starts_with("///"))
        && let Some(after) = rest.strip_prefix("//")
    {
        let (authority, after) = after.split_at_checked(after.find('/').unwrap_or(after.len())).unwrap_or((after, ""));
        url.host = self::authority(&url.scheme, authority)?;
        path = after;
    }
    url.path = unescape(path, Part::Path)?;
    if escape(&url.path, Part::Path) != path {
        url.raw_path = path.to_owned();
    }
    Ok(url)
}

fn scheme(text: &str) -> Parsed<(&str, &str)> {
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if index > 0 => {}
            b':' if index == 0 => return Err(Fault::Wrong("missing protocol scheme".to_owned())),
            b':' => return Ok(text.split_once(':').unwrap_or(("", text))),
            _ => break,
        }
    }
    Ok(("", text))
}

/// The host of `user:password@host:port`.
fn authority(scheme: &str, text: &str) -> Parsed<String> {
    let Some((user, host)) = text.rsplit_once('@') else { return self::host(scheme, text) };
    let host = self::host(scheme, host)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if !user.chars().all(allowed) {
        return Err(Fault::Wrong("net/url: invalid userinfo".to_owned()));
    }
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    for part in [name, password] {
        // What is no text here is shown nowhere.
        match unescape(part, Part::User) {
            Err(Fault::Wrong(message)) => return Err(Fault::Wrong(message)),
            Ok(_) | Err(Fault::NotText) => {}
        }
    }
    Ok(host)
}

fn host(scheme: &str, text: &str) -> Parsed<String> {
    let wrong = |message: &str| Err(Fault::Wrong(message.to_owned()));
    let check_port = |port: &str| match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(()),
        None if port.is_empty() => Ok(()),
        _ => Err(Fault::Wrong(format!("invalid port {} after host", go_quote(port)))),
    };
    match text.rfind('[') {
        Some(0) => {
            let Some((inner, port)) = text.rsplit_once(']') else { return wrong("missing ']' in host") };
            check_port(port)?;
            let inner = inner.strip_prefix('[').unwrap_or(inner);
            let name = match inner.find("%25").and_then(|at| inner.split_at_checked(at)) {
                Some((host, zone)) => unescape(host, Part::Host)? + &unescape(zone, Part::Zone)?,
                None => unescape(inner, Part::Host)?,
            };
            let (address, zone) = name.split_once('%').unwrap_or((&name, "-"));
            if zone.is_empty() {
                return wrong(&format!(
                    "invalid host: ParseAddr({}): zone must be a non-empty string",
                    go_quote(&name)
                ));
            }
            if address.parse::<std::net::Ipv4Addr>().is_ok() && address == name {
                return wrong("invalid IP-literal");
            }
            if address.parse::<Ipv6Addr>().is_err() {
                return wrong(&format!("invalid host: ParseAddr({}): unable to parse IP", go_quote(&name)));
            }
            return Ok(format!("[{name}]{port}"));
        }
        Some(_) => return wrong("invalid IP-literal"),
        None => {}
    }
    let first = text.find(':');
    let last = text.rfind(':');
    let from = if matches!(scheme, "http" | "https") { first } else { last };
    if let Some(from) = from {
        check_port(text.get(from..).unwrap_or_default())?;
    }
    unescape(text, Part::Host)
}

/// Must a byte be escaped in this part?
fn must_escape(byte: u8, part: Part) -> bool {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        return false;
    }
    let allowed: &[u8] = match part {
        Part::Path => b"$&+,/:;=@",
        Part::User => b"$&+,;=",
        Part::Host | Part::Zone => b"!\"$&'()*+,:;<=>[]",
        Part::Fragment => b"!$&()*+,/:;=?@",
    };
    !allowed.contains(&byte)
}

fn escape(text: &str, part: Part) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if must_escape(byte, part) {
            out.push_str(&format!("%{byte:02X}"));
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

fn unescape(text: &str, part: Part) -> Parsed<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            let host = matches!(part, Part::Host | Part::Zone);
            if host && byte.is_ascii() && must_escape(byte, part) {
                let shown = char::from(byte).to_string();
                return Err(Fault::Wrong(format!("invalid character {} in host name", go_quote(&shown))));
            }
            out.push(byte);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let shown = || {
            let shown = [&b"%"[..], after.get(..2.min(after.len())).unwrap_or_default()].concat();
            Fault::Wrong(format!("invalid URL escape {}", go_quote(&String::from_utf8_lossy(&shown))))
        };
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(shown()) };
        let value = u8::try_from(high * 16 + low).unwrap_or_default();
        let percent = after.starts_with(b"25");
        let refused = match part {
            Part::Host => high < 8 && !percent,
            Part::Zone => !percent && value != b' ' && must_escape(value, Part::Host),
            _ => false,
        };
        if refused {
            return Err(shown());
        }
        out.push(value);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(out).map_err(|_| Fault::NotText)
}
