//! Key ids that an issuer was just seen not to have: a token that names one of them again causes no fetch.
//!
//! One that is named again and again is not looked for ever more often: the time doubles, from one cooldown on, so that a
//! key which comes into being is still found within one cooldown of the first token that names it. Bounded; time is an
//! argument.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::token::WantedKey;

/// More are not remembered: their tokens fall back to one fetch per cooldown for all of them.
const MOST: usize = 1024;
/// Longest time for which a key id is taken as unknown, unless the cooldown is longer.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Key ids that are not there.
#[derive(Debug, Default)]
pub(super) struct UnknownKeys {
    entries: HashMap<WantedKey, Entry>,
}

#[derive(Debug)]
struct Entry {
    until: Instant,
    wait: Duration,
}

impl UnknownKeys {
    /// Was it not there a moment ago?
    pub(super) fn holds(&self, key: WantedKey, now: Instant) -> bool {
        self.entries.get(&key).is_some_and(|entry| now < entry.until)
    }

    /// A fetch that succeeded just now did not bring it.
    pub(super) fn note(&mut self, key: WantedKey, now: Instant, cooldown: Duration) {
        let longest = LONGEST.max(cooldown);
        if self.entries.len() >= MOST && !self.entries.contains_key(&key) {
            self.entries.retain(|_, entry| now < entry.until);
            if self.entries.len() >= MOST {
                return;
            }
        }
        let before = self.entries.get(&key).filter(|entry| now < entry.until + longest).map(|entry| entry.wait);
        let wait = before.map_or(cooldown, |wait| wait.saturating_mul(2).min(longest));
        self.entries.insert(key, Entry { until: now + wait, wait });
    }

    /// It is there.
    pub(super) fn forget(&mut self, key: WantedKey) {
        self.entries.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_key_that_stays_unknown_is_looked_for_ever_less_often_and_others_are_not_held_up() {
        let mut unknown = UnknownKeys::default();
        let (bad, other) = (WantedKey::named("bad"), WantedKey::named("other"));
        let mut now = Instant::now();
        for wait in [30_u32, 60, 120, 240, 300, 300] {
            unknown.note(bad, now, SECOND * 30);
            assert!(unknown.holds(bad, now + SECOND * wait - SECOND / 2), "{wait}");
            now += SECOND * wait;
            assert!(!unknown.holds(bad, now), "{wait}");
            assert!(!unknown.holds(other, now));
        }
        now += LONGEST + SECOND;
        unknown.note(bad, now, SECOND * 30);
        assert!(!unknown.holds(bad, now + SECOND * 30), "after a long time it begins anew");
        unknown.note(other, now, SECOND * 30);
        unknown.forget(other);
        assert!(!unknown.holds(other, now));
    }

    #[test]
    fn a_cooldown_above_the_longest_time_holds() {
        let mut unknown = UnknownKeys::default();
        let (key, now) = (WantedKey::named("bad"), Instant::now());
        for _ in 0..3 {
            unknown.note(key, now, SECOND * 3600);
            assert!(unknown.holds(key, now + SECOND * 3599) && !unknown.holds(key, now + SECOND * 3600));
        }
    }

    #[test]
    fn no_more_are_remembered_than_a_bound_and_old_ones_make_room() {
        let mut unknown = UnknownKeys::default();
        let now = Instant::now();
        let named = |n: usize| WantedKey::named(&n.to_string());
        for n in 0..MOST + 500 {
            unknown.note(named(n), now, SECOND);
        }
        assert_eq!(unknown.entries.len(), MOST);
        assert!(unknown.holds(named(0), now) && !unknown.holds(named(MOST), now));
        unknown.note(named(MOST), now + SECOND * 2, SECOND);
        assert!(unknown.holds(named(MOST), now + SECOND * 2));
        assert_eq!(unknown.entries.len(), 1);
    }
}
