//! The last good keys of one issuer on disk, so that a start without the network has keys. Only keys that were admitted
//! from the issuer's server are kept, each as it was written, so there is nothing secret among them.
//!
//! What is read back is admitted again by the rules of today, is believed only for as long as `max_stale` says from when
//! it was fetched, and only for the issuer and source it came from. A file that is damaged, older or somebody else's is
//! no reason not to start: it is told in the log and left alone.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{self, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use super::{KeySource, unix_now};
use crate::{
    state,
    token::{IssuerProfile, KeyOrigin, KeySet},
};

/// Another form of the file has another number.
const VERSION: u32 = 1;
/// Longer than the largest set with what stands around it.
const LONGEST: u64 = 1 << 20;
/// How far the clock may have gone back since a file was written.
const TOLERANCE: u64 = 5 * 60;

/// Keeps the keys of one issuer.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `None`: nothing is kept.
    place: Option<Arc<Place>>,
    /// The keys as they are kept.
    jwks: Option<Arc<str>>,
    writing: Option<JoinHandle<()>>,
}

/// Where, and of whom.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    name: String,
    issuer: String,
    source: String,
}

/// Keys that were kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) keys: KeySet,
    /// Unix seconds.
    pub(super) fetched_at: u64,
    /// Since then.
    pub(super) age: Duration,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    issuer: String,
    source: String,
    fetched_at: u64,
    /// SHA-256 over all of the above and `jwks`, in hex: a damaged file is told from a whole one.
    digest: String,
    jwks: Box<RawValue>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{}", state::describe_io(.0))]
    Unreadable(#[from] std::io::Error),
    #[error("it is not a file of kept keys, or is damaged")]
    Damaged,
    #[error("it is of another issuer or another source of keys")]
    Foreign,
    #[error("it was written in the future; is the clock right?")]
    Future,
    #[error("its keys were fetched {} s ago, which is longer than `max_stale`", .0.as_secs())]
    Old(Duration),
    #[error("its keys are not usable any more: {0}")]
    NotAdmitted(String),
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(directory: Option<PathBuf>, profile: &IssuerProfile, source: &KeySource) -> Self {
        let issuer = profile.issuer().to_owned();
        let source = match source {
            KeySource::Url { url, .. } => url.clone(),
            KeySource::Discovery { url, .. } => url.clone().unwrap_or_else(|| "discovery".to_owned()),
            KeySource::None | KeySource::File(_) | KeySource::Inline(_) => String::new(),
        };
        let hash = hex(digest::digest(&SHA256, issuer.as_bytes()).as_ref());
        let name = format!("keys-{}.json", hash.get(..32).unwrap_or(&hash));
        let place = directory.map(|directory| Arc::new(Place { directory, name, issuer, source }));
        Self { place, jwks: None, writing: None }
    }

    /// Reads what was kept, when it is still good for use.
    pub(super) async fn load(&self, profile: &IssuerProfile, max_stale: Duration) -> Option<Kept> {
        let place = Arc::clone(self.place.as_ref()?);
        let to_load = (Arc::clone(&place), profile.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let (place, profile) = to_load;
            place.load(&profile, max_stale, unix_now().unwrap_or(0))
        });
        match loaded.await {
            Ok(Ok(kept)) => kept,
            Ok(Err(unusable)) => {
                let (issuer, file) = (profile.issuer(), place.path().display().to_string());
                tracing::warn!(issuer, file, reason = %unusable, "keys that were kept on disk are not used");
                None
            }
            Err(error) => {
                tracing::error!(%error, "keys that were kept on disk cannot be read");
                None
            }
        }
    }

    /// These are the keys to keep, and the answer that they were in.
    pub(super) fn hold(&mut self, keys: &KeySet, body: &[u8]) {
        if self.place.is_some() {
            self.jwks = keys.admitted_of(body, KeyOrigin::Remote).ok().map(Arc::from);
        }
    }

    /// Writes them, aside, as fetched now. While the time before is still being written, nothing: the next fetch writes
    /// again.
    pub(super) fn write(&mut self) {
        let (Some(place), Some(jwks), Some(now)) = (&self.place, &self.jwks, unix_now()) else { return };
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let (place, jwks) = (Arc::clone(place), jwks.to_string());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = place.save(jwks, now) {
                let (issuer, reason) = (&place.issuer, state::describe_io(&error));
                tracing::warn!(issuer, reason, "keys cannot be kept in `state.directory`");
            }
        }));
    }
}

// === impl Place ===

impl Place {
    fn path(&self) -> PathBuf {
        Path::new(&self.directory).join(&self.name)
    }

    fn save(&self, jwks: String, now: u64) -> std::io::Result<()> {
        let digest = self.digest(now, &jwks);
        let (issuer, source) = (self.issuer.clone(), self.source.clone());
        let jwks = RawValue::from_string(jwks)?;
        let file = File { version: VERSION, issuer, source, fetched_at: now, digest, jwks };
        state::replace(&self.directory, &self.name, &serde_json::to_vec(&file)?)
    }

    fn load(&self, profile: &IssuerProfile, max_stale: Duration, now: u64) -> Result<Option<Kept>, Unusable> {
        let content = state::read(&self.path(), LONGEST)?;
        content.map(|content| self.understand(&content, profile, max_stale, now)).transpose()
    }

    fn understand(
        &self,
        content: &[u8],
        profile: &IssuerProfile,
        max_stale: Duration,
        now: u64,
    ) -> Result<Kept, Unusable> {
        let file: File = serde_json::from_slice(content).map_err(|_| Unusable::Damaged)?;
        if file.version != VERSION || file.digest != file_digest(&file) {
            return Err(Unusable::Damaged);
        }
        if file.issuer != self.issuer || file.source != self.source {
            return Err(Unusable::Foreign);
        }
        if file.fetched_at > now.saturating_add(TOLERANCE) {
            return Err(Unusable::Future);
        }
        let age = Duration::from_secs(now.saturating_sub(file.fetched_at));
        if age >= max_stale {
            return Err(Unusable::Old(age));
        }
        let keys = KeySet::parse(file.jwks.get().as_bytes(), KeyOrigin::Remote, profile.algorithms())
            .map_err(|error| Unusable::NotAdmitted(error.to_string()))?;
        Ok(Kept { keys, fetched_at: file.fetched_at, age })
    }

    fn digest(&self, fetched_at: u64, jwks: &str) -> String {
        digest_of(VERSION, &self.issuer, &self.source, fetched_at, jwks)
    }
}

fn file_digest(file: &File) -> String {
    digest_of(file.version, &file.issuer, &file.source, file.fetched_at, file.jwks.get())
}

/// Every field is preceded by its length, so that none can pass for another.
fn digest_of(version: u32, issuer: &str, source: &str, fetched_at: u64, jwks: &str) -> String {
    let mut context = digest::Context::new(&SHA256);
    for field in [version.to_string().as_str(), issuer, source, fetched_at.to_string().as_str(), jwks] {
        context.update(&field.len().to_le_bytes());
        context.update(field.as_bytes());
    }
    hex(context.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests;
