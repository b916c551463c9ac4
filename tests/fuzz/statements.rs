//! The targets for what issuers say besides access tokens: logout tokens, security event tokens, status lists. Each input is
//! a statement as it stands, or header and claims with a NUL between them, which are signed with a right key.

use std::{sync::LazyLock, time::Duration};

use claimgate::token::{
    self, Algorithm, Effect, EventError, IssuerProfile, LogoutSettings, Notice, ProfileSettings, Profiles, RawToken,
    StatusList, StatusListLimits, Transmitter, UnixTime,
};

use super::{AUDIENCE, LEEWAY, NOW, PUBLIC_KEY_ISSUER, WORLD, split};

const LIST: &str = "https://idp.example/lists/1";
const LIST_BYTES: usize = 1 << 16;

static PROFILES: LazyLock<Profiles> = LazyLock::new(|| {
    let algorithms = vec![Algorithm::EdDSA, Algorithm::ES256];
    let settings = ProfileSettings {
        issuer: PUBLIC_KEY_ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: algorithms.clone(),
        leeway: Duration::from_secs(LEEWAY.unsigned_abs()),
        logout: Some(LogoutSettings { audiences: vec!["web".to_owned()], ..LogoutSettings::default() }),
        ..ProfileSettings::default()
    };
    let transmitter = Transmitter {
        issuer: PUBLIC_KEY_ISSUER.to_owned(),
        audiences: vec!["gate".to_owned()],
        algorithms,
        leeway: Duration::from_secs(LEEWAY.unsigned_abs()),
        tokens_of: PUBLIC_KEY_ISSUER.to_owned(),
    };
    Profiles::new(vec![IssuerProfile::new(settings).unwrap()]).unwrap().with_transmitters(vec![transmitter])
});

pub(super) fn logout_token(data: &[u8]) {
    let (raw, text, is_signed) = statement(data);
    let result = token::receive_logout(&raw, &PROFILES, &WORLD.keys, UnixTime(NOW));
    assert!(data != include_bytes!("seeds/logout_token/good") || result.is_ok(), "{result:?}");
    check(&text, is_signed, result);
}

pub(super) fn security_event(data: &[u8]) {
    let (raw, text, is_signed) = statement(data);
    let result = token::receive_event(&raw, PROFILES.transmitters(), &WORLD.keys, UnixTime(NOW));
    assert!(data != include_bytes!("seeds/security_event/good") || result.is_ok(), "{result:?}");
    check(&text, is_signed, result);
}

pub(super) fn status_list(data: &[u8]) {
    let (raw, text, is_signed) = statement(data);
    let profile = PROFILES.get(PUBLIC_KEY_ISSUER).unwrap();
    let keys = WORLD.keys.get(PUBLIC_KEY_ISSUER).map(AsRef::as_ref);
    let limits = StatusListLimits { token_bytes: 1 << 18, list_bytes: LIST_BYTES };
    let result = StatusList::open(&raw, LIST, profile, keys, limits, UnixTime(NOW));
    assert!(data != include_bytes!("seeds/status_list/one-bit") || result.is_ok(), "{result:?}");
    match result {
        Ok(list) => {
            assert!(is_signed, "a forged list was accepted: {text}");
            assert!((1..=LIST_BYTES).contains(&list.size()), "{} bytes", list.size());
            assert!(list.expires_at().is_none_or(|at| at.0 > NOW), "expired");
            let last = (0..).map(|power| 1_u64 << power).take_while(|index| list.at(*index).is_some()).last();
            assert!(last.unwrap_or(0) < 8 * LIST_BYTES as u64, "a status beyond the end");
            assert!(list.at(u64::MAX).is_none());
            is_no_access_token(&raw);
        }
        Err(error) => hides(&text, &format!("{error} {error:?}")),
    }
}

fn statement(data: &[u8]) -> (RawToken, String, bool) {
    let made = split(data).map(|(header, claims)| WORLD.signing_key.sign_bytes(header, claims).unwrap());
    let is_signed = made.is_some();
    let text = made.unwrap_or_else(|| String::from_utf8_lossy(data).into_owned());
    (RawToken::new(text.clone()), text, is_signed)
}

fn check(text: &str, is_signed: bool, result: Result<Notice, EventError>) {
    match result {
        Ok(notice) => {
            assert!(is_signed, "a forged statement was accepted: {text}");
            assert_eq!(notice.issuer, PUBLIC_KEY_ISSUER);
            assert!((1..=1024).contains(&notice.id.len()));
            if let Effect::Revoke(entries) = notice.effect {
                assert!((1..=32).contains(&entries.len()), "{} entries", entries.len());
                for entry in entries {
                    assert_eq!(entry.target.issuer(), Some(PUBLIC_KEY_ISSUER), "tokens of another issuer");
                    assert!(entry.valid_after.is_some_and(|at| at <= NOW + LEEWAY), "an event to come");
                    assert!(entry.target.parts().2.len() <= 1024);
                }
            }
            is_no_access_token(&RawToken::new(text));
        }
        Err(error) => hides(text, &format!("{error} {error:?}")),
    }
}

fn is_no_access_token(raw: &RawToken) {
    assert!(token::verify(raw, &PROFILES, &WORLD.keys, UnixTime(NOW)).is_err(), "it passes for an access token too");
}

/// An error never holds the statement. Short texts are no secret and may stand in a message by accident.
fn hides(text: &str, shown: &str) {
    assert!(text.len() < 64 || !shown.contains(text), "an error holds the statement");
}
