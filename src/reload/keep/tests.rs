//! What is kept of an issuer's keys, and what of it is believed.

use std::fs;

use super::*;
use crate::token::{Algorithm, ProfileSettings, SigningKey};

const ISSUER: &str = "https://idp.example";
const NOW: u64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn profile(issuer: &str, algorithm: Algorithm) -> IssuerProfile {
    let settings = ProfileSettings {
        issuer: issuer.to_owned(),
        audiences: vec!["app".to_owned()],
        algorithms: vec![algorithm],
        key_origin: KeyOrigin::Remote,
        ..ProfileSettings::default()
    };
    IssuerProfile::new(settings).unwrap()
}

fn place(directory: &Path, issuer: &str, url: &str) -> Arc<Place> {
    let source = KeySource::Url { url: url.to_owned(), fetch: super::super::FetchSettings::default() };
    Keeper::new(Some(directory.to_owned()), &profile(issuer, Algorithm::ES256), &source).place.unwrap()
}

fn jwks(kid: &str) -> String {
    SigningKey::generate_es256(kid).unwrap().public_jwks().unwrap()
}

fn load(place: &Place, now: u64) -> Result<Option<usize>, String> {
    let kept = place.load(&profile(ISSUER, Algorithm::ES256), HOUR, now);
    kept.map(|kept| kept.map(|kept| kept.keys.len())).map_err(|unusable| unusable.to_string())
}

#[test]
fn keys_are_kept_until_they_are_too_old_counted_from_their_fetch() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path(), ISSUER, "https://idp.example/keys");
    assert_eq!(load(&place, NOW), Ok(None), "nothing was kept yet");
    place.save(jwks("a"), NOW).unwrap();
    for age in [0, 1, 3599] {
        assert_eq!(load(&place, NOW + age), Ok(Some(1)), "{age}");
    }
    assert!(load(&place, NOW + 3600).unwrap_err().contains("longer than `max_stale`"));
    assert_eq!(load(&place, NOW - TOLERANCE), Ok(Some(1)), "the clock went back a little");
    assert!(load(&place, NOW - TOLERANCE - 1).unwrap_err().contains("in the future"));
    let kept = place.load(&profile(ISSUER, Algorithm::ES256), HOUR, NOW + 60).unwrap().unwrap();
    assert_eq!((kept.fetched_at, kept.age), (NOW, Duration::from_secs(60)));
    assert!(
        place.load(&profile(ISSUER, Algorithm::ES256), Duration::ZERO, NOW).is_err(),
        "`max_stale: 0s` keeps nothing"
    );
}

#[test]
fn keys_are_for_their_own_issuer_source_and_algorithms() {
    let home = tempfile::tempdir().unwrap();
    let mine = place(home.path(), ISSUER, "https://idp.example/keys");
    mine.save(jwks("a"), NOW).unwrap();
    let moved = place(home.path(), ISSUER, "https://idp.example/other");
    assert!(load(&moved, NOW).unwrap_err().contains("another source"));
    let other = place(home.path(), "https://other.example", "https://idp.example/keys");
    assert_ne!(mine.name, other.name);
    fs::copy(mine.path(), other.path()).unwrap();
    assert!(load(&other, NOW).unwrap_err().contains("another issuer"));
    let strict = mine.load(&profile(ISSUER, Algorithm::RS256), HOUR, NOW);
    assert!(strict.unwrap_err().to_string().contains("not usable any more"));
}

#[test]
fn a_file_that_is_not_as_it_was_written_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path(), ISSUER, "https://idp.example/keys");
    place.save(jwks("a"), NOW).unwrap();
    let good = fs::read_to_string(place.path()).unwrap();
    assert_eq!(load(&place, NOW), Ok(Some(1)));
    let check = |content: &[u8], says: &str| {
        state::replace(home.path(), &place.name, content).unwrap();
        let found = load(&place, NOW);
        assert!(found.as_ref().is_err_and(|error| error.contains(says)), "{found:?}, not {says}");
    };
    let other = jwks("b");
    let x = |text: &str| text.split_once("\"x\":\"").unwrap().1.split('"').next().unwrap().to_owned();
    for damaged in [
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\u{0}".repeat(100),
        good.strip_suffix('}').unwrap().to_owned(),
        format!("{good} x"),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace(&NOW.to_string(), &(NOW + 1).to_string()),
        good.replace(&x(&good), &x(&other)),
        good.replace("\"kid\":\"a\"", "\"kid\":\"b\""),
        good.replace("\"issuer\"", "\"issuer\":\"x\",\"issuer\""),
        good.replace("\"version\"", "\"more\":1,\"version\""),
        good.replace(ISSUER, "https://evil.example"),
    ] {
        assert_ne!(damaged, good);
        check(damaged.as_bytes(), "damaged");
    }
    let bytes = good.as_bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            assert!(place.understand(&flipped, &profile(ISSUER, Algorithm::ES256), HOUR, NOW).is_err(), "{at} {bit}");
        }
    }
    check(&[0xff; 10], "damaged");
    check(&vec![b' '; 1 << 21], "it has more than");
    fs::remove_file(place.path()).unwrap();
    fs::create_dir(place.path()).unwrap();
    assert!(load(&place, NOW).unwrap_err().contains("not a regular file"));
}

#[test]
fn only_admitted_keys_are_kept_and_each_as_it_was_written() {
    let home = tempfile::tempdir().unwrap();
    let good = jwks("a");
    let good = good.split_once("[").unwrap().1.rsplit_once("]").unwrap().0;
    let body = format!(
        r#"{{"keys":[{good},{{"kty":"oct","kid":"s","k":"c2VjcmV0LW9mLXRoZS1zZXJ2ZXI"}},
           {{"kty":"EC","crv":"P-256","kid":"p","x":"AA","y":"AA","d":"cHJpdmF0ZQ"}}],"more":"elsewhere"}}"#
    );
    let profile = profile(ISSUER, Algorithm::ES256);
    let keys = KeySet::parse(body.as_bytes(), KeyOrigin::Remote, profile.algorithms()).unwrap();
    assert_eq!(keys.dropped().len(), 2);
    let mut keeper = Keeper::new(
        Some(home.path().to_owned()),
        &profile,
        &KeySource::Discovery { url: None, fetch: super::super::FetchSettings::default() },
    );
    keeper.hold(&keys, body.as_bytes());
    assert_eq!(keeper.jwks.as_deref(), Some(format!("{{\"keys\":[{good}]}}").as_str()));
    let place = keeper.place.unwrap();
    place.save(keeper.jwks.unwrap().to_string(), NOW).unwrap();
    let kept = fs::read_to_string(place.path()).unwrap();
    for secret in ["c2VjcmV0LW9mLXRoZS1zZXJ2ZXI", "cHJpdmF0ZQ", "elsewhere"] {
        assert!(!kept.contains(secret), "{secret}");
    }
    let kept = place.load(&profile, HOUR, NOW).unwrap().unwrap();
    assert_eq!(kept.keys.digest(), keys.digest());
}

#[tokio::test]
async fn without_a_directory_nothing_is_kept() {
    let profile = profile(ISSUER, Algorithm::ES256);
    let source = KeySource::Discovery { url: None, fetch: super::super::FetchSettings::default() };
    let mut keeper = Keeper::new(None, &profile, &source);
    let body = jwks("a");
    let keys = KeySet::parse(body.as_bytes(), KeyOrigin::Remote, profile.algorithms()).unwrap();
    keeper.hold(&keys, body.as_bytes());
    keeper.write();
    assert!(keeper.writing.is_none());
    assert!(keeper.load(&profile, HOUR).await.is_none());
}
