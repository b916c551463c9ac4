//! Proofs, as one table for each check: a good one, and what is changed in it → accepted, or the code of the refusal.

use std::{sync::LazyLock, time::Duration};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::token::{SigningKey, binding::Scheme};

const NOW: i64 = 1_790_000_000;
const TOKEN: &str = "aaa.bbb.ccc";
const URL: &str = "https://api.example/folders/f-1";

/// What signs proofs.
static HOLDER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate_es256("holder").unwrap());
static STRANGER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate_es256("stranger").unwrap());
static NONCES: LazyLock<Nonces> = LazyLock::new(|| Nonces::new(&[1; 32], Duration::from_secs(300)));

fn jwk(key: &SigningKey) -> Map<String, Value> {
    let set: Value = serde_json::from_str(&key.public_jwks().unwrap()).unwrap();
    let mut jwk = set["keys"][0].as_object().unwrap().clone();
    // As clients write it: RFC 9449 §4.1 has neither.
    jwk.retain(|name, _| !["kid", "alg", "use"].contains(&name.as_str()));
    jwk
}

fn print(key: &SigningKey) -> Thumbprint {
    *admit_proof_key(&jwk(key), key.algorithm()).unwrap().thumbprint()
}

/// One proof and its surroundings.
#[derive(Clone)]
struct Case {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    method: &'static str,
    url: &'static str,
    token: &'static str,
    bound_to: Thumbprint,
    wants_nonce: bool,
    now: i64,
}

impl Case {
    fn good() -> Self {
        let Value::Object(claims) = json!({
            "jti": "-BwC3ESc6acc2lTc", "htm": "GET", "htu": URL, "iat": NOW,
            "ath": encode_base64url(digest::digest(&digest::SHA256, TOKEN.as_bytes())),
        }) else {
            panic!("claims are an object")
        };
        let header = Map::from_iter([
            ("typ".to_owned(), json!("dpop+jwt")),
            ("alg".to_owned(), json!("ES256")),
            ("jwk".to_owned(), jwk(&HOLDER).into()),
        ]);
        let bound_to = print(&HOLDER);
        Self { header, claims, method: "GET", url: URL, token: TOKEN, bound_to, wants_nonce: false, now: NOW }
    }

    /// `null` takes a member away.
    fn claim(name: &str, value: Value) -> Self {
        let mut case = Self::good();
        put(&mut case.claims, name, value);
        case
    }

    fn header(name: &str, value: Value) -> Self {
        let mut case = Self::good();
        put(&mut case.header, name, value);
        case
    }

    fn jwk(name: &str, value: Value) -> Self {
        let mut key = jwk(&HOLDER);
        put(&mut key, name, value);
        Self::header("jwk", key.into())
    }

    fn sign(&self) -> String {
        let text = |members: &Map<String, Value>| Value::Object(members.clone()).to_string();
        HOLDER.sign_bytes(text(&self.header).as_bytes(), text(&self.claims).as_bytes()).unwrap()
    }

    fn run(&self, proof: &str) -> Result<AcceptedProof, ProofError> {
        let (proof, token) = (RawToken::new(proof), RawToken::new(self.token));
        let target = ProofTarget::of_url(self.method, self.url).unwrap();
        let sent = Sent {
            token: &token,
            scheme: Scheme::Dpop,
            proof: SentProof::One(&proof),
            target: Some(&target),
            certificate: Ok(None),
        };
        let nonces = self.wants_nonce.then_some(&*NONCES);
        check(&sent, &self.bound_to, &ProofRules::default(), nonces, UnixTime(self.now))
    }

    fn check(&self, want: &str) {
        verdict(&self.run(&self.sign()), want, &format!("{:?} {:?}", self.header, self.claims));
    }
}

fn put(members: &mut Map<String, Value>, name: &str, value: Value) {
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}

fn verdict(got: &Result<AcceptedProof, ProofError>, want: &str, what: &str) {
    let code = got.as_ref().map_or_else(ProofError::code, |_| "accepted");
    assert_eq!(code, want, "{what}: {got:?}");
    if let Err(error) = got {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(TOKEN) && shown.len() < 600, "{shown}");
    }
}

#[test]
fn a_good_proof_is_accepted() {
    let accepted = Case::good().run(&Case::good().sign()).unwrap();
    assert_eq!(accepted.last_valid, UnixTime(NOW + 60));
    assert!(!accepted.wants_nonce);
    assert_eq!(accepted, Case::good().run(&Case::good().sign()).unwrap(), "another signature, the same proof");
}

