//! Keys for `io.jwt.*`: a PEM certificate or public key, or a JWK or JWK set, and the check of one signature. Keys that
//! aws-lc-rs refuses (RSA under 1,024 bits, unknown curves) verify nothing.

use aws_lc_rs::{
    constant_time, hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
        RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
        RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use serde_json::{Map, Value};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, x509::SubjectPublicKeyInfo};

use super::super::{super::builtins::BuiltinError, go_base64, operand::failed, pem};
use super::MAX_KEYS;

/// The algorithms that OPA knows.
pub(super) const ALGORITHMS: [&str; 13] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA",
];

/// A key with what its JWK says about it.
pub(super) struct VerifyKey {
    pub key: PublicKey,
    algorithm: String,
    key_id: String,
}

/// Key material.
pub(super) enum PublicKey {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    Ec {
        curve: Curve,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
    /// A type of key that no algorithm here uses.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

// === impl PublicKey ===

impl PublicKey {
    /// Is this the signature of the message under the algorithm? `false` for an algorithm of another type of key.
    pub(super) fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { modulus, exponent } => {
                let Some(parameters) = rsa(algorithm) else { return false };
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature).is_ok()
            }
            Self::Ec { curve, point } => {
                let scheme: &dyn VerificationAlgorithm = match (algorithm, curve) {
                    ("ES256", Curve::P256) => &ECDSA_P256_SHA256_FIXED,
                    ("ES384", Curve::P384) => &ECDSA_P384_SHA384_FIXED,
                    ("ES512", Curve::P521) => &ECDSA_P521_SHA512_FIXED,
                    _ => return false,
                };
                UnparsedPublicKey::new(scheme, point).verify(message, signature).is_ok()
            }
            Self::Ed25519(point) => {
                algorithm == "EdDSA" && UnparsedPublicKey::new(&ED25519, point).verify(message, signature).is_ok()
            }
            Self::Secret(secret) => mac(algorithm, secret, message)
                .is_some_and(|mac| constant_time::verify_slices_are_equal(&mac, signature).is_ok()),
            Self::Other => false,
        }
    }

    fn from_spki(info: &SubjectPublicKeyInfo<'_>) -> Self {
        use x509_parser::public_key::PublicKey as Parsed;
        let strip = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        match info.parsed() {
            Ok(Parsed::RSA(rsa)) => Self::Rsa { modulus: strip(rsa.modulus), exponent: strip(rsa.exponent) },
            Ok(Parsed::EC(point)) => {
                let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
                match curve.and_then(|oid| Curve::from_oid(&oid.to_id_string())) {
                    Some(curve) => Self::Ec { curve, point: point.data().to_vec() },
                    None => Self::Other,
                }
            }
            _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => {
                Self::Ed25519(info.subject_public_key.data.to_vec())
            }
            _ => Self::Other,
        }
    }
}

// === impl Curve ===

