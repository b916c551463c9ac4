//! The keys of each issuer: a JWKS taken key by key, one bad key never spoiling the others, each admitted key bound to
//! exactly one algorithm. It refuses a set that leaves nothing usable, and fetches nothing.

mod admission;
mod certificate;
mod wanted;
mod weak;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use aws_lc_rs::digest;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use self::admission::{Reason, admit, admit_object};
pub use self::wanted::WantedKey;
use super::{
    algorithm::Algorithm,
    profile::{KeyOrigin, join},
    signature::{Thumbprint, VerifyKey},
};

/// The keys of every issuer; an issuer without an entry never had keys.
#[derive(Debug, Default, Clone)]
pub struct KeyRing {
    sets: BTreeMap<String, Arc<KeySet>>,
}

/// One issuer's admitted keys. Never empty.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<VerifyKey>,
    dropped: Vec<DroppedKey>,
    digest: String,
}

/// A key that was not admitted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedKey {
    /// Position in the set, from 0.
    pub index: usize,
    /// Its `kid`, when it has a readable one; at most 64 characters of it.
    pub kid: Option<String>,
    /// Stable `snake_case` reason: `wrong_use`, `rsa_modulus_too_short`, …
    pub reason: &'static str,
}

/// The whole set is unusable, or a signing key is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeySetError {
    /// Stable `snake_case` code.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why no key can be used for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyMiss {
    Unknown,
    OtherAlgorithm(Algorithm),
    Ambiguous(usize),
}

const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
const KID_SHOWN_CHARACTERS: usize = 64;

/// A JWKS (RFC 7517 §5) or a single JWK. Other members are ignored, as the RFC demands.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    keys: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    kty: Option<&'a RawValue>,
}

// === impl KeyRing ===

impl KeyRing {
    /// The keys of this issuer, if it ever had any.
    #[must_use]
    pub fn get(&self, issuer: &str) -> Option<&Arc<KeySet>> {
        self.sets.get(issuer)
    }

    /// Puts the keys of one issuer in place of those it had.
    pub fn insert(&mut self, issuer: String, set: Arc<KeySet>) {
        self.sets.insert(issuer, set);
    }

    /// Forgets an issuer.
    pub fn remove(&mut self, issuer: &str) {
        self.sets.remove(issuer);
    }
}

// === impl KeySet ===

impl KeySet {
    /// Parses a JWKS (RFC 7517) key by key, with admission rules. `allowed`: the profile's algorithms.
    ///
    /// A local document may also be one bare JWK, hold secrets (`oct`), and hold private keys, of which only the public
    /// part is taken. A key without `alg` is bound to one algorithm of `allowed`: the default of its type if listed
    /// (RSA: RS256), else the first listed that fits.
    ///
    /// # Errors
    /// The document is too large, is not a JWKS, has more than 100 keys, mixes secrets with key pairs, or leaves no
    /// usable key.
    pub fn parse(json: &[u8], origin: KeyOrigin, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let raw_keys = split(json, origin)?;
        let mut dropped = Vec::new();
        let mut admitted = Vec::new();
        let mut unreadable = BTreeSet::new();
        for (index, raw) in raw_keys.iter().enumerate() {
            match admit(raw.get().as_bytes(), origin, allowed) {
                Ok(key) => admitted.push((index, key)),
                Err((kid, reason)) => {
                    dropped.push(DroppedKey::new(index, kid.as_deref(), reason));
                    unreadable.extend(kid.filter(|_| reason == Reason::Malformed));
                }
            }
        }
        drop_claimed_twice(&mut admitted, &mut dropped, &unreadable);
        drop_rivals(&mut admitted, &mut dropped, Reason::DuplicateKeyId, |one, other| {
            one.key_id().is_some() && one.key_id() == other.key_id() && one.algorithm() == other.algorithm()
        });
        drop_rivals(&mut admitted, &mut dropped, Reason::UsedForTwoAlgorithms, |one, other| {
            one.thumbprint() == other.thumbprint() && one.algorithm() != other.algorithm()
        });
        dropped.sort_by_key(|key| key.index);
        let keys: Vec<VerifyKey> = admitted.into_iter().map(|(_, key)| key).collect();
        if keys.is_empty() {
            return Err(none_usable(&dropped));
        }
        let secrets = keys.iter().filter(|key| key.algorithm().is_symmetric()).count();
        if secrets != 0 && secrets != keys.len() {
            let message =
                "the set mixes secrets (`oct`) with key pairs, which invites algorithm confusion; use two sets";
            return Err(KeySetError::new("mixed_key_kinds", message));
        }
        let digest = digest_of(&keys);
        Ok(Self { keys, dropped, digest })
    }

