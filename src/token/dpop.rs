//! DPoP proofs (RFC 9449 §4.3): that whoever sends a token signed this very request, now, with the key that the token is
//! bound to. The key comes with the proof and is trusted for nothing but that: its thumbprint must be the token's.
//!
//! ```text
//! one `DPoP` header ─ format ─► header (typ, alg, jwk) ─► claims ─ htm, htu, nonce, iat, ath ─► key ─ signature
//! ```
//!
//! That a proof counts only once is the matter of whoever holds state: it gets the proof's [`ProofName`] from here.

mod error;
mod nonces;
mod target;

use aws_lc_rs::digest;
use serde_json::{Map, Value};

pub use self::{
    error::ProofError,
    nonces::Nonces,
    target::{ProofOrigin, ProofTarget},
};
use super::{
    algorithm::Algorithm,
    binding::{ProofRules, Sent, SentProof},
    compact::{Compact, EmptyPayload, Limits, RawToken, encode_base64url},
    error::Untrusted,
    header::{self, fold_type},
    json,
    keys::admit_proof_key,
    signature::{Thumbprint, VerifyKey},
    time::{self, UnixTime},
};

/// A proof that passed every check but one: has it been seen before?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedProof {
    /// What may be seen only once.
    pub name: ProofName,
    /// Whose proof it is.
    pub holder: ProofHolder,
    /// The last second in which it would be accepted again.
    pub last_valid: UnixTime,
    /// It has the previous nonce: the client should get the new one.
    pub wants_nonce: bool,
}

/// Names a proof: a hash over key, `jti` and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProofName(pub [u8; 16]);

/// Names a key: the first half of its thumbprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProofHolder(pub [u8; 16]);

/// A proof is a small thing: a key, a signature, four short claims and one URL.
const LIMITS: Limits = Limits { token_bytes: 8 * 1024, json_depth: 8, json_members: 100 };

const LONGEST_ID: usize = 256;

/// The claims of RFC 9449 §4.2, each of a right type, none of them judged.
struct Claims<'p> {
    id: &'p str,
    method: &'p str,
    uri: &'p str,
    issued: time::NumericDate,
    expires: Option<time::NumericDate>,
    not_before: Option<time::NumericDate>,
    token_hash: &'p str,
    nonce: Option<&'p str>,
}

/// All checks of RFC 9449 §4.3 but the one for repetition. `bound_to` is `cnf.jkt` of the verified token.
pub(super) fn check(
    sent: &Sent<'_>,
    bound_to: &Thumbprint,
    rules: &ProofRules,
    nonces: Option<&Nonces>,
    now: UnixTime,
) -> Result<AcceptedProof, ProofError> {
    let raw = match sent.proof {
        SentProof::Missing => return Err(ProofError::Missing),
        SentProof::Several => return Err(ProofError::Several),
        SentProof::One(raw) => raw,
    };
    let target = sent.target.ok_or(ProofError::TargetUnknown)?;

    let proof = Compact::split(raw, LIMITS, EmptyPayload::Refused).map_err(ProofError::Malformed)?;
    let key = read_header(&proof, rules)?;
    let payload = json::parse_object(&proof.payload, LIMITS.json()).map_err(ProofError::Claims)?;
    let claims = Claims::read(&payload)?;

    claims.check_target(target)?;
    let nonce_is_old = claims.check_nonce(nonces, now)?;
    claims.check_times(rules, now)?;
    if claims.token_hash != token_hash(sent.token) {
        return Err(ProofError::OtherToken);
    }
    if key.thumbprint() != bound_to {
        return Err(ProofError::OtherKey);
    }
    key.check(&proof).map_err(|_| ProofError::BadSignature)?;

    Ok(AcceptedProof {
        name: name(bound_to, claims.id, target.uri()),
        holder: ProofHolder(first_half(bound_to)),
        last_valid: UnixTime(claims.issued.ceil().saturating_add(time::seconds(rules.window))),
        wants_nonce: nonce_is_old,
    })
}

/// `typ`, `alg` and `jwk`. What else a header says is either refused for every token or means nothing here.
fn read_header(proof: &Compact<'_>, rules: &ProofRules) -> Result<VerifyKey, ProofError> {
    let members = header::sound_members(proof, LIMITS).map_err(ProofError::Malformed)?;
    match members.get("typ") {
        Some(Value::String(typ)) if fold_type(typ) == "dpop+jwt" => {}
        Some(Value::String(typ)) => return Err(ProofError::Type { found: Some(Untrusted::new(typ)) }),
        _ => return Err(ProofError::Type { found: None }),
    }
    let algorithm = header::algorithm(&members).map_err(ProofError::Algorithm)?;
    if algorithm.is_symmetric() || !rules.algorithms.contains(&algorithm) {
        return Err(ProofError::AlgorithmNotAllowed { found: algorithm });
    }
    proof_key(&members, algorithm)
}

