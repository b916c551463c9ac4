//! The rules by which one JWK becomes a key: known type, right use, one algorithm, sound material. Every refusal has a
//! reason with a stable code, because a key that vanishes silently is a support case.

use aws_lc_rs::{
    digest,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    },
};
use serde_json::{Map, Value};

use super::{certificate, weak};
use crate::token::{
    algorithm::{Algorithm, Family},
    compact::{Limits, decode_base64url, encode_base64url},
    json::{self, JsonFault},
    profile::KeyOrigin,
    signature::{Material, Thumbprint, VerifyKey},
};

/// Why a key was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Malformed,
    DuplicateMember,
    UnsupportedKeyType,
    UnsupportedCurve,
    UnsupportedAlgorithm,
    AlgorithmMismatch,
    AlgorithmNotAllowed,
    WrongUse,
    WrongKeyOperations,
    SecretInRemoteSet,
    PrivateKeyInRemoteSet,
    SecretTooShort,
    RsaModulusTooShort,
    RsaModulusTooLong,
    RsaWeakModulus,
    RsaUnsafeExponent,
    InvalidPoint,
    SmallOrderPoint,
    CertificateMismatch,
    DuplicateKeyId,
    UsedForTwoAlgorithms,
}

/// Members that only a private key or a secret has (RFC 7518 §6, RFC 8037 §2).
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

const KEY_ID_MAX_BYTES: usize = 256;

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

// === impl Reason ===

impl Reason {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::DuplicateMember => "duplicate_member",
            Self::UnsupportedKeyType => "unsupported_key_type",
            Self::UnsupportedCurve => "unsupported_curve",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::AlgorithmMismatch => "algorithm_does_not_fit_key",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::WrongUse => "wrong_use",
            Self::WrongKeyOperations => "wrong_key_ops",
            Self::SecretInRemoteSet => "secret_in_remote_set",
            Self::PrivateKeyInRemoteSet => "private_key_in_remote_set",
            Self::SecretTooShort => "secret_too_short",
            Self::RsaModulusTooShort => "rsa_modulus_too_short",
            Self::RsaModulusTooLong => "rsa_modulus_too_long",
            Self::RsaWeakModulus => "rsa_weak_modulus",
            Self::RsaUnsafeExponent => "rsa_unsafe_exponent",
            Self::InvalidPoint => "invalid_point",
            Self::SmallOrderPoint => "small_order_point",
            Self::CertificateMismatch => "certificate_mismatch",
            Self::DuplicateKeyId => "duplicate_key_id",
            Self::UsedForTwoAlgorithms => "used_for_two_algorithms",
        }
    }
}

/// Reads one JWK. On refusal, its `kid` when readable, and the reason.
pub(super) fn admit(
    json: &[u8],
    origin: KeyOrigin,
    allowed: &[Algorithm],
) -> Result<VerifyKey, (Option<String>, Reason)> {
    let jwk = json::parse_object(json, Limits::default().json()).map_err(|fault| match fault {
        JsonFault::DuplicateMember => (None, Reason::DuplicateMember),
        _ => (None, Reason::Malformed),
    })?;
    let readable_key_id = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
    admit_object(&jwk, origin, allowed).map_err(|reason| (readable_key_id, reason))
}

pub(super) fn admit_object(
    jwk: &Map<String, Value>,
    origin: KeyOrigin,
    allowed: &[Algorithm],
) -> Result<VerifyKey, Reason> {
    let key_id = match optional_string(jwk, "kid")? {
        Some(kid) if kid.is_empty() || kid.len() > KEY_ID_MAX_BYTES => return Err(Reason::Malformed),
        kid => kid.map(str::to_owned),
    };
    let key_type = string(jwk, "kty")?;
    let is_private = PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member));
    if origin == KeyOrigin::Remote {
        if key_type == "oct" {
            return Err(Reason::SecretInRemoteSet);
        }
        if is_private {
            return Err(Reason::PrivateKeyInRemoteSet);
        }
    }
    check_use(jwk, is_private && key_type != "oct")?;

    let fits = fitting_algorithms(jwk, key_type)?;
    let algorithm = bind(jwk, fits, allowed)?;
    let (material, thumbprint) = match algorithm.family() {
        Family::Rsa => rsa(jwk)?,
        Family::EllipticCurve => elliptic_curve(jwk, algorithm)?,
        Family::Edwards => ed25519(jwk)?,
        Family::Hmac => secret(jwk, algorithm)?,
    };
    if certificate::is_of_another_key(jwk, &material) {
        return Err(Reason::CertificateMismatch);
    }
    VerifyKey::new(key_id, algorithm, thumbprint, &material).ok_or(Reason::Malformed)
}

