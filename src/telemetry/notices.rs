//! What is counted about things that issuers say after a token was issued: events that were pushed, and status lists that
//! were fetched. Labels come from closed lists.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Status lists.
#[derive(Debug, Clone, Default)]
pub struct StatusListMetrics {
    fetches: Family<ResultLabels, Counter>,
    lists: Gauge,
    bytes: Gauge,
}

/// Logout tokens and security event tokens.
#[derive(Debug, Clone, Default)]
pub struct EventMetrics {
    events: Family<EventLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
    result: &'static str,
}

// === impl StatusListMetrics ===

impl StatusListMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "status_list_fetches",
            "Fetches of token status lists, by result: `ok`, or the code of what was wrong",
            metrics.fetches.clone(),
        );
        registry.register("status_lists", "Token status lists at hand", metrics.lists.clone());
        registry.register_with_unit("status_lists", "What they take, unpacked", Unit::Bytes, metrics.bytes.clone());
        metrics
    }

    /// One fetch ended. `result` is `ok` or a stable code.
    pub fn fetched(&self, result: &'static str) {
        self.fetches.get_or_create(&ResultLabels { result }).inc();
    }

    /// What is held now.
    pub fn holds(&self, lists: usize, bytes: usize) {
        self.lists.set(i64::try_from(lists).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

// === impl EventMetrics ===

impl EventMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "issuer_events",
            "Logout tokens and security event tokens, by event and result: `revoked`, `nothing_to_do`, `repeated`, \
             `refused`, `unavailable`; the event of one that was refused is `none`",
            metrics.events.clone(),
        );
        metrics
    }

    /// One statement was received. Both are stable words.
    pub fn received(&self, event: &'static str, result: &'static str) {
        self.events.get_or_create(&EventLabels { event, result }).inc();
    }
}
