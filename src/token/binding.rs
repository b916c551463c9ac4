//! Sender constraint: what a token's `cnf` binds it to, and whether whoever sent it holds that. A binding that is not
//! known here is refused and never overlooked; a token that is bound to a key is no bearer token.
//!
//! The claims are cached; what is decided here is decided anew for each request.

pub(super) mod certificate;

use std::{fmt, time::Duration};

use serde_json::{Map, Value};

use self::certificate::CertificateThumbprint;
use super::{
    algorithm::Algorithm,
    claims::VerifiedClaims,
    compact::{RawToken, decode_base64url},
    dpop::{self, AcceptedProof, Nonces, ProofError, ProofTarget},
    error::{TokenError, Untrusted},
    profile::IssuerProfile,
    signature::Thumbprint,
    time::UnixTime,
};

/// What a token is bound to (`cnf`, RFC 7800): a key (RFC 9449 §6.1), a certificate (RFC 8705 §3.1), or both. Never
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// `jkt`: the thumbprint of the key that signs DPoP proofs.
    key: Option<Thumbprint>,
    /// `x5t#S256`.
    certificate: Option<CertificateThumbprint>,
}

/// Which tokens an issuer profile accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SenderConstraint {
    /// Any; one that is bound must be proved.
    #[default]
    Optional,
    /// Bound ones only.
    Required,
    /// Those that are bound to a key.
    Dpop,
    /// Those that are bound to a certificate.
    Mtls,
}

/// The authentication scheme that a token was sent with. What stands in a cookie, the query or a header of its own
/// counts as [`Scheme::Bearer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    Bearer,
    /// RFC 9449 §7.1.
    Dpop,
}

/// What came with a token.
#[derive(Debug)]
pub struct Sent<'a> {
    /// The token itself.
    pub token: &'a RawToken,
    /// Its scheme.
    pub scheme: Scheme,
    /// The `DPoP` header.
    pub proof: SentProof<'a>,
    /// What the client asked for, when that is known.
    pub target: Option<&'a ProofTarget>,
    /// The client's certificate, when there is one.
    pub certificate: Result<Option<CertificateThumbprint>, CertificateFault>,
}

/// The `DPoP` header of a request.
#[derive(Debug, Clone, Copy)]
pub enum SentProof<'a> {
    /// There is none.
    Missing,
    /// There are two or more.
    Several,
    /// Exactly one.
    One(&'a RawToken),
}

/// How proofs are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRules {
    /// Accepted algorithms; never a shared secret.
    pub algorithms: Vec<Algorithm>,
    /// The greatest age of a proof.
    pub window: Duration,
    /// How far a proof's `iat` may lie in the future.
    pub leeway: Duration,
}

/// The header that should tell the client's certificate does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header `{header}` of the trusted peer is malformed: {problem}")]
pub struct CertificateFault {
    /// The header.
    pub header: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Why whoever sent a token does not count as its holder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// `cnf.jkt`, and not the scheme `DPoP`.
    #[error("the token is bound to a key and was sent as a bearer token; it needs `Authorization: DPoP` and a proof")]
    BoundTokenAsBearer,
    /// The scheme `DPoP`, and no `cnf.jkt`.
    #[error("the token was sent with the scheme DPoP, but it is bound to no key (`cnf.jkt`)")]
    UnboundTokenAsDpop,
    /// The profile wants a binding that the token lacks.
    #[error("the token lacks the binding that `sender_constraint: {wanted}` of {issuer} demands")]
    ConstraintMissing {
        /// As configured.
        wanted: SenderConstraint,
        /// The profile.
        issuer: String,
    },
    /// `cnf.x5t#S256`, and no certificate.
    #[error("the token is bound to a certificate, and the client presented none (or nobody who is trusted told of it)")]
    CertificateMissing,
    /// `cnf.x5t#S256`, and nobody can say which certificate there was.
    #[error("{0}")]
    CertificateMalformed(CertificateFault),
    /// Another certificate.
    #[error("the token is bound to another certificate than the client's, whose SHA-256 is {found}")]
    CertificateMismatch {
        /// What the client has.
        found: CertificateThumbprint,
    },
    /// The DPoP proof.
    #[error("{0}")]
    Proof(#[from] ProofError),
}

/// The members of `cnf` that are known here.
const KEY: &str = "jkt";
const CERTIFICATE: &str = "x5t#S256";

/// Asks whether the sender of a verified token holds what it is bound to. Gives the proof, when one was needed: the
/// caller must still see to it that none is accepted twice.
///
/// # Errors
/// The first check that failed.
pub fn check_sender(
    claims: &VerifiedClaims,
    profile: &IssuerProfile,
    sent: &Sent<'_>,
    rules: &ProofRules,
    nonces: Option<&Nonces>,
    now: UnixTime,
) -> Result<Option<AcceptedProof>, SenderError> {
    let (key, certificate) = claims.confirmation().map_or((None, None), |it| (it.key, it.certificate));
    let wanted = profile.sender_constraint();
    let is_bound_enough = match wanted {
        SenderConstraint::Optional => true,
        SenderConstraint::Required => key.is_some() || certificate.is_some(),
        SenderConstraint::Dpop => key.is_some(),
        SenderConstraint::Mtls => certificate.is_some(),
    };
    if !is_bound_enough {
        return Err(SenderError::ConstraintMissing { wanted, issuer: profile.issuer().to_owned() });
    }
    if let Some(bound) = certificate {
        match sent.certificate {
            Ok(Some(found)) if found == bound => {}
            Ok(Some(found)) => return Err(SenderError::CertificateMismatch { found }),
            Ok(None) => return Err(SenderError::CertificateMissing),
            Err(fault) => return Err(SenderError::CertificateMalformed(fault)),
        }
    }
    match (sent.scheme, key) {
        (Scheme::Bearer, None) => Ok(None),
        (Scheme::Bearer, Some(_)) => Err(SenderError::BoundTokenAsBearer),
        (Scheme::Dpop, None) => Err(SenderError::UnboundTokenAsDpop),
        (Scheme::Dpop, Some(key)) => Ok(Some(dpop::check(sent, &key, rules, nonces, now)?)),
    }
}

// === impl Confirmation ===

impl Confirmation {
    /// Reads `cnf`. Members that only make sense together with others, or that are not known here, would have to be
    /// checked: so they are refused.
    pub(super) fn read(claims: &Map<String, Value>) -> Result<Option<Self>, TokenError> {
        let members = match claims.get("cnf") {
            None => return Ok(None),
            Some(Value::Object(members)) if !members.is_empty() => members,
            Some(_) => return Err(TokenError::ConfirmationMalformed),
        };
        if let Some(unknown) = members.keys().find(|name| ![KEY, CERTIFICATE].contains(&name.as_str())) {
            return Err(TokenError::ConfirmationUnknown { member: Untrusted::new(unknown) });
        }
        let thumbprint = |name| members.get(name).map(|v| thumbprint(v).ok_or(TokenError::ConfirmationMalformed));
        Ok(Some(Self {
            key: thumbprint(KEY).transpose()?,
            certificate: thumbprint(CERTIFICATE).transpose()?.map(CertificateThumbprint::new),
        }))
    }

