//! M30 to M40: keys, their coming and going, and what a request and its answer look like.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimgate::token::{
    KeyOrigin::{Local, Remote},
    SigningKey,
};
use serde_json::{Value, json};

use super::{
    super::{CLAIMS, Draft, WORLD, base64url, decode, object_text, owned, segments},
    Case,
    Recipe::{Asks, At, Kept, Key, Keys, Requests, Set, Token},
    case,
};
use crate::support::{
    holder::Holder,
    tokens::{Issuer, forged, now},
};

const EC: &str = r#""kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;
/// A modulus of 2048 bits (RFC 7638 §3.1).
const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

pub(super) fn cases(issuer: &Issuer) -> Vec<Case> {
    [
        secrets(),
        weak_keys(),
        key_sets(),
        comings_and_goings(),
        kept(issuer),
        requests(issuer),
        bindings(),
        proofs(issuer),
        answers(issuer),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// M30.
fn secrets() -> Vec<Case> {
    let secret = |bytes: usize, alg: &str| format!(r#""kty":"oct","alg":"{alg}","k":"{}""#, base64url(vec![7; bytes]));
    let mut cases = Vec::new();
    for (alg, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        for (bytes, expect) in
            [(0, "no_usable_keys"), (1, "no_usable_keys"), (least - 1, "no_usable_keys"), (least, "accepted")]
        {
            let text = format!("{{{}}}", secret(bytes, alg));
            cases.push(case(30, format!("{alg} with {bytes} bytes"), Set(text, Local), expect));
        }
        let remote = Key(secret(64, alg), Remote);
        cases.push(case(30, format!("an {alg} secret from the network"), remote, "secret_in_remote_set"));
    }
    cases
}

/// M31.
fn weak_keys() -> Vec<Case> {
    let rsa = |n: &[u8], e: &str| format!(r#""kty":"RSA","n":"{}","e":"{e}""#, base64url(n));
    let n = decode(N);
    let x = decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    let okp = |x: &[u8]| format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, base64url(x));
    let y = |y: &str| EC.replace("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", y);
    let roca = [vec![0; 255], vec![1]].concat();
    let big = [&[0xc3], vec![0x5b; 2046].as_slice(), &[0x2f]].concat();
    let cases = [
        ("RSA of 2048 bits", rsa(&n, "AQAB"), "accepted"),
        ("n with a leading zero", rsa(&[&[0], n.as_slice()].concat(), "AQAB"), "accepted"),
        ("RSA of 1024 bits", rsa(&n[..128], "AQAB"), "rsa_modulus_too_short"),
        ("RSA of 16384 bits", rsa(&big, "AQAB"), "rsa_modulus_too_long"),
        ("a modulus of 1", rsa(&roca, "AQAB"), "rsa_modulus_too_short"),
        ("e = 1", rsa(&n, "AQ"), "rsa_unsafe_exponent"),
        ("e = 2", rsa(&n, "Ag"), "rsa_unsafe_exponent"),
        ("an even modulus", rsa(&[&n[..255], &[0x82]].concat(), "AQAB"), "rsa_weak_modulus"),
        ("Ed25519 of 31 bytes", okp(&x[..31]), "invalid_point"),
        ("Ed25519 of 33 bytes", okp(&[x.as_slice(), &[0]].concat()), "invalid_point"),
        ("the identity point", okp(&[&[1], [0; 31].as_slice()].concat()), "small_order_point"),
        ("the zero point", okp(&[0; 32]), "small_order_point"),
        ("a point off its curve", y("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyI"), "invalid_point"),
        (
            "the point at the origin",
            EC.replace("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", &"A".repeat(43)),
            "invalid_point",
        ),
    ];
    cases.into_iter().map(|(what, members, expect)| case(31, what, Key(members, Remote), expect)).collect()
}

/// M32.
fn key_sets() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, members, expect) in [
        ("a kid of a wrong type", format!(r#"{EC},"kid":5"#), "malformed"),
        ("a member twice", format!(r#"{EC},"kid":"a","kid":"b""#), "duplicate_member"),
        ("a key for encryption", format!(r#"{EC},"use":"enc""#), "wrong_use"),
        ("key_ops without verify", format!(r#"{EC},"key_ops":["encrypt"]"#), "wrong_key_ops"),
        ("an unknown kty", r#""kty":"AKP","pub":"AA""#.to_owned(), "unsupported_key_type"),
        ("an unknown curve", r#""kty":"EC","crv":"secp256k1","x":"AA","y":"AA""#.to_owned(), "unsupported_curve"),
        ("an algorithm of another curve", format!(r#"{EC},"alg":"ES384""#), "algorithm_does_not_fit_key"),
        ("alg none", format!(r#"{EC},"alg":"none""#), "unsupported_algorithm"),
        ("a private key", format!(r#"{EC},"d":"AAAA""#), "private_key_in_remote_set"),
        ("a kid twice", format!(r#"{EC},"kid":"a"}},{{{EC},"kid":"a""#), "duplicate_key_id"),
        (
            "one key under two algorithms",
            format!(
                r#""kty":"RSA","n":"{N}","e":"AQAB","alg":"RS256"}},{{"kty":"RSA","n":"{N}","e":"AQAB","alg":"PS256""#
            ),
            "used_for_two_algorithms",
        ),
        ("an algorithm by its fully specified name", format!(r#"{EC},"alg":"ESP256""#), "accepted"),
    ] {
        cases.push(case(32, what, Key(members, Remote), expect));
    }
    for (what, text, expect) in [
        ("no key", r#"{"keys":[]}"#.to_owned(), "no_usable_keys"),
        ("HTML", "<!doctype html>".to_owned(), "not_a_key_set"),
        ("nothing", String::new(), "not_a_key_set"),
        ("an array", format!("[{{{EC}}}]"), "not_a_key_set"),
        ("10 MB", format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(10_000_000)), "key_set_too_large"),
        ("101 keys", format!(r#"{{"keys":[{}]}}"#, vec![format!("{{{EC}}}"); 101].join(",")), "too_many_keys"),
    ] {
        cases.push(case(32, what, Set(text, Remote), expect));
    }
    cases
}

/// M33 to M35, as far as one verification shows them.
fn comings_and_goings() -> Vec<Case> {
    let header = |changes: &[(&str, &str)]| Draft::header(changes).sign();
    let keys = |names: &[&str]| {
        let keys: Vec<Value> = names
            .iter()
            .map(|name| {
                serde_json::from_str::<Value>(&WORLD.signer(name).public_jwks().expect("public")).expect("JSON")["keys"]
                    [0]
                .take()
            })
            .collect();
        Some(json!({ "keys": keys }).to_string())
    };
    let iss = |iss: &str| Draft::claims(&[("iss", iss), ("x", "1")]);
    vec![
        case(33, "an unknown kid", Asks(header(&[("kid", r#""new""#)])), "unknown_key; asks"),
        case(33, "an unknown issuer", Asks(iss(r#""https://evil.example""#).sign()), "issuer_unknown; asks nobody"),
        case(
            33,
            "an algorithm that is not allowed",
            Asks(header(&[("alg", r#""PS256""#), ("kid", r#""new""#)])),
            "algorithm_not_allowed; asks nobody",
        ),
        case(
            33,
            "a kid of 257 bytes",
            Asks(header(&[("kid", &format!("\"{}\"", "k".repeat(257)))])),
            "key_id_malformed; asks nobody",
        ),
        case(
            33,
            "an expired token",
            Asks(
                Draft {
                    claims: object_text(&CLAIMS, &owned(&[("exp", "NOW-100"), ("iat", "NOW-200")]), ""),
                    ..Draft::header(&[("kid", r#""new""#)])
                }
                .sign(),
            ),
            "expired; asks nobody",
        ),
        case(33, "a forged signature", Asks(Draft::good().signed_by("stranger").sign()), "bad_signature; asks nobody"),
        case(34, "a key that came", Keys(Draft::good().sign(), keys(&["es384", "es256"])), "accepted"),
        case(34, "a key that went", Keys(Draft::good().sign(), keys(&["es384"])), "unknown_key"),
        case(34, "another key under the old kid", Keys(Draft::good().sign(), keys(&["stranger"])), "bad_signature"),
        case(35, "the last keys during an outage", Keys(Draft::good().sign(), keys(&["es256"])), "accepted"),
        case(35, "no keys after too long an outage", Keys(Draft::good().sign(), None), "keys_never_had"),
    ]
}

/// M37: what a cache may not change.
fn kept(issuer: &Issuer) -> Vec<Case> {
    let good = issuer.token("alice");
    let bearer = |token: &str| (vec![("authorization", format!("Bearer {token}"))], String::new());
    let [head, _, signature] = segments(&good);
    let other = issuer.token_with(json!({ "sub": "mallory" }));
    let tampered = format!("{head}.{}.{signature}", segments(&other)[1]);
    let token = Draft::good().sign();
    vec![
        case(37, "the same token again", Requests(vec![bearer(&good), bearer(&good)]), "200 true"),
        case(
            37,
            "another signature after it",
            Requests(vec![bearer(&good), bearer(&forged(&good))]),
            "401 invalid_token",
        ),
        case(
            37,
            "another payload under its signature",
            Requests(vec![bearer(&good), bearer(&tampered)]),
            "401 invalid_token",
        ),
        case(37, "the token after a forgery", Requests(vec![bearer(&forged(&good)), bearer(&good)]), "200 true"),
        case(37, "kept until the last second", Kept(token.clone(), 329), "accepted"),
        case(37, "kept for a second too long", Kept(token.clone(), 330), "expired"),
        case(37, "kept when the clock went back", Kept(token, -31), "issued_in_future"),
    ]
}

/// M38.
fn requests(issuer: &Issuer) -> Vec<Case> {
    let good = issuer.token("alice");
    let field = |value: String| ("authorization", value);
    let query = format!("?access_token={good}");
    let cookie = ("cookie", format!("session={good}"));
    let mut cases = Vec::new();
    for (what, fields, query, expect) in [
        ("one header", vec![field(format!("Bearer {good}"))], "", "200 true"),
        ("another case of the scheme", vec![field(format!("bearer {good}"))], "", "200 true"),
        ("a cookie", vec![cookie.clone()], "", "200 true"),
        ("the query", vec![], query.as_str(), "200 true"),
        (
            "two headers",
            vec![field(format!("Bearer {good}")), field(format!("Bearer {good}"))],
            "",
            "400 invalid_request",
        ),
        ("a header and the query", vec![field(format!("Bearer {good}"))], query.as_str(), "400 invalid_request"),
        ("a header and a cookie", vec![field(format!("Bearer {good}")), cookie.clone()], "", "400 invalid_request"),
        ("a list", vec![field(format!("Bearer {good}, Bearer {good}"))], "", "400 invalid_request"),
        ("Basic", vec![field("Basic YTpi".to_owned())], "", "401 without an error"),
        ("none", vec![], "", "401 without an error"),
    ] {
        cases.push(case(38, what, Requests(vec![(fields, query.to_owned())]), expect));
    }
    cases
}

/// M39: a token that is bound to a key is no bearer token.
fn bindings() -> Vec<Case> {
    let bound = |cnf: &str| Token(Draft::claims(&[("cnf", cnf)]).sign());
    let mut cases = Vec::new();
    for (cnf, expect) in [
        // The token is its issuer's; whether it is the sender's is another question.
        (r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#, "accepted"),
        (r#"{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0"}"#, "accepted"),
        (r#"{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}"#, "confirmation_malformed"),
        (r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I","kid":"k"}"#, "confirmation_unknown"),
        (r#"{"future":1}"#, "confirmation_unknown"),
        ("{}", "confirmation_malformed"),
        ("null", "confirmation_malformed"),
        ("[]", "confirmation_malformed"),
    ] {
        cases.push(case(39, format!("cnf {cnf}"), bound(cnf), expect));
    }
    let proof = Draft::header(&[("typ", r#""dpop+jwt""#), ("jwk", &format!("{{{EC}}}"))]);
    cases.push(case(39, "a proof in place of a token", Token(proof.sign()), "other_token_kind"));
    cases
}

/// M39: a proof is of the token's own key, for this request, now, and once; a certificate is told by who is trusted.
fn proofs(issuer: &Issuer) -> Vec<Case> {
    const URL: &str = "https://gate.example/v1/data/p/allow";
    let (holder, thief) = (Holder::new(), Holder::new());
    let token = holder.token(issuer);
    let proof = |changes| holder.proof("POST", URL, &token, changes);
    let with = |header| holder.proof_with(header, "POST", URL, &token, json!({}));
    let request = |scheme: &str, proofs: &[String]| {
        let mut fields = vec![("authorization", format!("{scheme} {token}"))];
        fields.extend(proofs.iter().map(|proof| ("dpop", proof.clone())));
        (fields, String::new())
    };
    let mut private = holder.jwk();
    private["d"] = json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    let secret = json!({"kty": "oct", "alg": "HS256", "k": "q0m3Wn7xS1v9Jt5cYf2hK8bRz4LdG6uPeXaNwVoTiMg"});
    let shared = Holder { key: SigningKey::from_jwk(secret.to_string().as_bytes()).expect("a secret") };
    let shared = shared.proof_with(json!({ "jwk": secret }), "POST", URL, &token, json!({}));
    let (once, twice) = (proof(json!({})), proof(json!({})));
    let mut cases = Vec::new();
    for (what, scheme, proofs, expect) in [
        ("a good proof", "DPoP", vec![once], "200 true"),
        ("another case of the scheme", "dpop", vec![proof(json!({}))], "200 true"),
        ("a bound token as Bearer", "Bearer", vec![], "401 invalid_token"),
        ("a bound token as Bearer with a proof", "Bearer", vec![proof(json!({}))], "401 invalid_token"),
        ("no proof", "DPoP", vec![], "401 invalid_dpop_proof"),
        ("two DPoP headers", "DPoP", vec![proof(json!({})), proof(json!({}))], "401 invalid_dpop_proof"),
        ("a wrong ath", "DPoP", vec![proof(json!({ "ath": "x" }))], "401 invalid_dpop_proof"),
        ("a wrong htm", "DPoP", vec![proof(json!({ "htm": "GET" }))], "401 invalid_dpop_proof"),
        ("a wrong htu", "DPoP", vec![proof(json!({ "htu": "https://gate.example/" }))], "401 invalid_dpop_proof"),
        ("another key", "DPoP", vec![thief.proof("POST", URL, &token, json!({}))], "401 invalid_dpop_proof"),
        ("an HS256 proof", "DPoP", vec![shared], "401 invalid_dpop_proof"),
        ("alg none", "DPoP", vec![with(json!({ "alg": "none", "jwk": holder.jwk() }))], "401 invalid_dpop_proof"),
        ("a private jwk", "DPoP", vec![with(json!({ "jwk": private }))], "401 invalid_dpop_proof"),
        ("no jwk", "DPoP", vec![with(json!({}))], "401 invalid_dpop_proof"),
        ("another typ", "DPoP", vec![with(json!({ "typ": "JWT", "jwk": holder.jwk() }))], "401 invalid_dpop_proof"),
        ("a future iat", "DPoP", vec![proof(json!({ "iat": now() + 600 }))], "401 invalid_dpop_proof"),
        ("an old iat", "DPoP", vec![proof(json!({ "iat": now() - 600 }))], "401 invalid_dpop_proof"),
        ("no jti", "DPoP", vec![proof(json!({ "jti": null }))], "401 invalid_dpop_proof"),
    ] {
        cases.push(case(39, what, Requests(vec![request(scheme, &proofs)]), expect));
    }
    let again = Requests(vec![request("DPoP", std::slice::from_ref(&twice)), request("DPoP", &[twice])]);
    cases.push(case(39, "a replayed jti", again, "401 invalid_dpop_proof"));
    let bearer = format!("Bearer {}", issuer.token_with(json!({ "cnf": { "x5t#S256": holder.thumbprint() } })));
    let missing = Requests(vec![(vec![("authorization", bearer.clone())], String::new())]);
    cases.push(case(39, "no certificate", missing, "401 invalid_token"));
    let hash: String = URL_SAFE_NO_PAD
        .decode(holder.thumbprint())
        .expect("base64url")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let spoofed = vec![("authorization", bearer), ("x-forwarded-client-cert", format!("Hash={hash}"))];
    cases.push(case(39, "an XFCC of anybody", Requests(vec![(spoofed, String::new())]), "401 invalid_token"));
    cases
}

/// M40: whatever the reason, the client sees the same; that no message repeats the token is held for every verdict.
fn answers(issuer: &Issuer) -> Vec<Case> {
    let mut cases = vec![
        case(
            40,
            "terminal escapes in aud",
            Token(Draft::claims(&[("aud", r#""\u0000\u001b[2J""#)]).sign()),
            "audience_mismatch",
        ),
        case(40, "a line end in kid", Token(Draft::header(&[("kid", r#""a\nb""#)]).sign()), "unknown_key"),
        case(40, "a long time ago", At(Draft::good().sign(), i64::MAX / 2), "expired"),
    ];
    for (what, claims) in [
        ("expired", json!({ "exp": 1, "iat": 0 })),
        ("for others", json!({ "aud": "others" })),
        ("of a stranger", json!({ "iss": "https://evil.example" })),
        ("bound", json!({ "cnf": { "jkt": "x" } })),
        ("without exp", json!({ "exp": null })),
    ] {
        let bearer = format!("Bearer {}", issuer.token_with(claims));
        let recipe = Requests(vec![(vec![("authorization", bearer)], String::new())]);
        cases.push(case(40, format!("the answer to a token that is {what}"), recipe, "401 invalid_token"));
    }
    let garbage = Requests(vec![(vec![("authorization", format!("Bearer {}", "x".repeat(8192)))], String::new())]);
    cases.push(case(40, "the answer to garbage", garbage, "401 invalid_token"));
    cases
}
