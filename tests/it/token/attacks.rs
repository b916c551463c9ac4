//! Attacks that need more than another member: other secrets, other signatures, other serialisations, other bytes.

use std::net::TcpListener;

use claimgate::token::{self, Algorithm, KeyOrigin, KeySet, RawToken, SigningKey};
use serde_json::{Value, json};

use super::{CLAIMS, Draft, NOW, WORLD, base64url, check, decode, object_text, owned, segments, verdict};

/// The order of the group of P-256, big-endian.
pub(super) const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[test]
fn a_token_without_a_signature_is_refused() {
    let good = Draft::good().sign();
    let [header, claims, _] = segments(&good);
    check("nothing after the last dot", &format!("{header}.{claims}."), "empty_segment");
    check("no last dot", &format!("{header}.{claims}"), "wrong_segment_count");
    for name in ["none", "None", "NONE", "nOnE"] {
        let none = base64url(format!(r#"{{"alg":"{name}"}}"#));
        check(name, &format!("{none}.{claims}."), "empty_segment");
        check(name, &format!("{none}.{claims}.AA"), "algorithm_none");
        check(name, &format!("{none}.{claims}"), "wrong_segment_count");
    }
}

#[test]
fn a_public_key_is_not_a_secret() {
    let jwks = WORLD.signer("rs256").public_jwks().expect("public");
    let jwk: Value = serde_json::from_str(&jwks).expect("JSON");
    let jwk = jwk["keys"][0].to_string();
    let modulus = serde_json::from_str::<Value>(&jwk).expect("JSON")["n"].as_str().expect("n").to_owned();
    let point = WORLD.signer("es256").public_jwks().expect("public");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{modulus}\n-----END PUBLIC KEY-----");
    for text in [jwks, jwk, modulus, point, pem] {
        for secret in [text.clone(), format!("{text}\n"), format!(" {text}"), text.trim_end().to_owned() + "\r\n"] {
            let jwk = json!({ "kty": "oct", "k": base64url(&secret) }).to_string();
            let key = SigningKey::from_jwk(jwk.as_bytes()).expect("a secret");
            let sign = |issuer: &str, kid: &str| {
                let header = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#);
                let claims = object_text(&CLAIMS, &owned(&[("iss", &format!("\"{issuer}\""))]), "");
                key.sign_bytes(header.as_bytes(), claims.as_bytes()).expect("signed")
            };
            for kid in ["rs256", "es256"] {
                check(&secret, &sign(super::ISSUER, kid), "algorithm_not_allowed");
            }
            check(&secret, &sign("https://secret.example", "secret"), "bad_signature");
            check(&secret, &sign("https://secret.example", "rs256"), "unknown_key");
        }
    }
}

#[test]
fn a_key_in_the_token_is_not_used() {
    let stranger = WORLD.signer("stranger").public_jwks().expect("public");
    let jwk = serde_json::from_str::<Value>(&stranger).expect("JSON")["keys"][0].to_string();
    let with = |members: &[(&str, &str)]| Draft::header(members).signed_by("stranger").sign();
    check("same kid", &with(&[("jwk", &jwk)]), "bad_signature");
    check("unknown kid", &with(&[("jwk", &jwk), ("kid", r#""mine""#)]), "unknown_key");
    let no_kid = Draft {
        header: format!(r#"{{"alg":"ES256","typ":"at+jwt","jwk":{jwk}}}"#),
        ..Draft::good().signed_by("stranger")
    };
    check("no kid", &no_kid.sign(), "bad_signature");
}

#[test]
fn nothing_is_fetched_for_a_token() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("nonblocking");
    let url = format!("\"http://{}/keys\"", listener.local_addr().expect("an address"));
    for kid in [r#""es256""#, r#""theirs""#] {
        let token = Draft::header(&[("jku", &url), ("x5u", &url), ("kid", kid)]).signed_by("stranger").sign();
        assert!(matches!(verdict(&token, NOW).0, "bad_signature" | "unknown_key"));
    }
    let refused = listener.accept().expect_err("no connection").kind();
    assert_eq!(refused, std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_key_id_has_at_most_256_bytes() {
    for (length, expected) in
        [(1, "unknown_key"), (256, "unknown_key"), (257, "key_id_malformed"), (1 << 20, "token_too_large")]
    {
        let kid = format!("\"{}\"", "k".repeat(length));
        check(&length.to_string(), &Draft::header(&[("kid", &kid)]).sign(), expected);
    }
    let wide = format!("\"{}\"", "é".repeat(129));
    check("two bytes each", &Draft::header(&[("kid", &wide)]).sign(), "key_id_malformed");
}

#[test]
fn psychic_and_misshapen_ecdsa_signatures_do_not_verify() {
    let good = Draft::good().sign();
    let [header, claims, signature] = segments(&good);
    let bytes = decode(signature);
    let (r, s) = bytes.split_at(32);
    let zero = [0; 32];
    let one = [[0; 31].as_slice(), &[1]].concat();
    let der = der_signature(r, s);
    for (what, forged) in [
        ("r = s = 0", [zero, zero].concat()),
        ("r = 0", [zero.as_slice(), s].concat()),
        ("s = 0", [r, &zero].concat()),
        ("r = s = n", [P256_ORDER, P256_ORDER].concat()),
        ("r = n", [P256_ORDER.as_slice(), s].concat()),
        ("s = n", [r, &P256_ORDER].concat()),
        ("r = s = 1", [one.clone(), one].concat()),
        ("all ones", vec![0xff; 64]),
        ("63 bytes", bytes[..63].to_vec()),
        ("65 bytes", [bytes.as_slice(), &[0]].concat()),
        ("65 bytes, zero first", [&[0], bytes.as_slice()].concat()),
        ("r only", r.to_vec()),
        ("twice", [bytes.as_slice(), bytes.as_slice()].concat()),
        ("r and s swapped", [s, r].concat()),
        ("DER", der),
        ("one byte", vec![0]),
    ] {
        check(what, &format!("{header}.{claims}.{}", base64url(forged)), "bad_signature");
    }
    check("the signature itself", &good, "accepted");
}

#[test]
fn signatures_of_other_keys_and_lengths_do_not_verify() {
    for (signer, alg) in [("rs256", "RS256"), ("ed25519", "EdDSA"), ("es384", "ES384"), ("es512", "ES512")] {
        let (alg, kid) = (format!("\"{alg}\""), format!("\"{signer}\""));
        let good = Draft::header(&[("alg", &alg), ("kid", &kid)]).signed_by(signer).sign();
        check(signer, &good, "accepted");
        let [header, claims, signature] = segments(&good);
        let bytes = decode(signature);
        for forged in [
            vec![0; bytes.len()],
            vec![0xff; bytes.len()],
            bytes[1..].to_vec(),
            bytes[..bytes.len() - 1].to_vec(),
            [bytes.as_slice(), &[0]].concat(),
            [&[0], bytes.as_slice()].concat(),
            bytes.iter().rev().copied().collect(),
            vec![0; 5000],
        ] {
            check(signer, &format!("{header}.{claims}.{}", base64url(forged)), "bad_signature");
        }
    }
}

#[test]
fn encrypted_tokens_are_refused() {
    let header = base64url(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"rs256"}"#);
    let inner = base64url(r#"{"alg":"none"}"#);
    for text in [
        format!("{header}.{}.{}.{}.{}", "A".repeat(342), "A".repeat(16), "A".repeat(64), "A".repeat(22)),
        format!("{header}..AAAA.{inner}.AAAA"),
        format!("{}.....", "e30"),
    ] {
        let expected = if text.ends_with("....") { "wrong_segment_count" } else { "encrypted_token" };
        check(&text, &text, expected);
    }
}

#[test]
fn json_serialisations_and_polyglots_are_refused() {
    let good = Draft::good().sign();
    let [header, claims, signature] = segments(&good);
    let flattened = json!({ "protected": header, "payload": claims, "signature": signature });
    let general = json!({ "payload": claims, "signatures": [{ "protected": header, "signature": signature }] });
    let unprotected = json!({ "header": { "alg": "none" }, "payload": claims, "signature": "" });
    for text in [
        flattened.to_string(),
        general.to_string(),
        unprotected.to_string(),
        format!("{{\"x.{claims}.{signature}\":1}}"),
        format!("{{\"{header}.{claims}.{signature}\":\"\",\"payload\":\"e30\"}}"),
        format!("\"{good}\""),
        format!("[{good}]"),
        format!("{good}\n{good}"),
        format!("{good},{good}"),
        format!("Bearer {good}"),
    ] {
        check(&text, &text, "forbidden_character");
    }
    check("twice", &format!("{good}.{good}"), "wrong_segment_count");
}

#[test]
fn a_token_inside_a_token_is_not_unwrapped() {
    let inner = Draft::good().sign();
    let outer = Draft { claims: inner.clone(), ..Draft::header(&[("cty", r#""JWT""#)]) };
    check("with cty", &outer.sign(), "nested_token");
    let outer = Draft { claims: inner.clone(), ..Draft::good() };
    check("without cty", &outer.sign(), "claims_invalid_json");
    check("as a string", &Draft { claims: format!("\"{inner}\""), ..Draft::good() }.sign(), "claims_not_an_object");
}

#[test]
fn base64url_is_read_in_one_way_only() {
    let good = Draft::claims(&[("role", "\"?>?>?>ü\"")]).sign();
    let [header, claims, signature] = segments(&good);
    assert!(claims.contains(['-', '_']), "the payload shows the alphabet");
    let standard = claims.replace('-', "+").replace('_', "/");
    for (what, text) in [
        ("the other alphabet", format!("{header}.{standard}.{signature}")),
        ("padding", format!("{header}.{claims}.{signature}==")),
        ("padding inside", format!("{header}=.{claims}.{signature}")),
        ("a space before", format!(" {good}")),
        ("a space after", format!("{good} ")),
        ("a line end", format!("{good}\n")),
        ("a line end inside", format!("{header}.{claims}\r\n.{signature}")),
        ("percent", format!("{header}.{claims}.{signature}%3D")),
        ("a NUL", format!("{good}\0")),
        ("a letter of two bytes", format!("{header}.{claims}.é{signature}")),
        ("a full-width dot", good.replacen('.', "．", 1)),
        ("a byte order mark", format!("\u{feff}{good}")),
    ] {
        check(what, &text, "forbidden_character");
    }
    // The last character of 86 carries four unused bits.
    let (body, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let position = alphabet.find(last).expect("a letter of the alphabet");
    for unused in 1..16 {
        let other = char::from(alphabet.as_bytes()[position + unused]);
        check("unused bits", &format!("{header}.{claims}.{body}{other}"), "bad_base64url");
    }
    check("a character too few", &format!("{header}.{claims}.{body}"), "bad_base64url");
}

#[test]
fn a_token_has_exactly_three_segments() {
    let good = Draft::good().sign();
    let [header, claims, signature] = segments(&good);
    for (text, expected) in [
        (String::new(), "wrong_segment_count"),
        (header.to_owned(), "wrong_segment_count"),
        (format!("{header}.{claims}"), "wrong_segment_count"),
        (format!("{good}."), "wrong_segment_count"),
        (format!(".{good}"), "wrong_segment_count"),
        (format!("{header}..{claims}.{signature}"), "wrong_segment_count"),
        (format!("{header}..{signature}"), "empty_segment"),
        (format!(".{claims}.{signature}"), "empty_segment"),
        (format!("{good}.."), "encrypted_token"),
        (format!("{good}..."), "wrong_segment_count"),
        (".".repeat(8192), "wrong_segment_count"),
        (".".repeat(1 << 20), "token_too_large"),
    ] {
        check(&text, &text, expected);
    }
}

#[test]
fn a_token_has_at_most_8_kib() {
    let token = |filler: usize| Draft::claims(&[("x", &format!("\"{}\"", "x".repeat(filler)))]).sign();
    let lengths: Vec<usize> = (5500..6100)
        .map(token)
        .filter(|text| (8180..8200).contains(&text.len()))
        .map(|text| {
            check("near the limit", &text, if text.len() <= 8192 { "accepted" } else { "token_too_large" });
            text.len()
        })
        .collect();
    assert!(lengths.iter().any(|length| *length > 8192) && lengths.iter().any(|length| (8189..=8192).contains(length)));
    check("8 MiB", &Draft::claims(&[("x", &format!("\"{}\"", "x".repeat(6 << 20)))]).sign(), "token_too_large");
    let header = Draft::header(&[("x", &format!("\"{}\"", "x".repeat(7000)))]);
    check("a huge header", &header.sign(), "token_too_large");
}

#[test]
fn claims_and_header_are_utf_8() {
    let sign = |header: &[u8], claims: &[u8]| WORLD.signer("es256").sign_bytes(header, claims).expect("signed");
    let (header, claims) = (Draft::good().header, Draft::good().claims);
    let utf_16: Vec<u8> = claims.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (what, bytes) in [
        ("UTF-16", utf_16),
        (
            "a byte that is no UTF-8",
            claims
                .replace("user-1", "user-1\u{1}")
                .into_bytes()
                .into_iter()
                .map(|byte| if byte == 1 { 0xff } else { byte })
                .collect(),
        ),
        ("an overlong letter", [claims.trim_end_matches('}').as_bytes(), b",\"x\":\"\xc0\xaf\"}"].concat()),
        ("a surrogate in UTF-8", [claims.trim_end_matches('}').as_bytes(), b",\"x\":\"\xed\xa0\x80\"}"].concat()),
        ("a NUL at the end", [claims.as_bytes(), b"\0"].concat()),
        ("a byte order mark", [b"\xef\xbb\xbf", claims.as_bytes()].concat()),
    ] {
        check(what, &sign(header.as_bytes(), &bytes), "claims_invalid_json");
    }
    check(
        "the header",
        &sign(&[b"\xef\xbb\xbf", header.as_bytes()].concat(), claims.as_bytes()),
        "header_invalid_json",
    );
    check("the header", &sign(b"{\"alg\":\"ES256\",\"x\":\"\xff\"}", claims.as_bytes()), "header_invalid_json");
}

#[test]
fn a_key_without_kid_is_used_only_when_it_is_the_only_one() {
    let one = WORLD.signer("es256").public_jwks().expect("public");
    let other = WORLD.signer("stranger").public_jwks().expect("public");
    let key = |jwks: &str, kid: Option<&str>| {
        let mut jwk = serde_json::from_str::<Value>(jwks).expect("JSON")["keys"][0].take();
        jwk["kid"] = kid.map_or(Value::Null, Value::from);
        jwk.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        jwk
    };
    let token = |members: &[(&str, &str)]| RawToken::new(Draft::header(members).sign());
    let without = RawToken::new(Draft { header: r#"{"alg":"ES256"}"#.to_owned(), ..Draft::good() }.sign());
    let verify = |keys: Value, raw: &RawToken| {
        let jwks = json!({ "keys": keys }).to_string();
        let set = KeySet::parse(jwks.as_bytes(), KeyOrigin::Remote, &[Algorithm::ES256]);
        token::verify_signature_only(raw, &set.expect("keys"), None).map_err(|error| error.code())
    };
    let named = token(&[]);
    assert_eq!(verify(json!([key(&one, None)]), &without), Ok(()));
    assert_eq!(verify(json!([key(&one, Some("a"))]), &without), Ok(()));
    assert_eq!(verify(json!([key(&one, None)]), &named), Err("unknown_key"));
    assert_eq!(verify(json!([key(&one, Some("a")), key(&other, Some("b"))]), &without), Err("ambiguous_key"));
    assert_eq!(verify(json!([key(&other, Some("es256")), key(&one, Some("b"))]), &named), Err("bad_signature"));
}

/// `SEQUENCE { INTEGER r, INTEGER s }`, as OpenSSL writes signatures.
fn der_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let mut body: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        if body.first().is_none_or(|first| first & 0x80 != 0) {
            body.insert(0, 0);
        }
        let length = u8::try_from(body.len()).expect("short");
        [&[2, length], body.as_slice()].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).expect("short")], body.as_slice()].concat()
}
