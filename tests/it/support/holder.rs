//! A client that holds a key, for tests: tokens that are bound to it, and proofs that are right unless a test makes them
//! wrong.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use claimgate::token::SigningKey;
use serde_json::{Value, json};

use super::tokens::{Issuer, now};

/// A client with a key of its own.
pub(crate) struct Holder {
    pub(crate) key: SigningKey,
}

impl Holder {
    pub(crate) fn new() -> Self {
        Self { key: SigningKey::generate_es256("c").unwrap() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let set: Value = serde_json::from_str(&self.key.public_jwks().unwrap()).unwrap();
        let key = &set["keys"][0];
        json!({ "kty": "EC", "crv": "P-256", "x": key["x"], "y": key["y"] })
    }

    /// RFC 7638.
    pub(crate) fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        hash(&format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]))
    }

    /// A token that is bound to this key.
    pub(crate) fn token(&self, issuer: &Issuer) -> String {
        issuer.token_with(json!({ "cnf": { "jkt": self.thumbprint() } }))
    }

    pub(crate) fn proof(&self, method: &str, url: &str, token: &str, changes: Value) -> String {
        self.proof_with(json!({ "jwk": self.jwk() }), method, url, token, changes)
    }

    /// The same with other header members.
    pub(crate) fn proof_with(&self, header: Value, method: &str, url: &str, token: &str, changes: Value) -> String {
        let claims = json!({"jti": uuid(), "htm": method, "htu": url, "iat": now(), "ath": hash(token)});
        let (Value::Object(mut claims), Value::Object(mut header), Value::Object(changes)) = (claims, header, changes)
        else {
            panic!("header and claims are objects")
        };
        claims.extend(changes);
        header.insert("kid".to_owned(), json!("ignored"));
        self.key.sign_with_header(Some("dpop+jwt"), &header, &claims).unwrap()
    }
}

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

fn uuid() -> String {
    claimgate::authorize::DecisionId::random().to_string()
}
