//! The pipeline: the order of the checks, and nothing else. [`verify`] is what a request runs; [`verify_explained`]
//! runs the same code with an observer, so that an explanation can never tell another story than the decision.

use super::{
    algorithm::Algorithm,
    claims::{Payload, VerifiedClaims, Voucher},
    compact::{Compact, EmptyPayload, Limits, RawToken},
    error::{TokenError, Untrusted},
    header::Header,
    keys::{KeyMiss, KeyRing, KeySet, WantedKey},
    profile::IssuerProfile,
    profiles::Profiles,
    signature::VerifyKey,
    time::{Times, UnixTime},
};

/// One step that a token passed, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPassed {
    /// As in [`TokenError::step`].
    pub step: &'static str,
    /// What was seen. Untrusted text in it is escaped and cut short.
    pub detail: String,
}

/// The steps, in their order.
pub const STEPS: [&str; 9] = ["format", "header", "payload", "issuer", "profile", "time", "key", "signature", "claims"];

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
    run(raw, profiles, keys, now, &mut Silent)
}

/// Runs the whole pipeline and tells which steps were passed.
pub fn verify_explained(
    raw: &RawToken,
    profiles: &Profiles,
    keys: &KeyRing,
    now: UnixTime,
) -> (Vec<StepPassed>, Result<VerifiedClaims, TokenError>) {
    let mut steps = Vec::new();
    let result = run(raw, profiles, keys, now, &mut steps);
    (steps, result)
}

/// Checks one compact JWS with the given keys, whatever its payload, which may even be empty.
///
/// No issuer, time, audience or type is looked at: a good signature is not a valid access token. `allowed` narrows the
/// algorithms; without it, each key's own algorithm counts.
///
/// # Errors
/// Format, header, key or signature, in this order.
pub fn verify_signature_only(raw: &RawToken, keys: &KeySet, allowed: Option<&[Algorithm]>) -> Result<(), TokenError> {
    let token = Compact::split(raw, Limits::TOOL, EmptyPayload::Allowed)?;
    let header = Header::parse(&token, Limits::TOOL)?;
    if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(&header.algorithm)) {
        return Err(TokenError::AlgorithmNotAllowed {
            found: header.algorithm,
            allowed: super::profile::join(allowed),
            issuer: "the command line".to_owned(),
        });
    }
    find(keys, &header, None)?.check(&token)?;
    Ok(())
}

fn run(
    raw: &RawToken,
    profiles: &Profiles,
    keys: &KeyRing,
    now: UnixTime,
    observer: &mut impl Observer,
) -> Result<VerifiedClaims, TokenError> {
    let limits = profiles.limits();

    let token = Compact::split(raw, limits, EmptyPayload::Refused)?;
    observer.passed("format", || {
        format!("three base64url segments, {} bytes of at most {}", raw.expose().len(), limits.token_bytes)
    });

    let header = Header::parse(&token, limits)?;
    observer.passed("header", || shown_header(&header));

    let payload = Payload::parse(&token, limits)?;
    observer.passed("payload", || {
        format!("an object of {} claims, none twice, at most {} deep", payload.claims().len(), limits.json_depth)
    });

    let profile = profile_of(&payload, profiles)?;
    observer.passed("issuer", || format!("`iss` equals the configured {} byte for byte", profile.issuer()));

    profile.check_header(&header)?;
    profile.check_size(payload.claims())?;
    observer.passed("profile", || shown_rules(&header, profile));

    let times = Times::read(payload.claims())?;
    times.check(profile.time_rules(), now)?;
    observer.passed("time", || times.shown(profile.time_rules(), now));

    let set = keys.get(profile.issuer());
    let set = set.ok_or_else(|| TokenError::KeysNeverHad { issuer: profile.issuer().to_owned() })?;
    let key = find(set, &header, Some(profile.issuer()))?;
    observer.passed("key", || format!("{}, among {} of the issuer", shown_key(key), set.len()));

    let signature = key.check(&token)?;
    observer.passed("signature", || format!("{} bytes verified with {}", token.signature.len(), key.algorithm()));

    let explicitly_typed = header.typ.as_deref() == Some("at+jwt");
    let carried = payload.claims().len();
    let claims = VerifiedClaims::judge(&Voucher::Signature(&signature), payload, times, explicitly_typed, profile)?;
    observer.passed("claims", || shown_claims(&claims, carried, profile));
    Ok(claims)
}

