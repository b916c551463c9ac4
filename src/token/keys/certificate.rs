//! A key that brings a certificate along: the certificate must be of this very key (RFC 7517 §4.7), or one of the two is
//! not what its writer meant. Nothing else of a certificate is looked at, and nothing of it is believed; one that cannot
//! be read says nothing.

use base64::Engine as _;
use serde_json::{Map, Value};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, public_key::PublicKey};

use crate::token::signature::Material;

/// Longer certificates are not read.
const MOST_CHARACTERS: usize = 16 * 1024;

/// Is the first certificate of `x5c` one of another key?
pub(super) fn is_of_another_key(jwk: &Map<String, Value>, material: &Material) -> bool {
    let first = jwk.get("x5c").and_then(Value::as_array).and_then(|chain| chain.first()).and_then(Value::as_str);
    let Some(text) = first.filter(|text| text.len() <= MOST_CHARACTERS) else { return false };
    let Ok(der) = base64::engine::general_purpose::STANDARD.decode(text) else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return false };
    let info = certificate.public_key();
    let bits = info.subject_public_key.data.as_ref();
    match material {
        Material::Rsa { modulus, exponent } => match info.parsed() {
            Ok(PublicKey::RSA(key)) => number(key.modulus) != *modulus || number(key.exponent) != *exponent,
            _ => true,
        },
        Material::Ec { point } => bits != point.as_slice(),
        Material::Ed25519 { point } => bits != point.as_slice(),
        Material::Secret(_) => false,
    }
}

/// DER writes a zero before a number whose first bit is set.
fn number(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
