//! The decision log: one event per decision, in the shape of OPA's `EventV1`, to stdout or a file.
//!
//! Events are serialized where the decision is made and written by one thread behind a bounded queue. A full queue
//! drops the event, counts it, and says so once in the log: a slow disk never delays an answer, and a loss is never
//! silent. Token bytes cannot get here: an event is made from verified claims and the input that policy saw.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::Record;
use crate::{
    policy::{Location, Value},
    token::Caller,
};

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Destination {
    /// Nowhere.
    #[default]
    None,
    /// Stdout, in the form of OPA's console log (`level`, `msg`, `time`, `type` are added).
    Stdout,
    /// Appended to a file, one bare event a line. SIGHUP opens it anew, so that it can be rotated.
    File(PathBuf),
}

/// Decision log settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where events go.
    pub destination: Destination,
    /// `labels` of each event; `id` and `version` are always there.
    pub labels: BTreeMap<String, String>,
    /// JSON pointers below `/input` and `/result` that are removed from each event and named in `erased`.
    pub mask: Vec<String>,
    /// How many events may wait for the writer.
    pub queue: usize,
}

/// The decision log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the decision log `{}`: {source}", path.display())]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

/// One event. Keys and their order are those of OPA's `EventV1`; `custom.claimgate` holds what OPA has no key for.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    labels: &'a BTreeMap<String, String>,
    decision_id: String,
    revision: &'a str,
    bundles: BTreeMap<&'a str, BundleRevision<'a>>,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    erased: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<EventError<'a>>,
    requested_by: &'a str,
    timestamp: String,
    metrics: EventMetrics,
    req_id: u64,
    custom: Custom<'a>,
}

#[derive(Debug, Serialize)]
struct BundleRevision<'a> {
    revision: &'a str,
}

#[derive(Debug, Serialize)]
struct EventError<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a Location>,
}

#[derive(Debug, Serialize)]
struct EventMetrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    timer_rego_query_eval_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer_token_verify_ns: Option<u64>,
    timer_server_handler_ns: u64,
}

#[derive(Debug, Serialize)]
struct Custom<'a> {
    claimgate: Verdict<'a>,
}

#[derive(Debug, Serialize)]
struct Verdict<'a> {
    door: &'static str,
    outcome: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<EventCaller<'a>>,
}

/// Enough to find the token at its issuer, nothing that could be replayed.
#[derive(Debug, Serialize)]
struct EventCaller<'a> {
    issuer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ConsoleEvent<'a> {
    #[serde(flatten)]
    event: Event<'a>,
    level: &'static str,
    msg: &'static str,
    time: String,
    r#type: &'static str,
}

/// The open log.
#[derive(Debug)]
pub(super) struct DecisionLog {
    settings: Settings,
    queue: Option<SyncSender<Message>>,
    dropped: AtomicU64,
    overflowing: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
    Reopen,
}

// === impl DecisionLog ===

impl DecisionLog {
    pub(super) fn open(mut settings: Settings) -> Result<Self, LogError> {
        settings.labels.entry("id".to_owned()).or_insert_with(|| uuid::Uuid::new_v4().to_string());
        settings.labels.insert("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let queue = match &settings.destination {
            Destination::None => None,
            destination => {
                let writer = Writer::open(destination.clone())?;
                let (sender, receiver) = sync_channel(settings.queue.max(1));
                std::thread::Builder::new()
                    .name("decision-log".to_owned())
                    .spawn(move || writer.run(&receiver))
                    .map_err(|source| LogError { path: PathBuf::from("decision-log thread"), source })?;
                Some(sender)
            }
        };
        Ok(Self { settings, queue, dropped: AtomicU64::new(0), overflowing: AtomicBool::new(false) })
    }

    /// What every event carries.
    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.settings.labels
    }

    /// Events that were lost because the queue was full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn write(&self, record: &Record<'_>) {
        let Some(queue) = &self.queue else { return };
        let mut line = Vec::with_capacity(1024);
        let event = Event::new(record, &self.settings);
        let serialized = match self.settings.destination {
            Destination::Stdout => serde_json::to_writer(&mut line, &ConsoleEvent::new(event)),
            _ => serde_json::to_writer(&mut line, &event),
        };
        if let Err(error) = serialized {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::error!(decision_id = %record.id, %error, "a decision event cannot be written as JSON");
            return;
        }
        line.push(b'\n');
        match queue.try_send(Message::Line(line)) {
            Ok(()) => {
                if self.overflowing.swap(false, Ordering::Relaxed) {
                    tracing::info!(dropped = self.dropped(), "the decision log keeps up again");
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                if !self.overflowing.swap(true, Ordering::Relaxed) {
                    tracing::error!("the decision log cannot keep up; events are dropped and counted");
                }
            }
        }
    }

    pub(super) fn flush(&self, patience: Duration) -> bool {
        let Some(queue) = &self.queue else { return true };
        let (done, written) = sync_channel(1);
        // `send` could wait behind a full queue for ever; a full queue at shutdown is drained by the writer first.
        let deadline = std::time::Instant::now() + patience;
        let mut message = Message::Flush(done);
        loop {
            match queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => {
                    if std::time::Instant::now() >= deadline {
                        return false;
                    }
                    message = back;
                    std::thread::yield_now();
                }
            }
        }
        written.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())).is_ok()
    }

    pub(super) fn reopen(&self) {
        if let Some(queue) = &self.queue {
            // A full queue means that the writer is behind; the next SIGHUP tries again.
            let _ = queue.try_send(Message::Reopen);
        }
    }
}

