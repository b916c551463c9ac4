//! Base64 with Go's rules and sentences: line ends are skipped, padding is required and checked, and an error names the
//! byte. An error never shows the text, because it may be a token.

use super::super::builtins::BuiltinError;
use super::operand::failed;

/// The two alphabets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    Standard,
    Url,
}

/// Standard alphabet, padded.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, BuiltinError> {
    decode_padded(text.as_bytes(), Alphabet::Standard)
}

/// URL alphabet; missing padding is added first, as OPA does (RFC 7515, appendix C).
pub(super) fn decode_url(text: &str) -> Result<Vec<u8>, BuiltinError> {
    let padding = match (text.ends_with('='), text.len() % 4) {
        (false, 2) => "==",
        (false, 3) => "=",
        (false, 1) => return Err(failed("illegal base64url string")),
        _ => "",
    };
    decode_padded(format!("{text}{padding}").as_bytes(), Alphabet::Url)
}

/// URL alphabet without padding.
pub(super) fn encode_url(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_padded(text: &[u8], alphabet: Alphabet) -> Result<Vec<u8>, BuiltinError> {
    let corrupt = |at: usize| failed(format!("illegal base64 data at input byte {at}"));
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut input = text.iter().enumerate().filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'));
    let mut bits = 0_u32;
    let mut filled = 0_usize;
    while let Some((at, &byte)) = input.next() {
        if let Some(six) = six_bits(byte, alphabet) {
            bits = bits << 6 | six;
            filled += 1;
            if filled == 4 {
                out.extend_from_slice(bits.to_be_bytes().get(1..).unwrap_or_default());
                (bits, filled) = (0, 0);
            }
            continue;
        }
        if byte != b'=' || filled < 2 {
            return Err(corrupt(at));
        }
        if filled == 2 {
            match input.next() {
                None => return Err(corrupt(text.len())),
                Some((_, b'=')) => {}
                Some((at, _)) => return Err(corrupt(at)),
            }
        }
        if let Some((at, _)) = input.next() {
            return Err(corrupt(at));
        }
        let bytes = (bits << (6 * (4 - filled))).to_be_bytes();
        out.extend_from_slice(bytes.get(1..filled).unwrap_or_default());
        return Ok(out);
    }
    if filled > 0 { Err(corrupt(text.len() - filled)) } else { Ok(out) }
}

fn six_bits(byte: u8, alphabet: Alphabet) -> Option<u32> {
    let six = match (byte, alphabet) {
        (b'A'..=b'Z', _) => byte - b'A',
        (b'a'..=b'z', _) => byte - b'a' + 26,
        (b'0'..=b'9', _) => byte - b'0' + 52,
        (b'+', Alphabet::Standard) | (b'-', Alphabet::Url) => 62,
        (b'/', Alphabet::Standard) | (b'_', Alphabet::Url) => 63,
        _ => return None,
    };
    Some(u32::from(six))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_byte_that_go_names() {
        for (text, want) in [
            ("Zm9v", Ok("foo")),
            ("Zm8=", Ok("fo")),
            ("Zg==", Ok("f")),
            ("Zm\n9v\r\n", Ok("foo")),
            ("", Ok("")),
            ("foobar", Err("illegal base64 data at input byte 4")),
            ("Zm(v", Err("illegal base64 data at input byte 2")),
            ("Zg=", Err("illegal base64 data at input byte 3")),
            ("Zg==x", Err("illegal base64 data at input byte 4")),
            ("=", Err("illegal base64 data at input byte 0")),
        ] {
            let got = decode(text).map_err(|error| error.to_string());
            assert_eq!(got, want.map(|w| w.as_bytes().to_vec()).map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn the_url_alphabet_may_leave_padding_out() {
        assert_eq!(decode_url("_-8").unwrap(), [0xff, 0xef]);
        assert_eq!(decode_url("_-8=").unwrap(), [0xff, 0xef]);
        assert!(decode_url("a").is_err() && decode_url("+/8=").is_err());
    }
}
