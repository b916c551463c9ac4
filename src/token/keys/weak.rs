//! Public keys that are well-formed and still worthless: RSA moduli of the ROCA library or with a small factor, and
//! Ed25519 points for which anybody can make signatures. Pure arithmetic, no cryptography.

/// Odd primes up to 167: the 38 that the ROCA fingerprint is defined over.
const SMALL_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Encodings of the Ed25519 points whose order divides 8, the sign bit cleared: y = 0, 1, -1 and the two of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Is the modulus divisible by a prime that trial division finds at once?
pub(super) fn has_small_factor(modulus: &[u8]) -> bool {
    modulus.last().is_none_or(|last| last & 1 == 0) || SMALL_PRIMES.iter().any(|prime| remainder(modulus, *prime) == 0)
}

/// The fingerprint of CVE-2017-15361: modulo every small prime, a vulnerable modulus is a power of 65537. An honest
/// modulus passes all 38 tests with a probability below 2^-27.
pub(super) fn is_roca(modulus: &[u8]) -> bool {
    SMALL_PRIMES.iter().all(|prime| is_power_of_65537(remainder(modulus, *prime), *prime))
}

/// Would anybody's signature verify under this Ed25519 key, or is it not the one encoding of its point?
pub(super) fn is_small_order_or_not_canonical(encoded: &[u8; 32]) -> bool {
    let mut y = *encoded;
    y[31] &= 0x7f;
    let middle_is_full = y.iter().take(31).skip(1).all(|byte| *byte == 0xff);
    let not_canonical = y[31] == 0x7f && middle_is_full && y[0] >= 0xed;
    not_canonical || SMALL_ORDER.contains(&y)
}

fn remainder(big_endian: &[u8], prime: u32) -> u32 {
    big_endian.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

fn is_power_of_65537(residue: u32, prime: u32) -> bool {
    let generator = 65537 % prime;
    let mut power = 1;
    for _ in 0..prime {
        if power == residue {
            return true;
        }
        power = power * generator % prime;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{has_small_factor, is_power_of_65537, is_roca, is_small_order_or_not_canonical, remainder};

    #[test]
    fn remainders_are_those_of_the_whole_number() {
        assert_eq!(remainder(&[1, 0, 0], 7), 65536 % 7);
        assert_eq!(remainder(&[0xff; 32], 3), 0);
        assert_eq!(remainder(&[], 3), 0);
    }

    #[test]
    fn powers_are_found_and_others_are_not() {
        // 65537 is 10 modulo 11, whose powers are 1 and 10.
        let powers: Vec<u32> = (0..11).filter(|residue| is_power_of_65537(*residue, 11)).collect();
        assert_eq!(powers, [1, 10]);
    }

    #[test]
    fn a_power_of_65537_has_the_fingerprint() {
        let fermat_4 = [1, 0, 1];
        assert!(is_roca(&fermat_4));
        assert!(!is_roca(&[1, 0, 3]));
    }

    #[test]
    fn small_factors_are_found() {
        assert!(has_small_factor(&[]));
        assert!(has_small_factor(&[0x10]));
        assert!(has_small_factor(&[167]));
        assert!(!has_small_factor(&[1, 0, 1]));
    }

    #[test]
    fn the_points_of_small_order_are_known_with_either_sign() {
        for low in [0, 1, 0xec, 0xed, 0xee, 0xff] {
            let mut point = if low < 2 { [0; 32] } else { [0xff; 32] };
            point[0] = low;
            assert!(low < 2 || is_small_order_or_not_canonical(&point));
            point[31] &= 0x7f;
            assert!(is_small_order_or_not_canonical(&point));
        }
        let mut honest = [7; 32];
        honest[31] = 0x11;
        assert!(!is_small_order_or_not_canonical(&honest));
    }
}
