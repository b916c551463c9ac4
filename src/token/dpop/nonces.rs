//! Nonces for DPoP proofs (RFC 9449 §8) without a store: each is a keyed hash of the period of time that it was made
//! in. The newest and the one before are accepted, whoever got them; a nonce says when a proof was made, not by whom.

use std::{fmt, time::Duration};

use aws_lc_rs::{constant_time, hmac};

use crate::token::{compact::encode_base64url, time, time::UnixTime};

/// The key of one run of the program: nonces of another run, or of another instance, are unknown.
pub struct Nonces {
    key: hmac::Key,
    period: i64,
}

/// 128 bits: 22 characters.
const LENGTH: usize = 16;

// === impl Nonces ===

impl Nonces {
    /// `secret` is fresh and random; each nonce is accepted for one to two periods.
    #[must_use]
    pub fn new(secret: &[u8; 32], period: Duration) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), period: time::seconds(period).max(1) }
    }

    /// The nonce to hand out.
    #[must_use]
    pub fn current(&self, now: UnixTime) -> String {
        self.of(now.0.div_euclid(self.period))
    }

    /// Is it the previous nonce (`true`) or the newest one (`false`)? `None`: neither.
    pub(super) fn is_previous(&self, nonce: &str, now: UnixTime) -> Option<bool> {
        let period = now.0.div_euclid(self.period);
        let is = |period| constant_time::verify_slices_are_equal(self.of(period).as_bytes(), nonce.as_bytes()).is_ok();
        if is(period) {
            return Some(false);
        }
        is(period.saturating_sub(1)).then_some(true)
    }

    fn of(&self, period: i64) -> String {
        let tag = hmac::sign(&self.key, &period.to_be_bytes());
        encode_base64url(tag.as_ref().get(..LENGTH).unwrap_or_default())
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("period", &self.period).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_one_to_two_periods() {
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(60));
        let nonce = nonces.current(UnixTime(600));
        for (now, want) in
            [(599, None), (600, Some(false)), (659, Some(false)), (660, Some(true)), (719, Some(true)), (720, None)]
        {
            assert_eq!(nonces.is_previous(&nonce, UnixTime(now)), want, "{now}");
        }
        assert_eq!(nonce.len(), 22);
        assert_ne!(nonce, Nonces::new(&[8; 32], Duration::from_secs(60)).current(UnixTime(600)), "of another run");
        for other in ["", "A", &nonce.to_lowercase(), &format!("{nonce}A")] {
            assert_eq!(nonces.is_previous(other, UnixTime(600)), None, "{other}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Nonces::new(&[7; 32], Duration::ZERO)), "Nonces { period: 1, .. }");
    }
}
