//! DPoP proofs that were accepted a moment ago: none counts twice. Only a proof that passed every other check, with a
//! verified token, comes here, so whoever makes keys and proofs of his own can push nothing out.
//!
//! Nothing is ever pushed out before its time. When there is no room, a proof is refused: to accept one that cannot be
//! remembered would let it be repeated. One key gets at most a fixed share of the room, so that one client that floods
//! the gate with good proofs takes it from nobody else.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use crate::{
    telemetry::Gauge,
    token::{AcceptedProof, ProofError, ProofHolder, ProofName, UnixTime},
};

/// The store; its lock is held for a few look-ups in memory.
#[derive(Debug)]
pub(super) struct Replays {
    places: Mutex<Places>,
    most: usize,
    /// For one key.
    share: usize,
    remembered: Gauge,
}

#[derive(Debug, Default)]
struct Places {
    seen: HashSet<ProofName>,
    held: HashMap<ProofHolder, usize>,
    /// By the last second in which they would be accepted.
    ends: BTreeMap<i64, Vec<(ProofName, ProofHolder)>>,
    /// Proofs that ended before this second are forgotten.
    forgotten: i64,
}

/// One key may hold this part of the room.
const SHARE: usize = 8;

// === impl Replays ===

impl Replays {
    pub(super) fn new(most: usize, remembered: Gauge) -> Self {
        Self { places: Mutex::default(), most, share: (most / SHARE).max(1), remembered }
    }

    /// Remembers a proof.
    ///
    /// # Errors
    /// It was here before, or there is no room for it.
    pub(super) fn admit(&self, proof: &AcceptedProof, now: UnixTime) -> Result<(), ProofError> {
        // A panic while it was held would have left at worst an entry that nobody counts.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.forget_before(now);
        // The clock went back, or this request asked it before another one that came here first: whether such a proof was
        // here before is not known any more.
        if proof.last_valid.0 < places.forgotten || places.seen.contains(&proof.name) {
            return Err(ProofError::Replayed);
        }
        if places.seen.len() >= self.most {
            return Err(ProofError::NoRoom);
        }
        let held = places.held.entry(proof.holder).or_default();
        if *held >= self.share {
            return Err(ProofError::ShareUsedUp);
        }
        *held = held.saturating_add(1);
        places.seen.insert(proof.name);
        places.ends.entry(proof.last_valid.0).or_default().push((proof.name, proof.holder));
        self.remembered.set(i64::try_from(places.seen.len()).unwrap_or(i64::MAX));
        Ok(())
    }
}

// === impl Places ===

impl Places {
    fn forget_before(&mut self, now: UnixTime) {
        self.forgotten = self.forgotten.max(now.0);
        while let Some(entry) = self.ends.first_entry().filter(|entry| *entry.key() < now.0) {
            for (name, holder) in entry.remove() {
                self.seen.remove(&name);
                if let Some(held) = self.held.get_mut(&holder) {
                    *held = held.saturating_sub(1);
                    if *held == 0 {
                        self.held.remove(&holder);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{AcceptedProof, ProofHolder, ProofName};

    fn proof(number: u128, holder: u128, last_valid: i64) -> AcceptedProof {
        AcceptedProof {
            name: ProofName(number.to_be_bytes()),
            holder: ProofHolder(holder.to_be_bytes()),
            last_valid: UnixTime(last_valid),
            wants_nonce: false,
        }
    }

    /// Each step: number, holder, last second, now → `ok` or the code.
    fn check(most: usize, steps: &[(u128, u128, i64, i64, &str)]) {
        let replays = Replays::new(most, Gauge::default());
        for step @ (number, holder, last_valid, now, want) in steps {
            let got = replays.admit(&proof(*number, *holder, *last_valid), UnixTime(*now));
            assert_eq!(got.map_or_else(|error| error.code(), |()| "ok"), *want, "{step:?}");
        }
        let places = replays.places.lock().unwrap();
        let ends: usize = places.ends.values().map(Vec::len).sum();
        let held: usize = places.held.values().sum();
        assert_eq!((ends, held), (places.seen.len(), places.seen.len()));
        assert_eq!(replays.remembered.get(), i64::try_from(places.seen.len()).unwrap());
    }

    #[test]
    fn a_proof_counts_once_for_as_long_as_it_would_be_accepted() {
        check(
            100,
            &[
                (1, 1, 160, 100, "ok"),
                (1, 1, 160, 100, "dpop_proof_replayed"),
                (2, 1, 161, 100, "ok"),
                (1, 1, 160, 160, "dpop_proof_replayed"),
                (2, 1, 161, 161, "dpop_proof_replayed"),
                // From here on its own date refuses it before it comes here.
                (1, 1, 221, 161, "ok"),
            ],
        );
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_proof_new() {
        check(
            100,
            &[
                (1, 1, 160, 100, "ok"),
                (2, 1, 161, 161, "ok"),
                // It was forgotten at 161, and would be accepted at 160.
                (1, 1, 160, 160, "dpop_proof_replayed"),
                (2, 1, 161, 160, "dpop_proof_replayed"),
                (3, 1, 161, 160, "ok"),
            ],
        );
    }

    #[test]
    fn a_full_store_refuses_and_forgets_nothing() {
        let mut steps: Vec<_> = (0..16).map(|number| (number, number, 160, 100, "ok")).collect();
        steps.push((99, 99, 160, 100, "dpop_replay_store_full"));
        steps.extend((0..16).map(|number| (number, number, 160, 160, "dpop_proof_replayed")));
        steps.push((99, 99, 221, 161, "ok"));
        check(16, &steps);
    }

    #[test]
    fn one_key_takes_no_more_than_its_share() {
        check(
            16,
            &[
                (1, 7, 160, 100, "ok"),
                (2, 7, 160, 100, "ok"),
                (3, 7, 160, 100, "dpop_replay_share_used_up"),
                (4, 8, 160, 100, "ok"),
                (3, 7, 221, 161, "ok"),
            ],
        );
    }
}
