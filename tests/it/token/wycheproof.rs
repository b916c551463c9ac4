//! Project Wycheproof's vectors for JSON Web Signature, Key and Encryption, through [`token::verify_signature_only`]. Where
//! this verifier means to answer otherwise than a vector says, the vector stands in [`CARVE_OUTS`] with the reason, and
//! must then really be answered otherwise: neither a new deviation nor one that went away passes unseen.

use std::{collections::BTreeMap, fs};

use claimgate::token::{self, Algorithm, KeyOrigin, KeySet, RawToken};
use serde_json::Value;

const SIGNATURES: &str = "tests/fixtures/wycheproof/json_web_signature_test.json";
const KEYS: &str = "tests/fixtures/wycheproof/json_web_key_test.json";
/// Signatures and encrypted tokens, with one key or several.
const MIXED: &str = "tests/fixtures/wycheproof/json_web_crypto_test.json";
const ENCRYPTED: &str = "tests/fixtures/wycheproof/json_web_encryption_test.json";

/// File, `tcId`, what is expected here (`accepted` or a code), and why the vector is not followed.
const CARVE_OUTS: [(&str, u64, &str, &str); 6] = [
    (SIGNATURES, 346, "key_for_other_algorithm", "the key says PS256, the token PS384: one algorithm per key"),
    (SIGNATURES, 350, "key_for_other_algorithm", "the key says PS256, the token PS384: one algorithm per key"),
    (
        SIGNATURES,
        367,
        "accepted",
        "its padding was lost: byte for byte the valid token of tcId 357, under the same key",
    ),
    (
        SIGNATURES,
        370,
        "accepted",
        "its padding was lost: byte for byte the valid token of tcId 357, under the same key",
    ),
    (SIGNATURES, 372, "forbidden_character", "a `?` inside base64url, which RFC 7515 §2 does not have"),
    (SIGNATURES, 373, "forbidden_character", "a `?` inside base64url, which RFC 7515 §2 does not have"),
];

/// Runs every vector of `file`; returns how many were answered as the file says, and how many there are.
fn check(file: &str) -> (usize, usize) {
    let suite: Value = serde_json::from_slice(&fs::read(file).expect("vectors")).expect("JSON");
    let carved: BTreeMap<u64, &str> =
        CARVE_OUTS.iter().filter(|(of, ..)| *of == file).map(|(_, id, expected, _)| (*id, *expected)).collect();
    let (mut followed, mut all, mut wrong) = (0, 0, Vec::new());
    for group in suite["testGroups"].as_array().expect("groups") {
        let jwks = group.get("public").unwrap_or(&group["private"]).to_string();
        let keys = KeySet::parse(jwks.as_bytes(), KeyOrigin::Local, &Algorithm::ALL);
        for test in group["tests"].as_array().expect("tests") {
            all += 1;
            let id = test["tcId"].as_u64().expect("tcId");
            // An encrypted token is refused here, however well it is made.
            let (text, is_valid) = match &test["jws"] {
                Value::String(jws) => (jws.clone(), test["result"] == "valid"),
                _ => (test["jwe"].as_str().map_or_else(|| test["jwe"].to_string(), str::to_owned), false),
            };
            let raw = RawToken::new(text);
            let answer = match &keys {
                Ok(keys) => token::verify_signature_only(&raw, keys, None).map_err(|error| error.code()),
                Err(error) => Err(error.code),
            };
            let answer = answer.map_or_else(|code| code, |()| "accepted");
            let as_vector = (answer == "accepted") == is_valid;
            let as_meant = carved.get(&id).map_or(as_vector, |expected| answer == *expected && !as_vector);
            if !as_meant {
                wrong.push(format!("tcId {id} ({}, {}): {answer}", test["comment"], test["result"]));
            }
            followed += usize::from(as_vector);
        }
    }
    assert!(wrong.is_empty(), "{file}:\n{}", wrong.join("\n"));
    (followed, all)
}

#[test]
fn the_signature_vectors_are_answered_as_wycheproof_says() {
    // 395 as the file says, and the six of `CARVE_OUTS` as meant.
    assert_eq!(check(SIGNATURES), (395, 401));
}

#[test]
fn the_key_vectors_are_answered_as_wycheproof_says() {
    assert_eq!(check(KEYS), (26, 26));
}

#[test]
fn signed_tokens_of_the_mixed_vectors_are_answered_as_wycheproof_says_and_encrypted_ones_refused() {
    assert_eq!(check(MIXED), (83, 83));
    assert_eq!(check(ENCRYPTED), (139, 139));
}

#[test]
fn the_vectors_that_lost_their_padding_are_the_valid_token() {
    let suite: Value = serde_json::from_slice(&fs::read(SIGNATURES).expect("vectors")).expect("JSON");
    let find = |id: u64| {
        let groups = suite["testGroups"].as_array().expect("groups").iter();
        let mut found = groups.filter_map(|group| {
            let test = group["tests"].as_array().expect("tests").iter().find(|test| test["tcId"] == id)?;
            Some((group["private"]["k"].clone(), test["jws"].clone()))
        });
        found.next().expect("the vector")
    };
    assert_eq!(find(367), find(357));
    assert_eq!(find(370), find(357));
}