impl Curve {
    fn from_oid(oid: &str) -> Option<Self> {
        match oid {
            "1.2.840.10045.3.1.7" => Some(Self::P256),
            "1.3.132.0.34" => Some(Self::P384),
            "1.3.132.0.35" => Some(Self::P521),
            _ => None,
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    /// Bytes of a coordinate.
    pub(super) fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// Does the key that the token names verify it, or, when no key has that name, any key that may?
pub(super) fn any(keys: &[VerifyKey], key_id: &str, algorithm: &str, verify: impl Fn(&VerifyKey) -> bool) -> bool {
    if let Some(named) = keys.iter().find(|key| !key_id.is_empty() && key.key_id == key_id) {
        return verify(named);
    }
    keys.iter().filter(|key| key.algorithm.is_empty() || key.algorithm == algorithm).any(verify)
}

/// The keys of a PEM certificate or public key, or of a JWK or JWK set.
pub(super) fn parse(text: &str) -> Result<Vec<VerifyKey>, BuiltinError> {
    if let Some((block, rest)) = pem::decode(text) {
        if !rest.is_empty() {
            return Err(failed("extra data after a PEM certificate block"));
        }
        let key = match block.label.as_str() {
            "CERTIFICATE" => {
                let (_, certificate) = X509Certificate::from_der(&block.der)
                    .map_err(|error| failed(format!("failed to parse a PEM certificate: x509: {error}")))?;
                PublicKey::from_spki(certificate.public_key())
            }
            "PUBLIC KEY" => {
                let (_, info) = SubjectPublicKeyInfo::from_der(&block.der)
                    .map_err(|error| failed(format!("failed to parse a PEM public key: x509: {error}")))?;
                PublicKey::from_spki(&info)
            }
            _ => return Err(failed("failed to extract a Key from the PEM certificate")),
        };
        return Ok(vec![VerifyKey { key, algorithm: String::new(), key_id: String::new() }]);
    }
    let jwks = jwks(text).map_err(|error| failed(format!("failed to parse a JWK key (set): {error}")))?;
    let mut keys = Vec::new();
    for jwk in &jwks {
        let member = |name: &str| jwk.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = public(jwk).ok_or_else(|| failed("failed to parse a JWK key (set): a key is malformed"))?;
        let algorithm = member("alg");
        // Keys for something else, as encryption, are no error.
        if algorithm.is_empty() || ALGORITHMS.contains(&algorithm.as_str()) {
            keys.push(VerifyKey { key, algorithm, key_id: member("kid") });
        }
    }
    Ok(keys)
}

/// The JWKs of a JWK or a JWK set.
pub(super) fn jwks(text: &str) -> Result<Vec<Map<String, Value>>, BuiltinError> {
    let value: Value = serde_json::from_str(text).map_err(|_| failed("not valid JSON"))?;
    let Value::Object(mut object) = value else { return Err(failed("not a JSON object")) };
    let Some(keys) = object.remove("keys") else { return Ok(vec![object]) };
    let Value::Array(keys) = keys else { return Err(failed("`keys` is not an array")) };
    if keys.len() > MAX_KEYS {
        return Err(BuiltinError::Limit(format!("more than {MAX_KEYS} keys")));
    }
    let object = |key| match key {
        Value::Object(key) => Ok(key),
        _ => Err(failed("a key is not an object")),
    };
    keys.into_iter().map(object).collect()
}

/// A base64url member of a JWK.
pub(super) fn bytes(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    go_base64::decode_url(jwk.get(name)?.as_str()?).ok()
}

/// An unsigned number in a JWK, without leading zeros.
pub(super) fn number(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    Some(bytes(jwk, name)?.into_iter().skip_while(|byte| *byte == 0).collect())
}

/// The uncompressed point of an EC key.
pub(super) fn point(jwk: &Map<String, Value>, curve: Curve) -> Option<Vec<u8>> {
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = number(jwk, name)?;
        point.extend(std::iter::repeat_n(0, curve.width().checked_sub(coordinate.len())?));
        point.extend(coordinate);
    }
    Some(point)
}

/// The keyed digest of an HMAC algorithm; `None` for any other algorithm.
pub(super) fn mac(algorithm: &str, secret: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let hash = match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => return None,
    };
    Some(hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec())
}

fn public(jwk: &Map<String, Value>) -> Option<PublicKey> {
    let curve = || jwk.get("crv").and_then(Value::as_str);
    Some(match jwk.get("kty")?.as_str()? {
        "RSA" => PublicKey::Rsa { modulus: number(jwk, "n")?, exponent: number(jwk, "e")? },
        "EC" => match Curve::named(curve()?) {
            Some(curve) => PublicKey::Ec { curve, point: point(jwk, curve)? },
            None => PublicKey::Other,
        },
        "OKP" if curve()? == "Ed25519" => PublicKey::Ed25519(bytes(jwk, "x")?),
        "OKP" => PublicKey::Other,
        "oct" => PublicKey::Secret(bytes(jwk, "k")?),
        _ => return None,
    })
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
