//! An issuer for tests: a fresh key, its JWKS, and tokens that are right unless a test makes them wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use claimgate::token::SigningKey;
use serde_json::{Map, Value, json};

/// `iss` of all test tokens.
pub(crate) const ISSUER: &str = "https://idp.example";
/// `aud` of all test tokens.
pub(crate) const AUDIENCE: &str = "folders";

/// A signing key and what goes with it.
pub(crate) struct Issuer {
    key: SigningKey,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self::with_key_id("k1")
    }

    pub(crate) fn with_key_id(kid: &str) -> Self {
        Self { key: SigningKey::generate_es256(kid).unwrap() }
    }

    pub(crate) fn jwks(&self) -> String {
        self.key.public_jwks().unwrap()
    }

    /// The `issuers` section of a configuration, with the keys written into it.
    pub(crate) fn section(&self) -> String {
        format!(
            "issuers:\n  - issuer: {ISSUER}\n    audiences: [{AUDIENCE}]\n    jwks:\n      inline: '{}'\n    claims: \
             {{keep: [org_id, role]}}\n",
            self.jwks()
        )
    }

    /// A valid token for `subject`.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.token_with(json!({ "sub": subject }))
    }

    /// A token whose claims are the usual ones with `claims` over them; a `null` takes one away.
    pub(crate) fn token_with(&self, claims: Value) -> String {
        self.signed("at+jwt", claims)
    }

    /// The same as another kind of JWT.
    pub(crate) fn signed(&self, typ: &str, claims: Value) -> String {
        let mut all = Map::from_iter([
            ("iss".to_owned(), json!(ISSUER)),
            ("aud".to_owned(), json!(AUDIENCE)),
            ("sub".to_owned(), json!("alice")),
            ("iat".to_owned(), json!(now())),
            ("exp".to_owned(), json!(now() + 300)),
        ]);
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        all.extend(claims);
        all.retain(|_, value| !value.is_null());
        self.key.sign(typ, &all).unwrap()
    }

    /// `Bearer …` for `subject`.
    pub(crate) fn bearer(&self, subject: &str) -> String {
        format!("Bearer {}", self.token(subject))
    }
}

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// The same token with one claim changed and the old signature: a forgery.
pub(crate) fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (before, after) = signature.split_at(signature.len() / 2);
    let other = if after.starts_with('A') { "B" } else { "A" };
    let after: String = after.chars().skip(1).collect();
    format!("{signed}.{before}{other}{after}")
}
