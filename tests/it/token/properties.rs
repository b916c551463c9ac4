//! What holds for every token: no change of a signed one verifies, no bytes panic, and time has exact edges.

use std::sync::LazyLock;

use claimgate::token::{self, KeyOrigin, KeySet, RawToken, UnixTime};
use proptest::prelude::*;

use super::{CLAIMS, Draft, HEADER, NOW, WORLD, object_text, owned, segments, verdict};

static GOOD: LazyLock<Vec<String>> = LazyLock::new(|| {
    ["es256", "rs256", "ed25519", "es512"]
        .into_iter()
        .map(|signer| {
            let alg = format!("\"{}\"", WORLD.signer(signer).algorithm());
            let kid = format!("\"{signer}\"");
            Draft::header(&[("alg", &alg), ("kid", &kid)]).signed_by(signer).sign()
        })
        .collect()
});

fn is_accepted(text: &str) -> bool {
    let raw = RawToken::new(text);
    token::verify(&raw, &WORLD.profiles, &WORLD.ring, UnixTime(NOW)).is_ok()
}

#[test]
fn no_changed_character_verifies() {
    for good in GOOD.iter() {
        assert!(is_accepted(good));
        for position in 0..good.len() {
            for other in ['A', 'B', 'q', '7', '-', '_', '.', '=', '\n'] {
                let mut changed = good.clone();
                changed.replace_range(position..=position, other.encode_utf8(&mut [0; 4]));
                assert!(changed == *good || !is_accepted(&changed), "{other:?} at {position}");
            }
            let mut shorter = good.clone();
            shorter.remove(position);
            assert!(!is_accepted(&shorter), "without the character at {position}");
            let mut longer = good.clone();
            longer.insert(position, 'A');
            assert!(!is_accepted(&longer), "with one more character at {position}");
        }
    }
}

#[test]
fn no_changed_bit_of_the_decoded_segments_verifies() {
    for good in GOOD.iter() {
        let parts = segments(good).map(super::decode);
        for (index, part) in parts.iter().enumerate() {
            for bit in 0..part.len() * 8 {
                let mut changed = parts.clone();
                changed[index][bit / 8] ^= 1 << (bit % 8);
                let text = changed.map(super::base64url).join(".");
                assert!(!is_accepted(&text), "bit {bit} of segment {index}");
            }
        }
    }
}

#[test]
fn no_segment_of_another_token_verifies() {
    let later = Draft { claims: object_text(&CLAIMS, &owned(&[("exp", "NOW+301")]), ""), ..Draft::good() };
    let other_header = Draft { header: object_text(&HEADER, &owned(&[("x", "1")]), ""), ..Draft::good() };
    let tokens = [Draft::good().sign(), later.sign(), other_header.sign()].to_vec();
    let all: Vec<&String> = tokens.iter().chain(GOOD.iter().skip(1)).collect();
    for (i, header) in all.iter().enumerate() {
        for (j, claims) in all.iter().enumerate() {
            for (k, signature) in all.iter().enumerate() {
                let text = [segments(header)[0], segments(claims)[1], segments(signature)[2]].join(".");
                let is_whole = i == j && j == k;
                // The first token and those with other keys carry the same claims, the first two the same header.
                let is_same = all.iter().any(|token| **token == text);
                assert_eq!(is_accepted(&text), is_whole || is_same, "{i} {j} {k}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_accepted_or_panics(text in "\\PC{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
        prop_assert_ne!(verdict(&text, NOW).0, "accepted");
        let _ = token::inspect(&RawToken::new(text));
    }

    #[test]
    fn no_bytes_as_header_or_claims_are_accepted_or_panic(
        header in proptest::collection::vec(any::<u8>(), 0..80), claims in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let text = WORLD.signer("es256").sign_bytes(&header, &claims).unwrap();
        prop_assert_ne!(verdict(&text, NOW).0, "accepted");
    }

    #[test]
    fn a_token_is_accepted_exactly_inside_its_times(
        exp in -400_i64..90_000, nbf in proptest::option::of(-200_i64..200), iat in proptest::option::of(-1000_i64..200),
        later in -500_i64..500,
    ) {
        let at = |seconds: i64| format!("{}", NOW + seconds);
        let mut changes = vec![("exp".to_owned(), Some(at(exp))), ("iat".to_owned(), iat.map(at))];
        changes.push(("nbf".to_owned(), nbf.map(at)));
        let text = Draft { claims: object_text(&CLAIMS, &changes, ""), ..Draft::good() }.sign();
        let inside = later < exp + 30
            && nbf.is_none_or(|nbf| nbf <= later + 30)
            && iat.is_none_or(|iat| iat <= later + 30 && iat <= exp)
            && exp - iat.unwrap_or(later) <= 86_400;
        prop_assert_eq!(verdict(&text, NOW + later).0 == "accepted", inside);
    }

    #[test]
    fn kept_claims_hold_exactly_when_the_token_would_be_verified_anew(
        exp in 1_i64..90_000, nbf in -200_i64..=30, iat in -1000_i64..=0, fraction in 0_u8..10, later in -2000_i64..100_000,
    ) {
        let changes = [
            ("exp".to_owned(), Some(format!("{}.{fraction}", NOW + exp))),
            ("nbf".to_owned(), Some(format!("{}.{fraction}", NOW + nbf - 1))),
            ("iat".to_owned(), Some(format!("{}", NOW + iat))),
        ];
        let text = Draft { claims: object_text(&CLAIMS, &changes, ""), ..Draft::good() }.sign();
        if let (_, Ok(claims)) = verdict(&text, NOW) {
            let profile = WORLD.profiles.get(claims.issuer()).unwrap();
            let kept = claims.check_times(profile, UnixTime(NOW + later)).err();
            prop_assert_eq!(kept, verdict(&text, NOW + later).1.err());
        }
    }

    #[test]
    fn no_clock_panics_or_revives_a_token(now in any::<i64>()) {
        let answer = verdict(&GOOD[0], now).0;
        let inside = (NOW - 30..NOW + 330).contains(&now);
        prop_assert_eq!(answer == "accepted", inside);
    }

    #[test]
    fn every_whole_number_of_up_to_64_digits_is_kept(digits in "[1-9][0-9]{0,63}", negative in any::<bool>()) {
        let number = if negative && digits.len() < 64 { format!("-{digits}") } else { digits };
        let text = Draft::claims(&[("uid", &number)]).sign();
        let claims = verdict(&text, NOW).1.unwrap();
        prop_assert_eq!(claims.claims()["uid"].to_string(), number);
    }

    #[test]
    fn no_bytes_as_a_key_set_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), local in any::<bool>()) {
        let origin = if local { KeyOrigin::Local } else { KeyOrigin::Remote };
        prop_assert!(KeySet::parse(&bytes, origin, &token::Algorithm::ALL).is_err());
    }
}
