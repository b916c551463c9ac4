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

use crate::token::{AcceptedProof, ProofError, ProofHolder, ProofName, UnixTime};

/// The store; its lock is held for a few look-ups in memory.
#[derive(Debug)]
pub(super) struct Replays {
    places: Mutex<Places>,
    most: usize,
    /// For one key.
    share: usize,
}

#[derive(Debug, Default)]
struct Places {
    seen: HashSet<ProofName>,
    held: HashMap<ProofHolder, usize>,
    /// By the last second in which they would be accepted.
    ends: BTreeMap<i64, Vec<(ProofName, ProofHolder)>>,
}

/// One key may hold this part of the room.
const SHARE: usize = 8;

// === impl Replays ===

impl Replays {
    pub(super) fn new(most: usize) -> Self {
        Self { places: Mutex::default(), most, share: (most / SHARE).max(1) }
    }

    /// Remembers a proof.
    ///
    /// # Errors
    /// It was here before, or there is no room for it.
    pub(super) fn admit(&self, proof: &AcceptedProof, now: UnixTime) -> Result<(), ProofError> {
        // A panic while it was held would have left at worst an entry that nobody counts.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.forget_before(now);
        if places.seen.contains(&proof.name) {
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
        Ok(())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).seen.len()
    }
}

// === impl Places ===

impl Places {
    fn forget_before(&mut self, now: UnixTime) {
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
