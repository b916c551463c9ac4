//! The compact serialisation of RFC 7515 §3.1, read strictly: bounded size, only base64url characters and two dots,
//! unpadded and canonical base64url. It refuses JSON serialisations and encrypted tokens, and never repairs anything.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{error::TokenError, json};

/// A compact JWS as received. Untrusted. No `Display`; `Debug` is redacted.
#[derive(Clone)]
pub struct RawToken(Box<str>);

/// SHA-256 over a whole token, or over what one says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; digest::SHA256_OUTPUT_LEN]);

/// How much of a token is looked at before its issuer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole token; default 8 KiB.
    pub token_bytes: usize,
    /// Depth of nesting in header and claims, the outermost object counted; default 32, at most 100.
    pub json_depth: usize,
    /// Members and array elements in all, for header and claims each; default 1,000.
    pub json_members: usize,
}

/// A token whose format is sound: three decoded parts, nothing of them judged.
pub(super) struct Compact<'t> {
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// The signature as it stands in the token.
    pub(super) signature_text: &'t str,
    /// What was signed: header, dot, payload.
    pub(super) signing_input: &'t str,
}

/// May the payload be empty? A claims set never is; a bare JWS may have nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyPayload {
    Refused,
    Allowed,
}

// === impl RawToken ===

impl RawToken {
    /// Wraps what a door extracted.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// A name for exactly these bytes, signature included, that does not give them away. `None` for what is longer than
    /// a token may be: it is refused without a look at it.
    #[must_use]
    pub fn fingerprint(&self, limits: Limits) -> Option<Fingerprint> {
        if self.0.len() > limits.token_bytes {
            return None;
        }
        Some(Fingerprint::of(self.0.as_bytes()))
    }

    /// The bytes themselves, for this module only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RawToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawToken({} bytes)", self.0.len())
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut name = [0; digest::SHA256_OUTPUT_LEN];
        for (to, from) in name.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()) {
            *to = *from;
        }
        Self(name)
    }
}

// === impl Limits ===

impl Limits {
    /// For tools that look at one token that a person gave them: 1 MiB.
    pub(super) const TOOL: Self = Self { token_bytes: 1 << 20, json_depth: 100, json_members: 100_000 };

    pub(super) fn json(self) -> json::Bounds {
        // The JSON reader's own stack guard ends at 128.
        json::Bounds { depth: self.json_depth.min(100), members: self.json_members }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { token_bytes: 8 * 1024, json_depth: 32, json_members: 1000 }
    }
}

// === impl Compact ===

impl<'t> Compact<'t> {
    pub(super) fn split(raw: &'t RawToken, limits: Limits, empty_payload: EmptyPayload) -> Result<Self, TokenError> {
        let text = raw.expose();
        if text.len() > limits.token_bytes {
            return Err(TokenError::TooLarge { bytes: text.len(), limit: limits.token_bytes });
        }
        if let Some(position) = text.bytes().position(|byte| !is_base64url(byte) && byte != b'.') {
            return Err(TokenError::ForbiddenCharacter { position });
        }
        let mut segments = text.split('.');
        let parts = (segments.next(), segments.next(), segments.next(), segments.next());
        let (Some(header), Some(payload), Some(signature), None) = parts else {
            return Err(match text.split('.').count() {
                5 => TokenError::Encrypted,
                found => TokenError::SegmentCount { found },
            });
        };
        for (segment, content, may_be_empty) in [
            ("header", header, false),
            ("payload", payload, empty_payload == EmptyPayload::Allowed),
            ("signature", signature, false),
        ] {
            if content.is_empty() && !may_be_empty {
                return Err(TokenError::EmptySegment { segment });
            }
        }
        let signing_input = text.rsplit_once('.').map_or("", |(input, _)| input);
        Ok(Self {
            header: decode("header", header)?,
            payload: decode("payload", payload)?,
            signature: decode("signature", signature)?,
            signature_text: signature,
            signing_input,
        })
    }
}

/// Unpadded base64url whose unused bits are zero: one text per byte string.
pub(super) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(super) fn encode_base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(segment: &'static str, text: &str) -> Result<Vec<u8>, TokenError> {
    decode_base64url(text).ok_or(TokenError::Base64 { segment })
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::{Compact, EmptyPayload, Limits, RawToken};

    fn check(text: &str, expected: Result<(), &str>) {
        let raw = RawToken::new(text);
        let split = Compact::split(&raw, Limits::default(), EmptyPayload::Refused);
        assert_eq!(split.map(drop).map_err(|error| error.code()), expected, "{text:.60}");
    }

    #[test]
    fn three_canonical_segments_pass() {
        check("e30.e30.AA", Ok(()));
        check("e30.e30.-_", Err("bad_base64url"));
        check("e30.e30._-8", Ok(()));
    }

    #[test]
    fn any_other_number_of_segments_is_refused() {
        for text in ["e30", "", "e30.e30", "e30.e30.AA.", "e30.e30.AA.AA", "e30.e30.AA.AA.AA.AA", "....."] {
            check(text, Err("wrong_segment_count"));
        }
        check("e30.AA.AA.AA.AA", Err("encrypted_token"));
        check("....", Err("encrypted_token"));
        check(&".".repeat(8000), Err("wrong_segment_count"));
    }

    #[test]
    fn empty_segments_are_refused() {
        for text in ["..", ".e30.AA", "e30..AA", "e30.e30."] {
            check(text, Err("empty_segment"));
        }
    }

    #[test]
    fn only_base64url_characters_pass() {
        for text in [
            "e30=.e30.AA",
            "e30.e3+.AA",
            "e30.e3/.AA",
            " e30.e30.AA",
            "e30.e30.AA\n",
            "e30.e30.AA\r\n",
            "e30.e30.A%41",
            "e30.e30.\u{e9}",
            "e30.e30.A\0",
            "\u{feff}e30.e30.AA",
            r#"{"payload":"e30","signatures":[]}"#,
            "e30.e 30.AA",
            "e30,e30,AA",
        ] {
            check(text, Err("forbidden_character"));
        }
    }

    #[test]
    fn base64url_must_be_canonical() {
        for text in ["e31.e30.AA", "e30.e31.AA", "e30.e30.AB", "e30.e30.A", "e.e30.AA"] {
            check(text, Err("bad_base64url"));
        }
    }

    #[test]
    fn the_size_limit_is_inclusive() {
        let head = "e30.e30.";
        check(&format!("{head}{}", "A".repeat(8192 - head.len())), Ok(()));
        check(&format!("{head}{}", "A".repeat(8193 - head.len())), Err("token_too_large"));
        check(&"A".repeat(8 << 20), Err("token_too_large"));
    }

    #[test]
    fn debug_shows_only_the_length() {
        assert_eq!(format!("{:?}", RawToken::new("secret")), "RawToken(6 bytes)");
    }
}
