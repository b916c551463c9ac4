//! What is known about the keys of each issuer, as metrics. Issuers are those of the configuration, and reasons are a
//! closed list, so that neither can grow by what clients send.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::count;
use crate::snapshot::{KeyHealth, KeysFrom};

/// Reads one number of an issuer; `None`: there is none to tell.
type Gauge = fn(&KeyHealth, f64) -> Option<f64>;
/// Reads counts of an issuer with the value of their label.
type Counts = fn(&KeyHealth) -> Vec<(&'static str, u64)>;

const GAUGES: [(&str, &str, Gauge); 5] = [
    ("claimgate_jwks_keys", "Usable keys by issuer", |keys, _| keys.keys.map(count)),
    ("claimgate_jwks_age_seconds", "Time since an issuer's keys were last seen to be right", |keys, now| {
        keys.last_success.and_then(|at| u32::try_from(at).ok()).map(|at| (now - f64::from(at)).max(0.0))
    }),
    ("claimgate_jwks_generation", "How often an issuer's keys were replaced since start", |keys, _| {
        u32::try_from(keys.generation).ok().map(f64::from)
    }),
    ("claimgate_jwks_failing", "1 while the newest attempt to have an issuer's keys failed", |keys, _| {
        Some(if keys.last_error.is_some() { 1.0 } else { 0.0 })
    }),
    ("claimgate_jwks_from_disk", "1 while an issuer's keys are those that were kept on disk", |keys, _| {
        keys.source.map(|source| if source == KeysFrom::Disk { 1.0 } else { 0.0 })
    }),
];

const COUNTERS: [(&str, &str, Counts); 2] = [
    ("claimgate_jwks_fetches", "Fetches of an issuer's keys, by result", |keys| {
        vec![("success", keys.fetches), ("failure", keys.fetch_failures)]
    }),
    (
        "claimgate_jwks_forced_refreshes",
        "Requests for an unknown key id: fetched, suppressed by the cooldown, or known not to be there (negative)",
        |keys| {
            vec![
                ("fetched", keys.forced_refreshes),
                ("suppressed", keys.suppressed_refreshes),
                ("negative", keys.negative_hits),
            ]
        },
    ),
];

/// Writes them all; nothing when no issuer is configured.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    issuers: &BTreeMap<String, KeyHealth>,
    now: f64,
) -> Result<(), fmt::Error> {
    if issuers.is_empty() {
        return Ok(());
    }
    for (name, help, read) in GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (issuer, keys) in issuers {
            if let Some(value) = read(keys, now) {
                let labels = [("issuer", issuer.as_str())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    for (name, help, read) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (issuer, keys) in issuers {
            for (result, total) in read(keys) {
                let labels = [("issuer", issuer.as_str()), ("result", result)];
                ConstCounter::new(total).encode(family.encode_family(&labels)?)?;
            }
        }
    }
    if issuers.values().all(|keys| keys.dropped.is_empty()) {
        return Ok(());
    }
    let help = "Keys of an issuer that are not used, by reason";
    let mut family = encoder.encode_descriptor("claimgate_jwks_dropped_keys", help, None, MetricType::Gauge)?;
    for (issuer, keys) in issuers {
        for (reason, dropped) in &keys.dropped {
            let labels = [("issuer", issuer.as_str()), ("reason", reason.as_str())];
            ConstGauge::new(count(*dropped)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
