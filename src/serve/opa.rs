//! The OPA door: the REST API of an OPA server that only reads.
//!
//! With `opa.identity: token` every request that reads policy or data presents a token (or is anonymous where the
//! configuration lets anonymous callers through), and the input gets `token`, `live` and `meta`. With `passthrough` it
//! is plain OPA. The store cannot be written in either mode. Unlike the other doors this one answers what policy said
//! and decides nothing, so its caller has to read `false`, `{}` and every error as a deny.

mod batch;
mod data;
mod meta;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, routing::any};
use bytes::Bytes;
use http::{StatusCode, request::Parts};
use percent_encoding::percent_decode_str;

use super::{
    App, Arrival, CATCH_ALL, OpaIdentity,
    answer::Answer,
    body, health,
    identity::{self, Asked, Asking, Unidentified},
};
use crate::{
    authorize::DecisionId,
    input::{self, InputError, KnownCaller},
    policy::{DataPath, Value},
    snapshot::Snapshot,
    telemetry::Record,
};

/// The door's name in decision events and metrics.
const DOOR: &str = "opa";

/// All routes of the door. Methods are told apart in the handlers, because OPA's 405 has no body and no `Allow`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/data", any(data::v1))
        .route("/v1/data/{*path}", any(data::v1))
        .route("/v0/data", any(data::v0))
        .route("/v0/data/{*path}", any(data::v0))
        .route("/v1/batch/data", any(batch::v1))
        .route("/v1/batch/data/{*path}", any(batch::v1))
        .route("/", any(data::index))
        .route("/health", any(health::overall))
        .route("/health/{*rule}", any(health::by_policy))
        .route("/v1/policies", any(meta::policies))
        .route("/v1/policies/{*id}", any(meta::policy))
        .route("/v1/query", any(meta::query))
        .route("/v1/compile", any(meta::compile))
        .route("/v1/compile/{*path}", any(meta::compile))
        .route("/v1/config", any(meta::config))
        .route("/v1/status", any(meta::status))
        .fallback(|| async { Answer::not_found().into_response() })
}

/// The metric's `handler`, in OPA's words where it has one.
pub(super) fn label(path: &str) -> &'static str {
    const PREFIXES: [(&str, &str); 9] = [
        ("/v1/data", "v1/data"),
        ("/v0/data", "v0/data"),
        ("/v1/batch/data", "v1/batch/data"),
        ("/health", "health"),
        ("/v1/policies", "v1/policies"),
        ("/v1/query", "v1/query"),
        ("/v1/compile", "v1/compile"),
        ("/v1/config", "v1/config"),
        ("/v1/status", "v1/status"),
    ];
    if path == "/" {
        return "index";
    }
    let found = PREFIXES
        .iter()
        .find(|(prefix, _)| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    found.map_or(CATCH_ALL, |(_, label)| label)
}

// === paths ===

/// A segment that OPA's parser cannot take.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid ref term '{0}'")]
pub(super) struct InvalidSegment(String);

/// Splits the raw path below a route at `/`, then decodes each segment once: `a%2Fb` is one segment. Unlike the paths of
/// the application's requests (see [`crate::path`]) these name documents, so nothing in a segment is ambiguous.
pub(super) fn path_segments(raw: &str) -> Result<Vec<String>, InvalidSegment> {
    raw.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let decoded = percent_decode_str(segment).decode_utf8_lossy().into_owned();
            if decoded.contains('"') { Err(InvalidSegment(decoded)) } else { Ok(decoded) }
        })
        .collect()
}

/// `data.a["b/c"][0]`: how OPA writes a path in messages.
pub(super) fn reference(path: &DataPath) -> String {
    let mut text = "data".to_owned();
    for segment in path.segments() {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if segment.parse::<i64>().is_ok() {
            text.push_str(&format!("[{segment}]"));
        } else if segment.chars().all(plain)
            && !segment.starts_with(|c: char| c.is_ascii_digit())
            && !segment.is_empty()
        {
            text.push('.');
            text.push_str(segment);
        } else {
            text.push_str(&format!("[{}]", Value::from(segment.as_str())));
        }
    }
    text
}

/// The path below a route. A segment that OPA cannot take is answered with 500, as OPA does.
fn data_path(parts: &Parts, route: &str) -> Result<DataPath, Answer> {
    let raw = parts.uri.path().strip_prefix(route).unwrap_or_default();
    path_segments(raw).map(DataPath::new).map_err(|invalid| {
        let message = format!("invalid_parameter: invalid path: {invalid}");
        Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", &message)
    })
}

// === one question ===

/// Who asks, and the one snapshot that the question is answered with.
struct Asker {
    snapshot: Arc<Snapshot>,
    /// `None`: nobody looked (`passthrough`).
    caller: Option<KnownCaller>,
    verification: Option<Duration>,
}

/// What a handler needs beside the request itself.
struct Context<'a> {
    app: &'a App,
    arrival: Arrival,
}

