//! The claims set: parsed once before the signature, judged after it, and reduced to what the profile projects. It
//! keeps nothing that the profile does not name, and refuses tokens that are not access tokens.

use serde_json::{Map, Value};

use super::{
    binding::Confirmation,
    compact::{Compact, Limits},
    error::{TokenError, Untrusted},
    introspection::ActiveAnswer,
    json,
    profile::{IssuerProfile, join},
    signature::SignatureChecked,
    status_list::StatusReference,
    time::{Times, UnixTime},
};

/// What is left after every check passed. Only [`verify()`](super::verify()) and [`judge_answer`](super::judge_answer)
/// make one.
#[derive(Debug, Clone)]
pub struct VerifiedClaims {
    issuer: String,
    subject: Option<String>,
    audience: Vec<String>,
    scopes: Vec<String>,
    id: Option<String>,
    times: Times,
    key_id: Option<String>,
    confirmation: Option<Confirmation>,
    /// What revocation asks for beside the above; policy sees none of it unless it is projected.
    session_id: Option<String>,
    client_id: Option<String>,
    authorized_party: Option<String>,
    tenants: Vec<String>,
    status: Option<StatusReference>,
    claims: Map<String, Value>,
}

/// What makes a claims set believable.
pub(super) enum Voucher<'v> {
    /// A signature of the issuer, with the key that checked it.
    Signature(&'v SignatureChecked),
    /// The issuer itself, asked about the token.
    Issuer(&'v ActiveAnswer),
}

/// A claims set whose signature may not have been checked yet.
pub(super) struct Payload(Map<String, Value>);

/// Claims that only other kinds of JWT have.
const OTHER_KINDS: [(&str, &str); 12] = [
    // ID tokens: OpenID Connect Core §2, §3.3.2.11, and the financial-grade profile.
    ("at_hash", "it has `at_hash`"),
    ("c_hash", "it has `c_hash`"),
    ("s_hash", "it has `s_hash`"),
    ("nonce", "it has `nonce`"),
    // DPoP proofs: RFC 9449 §4.2.
    ("htm", "it has `htm`, as DPoP proofs do"),
    ("htu", "it has `htu`, as DPoP proofs do"),
    // Authorization requests: RFC 9101 §2.1.
    ("response_type", "it has `response_type`, as authorization requests do"),
    // Introspection responses: RFC 9701 §5.
    ("token_introspection", "it has `token_introspection`, as introspection responses do"),
    ("status_list", "it has `status_list`, as status list tokens do"),
    // Credentials and presentations.
    ("vc", "it has `vc`, as verifiable credentials do"),
    ("vp", "it has `vp`, as verifiable presentations do"),
    ("_sd_alg", "it has `_sd_alg`, as selective disclosure credentials do"),
];

// === impl Voucher ===

impl Voucher<'_> {
    fn key_id(&self) -> Option<&str> {
        match self {
            Self::Signature(signature) => signature.key_id(),
            Self::Issuer(_) => None,
        }
    }
}

// === impl Payload ===

impl Payload {
    /// The members of an introspection answer, which stand for the claims of the token.
    pub(super) fn of_answer(members: Map<String, Value>) -> Self {
        Self(members)
    }

    pub(super) fn parse(token: &Compact<'_>, limits: Limits) -> Result<Self, TokenError> {
        let claims = json::parse_object(&token.payload, limits.json()).map_err(TokenError::Payload)?;
        Ok(Self(claims))
    }

    pub(super) fn claims(&self) -> &Map<String, Value> {
        &self.0
    }

    pub(super) fn into_claims(self) -> Map<String, Value> {
        self.0
    }

    pub(super) fn issuer(&self) -> Result<&str, TokenError> {
        match self.0.get("iss") {
            Some(Value::String(issuer)) => Ok(issuer),
            _ => Err(TokenError::IssuerMalformed),
        }
    }

    fn audience(&self, profile: &IssuerProfile) -> Result<Vec<String>, TokenError> {
        let found = match self.0.get("aud") {
            None => {
                return Err(TokenError::AudienceMissing {
                    expected: join(profile.audiences()),
                    issuer: profile.issuer().to_owned(),
                });
            }
            Some(value) => strings(value).ok_or(TokenError::AudienceMalformed)?,
        };
        if found.iter().any(|audience| profile.audiences().contains(audience)) {
            return Ok(found);
        }
        Err(TokenError::AudienceMismatch { found: Untrusted::new(&join(&found)), expected: join(profile.audiences()) })
    }

