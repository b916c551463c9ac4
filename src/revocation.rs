//! Revocations that arrive while the program runs: kept in memory for the request path, and in a journal on disk for the
//! next start. Entries of the watched file are none of this module's: they are part of the snapshot.
//!
//! ```text
//! revoke ─► entries (in effect from here on) ─► journal: write, fsync ─► acknowledged
//! ```
//!
//! An entry takes effect before it is on disk, and stays in effect when the disk fails: then whoever sent it hears so and
//! sends it again. An entry that was acknowledged is found again by the next start, or the next start says why not and
//! does not happen. Nothing here judges tokens; that is [`crate::token`]'s, and who may revoke is for the doors to say.

mod credential;
mod entries;
mod journal;
mod record;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

use serde::Serialize;

pub use self::{
    credential::{CredentialError, Credentials, SHORTEST_CREDENTIAL},
    journal::JournalError,
};
use self::{entries::Entries, journal::Journal, record::LONGEST_NAME};
use crate::{
    shutdown,
    snapshot::Handle,
    token::{Revocation, RevocationKind, Revocations, Revoked, UnixTime, VerifiedClaims},
};

/// Entries that a store holds when nothing is said.
pub const DEFAULT_MAX_ENTRIES: usize = 2_000_000;
/// How often what means nothing any more is removed.
const TIDY: Duration = Duration::from_secs(60);
/// A journal is written anew when it has more than twice as many records as there are entries, and these more.
const SPARE_RECORDS: usize = 1024;

/// How a store is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the journal is; `None`: nothing outlives the process.
    pub directory: Option<PathBuf>,
    /// Entries that it holds at most.
    pub max_entries: usize,
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// All entries of the request.
    pub accepted: usize,
    /// Those that said something new.
    pub new: usize,
    /// Will the next start know them? Not without a state directory.
    pub persisted: bool,
}

/// Why entries were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// No room. Nothing of the request is in effect.
    #[error("there are {limit} revocations (`revocation.max_entries`), and no room for more")]
    Full {
        /// The bound.
        limit: usize,
    },
    /// No token could have such a name. Nothing of the request is in effect.
    #[error("a name in a revocation has more than {LONGEST_NAME} bytes")]
    NameTooLong,
    /// The journal could not be written. The entries are in effect until the program ends; send them again.
    #[error("the revocations are in effect, but could not be written to disk; send them again")]
    NotPersisted,
}

/// What a store holds, for metrics and the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries by kind.
    pub entries: std::collections::BTreeMap<&'static str, usize>,
    /// What they take in memory, in bytes.
    pub bytes: usize,
    /// The journal; `None` without a state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalReport>,
}

/// The journal's part of a [`Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct JournalReport {
    /// Size of the file.
    pub bytes: u64,
    /// Records in it, outdated ones included.
    pub records: u64,
    /// Failures since start.
    pub errors: u64,
}

/// The entries, shared by all requests.
#[derive(Debug)]
pub struct Store {
    entries: Arc<Entries>,
    journal: Option<Journal>,
    max_entries: usize,
    /// Held while entries are put in effect and handed to the journal, so that both see them in one order: whoever finds
    /// an entry to be nothing new waits for the write of the one who brought it.
    order: Mutex<()>,
}

// === impl Store ===

impl Store {
    /// Reads the journal, if there is to be one, and starts its thread. Blocks while it reads.
    ///
    /// # Errors
    /// [`JournalError`]: the journal is in use, cannot be read, or is damaged.
    pub fn open(settings: &Settings) -> Result<Self, JournalError> {
        let entries = Arc::new(Entries::new());
        let journal = settings.directory.as_deref().map(|directory| journal::open(directory, &entries)).transpose()?;
        Ok(Self { entries, journal, max_entries: settings.max_entries, order: Mutex::new(()) })
    }

    /// An empty store that forgets everything with the process.
    #[must_use]
    pub fn in_memory(max_entries: usize) -> Self {
        Self { entries: Arc::new(Entries::new()), journal: None, max_entries, order: Mutex::new(()) }
    }

