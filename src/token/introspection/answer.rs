//! One answer: strict JSON or a signed JWT → claims, or why not. `active` must be exactly `true`; what stands beside it is
//! then judged as the claims of a JWT are.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{IntrospectionError, IntrospectionFault, IntrospectionSettings};
use crate::token::{
    binding::Confirmation,
    claims::{Payload, VerifiedClaims, Voucher, strings},
    compact::{Compact, EmptyPayload, Limits, RawToken},
    error::{TokenError, Untrusted},
    header::Header,
    json,
    keys::KeySet,
    profile::IssuerProfile,
    time::{Times, UnixTime},
    verify::find,
};

/// What kind of answer came, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// `application/json` (RFC 7662 §2.2).
    Json,
    /// `application/token-introspection+jwt` (RFC 9701 §5).
    Signed,
}

/// Proof that the issuer was asked and said `active: true`.
pub(in crate::token) struct ActiveAnswer {
    may_lack_audience: bool,
}

/// `typ` of a signed answer.
const SIGNED_TYPE: &str = "token-introspection+jwt";
/// A signed answer is made for one question: an older one is a recording.
const LONGEST_AGE: Duration = Duration::from_secs(60);
/// Bounds of an answer. Its bytes are counted by whoever received it.
const LIMITS: Limits = Limits { token_bytes: 256 * 1024, json_depth: 16, json_members: 1000 };

/// What an issuer answered about an opaque token, judged like the claims of a JWT.
///
/// # Errors
/// [`TokenError::Introspection`], or what [`verify()`](crate::token::verify()) says of such claims.
pub fn judge_answer(
    form: AnswerForm,
    body: &[u8],
    profile: &IssuerProfile,
    keys: Option<&KeySet>,
    now: UnixTime,
) -> Result<VerifiedClaims, TokenError> {
    let settings = settings(profile)?;
    let mut members = active_members(form, body, profile, settings, keys, now)?;
    profile.check_size(&members)?;
    let is_typed = check_type(&members)?;
    if settings.optional_audience && !members.contains_key("aud") && !is_typed {
        // Without both, it may as well be a refresh token, about which issuers can be asked too.
        return Err(TokenError::NotAnAccessToken { sign: "the answer has neither `aud` nor `token_type`" });
    }
    if settings.optional_expiry && !members.contains_key("exp") {
        let until = now.0.saturating_add(i64::try_from(settings.cache_ttl.as_secs()).unwrap_or(i64::MAX));
        members.insert("exp".to_owned(), until.into());
    }
    profile.check_size(&members)?;
    let times = Times::read(&members)?;
    times.check(profile.time_rules(), now)?;
    let active = ActiveAnswer { may_lack_audience: settings.optional_audience };
    VerifiedClaims::judge(&Voucher::Issuer(&active), Payload::of_answer(members), times, is_typed, profile)
}

/// What an issuer answered about a JWT that verified: is it still active, and is it the same token?
///
/// # Errors
/// [`TokenError::Introspection`], or dates in the answer that do not hold.
pub fn confirm(
    claims: &VerifiedClaims,
    form: AnswerForm,
    body: &[u8],
    profile: &IssuerProfile,
    keys: Option<&KeySet>,
    now: UnixTime,
) -> Result<(), TokenError> {
    let settings = settings(profile)?;
    let mut members = active_members(form, body, profile, settings, keys, now)?;
    check_type(&members)?;
    for (claim, own) in [("sub", claims.subject()), ("jti", claims.id())] {
        let Some(said) = members.get(claim) else { continue };
        let Some(said) = said.as_str() else {
            return Err(unavailable(
                profile,
                IntrospectionFault::Malformed(format!("has a `{claim}` that is no string")),
            ));
        };
        if own.is_some_and(|own| own != said) {
            let issuer = profile.issuer().to_owned();
            return Err(IntrospectionError::Contradiction { issuer, claim }.into());
        }
    }
    // RFC 9449 §6.2, RFC 8705 §3.2: the issuer may tell the binding here. One that the token does not have itself would be
    // proved by nobody.
    if let Some(said) = Confirmation::read(&members)?
        && claims.confirmation() != Some(&said)
    {
        let issuer = profile.issuer().to_owned();
        return Err(IntrospectionError::Contradiction { issuer, claim: "cnf" }.into());
    }
    if !members.contains_key("exp") {
        members.insert("exp".to_owned(), claims.expires_at().into());
    }
    Times::read(&members)?.check(profile.time_rules(), now)
}

