//! The set of entries in memory: one table for each kind, keyed by a keyed 128-bit hash of what an entry names.
//!
//! The hash is SipHash-2-4 with 128 bits of output under a key that no one outside the process knows, so nobody can look
//! for two names that collide; among a million entries a chance hit has a probability of 2^-108 for each lookup. The
//! names themselves are not kept.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState},
    time::Duration,
};

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::{Revocation, RevocationKind, Revocations, Revoked, Target};
use crate::token::{claims::VerifiedClaims, time::UnixTime};

/// The secret of the hash.
#[derive(Clone, Copy)]
pub struct RevocationKey(u64, u64);

/// What an entry names, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationDigest([u32; 4]);

/// What the entries of one name say together. Seconds since the epoch in 32 bits, which end in 2106.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Tokens issued up to here are refused; [`Mark::ALWAYS`]: all.
    pub epoch: u32,
    /// Entries without an end of their own count from here; 0: there is none.
    pub since: u32,
    /// The last end that was given; 0: none was, [`Mark::NEVER`]: there is none.
    pub until: u32,
}

/// Entries by kind and name.
#[derive(Debug, Clone)]
pub struct RevocationSet {
    key: RevocationKey,
    tables: [Table; RevocationKind::ALL.len()],
}

/// A hash under way: an issuer is in it, and a kind and a value are still to come.
struct IssuerPart(SipHasher24);

type Table = HashMap<RevocationDigest, Mark, BuildHasherDefault<AlreadyHashed>>;

/// A digest is a hash: its first half is used as it is.
#[derive(Debug, Default)]
pub(super) struct AlreadyHashed(u64);

/// What the table takes for one entry: its slot and a control byte.
const SLOT_BYTES: usize = size_of::<(RevocationDigest, Mark)>() + 1;

// === impl RevocationKey ===

impl RevocationKey {
    /// A fresh key, from the 128 random bits of the operating system that std seeds its own tables with.
    #[must_use]
    pub fn random() -> Self {
        let state = RandomState::new();
        Self(state.hash_one(0_u8), state.hash_one(1_u8))
    }

    /// The digest of a name. Its parts are told apart by their lengths.
    #[must_use]
    pub fn digest(&self, kind: RevocationKind, issuer: &str, value: &str) -> RevocationDigest {
        self.issuer(issuer).digest(kind, value)
    }

    /// The part of digests that names of one issuer share.
    fn issuer(&self, issuer: &str) -> IssuerPart {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        hasher.write_u64(issuer.len() as u64);
        hasher.write(issuer.as_bytes());
        IssuerPart(hasher)
    }

    /// The digest of an entry's target.
    #[must_use]
    pub fn digest_of(&self, target: &Target) -> RevocationDigest {
        let (kind, issuer, value) = target.parts();
        self.digest(kind, issuer, value)
    }
}

impl IssuerPart {
    fn digest(&self, kind: RevocationKind, value: &str) -> RevocationDigest {
        let mut hasher = self.0;
        hasher.write_u8(kind as u8);
        hasher.write(value.as_bytes());
        let hash = hasher.finish128().as_u128();
        let quarter = |shift: u32| u32::try_from(hash >> shift & u128::from(u32::MAX)).unwrap_or_default();
        RevocationDigest([quarter(0), quarter(32), quarter(64), quarter(96)])
    }
}

impl fmt::Debug for RevocationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RevocationKey")
    }
}

// === impl RevocationDigest ===

impl RevocationDigest {
    /// One of `count` shards, chosen by bits that no table looks at.
    #[must_use]
    pub fn shard(&self, count: usize) -> usize {
        let [.., last] = self.0;
        usize::try_from(last).unwrap_or_default().checked_rem(count).unwrap_or_default()
    }
}

impl Hash for RevocationDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first, second, ..] = self.0;
        state.write_u64(u64::from(first) << 32 | u64::from(second));
    }
}

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only digests are keys, and they write one `u64`.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

// === impl Mark ===

impl Mark {
    /// As an epoch: every token.
    pub const ALWAYS: u32 = u32::MAX;
    /// As an end: none.
    pub const NEVER: u32 = u32::MAX;

    /// What one entry says that arrives at `now`.
    #[must_use]
    pub fn of(entry: &Revocation, now: UnixTime) -> Self {
        let until = entry.expires_at.map_or(0, seconds);
        let is_token = entry.target.kind() == RevocationKind::Token;
        match entry.valid_after.filter(|_| !is_token) {
            Some(epoch) => {
                let since = if entry.expires_at.is_some() { 0 } else { seconds(epoch) };
                Self { epoch: seconds(epoch), since, until }
            }
            None if entry.expires_at.is_some() => Self { epoch: Self::ALWAYS, since: 0, until },
            // A token dies by itself; whatever else is refused for good may come back at any time.
            None if is_token => Self { epoch: Self::ALWAYS, since: seconds(now.0), until: 0 },
            None => Self { epoch: Self::ALWAYS, since: 0, until: Self::NEVER },
        }
    }

    /// What both say: the later epoch, for the longer time. `None` when `self` says all of it already.
    #[must_use]
    pub fn joined(self, other: Self) -> Option<Self> {
        // A token that is revoked once more is not revoked for longer: it existed the first time.
        let is_later = other.since > self.since && (self.since == 0 || other.epoch != Self::ALWAYS);
        let adds = other.epoch > self.epoch || other.until > self.until || is_later;
        adds.then(|| Self {
            epoch: self.epoch.max(other.epoch),
            since: self.since.max(other.since),
            until: self.until.max(other.until),
        })
    }

