//! Tokens through the one door, [`token::verify`]: a table of hostile tokens, the attacks that need more than a table,
//! key sets, properties, and Wycheproof. `tests/cases/token/README.md` lists the attacks by number.

mod attacks;
mod keys;
mod lint;
mod must_have;
mod properties;
mod table;
mod verb;
mod wycheproof;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimgate::token::{
    self, Algorithm, IssuerProfile, KeyOrigin, KeyRing, KeySet, Limits, ProfileSettings, Profiles, RawToken, STEPS,
    SigningKey, TokenError, UnixTime, VerifiedClaims,
};
use serde_json::{Map, Value};

/// The time of every check that does not say otherwise.
const NOW: i64 = 1_790_000_000;
const ISSUER: &str = "https://idp.example";
/// The header and the claims of a token that passes. `NOW` stands for the time.
const HEADER: [(&str, &str); 3] = [("alg", r#""ES256""#), ("typ", r#""at+jwt""#), ("kid", r#""es256""#)];
const CLAIMS: [(&str, &str); 7] = [
    ("iss", r#""https://idp.example""#),
    ("aud", r#""folders""#),
    ("sub", r#""user-1""#),
    ("client_id", r#""web""#),
    ("jti", r#""t-1""#),
    ("iat", "NOW"),
    ("exp", "NOW+300"),
];

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// Issuers, their keys, and the keys to sign with.
struct World {
    signers: BTreeMap<&'static str, SigningKey>,
    profiles: Profiles,
    ring: KeyRing,
}

/// A token in the making: text, so that it can be as wrong as an attacker likes.
#[derive(Clone)]
struct Draft {
    header: String,
    claims: String,
    signer: &'static str,
}

// === impl World ===

impl World {
    fn new() -> Self {
        use Algorithm::{ES256, ES384, ES512, EdDSA, HS256, PS256, RS256};
        let bench = std::fs::read("tests/fixtures/bench/rs256.jwk.json").expect("the RSA key");
        let fresh = |algorithm, kid: &str| {
            SigningKey::from_jwk(SigningKey::generate_jwk(algorithm, kid).expect("a key").as_bytes()).expect("a key")
        };
        let rsa = |kid: &str, algorithm| {
            let key = SigningKey::from_jwk(&bench).and_then(|key| key.with_algorithm(algorithm));
            key.expect("the RSA key").with_key_id(kid)
        };
        let secret = SigningKey::generate_jwk(HS256, "secret").expect("a secret");
        let signers = BTreeMap::from([
            ("es256", fresh(ES256, "es256")),
            ("es384", fresh(ES384, "es384")),
            ("es512", fresh(ES512, "es512")),
            ("ed25519", fresh(EdDSA, "ed25519")),
            ("rs256", rsa("rs256", RS256)),
            ("ps256", rsa("ps256", PS256)),
            // The other issuer uses the same key ids for other keys.
            ("other", fresh(ES256, "es256")),
            ("stranger", fresh(ES256, "es256")),
            ("secret", SigningKey::from_jwk(secret.as_bytes()).expect("a secret")),
        ]);
        let public = |names: &[&str]| {
            let keys: Vec<Value> = names
                .iter()
                .map(|name| {
                    let jwks: Value =
                        serde_json::from_str(&signers[name].public_jwks().expect("public")).expect("JSON");
                    jwks["keys"][0].clone()
                })
                .collect();
            serde_json::json!({ "keys": keys }).to_string()
        };
        let asymmetric = vec![RS256, ES256, ES384, ES512, EdDSA];
        let issuers = [
            (ISSUER, asymmetric, Some(public(&["es256", "es384", "es512", "ed25519", "rs256"]))),
            ("https://other.example", vec![ES256], Some(public(&["other"]))),
            ("https://pss.example", vec![PS256, RS256], Some(public(&["ps256"]))),
            ("https://secret.example", vec![HS256], Some(secret)),
            ("https://strict.example", vec![ES256], Some(public(&["es256"]))),
            ("https://rfc9068.example", vec![ES256], Some(public(&["es256"]))),
            ("https://lenient.example", vec![ES256], Some(public(&["es256"]))),
            ("https://silent.example", vec![ES256], None),
        ];
        let mut ring = KeyRing::default();
        let mut profiles = Vec::new();
        for (issuer, algorithms, jwks) in issuers {
            if let Some(jwks) = jwks {
                let set = KeySet::parse(jwks.as_bytes(), KeyOrigin::Local, &algorithms).expect("keys");
                ring.insert(issuer.to_owned(), Arc::new(set));
            }
            let mut settings = ProfileSettings {
                issuer: issuer.to_owned(),
                audiences: vec!["folders".to_owned(), "files".to_owned()],
                algorithms,
                keep: vec!["role".to_owned(), "uid".to_owned()],
                rename: BTreeMap::from([("https://idp.example/org".to_owned(), "org".to_owned())]),
                ..ProfileSettings::default()
            };
            match issuer {
                "https://strict.example" => {
                    settings.types = vec!["at+jwt".to_owned()];
                    settings.required_claims = ["sub", "client_id", "iat", "jti"].map(str::to_owned).to_vec();
                }
                "https://rfc9068.example" => settings.types = vec!["rfc9068".to_owned()],
                "https://lenient.example" => settings.types.push("none".to_owned()),
                _ => {}
            }
            profiles.push(IssuerProfile::new(settings).expect("a profile"));
        }
        Self { signers, profiles: Profiles::new(profiles).expect("profiles"), ring }
    }

    fn signer(&self, name: &str) -> &SigningKey {
        &self.signers[name]
    }
}

// === impl Draft ===

impl Draft {
    fn good() -> Self {
        Self { header: object_text(&HEADER, &[], ""), claims: object_text(&CLAIMS, &[], ""), signer: "es256" }
    }

    /// The good token with these header members instead or besides.
    fn header(changes: &[(&str, &str)]) -> Self {
        Self { header: object_text(&HEADER, &owned(changes), ""), ..Self::good() }
    }

    /// The good token with these claims instead or besides.
    fn claims(changes: &[(&str, &str)]) -> Self {
        Self { claims: object_text(&CLAIMS, &owned(changes), ""), ..Self::good() }
    }

    fn signed_by(self, signer: &'static str) -> Self {
        Self { signer, ..self }
    }

    fn sign(&self) -> String {
        WORLD.signer(self.signer).sign_bytes(self.header.as_bytes(), self.claims.as_bytes()).expect("signed")
    }
}

fn owned(changes: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    changes.iter().map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned()))).collect()
}

/// A JSON object as text: `base`, with `changes` (JSON text, or `None` to leave a member out), and `more` at its end.
fn object_text(base: &[(&str, &str)], changes: &[(String, Option<String>)], more: &str) -> String {
    let mut members: Vec<(String, Option<String>)> =
        base.iter().map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned()))).collect();
    for (name, text) in changes {
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(text),
            None => members.push((name.clone(), text.clone())),
        }
    }
    let mut texts: Vec<String> = members
        .iter()
        .filter_map(|(name, text)| Some(format!("{}:{}", Value::from(name.as_str()), text.as_ref()?)))
        .collect();
    texts.extend((!more.is_empty()).then(|| more.to_owned()));
    with_times(&format!("{{{}}}", texts.join(",")))
}

