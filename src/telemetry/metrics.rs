//! Metrics in Prometheus' text form: decisions by outcome and reason, verification failures by reason, latency, and,
//! read at scrape time, what the snapshot channel knows (reloads, ages, revisions, keys).
//!
//! Label values come from closed lists or from the configuration, never from a request, so a client cannot grow them.

mod keys;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;

use super::{
    Record,
    decision_log::DecisionLog,
    introspection::IntrospectionMetrics,
    notices::{EventMetrics, StatusListMetrics},
    revocations::RevocationCollector,
};
use crate::{revocation::Store, snapshot::Handle};

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    verification_failures: Family<ReasonLabels, Counter>,
    evaluation: Histogram,
    verification: Histogram,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    refused: Family<ReasonLabels, Counter>,
    connections: Gauge,
    token_cache: (Counter, Counter),
    lint_samples: Family<IssuerLabels, Counter>,
    lint_findings: Family<LintLabels, Counter>,
    dpop_proofs: Gauge,
    introspection: IntrospectionMetrics,
    status_lists: StatusListMetrics,
    events: EventMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    door: &'static str,
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Configured issuers only: a token is looked at after it verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LintLabels {
    issuer: String,
    rule: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
    handler: &'static str,
    method: &'static str,
}

/// Reads the snapshot channel when somebody scrapes.
#[derive(Debug)]
struct WorldCollector {
    snapshots: Handle,
    log: Arc<DecisionLog>,
}

/// 1 µs … 1 s, the buckets of OPA's `http_request_duration_seconds` with three more in the range that matters here.
const SECONDS: [f64; 13] = [1e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.1, 1.0];

fn seconds_histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub(super) fn new(snapshots: Handle, log: Arc<DecisionLog>, revocations: Arc<Store>) -> Self {
        let mut registry = Registry::default();
        let decisions = Family::default();
        let verification_failures = Family::default();
        let evaluation = seconds_histogram();
        let verification = seconds_histogram();
        let histogram: fn() -> Histogram = seconds_histogram;
        let requests = Family::new_with_constructor(histogram);
        let refused = Family::default();
        let connections = Gauge::default();
        let token_cache = (Counter::default(), Counter::default());
        let dpop_proofs = Gauge::default();
        registry.register_with_unit(
            "http_request_duration",
            "HTTP requests by handler, method and status code, as OPA names them",
            Unit::Seconds,
            requests.clone(),
        );
        let ours = registry.sub_registry_with_prefix("claimgate");
        ours.register("decisions", "Decisions by door, outcome and reason", decisions.clone());
        ours.register(
            "token_verification_failures",
            "Tokens that were refused, by reason",
            verification_failures.clone(),
        );
        ours.register(
            "requests_refused",
            "Requests refused before any decision, by reason: malformed, too large, too slow, reserved input key",
            refused.clone(),
        );
        ours.register_with_unit("evaluation", "Time to evaluate policy", Unit::Seconds, evaluation.clone());
        ours.register_with_unit("token_verification", "Time to verify a token", Unit::Seconds, verification.clone());
        ours.register("connections", "Open client connections", connections.clone());
        ours.register("token_cache_hits", "Tokens that were verified before and still hold", token_cache.0.clone());
        let lint_samples = Family::default();
        let lint_findings = Family::default();
        ours.register("token_lint_samples", "Tokens that the lint rules looked at, by issuer", lint_samples.clone());
        ours.register("token_lint_findings", "What they found, by issuer and rule", lint_findings.clone());
        ours.register("token_cache_misses", "Tokens that were verified in full", token_cache.1.clone());
        ours.register("dpop_proofs", "DPoP proofs that are remembered, so that none counts twice", dpop_proofs.clone());
        let introspection = IntrospectionMetrics::register(ours);
        let status_lists = StatusListMetrics::register(ours);
        let events = EventMetrics::register(ours);
        let revocations = RevocationCollector { snapshots: snapshots.clone(), store: revocations };
        registry.register_collector(Box::new(revocations));
        registry.register_collector(Box::new(WorldCollector { snapshots, log }));
        Self {
            registry,
            decisions,
            verification_failures,
            evaluation,
            verification,
            requests,
            refused,
            connections,
            token_cache,
            lint_samples,
            lint_findings,
            dpop_proofs,
            introspection,
            status_lists,
            events,
        }
    }

    pub(super) fn decided(&self, record: &Record<'_>) {
        self.decisions
            .get_or_create(&DecisionLabels { door: record.door, outcome: record.outcome, reason: record.reason })
            .inc();
        if let Some(took) = record.evaluation {
            self.evaluation.observe(took.as_secs_f64());
        }
        if let Some(took) = record.verification {
            self.verification.observe(took.as_secs_f64());
        }
    }

    /// A token was refused. `reason` is a `TokenError` code.
    pub fn verification_failed(&self, reason: &'static str) {
        self.verification_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// The lint rules looked at a token of a configured issuer.
    pub fn token_looked_at(&self, issuer: &str) {
        self.lint_samples.get_or_create(&IssuerLabels { issuer: issuer.to_owned() }).inc();
    }

    /// A lint rule found something in it.
    pub fn token_found_unwise(&self, issuer: &str, rule: &'static str) {
        self.lint_findings.get_or_create(&LintLabels { issuer: issuer.to_owned(), rule }).inc();
    }

    /// Hits and misses of the cache of verified tokens, for the one who holds that cache.
    #[must_use]
    pub fn token_cache(&self) -> (Counter, Counter) {
        self.token_cache.clone()
    }

    /// How many DPoP proofs are remembered, for the one who remembers them.
    #[must_use]
    pub fn dpop_proofs(&self) -> Gauge {
        self.dpop_proofs.clone()
    }

    /// The counts of introspection, for the one who asks.
    #[must_use]
    pub fn introspection(&self) -> IntrospectionMetrics {
        self.introspection.clone()
    }

    /// The counts of status lists, for the one who holds them.
    #[must_use]
    pub fn status_lists(&self) -> StatusListMetrics {
        self.status_lists.clone()
    }

    /// The counts of what issuers push, for the door that takes it.
    #[must_use]
    pub fn events(&self) -> EventMetrics {
        self.events.clone()
    }

    /// A request was refused before any decision: malformed, too large, too slow. `reason` is a stable code.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// One HTTP request was answered. `handler` is one of a closed list: `v1/data`, `health`, …
    pub fn answered(&self, handler: &'static str, method: &'static str, code: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { code, handler, method }).observe(took.as_secs_f64());
    }

    /// A client connected; the guard counts it until it is dropped.
    #[must_use]
    pub fn connected(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }

    /// The text exposition (`application/openmetrics-text; version=1.0.0`).
    ///
    /// # Errors
    /// Never in practice: the formatter's own error.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(8 * 1024);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Counts one open connection.
