//! Revocations in the metrics: how many there are, by kind and by where they came from, and how their journal fares. Read
//! when somebody scrapes. Tokens that they refused are counted where all refused tokens are.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::{revocation::Store, snapshot::Handle, token::RevocationKind};

#[derive(Debug)]
pub(super) struct RevocationCollector {
    pub(super) snapshots: Handle,
    pub(super) store: Arc<Store>,
}

impl Collector for RevocationCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let report = self.store.report();
        let in_file = Arc::clone(&self.snapshots.current().revocations);
        let help = "Revocations in effect, by kind, and by whether they were received or stand in the watched file";
        let mut entries = encoder.encode_descriptor("claimgate_revocations", help, None, MetricType::Gauge)?;
        for kind in RevocationKind::ALL {
            let received = report.entries.get(kind.as_str()).copied().unwrap_or_default();
            for (from, count) in [("received", received), ("file", in_file.count(kind))] {
                let labels = [("kind", kind.as_str()), ("from", from)];
                ConstGauge::new(amount(count)).encode(entries.encode_family(&labels)?)?;
            }
        }
        let bytes = ConstGauge::new(amount(report.bytes + in_file.bytes()));
        let help = "Memory of all revocations";
        bytes.encode(encoder.encode_descriptor("claimgate_revocations_bytes", help, None, MetricType::Gauge)?)?;
        let Some(journal) = report.journal else { return Ok(()) };
        let size = ConstGauge::new(i64::try_from(journal.bytes).unwrap_or(i64::MAX));
        let help = "Size of the journal of revocations";
        size.encode(encoder.encode_descriptor("claimgate_revocation_journal_bytes", help, None, MetricType::Gauge)?)?;
        let errors = ConstCounter::new(journal.errors);
        let help = "Failed writes of the journal of revocations";
        errors.encode(encoder.encode_descriptor(
            "claimgate_revocation_journal_errors",
            help,
            None,
            MetricType::Counter,
        )?)
    }
}

fn amount(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
