//! Where the words, strings, comments and symbols of a module are, in one pass that never fails: what is no Rego is a
//! symbol, and the parser says what is wrong with it.

/// A piece of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, a keyword or the head of a number.
    Word,
    /// A string, closed or not.
    Text,
    /// One character.
    Symbol(u8),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// Is it the first of its line?
    pub first: bool,
}

/// The tokens of a text, from some offset on.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str, at: usize) -> Self {
        Self { bytes: text.as_bytes(), at }
    }

    /// Continues behind what the caller read by itself.
    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.bytes.get(self.at).is_some_and(|byte| wanted(*byte)) {
            self.at += 1;
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let mut first = self.at == 0;
        let start = loop {
            match self.bytes.get(self.at)? {
                b'\n' => first = true,
                b' ' | b'\t' | b'\r' => {}
                b'#' => {
                    self.skip_while(|byte| byte != b'\n');
                    continue;
                }
                _ => break self.at,
            }
            self.at += 1;
        };
        let byte = *self.bytes.get(start)?;
        self.at += 1;
        let kind = match byte {
            b'"' => {
                self.at = string_end(self.bytes, self.at);
                Kind::Text
            }
            b'`' => {
                self.skip_while(|byte| byte != b'`');
                self.at = (self.at + 1).min(self.bytes.len());
                Kind::Text
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'0'..=b'9' => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                Kind::Word
            }
            other => Kind::Symbol(other),
        };
        Some(Token { kind, start, end: self.at, first })
    }
}

/// The comments of a text: row and column of the `#` in characters, and what is behind it on its line.
pub(in crate::policy) fn comments(text: &str) -> Vec<(u32, usize, &str)> {
    let mut found = Vec::new();
    let (mut done, mut row, mut column) = (0, 1_u32, 1);
    let ends = Lexer::new(text, 0).map(|token| (token.start, token.end)).chain([(text.len(), text.len())]);
    for (start, end) in ends {
        for (index, line) in text.get(done..start).unwrap_or_default().split('\n').enumerate() {
            if index > 0 {
                (row, column) = (row + 1, 1);
            }
            if let Some((before, comment)) = line.split_once('#') {
                let comment = comment.strip_suffix('\r').unwrap_or(comment);
                found.push((row, column + before.chars().count(), comment));
            }
            column += line.chars().count();
        }
        let token = text.get(start..end).unwrap_or_default();
        row += u32::try_from(token.matches('\n').count()).unwrap_or(u32::MAX);
        column = match token.rsplit_once('\n') {
            Some((_, last)) => last.chars().count() + 1,
            None => column + token.chars().count(),
        };
        done = end;
    }
    found
}

/// Behind the closing quote, or the end of the line of a string that is not closed.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\n' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_hide_what_is_in_them() {
        let text = "a \"b \\\" c\" # d \" e\n`f\n\"g`.h \"i\nj é";
        let tokens: Vec<(&str, bool)> =
            Lexer::new(text, 0).map(|token| (text.get(token.start..token.end).unwrap_or("?"), token.first)).collect();
        let want = [("a", true), ("\"b \\\" c\"", false), ("`f\n\"g`", true), (".", false), ("h", false)];
        assert_eq!(tokens[..5], want);
        assert_eq!(tokens[5..7], [("\"i", false), ("j", true)]);
    }
}