/// `use` must be `sig` or absent; `key_ops` must allow verifying. A private key may say `sign` instead: its public
/// part is what verifies.
fn check_use(jwk: &Map<String, Value>, is_private: bool) -> Result<(), Reason> {
    match jwk.get("use") {
        None => {}
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(_) => return Err(Reason::WrongUse),
    }
    let Some(operations) = jwk.get("key_ops") else { return Ok(()) };
    let Value::Array(operations) = operations else { return Err(Reason::WrongKeyOperations) };
    let allows = |wanted: &str| operations.iter().any(|operation| operation == wanted);
    if allows("verify") || (is_private && allows("sign")) { Ok(()) } else { Err(Reason::WrongKeyOperations) }
}

/// The algorithms that a key of this type could be used with, the usual one first.
fn fitting_algorithms(jwk: &Map<String, Value>, key_type: &str) -> Result<&'static [Algorithm], Reason> {
    use Algorithm::{ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    match key_type {
        "RSA" => Ok(&[RS256, RS384, RS512, PS256, PS384, PS512]),
        "EC" => match string(jwk, "crv")? {
            "P-256" => Ok(&[ES256]),
            "P-384" => Ok(&[ES384]),
            "P-521" => Ok(&[ES512]),
            _ => Err(Reason::UnsupportedCurve),
        },
        "OKP" => match string(jwk, "crv")? {
            "Ed25519" => Ok(&[EdDSA]),
            _ => Err(Reason::UnsupportedCurve),
        },
        "oct" => Ok(&[HS256, HS384, HS512]),
        _ => Err(Reason::UnsupportedKeyType),
    }
}

/// The one algorithm of this key.
fn bind(jwk: &Map<String, Value>, fits: &[Algorithm], allowed: &[Algorithm]) -> Result<Algorithm, Reason> {
    if let Some(name) = optional_string(jwk, "alg")? {
        let algorithm = match name {
            // A slip for ES512 that is found in the wild: the curve is P-521, the hash is SHA-512.
            "ES521" => Algorithm::ES512,
            _ => name.parse().map_err(|_| Reason::UnsupportedAlgorithm)?,
        };
        if !fits.contains(&algorithm) {
            return Err(Reason::AlgorithmMismatch);
        }
        return if allowed.contains(&algorithm) { Ok(algorithm) } else { Err(Reason::AlgorithmNotAllowed) };
    }
    let usual = fits.first().filter(|usual| allowed.contains(usual));
    usual
        .or_else(|| allowed.iter().find(|algorithm| fits.contains(algorithm)))
        .copied()
        .ok_or(Reason::AlgorithmNotAllowed)
}

fn rsa(jwk: &Map<String, Value>) -> Result<(Material, Thumbprint), Reason> {
    let modulus = without_leading_zeros(&bytes(jwk, "n")?);
    let exponent = without_leading_zeros(&bytes(jwk, "e")?);
    let bits = bit_length(&modulus);
    if bits < *RSA_BITS.start() {
        return Err(Reason::RsaModulusTooShort);
    }
    if bits > *RSA_BITS.end() {
        return Err(Reason::RsaModulusTooLong);
    }
    let odd = exponent.last().is_some_and(|last| last & 1 == 1);
    let at_least_3 = exponent.len() > 1 || exponent.first().is_some_and(|first| *first >= 3);
    if !odd || !at_least_3 || bit_length(&exponent) > 33 {
        return Err(Reason::RsaUnsafeExponent);
    }
    if weak::has_small_factor(&modulus) || weak::is_roca(&modulus) {
        return Err(Reason::RsaWeakModulus);
    }
    RsaPublicKeyComponents { n: &modulus, e: &exponent }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| Reason::Malformed)?;
    let thumbprint =
        thumbprint(&[("e", &encode_base64url(&exponent)), ("kty", "RSA"), ("n", &encode_base64url(&modulus))]);
    Ok((Material::Rsa { modulus, exponent }, thumbprint))
}

