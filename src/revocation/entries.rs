//! The entries in memory, in shards: a request that looks and a revocation that arrives seldom meet in one, and growing
//! one table stops nobody for long. It knows of no disk.

use std::{
    fmt,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::token::{
    Mark, Revocation, RevocationDigest, RevocationKey, RevocationKind, RevocationSet, Revocations, Revoked, Target,
    UnixTime, VerifiedClaims, find_revocation,
};

/// With a million entries, growing one table moves some sixteen thousand.
const SHARDS: usize = 64;

/// All entries of a store.
pub(super) struct Entries {
    key: RevocationKey,
    shards: Vec<RwLock<RevocationSet>>,
    /// Entries by kind. A request asks the tables of a kind only when there is one.
    counts: [AtomicUsize; RevocationKind::ALL.len()],
}

// === impl Entries ===

impl Entries {
    pub(super) fn new() -> Self {
        let key = RevocationKey::random();
        let shards = (0..SHARDS).map(|_| RwLock::new(RevocationSet::new(key))).collect();
        Self { key, shards, counts: Default::default() }
    }

    /// Adds an entry that arrives at `now`; its mark, and whether it says something new.
    pub(super) fn insert(&self, entry: &Revocation, now: UnixTime) -> (Mark, bool) {
        let mark = Mark::of(entry, now);
        (mark, self.put(&entry.target, mark))
    }

    /// Adds a mark; does it say something new?
    pub(super) fn put(&self, target: &Target, mark: Mark) -> bool {
        let kind = target.kind();
        let digest = self.key.digest_of(target);
        let (Some(shard), Some(count)) = (self.shard(&digest), self.counts.get(kind.index())) else { return false };
        let mut set = write(shard);
        let before = set.count(kind);
        let is_new = set.put(kind, digest, mark);
        count.fetch_add(set.count(kind) - before, Ordering::Release);
        is_new
    }

    /// What is said about a target, with the digest that stands for it.
    pub(super) fn get(&self, target: &Target) -> Option<(RevocationDigest, Mark)> {
        let digest = self.key.digest_of(target);
        let mark = read(self.shard(&digest)?).get(target.kind(), &digest)?;
        Some((digest, mark))
    }

    /// Removes what means nothing any more; how many that were.
    pub(super) fn purge(&self, now: UnixTime, retention: Duration) -> usize {
        let mut purged = 0;
        for shard in &self.shards {
            let mut set = write(shard);
            let before = RevocationKind::ALL.map(|kind| set.count(kind));
            purged += set.purge(now, retention);
            for ((kind, before), count) in RevocationKind::ALL.into_iter().zip(before).zip(&self.counts) {
                count.fetch_sub(before - set.count(kind), Ordering::Release);
            }
        }
        purged
    }

    pub(super) fn count(&self, kind: RevocationKind) -> usize {
        self.counts.get(kind.index()).map_or(0, |count| count.load(Ordering::Acquire))
    }

    pub(super) fn len(&self) -> usize {
        RevocationKind::ALL.into_iter().map(|kind| self.count(kind)).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).bytes()).sum()
    }

    fn shard(&self, digest: &RevocationDigest) -> Option<&RwLock<RevocationSet>> {
        self.shards.get(digest.shard(SHARDS))
    }
}

impl Revocations for Entries {
    fn find(&self, claims: &VerifiedClaims, now: UnixTime) -> Option<Revoked> {
        let has = |kind: RevocationKind| self.count(kind) > 0;
        find_revocation(&self.key, claims, now, has, |kind, digest| read(self.shard(digest)?).get(kind, digest))
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("len", &self.len()).finish_non_exhaustive()
    }
}

// A panic under these locks leaves at most one entry more or less behind, and no half of one.

fn read(shard: &RwLock<RevocationSet>) -> RwLockReadGuard<'_, RevocationSet> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<RevocationSet>) -> RwLockWriteGuard<'_, RevocationSet> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
