//! Logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.4, §2.6): a session, or all sessions of a subject, ended at
//! the issuer. An ID token can never pass for one (`events` is needed, `nonce` refused), nor an access token.

use serde_json::{Map, Value};

use super::{
    compact::{Limits, RawToken},
    error::Untrusted,
    event::{Effect, EventError, EventKind, LOGOUT_EVENT, MAX_ID_BYTES, Notice, jti},
    keys::KeyRing,
    profile::{NO_TYPE, ProfileError, join},
    profiles::Profiles,
    revocation::{Revocation, Target},
    statement::{Expected, Unverified, check_audience, check_dates},
    time::{UnixTime, date, seconds},
};

/// How logout tokens of one issuer are to be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutSettings {
    /// Accepted `aud`: the client ids of the applications whose sessions end.
    pub audiences: Vec<String>,
    /// Accepted `typ`: `logout+jwt`, `jwt`, and `none` for a header without.
    pub types: Vec<String>,
    /// What a logout token that names both a session and its subject ends.
    pub ends: LogoutEnds,
}

/// What a logout token that names both a session and its subject ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogoutEnds {
    /// The tokens of that session, by their `sid`.
    #[default]
    Session,
    /// All tokens of that subject: for issuers whose access tokens have no `sid`.
    Subject,
}

/// What logout tokens may say of themselves (§2.4 recommends the first).
const TYPES: [&str; 3] = ["logout+jwt", "jwt", NO_TYPE];

/// What is looked at before anything is believed.
const LIMITS: Limits = Limits { token_bytes: 8 * 1024, json_depth: 16, json_members: 200 };

/// Verifies a logout token and says what it ends: tokens that were issued no later than it was.
///
/// # Errors
/// The first check that failed.
pub fn receive_logout(
    raw: &RawToken,
    profiles: &Profiles,
    keys: &KeyRing,
    now: UnixTime,
) -> Result<Notice, EventError> {
    let token = Unverified::parse(raw, LIMITS)?;
    let issuer = token.issuer()?;
    let unknown = || EventError::SenderUnknown { issuer: Untrusted::new(issuer), what: "logout tokens" };
    let profile = profiles.get(issuer).ok_or_else(unknown)?;
    let settings = profile.logout().ok_or_else(unknown)?;
    check_audience(token.claims(), &settings.audiences, profile.issuer())?;
    let issued = check_dates(token.claims(), profile.leeway(), now)?;
    let expires = date(token.claims(), "exp")?.ok_or(EventError::ExpiryMissing)?;
    let (lifetime, limit) = (expires.ceil().saturating_sub(issued.floor()), seconds(profile.time_rules().max_lifetime));
    if lifetime > limit {
        return Err(EventError::LifetimeTooLong { seconds: lifetime, limit });
    }
    let expected = Expected { issuer: profile.issuer(), types: &settings.types, algorithms: profile.algorithms() };
    let verified = token.verify(&expected, keys.get(profile.issuer()).map(AsRef::as_ref))?;

    let claims = &verified.claims;
    if claims.contains_key("nonce") {
        return Err(EventError::ForbiddenClaim { claim: "nonce", what: "a logout token" });
    }
    let id = jti(claims)?;
    // Beside the event others may stand: Keycloak writes `revoke_offline_access` there.
    match claims.get("events") {
        Some(Value::Object(events)) => match events.get(LOGOUT_EVENT) {
            Some(Value::Object(_)) => {}
            Some(_) => return Err(EventError::EventsMalformed),
            None => return Err(EventError::NotALogout),
        },
        _ => return Err(EventError::EventsMalformed),
    }
    let issuer = profile.issuer().to_owned();
    let target = match (identifier(claims, "sub")?, identifier(claims, "sid")?) {
        (None, None) => return Err(EventError::NobodyNamed),
        (Some(subject), None) => Target::Subject { issuer, subject },
        (Some(subject), Some(_)) if settings.ends == LogoutEnds::Subject => Target::Subject { issuer, subject },
        (_, Some(session)) => Target::Session { issuer, session },
    };
    let entry = Revocation { target, valid_after: Some(issued.floor()), expires_at: None };
    Ok(Notice {
        issuer: profile.issuer().to_owned(),
        id,
        kind: EventKind::BackchannelLogout,
        effect: Effect::Revoke(vec![entry]),
        content: verified.content,
    })
}

fn identifier(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<String>, EventError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(id)) if (1..=MAX_ID_BYTES).contains(&id.len()) => Ok(Some(id.clone())),
        Some(_) => Err(EventError::IdentifierMalformed { claim }),
    }
}

// === impl LogoutSettings ===

impl LogoutSettings {
    /// Everything that is wrong with them.
    pub(super) fn problems(&self) -> Vec<ProfileError> {
        let mut problems = Vec::new();
        let mut add = |field, message: String| problems.push(ProfileError { field, message });
        if self.audiences.is_empty() {
            let message = "no audience; name the client id that logout tokens of this issuer are for";
            add("logout.audience", message.to_owned());
        }
        if self.types.is_empty() {
            add("logout.types", format!("no type; logout tokens have {}", join(TYPES)));
        }
        for name in self.types.iter().filter(|name| !TYPES.contains(&name.as_str())) {
            add("logout.types", format!("`{name}` is no type of logout tokens; they have {}", join(TYPES)));
        }
        for (field, names) in [("logout.audience", &self.audiences), ("logout.types", &self.types)] {
            let twice = names.iter().enumerate().find(|(index, name)| names.iter().take(*index).any(|it| it == *name));
            if let Some((_, name)) = twice {
                add(field, format!("`{name}` is listed twice"));
            }
        }
        problems
    }
}

impl Default for LogoutSettings {
    /// No audience, so not yet settings. `typ` is recommended and not required by the specification, and many issuers
    /// write `JWT`; that no other kind of token passes is held by `events` and `nonce`.
    fn default() -> Self {
        Self {
            audiences: Vec::new(),
            types: vec!["logout+jwt".to_owned(), "jwt".to_owned()],
            ends: LogoutEnds::Session,
        }
    }
}