#[derive(Debug)]
pub struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl WorldCollector ===

impl Collector for WorldCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.snapshots.current();
        let health = self.snapshots.health();
        let now = unix_seconds(SystemTime::now());

        gauge(
            &mut encoder,
            "claimgate_build_info",
            "The running build",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        )?;
        gauge(
            &mut encoder,
            "claimgate_snapshot_info",
            "The snapshot that serves now",
            &[("revision", &snapshot.revision)],
            1.0,
        )?;
        let activated = unix_seconds(snapshot.activated_at);
        gauge(
            &mut encoder,
            "claimgate_snapshot_age_seconds",
            "Age of the snapshot that serves now",
            &[],
            (now - activated).max(0.0),
        )?;
        counter_by(
            &mut encoder,
            "claimgate_reloads",
            "Attempts to load policies, data and configuration, by result",
            "result",
            &[("success", health.reloads), ("failure", health.reload_failures)],
        )?;
        gauge(
            &mut encoder,
            "claimgate_reload_problems",
            "Problems of the newest attempt; not 0 while an older snapshot serves",
            &[],
            count(health.errors.len()),
        )?;
        if !snapshot.policies.bundles().is_empty() {
            let mut family = encoder.encode_descriptor(
                "claimgate_bundle_info",
                "Active bundles",
                None,
                prometheus_client::metrics::MetricType::Gauge,
            )?;
            for bundle in snapshot.policies.bundles() {
                let labels = [("name", bundle.name.as_str()), ("revision", bundle.revision.as_str())];
                ConstGauge::new(1i64).encode(family.encode_family(&labels)?)?;
            }
        }
        keys::encode(&mut encoder, &health.keys, now)?;
        let dropped = ConstCounter::new(self.log.dropped());
        dropped.encode(encoder.encode_descriptor(
            "claimgate_decision_log_dropped",
            "Decision events lost because the queue was full",
            None,
            dropped.metric_type(),
        )?)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    labels: &[(&str, &str)],
    value: f64,
) -> Result<(), fmt::Error> {
    let metric = ConstGauge::new(value);
    let mut family = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    if labels.is_empty() { metric.encode(family) } else { metric.encode(family.encode_family(&labels)?) }
}

fn counter_by(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&str, u64)],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Counter)?;
    for (value, total) in values {
        let labels = [(label, *value)];
        ConstCounter::new(*total).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from)
}