    fn subject(&self) -> Result<Option<String>, TokenError> {
        match self.0.get("sub") {
            None => Ok(None),
            Some(Value::String(subject)) if !subject.is_empty() => Ok(Some(subject.clone())),
            Some(_) => Err(TokenError::SubjectMalformed),
        }
    }

    fn string(&self, claim: &'static str) -> Result<Option<&str>, TokenError> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(TokenError::ClaimMalformed { claim }),
        }
    }

    /// `scope` (RFC 8693: one space-separated string), `scp` and `scopes` (other issuers: string or array), in this
    /// order, each scope once.
    fn scopes(&self) -> Result<Vec<String>, TokenError> {
        let mut scopes: Vec<String> = Vec::new();
        for claim in ["scope", "scp", "scopes"] {
            let Some(value) = self.0.get(claim) else { continue };
            let listed = strings(value).ok_or(TokenError::ScopeMalformed { claim })?;
            for scope in listed.iter().flat_map(|entry| entry.split(' ')).filter(|scope| !scope.is_empty()) {
                if !scopes.iter().any(|known| known == scope) {
                    scopes.push(scope.to_owned());
                }
            }
        }
        Ok(scopes)
    }

    /// The tenant claim: a string or an integer, or an array of them. A tenant that cannot be read could not be revoked.
    fn tenants(&self, profile: &IssuerProfile) -> Result<Vec<String>, TokenError> {
        let Some((claim, value)) = profile.tenant_claim().and_then(|claim| Some((claim, self.0.get(claim)?))) else {
            return Ok(Vec::new());
        };
        let one = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
            _ => None,
        };
        let tenants = match value {
            Value::Null => Some(Vec::new()),
            Value::Array(many) => many.iter().map(one).collect(),
            value => one(value).map(|tenant| vec![tenant]),
        };
        tenants.ok_or_else(|| TokenError::TenantMalformed { claim: claim.to_owned() })
    }

    fn refuse_other_kinds(&self, explicitly_typed: bool) -> Result<(), TokenError> {
        match sign_of_other_kind(&self.0, explicitly_typed) {
            Some(sign) => Err(TokenError::NotAnAccessToken { sign }),
            None => Ok(()),
        }
    }

    fn refuse_missing(&self, required: &[String]) -> Result<(), TokenError> {
        match required.iter().find(|claim| self.0.get(*claim).is_none_or(Value::is_null)) {
            Some(claim) => Err(TokenError::RequiredClaimMissing { claim: claim.clone() }),
            None => Ok(()),
        }
    }
}

// === impl VerifiedClaims ===

impl VerifiedClaims {
    /// The only constructor: needs the proof that the signature was checked, or that the issuer was asked.
    pub(super) fn judge(
        voucher: &Voucher<'_>,
        payload: Payload,
        times: Times,
        explicitly_typed: bool,
        profile: &IssuerProfile,
    ) -> Result<Self, TokenError> {
        payload.refuse_other_kinds(explicitly_typed)?;
        let audience = match voucher {
            Voucher::Issuer(answer) if answer.may_lack_audience() && !payload.0.contains_key("aud") => Vec::new(),
            _ => payload.audience(profile)?,
        };
        let subject = payload.subject()?;
        let id = payload.string("jti")?.map(str::to_owned);
        let [session_id, client_id, authorized_party] =
            [payload.string("sid")?, payload.string("client_id")?, payload.string("azp")?]
                .map(|claim| claim.map(str::to_owned));
        let tenants = payload.tenants(profile)?;
        let scopes = payload.scopes()?;
        payload.refuse_missing(profile.required_claims())?;
        let confirmation = Confirmation::read(&payload.0)?;
        let status = StatusReference::of_claims(&payload.0, profile).map_err(TokenError::Status)?;
        let mut all = payload.0;
        let claims = profile.projection().filter_map(|(from, to)| Some((to.to_owned(), all.remove(from)?))).collect();
        Ok(Self {
            issuer: profile.issuer().to_owned(),
            subject,
            audience,
            scopes,
            id,
            times,
            key_id: voucher.key_id().map(str::to_owned),
            confirmation,
            session_id,
            client_id,
            authorized_party,
            tenants,
            status,
            claims,
        })
    }

