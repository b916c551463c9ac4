//! Bytes → [`VerifiedClaims`], or why not. The only user of `jsonwebtoken`. Pure: time, keys and profiles are arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};

/// Seconds since the Unix epoch. Time is always an argument here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub i64);

/// A compact JWS as received. Untrusted. No `Display`; `Debug` is redacted.
#[derive(Clone)]
pub struct RawToken(Box<str>);

/// Who asks. A rejected token never becomes `Anonymous`.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The request carried no token at all.
    Anonymous,
    /// The request carried one token and every check passed.
    Verified(Box<VerifiedClaims>),
}

/// What is left after every check passed. Only [`verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedClaims {
    issuer: String,
    subject: Option<String>,
    audience: Vec<String>,
    scopes: Vec<String>,
    id: Option<String>,
    issued_at: Option<i64>,
    expires_at: i64,
    key_id: Option<String>,
    claims: Map<String, Value>,
}

/// JWS algorithms that a profile may list. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

/// The rules for one `iss`, as written by the operator and not yet checked.
#[derive(Debug, Clone)]
pub struct ProfileSettings {
    /// Exact `iss`.
    pub issuer: String,
    /// Accepted `aud` values; at least one.
    pub audiences: Vec<String>,
    /// Accepted algorithms; at least one.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `typ` values, lower case without `application/`: `at+jwt`, `jwt`. `none` in the list accepts a header without `typ`.
    pub types: Vec<String>,
    /// Clock skew; at most 300 s.
    pub leeway: Duration,
    /// Longest accepted `exp - iat` (or `exp - now` when there is no `iat`).
    pub max_lifetime: Duration,
    /// Claims that must be there besides `iss`, `aud`, `exp`.
    pub required_claims: Vec<String>,
    /// Projection: claims that policy may see under `input.token.claims`.
    pub keep: Vec<String>,
    /// Projection: from → to; implies keeping `from`.
    pub rename: BTreeMap<String, String>,
    /// Where the keys come from: decides whether HMAC and private keys are allowed.
    pub key_origin: KeyOrigin,
}

/// Local keys may be secrets; remote ones never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A file or inline in the configuration.
    Local,
    /// A URL or discovery.
    Remote,
}

/// A checked profile.
#[derive(Debug, Clone)]
pub struct IssuerProfile {
    settings: ProfileSettings,
}

/// What is wrong with a profile. `field` is the configuration key below the issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProfileError {
    pub field: &'static str,
    pub message: String,
}

/// Profiles by exact issuer.
#[derive(Debug, Default)]
pub struct Profiles {
    by_issuer: BTreeMap<String, IssuerProfile>,
}

/// The keys of every issuer; an issuer without an entry never had keys.
#[derive(Debug, Default, Clone)]
pub struct KeyRing {
    sets: BTreeMap<String, Arc<KeySet>>,
}

/// One issuer's admitted keys.
#[derive(Debug)]
pub struct KeySet {
    dropped: Vec<DroppedKey>,
}

/// A key that was not admitted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedKey {
    pub index: usize,
    pub kid: Option<String>,
    pub reason: &'static str,
}

/// The whole set is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeySetError {
    pub code: &'static str,
    pub message: String,
}

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("placeholder")]
    Placeholder,
}

/// How a refusal is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The token: 401 `invalid_token`.
    Token,
    /// The issuer's keys were never had: 503.
    Keys,
}

/// Runs the whole pipeline.
///
/// # Errors
/// The first check that failed.
pub fn verify(
    raw: &RawToken,
    profiles: &Profiles,
    keys: &KeyRing,
    now: UnixTime,
) -> Result<VerifiedClaims, TokenError> {
    let _ = (raw, profiles, keys, now);
    Err(TokenError::Placeholder)
}

