//! The revocation file: its bytes → a set of entries, or why not. A file that does not read never replaces one that did,
//! and fails independently of policies and keys: whoever breaks one of them can still revoke.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{SHA256, digest};

use super::load::problem;
use crate::{
    snapshot::Problem,
    token::{RevocationKind, RevocationSet, UnixTime, parse_revocation_file},
};

/// What the file says.
#[derive(Debug, Clone, Default)]
pub(super) struct RevocationFile {
    /// Its entries.
    pub(super) set: Arc<RevocationSet>,
    /// Of its bytes; empty without a file. Equal bytes are not read again.
    pub(super) digest: Vec<u8>,
}

/// Reads the bytes of the file at `path`. `issuers`: those that have a profile.
pub(super) fn load(
    path: &Path,
    bytes: &[u8],
    issuers: &BTreeSet<&str>,
    before: Option<&RevocationFile>,
) -> Result<RevocationFile, Problem> {
    let digest = digest(&SHA256, bytes).as_ref().to_vec();
    if let Some(before) = before.filter(|before| before.digest == digest) {
        return Ok(before.clone());
    }
    let now = UnixTime::from(SystemTime::now());
    let entries = parse_revocation_file(bytes, now)
        .map_err(|fault| problem("revocation_file_error", &fault.to_string(), Some(path.display().to_string())))?;
    let mut set = RevocationSet::default();
    for kind in RevocationKind::ALL {
        set.reserve(kind, entries.iter().filter(|entry| entry.target.kind() == kind).count());
    }
    for entry in &entries {
        set.insert(entry, now);
    }
    let strange = entries.iter().filter(|entry| entry.target.issuer().is_some_and(|issuer| !issuers.contains(issuer)));
    let strange = strange.count();
    if strange > 0 {
        // One file may serve several gates, so this is no error.
        tracing::warn!(
            path = %path.display(), entries = strange,
            "revocations name issuers that are not configured here, and can hit nothing; is `iss` written as in the tokens?"
        );
    }
    tracing::info!(path = %path.display(), entries = set.len(), bytes = set.bytes(), "revocations were read");
    Ok(RevocationFile { set: Arc::new(set), digest })
}
