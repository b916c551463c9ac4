//! Key sets: which keys are admitted, which are left out and why, and which sets are refused whole.

use claimgate::token::{Algorithm, KeyOrigin, KeySet, SigningKey};
use serde_json::{Value, json};

use super::base64url;

/// Members of good public keys, from RFC 7517 appendix A.1 and RFC 8037 appendix A.2.
const EC: &str = r#""kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;
const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
const ED: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

fn rsa() -> String {
    format!(r#""kty":"RSA","n":"{RSA_N}","e":"AQAB""#)
}

/// `Ok`: how many keys are admitted, and the reasons of those that are not, in order. `Err`: the code.
fn check(what: &str, jwks: &str, origin: KeyOrigin, expected: Result<(usize, &[&str]), &str>) {
    let set = KeySet::parse(jwks.as_bytes(), origin, &Algorithm::ALL);
    let got = set.as_ref().map(|set| {
        assert!(!set.is_empty());
        (set.len(), set.dropped().iter().map(|key| key.reason).collect::<Vec<_>>())
    });
    let got = got.as_ref().map(|(admitted, reasons)| (*admitted, reasons.as_slice())).map_err(|error| error.code);
    assert_eq!(got, expected, "{what}: {jwks:.300}");
}

/// One key among a good one: it is admitted, or left out for `reason`.
fn check_key(what: &str, members: &str, origin: KeyOrigin, reason: Option<&str>) {
    let jwks = format!(r#"{{"keys":[{{{ED},"kid":"good"}},{{{members}}}]}}"#);
    match reason {
        Some(reason) => check(what, &jwks, origin, Ok((1, &[reason]))),
        None => check(what, &jwks, origin, Ok((2, &[]))),
    }
}

#[test]
fn a_key_is_not_used_when_its_certificate_is_of_another_key() {
    let text = std::fs::read_to_string("tests/fixtures/keys_with_certificates.json").expect("readable");
    let set: Value = serde_json::from_str(&text).expect("JSON");
    let keys = set["keys"].as_array().expect("an array");
    let check_with = |key: &Value, chain: Value, expected| {
        let mut key = key.clone();
        key["x5c"] = chain;
        let jwks = json!({ "keys": [key] }).to_string();
        check("x5c", &jwks, KeyOrigin::Remote, expected);
    };
    for key in keys {
        let certificate = &key["x5c"][0];
        check_with(key, json!([certificate]), Ok((1, &[])));
        for other in keys.iter().filter(|other| other["kid"] != key["kid"]) {
            let other = &other["x5c"][0];
            check_with(key, json!([other]), Err("no_usable_keys"));
            check_with(key, json!([other, certificate]), Err("no_usable_keys"));
            check_with(key, json!([certificate, other]), Ok((1, &[])));
        }
        // Nothing is believed of a certificate, so one that cannot be read takes nothing away.
        for chain in [json!([]), json!("x"), json!([7]), json!(["MIIB"])] {
            check_with(key, chain, Ok((1, &[])));
        }
        let short = certificate.as_str().and_then(|text| text.get(..100)).expect("long");
        check_with(key, json!([short]), Ok((1, &[])));
    }
    let mixed = format!(r#"{{"keys":[{},{}]}}"#, keys[0], {
        let mut wrong = keys[1].clone();
        wrong["x5c"] = keys[0]["x5c"].clone();
        wrong
    });
    check("one of two", &mixed, KeyOrigin::Remote, Ok((1, &["certificate_mismatch"])));
}

#[test]
fn one_bad_key_does_not_spoil_the_others() {
    let remote = |members: &str, reason| check_key("remote", members, KeyOrigin::Remote, reason);
    for good in [EC, &rsa(), &format!(r#"{EC},"use":"sig""#), &format!(r#"{EC},"key_ops":["verify"]"#)] {
        remote(good, None);
    }
    remote(&format!(r#"{EC},"alg":"ES256","x5c":["nonsense"],"unknown":{{"a":[1]}}"#), None);
    remote(&format!(r#"{EC},"alg":"ESP256""#), None);
    for (members, reason) in [
        (format!(r#"{EC},"kid":5"#), "malformed"),
        (format!(r#"{EC},"kid":null"#), "malformed"),
        (format!(r#"{EC},"kid":"""#), "malformed"),
        (format!(r#"{EC},"kid":"{}""#, "k".repeat(257)), "malformed"),
        (format!(r#"{EC},"kid":"a","kid":"b""#), "duplicate_member"),
        (format!(r#"{EC},"alg":["ES256"]"#), "malformed"),
        (format!(r#"{EC},"use":"enc""#), "wrong_use"),
        (format!(r#"{EC},"use":"SIG""#), "wrong_use"),
        (format!(r#"{EC},"use":7"#), "wrong_use"),
        (format!(r#"{EC},"key_ops":["encrypt"]"#), "wrong_key_ops"),
        (format!(r#"{EC},"key_ops":["sign"]"#), "wrong_key_ops"),
        (format!(r#"{EC},"key_ops":[]"#), "wrong_key_ops"),
        (format!(r#"{EC},"key_ops":"verify""#), "wrong_key_ops"),
        (format!(r#"{EC},"alg":"ES384""#), "algorithm_does_not_fit_key"),
        (format!(r#"{EC},"alg":"RS256""#), "algorithm_does_not_fit_key"),
        (format!(r#"{EC},"alg":"HS256""#), "algorithm_does_not_fit_key"),
        (format!(r#"{EC},"alg":"none""#), "unsupported_algorithm"),
        (format!(r#"{},"alg":"RSA-OAEP""#, rsa()), "unsupported_algorithm"),
        (format!(r#"{EC},"d":"AAAA""#), "private_key_in_remote_set"),
        (format!(r#"{},"p":"AAAA""#, rsa()), "private_key_in_remote_set"),
        (r#""kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#.into(), "secret_in_remote_set"),
        (r#""kty":"EC","crv":"secp256k1","x":"AA","y":"AA""#.into(), "unsupported_curve"),
        (r#""kty":"OKP","crv":"X25519","x":"AA""#.into(), "unsupported_curve"),
        (r#""kty":"OKP","crv":"Ed448","x":"AA""#.into(), "unsupported_curve"),
        (r#""kty":"AKP","alg":"ML-DSA-44","pub":"AA""#.into(), "unsupported_key_type"),
        (r#""kty":"ec""#.into(), "unsupported_key_type"),
        (r#""kty":7"#.into(), "malformed"),
        (r#""kid":"x""#.into(), "malformed"),
        (String::new(), "malformed"),
    ] {
        remote(&members, Some(reason));
    }
    let jwks = format!(r#"{{"keys":[{{{EC}}},7,null,"x",[],[{{{EC}}}]]}}"#);
    check("not objects", &jwks, KeyOrigin::Remote, Ok((1, &["malformed"; 5])));
}

#[test]
fn weak_and_misshapen_keys_are_left_out() {
    let remote = |what: &str, members: &str, reason| check_key(what, members, KeyOrigin::Remote, reason);
    let rsa_key = |n: &[u8], e: &str| format!(r#""kty":"RSA","n":"{}","e":"{e}""#, base64url(n));
    let n = super::decode(RSA_N);
    let sized = |bytes: usize| [&[0xc3], vec![0x5b; bytes - 2].as_slice(), &[0x2f]].concat();
    remote("n with a leading zero", &rsa_key(&[&[0], n.as_slice()].concat(), "AQAB"), None);
    remote("1024 bits", &rsa_key(&n[..128], "AQAB"), Some("rsa_modulus_too_short"));
    remote("2047 bits", &rsa_key(&[&[0x7f], &n[1..]].concat(), "AQAB"), Some("rsa_modulus_too_short"));
    remote("16384 bits", &rsa_key(&sized(2048), "AQAB"), Some("rsa_modulus_too_long"));
    remote("an even modulus", &rsa_key(&[&n[..255], &[0x82]].concat(), "AQAB"), Some("rsa_weak_modulus"));
    remote("no modulus", &rsa_key(&[], "AQAB"), Some("rsa_modulus_too_short"));
    for (e, reason) in [
        ("AQ", Some("rsa_unsafe_exponent")),
        ("Ag", Some("rsa_unsafe_exponent")),
        ("AQAA", Some("rsa_unsafe_exponent")),
        ("", Some("rsa_unsafe_exponent")),
        ("AA", Some("rsa_unsafe_exponent")),
        ("____________", Some("rsa_unsafe_exponent")),
        ("AQAB==", Some("malformed")),
        ("Aw", None),
        ("AAEAAQ", None),
    ] {
        remote(&format!("e {e}"), &rsa_key(&n, e), reason);
    }

    let okp = |x: &[u8]| format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, base64url(x));
    let x = super::decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    remote("31 bytes", &okp(&x[..31]), Some("invalid_point"));
    remote("33 bytes", &okp(&[x.as_slice(), &[0]].concat()), Some("invalid_point"));
    let identity = [&[1], [0; 31].as_slice()].concat();
    for (what, point) in [("zero", vec![0; 32]), ("the identity", identity), ("not canonical", vec![0xff; 32])] {
        remote(what, &okp(&point), Some("small_order_point"));
    }

    let ec = |curve: &str, x: &[u8], y: &[u8]| {
        format!(r#""kty":"EC","crv":"{curve}","x":"{}","y":"{}""#, base64url(x), base64url(y))
    };
    let (x, y) = (
        super::decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"),
        super::decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"),
    );
    let mut off = y.clone();
    off[31] ^= 1;
    remote("on the curve", &ec("P-256", &x, &y), None);
    remote("off the curve", &ec("P-256", &x, &off), Some("invalid_point"));
    remote("the origin", &ec("P-256", &[0; 32], &[0; 32]), Some("invalid_point"));
    remote("swapped", &ec("P-256", &y, &x), Some("invalid_point"));
    remote("x too short", &ec("P-256", &x[1..], &y), Some("invalid_point"));
    remote("x too long", &ec("P-256", &[&[0], x.as_slice()].concat(), &y), Some("invalid_point"));
    remote("another curve", &ec("P-384", &x, &y), Some("invalid_point"));
    remote(
        "padded by zeros",
        &ec("P-521", &[&[0; 34], x.as_slice()].concat(), &[&[0; 34], y.as_slice()].concat()),
        Some("invalid_point"),
    );
}

#[test]
fn secrets_are_local_and_as_long_as_their_hash() {
    let secret =
        |bytes: usize, alg: &str| format!(r#"{{"kty":"oct","alg":"{alg}","k":"{}"}}"#, base64url(vec![7; bytes]));
    for (alg, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        check("long enough", &secret(least, alg), KeyOrigin::Local, Ok((1, &[])));
        for bytes in [0, 1, least - 1] {
            check("too short", &secret(bytes, alg), KeyOrigin::Local, Err("no_usable_keys"));
        }
        let set = format!(r#"{{"keys":[{}]}}"#, secret(64, alg));
        check("over the network", &set, KeyOrigin::Remote, Err("no_usable_keys"));
    }
    let mixed = format!(r#"{{"keys":[{},{{{EC}}}]}}"#, secret(32, "HS256"));
    check("with a key pair", &mixed, KeyOrigin::Local, Err("mixed_key_kinds"));
}

#[test]
fn a_document_that_is_no_key_set_is_refused_whole() {
    let one = format!(r#"{{{EC}}}"#);
    for (what, text, expected) in [
        ("empty", String::new(), "not_a_key_set"),
        ("white space", "  \n".into(), "not_a_key_set"),
        ("HTML", "<!doctype html><title>502</title>".into(), "not_a_key_set"),
        ("an array", format!("[{one}]"), "not_a_key_set"),
        ("null", "null".into(), "not_a_key_set"),
        ("an object of something else", r#"{"error":"x"}"#.into(), "not_a_key_set"),
        ("keys as an object", format!(r#"{{"keys":{{"a":{one}}}}}"#), "not_a_key_set"),
        ("keys twice", format!(r#"{{"keys":[{one}],"keys":[]}}"#), "not_a_key_set"),
        ("one key, over the network", one.clone(), "not_a_key_set"),
        ("something after it", format!(r#"{{"keys":[{one}]}} x"#), "not_a_key_set"),
        ("no keys", r#"{"keys":[]}"#.into(), "no_usable_keys"),
        ("only bad keys", r#"{"keys":[{},{"kty":"x"}]}"#.into(), "no_usable_keys"),
        ("101 keys", format!(r#"{{"keys":[{}]}}"#, vec![one.as_str(); 101].join(",")), "too_many_keys"),
        ("10 MB", format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(10_000_000)), "key_set_too_large"),
        ("10,000 deep", format!(r#"{{"keys":[{}{}]}}"#, "[".repeat(10_000), "]".repeat(10_000)), "no_usable_keys"),
    ] {
        check(what, &text, KeyOrigin::Remote, Err(expected));
    }
    check("one key in a file", &one, KeyOrigin::Local, Ok((1, &[])));
    check("other members", &format!(r#"{{"issuer":"x","keys":[{one}]}}"#), KeyOrigin::Remote, Ok((1, &[])));
}

#[test]
fn a_key_id_or_a_key_that_is_there_twice_is_not_used() {
    let other = SigningKey::generate_es256("a").expect("a key").public_jwks().expect("public");
    let other: Value = serde_json::from_str(&other).expect("JSON");
    let other = other["keys"][0].to_string();
    let remote = |keys: &[&str], expected| {
        check("twice", &format!(r#"{{"keys":[{}]}}"#, keys.join(",")), KeyOrigin::Remote, expected);
    };
    let ec = format!(r#"{{{EC},"kid":"a"}}"#);
    let ed = format!(r#"{{{ED},"kid":"b"}}"#);
    let rsa_as = |alg: &str, kid: &str| format!(r#"{{{},"alg":"{alg}","kid":"{kid}"}}"#, rsa());
    remote(&[&ec, &other], Err("no_usable_keys"));
    remote(&[&ec, &other, &ed], Ok((1, &["duplicate_key_id"; 2])));
    remote(&[&ec, &ec, &ed], Ok((1, &["duplicate_key_id"; 2])));
    // RFC 7517 §4.5 allows one `kid` for keys of different types.
    remote(&[&ec, &format!(r#"{{{ED},"kid":"a"}}"#)], Ok((2, &[])));
    remote(&[&ec, r#"{"kty":"EC","crv":"P-256","x":7,"kid":"a"}"#, &ed], Ok((1, &["duplicate_key_id", "malformed"])));
    remote(&[&ec, r#"{"kty":"AKP","kid":"a"}"#], Ok((1, &["unsupported_key_type"])));
    remote(&[&rsa_as("RS256", "1"), &rsa_as("PS256", "2"), &ed], Ok((1, &["used_for_two_algorithms"; 2])));
    remote(&[&rsa_as("RS256", "1"), &rsa_as("RS256", "2")], Ok((2, &[])));
}

#[test]
fn a_key_without_an_algorithm_gets_exactly_one_that_its_profile_lists() {
    use Algorithm::{ES256, PS256, PS384, RS256, RS512};
    let jwks = format!(r#"{{"keys":[{{{}}}]}}"#, rsa());
    let signer = std::fs::read("tests/fixtures/bench/rs256.jwk.json").expect("the RSA key");
    for (allowed, bound) in [
        (&[RS256, PS256][..], Some(RS256)),
        (&[PS256, RS256], Some(RS256)),
        (&[PS384, PS256], Some(PS384)),
        (&[ES256, RS512], Some(RS512)),
        (&[ES256], None),
    ] {
        let set = KeySet::parse(jwks.as_bytes(), KeyOrigin::Remote, allowed);
        assert_eq!(set.is_ok(), bound.is_some(), "{allowed:?}");
        // The key that signs, without its `alg`, shows which one it was bound to.
        let mut own: Value = serde_json::from_slice(&signer).expect("JSON");
        own.as_object_mut().expect("an object").remove("alg");
        let Ok(set) = KeySet::parse(own.to_string().as_bytes(), KeyOrigin::Local, allowed) else { continue };
        for algorithm in [RS256, RS512, PS256, PS384] {
            let key = SigningKey::from_jwk(&signer).and_then(|key| key.with_algorithm(algorithm)).expect("a key");
            let raw = claimgate::token::RawToken::new(key.sign("at+jwt", &serde_json::Map::new()).expect("signed"));
            let verified = claimgate::token::verify_signature_only(&raw, &set, None).is_ok();
            assert_eq!(verified, Some(algorithm) == bound, "{allowed:?} {algorithm}");
        }
    }
}

#[test]
fn the_digest_of_a_set_changes_with_its_keys_and_not_with_their_order() {
    let digest = |keys: &[String]| {
        let jwks =
            json!({ "keys": keys.iter().map(|key| serde_json::from_str(key).expect("JSON")).collect::<Vec<Value>>() });
        KeySet::parse(jwks.to_string().as_bytes(), KeyOrigin::Remote, &Algorithm::ALL)
            .expect("keys")
            .digest()
            .to_owned()
    };
    let (ec, ed) = (format!(r#"{{{EC},"kid":"a"}}"#), format!(r#"{{{ED},"kid":"b"}}"#));
    let renamed = format!(r#"{{{EC},"kid":"c"}}"#);
    let both = digest(&[ec.clone(), ed.clone()]);
    assert_eq!(both, digest(&[ed.clone(), ec.clone()]));
    assert_eq!(both, digest(&[ec.replace(r#""kty""#, r#""x5t":"AA","kty""#), ed.clone()]));
    assert_ne!(both, digest(std::slice::from_ref(&ec)));
    assert_ne!(both, digest(&[renamed, ed]));
}

#[test]
fn a_signing_key_is_one_whole_private_key() {
    let code = |text: &str| SigningKey::from_jwk(text.as_bytes()).map(drop).map_err(|error| error.code);
    let private = SigningKey::generate_jwk(Algorithm::ES256, "a").expect("a key");
    let other: Value =
        serde_json::from_str(&SigningKey::generate_jwk(Algorithm::ES256, "a").expect("a key")).expect("JSON");
    let mut swapped: Value = serde_json::from_str(&private).expect("JSON");
    swapped["d"] = other["d"].clone();
    assert_eq!(code(&private), Ok(()));
    assert_eq!(code(&format!(r#"{{"keys":[{private},{{{ED}}}]}}"#)), Ok(()));
    assert_eq!(code(&format!(r#"{{"keys":[{private},{other}]}}"#)), Err("several_private_keys"));
    assert_eq!(code(&format!(r#"{{{EC}}}"#)), Err("not_a_private_key"));
    assert_eq!(code(r#"{"keys":[]}"#), Err("not_a_private_key"));
    assert_eq!(code(r#"{"keys":7}"#), Err("not_a_key"));
    assert_eq!(code("[]"), Err("not_a_key"));
    assert_eq!(code(""), Err("not_a_key"));
    assert_eq!(code(&swapped.to_string()), Err("inconsistent_key"));
    assert_eq!(code(r#"{"kty":"oct","k":"AAAA"}"#), Err("no_usable_keys"));
    let pem = |text: &str| SigningKey::from_pem(text).map(drop).map_err(|error| error.code);
    assert_eq!(pem(""), Err("not_a_pem_key"));
    assert_eq!(pem("-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n"), Err("not_a_pem_key"));
    assert_eq!(pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), Err("unsupported_key"));
    assert_eq!(
        SigningKey::generate_jwk(Algorithm::RS256, "a").map_err(|error| error.code),
        Err("unsupported_key_generation")
    );
}
