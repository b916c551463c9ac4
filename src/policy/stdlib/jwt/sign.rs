//! `io.jwt.encode_sign` and `io.jwt.encode_sign_raw`: a compact JWS under the first key of a JWK (set). The algorithm is
//! the header's, and the key must be of its type.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPairComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use regorus::Value;
use serde_json::Map;

use super::super::{
    super::{builtins::BuiltinError, json},
    Outcome, go_base64,
    operand::{self, failed},
};
use super::keys::{self, ALGORITHMS, Curve};

type Jwk = Map<String, serde_json::Value>;

/// Header, payload and key as objects.
pub(in super::super) fn encode_sign(args: &[Value]) -> Outcome {
    let text =
        |index: usize| operand::object(args, index).map(|members| json::to_opa_json(&Value::from(members.clone())));
    sign(&text(0)?, &text(1)?, &text(2)?)
}

/// Header, payload and key as JSON text.
pub(in super::super) fn encode_sign_raw(args: &[Value]) -> Outcome {
    let key = operand::string(args, 2)?;
    sign(operand::string(args, 0)?, operand::string(args, 1)?, key)
}

fn sign(header: &str, payload: &str, key: &str) -> Outcome {
    let jwks = keys::jwks(key).map_err(|error| failed(format!("jwk.Parse: {error}")))?;
    let jwk = jwks.first().ok_or_else(|| failed("no keys found in JWK set"))?;
    let members = header_members(header)?;
    let algorithm = match members.get("alg") {
        Some(serde_json::Value::String(algorithm)) => algorithm.as_str(),
        Some(other) => {
            let message = format!("value doesn't contain string; it contains {}", json_type(other));
            return Err(failed(format!("missing or invalid 'alg' header: {message}")));
        }
        None => return Err(failed("missing or invalid 'alg' header: jwsbb: header \"alg\" not found")),
    };
    if !ALGORITHMS.contains(&algorithm) {
        return Err(failed(format!("unknown JWS algorithm: {algorithm}")));
    }
    let is_jwt = members.get("typ").and_then(serde_json::Value::as_str).is_none_or(|typ| typ == "JWT");
    if is_jwt && serde_json::from_str::<serde::de::IgnoredAny>(payload).is_err() {
        return Err(failed("type is JWT but payload is not JSON"));
    }
    let message = format!("{}.{}", go_base64::encode_url(header.as_bytes()), go_base64::encode_url(payload.as_bytes()));
    let signature = signature(algorithm, jwk, message.as_bytes())
        .ok_or_else(|| failed(format!("the key cannot sign with {algorithm}")))?;
    Ok(Value::from(format!("{message}.{}", go_base64::encode_url(&signature))))
}

fn header_members(header: &str) -> Result<Jwk, BuiltinError> {
    let invalid = |what: &str| failed(format!("missing or invalid 'alg' header: cannot parse JSON: {what}"));
    if header.trim().is_empty() {
        return Err(invalid("cannot parse empty string"));
    }
    match serde_json::from_str(header) {
        Ok(serde_json::Value::Object(members)) => Ok(members),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(invalid(&error.to_string())),
    }
}

fn json_type(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(true) => "true",
        serde_json::Value::Bool(false) => "false",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    }
}

/// `None`: the key is malformed or of another type than the algorithm's.
fn signature(algorithm: &str, jwk: &Jwk, message: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    match (jwk.get("kty")?.as_str()?, algorithm) {
        ("oct", _) => keys::mac(algorithm, &keys::bytes(jwk, "k")?, message),
        ("RSA", _) => {
            let pair = rsa_pair(jwk)?;
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(rsa_encoding(algorithm)?, &random, message, &mut signature).ok()?;
            Some(signature)
        }
        ("EC", _) => {
            let curve = Curve::named(jwk.get("crv")?.as_str()?)?;
            let scheme = match (algorithm, curve) {
                ("ES256", Curve::P256) => &ECDSA_P256_SHA256_FIXED_SIGNING,
                ("ES384", Curve::P384) => &ECDSA_P384_SHA384_FIXED_SIGNING,
                ("ES512", Curve::P521) => &ECDSA_P521_SHA512_FIXED_SIGNING,
                _ => return None,
            };
            let private = keys::bytes(jwk, "d")?;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(scheme, &private, &keys::point(jwk, curve)?);
            Some(pair.ok()?.sign(&random, message).ok()?.as_ref().to_vec())
        }
        ("OKP", "EdDSA") => {
            let pair = Ed25519KeyPair::from_seed_and_public_key(&keys::bytes(jwk, "d")?, &keys::bytes(jwk, "x")?);
            Some(pair.ok()?.try_sign(message).ok()?.as_ref().to_vec())
        }
        _ => None,
    }
}

fn rsa_pair(jwk: &Jwk) -> Option<RsaKeyPair> {
    let number = |name: &str| keys::number(jwk, name);
    let components = KeyPairComponents {
        public_key: RsaPublicKeyComponents { n: number("n")?, e: number("e")? },
        d: number("d")?,
        p: number("p")?,
        q: number("q")?,
        dP: number("dp")?,
        dQ: number("dq")?,
        qInv: number("qi")?,
    };
    RsaKeyPair::from_components(&components).ok()
}

fn rsa_encoding(algorithm: &str) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_SHA256,
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => return None,
    })
}
