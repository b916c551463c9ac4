//! The client's certificate as a proxy tells of it: Envoy's `x-forwarded-client-cert`, or `Client-Cert` of RFC 9440. Both
//! become the SHA-256 of the certificate, which is all that RFC 8705 §3.1 binds a token to. Whether the proxy is
//! believed at all was settled before; here a header has one reading or none.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;

use super::CertificateFault;
use crate::token::{compact::encode_base64url, signature::Thumbprint};

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateThumbprint(Thumbprint);

/// A header in which a trusted proxy tells of the client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateHeader {
    /// `x-forwarded-client-cert`: what Envoy (and Istio) write.
    Xfcc,
    /// `client-cert`: RFC 9440.
    Rfc9440,
}

const XFCC: &str = "x-forwarded-client-cert";
const CLIENT_CERT: &str = "client-cert";

// === impl CertificateThumbprint ===

impl CertificateThumbprint {
    pub(super) fn new(thumbprint: Thumbprint) -> Self {
        Self(thumbprint)
    }

    /// Of the bytes of one certificate.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Self {
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(thumbprint)
    }

    /// 64 hexadecimal digits.
    fn of_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut thumbprint = [0; 32];
        for (byte, digits) in thumbprint.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(thumbprint))
    }
}

/// As `x5t#S256` has it.
impl fmt::Display for CertificateThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_base64url(self.0))
    }
}

impl fmt::Debug for CertificateThumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl CertificateHeader ===

impl CertificateHeader {
    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xfcc => XFCC,
            Self::Rfc9440 => CLIENT_CERT,
        }
    }

    /// Reads all lines of the header; `Ok(None)` when there is none.
    ///
    /// # Errors
    /// Two lines, of which one is the client's own, or anything that has not exactly one reading.
    pub fn read(
        self,
        mut lines: impl Iterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Option<CertificateThumbprint>, CertificateFault> {
        let fault = |problem| CertificateFault { header: self.name(), problem };
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(fault("it stands there twice, so the proxy did not overwrite what the client sent"));
        }
        let text = std::str::from_utf8(line.as_ref()).map_err(|_| fault("it is not UTF-8"))?;
        let read = match self {
            Self::Xfcc => xfcc(text),
            Self::Rfc9440 => client_cert(text),
        };
        read.map(Some).map_err(fault)
    }
}

/// A structured field: one byte sequence (RFC 9440 §2.2, RFC 8941 §3.3.5), without parameters.
fn client_cert(text: &str) -> Result<CertificateThumbprint, &'static str> {
    let body = text.trim_matches([' ', '\t']).strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    let body = body.ok_or("it is not one byte sequence between colons")?;
    let der = STANDARD.decode(body).map_err(|_| "it is not base64")?;
    if der.is_empty() { Err("it is empty") } else { Ok(CertificateThumbprint::of_der(&der)) }
}

/// The certificate of the last element. Each proxy on the way adds one at the end (`APPEND_FORWARD`), or leaves only its
/// own (`SANITIZE_SET`): so the last one is what the trusted proxy itself saw, and those before it are hearsay.
fn xfcc(text: &str) -> Result<CertificateThumbprint, &'static str> {
    let (mut hash, mut certificate) = (None, None);
    let mut reader = Reader { rest: text };
    loop {
        let (key, value, end) = reader.pair()?;
        let slot = match key {
            _ if key.eq_ignore_ascii_case("hash") => Some(&mut hash),
            _ if key.eq_ignore_ascii_case("cert") => Some(&mut certificate),
            _ => None,
        };
        if let Some(slot) = slot
            && slot.replace(value).is_some()
        {
            return Err("an element names its certificate twice");
        }
        match end {
            End::Pair => {}
            End::Element => (hash, certificate) = (None, None),
            End::Header => break,
        }
    }
    let hash = hash.map(|hash| CertificateThumbprint::of_hex(&hash).ok_or("`Hash` is not a SHA-256 in hexadecimal"));
    match (hash.transpose()?, certificate.map(|text| of_escaped_pem(&text)).transpose()?) {
        (Some(hash), Some(certificate)) if hash != certificate => Err("`Hash` is not the hash of `Cert`"),
        (Some(it), _) | (None, Some(it)) => Ok(it),
        (None, None) => Err("its last element has neither `Hash` nor `Cert`"),
    }
}