    /// Is the token bound to a certificate?
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }
}

/// 32 bytes in base64url without padding: 43 characters.
fn thumbprint(value: &Value) -> Option<Thumbprint> {
    decode_base64url(value.as_str()?)?.try_into().ok()
}

// === impl SenderConstraint ===

impl SenderConstraint {
    /// Every constraint, by its word in the configuration.
    pub const ALL: [(&'static str, Self); 4] =
        [("optional", Self::Optional), ("required", Self::Required), ("dpop", Self::Dpop), ("mtls", Self::Mtls)];
}

impl fmt::Display for SenderConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, constraint)| constraint == self).map_or("optional", |(word, _)| word))
    }
}

// === impl ProofRules ===

impl Default for ProofRules {
    /// ES256, ES384, ES512, EdDSA, and RS256 and PS256 for clients that have no other keys; a minute, and half a minute
    /// for clocks that differ.
    fn default() -> Self {
        use Algorithm::{ES256, ES384, ES512, EdDSA, PS256, RS256};
        Self {
            algorithms: vec![ES256, ES384, ES512, EdDSA, RS256, PS256],
            window: Duration::from_secs(60),
            leeway: Duration::from_secs(30),
        }
    }
}

// === impl SenderError ===

impl SenderError {
    /// Stable code for logs, metrics and decision events.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BoundTokenAsBearer => "bound_token_as_bearer",
            Self::UnboundTokenAsDpop => "unbound_token_as_dpop",
            Self::ConstraintMissing { .. } => "sender_constraint_missing",
            Self::CertificateMissing => "client_certificate_missing",
            Self::CertificateMalformed(_) => "client_certificate_malformed",
            Self::CertificateMismatch { .. } => "client_certificate_mismatch",
            Self::Proof(error) => error.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    /// `want`: which of `jkt` and `x5t#S256` are there, or the code of the refusal.
    fn check(cnf: &Value, want: &str) {
        let claims = Map::from_iter([("cnf".to_owned(), cnf.clone())]);
        let got = match Confirmation::read(&claims) {
            Ok(None) => "none",
            Ok(Some(it)) => match (it.key, it.certificate) {
                (Some(_), Some(_)) => "both",
                (Some(_), None) => "key",
                (None, Some(_)) => "certificate",
                (None, None) => "neither",
            },
            Err(error) => error.code(),
        };
        assert_eq!(got, want, "{cnf}");
    }

    #[test]
    fn a_confirmation_is_known_and_whole_or_refused() {
        check(&json!({ "jkt": PRINT }), "key");
        check(&json!({ "x5t#S256": PRINT }), "certificate");
        check(&json!({ "jkt": PRINT, "x5t#S256": PRINT }), "both");
        assert_eq!(Confirmation::read(&Map::new()), Ok(None));
        for malformed in [
            json!(null),
            json!({}),
            json!([]),
            json!(PRINT),
            json!({ "jkt": null }),
            json!({ "jkt": [PRINT] }),
            json!({ "jkt": "" }),
            json!({ "jkt": "AAAA" }),
            json!({ "jkt": format!("{PRINT}=") }),
            json!({ "jkt": format!("{PRINT}A") }),
            json!({ "jkt": PRINT.replace('-', "+") }),
            // The last character has unused bits: only one text names a thumbprint.
            json!({ "jkt": PRINT.replace("A4I", "A4J") }),
            json!({ "jkt": PRINT, "x5t#S256": 1 }),
            json!({ "x5t#S256": "d10a" }),
        ] {
            check(&malformed, "confirmation_malformed");
        }
        for unknown in ["jwk", "kid", "jku", "x5t", "JKT", "x5t#s256", "", "future"] {
            check(&json!({ unknown: PRINT }), "confirmation_unknown");
            check(&json!({ "jkt": PRINT, unknown: {} }), "confirmation_unknown");
        }
    }
}
