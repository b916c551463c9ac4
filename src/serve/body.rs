//! Request bodies: read within a size and a time, and unpacked within a size. A body is refused as soon as it is known
//! to be too large, never after it was stored.

use std::io::Read;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::{Limits, answer::Answer, json::Syntax};

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("request body too large")]
    TooLarge,
    #[error("the request body did not arrive in time")]
    TooSlow,
    #[error("the connection ended inside the request body")]
    Broken,
    #[error("could not decompress the body: {0}")]
    Gzip(&'static str),
    /// The unpacked size, not the sent one.
    #[error("could not decompress the body: gzip payload too large")]
    GzipTooLarge,
}

/// Reads the whole body and unpacks it when `Content-Encoding` says gzip.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    deadline: Instant,
) -> Result<Bytes, BodyError> {
    let bytes = match timeout_at(deadline, collect(headers, body, limits.body_bytes)).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(BodyError::TooSlow),
    };
    if mentions(headers, CONTENT_ENCODING, "gzip") { unpack(&bytes, limits.gzip_body_bytes) } else { Ok(bytes) }
}

/// Any content type that mentions YAML is YAML, as in OPA; there is no registered one for all of them.
pub(super) fn syntax(headers: &HeaderMap) -> Syntax {
    if mentions(headers, CONTENT_TYPE, "yaml") { Syntax::Yaml } else { Syntax::Json }
}

async fn collect(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge);
    }
    // A body that came in one piece, the usual case, is not copied.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if first.len().max(whole.len()).saturating_add(data.len()) > limit {
            return Err(BodyError::TooLarge);
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.reserve(announced.unwrap_or(first.len() + data.len()));
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, BodyError> {
    if packed.is_empty() {
        return Ok(Bytes::new());
    }
    // The last four bytes of a gzip stream claim its size. A claim above the limit is believed, as OPA does; a smaller
    // one is not.
    let claimed = packed.last_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    if claimed.is_some_and(|size| usize::try_from(size).is_ok_and(|size| size > limit)) {
        return Err(BodyError::GzipTooLarge);
    }
    let mut unpacked = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match MultiGzDecoder::new(packed).take(most).read_to_end(&mut unpacked) {
        Ok(_) if unpacked.len() > limit => Err(BodyError::GzipTooLarge),
        Ok(_) => Ok(Bytes::from(unpacked)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(BodyError::Gzip("unexpected EOF")),
        Err(_) => Err(BodyError::Gzip("gzip: invalid header or data")),
    }
}

fn mentions(headers: &HeaderMap, name: http::HeaderName, word: &str) -> bool {
    headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(word))
}

// === impl BodyError ===

impl BodyError {
    /// Stable code, for the metric and for the statuses that OPA does not have.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::TooSlow => "body_timeout",
            Self::Broken => "body_incomplete",
            Self::Gzip(_) => "body_bad_gzip",
            Self::GzipTooLarge => "body_gzip_too_large",
        }
    }

    /// 413 and 408 carry our own code; what OPA answers with 400 carries OPA's.
    pub(super) fn answer(&self) -> Answer {
        let message = self.to_string();
        match self {
            Self::TooLarge => Answer::error(StatusCode::PAYLOAD_TOO_LARGE, self.code(), &message),
            Self::TooSlow => Answer::error(StatusCode::REQUEST_TIMEOUT, self.code(), &message),
            Self::Broken | Self::Gzip(_) | Self::GzipTooLarge => Answer::bad_request(&message),
        }
    }
}