/// Exactly one certificate in PEM (RFC 7468), percent-encoded.
fn of_escaped_pem(text: &str) -> Result<CertificateThumbprint, &'static str> {
    let pem = percent_decode_str(text).decode_utf8().map_err(|_| "`Cert` is not text")?;
    let body = pem.trim_ascii().strip_prefix("-----BEGIN CERTIFICATE-----");
    let body = body.and_then(|rest| rest.strip_suffix("-----END CERTIFICATE-----"));
    let body: String = body.ok_or("`Cert` is not one certificate in PEM")?.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| "`Cert` is not base64")?;
    if der.is_empty() { Err("`Cert` is empty") } else { Ok(CertificateThumbprint::of_der(&der)) }
}

/// What follows a pair.
enum End {
    Pair,
    Element,
    Header,
}

/// Reads `Key=Value;Key="Value",Key=Value`. In quotes, a quote or a backslash stands after a backslash.
struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn pair(&mut self) -> Result<(&'t str, String, End), &'static str> {
        let (key, rest) = self.rest.split_once('=').ok_or("an element is not made of pairs")?;
        let key = key.trim_matches([' ', '\t']);
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("a key is not a word");
        }
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.find([',', ';']).unwrap_or(rest.len());
                let (value, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
                if value.contains(['"', '\\']) {
                    return Err("a quote stands inside a value");
                }
                (value.trim_matches([' ', '\t']).to_owned(), rest)
            }
        };
        let mut after = rest.trim_start_matches([' ', '\t']).chars();
        let end = match after.next() {
            None => End::Header,
            Some(';') => End::Pair,
            Some(',') => End::Element,
            Some(_) => return Err("something follows a quoted value"),
        };
        self.rest = after.as_str();
        Ok((key, value, end))
    }
}