fn proof_key(members: &Map<String, Value>, algorithm: Algorithm) -> Result<VerifyKey, ProofError> {
    match members.get("jwk") {
        None => Err(ProofError::KeyMissing),
        Some(Value::Object(jwk)) => admit_proof_key(jwk, algorithm).map_err(|reason| ProofError::Key { reason }),
        Some(_) => Err(ProofError::Key { reason: "malformed" }),
    }
}

// === impl Claims ===

impl<'p> Claims<'p> {
    fn read(claims: &'p Map<String, Value>) -> Result<Self, ProofError> {
        let text = |claim: &'static str| match claims.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(ProofError::ClaimMalformed { claim }),
        };
        let needed = |claim: &'static str| text(claim)?.ok_or(ProofError::ClaimMissing { claim });
        let date = |claim: &'static str| time::date(claims, claim).map_err(|_| ProofError::ClaimMalformed { claim });
        let id = needed("jti")?;
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(ProofError::ClaimMalformed { claim: "jti" });
        }
        Ok(Self {
            id,
            method: needed("htm")?,
            uri: needed("htu")?,
            issued: date("iat")?.ok_or(ProofError::ClaimMissing { claim: "iat" })?,
            expires: date("exp")?,
            not_before: date("nbf")?,
            token_hash: needed("ath")?,
            nonce: text("nonce")?,
        })
    }

    /// Methods are compared with case (RFC 9110 §9.1), URIs after normalisation.
    fn check_target(&self, target: &ProofTarget) -> Result<(), ProofError> {
        if self.method != target.method() {
            return Err(ProofError::OtherMethod {
                found: Untrusted::new(self.method),
                expected: Untrusted::new(target.method()),
            });
        }
        let normal = target::normal(self.uri).ok_or(ProofError::ClaimMalformed { claim: "htu" })?;
        if normal != target.uri() {
            return Err(ProofError::OtherUri {
                found: Untrusted::new(&normal),
                expected: Untrusted::new(target.uri()),
            });
        }
        Ok(())
    }

    /// `true`: it is the previous one.
    fn check_nonce(&self, nonces: Option<&Nonces>, now: UnixTime) -> Result<bool, ProofError> {
        let Some(nonces) = nonces else { return Ok(false) };
        let nonce = self.nonce.ok_or(ProofError::NonceMissing)?;
        nonces.is_previous(nonce, now).ok_or(ProofError::NonceUnknown)
    }

    /// `iat` must be there; `exp` and `nbf` need not, and hold when they are (RFC 7519 §4.1).
    fn check_times(&self, rules: &ProofRules, now: UnixTime) -> Result<(), ProofError> {
        let (window, leeway) = (time::seconds(rules.window), time::seconds(rules.leeway));
        let latest = now.0.saturating_add(leeway);
        let begins = self.not_before.map_or(self.issued.ceil(), |date| date.ceil().max(self.issued.ceil()));
        if begins > latest {
            return Err(ProofError::FromFuture { issued_at: begins, now: now.0, leeway });
        }
        // A proof ends before it began to be used: `floor` here, and `ceil` where it is remembered.
        if self.issued.floor() < now.0.saturating_sub(window) {
            return Err(ProofError::TooOld { issued_at: self.issued.floor(), now: now.0, window });
        }
        match self.expires {
            Some(expires) if now.0 >= expires.floor() => {
                Err(ProofError::Expired { expires_at: expires.floor(), now: now.0 })
            }
            _ => Ok(()),
        }
    }
}

/// RFC 9449 §4.2 `ath`.
fn token_hash(token: &RawToken) -> String {
    encode_base64url(digest::digest(&digest::SHA256, token.expose().as_bytes()))
}

/// No part can pass for the end of the one before: the first has a fixed length, the last has none that counts.
fn name(key: &Thumbprint, id: &str, uri: &str) -> ProofName {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(key);
    context.update(&u64::try_from(id.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(id.as_bytes());
    context.update(uri.as_bytes());
    ProofName(first_half(context.finish().as_ref()))
}

fn first_half(hash: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(hash) {
        *to = *from;
    }
    half
}

#[cfg(test)]
mod tests;