/// Writes times in place of `NOW`, `NOW+300`, `NOW-1`.
fn with_times(text: &str) -> String {
    let mut parts = text.split("NOW");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit() && !"+-".contains(c)).unwrap_or(part.len());
        let (offset, rest) = part.split_at(digits);
        let offset: i64 = offset.parse().unwrap_or_default();
        written += &(NOW + offset).to_string();
        written += rest;
    }
    written
}

/// The verdict on a token at a time: `accepted` or the code.
fn verdict(text: &str, now: i64) -> (&'static str, Result<VerifiedClaims, TokenError>) {
    verdict_with(text, &WORLD.profiles, now)
}

/// Also holds what is true of every verdict: the explanation tells the same story, in order, and no message and no
/// `Debug` has anything of the token in it.
fn verdict_with(text: &str, profiles: &Profiles, now: i64) -> (&'static str, Result<VerifiedClaims, TokenError>) {
    let raw = RawToken::new(text);
    let result = token::verify(&raw, profiles, &WORLD.ring, UnixTime(now));
    let (passed, explained) = token::verify_explained(&raw, profiles, &WORLD.ring, UnixTime(now));
    assert_eq!(result.as_ref().err(), explained.as_ref().err());
    for step in &passed {
        assert!(step.detail.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", step.detail);
    }
    let passed: Vec<&str> = passed.iter().map(|step| step.step).collect();
    match &result {
        Ok(_) => assert_eq!(passed, STEPS),
        Err(error) => {
            assert_eq!(passed, STEPS[..passed.len()]);
            assert_eq!(error.step(), STEPS[passed.len()], "{error}");
            check_hygiene(error, text);
        }
    }
    (result.as_ref().map_or_else(TokenError::code, |_| "accepted"), result)
}

/// A message is one line of ASCII with at most a few hundred characters, and repeats no token.
fn check_hygiene(error: &TokenError, token: &str) {
    for message in [error.to_string(), format!("{error:?}")] {
        assert!(message.len() < 600, "{} bytes", message.len());
        assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{message}");
        for window in token.as_bytes().windows(20).step_by(7).take(2000) {
            let repeats = window.iter().all(u8::is_ascii_alphanumeric)
                && window.iter().any(|byte| *byte != window[0])
                && message.as_bytes().windows(20).any(|part| part == window);
            assert!(!repeats, "the message repeats the token: {message}");
        }
    }
    assert!(
        error.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
        "{}",
        error.code()
    );
}

fn check(what: &str, text: &str, expected: &str) {
    assert_eq!(verdict(text, NOW).0, expected, "{what}");
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// A token's three segments.
fn segments(text: &str) -> [&str; 3] {
    text.split('.').collect::<Vec<_>>().try_into().expect("three segments")
}

#[test]
fn the_good_token_passes_and_only_projected_claims_are_left() {
    let token = Draft::claims(&[
        ("role", r#""editor""#),
        ("https://idp.example/org", r#""acme""#),
        ("email", r#""a@b.c""#),
        ("scope", r#""openid files""#),
        ("scp", r#"["files","x"]"#),
    ]);
    let claims = verdict(&token.sign(), NOW).1.expect("accepted");
    assert_eq!(Value::Object(claims.claims().clone()), serde_json::json!({ "role": "editor", "org": "acme" }));
    assert_eq!(claims.issuer(), ISSUER);
    assert_eq!(claims.subject(), Some("user-1"));
    assert_eq!(claims.audience(), ["folders"]);
    assert_eq!(claims.scopes(), ["openid", "files", "x"]);
    assert_eq!(claims.id(), Some("t-1"));
    assert_eq!((claims.issued_at(), claims.expires_at()), (Some(NOW), NOW + 300));
    assert_eq!(claims.key_id(), Some("es256"));
}

#[test]
fn every_algorithm_signs_and_verifies() {
    for (signer, names) in [
        ("es256", &["ES256", "ESP256"][..]),
        ("es384", &["ES384", "ESP384"]),
        ("es512", &["ES512", "ESP512"]),
        ("ed25519", &["EdDSA", "Ed25519"]),
        ("rs256", &["RS256"]),
    ] {
        for name in names {
            let (alg, kid) = (format!("\"{name}\""), format!("\"{signer}\""));
            check(name, &Draft::header(&[("alg", &alg), ("kid", &kid)]).signed_by(signer).sign(), "accepted");
        }
    }
    let pss = Draft {
        claims: object_text(&CLAIMS, &owned(&[("iss", r#""https://pss.example""#)]), ""),
        ..Draft::header(&[("alg", r#""PS256""#), ("kid", r#""ps256""#)]).signed_by("ps256")
    };
    check("PS256", &pss.sign(), "accepted");
    let secret = Draft {
        claims: object_text(&CLAIMS, &owned(&[("iss", r#""https://secret.example""#)]), ""),
        ..Draft::header(&[("alg", r#""HS256""#), ("kid", r#""secret""#)]).signed_by("secret")
    };
    check("HS256", &secret.sign(), "accepted");
}

#[test]
fn rsa_and_secret_keys_work_under_every_algorithm_of_their_family() {
    use Algorithm::{HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let rsa = std::fs::read("tests/fixtures/bench/rs256.jwk.json").expect("the RSA key");
    let secret = SigningKey::generate_jwk(HS256, "bench-rs256").expect("a secret");
    let jwk_for = |algorithm: Algorithm| {
        let text = if algorithm.is_symmetric() { secret.as_bytes() } else { &rsa };
        let mut jwk: Map<String, Value> = serde_json::from_slice(text).expect("JSON");
        jwk.insert("alg".to_owned(), algorithm.name().into());
        Value::Object(jwk).to_string()
    };
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512, HS256, HS384, HS512] {
        let jwk = jwk_for(algorithm);
        let signed = SigningKey::from_jwk(jwk.as_bytes()).and_then(|key| key.sign("at+jwt", &Map::new()));
        let raw = RawToken::new(signed.expect("signed"));
        let keys = KeySet::parse(jwk.as_bytes(), KeyOrigin::Local, &[algorithm]).expect("keys");
        assert_eq!(token::verify_signature_only(&raw, &keys, None), Ok(()), "{algorithm}");
        let narrowed = token::verify_signature_only(&raw, &keys, Some(&[Algorithm::ES256]));
        assert_eq!(narrowed.map_err(|error| error.code()), Err("algorithm_not_allowed"), "{algorithm}");
    }
}

#[test]
fn limits_can_be_raised_and_hold() {
    let profiles = |limits: Limits| {
        let copies = WORLD.profiles.iter().cloned().collect();
        Profiles::new(copies).expect("profiles").with_limits(limits)
    };
    let wide = profiles(Limits { token_bytes: 4 << 20, ..Limits::default() });
    let array = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
    // Seven other claims, and the array itself.
    for (count, expected) in [(992, "accepted"), (993, "claims_too_many_members"), (100_000, "claims_too_many_members")]
    {
        let text = Draft::claims(&[("role", &array(count))]).sign();
        assert_eq!(verdict_with(&text, &wide, NOW).0, expected, "{count}");
    }
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, expected) in [(31, "accepted"), (32, "claims_too_deep"), (10_000, "claims_too_deep")] {
        let text = Draft::claims(&[("role", &nested(depth))]).sign();
        assert_eq!(verdict_with(&text, &wide, NOW).0, expected, "{depth}");
        let in_header = Draft::header(&[("x", &nested(depth))]).sign();
        let expected = expected.replace("claims", "header");
        assert_eq!(verdict_with(&in_header, &wide, NOW).0, expected, "{depth}");
    }
    let bottomless = profiles(Limits { token_bytes: 4 << 20, json_depth: usize::MAX, json_members: usize::MAX });
    let text = Draft::claims(&[("role", &nested(500_000))]).sign();
    assert_eq!(verdict_with(&text, &bottomless, NOW).0, "claims_too_deep");
    let wide_enough = Draft::claims(&[("role", &array(100_000))]).sign();
    assert_eq!(verdict_with(&wide_enough, &bottomless, NOW).0, "accepted");
}
