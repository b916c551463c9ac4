//! M24 to M29: bytes, sizes and numbers.

use super::{
    super::{Draft, WORLD, segments},
    Case,
    Recipe::Token,
    case,
    tokens::{claims, header},
};

pub(super) fn cases() -> Vec<Case> {
    let good = Draft::good().sign();
    let [head, body, signature] = segments(&good);
    let (front, _) = good.split_at(good.len() - 1);
    let mut cases = Vec::new();
    for (what, text, expect) in [
        ("padding", format!("{good}=="), "forbidden_character"),
        ("a plus", format!("{head}.{body}+.{signature}"), "forbidden_character"),
        ("a slash", format!("{head}.{body}/.{signature}"), "forbidden_character"),
        ("a space", format!("{good} "), "forbidden_character"),
        ("a line end", format!("{good}\r\n"), "forbidden_character"),
        ("percent", format!("{good}%3D"), "forbidden_character"),
        ("another alphabet", format!("{head}.{body}.é{signature}"), "forbidden_character"),
        ("a character too few", front.to_owned(), "bad_base64url"),
    ] {
        cases.push(case(24, what, Token(text), expect));
    }
    // The last character of 86 carries four unused bits, which are zero.
    for last in ["B", "h", "9", "_"] {
        cases.push(case(24, format!("unused bits in {last}"), Token(format!("{front}{last}")), "bad_base64url"));
    }
    for (what, text, expect) in [
        ("one segment", head.to_owned(), "wrong_segment_count"),
        ("two", format!("{head}.{body}"), "wrong_segment_count"),
        ("four", format!("{good}.AA"), "wrong_segment_count"),
        ("five", format!("{good}.AA.AA"), "encrypted_token"),
        ("a last dot", format!("{good}."), "wrong_segment_count"),
        ("a first dot", format!(".{good}"), "wrong_segment_count"),
        ("a dot twice", format!("{head}..{body}.{signature}"), "wrong_segment_count"),
        ("nothing", String::new(), "wrong_segment_count"),
        ("a flood of dots", ".".repeat(1 << 20), "token_too_large"),
    ] {
        cases.push(case(25, what, Token(text), expect));
    }
    let padded = |more: usize| {
        let short = claims(&[("x", r#""""#)]);
        let text = |filler: usize| claims(&[("x", &format!("\"{}\"", "x".repeat(filler)))]);
        let wanted = (8192 - short.len()) / 4 * 3;
        text(wanted + more)
    };
    cases.extend([
        case(26, "just below 8 KiB", Token(padded(0)), "accepted"),
        case(26, "just above 8 KiB", Token(padded(8)), "token_too_large"),
        case(26, "8 MiB", Token("A".repeat(8 << 20)), "token_too_large"),
        case(26, "a huge header", Token(header(&[("x", &format!("\"{}\"", "x".repeat(7000)))])), "token_too_large"),
    ]);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, expect) in [(31, "accepted"), (32, "claims_too_deep"), (2000, "claims_too_deep")] {
        cases.push(case(27, format!("{depth} deep"), Token(claims(&[("x", &nested(depth))])), expect));
    }
    for (count, expect) in [(992, "accepted"), (993, "claims_too_many_members")] {
        let list = format!("[{}1]", "1,".repeat(count - 1));
        cases.push(case(27, format!("{count} elements"), Token(claims(&[("x", &list)])), expect));
    }
    let bytes =
        |claims: &[u8]| WORLD.signer("es256").sign_bytes(Draft::good().header.as_bytes(), claims).expect("signed");
    let text = Draft::good().claims;
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (what, claims) in [
        ("UTF-16", utf_16),
        ("a byte order mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("no UTF-8", [text.trim_end_matches('}').as_bytes(), b",\"x\":\"\xff\"}"].concat()),
        ("a lone surrogate", [text.trim_end_matches('}').as_bytes(), br#","x":"\udead"}"#].concat()),
        ("something after it", [text.as_bytes(), b"x"].concat()),
        ("a NUL after it", [text.as_bytes(), b"\0"].concat()),
    ] {
        cases.push(case(28, what, Token(bytes(&claims)), "claims_invalid_json"));
    }
    for (claim, value, expect) in [
        ("sub", "9007199254740993", "subject_malformed"),
        ("uid", "9007199254740993", "accepted"),
        ("uid", "123456789012345678901234567890", "accepted"),
        ("uid", "1e400", "claims_bad_number"),
        ("uid", "-1e400", "claims_bad_number"),
    ] {
        cases.push(case(29, format!("{claim} {value}"), Token(claims(&[(claim, value)])), expect));
    }
    cases
}
