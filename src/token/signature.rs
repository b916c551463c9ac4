//! One public key (or shared secret) bound to one algorithm, and the check of a signature with it.
//!
//! Secrets are `jsonwebtoken`'s, over aws-lc. Public keys go to aws-lc directly: `jsonwebtoken` would read the key anew for
//! each token, which takes as long as half an RSA check, and does not know ES512. Whatever goes wrong is a bad signature:
//! this file never explains more, so that nothing can be learned from the difference.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents,
};
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
    Secret(DecodingKey, jsonwebtoken::Algorithm),
    /// Read once, and tied to its algorithm.
    Public(ParsedPublicKey),
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
        let verifier = match material {
            Material::Rsa { modulus, exponent } => {
                let parameters = match algorithm {
                    Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
                    Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
                    Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
                    _ => return None,
                };
                let components = RsaPublicKeyComponents { n: modulus, e: exponent };
                Verifier::Public(components.to_parsed_public_key(parameters).ok()?)
            }
            Material::Ec { point } => {
                let curve = match algorithm {
                    Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
                    Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
                    Algorithm::ES512 => &ECDSA_P521_SHA512_FIXED,
                    _ => return None,
                };
                Verifier::Public(ParsedPublicKey::new(curve, point).ok()?)
            }
            Material::Ed25519 { point } if algorithm == Algorithm::EdDSA => {
                Verifier::Public(ParsedPublicKey::new(&ED25519, point).ok()?)
            }
            Material::Ed25519 { .. } => return None,
            Material::Secret(secret) => {
                install_provider();
                Verifier::Secret(DecodingKey::from_secret(secret), library_algorithm(algorithm)?)
            }
        };
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
            Verifier::Secret(key, algorithm) => {
                jsonwebtoken::crypto::verify(token.signature_text, message, key, *algorithm).unwrap_or(false)
            }
            Verifier::Public(key) => key.verify_sig(message, &token.signature).is_ok(),
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
    match algorithm {
        Algorithm::HS256 => Some(jsonwebtoken::Algorithm::HS256),
        Algorithm::HS384 => Some(jsonwebtoken::Algorithm::HS384),
        Algorithm::HS512 => Some(jsonwebtoken::Algorithm::HS512),
        _ => None,
    }
}

/// Chooses aws-lc for the whole process, once. Without this the first check panics when another crate of the program
/// turns on a second backend; when a provider is already there, that one stays.
pub(super) fn install_provider() {
    let _already_installed = CryptoProvider::install_default(&aws_lc::DEFAULT_PROVIDER);
}
