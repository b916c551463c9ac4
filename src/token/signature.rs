//! One public key (or shared secret) bound to one algorithm, and the check of a signature with it.
//!
//! `jsonwebtoken` over aws-lc checks what it knows; ES512, which it does not, goes to aws-lc directly. Whatever goes
//! wrong is a bad signature: this file never explains more, so that nothing can be learned from the difference.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, ParsedPublicKey};
use jsonwebtoken::{
    DecodingKey,
    crypto::{CryptoProvider, aws_lc},
};

use super::{algorithm::Algorithm, compact::Compact, error::TokenError};

/// A key that may verify signatures of exactly one algorithm.
pub(super) struct VerifyKey {
    key_id: Option<String>,
    algorithm: Algorithm,
    thumbprint: Thumbprint,
    verifier: Verifier,
}

/// SHA-256 over the key's required members (RFC 7638). For secrets it stays inside this module.
pub(super) type Thumbprint = [u8; 32];

/// The material of an admitted key.
pub(super) enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point, on its curve.
    Ec {
        point: Vec<u8>,
    },
    Ed25519 {
        point: [u8; 32],
    },
    Secret(Vec<u8>),
}

/// Proof that a signature was checked, and with which key. Only [`VerifyKey::check`] makes one.
pub(super) struct SignatureChecked {
    key_id: Option<String>,
}

enum Verifier {
    Library(DecodingKey, jsonwebtoken::Algorithm),
    Es512(ParsedPublicKey),
}

// === impl VerifyKey ===

impl VerifyKey {
    /// Fails only when the cryptography refuses the material.
    pub(super) fn new(
        key_id: Option<String>,
        algorithm: Algorithm,
        thumbprint: Thumbprint,
        material: &Material,
    ) -> Option<Self> {
        let verifier = match (material, library_algorithm(algorithm)) {
            (Material::Ec { point }, None) => {
                Verifier::Es512(ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).ok()?)
            }
            (_, None) => return None,
            (Material::Rsa { modulus, exponent }, Some(library)) => {
                Verifier::Library(DecodingKey::from_rsa_raw_components(modulus, exponent), library)
            }
            (Material::Ec { point }, Some(library)) => Verifier::Library(DecodingKey::from_ec_der(point), library),
            (Material::Ed25519 { point }, Some(library)) => Verifier::Library(DecodingKey::from_ed_der(point), library),
            (Material::Secret(secret), Some(library)) => Verifier::Library(DecodingKey::from_secret(secret), library),
        };
        install_provider();
        Some(Self { key_id, algorithm, thumbprint, verifier })
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// Checks the signature over header and payload exactly as received.
    pub(super) fn check(&self, token: &Compact<'_>) -> Result<SignatureChecked, TokenError> {
        let message = token.signing_input.as_bytes();
        let good = match &self.verifier {
            Verifier::Library(key, algorithm) => {
                jsonwebtoken::crypto::verify(token.signature_text, message, key, *algorithm).unwrap_or(false)
            }
            Verifier::Es512(key) => key.verify_sig(message, &token.signature).is_ok(),
        };
        if good {
            Ok(SignatureChecked { key_id: self.key_id.clone() })
        } else {
            Err(TokenError::BadSignature { key_id: self.key_id.clone(), algorithm: self.algorithm })
        }
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

// === impl SignatureChecked ===

impl SignatureChecked {
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }
}

fn library_algorithm(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    Some(match algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::ES512 => return None,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
    })
}

/// Chooses aws-lc for the whole process, once. Without this the first check panics when another crate of the program
/// turns on a second backend; when a provider is already there, that one stays.
pub(super) fn install_provider() {
    let _already_installed = CryptoProvider::install_default(&aws_lc::DEFAULT_PROVIDER);
}
