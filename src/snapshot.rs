//! One immutable, revisioned world (policies, data, issuer profiles and keys) and the channel it travels through.
//!
//! A request takes one `Arc<Snapshot>` and uses it to the end. `reload` is the only sender. This module does no I/O
//! and makes no decisions; it also carries [`Health`], what `reload` knows about the outside world, because the
//! admin door and the metrics show it and must not depend on `reload`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    policy::{Entrypoint, PolicySet},
    token::{KeyRing, Profiles, RevocationSet, WantedKey},
};

/// Requests for keys that may wait for `reload`; more are answered with "no" at once.
const MAX_KEY_REQUESTS: usize = 1024;

/// One immutable world. A request uses exactly one.
#[derive(Debug)]
pub struct Snapshot {
    /// Content digest of policies, data, profiles and keys: 16 lower-case hex digits. Equal content, equal revision.
    pub revision: String,
    /// When this snapshot was activated.
    pub activated_at: SystemTime,
    /// Compiled policies and base data.
    pub policies: Arc<PolicySet>,
    /// The rule that the deciding doors ask; checked to exist when the snapshot was made. `None` on a plain OPA
    /// service that configures none.
    pub entrypoint: Option<Entrypoint>,
    /// Issuer profiles.
    pub profiles: Arc<Profiles>,
    /// Keys by issuer.
    pub keys: Arc<KeyRing>,
    /// Where the caller's current record stands in `data`, when configured.
    pub subject: Option<SubjectSource>,
    /// May a request without a token reach policy?
    pub anonymous: Anonymous,
    /// What the revocation file takes back.
    pub revocations: Arc<RevocationSet>,
}

/// What happens to a request that carries no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// 401 before policy is asked.
    #[default]
    Deny,
    /// Policy decides; `input.token` is absent.
    AllowToPolicy,
}

/// Where the caller's live record is: `data.<from>[<claim>]` becomes `input.live`, and what in it is looked at before
/// policy is asked. Its member `valid_after` always is: it takes back what was issued up to then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectSource {
    /// Path under `data`, without the leading `data`: `["users"]`.
    pub from: Vec<String>,
    /// The claim whose value is the key: `sub`, or a projected claim.
    pub key: String,
    /// The record's member that says whether the subject is suspended or deleted; `None`: that is for policy to find out.
    pub status: Option<String>,
    /// What becomes of a caller without a record.
    pub unknown: UnknownSubject,
}

/// What becomes of a caller that has a token and no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownSubject {
    /// Denied before policy is asked.
    Deny,
    /// Policy decides; `input.live` is absent.
    ClaimsOnly,
}

/// The reading side that `serve` holds: the current snapshot, the health of what feeds it, and a way to ask for keys.
#[derive(Debug, Clone)]
pub struct Handle {
    current: watch::Receiver<Arc<Snapshot>>,
    health: watch::Receiver<Arc<Health>>,
    key_requests: mpsc::Sender<KeyRequest>,
}

/// The writing side that `reload` holds.
#[derive(Debug)]
pub struct Publisher {
    current: watch::Sender<Arc<Snapshot>>,
    health: watch::Sender<Arc<Health>>,
}

/// "A token of `issuer` names a key that I do not have": answered when a bounded refetch ended, or was suppressed.
#[derive(Debug)]
pub struct KeyRequest {
    /// The configured issuer whose keys are wanted.
    pub issuer: String,
    /// The key that its token names, if any.
    pub wanted: Option<WantedKey>,
    /// Answered with `true` when a newer snapshot with fresh keys was published.
    pub done: oneshot::Sender<bool>,
}

/// What `reload` knows about the world outside. Shown by `/health`, `/v1/status` and the metrics.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Health {
    /// Snapshots activated since start because files or configuration changed, the first included. Remote keys that
    /// rotate are not counted here; they have [`KeyHealth::last_success`].
    pub reloads: u64,
    /// Failures since start; one that lasts counts once.
    pub reload_failures: u64,
    /// The problems of the newest attempt; empty when it succeeded. While not empty, an older snapshot serves.
    pub errors: Vec<Problem>,
    /// Sections of the configuration that changed since start and only take effect at the next one.
    pub restart_needed: Vec<String>,
    /// Unix seconds of the last time that changed or forced content loaded without a problem.
    pub last_success: Option<u64>,
    /// Unix seconds of the last failed attempt.
    pub last_failure: Option<u64>,
    /// Key state by issuer.
    pub keys: BTreeMap<String, KeyHealth>,
}