fn elliptic_curve(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<(Material, Thumbprint), Reason> {
    let (curve, length, check): (_, _, &'static EcdsaVerificationAlgorithm) = match algorithm {
        Algorithm::ES256 => ("P-256", 32, &ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => ("P-384", 48, &ECDSA_P384_SHA384_FIXED),
        _ => ("P-521", 66, &ECDSA_P521_SHA512_FIXED),
    };
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != length || y.len() != length {
        return Err(Reason::InvalidPoint);
    }
    let mut point = vec![4];
    point.extend_from_slice(&x);
    point.extend_from_slice(&y);
    ParsedPublicKey::new(check, &point).map_err(|_| Reason::InvalidPoint)?;
    let thumbprint =
        thumbprint(&[("crv", curve), ("kty", "EC"), ("x", &encode_base64url(&x)), ("y", &encode_base64url(&y))]);
    Ok((Material::Ec { point }, thumbprint))
}

fn ed25519(jwk: &Map<String, Value>) -> Result<(Material, Thumbprint), Reason> {
    let point: [u8; 32] = bytes(jwk, "x")?.try_into().map_err(|_| Reason::InvalidPoint)?;
    if weak::is_small_order_or_not_canonical(&point) {
        return Err(Reason::SmallOrderPoint);
    }
    let thumbprint = thumbprint(&[("crv", "Ed25519"), ("kty", "OKP"), ("x", &encode_base64url(point))]);
    Ok((Material::Ed25519 { point }, thumbprint))
}

/// RFC 7518 §3.2: the secret is at least as long as the hash.
fn secret(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<(Material, Thumbprint), Reason> {
    let secret = bytes(jwk, "k")?;
    let least = match algorithm {
        Algorithm::HS512 => 64,
        Algorithm::HS384 => 48,
        _ => 32,
    };
    if secret.len() < least {
        return Err(Reason::SecretTooShort);
    }
    let thumbprint = thumbprint(&[("k", &encode_base64url(&secret)), ("kty", "oct")]);
    Ok((Material::Secret(secret), thumbprint))
}

/// RFC 7638: SHA-256 over the required members in alphabetical order. No value needs escaping.
fn thumbprint(members: &[(&str, &str)]) -> Thumbprint {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    let text = format!("{{{}}}", members.join(","));
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    thumbprint
}

fn optional_string<'j>(jwk: &'j Map<String, Value>, member: &str) -> Result<Option<&'j str>, Reason> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Reason::Malformed),
    }
}

fn string<'j>(jwk: &'j Map<String, Value>, member: &str) -> Result<&'j str, Reason> {
    optional_string(jwk, member)?.ok_or(Reason::Malformed)
}

fn bytes(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, Reason> {
    decode_base64url(string(jwk, member)?).ok_or(Reason::Malformed)
}

/// Some issuers write a leading zero octet before `n`, against RFC 7518 §6.3.1.1. The number is the same.
fn without_leading_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

fn bit_length(number: &[u8]) -> usize {
    let Some(first) = number.first() else { return 0 };
    let leading_zeros = usize::try_from(first.leading_zeros()).unwrap_or(0);
    number.len().saturating_mul(8).saturating_sub(leading_zeros)
}

#[cfg(test)]
mod tests {
    use super::{bit_length, thumbprint, without_leading_zeros};
    use crate::token::compact::encode_base64url;

    #[test]
    fn bits_are_counted_without_leading_zeros() {
        for (number, bits) in [(&[][..], 0), (&[1], 1), (&[0x80], 8), (&[1, 0, 1], 17), (&[0, 0, 1], 1)] {
            assert_eq!(bit_length(&without_leading_zeros(number)), bits);
        }
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let print = thumbprint(&[("e", "AQAB"), ("kty", "RSA"), ("n", n)]);
        assert_eq!(encode_base64url(print), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
