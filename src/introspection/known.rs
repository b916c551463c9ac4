//! Answers that still hold. Active and inactive ones are kept apart, so that a flood of made-up tokens pushes out nothing
//! but what it brought. Found by SHA-256 over the whole token; bounded by entries and bytes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use quick_cache::{UnitWeighter, Weighter, sync::Cache};
use tokio::time::Instant;

use super::issuer::Said;
use crate::token::{Caller, Fault, Fingerprint, IssuerProfile, KeySet, TokenError};

/// Most answers of each kind, for one issuer.
const MOST: u64 = 10_000;
/// Estimated size of all active ones.
const MOST_BYTES: u64 = 16 << 20;
/// What an entry takes beside its claims.
const ENTRY_BYTES: u64 = 512;

#[derive(Debug)]
pub(super) struct Known {
    active: Cache<Fingerprint, Active, Weight>,
    inactive: Cache<Fingerprint, Inactive, UnitWeighter>,
    active_ttl: Duration,
    inactive_ttl: Duration,
    is_signed: bool,
}

#[derive(Debug, Clone)]
struct Active {
    said: Said,
    until: Instant,
    /// That a signed answer was checked with: without the key, the answer is nothing.
    keys: Option<Arc<KeySet>>,
}

#[derive(Debug, Clone)]
struct Inactive {
    error: TokenError,
    until: Instant,
}

#[derive(Debug, Clone)]
struct Weight;

// === impl Known ===

impl Known {
    pub(super) fn new(profile: &IssuerProfile) -> Self {
        let settings = profile.introspection();
        let ttl = |of: fn(&crate::token::IntrospectionSettings) -> Duration| settings.map_or(Duration::ZERO, of);
        Self {
            // The estimate sizes a table up front: an issuer that sees ten tokens should not pay for ten thousand.
            active: Cache::with_weighter(256, MOST_BYTES, Weight),
            inactive: Cache::with_weighter(256, MOST, UnitWeighter),
            active_ttl: ttl(|settings| settings.cache_ttl),
            inactive_ttl: ttl(|settings| settings.inactive_ttl),
            is_signed: settings.is_some_and(|settings| settings.signed),
        }
    }

    /// What the issuer said and would still say. Dates are held against `now` each time.
    pub(super) fn get(
        &self,
        fingerprint: &Fingerprint,
        profile: &IssuerProfile,
        keys: Option<&Arc<KeySet>>,
        now: SystemTime,
    ) -> Option<Result<Said, TokenError>> {
        let instant = Instant::now();
        if let Some(entry) = self.active.get(fingerprint) {
            return entry.holds(profile, keys, instant, now).then_some(Ok(entry.said));
        }
        let entry = self.inactive.get(fingerprint)?;
        (instant < entry.until).then_some(Err(entry.error))
    }

    /// Remembers what time alone does not change. Who could not be asked has said nothing.
    pub(super) fn keep(&self, fingerprint: Fingerprint, said: &Result<Said, TokenError>, keys: Option<Arc<KeySet>>) {
        match said {
            Ok(said) if !self.active_ttl.is_zero() => {
                let keys = keys.filter(|_| self.is_signed);
                let until = Instant::now() + self.active_ttl;
                self.active.insert(fingerprint, Active { said: said.clone(), until, keys });
            }
            Err(error) => {
                self.active.remove(&fingerprint);
                if error.fault() == Fault::Token && error.step() != "time" && !self.inactive_ttl.is_zero() {
                    let until = Instant::now() + self.inactive_ttl;
                    self.inactive.insert(fingerprint, Inactive { error: error.clone(), until });
                }
            }
            Ok(_) => {}
        }
    }

    #[cfg(test)]
    pub(super) fn lengths(&self) -> (usize, usize) {
        (self.active.len(), self.inactive.len())
    }
}

// === impl Active ===

impl Active {
    fn holds(&self, profile: &IssuerProfile, keys: Option<&Arc<KeySet>>, instant: Instant, now: SystemTime) -> bool {
        let same_keys = match &self.keys {
            None => true,
            Some(kept) => keys.is_some_and(|keys| Arc::ptr_eq(kept, keys)),
        };
        instant < self.until && same_keys && self.said.claims_hold(profile, now)
    }
}

// === impl Weight ===

impl Weighter<Fingerprint, Active> for Weight {
    fn weight(&self, _: &Fingerprint, entry: &Active) -> u64 {
        let claims = match &entry.said {
            Said::Confirmed => 0,
            Said::Caller(known) => match known.caller() {
                // They are there twice: as they were judged, and as policy sees them.
                Caller::Verified(claims) => 2 * claims.size(),
                Caller::Anonymous => 0,
            },
        };
        (ENTRY_BYTES + claims).max(MOST_BYTES / MOST)
    }
}
