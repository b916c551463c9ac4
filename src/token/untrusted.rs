//! How text of a token is shown to the operator: ASCII, escaped and cut short, so that it can neither forge a log line nor
//! carry the token there.

use std::fmt;

/// Text that a token claims, made safe for a log line: ASCII, escaped, at most 64 characters of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Untrusted(String);

/// Shows a value that a token may lack.
pub(super) struct OrAbsent<'a>(pub(super) Option<&'a Untrusted>);

// === impl Untrusted ===

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

// === impl OrAbsent ===

impl fmt::Display for OrAbsent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => text.fmt(f),
            None => f.write_str("absent"),
        }
    }
}