/// The issuer selects the rules; an unknown one causes no further work.
fn profile_of<'p>(payload: &Payload, profiles: &'p Profiles) -> Result<&'p IssuerProfile, TokenError> {
    let issuer = payload.issuer()?;
    profiles.get(issuer).ok_or_else(|| TokenError::IssuerUnknown { issuer: Untrusted::new(issuer) })
}

/// The one key for a token with this header.
pub(super) fn find<'k>(keys: &'k KeySet, header: &Header, issuer: Option<&str>) -> Result<&'k VerifyKey, TokenError> {
    let algorithm = header.algorithm;
    let key_id = || header.key_id.as_deref().map(Untrusted::new);
    keys.find(header.key_id.as_deref(), algorithm).map_err(|miss| match (miss, key_id()) {
        (KeyMiss::OtherAlgorithm(bound), Some(key_id)) => TokenError::KeyForOtherAlgorithm { key_id, bound, algorithm },
        (KeyMiss::Ambiguous(candidates), _) => TokenError::AmbiguousKey { candidates, algorithm },
        (_, key_id) => {
            let wanted = header.key_id.as_deref().map(WantedKey::named);
            TokenError::UnknownKey { issuer: issuer.map(str::to_owned), key_id, wanted, algorithm }
        }
    })
}

fn shown_header(header: &Header) -> String {
    let shown = |text: Option<&str>| text.map_or_else(|| "absent".to_owned(), |text| Untrusted::new(text).to_string());
    let (typ, key_id) = (shown(header.typ.as_deref()), shown(header.key_id.as_deref()));
    format!("alg {}, typ {typ}, kid {key_id}", header.algorithm)
}

fn shown_rules(header: &Header, profile: &IssuerProfile) -> String {
    let typ = header.typ.as_deref().map_or_else(|| "absent".to_owned(), |typ| Untrusted::new(typ).to_string());
    let (types, algorithms) = (profile.shown_types(), super::profile::join(profile.algorithms()));
    format!("`typ` {typ} is one of {types}; `alg` {} is one of {algorithms}", header.algorithm)
}

fn shown_claims(claims: &VerifiedClaims, carried: usize, profile: &IssuerProfile) -> String {
    let audience = Untrusted::new(&super::profile::join(claims.audience()));
    let subject = claims.subject().map_or_else(|| "absent".to_owned(), |it| Untrusted::new(it).to_string());
    let required = match profile.required_claims() {
        [] => "no more are required".to_owned(),
        claims => format!("{} are there, as required", super::profile::join(claims)),
    };
    format!(
        "`aud` {audience} meets {}; `sub` is {subject}; {required}; {} of {carried} reach policy in `claims`",
        super::profile::join(profile.audiences()),
        claims.claims().len()
    )
}

fn shown_key(key: &VerifyKey) -> String {
    let key_id = key.key_id().map_or_else(|| "absent".to_owned(), |key_id| Untrusted::new(key_id).to_string());
    format!("kid {key_id}, bound to {}", key.algorithm())
}

/// Is told of each step that was passed.
trait Observer {
    fn passed(&mut self, step: &'static str, detail: impl FnOnce() -> String);
}

/// On the request path nobody listens, and no detail is made.
struct Silent;

impl Observer for Silent {
    fn passed(&mut self, _step: &'static str, _detail: impl FnOnce() -> String) {}
}

impl Observer for Vec<StepPassed> {
    fn passed(&mut self, step: &'static str, detail: impl FnOnce() -> String) {
        self.push(StepPassed { step, detail: detail() });
    }
}