    /// Puts entries into effect, and returns when the next start will know them too. Saying the same again changes
    /// nothing, and is answered alike.
    ///
    /// # Errors
    /// [`RevokeError`]; after [`RevokeError::NotPersisted`] the entries are in effect all the same.
    pub async fn revoke(&self, entries: Vec<Revocation>, source: Source) -> Result<Accepted, RevokeError> {
        let (mut accepted, written) = self.put(entries)?;
        if let Some(written) = written {
            accepted.persisted = matches!(written.await, Ok(true));
            if !accepted.persisted {
                return Err(RevokeError::NotPersisted);
            }
        }
        let Accepted { accepted: entries, new, persisted } = accepted;
        tracing::info!(source = source.as_str(), entries, new, persisted, "tokens were revoked");
        Ok(accepted)
    }

    fn put(&self, entries: Vec<Revocation>) -> Result<(Accepted, Option<Written>), RevokeError> {
        let is_too_long = |entry: &Revocation| {
            let (_, issuer, value) = entry.target.parts();
            issuer.len() > LONGEST_NAME || value.len() > LONGEST_NAME
        };
        if entries.iter().any(is_too_long) {
            return Err(RevokeError::NameTooLong);
        }
        // Nothing that is done under it can leave a half-made state behind.
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.max_entries.saturating_sub(self.entries.len());
        // What is known already needs no room, and is counted only when it matters.
        if entries.len() > room
            && entries.iter().filter(|entry| self.entries.get(&entry.target).is_none()).count() > room
        {
            return Err(RevokeError::Full { limit: self.max_entries });
        }
        let now = UnixTime::from(SystemTime::now());
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let (mark, is_new) = self.entries.insert(&entry, now);
            records.push(((entry.target, mark), is_new));
        }
        let new = records.iter().filter(|(_, is_new)| *is_new).count();
        let accepted = Accepted { accepted: records.len(), new, persisted: false };
        match &self.journal {
            None => Ok((accepted, None)),
            Some(journal) => Ok((accepted, Some(journal.append(records).ok_or(RevokeError::NotPersisted)?))),
        }
    }

    /// Removes what means nothing any more, until the shutdown; a token's longest life is read from the profiles that
    /// serve then.
    pub async fn keep_tidy(self: Arc<Self>, snapshots: Handle, mut shutdown: shutdown::Signal) {
        loop {
            let profiles = Arc::clone(&snapshots.current().profiles);
            // Without any issuer nobody can say how long tokens live.
            if let Some(retention) = profiles.iter().map(crate::token::IssuerProfile::longest_life).max() {
                self.tidy(SystemTime::now().into(), retention);
            }
            tokio::select! {
                () = shutdown.begun() => return,
                () = tokio::time::sleep(TIDY) => {}
            }
        }
    }

    /// Removes what means nothing any more; `retention` is the longest life of a token.
    pub fn tidy(&self, now: UnixTime, retention: Duration) {
        let purged = {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            self.entries.purge(now, retention)
        };
        if purged > 0 {
            tracing::debug!(entries = purged, "revocations ran out: no token that they hit can be valid any more");
        }
        if let Some(journal) = &self.journal {
            let records = journal.state().records.load(Ordering::Relaxed);
            let most = self.entries.len().saturating_mul(2).saturating_add(SPARE_RECORDS);
            if usize::try_from(records).is_ok_and(|records| records > most) {
                journal.compact();
            }
        }
    }

    /// What it holds.
    #[must_use]
    pub fn report(&self) -> Report {
        let entries = RevocationKind::ALL.into_iter().map(|kind| (kind.as_str(), self.entries.count(kind)));
        let journal = self.journal.as_ref().map(|journal| {
            let state = journal.state();
            JournalReport {
                bytes: state.bytes.load(Ordering::Relaxed),
                records: state.records.load(Ordering::Relaxed),
                errors: state.errors.load(Ordering::Relaxed),
            }
        });
        Report { entries: entries.collect(), bytes: self.entries.bytes(), journal }
    }
}

/// Answered by the journal; `true`: durable.
type Written = tokio::sync::oneshot::Receiver<bool>;

impl Revocations for Store {
    fn find(&self, claims: &VerifiedClaims, now: UnixTime) -> Option<Revoked> {
        self.entries.find(claims, now)
    }
}

// === impl Source, RevokeError ===

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

impl RevokeError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "revocations_full",
            Self::NameTooLong => "revocation_name_too_long",
            Self::NotPersisted => "revocations_not_persisted",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { directory: None, max_entries: DEFAULT_MAX_ENTRIES }
    }
}
