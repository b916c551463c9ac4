//! The JWS algorithms that an issuer may use, and the families of keys they need. There is no `none`, no encryption
//! algorithm and no algorithm whose key could be of another family.

use std::{fmt, str::FromStr};

/// JWS algorithms that a profile may list. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    PS256,
    /// RSASSA-PSS with SHA-384 and a salt of 48 bytes.
    PS384,
    /// RSASSA-PSS with SHA-512 and a salt of 64 bytes.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519; tokens name it `EdDSA` or, by RFC 9864, `Ed25519`.
    EdDSA,
    /// HMAC with SHA-256; only with a local secret.
    HS256,
    /// HMAC with SHA-384; only with a local secret.
    HS384,
    /// HMAC with SHA-512; only with a local secret.
    HS512,
}

/// The name is not one of [`Algorithm::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown algorithm; known are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, HS384, HS512"
)]
pub struct UnknownAlgorithm;

/// What kind of key an algorithm needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Rsa,
    EllipticCurve,
    Edwards,
    Hmac,
}

// === impl Algorithm ===

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 13] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::HS256,
        Self::HS384,
        Self::HS512,
    ];

    /// The name in RFC 7518 or RFC 8037.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// A shared secret instead of a key pair?
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self.family(), Family::Hmac)
    }

    pub(super) const fn family(self) -> Family {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => Family::Rsa,
            Self::ES256 | Self::ES384 | Self::ES512 => Family::EllipticCurve,
            Self::EdDSA => Family::Edwards,
            Self::HS256 | Self::HS384 | Self::HS512 => Family::Hmac,
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Case counts, as in RFC 7515. The fully-specified names of RFC 9864 are read as the algorithm they denote.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        match name {
            "Ed25519" => Ok(Self::EdDSA),
            "ESP256" => Ok(Self::ES256),
            "ESP384" => Ok(Self::ES384),
            "ESP512" => Ok(Self::ES512),
            _ => Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(UnknownAlgorithm),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, UnknownAlgorithm};

    #[test]
    fn every_name_reads_back_as_itself() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
    }

    #[test]
    fn fully_specified_names_denote_the_same_algorithms() {
        for (name, algorithm) in [
            ("Ed25519", Algorithm::EdDSA),
            ("ESP256", Algorithm::ES256),
            ("ESP384", Algorithm::ES384),
            ("ESP512", Algorithm::ES512),
        ] {
            assert_eq!(name.parse(), Ok(algorithm));
        }
    }

    #[test]
    fn no_spelling_of_none_and_no_other_case_is_an_algorithm() {
        for name in [
            "none", "None", "NONE", "nOnE", "", "rs256", "Rs256", "RS256 ", "EDDSA", "ed25519", "ES256K", "dir",
            "A256GCM",
        ] {
            assert_eq!(name.parse::<Algorithm>(), Err(UnknownAlgorithm), "{name}");
        }
    }
}
