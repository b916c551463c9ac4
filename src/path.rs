//! The one path canonicaliser, used by every door that decides about a request of the application.
//!
//! A proxy, a framework and a policy may each read one raw path differently, and every difference is a way around the
//! policy. So this module repairs nothing: a path that has more than one reading is refused, and the proxy in front or
//! the client has to send it in its plain form. It does not know routes, and it never looks at the query.

use percent_encoding::percent_decode_str;

/// The longest raw path that is read, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;
/// The most segments that a path may have.
pub const MAX_SEGMENTS: usize = 256;

/// A request path that has exactly one reading: absolute, percent-decoded once, no empty, `.` or `..` segments.
///
/// One trailing slash is dropped: `/a/` and `/a` are one path, and a policy cannot tell them apart by accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath {
    text: String,
    segments: Vec<String>,
}

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It is empty or does not begin with `/`.
    #[error("path does not start with `/`")]
    NotAbsolute,
    /// Longer than [`MAX_BYTES`].
    #[error("path is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// More than [`MAX_SEGMENTS`].
    #[error("path has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// A `%` that two hexadecimal digits do not follow.
    #[error("path has a `%` that is not followed by two hexadecimal digits")]
    BadEncoding,
    /// The decoded bytes are not UTF-8.
    #[error("path is not UTF-8 after percent-decoding")]
    NotUtf8,
    /// `%2F`: one segment for some programs, two for others.
    #[error("path has an encoded `/`")]
    EncodedSlash,
    /// `\` or `%5C`: a separator for some programs.
    #[error("path has a backslash, plain or encoded")]
    Backslash,
    /// A control character, plain or encoded; `%00` ends the path for some programs.
    #[error("path has a control character, plain or encoded")]
    Control,
    /// A space or a byte above 0x7F that is not percent-encoded (RFC 3986 §2); its character set is anybody's guess.
    #[error("path has a space or a byte above 0x7f that is not percent-encoded")]
    NotEncoded,
    /// `//`: merged by some programs.
    #[error("path has an empty segment")]
    EmptySegment,
    /// `.` or `..`, plain, encoded or with a path parameter: resolved by some programs.
    #[error("path has a `.` or `..` segment, plain or encoded")]
    DotSegment,
    /// `%2541`: a program that decodes twice reads something else.
    #[error("path is percent-encoded twice")]
    DoubleEncoding,
    /// A plain `;`: some programs cut the segment there. (`%3B` is data.)
    #[error("path has a `;` that is not percent-encoded")]
    Parameter,
    /// A plain `?` or `#`: the path should have ended there. (`%3F` and `%23` are data.)
    #[error("path has a `?` or `#` that is not percent-encoded")]
    Delimiter,
}

// === impl CanonicalPath ===

impl CanonicalPath {
    /// Parses the raw path of a request line (without the query).
    ///
    /// # Errors
    /// [`PathError`] when the path is ambiguous or malformed.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        let Some(rest) = raw.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
        if raw.len() > MAX_BYTES {
            return Err(PathError::TooLong);
        }
        raw.bytes().try_for_each(check_raw_byte)?;
        let mut path = Self { text: String::with_capacity(raw.len()), segments: Vec::new() };
        // The last slash separates nothing: `/` has no segments, and `/a/` is `/a`.
        let rest = rest.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(rest);
        if !rest.is_empty() {
            for raw_segment in rest.split('/') {
                if path.segments.len() == MAX_SEGMENTS {
                    return Err(PathError::TooManySegments);
                }
                let segment = decode_segment(raw_segment)?;
                path.text.push('/');
                path.text.push_str(&segment);
                path.segments.push(segment);
            }
        }
        if path.text.is_empty() {
            path.text.push('/');
        }
        Ok(path)
    }

    /// The decoded segments joined by `/`, always starting with `/`. No segment holds a `/`, so this is unambiguous.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The decoded segments; empty for `/`.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

// === impl PathError ===

impl PathError {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::TooLong => "path_too_long",
            Self::TooManySegments => "path_too_many_segments",
            Self::BadEncoding => "path_bad_encoding",
            Self::NotUtf8 => "path_not_utf8",
            Self::EncodedSlash => "path_encoded_slash",
            Self::Backslash => "path_backslash",
            Self::Control => "path_control_character",
            Self::NotEncoded => "path_not_encoded",
            Self::EmptySegment => "path_empty_segment",
            Self::DotSegment => "path_dot_segment",
            Self::DoubleEncoding => "path_double_encoding",
            Self::Parameter => "path_parameter",
            Self::Delimiter => "path_delimiter",
        }
    }
}

// === helpers ===

