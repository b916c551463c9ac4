//! A circuit breaker: after some failures in a row an endpoint is given a rest, then one question probes it, and each probe
//! that fails doubles the rest. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const THRESHOLD: u32 = 5;
/// The first rest and the longest.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    rest: Duration,
    next_probe: Instant,
    is_probing: bool,
}

/// May a question be asked?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// As always.
    Usual,
    /// It decides whether the circuit closes.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    HalfOpen,
    Open,
}

// === impl Breaker ===

impl Breaker {
    /// `None`: not now. A probe that never ends is followed by another after one more rest.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Pass> {
        let Some(open) = &mut self.open else { return Some(Pass::Usual) };
        if now < open.next_probe {
            return None;
        }
        open.next_probe = now + open.rest;
        open.is_probing = true;
        Some(Pass::Probe)
    }

    /// The endpoint answered. `true`: the circuit was open and is closed now.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// The endpoint failed. `Some` with the rest: the circuit was closed and is open now. `jitter` is 0 to 1.
    pub(super) fn failed(&mut self, pass: Pass, now: Instant, jitter: f64) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let spread = |rest: Duration| rest.mul_f64(1.0 + 0.25 * jitter);
        match &mut self.open {
            Some(open) if pass == Pass::Probe => {
                open.rest = open.rest.saturating_mul(2).min(REST.1);
                open.next_probe = now + spread(open.rest);
                open.is_probing = false;
                None
            }
            // It was asked before the circuit opened.
            Some(_) => None,
            None if self.failures >= THRESHOLD => {
                let (rest, next_probe) = (REST.0, now + spread(REST.0));
                self.open = Some(Open { rest, next_probe, is_probing: false });
                Some(rest)
            }
            None => None,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn state(&self) -> State {
        match &self.open {
            None => State::Closed,
            Some(open) if open.is_probing => State::HalfOpen,
            Some(_) => State::Open,
        }
    }
}

// === impl State ===

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The metric's value.
    pub(super) fn level(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_probes_after_growing_rests() {
        let (start, mut breaker) = (Instant::now(), Breaker::default());
        for _ in 0..THRESHOLD - 1 {
            assert_eq!(breaker.failed(Pass::Usual, start, 0.0), None);
        }
        assert!(!breaker.succeeded());
        for _ in 0..THRESHOLD - 1 {
            assert_eq!(breaker.failed(Pass::Usual, start, 0.0), None);
        }
        assert_eq!(breaker.admit(start), Some(Pass::Usual));
        assert_eq!(breaker.failed(Pass::Usual, start, 0.0), Some(REST.0));
        assert_eq!(breaker.state(), State::Open);
        // Answers to what was asked before count for nothing, unless they are good.
        assert_eq!(breaker.failed(Pass::Usual, start, 0.0), None);

        let mut now = 0;
        for rest in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(breaker.admit(at(start, now + rest - 1)), None, "{rest}");
            now += rest;
            assert_eq!(breaker.admit(at(start, now)), Some(Pass::Probe), "{rest}");
            assert_eq!(breaker.state(), State::HalfOpen);
            assert_eq!(breaker.admit(at(start, now)), None, "one probe at a time");
            assert_eq!(breaker.failed(Pass::Probe, at(start, now), 0.0), None);
            assert_eq!(breaker.state(), State::Open);
        }
        assert_eq!(breaker.admit(at(start, now + 60_000)), Some(Pass::Probe));
        assert!(breaker.succeeded());
        assert_eq!((breaker.state(), breaker.failures()), (State::Closed, 0));
        assert_eq!(breaker.admit(at(start, now)), Some(Pass::Usual));
    }

    #[test]
    fn a_probe_that_never_ends_does_not_keep_it_open_for_ever() {
        let (start, mut breaker) = (Instant::now(), Breaker::default());
        for _ in 0..THRESHOLD {
            breaker.failed(Pass::Usual, start, 1.0);
        }
        assert_eq!(breaker.admit(at(start, 1_249)), None, "the jitter counts");
        assert_eq!(breaker.admit(at(start, 1_250)), Some(Pass::Probe));
        assert_eq!(breaker.admit(at(start, 2_249)), None);
        assert_eq!(breaker.admit(at(start, 2_250)), Some(Pass::Probe));
    }

    proptest! {
        #[test]
        fn while_it_is_open_there_is_at_most_one_question_in_each_rest(steps in proptest::collection::vec((0_u64..3_000, any::<bool>()), 1..80)) {
            let (start, mut breaker, mut now) = (Instant::now(), Breaker::default(), 0);
            for _ in 0..THRESHOLD { breaker.failed(Pass::Usual, start, 0.0); }
            let mut last_probe = None;
            for (wait, good) in steps {
                now += wait;
                if let Some(pass) = breaker.admit(at(start, now)) {
                    if pass == Pass::Probe {
                        prop_assert!(last_probe.is_none_or(|last| now - last >= 1_000));
                        last_probe = Some(now);
                    }
                    if good { breaker.succeeded(); last_probe = None; } else { breaker.failed(pass, at(start, now), 0.0); }
                }
            }
        }
    }
}
