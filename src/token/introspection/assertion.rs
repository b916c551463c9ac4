//! Who we are, signed (RFC 7523 §2.2, `private_key_jwt`): an assertion for one question, good for a minute. What it is
//! signed with is refused when it is a secret that the issuer has too.

use serde_json::{Map, json};

use super::Secret;
use crate::token::{keys::KeySetError, signing::SigningKey, time::UnixTime};

/// `client_assertion_type`.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good for, in seconds.
const LIFETIME: i64 = 60;

/// An assertion of `client_id` for `issuer`. `id` must not be used again.
///
/// # Errors
/// `key` is no private JWK and no PEM of a private key, or a shared secret.
pub fn client_assertion(
    key: &Secret,
    client_id: &str,
    issuer: &str,
    id: &str,
    now: UnixTime,
) -> Result<String, KeySetError> {
    let text = key.expose();
    let key =
        if text.contains("-----BEGIN ") { SigningKey::from_pem(text)? } else { SigningKey::from_jwk(text.as_bytes())? };
    if key.algorithm().is_symmetric() {
        let message = "the key is a shared secret; `private_key_jwt` signs with a private key";
        return Err(KeySetError::new("secret_is_no_private_key", message));
    }
    // The issuer itself is the audience: an endpoint's URL would be good for whoever poses as that endpoint.
    let claims = Map::from_iter([
        ("iss".to_owned(), json!(client_id)),
        ("sub".to_owned(), json!(client_id)),
        ("aud".to_owned(), json!(issuer)),
        ("jti".to_owned(), json!(id)),
        ("iat".to_owned(), json!(now.0)),
        ("exp".to_owned(), json!(now.0.saturating_add(LIFETIME))),
    ]);
    key.sign("JWT", &claims)
}
