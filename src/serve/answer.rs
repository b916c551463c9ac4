//! Answers: status, headers and one body, in the forms that OPA's clients know. Nothing here knows a door.
//!
//! Every error that has a body has the same one: `{"code", "message"}` and, for evaluation errors, `errors`, indented.

use std::io::Write;

use axum::{body::Body, response::Response};
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;

use super::json;
use crate::{
    authorize::DecisionId,
    policy::{EvalError, Location},
};

/// OPA's threshold (`server.encoding.gzip.min_length`): smaller bodies are not worth compressing.
const GZIP_FROM: usize = 1024;

const DECISION_ID: HeaderName = HeaderName::from_static("x-claimgate-decision-id");

/// An answer before it becomes an HTTP response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Boxed: an answer is also the `Err` of many results.
    pub(super) headers: Box<HeaderMap>,
    pub(super) body: Vec<u8>,
}

/// OPA's `ErrorV1`.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<ErrorDetail<'a>>,
}

/// One element of [`ErrorBody::errors`].
#[derive(Debug, Serialize)]
pub(super) struct ErrorDetail<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Position<'a>>,
}

/// [`Location`], with the file only for those who may know where files are.
#[derive(Debug, Serialize)]
struct Position<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    row: u32,
    col: u32,
}

// === impl Answer ===

impl Answer {
    /// A status without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Box::default(), body: Vec::new() }
    }

    /// A JSON document, with `\n` at its end.
    pub(super) fn json(status: StatusCode, document: &impl Serialize, pretty: bool) -> Self {
        match json::write(document, pretty) {
            Ok(body) => Self::bytes(status, HeaderValue::from_static("application/json"), body),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Self::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the answer cannot be written as JSON")
            }
        }
    }

    /// An error without details.
    pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let body = ErrorBody { code, message, errors: Vec::new() };
        // Two strings always serialize.
        let body = json::write(&body, true).unwrap_or_default();
        Self::bytes(status, HeaderValue::from_static("application/json"), body)
    }

    /// `invalid_parameter`, OPA's code for everything that is wrong with a request.
    pub(super) fn bad_request(message: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, "invalid_parameter", message)
    }

    /// Text.
    pub(super) fn text(status: StatusCode, text: impl Into<Vec<u8>>) -> Self {
        Self::bytes(status, HeaderValue::from_static("text/plain; charset=utf-8"), text.into())
    }

    /// What OPA answers where nothing is.
    pub(super) fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found\n")
            .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }

    /// What OPA answers to a method that a path does not have.
    pub(super) fn method_not_allowed() -> Self {
        Self::empty(StatusCode::METHOD_NOT_ALLOWED)
    }

    /// A redirect; with a body (as Go writes it) when `with_body`.
    pub(super) fn redirect(status: StatusCode, to: &str, with_body: bool) -> Self {
        let Ok(location) = HeaderValue::from_str(to) else {
            return Self::bad_request("the path cannot stand in a `Location` header");
        };
        let answer = if with_body {
            let reason = status.canonical_reason().unwrap_or_default();
            let body = format!("<a href=\"{}\">{reason}</a>.\n\n", html_escape(to));
            Self::bytes(status, HeaderValue::from_static("text/html; charset=utf-8"), body.into_bytes())
        } else {
            Self::empty(status)
        };
        answer.with(LOCATION, location)
    }

    /// Evaluation gave no outcome.
    pub(super) fn evaluation(error: &EvalError, with_files: bool) -> Self {
        let body = ErrorBody::evaluation(error, with_files);
        Self::json(StatusCode::INTERNAL_SERVER_ERROR, &body, true)
    }

    pub(super) fn bytes(status: StatusCode, content_type: HeaderValue, body: Vec<u8>) -> Self {
        Self { status, headers: Box::new(HeaderMap::from_iter([(CONTENT_TYPE, content_type)])), body }
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Names the decision in a header, for answers whose body has no room for it. Nothing else can set that header.
    pub(super) fn of_decision(mut self, id: DecisionId) -> Self {
        // A UUID is a header value.
        let id = HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static(""));
        self.headers.insert(DECISION_ID, id);
        self
    }

    /// Marks the answer as one that depends on `Accept-Encoding`, and compresses it when the client takes gzip and the
    /// body is worth it.
    pub(super) fn encoded(mut self, request: &HeaderMap) -> Self {
        self.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if self.body.len() < GZIP_FROM || !accepts_gzip(request) {
            return self;
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(self.body.len() / 4), Compression::fast());
        // Writing to memory does not fail; if it did, the plain body is still right.
        if let Ok(body) = encoder.write_all(&self.body).and_then(|()| encoder.finish()) {
            self.body = body;
            self.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        self
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        response
    }
}

// === impl ErrorBody ===

impl<'a> ErrorBody<'a> {
    /// `error(s) occurred while evaluating query` with the error as its only detail.
    ///
    /// A client never learns where files are: `with_files` is for plain OPA services only.
    pub(super) fn evaluation(error: &'a EvalError, with_files: bool) -> Self {
        let position = |Location { file, row, col }: &'a Location| Position {
            file: with_files.then_some(file.as_str()),
            row: *row,
            col: *col,
        };
        let detail =
            ErrorDetail { code: error.code(), message: error.text(), location: error.location.as_ref().map(position) };
        Self { code: "internal_error", message: "error(s) occurred while evaluating query", errors: vec![detail] }
    }

    /// A query that does not parse or compile.
    pub(super) fn query(error: &'a EvalError) -> Self {
        let message = match error.code() {
            "rego_parse_error" | "rego_limit_error" => "error(s) occurred while parsing query",
            _ => "error(s) occurred while compiling query",
        };
        Self { code: "invalid_parameter", message, ..Self::evaluation(error, true) }
    }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let Some(accepted) = request.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()) else { return false };
    accepted.split(',').map(str::trim).any(|coding| coding == "gzip" || coding.starts_with("gzip;"))
}

fn html_escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;")
}
