//! The numbers that Go's `crypto/x509` gives to algorithms and key usages. It knows names only, no keys.

use x509_parser::{
    signature_algorithm::{RsaSsaPssParams, SignatureAlgorithm},
    x509::AlgorithmIdentifier,
};

/// Go's number of a signature algorithm; 0 for one that it does not know.
pub(super) fn signature_algorithm(algorithm: &AlgorithmIdentifier<'_>) -> u32 {
    match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.10" => match SignatureAlgorithm::try_from(algorithm) {
            Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => pss(&parameters),
            _ => 0,
        },
        "1.2.840.113549.1.1.2" => 1,
        "1.2.840.113549.1.1.4" => 2,
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => 3,
        "1.2.840.113549.1.1.11" => 4,
        "1.2.840.113549.1.1.12" => 5,
        "1.2.840.113549.1.1.13" => 6,
        "1.2.840.10040.4.3" => 7,
        "2.16.840.1.101.3.4.3.2" => 8,
        "1.2.840.10045.4.1" => 9,
        "1.2.840.10045.4.3.2" => 10,
        "1.2.840.10045.4.3.3" => 11,
        "1.2.840.10045.4.3.4" => 12,
        "1.3.101.112" => 16,
        _ => 0,
    }
}

/// One digest for the text and the mask, and a salt as long as the digest: Go knows no others.
fn pss(parameters: &RsaSsaPssParams<'_>) -> u32 {
    let Ok(mask) = parameters.mask_gen_algorithm() else { return 0 };
    let digest = parameters.hash_algorithm_oid().to_id_string();
    let plain = mask.mgf.to_id_string() == "1.2.840.113549.1.1.8" && mask.hash.to_id_string() == digest;
    if !plain || parameters.trailer_field() != 1 {
        return 0;
    }
    match (digest.as_str(), parameters.salt_length()) {
        ("2.16.840.1.101.3.4.2.1", 32) => 13,
        ("2.16.840.1.101.3.4.2.2", 48) => 14,
        ("2.16.840.1.101.3.4.2.3", 64) => 15,
        _ => 0,
    }
}

/// Go's number of an extended key usage.
pub(super) fn usage(oid: &str) -> Option<u32> {
    Some(match oid {
        "2.5.29.37.0" => 0,
        "1.3.6.1.5.5.7.3.1" => 1,
        "1.3.6.1.5.5.7.3.2" => 2,
        "1.3.6.1.5.5.7.3.3" => 3,
        "1.3.6.1.5.5.7.3.4" => 4,
        "1.3.6.1.5.5.7.3.5" => 5,
        "1.3.6.1.5.5.7.3.6" => 6,
        "1.3.6.1.5.5.7.3.7" => 7,
        "1.3.6.1.5.5.7.3.8" => 8,
        "1.3.6.1.5.5.7.3.9" => 9,
        "1.3.6.1.4.1.311.10.3.3" => 10,
        "2.16.840.1.113730.4.1" => 11,
        "1.3.6.1.4.1.311.2.1.22" => 12,
        "1.3.6.1.4.1.311.61.1.1" => 13,
        _ => return None,
    })
}