/// One problem of a failed reload, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Stable code: `rego_parse_error`, `bundle_error`, …
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
    /// `file:line:column`, `file`, or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// The state of one issuer's keys.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeyHealth {
    /// Usable keys; `None` when none were ever had.
    pub keys: Option<usize>,
    /// Where they are from; `None` while there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<KeysFrom>,
    /// How often they were replaced by others since start, the first ones included.
    pub generation: u64,
    /// Unix seconds of the last time that the source was seen to say so. Keys from disk have that of their fetch.
    pub last_success: Option<u64>,
    /// Unix seconds of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<u64>,
    /// The last failure, cleared by a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Keys that were dropped on admission, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Fetches that ended well.
    pub fetches: u64,
    /// Fetches that did not.
    pub fetch_failures: u64,
    /// Fetches that an unknown `kid` forced.
    pub forced_refreshes: u64,
    /// Unknown-`kid` requests answered without a fetch, because one was a moment ago.
    pub suppressed_refreshes: u64,
    /// Unknown-`kid` requests answered without a fetch, because this `kid` was not there a moment ago.
    pub negative_hits: u64,
    /// Where the issuer's metadata says that questions about its tokens are answered (RFC 7662); an admitted URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
    /// The issuer's metadata lists signature algorithms, and none of the configured ones is among them.
    #[serde(skip_serializing_if = "is_false")]
    pub has_no_common_algorithm: bool,
}

/// Where an issuer's keys are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeysFrom {
    /// The configuration or a file of the operator.
    Local,
    /// The issuer's server.
    Network,
    /// What was kept of the issuer's server, because it cannot be asked.
    Disk,
}

/// Makes the channel with its first snapshot.
#[must_use]
pub fn channel(first: Snapshot, health: Health) -> (Publisher, Handle, mpsc::Receiver<KeyRequest>) {
    let (current_tx, current) = watch::channel(Arc::new(first));
    let (health_tx, health) = watch::channel(Arc::new(health));
    let (key_requests, receiver) = mpsc::channel(MAX_KEY_REQUESTS);
    (Publisher { current: current_tx, health: health_tx }, Handle { current, health, key_requests }, receiver)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}

// === impl Handle ===

impl Handle {
    /// The current snapshot. Take it once per request.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// The newest health report.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health.borrow())
    }

    /// Where questions about tokens of `issuer` are answered (RFC 7662), by its own metadata: with `discovery`, once it was
    /// read. An admitted URL.
    #[must_use]
    pub fn introspection_endpoint(&self, issuer: &str) -> Option<String> {
        self.health.borrow().keys.get(issuer)?.introspection_endpoint.clone()
    }

    /// Waits until the snapshot changes; `false` when the publisher is gone.
    pub async fn changed(&mut self) -> bool {
        self.current.changed().await.is_ok()
    }

    /// Asks for fresh keys of `issuer` and waits for at most `patience`. `true` means: take the snapshot again and
    /// retry once. Never queues without bound: a full queue answers `false` at once. A `wanted` key that was not there a
    /// moment ago causes no fetch.
    pub async fn request_keys(&self, issuer: &str, wanted: Option<WantedKey>, patience: Duration) -> bool {
        let (done, answer) = oneshot::channel();
        let request = KeyRequest { issuer: issuer.to_owned(), wanted, done };
        if self.key_requests.try_send(request).is_err() {
            return false;
        }
        matches!(tokio::time::timeout(patience, answer).await, Ok(Ok(true)))
    }
}

// === impl Publisher ===

impl Publisher {
    /// Puts a new world in place. Requests under way keep the one they took.
    pub fn publish(&self, snapshot: Snapshot) {
        self.current.send_replace(Arc::new(snapshot));
    }

    /// The snapshot that serves now.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// The newest health report.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health.borrow())
    }

    /// Changes the health report.
    pub fn update_health(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_modify(|health| change(Arc::make_mut(health)));
    }
}