impl<'a> Context<'a> {
    fn new(app: &'a App, parts: &Parts) -> Option<Self> {
        Some(Self { app, arrival: parts.extensions.get::<Arrival>()?.clone() })
    }

    /// Identifies the caller as the configuration wants it. A refusal is answered and recorded here.
    async fn asker(&self, parts: &Parts, path: &DataPath) -> Result<Asker, Answer> {
        if self.app.settings.opa_identity == OpaIdentity::Passthrough {
            return Ok(Asker { snapshot: self.app.snapshots.current(), caller: None, verification: None });
        }
        let asking = Asking {
            arrival: &self.arrival,
            headers: &parts.headers,
            query: parts.uri.query(),
            asked: Asked::Own { method: &parts.method, uri: &parts.uri },
        };
        match identity::identify(self.app, asking).await {
            Ok(identified) => Ok(Asker {
                snapshot: identified.snapshot,
                caller: Some(identified.caller),
                verification: identified.verification,
            }),
            Err(refused) => Err(self.refuse(&refused, path)),
        }
    }

    fn refuse(&self, refused: &Unidentified, path: &DataPath) -> Answer {
        self.app.telemetry.decided(&Record {
            door: DOOR,
            id: DecisionId::random(),
            snapshot: &refused.snapshot,
            path,
            input: None,
            result: None,
            error: None,
            outcome: refused.cause.outcome(),
            reason: refused.cause.code(),
            detail: Some(refused.cause.to_string()),
            caller: refused.caller.as_ref(),
            requested_by: &self.arrival.peer.text,
            request_number: self.arrival.number,
            verification: refused.verification,
            evaluation: None,
            total: self.arrival.at.elapsed(),
        });
        refused.answer(self.app)
    }

    async fn body(&self, parts: &Parts, body: Body) -> Result<Bytes, body::BodyError> {
        let read = body::read(&parts.headers, body, &self.app.settings.limits, self.arrival.deadline).await;
        read.inspect_err(|error| self.app.telemetry.metrics().refused(error.code()))
    }

    /// May whoever asks learn where files are? A client never does; one of a plain OPA service is an operator's tool.
    fn shows_files(&self) -> bool {
        self.app.settings.opa_identity == OpaIdentity::Passthrough
    }

    /// A request that cannot be understood: counted, and answered as OPA does.
    fn malformed(&self, message: &str) -> Answer {
        self.app.telemetry.metrics().refused("malformed_request");
        Answer::bad_request(message)
    }

    /// The input that policy sees: the application's own, with what claimgate asserts beside it when it looked at the
    /// caller.
    fn input(&self, asker: &Asker, document: Option<Value>) -> Result<Option<Value>, Answer> {
        let Some(caller) = &asker.caller else { return Ok(document) };
        let now = std::time::SystemTime::now();
        input::for_document(document, caller, &asker.snapshot, now).map(Some).map_err(|error| {
            let code = match error {
                InputError::ReservedKey(_) => "reserved_input_key",
                InputError::NotAnObject => "input_not_an_object",
            };
            self.app.telemetry.metrics().refused(code);
            Answer::error(StatusCode::BAD_REQUEST, code, &error.to_string())
        })
    }
}

/// Answers 500 where the listener forgot to say who arrived; cannot happen, and must not be a panic.
fn no_arrival() -> Answer {
    Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the request has no arrival")
}

/// A duration in nanoseconds, for `metrics`.
fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, want: Result<&[&str], &str>) {
        let got = path_segments(raw);
        let want = want.map(|s| s.iter().map(|s| (*s).to_owned()).collect()).map_err(|s| InvalidSegment(s.to_owned()));
        assert_eq!(got, want, "{raw}");
    }

    #[test]
    fn a_document_path_is_split_before_it_is_decoded() {
        check("", Ok(&[]));
        check("/", Ok(&[]));
        check("/authz/allow", Ok(&["authz", "allow"]));
        check("/this/is%2Fallowed/pkg", Ok(&["this", "is/allowed", "pkg"]));
        check("/a%zz/b", Ok(&["a%zz", "b"]));
        check("/a%22b", Err("a\"b"));
    }

    #[test]
    fn a_reference_is_written_as_opa_writes_it() {
        for (segments, want) in [
            (vec!["a", "b_1"], "data.a.b_1"),
            (vec!["list", "0"], "data.list[0]"),
            (vec!["is/allowed", "1a"], "data[\"is/allowed\"][\"1a\"]"),
            (vec![], "data"),
        ] {
            assert_eq!(reference(&DataPath::new(segments.into_iter().map(str::to_owned).collect())), want);
        }
    }

    #[test]
    fn a_label_is_one_of_a_closed_list() {
        for (path, want) in [
            ("/", "index"),
            ("/v1/data", "v1/data"),
            ("/v1/data/a/b", "v1/data"),
            ("/v1/database", "catchall"),
            ("/v1/batch/data/x", "v1/batch/data"),
            ("/health/live", "health"),
            ("/anything/else", "catchall"),
        ] {
            assert_eq!(label(path), want, "{path}");
        }
    }
}