/// The value before the closing quote, and what follows it.
fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next().ok_or("a quote is not closed")? {
            '"' => return Ok((value, characters.as_str())),
            '\\' => value.push(characters.next().ok_or("a quote is not closed")?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const SHORT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
    /// SHA-256 of the bytes `certificate`.
    const C: &str = "03d66dd08835c1ca3f128cceacd1f31ac94163096b20f445ae84285bc0832d72";

    fn read(header: CertificateHeader, lines: &[&str]) -> Result<Option<CertificateThumbprint>, &'static str> {
        header.read(lines.iter().map(|line| line.as_bytes())).map_err(|fault| fault.problem)
    }

    #[test]
    fn the_last_element_counts() {
        let of = |hex| Ok(Some(CertificateThumbprint::of_hex(hex).unwrap()));
        let check = |line: String, want| assert_eq!(read(CertificateHeader::Xfcc, &[&line]), want, "{line}");
        check(format!("Hash={A}"), of(A));
        check(format!("hash={A};By=spiffe://x"), of(A));
        check(format!("By=spiffe://a/b;HASH={A};Subject=\"\";URI=spiffe://c"), of(A));
        check(format!("By=x;Hash={A},By=y;Hash={B}"), of(B));
        check(format!("Hash={A} , Hash={B}"), of(B));
        check(format!("Hash={A};Subject=\"CN=a,O=b;c=\\\"d\\\\\",Hash={B}"), of(B));
        // A subject cannot end its own quotes: what stands in it is no element.
        check(format!("Hash={A};Subject=\"CN=x\\\",Hash={B}\""), of(A));
        check(format!("Hash={A};Subject=\"CN=x,Hash={B}\""), of(A));
        check(format!("Hash=\"{A}\""), of(A));
        assert_eq!(read(CertificateHeader::Xfcc, &[]), Ok(None));
    }

    #[test]
    fn a_header_with_no_or_two_readings_is_refused() {
        for line in [
            String::new(),
            ",".to_owned(),
            ";".to_owned(),
            A.to_owned(),
            "Hash=".to_owned(),
            format!("Hash={SHORT}"),
            format!("Hash={A}a"),
            format!("Hash={SHORT}g"),
            format!("Hash=+{SHORT}"),
            format!("Hash={A};Hash={A}"),
            format!("Hash={A};hash={B}"),
            format!("Hash={A},"),
            format!("Hash={A};"),
            format!("Hash={A},By=x"),
            format!("Hash={A},By=x;Subject=\"Hash={B}\""),
            format!("Hash={A};Subject=\"x"),
            format!("Hash={A};Subject=\"x\\"),
            format!("Hash={A};Subject=\"x\"y"),
            format!("Hash={A};Subject=x\"y\""),
            format!("=x;Hash={A}"),
            format!("By x=y;Hash={A}"),
            format!("Hash={A};Cert=\"x\""),
            "Cert=\"\"".to_owned(),
            "Cert=\"%ff\"".to_owned(),
            "Cert=\"-----BEGIN%20CERTIFICATE-----%0A-----END%20CERTIFICATE-----\"".to_owned(),
            "Cert=\"-----BEGIN%20CERTIFICATE-----%0A%%%-----END%20CERTIFICATE-----\"".to_owned(),
            "Cert=\"-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----%0A-----BEGIN%20CERTIFICATE-----\
             %0AAAAA%0A-----END%20CERTIFICATE-----\""
                .to_owned(),
            "Cert=\"-----BEGIN%20PRIVATE%20KEY-----%0AAAAA%0A-----END%20PRIVATE%20KEY-----\"".to_owned(),
        ] {
            let got = read(CertificateHeader::Xfcc, &[&line]);
            assert!(got.is_err(), "{line}: {got:?}");
        }
        let good = format!("Hash={A}");
        assert!(read(CertificateHeader::Xfcc, &[&good, &good]).is_err(), "two lines");
        assert!(CertificateHeader::Xfcc.read([&b"Hash=\xff"[..]].into_iter()).is_err(), "not UTF-8");
    }

    #[test]
    fn a_certificate_is_its_hash() {
        let (pem, sequence) = ("Y2VydGlmaWNhdGU=", ":Y2VydGlmaWNhdGU=:");
        let want = Ok(Some(CertificateThumbprint::of_der(b"certificate")));
        let escaped =
            format!("-----BEGIN%20CERTIFICATE-----%0A{}%0A-----END%20CERTIFICATE-----%0A", pem.replace('=', "%3D"));
        for line in [
            format!("Cert=\"{escaped}\""),
            format!("Hash={C};Cert=\"{escaped}\""),
            format!("Hash={A},cert=\"{escaped}\""),
            format!("Cert={escaped}"),
        ] {
            assert_eq!(read(CertificateHeader::Xfcc, &[&line]), want, "{line}");
        }
        assert!(read(CertificateHeader::Xfcc, &[&format!("Hash={A};Cert=\"{escaped}\"")]).is_err());
        for line in [sequence, "  :Y2VydGlmaWNhdGU=: "] {
            assert_eq!(read(CertificateHeader::Rfc9440, &[line]), want, "{line}");
        }
        for line in [
            "",
            ":",
            "::",
            pem,
            ":Y2VydGlmaWNhdGU:",
            ":Y2VydGlmaWNhdGV=:",
            ":Y2Vy ZGlmaWNhdGU=:",
            ":AA==:, :AA==:",
            ":AA==:;a=1",
            "\"AAAA\"",
            ":AA-_:",
            "::AAAA::",
            ":AAAA:\n",
        ] {
            let got = read(CertificateHeader::Rfc9440, &[line]);
            assert!(got.is_err(), "{line}: {got:?}");
        }
        assert!(read(CertificateHeader::Rfc9440, &[sequence, sequence]).is_err(), "two lines");
        assert_eq!(read(CertificateHeader::Rfc9440, &[]), Ok(None));
    }
}
