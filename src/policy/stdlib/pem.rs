//! PEM as Go's `encoding/pem` reads it: text around blocks is skipped, and what is no block is no error. Every end is
//! looked at once, so that the cost is that of the text's length.

use super::go_base64;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "\n-----END ";

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
        // The first end, and the last beginning before it.
        let (before, after) = rest.split_once(END)?;
        rest = after;
        let Some(at) = before.rfind(BEGIN) else { continue };
        let (head, block) = before.split_at_checked(at)?;
        if !head.is_empty() && !head.ends_with('\n') {
            continue;
        }
        let (first, body) = line(block.get(BEGIN.len()..).unwrap_or_default());
        let Some(label) = first.strip_suffix("-----") else { continue };
        let (last, following) = line(after);
        if last.strip_suffix("-----") != Some(label) {
            continue;
        }
        if let Ok(der) = go_base64::decode(&contents(body)) {
            return Some((Block { label: label.to_owned(), der }, following));
        }
    }
}

/// What is behind the header lines (`Proc-Type: …`).
fn contents(mut body: &str) -> String {
    loop {
        let (first, rest) = line(body);
        if !first.contains(':') || rest.len() == body.len() {
            return body.chars().filter(|c| !matches!(c, ' ' | '\t')).collect();
        }
        body = rest;
    }
}

/// The first line without white space at its end, and the others.
fn line(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    (first.trim_end_matches([' ', '\t', '\r']), rest)
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

    #[test]
    fn headers_are_skipped_and_ends_belong_to_the_last_beginning() {
        let text = "-----BEGIN A-----\n-----BEGIN B-----\nX: y\nZ: 1\n\nZm\n9v\n-----END B-----  \nrest";
        let (block, rest) = decode(text).unwrap();
        assert_eq!((block.label.as_str(), block.der.as_slice(), rest), ("B", &b"foo"[..], "rest"));
        let many = format!("{}\n-----END A-----", "-----BEGIN A-----\n".repeat(200_000));
        assert_eq!(decode(&many).map(|(block, _)| block.der), Some(Vec::new()));
        let ends = "-----BEGIN A-----\n-----END B-----\n".repeat(200_000);
        assert_eq!(decode(&ends), None);
    }
}
