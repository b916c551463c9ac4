//! A `kid` of a token that was not among the keys, as something small and of fixed size that can be remembered: what a
//! client wrote is kept nowhere.

use std::fmt;

use aws_lc_rs::digest;

/// Stands for one `kid`: the first 128 bits of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WantedKey([u8; 16]);

impl WantedKey {
    /// That of this `kid`.
    #[must_use]
    pub fn named(key_id: &str) -> Self {
        let mut prefix = [0; 16];
        for (to, from) in prefix.iter_mut().zip(digest::digest(&digest::SHA256, key_id.as_bytes()).as_ref()) {
            *to = *from;
        }
        Self(prefix)
    }
}

impl fmt::Debug for WantedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WantedKey")
    }
}
