//! PEM as Go's `encoding/pem` reads it: text before a block is skipped, and what is no block is no error.

use super::go_base64;

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// `CERTIFICATE`, `PUBLIC KEY`, …
    pub label: String,
    /// Its contents.
    pub der: Vec<u8>,
}

/// The first block of a text and what follows it.
pub(super) fn decode(text: &str) -> Option<(Block, &str)> {
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once("-----BEGIN ")?;
        rest = after;
        let Some((label, body)) = after.split_once("-----") else { continue };
        let Some((body, after)) = body.split_once(&format!("-----END {label}-----")) else { continue };
        if label.contains('\n') {
            continue;
        }
        // Header lines (`Proc-Type: …`) end with an empty line.
        let body = body.trim_start().split_once("\n\n").filter(|(head, _)| head.contains(':')).map_or(body, |(_, b)| b);
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        if let Ok(der) = go_base64::decode(&body) {
            let after = after.trim_start_matches([' ', '\t', '\r']);
            return Some((Block { label: label.to_owned(), der }, after.strip_prefix('\n').unwrap_or(after)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_one_after_the_other() {
        let text = "junk\n-----BEGIN A-----\nZm9v\n-----END A-----\n-----BEGIN B C-----\r\nZg==\r\n-----END B C-----";
        let (first, rest) = decode(text).unwrap();
        assert_eq!((first.label.as_str(), first.der.as_slice()), ("A", &b"foo"[..]));
        let (second, rest) = decode(rest).unwrap();
        assert_eq!((second.label.as_str(), second.der.as_slice(), rest), ("B C", &b"f"[..], ""));
        assert_eq!(decode(rest), None);
        assert_eq!(decode("-----BEGIN A-----\nZm9v\n-----END B-----"), None);
        assert_eq!(decode("-----BEGIN A-----\n!\n-----END A-----"), None);
    }
}