/// What may stand in a raw path at all. Characters that RFC 3986 wants encoded but that everybody reads as themselves
/// (`"`, `<`, `[`, `|`, …) pass.
fn check_raw_byte(byte: u8) -> Result<(), PathError> {
    match byte {
        b'\\' => Err(PathError::Backslash),
        b';' => Err(PathError::Parameter),
        b'?' | b'#' => Err(PathError::Delimiter),
        0..=0x1f | 0x7f => Err(PathError::Control),
        b' ' | 0x80.. => Err(PathError::NotEncoded),
        _ => Ok(()),
    }
}

fn decode_segment(raw: &str) -> Result<String, PathError> {
    if raw.is_empty() {
        return Err(PathError::EmptySegment);
    }
    let mut encoded = raw.bytes();
    while let Some(byte) = encoded.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_hexdigit());
        if byte == b'%' && !(hex(encoded.next()) && hex(encoded.next())) {
            return Err(PathError::BadEncoding);
        }
    }
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| PathError::NotUtf8)?;
    for character in decoded.chars() {
        match character {
            '/' => return Err(PathError::EncodedSlash),
            '\\' => return Err(PathError::Backslash),
            c if c.is_control() => return Err(PathError::Control),
            _ => {}
        }
    }
    // `..;x` came in as `..%3Bx`. A proxy that decodes before it forwards hands on `..;x`, and a server that cuts
    // parameters reads `..`.
    if matches!(decoded.split(';').next(), Some("." | "..")) {
        return Err(PathError::DotSegment);
    }
    if has_percent_triplet(&decoded) {
        return Err(PathError::DoubleEncoding);
    }
    Ok(decoded.into_owned())
}

fn has_percent_triplet(text: &str) -> bool {
    text.split('%').skip(1).any(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

#[cfg(test)]
mod tests {
    //! The bypass corpus as a table (`tests/cases/path.json`), and what holds for every path that is accepted.

    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        raw: String,
        /// The decoded segments, or the code of the refusal.
        want: Want,
        #[serde(default)]
        why: String,
    }

    #[derive(serde::Deserialize, PartialEq, Debug)]
    #[serde(untagged)]
    enum Want {
        Segments(Vec<String>),
        Refused(String),
    }

    fn check(case: &Case) {
        let got = match CanonicalPath::parse(&case.raw) {
            Ok(path) => Want::Segments(path.segments().to_vec()),
            Err(error) => Want::Refused(error.code().to_owned()),
        };
        assert_eq!(got, case.want, "{:?}: {}", case.raw, case.why);
    }

    #[test]
    fn every_path_of_the_corpus_is_read_in_one_way_or_refused() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/cases/path.json")).unwrap();
        assert!(cases.len() > 60);
        cases.iter().for_each(check);
    }

    #[test]
    fn a_path_has_a_longest_form_and_a_deepest_form() {
        let refused = |raw: String| CanonicalPath::parse(&raw).unwrap_err();
        assert!(CanonicalPath::parse(&format!("/{}", "a".repeat(MAX_BYTES - 1))).is_ok());
        assert_eq!(refused(format!("/{}", "a".repeat(MAX_BYTES))), PathError::TooLong);
        assert!(CanonicalPath::parse(&"/a".repeat(MAX_SEGMENTS)).is_ok());
        assert_eq!(refused("/a".repeat(MAX_SEGMENTS + 1)), PathError::TooManySegments);
    }

    #[test]
    fn a_raw_control_character_is_refused() {
        for byte in (0..0x20).chain([0x7f]) {
            let raw = format!("/a{}b", char::from(byte));
            assert_eq!(CanonicalPath::parse(&raw), Err(PathError::Control), "{byte:#x}");
        }
    }

    /// Paths made of the pieces that attacks are made of.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "a", "admin", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", "%3b", "%", "%25", "%252e",
            "%00", "%0a", "?", "#", "%3f", "%23", "%c3%a9", "%c3", "%u002f", " ", "+", "%20", "é", "~", "*", "%7e",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn an_accepted_path_encoded_again_is_itself(raw in prop_oneof![hostile(), "/\\PC*"]) {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                let encoded: String = path.segments().iter()
                    .map(|segment| format!("/{}", utf8_percent_encode(segment, NON_ALPHANUMERIC)))
                    .collect();
                let again = CanonicalPath::parse(if encoded.is_empty() { "/" } else { &encoded });
                prop_assert_eq!(again, Ok(path));
            }
        }

        #[test]
        fn no_accepted_segment_can_be_read_in_another_way(raw in prop_oneof![hostile(), "/\\PC*"]) {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                for segment in path.segments() {
                    prop_assert!(!segment.is_empty() && segment != "." && segment != "..");
                    prop_assert!(!segment.contains(['/', '\\', '\0', '\r', '\n']));
                }
                prop_assert!(path.as_str().starts_with('/'));
                prop_assert_eq!(path.as_str().matches('/').count(), path.segments().len().max(1));
            }
        }
    }
}
