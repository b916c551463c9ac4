//! Revocations that arrive while the program runs: kept in memory for the request path, and in a journal on disk for the
//! next start. Entries of the watched file are none of this module's: they are part of the snapshot.
//!
//! ```text
//! revoke ─► shards (in effect from here on) ─► journal: write, fsync ─► acknowledged
//! ```
//!
//! An entry takes effect before it is on disk, and stays in effect when the disk fails: then whoever sent it hears so and
//! sends it again. An entry that was acknowledged is found again by the next start, or the next start says why not and
//! does not happen. Nothing here judges tokens; that is [`crate::token`]'s, and who may revoke is for the doors to say.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use crate::token::{
    Mark, Revocation, RevocationDigest, RevocationKey, RevocationKind, RevocationSet, Revocations, Revoked, UnixTime,
    VerifiedClaims, find_revocation,
};

/// Entries that a store holds when nothing is said.
pub const DEFAULT_MAX_ENTRIES: usize = 4_000_000;
/// Enough that growing one table stops nobody for long.
const SHARDS: usize = 64;

/// Who says that something is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An operator, through `POST /v1/revocations`.
    Operator,
    /// An OpenID Connect back-channel logout token.
    Logout,
    /// A security event token.
    Event,
}

/// What became of entries that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// All entries of the request.
    pub entries: usize,
    /// Those that said something new.
    pub new: usize,
    /// Will the next start know them?
    pub is_persisted: bool,
}

/// Why entries were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// No room. Nothing of the request is in effect.
    #[error("the store holds {limit} entries (`revocation.max_entries`) and takes no more")]
    Full {
        /// The bound.
        limit: usize,
    },
}

/// The entries, shared by all requests.
pub struct Store {
    key: RevocationKey,
    shards: Vec<RwLock<RevocationSet>>,
    /// Entries by kind. A request asks the tables of a kind only when there is one.
    counts: [AtomicUsize; RevocationKind::ALL.len()],
    max_entries: usize,
    /// One writer at a time.
    order: Mutex<()>,
}

// === impl Store ===

impl Store {
    /// An empty store that forgets everything with the process.
    #[must_use]
    pub fn in_memory(max_entries: usize) -> Self {
        let key = RevocationKey::random();
        Self {
            key,
            shards: (0..SHARDS).map(|_| RwLock::new(RevocationSet::new(key))).collect(),
            counts: Default::default(),
            max_entries,
            order: Mutex::new(()),
        }
    }

    /// Puts entries into effect and returns when they are safe: all of them, or none is acknowledged. Saying the same
    /// again changes nothing. An error other than [`RevokeError::Full`] leaves the entries in effect until the program
    /// ends; send them again.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn revoke(&self, entries: Vec<Revocation>, source: Source) -> Result<Accepted, RevokeError> {
        let accepted = {
            let _order = lock(&self.order);
            if self.len().saturating_add(entries.len()) > self.max_entries {
                return Err(RevokeError::Full { limit: self.max_entries });
            }
            let now = UnixTime::from(SystemTime::now());
            let new = entries.iter().filter(|entry| self.put(entry, now)).count();
            Accepted { entries: entries.len(), new, is_persisted: false }
        };
        tracing::info!(source = source.as_str(), entries = accepted.entries, new = accepted.new, "tokens were revoked");
        Ok(accepted)
    }

    /// Entries of one kind.
    #[must_use]
    pub fn count(&self, kind: RevocationKind) -> usize {
        self.counts.get(kind.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// All entries.
    #[must_use]
    pub fn len(&self) -> usize {
        RevocationKind::ALL.into_iter().map(|kind| self.count(kind)).sum()
    }

    /// None at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries take in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).bytes()).sum()
    }

    /// Removes what means nothing any more; `retention` is the longest life of a token. How many that were.
    pub fn purge(&self, now: UnixTime, retention: Duration) -> usize {
        let _order = lock(&self.order);
        let mut purged = 0;
        for shard in &self.shards {
            let mut set = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = RevocationKind::ALL.map(|kind| set.count(kind));
            purged += set.purge(now, retention);
            for ((kind, before), count) in RevocationKind::ALL.into_iter().zip(before).zip(&self.counts) {
                count.fetch_sub(before - set.count(kind), Ordering::Relaxed);
            }
        }
        purged
    }

    fn put(&self, entry: &Revocation, now: UnixTime) -> bool {
        let kind = entry.target.kind();
        let digest = self.key.digest_of(&entry.target);
        let (Some(shard), Some(count)) = (self.shard(&digest), self.counts.get(kind.index())) else { return false };
        let mut set = shard.write().unwrap_or_else(PoisonError::into_inner);
        let before = set.count(kind);
        let is_new = set.put(kind, digest, Mark::of(entry, now));
        count.fetch_add(set.count(kind) - before, Ordering::Release);
        is_new
    }

    fn shard(&self, digest: &RevocationDigest) -> Option<&RwLock<RevocationSet>> {
        self.shards.get(digest.shard(SHARDS))
    }
}

impl Revocations for Store {
    fn find(&self, claims: &VerifiedClaims, now: UnixTime) -> Option<Revoked> {
        let has = |kind: RevocationKind| self.counts.get(kind.index()).is_some_and(|n| n.load(Ordering::Acquire) > 0);
        find_revocation(&self.key, claims, now, has, |kind, digest| read(self.shard(digest)?).get(kind, digest))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("entries", &self.len()).finish_non_exhaustive()
    }
}

// === impl Source ===

impl Source {
    /// The word for it in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Logout => "back_channel_logout",
            Self::Event => "security_event",
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks can leave a half-made state behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(shard: &RwLock<RevocationSet>) -> std::sync::RwLockReadGuard<'_, RevocationSet> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}