/// The members of an answer that says `active: true` and is about a token of this issuer.
fn active_members(
    form: AnswerForm,
    body: &[u8],
    profile: &IssuerProfile,
    settings: &IntrospectionSettings,
    keys: Option<&KeySet>,
    now: UnixTime,
) -> Result<Map<String, Value>, TokenError> {
    let malformed = |what: String| unavailable(profile, IntrospectionFault::Malformed(what));
    let mut members = match form {
        AnswerForm::Json if settings.signed => {
            return Err(unavailable(profile, IntrospectionFault::ContentType("application/token-introspection+jwt")));
        }
        AnswerForm::Json => json::parse_object(body, LIMITS.json()).map_err(|fault| malformed(fault.to_string()))?,
        AnswerForm::Signed => signed_members(body, profile, settings, keys, now)
            .map_err(|error| unavailable(profile, IntrospectionFault::Unverified(Box::new(error))))?,
    };
    match members.remove("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => {
            return Err(IntrospectionError::Inactive { issuer: profile.issuer().to_owned() }.into());
        }
        Some(_) => return Err(malformed("has an `active` that is neither `true` nor `false`".to_owned())),
        None => return Err(malformed("has no `active`".to_owned())),
    }
    match members.get("iss") {
        None => {}
        Some(Value::String(issuer)) if issuer == profile.issuer() => {}
        Some(Value::String(issuer)) => {
            let found = Untrusted::new(issuer);
            return Err(IntrospectionError::OtherIssuer { issuer: profile.issuer().to_owned(), found }.into());
        }
        Some(_) => return Err(TokenError::IssuerMalformed),
    }
    Ok(members)
}

/// `token_introspection` of a signed answer (RFC 9701 §5), after the same steps that an access token passes.
fn signed_members(
    body: &[u8],
    profile: &IssuerProfile,
    settings: &IntrospectionSettings,
    keys: Option<&KeySet>,
    now: UnixTime,
) -> Result<Map<String, Value>, TokenError> {
    let issuer = profile.issuer();
    // Bytes outside of ASCII are refused as characters by the next step.
    let raw = RawToken::new(String::from_utf8_lossy(body).into_owned());
    let jws = Compact::split(&raw, LIMITS, EmptyPayload::Refused)?;
    let header = Header::parse_kind(&jws, LIMITS, SIGNED_TYPE, issuer)?;
    profile.check_algorithm(&header)?;
    let mut claims = Payload::parse(&jws, LIMITS)?.into_claims();
    if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        let found = claims.get("iss").and_then(Value::as_str).map(Untrusted::new);
        return Err(found.map_or(TokenError::IssuerMalformed, |issuer| TokenError::IssuerUnknown { issuer }));
    }
    let keys = keys.ok_or_else(|| TokenError::KeysNeverHad { issuer: issuer.to_owned() })?;
    find(keys, &header, Some(issuer))?.check(&jws)?;

    let audience = claims.get("aud").and_then(strings).ok_or(TokenError::AudienceMalformed)?;
    // It names us as a client, or as what tokens are for: RFC 9701 leaves that to the issuer.
    let ours = || profile.audiences().iter().chain([&settings.client_id]).filter(|name| !name.is_empty());
    if !ours().any(|name| audience.contains(name)) {
        let found = Untrusted::new(&crate::token::profile::join(&audience));
        return Err(TokenError::AudienceMismatch { found, expected: crate::token::profile::join(ours()) });
    }
    Times::check_made_now(&claims, profile.leeway(), LONGEST_AGE, now)?;
    match claims.remove("token_introspection") {
        Some(Value::Object(members)) => Ok(members),
        _ => Err(TokenError::ClaimMalformed { claim: "token_introspection" }),
    }
}

/// `token_type` (RFC 6749 §7.1): does the answer say that the token is an access token?
fn check_type(members: &Map<String, Value>) -> Result<bool, TokenError> {
    let is = |text: &str, word: &str| text.eq_ignore_ascii_case(word);
    // Some servers can be asked about refresh and ID tokens, and tell the kind in a member of their own.
    let is_other = members.get("token_use").is_some_and(|kind| kind != "access" && kind != "access_token");
    match members.get("token_type") {
        _ if is_other => Err(TokenError::NotAnAccessToken { sign: "its `token_use` is not that of an access token" }),
        None => Ok(false),
        Some(Value::String(kind)) if is(kind, "bearer") => Ok(true),
        Some(Value::String(kind)) if is(kind, "dpop") && members.contains_key("cnf") => Ok(true),
        Some(Value::String(kind)) if is(kind, "dpop") => {
            Err(TokenError::NotAnAccessToken { sign: "its `token_type` is `DPoP`, but it has no `cnf`" })
        }
        Some(_) => Err(TokenError::NotAnAccessToken { sign: "its `token_type` is neither `Bearer` nor `DPoP`" }),
    }
}

fn settings(profile: &IssuerProfile) -> Result<&IntrospectionSettings, TokenError> {
    profile.introspection().ok_or_else(|| {
        unavailable(profile, IntrospectionFault::Endpoint("the issuer profile has no `introspection`".to_owned()))
    })
}

fn unavailable(profile: &IssuerProfile, cause: IntrospectionFault) -> TokenError {
    IntrospectionError::Unavailable { issuer: profile.issuer().to_owned(), cause }.into()
}

// === impl ActiveAnswer ===

impl ActiveAnswer {
    pub(in crate::token) fn may_lack_audience(&self) -> bool {
        self.may_lack_audience
    }
}

impl From<IntrospectionError> for TokenError {
    fn from(error: IntrospectionError) -> Self {
        Self::Introspection(error)
    }
}
