//! What `token lint` says about the tokens that really come: as metrics and, where it is wanted, in the log. It refuses
//! nothing, and it does not look at every token: what an issuer puts into its tokens shows in any of them, so one in a
//! second is enough, and no request pays for more than one.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    telemetry::Metrics,
    token::{self, LintLimits, RawToken, Rule},
};

/// What becomes of what the rules find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenLint {
    /// Nothing is looked at.
    Off,
    /// It is counted by issuer and rule.
    #[default]
    Metrics,
    /// It is counted, and told in the log: each rule once an hour for each issuer.
    Warn,
}

/// Takes the samples.
#[derive(Debug)]
pub(super) struct Hygiene {
    mode: TokenLint,
    began: Instant,
    /// Milliseconds after `began` from which on the next token is looked at.
    due: AtomicU64,
    told: Mutex<BTreeMap<(String, &'static str), Instant>>,
}

/// Between two samples, whoever issued them.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two warnings of one rule about one issuer.
const SILENCE: Duration = Duration::from_secs(60 * 60);

impl Hygiene {
    pub(super) fn new(mode: TokenLint) -> Self {
        Self { mode, began: Instant::now(), due: AtomicU64::new(0), told: Mutex::default() }
    }

    /// Looks at a verified token of `issuer`, a configured one, if it is time for another.
    pub(super) fn look(&self, issuer: &str, raw: &RawToken, metrics: &Metrics) {
        if self.mode == TokenLint::Off {
            return;
        }
        let now = millis(self.began.elapsed());
        let due = self.due.load(Ordering::Relaxed);
        let next = now.saturating_add(millis(INTERVAL));
        // Whoever comes second finds it done.
        if now < due || self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let report = token::lint(raw, LintLimits::default());
        if report.findings.iter().any(|finding| finding.rule.id == Rule::NOT_A_TOKEN_ID) {
            // An opaque token, which its issuer vouched for: there is nothing in it.
            return;
        }
        metrics.token_looked_at(issuer);
        for finding in &report.findings {
            metrics.token_found_unwise(issuer, finding.rule.id);
            if self.mode == TokenLint::Warn && self.is_news(issuer, finding.rule) {
                let (rule, place, detail) = (finding.rule.id, &finding.place, &finding.detail);
                tracing::warn!(issuer, rule, place, detail, instead = finding.rule.instead, "{}", finding.rule.why);
            }
        }
    }

    /// Issuers are those of the configuration and rules a closed list, so this does not grow without end.
    fn is_news(&self, issuer: &str, rule: &Rule) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_news =
            told.get(&(issuer.to_owned(), rule.id)).is_none_or(|last| now.saturating_duration_since(*last) >= SILENCE);
        if is_news {
            told.insert((issuer.to_owned(), rule.id), now);
        }
        is_news
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