impl RawToken {
    /// Wraps what a door extracted.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }
}
impl fmt::Debug for RawToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawToken({} bytes)", self.0.len())
    }
}
impl FromStr for Algorithm {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Err(s.to_owned())
    }
}
impl IssuerProfile {
    /// Checks the settings. All problems at once.
    pub fn new(settings: ProfileSettings) -> Result<Self, Vec<ProfileError>> {
        Ok(Self { settings })
    }
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.settings.algorithms
    }
    pub fn key_origin(&self) -> KeyOrigin {
        self.settings.key_origin
    }
    /// Names under which projected claims reach policy.
    pub fn projected_names(&self) -> BTreeSet<&str> {
        BTreeSet::new()
    }
}
impl Profiles {
    /// Fails on two profiles with one issuer.
    pub fn new(profiles: Vec<IssuerProfile>) -> Result<Self, ProfileError> {
        let _ = profiles;
        Ok(Self::default())
    }
    pub fn get(&self, issuer: &str) -> Option<&IssuerProfile> {
        self.by_issuer.get(issuer)
    }
    pub fn iter(&self) -> impl Iterator<Item = &IssuerProfile> {
        self.by_issuer.values()
    }
    pub fn is_empty(&self) -> bool {
        self.by_issuer.is_empty()
    }
}
impl KeyRing {
    pub fn get(&self, issuer: &str) -> Option<&Arc<KeySet>> {
        self.sets.get(issuer)
    }
    pub fn insert(&mut self, issuer: String, set: Arc<KeySet>) {
        self.sets.insert(issuer, set);
    }
    pub fn remove(&mut self, issuer: &str) {
        self.sets.remove(issuer);
    }
}
impl KeySet {
    /// Parses a JWKS (RFC 7517) key by key, with admission rules. `allowed`: the profile's algorithms.
    pub fn parse(json: &[u8], origin: KeyOrigin, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let _ = (json, origin, allowed);
        Ok(Self { dropped: vec![] })
    }
    pub fn len(&self) -> usize {
        0
    }
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn dropped(&self) -> &[DroppedKey] {
        &self.dropped
    }
    /// Content digest (hex) for the snapshot revision.
    pub fn digest(&self) -> &str {
        ""
    }
}
impl TokenError {
    /// Stable snake_case code for logs and metrics: `expired`, `bad_signature`, …
    pub fn code(&self) -> &'static str {
        "placeholder"
    }
    /// The pipeline step that failed: `format`, `header`, `issuer`, `time`, `key`, `signature`, `claims`.
    pub fn step(&self) -> &'static str {
        "placeholder"
    }
    pub fn fault(&self) -> Fault {
        Fault::Token
    }
    /// The configured issuer, when fresh keys of it might change the answer (unknown `kid`, or keys never had).
    pub fn wants_keys_of(&self) -> Option<&str> {
        None
    }
}
impl VerifiedClaims {
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }
    pub fn audience(&self) -> &[String] {
        &self.audience
    }
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
    pub fn issued_at(&self) -> Option<i64> {
        self.issued_at
    }
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }
    /// The projected claims under their projected names; nothing else is kept.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// A development signing key (`demo`, `token mint`, tests).
pub struct SigningKey;
impl SigningKey {
    /// A fresh ES256 key with `kid`.
    pub fn generate_es256(kid: &str) -> Result<Self, KeySetError> {
        let _ = kid;
        Ok(Self)
    }
    /// A private JWK (`EC`, `RSA`, `OKP`, `oct`) or a JWKS with exactly one private key.
    pub fn from_jwk(json: &[u8]) -> Result<Self, KeySetError> {
        let _ = json;
        Ok(Self)
    }
    /// The public JWKS, as JSON text. For `oct` this is an error.
    pub fn public_jwks(&self) -> Result<String, KeySetError> {
        Ok(String::new())
    }
    /// Signs `claims` with `typ` in the header.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Result<String, KeySetError> {
        let _ = (typ, claims);
        Ok(String::new())
    }
}
