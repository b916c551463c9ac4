//! What is wrong with a JSON text, in the words of Go's `encoding/json`: clients of OPA match them. At most one character
//! of the text is quoted.

use super::{Malformed, TOO_DEEP};

/// Says what Go's `encoding/json` says about the same byte.
pub(super) fn malformed(body: &[u8], error: &serde_json::Error, at_end: &str) -> Malformed {
    if error.is_eof() {
        let nothing = body.iter().all(u8::is_ascii_whitespace);
        return Malformed(if nothing { at_end } else { "unexpected EOF" }.to_owned());
    }
    let full = error.to_string();
    let text = full.rsplit_once(" at line ").map_or(full.as_str(), |(text, _)| text);
    if error.is_data() || text.starts_with("json: ") {
        return Malformed(text.to_owned());
    }
    if text == "recursion limit exceeded" {
        return Malformed(TOO_DEEP.to_owned());
    }
    let at = offset(body, error.line(), error.column());
    let byte = at.and_then(|at| body.get(at)).copied();
    let context = match (text, byte) {
        ("expected value", _) | ("trailing comma", Some(b']')) => "looking for beginning of value",
        ("key must be a string" | "trailing comma", _) => "looking for beginning of object key string",
        ("expected `:`", _) => "after object key",
        ("expected `,` or `}`", _) => "after object key:value pair",
        ("expected `,` or `]`", _) => "after array element",
        ("trailing characters", _) => "after top-level value",
        ("invalid number", _) => "in numeric literal",
        ("invalid escape", _) => "in string escape code",
        _ if text.starts_with("control character") => "in string literal",
        ("expected ident", _) => "in literal",
        _ => return Malformed(text.to_owned()),
    };
    match byte {
        Some(byte) => Malformed(format!("invalid character {} {context}", go_quote(byte))),
        None => Malformed("unexpected EOF".to_owned()),
    }
}

/// `serde_json` counts lines and bytes from 1.
fn offset(body: &[u8], line: usize, column: usize) -> Option<usize> {
    let mut start = 0;
    for _ in 1..line {
        start += body.get(start..)?.iter().position(|byte| *byte == b'\n')? + 1;
    }
    (start + column).checked_sub(1)
}

fn go_quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0x9f => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