    /// Holds the dates against a later `now`. With the same profiles and the same keys, this is all that can have
    /// changed since the claims were verified: a cache must ask it on every hit.
    ///
    /// # Errors
    /// What [`verify()`](super::verify()) would say at that time.
    pub fn check_times(&self, profile: &IssuerProfile, now: UnixTime) -> Result<(), TokenError> {
        self.times.check(profile.time_rules(), now)
    }

    /// `iss`: the issuer profile's.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// `aud`, as a list; at least one of them is the profile's. Empty only when the issuer was asked about the token, named
    /// none, and the profile permits that.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// `scope`, `scp` and `scopes`, as one list without repetition.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// `jti`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// `iat`, in Unix seconds.
    #[must_use]
    pub fn issued_at(&self) -> Option<i64> {
        self.times.issued_at()
    }

    /// `exp`, in Unix seconds.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        self.times.expires_at()
    }

    /// The `kid` of the key that verified the signature, as the issuer's key set names it. An issuer that was asked about
    /// the token named none.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// `cnf`: what the sender must prove to hold. These claims alone make nobody a caller while it is there.
    #[must_use]
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.confirmation.as_ref()
    }

    /// `sid`.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// The client that the token was issued to: `client_id`, or else `azp`.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.clients().next()
    }

    /// `client_id` and `azp`: each that is there.
    pub fn clients(&self) -> impl Iterator<Item = &str> {
        [&self.client_id, &self.authorized_party].into_iter().filter_map(|client| client.as_deref())
    }

    /// The values of the profile's tenant claim, when it has one.
    #[must_use]
    pub fn tenants(&self) -> &[String] {
        &self.tenants
    }

    /// Where its status is listed, when its issuer's profile wants that looked at. It must be asked on every request.
    #[must_use]
    pub fn status(&self) -> Option<&StatusReference> {
        self.status.as_ref()
    }

    /// Estimated bytes of the strings and values in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        let all = |texts: &[String]| texts.iter().map(|text| weight(text.len())).sum::<u64>();
        let one = |text: &Option<String>| text.as_ref().map_or(0, |text| weight(text.len()));
        let claims: u64 = self.claims.iter().map(|(name, value)| weight(name.len()) + size(value)).sum();
        let names = [&self.subject, &self.id, &self.key_id, &self.session_id, &self.client_id, &self.authorized_party];
        let status = self.status.as_ref().map_or(0, |status| weight(status.uri().len()));
        let lists = all(&self.audience) + all(&self.scopes) + all(&self.tenants);
        lists + names.into_iter().map(one).sum::<u64>() + status + claims
    }

    /// The projected claims under their projected names; nothing else is kept.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// What gives a claims set away as that of another kind of JWT.
///
/// `typ: at+jwt` already says what the token is. Without it, what only other kinds of token carry gives them away.
/// Keycloak writes the kind into a claim `typ`; its access tokens say `Bearer` there and may carry a `nonce`. Amazon
/// Cognito writes it into `token_use`.
pub(super) fn sign_of_other_kind(claims: &Map<String, Value>, explicitly_typed: bool) -> Option<&'static str> {
    if claims.contains_key("events") {
        return Some("it has `events`, as logout and security event tokens do");
    }
    if explicitly_typed {
        return None;
    }
    match claims.get("typ") {
        None => {}
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => return None,
        Some(_) => return Some("its claim `typ` is not `Bearer`"),
    }
    if claims.get("token_use").is_some_and(|kind| kind != "access") {
        return Some("its claim `token_use` is not `access`");
    }
    OTHER_KINDS.iter().find(|(claim, _)| claims.contains_key(*claim)).map(|(_, sign)| *sign)
}

/// A text, or a node without one, with what the allocator and the container take for it.
fn weight(text: usize) -> u64 {
    64 + u64::try_from(text).unwrap_or(u64::MAX >> 8)
}

fn size(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) => weight(0),
        Value::Number(number) => weight(number.as_str().len()),
        Value::String(text) => weight(text.len()),
        Value::Array(items) => weight(0) + items.iter().map(size).sum::<u64>(),
        Value::Object(members) => members.iter().map(|(name, value)| weight(name.len()) + size(value)).sum(),
    }
}

/// A string, or an array of nothing but strings.
pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|entry| entry.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}
