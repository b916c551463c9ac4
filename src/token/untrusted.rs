//! What a token says, for the eyes of an operator: nothing in it can end a line, colour a terminal or fill a log.

use std::fmt;

/// Text that a token claims, made safe for a log line: ASCII, escaped, at most 64 characters of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Untrusted(String);

impl Untrusted {
    const MAX_CHARACTERS: usize = 64;

    pub(super) fn new(text: &str) -> Self {
        let mut shown: String = text.chars().take(Self::MAX_CHARACTERS).flat_map(char::escape_default).collect();
        if text.chars().nth(Self::MAX_CHARACTERS).is_some() {
            shown.push_str("...");
        }
        Self(shown)
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
