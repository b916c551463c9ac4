//! What introspection counts, by issuer: questions and their results, what memory answered, the breaker, time. Issuers come
//! from the configuration and results from a closed list.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// All issuers.
#[derive(Debug, Clone)]
pub struct IntrospectionMetrics {
    questions: Family<ResultLabels, Counter>,
    recalled: Family<KeptLabels, Counter>,
    breaker: Family<IssuerLabels, Gauge>,
    in_flight: Family<IssuerLabels, Gauge>,
    seconds: Family<IssuerLabels, Histogram, fn() -> Histogram>,
}

/// One issuer.
#[derive(Debug, Clone)]
pub struct IntrospectionCounts {
    issuer: String,
    all: IntrospectionMetrics,
    active: Counter,
    inactive: Counter,
    breaker: Gauge,
    in_flight: Gauge,
    seconds: Histogram,
}

/// What memory held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// An active answer.
    Active,
    /// Another.
    Inactive,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    issuer: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeptLabels {
    issuer: String,
    answer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

/// Seconds that a question to another machine takes.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

// === impl IntrospectionMetrics ===

impl IntrospectionMetrics {
    /// Registers them.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            questions: Family::default(),
            recalled: Family::default(),
            breaker: Family::default(),
            in_flight: Family::default(),
            seconds: Family::new_with_constructor(histogram),
        };
        registry.register(
            "introspection_requests",
            "Questions to issuers about tokens, by result: `active`, `inactive`, `refused`, or what kept the issuer from \
             answering; `busy` and `circuit_open` were not sent",
            metrics.questions.clone(),
        );
        registry.register(
            "introspection_cache_hits",
            "Tokens about which an answer that still holds was at hand",
            metrics.recalled.clone(),
        );
        registry.register(
            "introspection_breaker_state",
            "0: the issuer is asked; 1: one question probes it; 2: it is given a rest",
            metrics.breaker.clone(),
        );
        registry.register("introspection_in_flight", "Questions under way", metrics.in_flight.clone());
        registry.register_with_unit(
            "introspection",
            "Time until an issuer answered, or failed to",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }

    /// The counts of one issuer.
    #[must_use]
    pub fn of(&self, issuer: &str) -> IntrospectionCounts {
        let labels = IssuerLabels { issuer: issuer.to_owned() };
        let kept = |answer| KeptLabels { issuer: issuer.to_owned(), answer };
        let counts = IntrospectionCounts {
            issuer: issuer.to_owned(),
            active: self.recalled.get_or_create_owned(&kept("active")),
            inactive: self.recalled.get_or_create_owned(&kept("inactive")),
            breaker: self.breaker.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            seconds: self.seconds.get_or_create_owned(&labels),
            all: self.clone(),
        };
        counts.breaker.set(0);
        counts
    }
}

// === impl IntrospectionCounts ===

impl IntrospectionCounts {
    /// For tests of those who count.
    #[cfg(test)]
    pub(crate) fn unregistered(issuer: &str) -> Self {
        IntrospectionMetrics::register(&mut Registry::default()).of(issuer)
    }

    /// A question began.
    pub fn began(&self) {
        self.in_flight.inc();
    }

    /// A question ended, however.
    pub fn ended(&self) {
        self.in_flight.dec();
    }

    /// A question had this result; `took` is `None` when it was not sent.
    pub fn answered(&self, result: &'static str, took: Option<Duration>) {
        self.all.questions.get_or_create(&ResultLabels { issuer: self.issuer.clone(), result }).inc();
        if let Some(took) = took {
            self.seconds.observe(took.as_secs_f64());
        }
    }

    /// Memory answered.
    pub fn recalled(&self, kept: Kept) {
        match kept {
            Kept::Active => self.active.inc(),
            Kept::Inactive => self.inactive.inc(),
        };
    }

    /// The breaker's state.
    pub fn breaker(&self, level: i64) {
        self.breaker.set(level);
    }
}
