//! What an issuer signs besides access tokens: logout tokens, security event tokens and status list tokens. They are read
//! as strictly as access tokens and verified with the same keys, and what they are is said by the caller: this file
//! accepts no `typ` that was not asked for, and judges no claim beyond issuer, audience and dates.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    claims::strings,
    compact::{Compact, EmptyPayload, Fingerprint, Limits, RawToken},
    error::{TokenError, Untrusted},
    header::Header,
    json,
    keys::KeySet,
    profile::{NO_TYPE, join},
    signature::Thumbprint,
    time::{NumericDate, UnixTime, date, seconds},
    verify::find,
};

/// Read, and not yet believed.
pub(super) struct Unverified<'t> {
    token: Compact<'t>,
    header: Header,
    claims: Map<String, Value>,
}

/// Whose statement is expected.
pub(super) struct Expected<'e> {
    /// Exact `iss`, as the operator wrote it.
    pub(super) issuer: &'e str,
    /// Accepted `typ`, in lower case and without `application/`; `none` accepts a header without.
    pub(super) types: &'e [String],
    pub(super) algorithms: &'e [Algorithm],
}

/// The signature was checked.
pub(super) struct Verified {
    pub(super) claims: Map<String, Value>,
    /// The key that signed.
    pub(super) key: Thumbprint,
    /// Names what was said, whoever signed it how often.
    pub(super) content: Fingerprint,
}

// === impl Unverified ===

impl<'t> Unverified<'t> {
    /// Format, header and payload.
    pub(super) fn parse(raw: &'t RawToken, limits: Limits) -> Result<Self, TokenError> {
        let token = Compact::split(raw, limits, EmptyPayload::Refused)?;
        let header = Header::parse_any_kind(&token, limits)?;
        let claims = json::parse_object(&token.payload, limits.json()).map_err(TokenError::Payload)?;
        Ok(Self { token, header, claims })
    }

    /// `iss`, which selects the rules and is believed only with the signature.
    pub(super) fn issuer(&self) -> Result<&str, TokenError> {
        match self.claims.get("iss") {
            Some(Value::String(issuer)) => Ok(issuer),
            _ => Err(TokenError::IssuerMalformed),
        }
    }

    /// The claims, which nobody vouches for yet: for refusals that need no signature.
    pub(super) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// `typ` and `alg` against what is expected; then the signature.
    pub(super) fn verify(self, expected: &Expected<'_>, keys: Option<&KeySet>) -> Result<Verified, TokenError> {
        self.check_header(expected)?;
        let keys = keys.ok_or_else(|| TokenError::KeysNeverHad { issuer: expected.issuer.to_owned() })?;
        let key = find(keys, &self.header, Some(expected.issuer))?;
        key.check(&self.token)?;
        let content = Fingerprint::of(&self.token.payload);
        Ok(Verified { claims: self.claims, key: *key.thumbprint(), content })
    }

    fn check_header(&self, expected: &Expected<'_>) -> Result<(), TokenError> {
        let typ = self.header.typ.as_deref();
        let is_expected = expected.types.iter().any(|allowed| match typ {
            Some(typ) => allowed == typ && allowed != NO_TYPE,
            None => allowed == NO_TYPE,
        });
        if !is_expected {
            return Err(TokenError::TypeNotAllowed {
                found: typ.map(Untrusted::new),
                allowed: join(expected.types),
                issuer: expected.issuer.to_owned(),
            });
        }
        if !expected.algorithms.contains(&self.header.algorithm) {
            return Err(TokenError::AlgorithmNotAllowed {
                found: self.header.algorithm,
                allowed: join(expected.algorithms),
                issuer: expected.issuer.to_owned(),
            });
        }
        Ok(())
    }
}

/// At least one of `aud` is ours.
pub(super) fn check_audience(claims: &Map<String, Value>, ours: &[String], issuer: &str) -> Result<(), TokenError> {
    let Some(value) = claims.get("aud") else {
        return Err(TokenError::AudienceMissing { expected: join(ours), issuer: issuer.to_owned() });
    };
    let found = strings(value).ok_or(TokenError::AudienceMalformed)?;
    if found.iter().any(|audience| ours.contains(audience)) {
        return Ok(());
    }
    Err(TokenError::AudienceMismatch { found: Untrusted::new(&join(&found)), expected: join(ours) })
}

/// `iat`, which must be there and may be at most `leeway` ahead; `exp` and `nbf` hold where they stand.
pub(super) fn check_dates(
    claims: &Map<String, Value>,
    leeway: Duration,
    now: UnixTime,
) -> Result<NumericDate, TokenError> {
    let leeway = seconds(leeway);
    let latest = now.0.saturating_add(leeway);
    let issued = date(claims, "iat")?;
    let issued = issued.ok_or_else(|| TokenError::RequiredClaimMissing { claim: "iat".to_owned() })?;
    if let Some(expires) = date(claims, "exp")? {
        if now.0 >= expires.floor().saturating_add(leeway) {
            return Err(TokenError::Expired { expires_at: expires.floor(), now: now.0, leeway });
        }
        if issued.floor() > expires.floor() {
            return Err(TokenError::IssuedAfterExpiry { issued_at: issued.floor(), expires_at: expires.floor() });
        }
    }
    if let Some(not_before) = date(claims, "nbf")?.filter(|date| date.ceil() > latest) {
        return Err(TokenError::NotYetValid { not_before: not_before.ceil(), now: now.0, leeway });
    }
    if issued.ceil() > latest {
        return Err(TokenError::IssuedInFuture { issued_at: issued.ceil(), now: now.0, leeway });
    }
    Ok(issued)
}