/// The thread that owns the file.
struct Writer {
    destination: Destination,
    out: BufWriter<Box<dyn Write + Send>>,
}

impl Writer {
    fn open(destination: Destination) -> Result<Self, LogError> {
        let out: Box<dyn Write + Send> = match &destination {
            Destination::File(path) => Box::new(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|source| LogError { path: path.clone(), source })?,
            ),
            Destination::Stdout | Destination::None => Box::new(io::stdout()),
        };
        Ok(Self { destination, out: BufWriter::with_capacity(64 * 1024, out) })
    }

    fn run(mut self, queue: &Receiver<Message>) {
        let mut failing = false;
        loop {
            // Lines are batched while they come fast, and are never held back longer than this.
            let result = match queue.recv_timeout(Duration::from_millis(100)) {
                Ok(Message::Line(line)) => self.out.write_all(&line),
                Ok(Message::Flush(done)) => {
                    let result = self.out.flush();
                    // The waiter may have given up.
                    let _ = done.try_send(());
                    result
                }
                Ok(Message::Reopen) => {
                    let result = self.out.flush();
                    match Self::open(self.destination.clone()) {
                        Ok(fresh) => self = fresh,
                        Err(error) => tracing::error!(%error, "the decision log keeps its old file"),
                    }
                    result
                }
                Err(RecvTimeoutError::Timeout) => self.out.flush(),
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.out.flush();
                    return;
                }
            };
            match result {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "the decision log cannot be written");
                }
                Err(_) => {}
            }
        }
    }
}

// === impl Event ===

impl<'a> Event<'a> {
    fn new(record: &'a Record<'a>, settings: &'a Settings) -> Self {
        let mut erased = Vec::new();
        let mut input = record.input.cloned();
        let mut result = record.result.cloned();
        for pointer in &settings.mask {
            let found = match pointer.split_once("/input").or_else(|| pointer.split_once("/result")) {
                Some(("", rest)) if pointer.starts_with("/input") => erase(&mut input, rest),
                Some(("", rest)) => erase(&mut result, rest),
                _ => false,
            };
            if found {
                erased.push(pointer.as_str());
            }
        }
        let caller = match record.caller {
            Some(Caller::Verified(claims)) => Some(EventCaller {
                issuer: claims.issuer(),
                subject: claims.subject(),
                token_id: claims.id(),
                key_id: claims.key_id(),
            }),
            _ => None,
        };
        let bundles = record.snapshot.policies.bundles();
        Self {
            labels: &settings.labels,
            decision_id: record.id.to_string(),
            revision: &record.snapshot.revision,
            bundles: bundles.iter().map(|b| (b.name.as_str(), BundleRevision { revision: &b.revision })).collect(),
            path: record.path.to_string(),
            input,
            result,
            erased,
            error: record.error.map(|error| EventError {
                code: error.kind.code(),
                message: &error.message,
                location: error.location.as_ref(),
            }),
            requested_by: record.requested_by,
            timestamp: super::rfc3339(SystemTime::now()),
            metrics: EventMetrics {
                timer_rego_query_eval_ns: record.evaluation.map(nanoseconds),
                timer_token_verify_ns: record.verification.map(nanoseconds),
                timer_server_handler_ns: nanoseconds(record.total),
            },
            req_id: record.request_number,
            custom: Custom {
                claimgate: Verdict {
                    door: record.door,
                    outcome: record.outcome,
                    reason: record.reason,
                    detail: record.detail.as_deref(),
                    caller,
                },
            },
        }
    }
}

impl<'a> ConsoleEvent<'a> {
    fn new(event: Event<'a>) -> Self {
        let time = event.timestamp.clone();
        Self { event, level: "info", msg: "Decision Log", time, r#type: "openpolicyagent.org/decision_logs" }
    }
}

/// Removes what a JSON pointer (RFC 6901) names; the empty pointer removes everything.
fn erase(document: &mut Option<Value>, pointer: &str) -> bool {
    if pointer.is_empty() {
        return document.take().is_some();
    }
    let Some(mut here) = document.as_mut() else { return false };
    let mut steps =
        pointer.split('/').skip(1).map(|step| Value::from(step.replace("~1", "/").replace("~0", "~"))).peekable();
    while let Some(step) = steps.next() {
        let Ok(members) = here.as_object_mut() else { return false };
        if steps.peek().is_none() {
            return members.remove(&step).is_some();
        }
        match members.get_mut(&step) {
            Some(next) => here = next,
            None => return false,
        }
    }
    false
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Default for Settings {
    fn default() -> Self {
        Self { destination: Destination::None, labels: BTreeMap::new(), mask: Vec::new(), queue: 10_000 }
    }
}