    /// How many keys are usable.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Always `false`: a set without usable keys is an error.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that were not admitted.
    #[must_use]
    pub fn dropped(&self) -> &[DroppedKey] {
        &self.dropped
    }

    /// Content digest (hex) for the snapshot revision: equal for equal keys, whatever their order.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Does one of the keys have this `kid`?
    #[must_use]
    pub fn has_named(&self, wanted: WantedKey) -> bool {
        self.keys.iter().filter_map(VerifyKey::key_id).any(|key_id| WantedKey::named(key_id) == wanted)
    }

    /// The admitted keys of the document that this set was parsed from, as a document of its own, each key as it was
    /// written. For a remote set there is nothing secret in it.
    ///
    /// # Errors
    /// `json` is not the text that the set was parsed from.
    pub fn admitted_of(&self, json: &[u8], origin: KeyOrigin) -> Result<String, KeySetError> {
        let raw_keys = split(json, origin)?;
        let is_dropped = |index: usize| self.dropped.iter().any(|key| key.index == index);
        let kept = raw_keys.iter().enumerate().filter(|(index, _)| !is_dropped(*index));
        let kept: Vec<&str> = kept.map(|(_, raw)| raw.get()).collect();
        if kept.len() != self.keys.len() {
            return Err(KeySetError::new("not_a_key_set", "the text is not that of the key set"));
        }
        Ok(format!("{{\"keys\":[{}]}}", kept.join(",")))
    }

    /// Is a key of this thumbprint among them?
    pub(super) fn has(&self, thumbprint: &Thumbprint) -> bool {
        self.keys.iter().any(|key| key.thumbprint() == thumbprint)
    }

    /// The one key for a token. A `kid` must match exactly; without one, exactly one key must fit the algorithm.
    pub(super) fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Result<&VerifyKey, KeyMiss> {
        if let Some(key_id) = key_id {
            let mut named = self.keys.iter().filter(|key| key.key_id() == Some(key_id)).peekable();
            let other = named.peek().map(|key| key.algorithm());
            return named
                .find(|key| key.algorithm() == algorithm)
                .ok_or_else(|| other.map_or(KeyMiss::Unknown, KeyMiss::OtherAlgorithm));
        }
        let mut fitting = self.keys.iter().filter(|key| key.algorithm() == algorithm);
        match (fitting.next(), fitting.count()) {
            (None, _) => Err(KeyMiss::Unknown),
            (Some(only), 0) => Ok(only),
            (Some(_), others) => Err(KeyMiss::Ambiguous(others.saturating_add(1))),
        }
    }
}

// === impl DroppedKey ===

impl DroppedKey {
    fn new(index: usize, kid: Option<&str>, reason: Reason) -> Self {
        let kid = kid.map(|kid| kid.chars().take(KID_SHOWN_CHARACTERS).collect());
        Self { index, kid, reason: reason.code() }
    }
}

// === impl KeySetError ===

