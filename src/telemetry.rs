//! What the operator sees: logs, metrics and the decision log. Nothing here changes an answer, and no token bytes come
//! this way: doors hand over verified claims and finished decisions.

mod decision_log;
mod introspection;
mod logging;
mod metrics;
mod notices;
mod revocations;

use std::{sync::Arc, time::Duration};

pub use decision_log::{Destination, Event, LogError, Settings as DecisionLogSettings};
pub use introspection::{IntrospectionCounts, IntrospectionMetrics, Kept};
pub use logging::{Format, Settings as LogSettings, init as init_logging};
pub use metrics::{Counter, Gauge, Metrics};
pub use notices::{EventMetrics, StatusListMetrics};

use crate::{
    authorize::DecisionId,
    policy::{DataPath, EvalError, Value},
    revocation::Store,
    snapshot::{Handle, Snapshot},
    token::Caller,
};

/// Everything a door reports to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    log: Arc<decision_log::DecisionLog>,
}

/// One decision, as a door tells it.
#[derive(Debug)]
pub struct Record<'a> {
    /// Which door: `opa`, `forward_auth`, …
    pub door: &'static str,
    /// The decision's name, also sent to the client.
    pub id: DecisionId,
    /// The snapshot it was made with.
    pub snapshot: &'a Snapshot,
    /// The document that was asked.
    pub path: &'a DataPath,
    /// The input that policy saw; `None` when policy was not asked.
    pub input: Option<&'a Value>,
    /// What policy said; `None` when undefined or not asked.
    pub result: Option<&'a Value>,
    /// Why evaluation gave no outcome.
    pub error: Option<&'a EvalError>,
    /// `allow` or `deny`; where another document than the entrypoint was asked, `result` or `undefined`; `error` on the
    /// OPA door; `rejected` when the token was refused.
    pub outcome: &'static str,
    /// `ok` or the stable code of the reason.
    pub reason: &'static str,
    /// Details for the operator, without token bytes.
    pub detail: Option<String>,
    /// Who asked, when verified.
    pub caller: Option<&'a Caller>,
    /// `address:port` of the peer, or `@` on a Unix socket.
    pub requested_by: &'a str,
    /// Number of the HTTP request.
    pub request_number: u64,
    /// How long the token took to verify.
    pub verification: Option<Duration>,
    /// How long policy took to evaluate.
    pub evaluation: Option<Duration>,
    /// From the parsed request to the decision.
    pub total: Duration,
}

impl Telemetry {
    /// Opens the decision log and registers the metrics.
    ///
    /// # Errors
    /// [`LogError`] when the decision log's file cannot be opened.
    pub fn new(settings: DecisionLogSettings, snapshots: Handle, revocations: Arc<Store>) -> Result<Self, LogError> {
        let log = Arc::new(decision_log::DecisionLog::open(settings)?);
        let metrics = Arc::new(Metrics::new(snapshots, Arc::clone(&log), revocations));
        Ok(Self { metrics, log })
    }

    /// Counts one decision and writes its event.
    pub fn decided(&self, record: &Record<'_>) {
        self.metrics.decided(record);
        self.log.write(record);
    }

    /// The metrics, for counters that belong to no decision, and for `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until every decision event is written, for at most `patience`. `false` when time ran out.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        self.log.flush(patience)
    }
}

impl Telemetry {
    /// Opens the decision log's file anew, for log rotation.
    pub fn reopen_decision_log(&self) {
        self.log.reopen();
    }

    /// The labels of every decision event, as configured, with `id` and `version`.
    #[must_use]
    pub fn labels(&self) -> &std::collections::BTreeMap<String, String> {
        self.log.labels()
    }
}

/// RFC 3339 with nanoseconds, UTC.
fn rfc3339(time: std::time::SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}
