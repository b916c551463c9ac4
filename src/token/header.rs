//! The JOSE header, parsed strictly into the three members that matter: `alg`, `typ`, `kid`. It refuses every member
//! that would change what is signed or how the payload is read, and never takes a key, or a place to fetch one, from
//! a token: `jwk`, `jku`, `x5c`, `x5u` and `x5t` are not looked at.

use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    compact::{Compact, Limits},
    error::{TokenError, Untrusted},
    json,
};

/// What a token says about itself. Untrusted: it selects among rules and keys that are already there.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    /// Lower case, without `application/`.
    pub(super) typ: Option<String>,
    pub(super) key_id: Option<String>,
}

pub(super) const KEY_ID_MAX_BYTES: usize = 256;

/// Members that change what is signed (`b64`, `zip`) or that belong to encryption.
pub(super) const FORBIDDEN: [&str; 9] = ["b64", "zip", "enc", "epk", "apu", "apv", "p2c", "p2s", "iv"];

/// JWTs that are not access tokens, by `typ`. No profile may list them.
const OTHER_KINDS: [(&str, &str); 18] = [
    ("logout+jwt", "a logout token"),
    ("secevent+jwt", "a security event token"),
    ("dpop+jwt", "a DPoP proof"),
    ("statuslist+jwt", "a status list token"),
    ("token-introspection+jwt", "an introspection response"),
    ("oauth-authz-req+jwt", "an authorization request object"),
    ("client-authentication+jwt", "a client authentication assertion"),
    ("oauth-client-attestation+jwt", "a client attestation"),
    ("oauth-client-attestation-pop+jwt", "a client attestation proof"),
    ("openid4vci-proof+jwt", "a credential issuance proof"),
    ("keyattestation+jwt", "a key attestation"),
    ("kb+jwt", "a key binding token"),
    ("sd+jwt", "a selective disclosure credential"),
    ("dc+sd-jwt", "a selective disclosure credential"),
    ("vc+sd-jwt", "a selective disclosure credential"),
    ("entity-statement+jwt", "a federation entity statement"),
    ("trust-mark+jwt", "a federation trust mark"),
    ("id_token+jwt", "an ID token"),
];

// === impl Header ===

impl Header {
    /// The header of an access token: one that says it is another kind of JWT is refused.
    pub(super) fn parse(token: &Compact<'_>, limits: Limits) -> Result<Self, TokenError> {
        let header = Self::parse_any_kind(token, limits)?;
        match header.typ.as_deref().and_then(other_kind) {
            Some(kind) => Err(TokenError::OtherTokenKind { kind }),
            None => Ok(header),
        }
    }

    /// The header of a JWT whose kind the caller checks.
    pub(super) fn parse_any_kind(token: &Compact<'_>, limits: Limits) -> Result<Self, TokenError> {
        let members = sound_members(token, limits)?;
        Ok(Self { algorithm: algorithm(&members)?, typ: token_type(&members)?, key_id: key_id(&members)? })
    }

    /// The header of a JWT that is no access token but must be of exactly this other kind, and must say so.
    pub(super) fn parse_kind(
        token: &Compact<'_>,
        limits: Limits,
        kind: &str,
        issuer: &str,
    ) -> Result<Self, TokenError> {
        let header = Self::parse_any_kind(token, limits)?;
        if header.typ.as_deref() != Some(kind) {
            let found = header.typ.as_deref().map(Untrusted::new);
            let (allowed, issuer) = (kind.to_owned(), issuer.to_owned());
            return Err(TokenError::TypeNotAllowed { found, allowed, issuer });
        }
        Ok(header)
    }
}

/// The header's members, when none of them changes what is signed or how the payload is read.
pub(super) fn sound_members(token: &Compact<'_>, limits: Limits) -> Result<Map<String, Value>, TokenError> {
    let members = members(token, limits)?;
    if members.contains_key("crit") {
        return Err(TokenError::CriticalExtension);
    }
    if let Some(member) = FORBIDDEN.into_iter().find(|member| members.contains_key(*member)) {
        return Err(TokenError::ForbiddenHeader { member });
    }
    refuse_nested(&members)?;
    Ok(members)
}

/// The header's members, decoded and strictly parsed, nothing judged.
pub(super) fn members(token: &Compact<'_>, limits: Limits) -> Result<Map<String, Value>, TokenError> {
    json::parse_object(&token.header, limits.json()).map_err(TokenError::Header)
}

/// A media type as RFC 7515 §4.1.9 compares it: any case, `application/` left out.
pub(super) fn fold_type(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(subtype) if !subtype.contains('/') => subtype.to_owned(),
        _ => lower,
    }
}

/// What a folded `typ` is, when it is known not to be an access token.
pub(super) fn other_kind(folded: &str) -> Option<&'static str> {
    OTHER_KINDS.iter().find(|(typ, _)| *typ == folded).map(|(_, kind)| *kind)
}

pub(super) fn algorithm(members: &Map<String, Value>) -> Result<Algorithm, TokenError> {
    let Some(Value::String(name)) = members.get("alg") else { return Err(TokenError::AlgorithmMalformed) };
    if name.eq_ignore_ascii_case("none") {
        return Err(TokenError::AlgorithmNone);
    }
    name.parse().map_err(|_| TokenError::AlgorithmUnsupported { name: Untrusted::new(name) })
}

fn token_type(members: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    match members.get("typ") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(fold_type(name))),
        Some(_) => Err(TokenError::TypeMalformed),
    }
}

fn key_id(members: &Map<String, Value>) -> Result<Option<String>, TokenError> {
    match members.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) if (1..=KEY_ID_MAX_BYTES).contains(&id.len()) => Ok(Some(id.clone())),
        Some(_) => Err(TokenError::KeyIdMalformed),
    }
}

/// `cty` is legitimate only when it says something other than "a JWT"; a type that is not a string says nothing.
fn refuse_nested(members: &Map<String, Value>) -> Result<(), TokenError> {
    match members.get("cty") {
        None => Ok(()),
        Some(Value::String(name)) if !matches!(fold_type(name).as_str(), "jwt" | "jose" | "jose+json") => Ok(()),
        Some(Value::String(_)) => Err(TokenError::NestedToken),
        Some(_) => Err(TokenError::ForbiddenHeader { member: "cty" }),
    }
}