impl KeySetError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The keys of a document, each still as text, so that a bad one spoils only itself.
fn split(json: &[u8], origin: KeyOrigin) -> Result<Vec<&RawValue>, KeySetError> {
    if json.len() > MAX_BYTES {
        return Err(KeySetError::new("key_set_too_large", format!("the key set has more than {MAX_BYTES} bytes")));
    }
    let not_a_set = || {
        let message = "not a JWKS: expected a JSON object with one member `keys`, an array (RFC 7517 §5)";
        KeySetError::new("not_a_key_set", message)
    };
    // serde reads a struct from an array too, by position.
    if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(not_a_set());
    }
    let document: Document<'_> = serde_json::from_slice(json).map_err(|_| not_a_set())?;
    let keys = match (document.keys, document.kty, origin) {
        (Some(keys), None, _) => keys,
        (None, Some(_), KeyOrigin::Local) => vec![serde_json::from_slice(json).map_err(|_| not_a_set())?],
        _ => return Err(not_a_set()),
    };
    if keys.len() > MAX_KEYS {
        let message = format!("the key set has {} keys; at most {MAX_KEYS} are accepted", keys.len());
        return Err(KeySetError::new("too_many_keys", message));
    }
    Ok(keys)
}

/// Moves every key to the dropped ones whose `kid` a malformed key has too: which of the two is meant cannot be known.
fn drop_claimed_twice(
    admitted: &mut Vec<(usize, VerifyKey)>,
    dropped: &mut Vec<DroppedKey>,
    unreadable: &BTreeSet<String>,
) {
    admitted.retain(|(index, key)| {
        let is_contested = key.key_id().is_some_and(|kid| unreadable.contains(kid));
        if is_contested {
            dropped.push(DroppedKey::new(*index, key.key_id(), Reason::DuplicateKeyId));
        }
        !is_contested
    });
}

/// The key that a DPoP proof brings along, held to the rules for keys from elsewhere and bound to `algorithm`.
///
/// # Errors
/// The reason, as in [`DroppedKey::reason`].
pub(super) fn admit_proof_key(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<VerifyKey, &'static str> {
    admit_object(jwk, KeyOrigin::Remote, &[algorithm]).map_err(Reason::code)
}

/// Moves every key that has a rival to the dropped ones: which of the two is meant cannot be known.
fn drop_rivals(
    admitted: &mut Vec<(usize, VerifyKey)>,
    dropped: &mut Vec<DroppedKey>,
    reason: Reason,
    rivals: impl Fn(&VerifyKey, &VerifyKey) -> bool,
) {
    let has_rival = |index: usize, key: &VerifyKey| {
        admitted.iter().any(|(other_index, other)| *other_index != index && rivals(key, other))
    };
    let losers: Vec<usize> =
        admitted.iter().filter(|(index, key)| has_rival(*index, key)).map(|(index, _)| *index).collect();
    admitted.retain(|(index, key)| {
        let loses = losers.contains(index);
        if loses {
            dropped.push(DroppedKey::new(*index, key.key_id(), reason));
        }
        !loses
    });
}

fn none_usable(dropped: &[DroppedKey]) -> KeySetError {
    let message = if dropped.is_empty() {
        "the key set is empty".to_owned()
    } else {
        let reasons = dropped.iter().take(5).map(|key| format!("key {}: {}", key.index, key.reason));
        let more = if dropped.len() > 5 { ", …" } else { "" };
        format!("the key set has no usable key ({}{more})", join(reasons))
    };
    KeySetError::new("no_usable_keys", message)
}

fn digest_of(keys: &[VerifyKey]) -> String {
    let mut lines: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| {
            let mut line = key.thumbprint().to_vec();
            line.extend_from_slice(key.algorithm().name().as_bytes());
            line.push(0);
            line.extend_from_slice(key.key_id().unwrap_or_default().as_bytes());
            line
        })
        .collect();
    lines.sort();
    let mut context = digest::Context::new(&digest::SHA256);
    for line in &lines {
        context.update(digest::digest(&digest::SHA256, line).as_ref());
    }
    context.finish().as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