    /// Does it refuse a token that was issued then?
    #[must_use]
    pub fn hits(self, issued_at: Option<i64>, now: UnixTime) -> bool {
        let is_over = self.since == 0 && self.until != Self::NEVER && i64::from(self.until) <= now.0;
        !is_over && (self.epoch == Self::ALWAYS || issued_at.is_none_or(|issued_at| issued_at <= i64::from(self.epoch)))
    }

    /// Can no token that it hits be valid any more? `retention` is how long a token can be valid after it was issued.
    #[must_use]
    pub fn is_over(self, now: UnixTime, retention: Duration) -> bool {
        let retention = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
        let has_ended = self.until != Self::NEVER && i64::from(self.until) <= now.0;
        has_ended && (self.since == 0 || i64::from(self.since).saturating_add(retention) <= now.0)
    }

    fn valid_after(self) -> Option<i64> {
        (self.epoch != Self::ALWAYS).then(|| i64::from(self.epoch))
    }
}

/// Clamped: what lies before 1970 refuses nothing, and what lies after 2106 never comes.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.clamp(1, i64::from(u32::MAX - 1))).unwrap_or(1)
}

// === impl RevocationSet ===

impl RevocationSet {
    /// An empty set.
    #[must_use]
    pub fn new(key: RevocationKey) -> Self {
        Self { key, tables: Default::default() }
    }

    /// Adds an entry that arrives at `now`; `false` when the set says all of it already.
    pub fn insert(&mut self, entry: &Revocation, now: UnixTime) -> bool {
        self.put(entry.target.kind(), self.key.digest_of(&entry.target), Mark::of(entry, now))
    }

    /// Adds a mark under a digest of this set's key; `false` when the set says all of it already.
    pub fn put(&mut self, kind: RevocationKind, digest: RevocationDigest, mark: Mark) -> bool {
        let Some(table) = self.tables.get_mut(kind.index()) else { return false };
        let joined = match table.get(&digest) {
            None => Some(mark),
            Some(known) => known.joined(mark),
        };
        joined.is_some_and(|joined| {
            table.insert(digest, joined);
            true
        })
    }

    /// What is said under a digest of this set's key.
    #[must_use]
    pub fn get(&self, kind: RevocationKind, digest: &RevocationDigest) -> Option<Mark> {
        self.tables.get(kind.index())?.get(digest).copied()
    }

    /// Makes room for so many more entries of a kind, so that a long list does not grow the table again and again.
    pub fn reserve(&mut self, kind: RevocationKind, more: usize) {
        if let Some(table) = self.tables.get_mut(kind.index()) {
            table.reserve(more);
        }
    }

    /// Removes what means nothing any more; how many that were.
    pub fn purge(&mut self, now: UnixTime, retention: Duration) -> usize {
        let before = self.len();
        for table in &mut self.tables {
            table.retain(|_, mark| !mark.is_over(now, retention));
            // A table keeps its size; give it back when most of it is empty.
            if table.capacity() > 64 && table.len() < table.capacity() / 4 {
                table.shrink_to(table.len() * 2);
            }
        }
        before - self.len()
    }

    /// Entries of one kind.
    #[must_use]
    pub fn count(&self, kind: RevocationKind) -> usize {
        self.tables.get(kind.index()).map_or(0, HashMap::len)
    }

    /// All entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.iter().map(HashMap::len).sum()
    }

    /// None at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(HashMap::is_empty)
    }

    /// What the tables take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // A table holds a power of two of slots and fills seven eighths of them.
        let slots = |table: &Table| match table.capacity() {
            0 => 0,
            capacity => (capacity / 7 * 8).max(capacity + 1).next_power_of_two(),
        };
        size_of::<Self>() + self.tables.iter().map(|table| slots(table) * SLOT_BYTES).sum::<usize>()
    }
}

/// An empty set under a key of its own.
impl Default for RevocationSet {
    fn default() -> Self {
        Self::new(RevocationKey::random())
    }
}

impl Revocations for RevocationSet {
    fn find(&self, claims: &VerifiedClaims, now: UnixTime) -> Option<Revoked> {
        let has = |kind| self.count(kind) > 0;
        find_revocation(&self.key, claims, now, has, |kind, digest| self.get(kind, digest))
    }
}

/// Asks for every name that a token has, kind by kind, whoever holds the entries. `has`: are there entries of a kind?
/// Without any, no hash is made.
pub fn find_revocation(
    key: &RevocationKey,
    claims: &VerifiedClaims,
    now: UnixTime,
    has: impl Fn(RevocationKind) -> bool,
    get: impl Fn(RevocationKind, &RevocationDigest) -> Option<Mark>,
) -> Option<Revoked> {
    if !RevocationKind::ALL.into_iter().any(&has) {
        return None;
    }
    let issuer = key.issuer(claims.issuer());
    let issued_at = claims.issued_at();
    let ask = |kind: RevocationKind, part: &IssuerPart, value: &str| {
        let mark = get(kind, &part.digest(kind, value))?;
        let revoked = Revoked { kind, valid_after: mark.valid_after(), issued_at };
        mark.hits(issued_at, now).then_some(revoked)
    };
    RevocationKind::ALL.into_iter().filter(|kind| has(*kind)).find_map(|kind| match kind {
        RevocationKind::Token => ask(kind, &issuer, claims.id()?),
        RevocationKind::Subject => ask(kind, &issuer, claims.subject()?),
        RevocationKind::Session => ask(kind, &issuer, claims.session_id()?),
        RevocationKind::Client => claims.clients().find_map(|client| ask(kind, &issuer, client)),
        RevocationKind::Tenant => claims.tenants().iter().find_map(|tenant| ask(kind, &key.issuer(""), tenant)),
        RevocationKind::Issuer => ask(kind, &issuer, ""),
        RevocationKind::Key => ask(kind, &issuer, claims.key_id()?),
    })
}

#[cfg(test)]
mod tests;