#[test]
fn there_is_exactly_one_proof_and_a_known_target() {
    let (token, proof) = (RawToken::new(TOKEN), RawToken::new(Case::good().sign()));
    let target = ProofTarget::of_url("GET", URL).unwrap();
    for (proof, target, want) in [
        (SentProof::Missing, Some(&target), "dpop_proof_missing"),
        (SentProof::Several, Some(&target), "dpop_proof_repeated"),
        (SentProof::One(&proof), None, "dpop_target_unknown"),
        (SentProof::One(&proof), Some(&target), "accepted"),
    ] {
        let sent = Sent { token: &token, scheme: Scheme::Dpop, proof, target, certificate: Ok(None) };
        let got = check(&sent, &print(&HOLDER), &ProofRules::default(), None, UnixTime(NOW));
        verdict(&got, want, "as sent");
    }
}

#[test]
fn a_proof_is_one_compact_jws_of_bounded_size() {
    let good = Case::good().sign();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let long = "a".repeat(8 * 1024);
    for (proof, want) in [
        (String::new(), "dpop_proof_malformed"),
        (format!("{good}, {good}"), "dpop_proof_malformed"),
        (format!("{good} "), "dpop_proof_malformed"),
        (format!("{header}.{payload}"), "dpop_proof_malformed"),
        (format!("{header}.{payload}."), "dpop_proof_malformed"),
        (format!("{header}..{signature}"), "dpop_proof_malformed"),
        (format!("{good}.x.y"), "dpop_proof_malformed"),
        (format!("{header}=.{payload}.{signature}"), "dpop_proof_malformed"),
        (format!("{header}.{}.{signature}", encode_base64url("[]")), "dpop_proof_malformed"),
        (format!("{header}.{}.{signature}", encode_base64url(r#"{"jti":"a","jti":"b"}"#)), "dpop_proof_malformed"),
        (format!("{}.{payload}.{signature}", encode_base64url("{}")), "dpop_type_not_allowed"),
        (
            format!("{}.{payload}.{signature}", encode_base64url(r#"{"typ":"dpop+jwt","typ":"x"}"#)),
            "dpop_proof_malformed",
        ),
        (format!("{header}.{payload}.{long}"), "dpop_proof_too_large"),
        (Case::claim("jti", json!("a".repeat(7_000))).sign(), "dpop_proof_too_large"),
        ("\u{fffd}".to_owned(), "dpop_proof_malformed"),
    ] {
        verdict(&Case::good().run(&proof), want, &proof);
    }
    for member in ["crit", "b64", "zip", "enc"] {
        Case::header(member, json!(["x"])).check("dpop_proof_malformed");
    }
    Case::header("cty", json!("JWT")).check("dpop_proof_malformed");
    let mut deep = json!(1);
    for _ in 0..9 {
        deep = json!([deep]);
    }
    Case::claim("x", deep).check("dpop_proof_malformed");
}

#[test]
fn a_proof_says_that_it_is_one() {
    for (typ, want) in [
        (json!("dpop+jwt"), "accepted"),
        (json!("DPoP+JWT"), "accepted"),
        (json!("application/dpop+jwt"), "accepted"),
        (json!(null), "dpop_type_not_allowed"),
        (json!("JWT"), "dpop_type_not_allowed"),
        (json!("at+jwt"), "dpop_type_not_allowed"),
        (json!(["dpop+jwt"]), "dpop_type_not_allowed"),
    ] {
        Case::header("typ", typ).check(want);
    }
}

#[test]
fn the_algorithm_is_of_a_key_pair_and_allowed() {
    for alg in ["none", "None", "HS256", "HS512", "ES256K", "RS512", "PS384", "", "es256"] {
        Case::header("alg", json!(alg)).check("dpop_algorithm_not_allowed");
    }
    for alg in [json!(null), json!(["ES256"]), json!({ "ES256": null })] {
        Case::header("alg", alg).check("dpop_algorithm_not_allowed");
    }
    // Allowed, and not for this key.
    for alg in ["ES384", "RS256", "EdDSA"] {
        Case::header("alg", json!(alg)).check("dpop_key_refused");
    }
    let rules = ProofRules { algorithms: vec![Algorithm::HS256], ..ProofRules::default() };
    let (token, proof) = (RawToken::new(TOKEN), RawToken::new(Case::header("alg", json!("HS256")).sign()));
    let target = ProofTarget::of_url("GET", URL).unwrap();
    let sent = Sent {
        token: &token,
        scheme: Scheme::Dpop,
        proof: SentProof::One(&proof),
        target: Some(&target),
        certificate: Ok(None),
    };
    verdict(
        &check(&sent, &print(&HOLDER), &rules, None, UnixTime(NOW)),
        "dpop_algorithm_not_allowed",
        "even if listed",
    );
}

#[test]
fn the_key_is_public_sound_and_the_one_of_the_token() {
    Case::header("jwk", json!(null)).check("dpop_key_missing");
    for key in [json!("x"), json!([]), json!({}), json!({ "kty": "oct", "k": "AAAA" })] {
        Case::header("jwk", key).check("dpop_key_refused");
    }
    for (member, value) in [
        ("d", json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")),
        ("d", json!("")),
        ("k", json!("AAAA")),
        ("x", json!("AAAA")),
        ("y", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")),
        ("crv", json!("P-384")),
        ("kty", json!("RSA")),
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("alg", json!("ES384")),
    ] {
        Case::jwk(member, value).check("dpop_key_refused");
    }
    for (member, value) in
        [("use", json!("sig")), ("key_ops", json!(["verify"])), ("alg", json!("ES256")), ("kid", json!("any"))]
    {
        Case::jwk(member, value).check("accepted");
    }
    // Another key than the token's: its own signature is of no help.
    let mut case = Case::header("jwk", jwk(&STRANGER).into());
    let text = |members: &Map<String, Value>| Value::Object(members.clone()).to_string();
    let own = STRANGER.sign_bytes(text(&case.header).as_bytes(), text(&case.claims).as_bytes()).unwrap();
    verdict(&case.run(&own), "dpop_key_mismatch", "a stranger's proof");
    case.bound_to = print(&STRANGER);
    verdict(&case.run(&own), "accepted", "with the stranger's token");
    verdict(&case.run(&case.sign()), "dpop_bad_signature", "the stranger's key, the holder's signature");
}

#[test]
fn every_claim_is_there_and_of_its_type() {
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        Case::claim(claim, json!(null)).check("dpop_claim_missing");
        let mut case = Case::good();
        case.claims.insert(claim.to_owned(), Value::Null);
        case.check("dpop_claim_malformed");
        Case::claim(claim, json!([])).check("dpop_claim_malformed");
    }
    for (claim, value) in [
        ("jti", json!("")),
        ("jti", json!("a".repeat(257))),
        ("jti", json!(1)),
        ("iat", json!(NOW.to_string())),
        ("iat", json!(-1)),
        ("exp", json!("soon")),
        ("nonce", json!(1)),
        ("htu", json!("/folders/f-1")),
        ("htu", json!("")),
        ("htu", json!("https://user@api.example/folders/f-1")),
    ] {
        Case::claim(claim, value).check("dpop_claim_malformed");
    }
    Case::claim("jti", json!("a".repeat(256))).check("accepted");
}

#[test]
fn a_proof_is_for_one_method_and_one_uri() {
    for method in ["POST", "get", "Get", "GET ", "HEAD", ""] {
        Case::claim("htm", json!(method)).check("dpop_method_mismatch");
    }
    for (uri, want) in [
        ("https://api.example/folders/f-1?x=1#y", "accepted"),
        ("HTTPS://API.example:443/folders/f-1", "accepted"),
        ("https://api.example/./folders/x/../f%2D1", "accepted"),
        ("https://api.example/folders/f-1/", "dpop_target_mismatch"),
        ("https://api.example/folders/F-1", "dpop_target_mismatch"),
        ("https://api.example/folders//f-1", "dpop_target_mismatch"),
        ("https://api.example/folders%2Ff-1", "dpop_target_mismatch"),
        ("https://api.example/", "dpop_target_mismatch"),
        ("http://api.example/folders/f-1", "dpop_target_mismatch"),
        ("https://api.example:8443/folders/f-1", "dpop_target_mismatch"),
        ("https://api.example./folders/f-1", "dpop_target_mismatch"),
        ("https://evil.example/folders/f-1", "dpop_target_mismatch"),
        ("https://api.example.evil/folders/f-1", "dpop_target_mismatch"),
    ] {
        Case::claim("htu", json!(uri)).check(want);
    }
    let other = Case { method: "DELETE", ..Case::good() };
    verdict(&other.run(&Case::good().sign()), "dpop_method_mismatch", "used for another method");
    let other = Case { url: "https://api.example/folders/f-2", ..Case::good() };
    verdict(&other.run(&Case::good().sign()), "dpop_target_mismatch", "used for another folder");
}

#[test]
fn a_proof_is_of_now() {
    for (claim, value, want) in [
        ("iat", NOW - 60, "accepted"),
        ("iat", NOW - 61, "dpop_proof_too_old"),
        ("iat", NOW + 30, "accepted"),
        ("iat", NOW + 31, "dpop_proof_from_future"),
        ("iat", 0, "dpop_proof_too_old"),
        ("exp", NOW + 1, "accepted"),
        ("exp", NOW, "dpop_proof_expired"),
        ("nbf", NOW + 30, "accepted"),
        ("nbf", NOW + 31, "dpop_proof_from_future"),
    ] {
        Case::claim(claim, json!(value)).check(want);
    }
    for (value, want) in [
        ("1789999939.9", "dpop_proof_too_old"),
        ("1789999940.1", "accepted"),
        ("1790000030.1", "dpop_proof_from_future"),
    ] {
        Case::claim("iat", serde_json::from_str(value).unwrap()).check(want);
    }
    // It is remembered for as long as it is accepted.
    for iat in [NOW - 60, NOW, NOW + 30] {
        let case = Case::claim("iat", json!(iat));
        let last = case.run(&case.sign()).unwrap().last_valid.0;
        let at = |now| Case { now, ..case.clone() }.run(&case.sign()).is_ok();
        assert!(at(last) && !at(last + 1), "{iat}");
    }
}

#[test]
fn a_nonce_is_one_of_the_newest_when_one_is_needed() {
    let nonce = |now: i64| json!(NONCES.current(UnixTime(now)));
    let period = NOW - NOW.rem_euclid(300);
    for (value, want, renews) in [
        (json!(null), "dpop_nonce_missing", false),
        (json!(""), "dpop_nonce_unknown", false),
        (json!("x"), "dpop_nonce_unknown", false),
        (nonce(period), "accepted", false),
        (nonce(period - 1), "accepted", true),
        (nonce(period - 301), "dpop_nonce_unknown", false),
        (nonce(period + 300), "dpop_nonce_unknown", false),
        (json!(Nonces::new(&[2; 32], Duration::from_secs(300)).current(UnixTime(NOW))), "dpop_nonce_unknown", false),
    ] {
        let case = Case { wants_nonce: true, ..Case::claim("nonce", value.clone()) };
        let got = case.run(&case.sign());
        verdict(&got, want, &value.to_string());
        assert_eq!(got.is_ok_and(|proof| proof.wants_nonce), renews, "{value}");
    }
    Case::claim("nonce", json!("of somebody else")).check("accepted");
}

#[test]
fn a_proof_is_for_one_token() {
    let other = Case { token: "aaa.bbb.ccd", ..Case::good() };
    verdict(&other.run(&Case::good().sign()), "dpop_token_mismatch", "another token of the same key");
    for ath in ["", "x", "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"] {
        Case::claim("ath", json!(ath)).check("dpop_token_mismatch");
    }
    // RFC 9449 §7.1: the token of its example, and its `ath`.
    let token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    assert_eq!(token_hash(&RawToken::new(token)), "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
}

#[test]
fn a_proof_has_a_name_of_its_own() {
    let base = name(&[1; 32], "id", "https://a/");
    for other in [
        name(&[2; 32], "id", "https://a/"),
        name(&[1; 32], "ie", "https://a/"),
        name(&[1; 32], "id", "https://b/"),
        name(&[1; 32], "idh", "ttps://a/"),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn the_example_of_the_standard_is_accepted() {
    // RFC 9449 §7.1, figure 12.
    let proof = concat!(
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik",
        "VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR",
        "nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE",
        "QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj",
        "oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z",
        "WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF",
        "c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E",
        "OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
    );
    let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let case = Case {
        url: "https://resource.example.org/protectedresource",
        token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        bound_to: crate::token::compact::decode_base64url(jkt).unwrap().try_into().unwrap(),
        now: 1_562_262_618,
        ..Case::good()
    };
    verdict(&case.run(proof), "accepted", "as printed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever one byte of a good proof becomes, it is no longer one.
    #[test]
    fn a_proof_with_one_other_byte_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = Case::good().sign();
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let got = Case::good().run(&String::from_utf8_lossy(&bytes));
        prop_assert!(got.is_err(), "{got:?}");
    }

    /// Each of what a proof is held against matters.
    #[test]
    fn a_proof_in_other_surroundings_is_refused(
        method in "[A-Z]{1,7}", path in "/[a-z0-9/]{0,12}", host in "[a-z]{1,8}", later in 61i64..1_000_000, bit in 0usize..256,
    ) {
        let good = Case::good();
        let proof = good.sign();
        let refused = |case: Case| case.run(&proof).is_err();
        prop_assume!(method != "GET" && path != "/folders/f-1");
        let mut bound_to = good.bound_to;
        bound_to[bit / 8] ^= 1 << (bit % 8);
        let others = [
            Case { method: method.leak(), ..good.clone() },
            Case { url: format!("https://api.example{path}").leak(), ..good.clone() },
            Case { url: format!("https://{host}/folders/f-1").leak(), ..good.clone() },
            Case { now: NOW + later, ..good.clone() },
            Case { now: NOW - later, ..good.clone() },
            Case { bound_to, ..good.clone() },
        ];
        for (number, other) in others.into_iter().enumerate() {
            prop_assert!(refused(other), "{number}");
        }
        prop_assert!(!refused(good));
    }
}
