//! GraphQL text into tokens, as OPA's parser cuts it: places count characters, a token that cannot be read is handed
//! on as [`Kind::Invalid`] with its sentence, because the parser may have a complaint of its own that comes first.

use std::fmt;

use super::{Fault, Place, go_quote};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not a token of the language.
    Invalid,
    /// The end of the text.
    End,
    /// A mark: `!`, `{`, `...`.
    Mark(&'static str),
    Name,
    Int,
    Float,
    String,
    BlockString,
    Comment,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "<Invalid>",
            Self::End => "<EOF>",
            Self::Mark(mark) => mark,
            Self::Name => "Name",
            Self::Int => "Int",
            Self::Float => "Float",
            Self::String => "String",
            Self::BlockString => "BlockString",
            Self::Comment => "Comment",
        })
    }
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    /// The text of a name, number, string (without quotes and escapes) or comment.
    pub text: String,
    pub place: Place,
    /// Why it is [`Kind::Invalid`].
    pub fault: Option<Fault>,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => self.kind.fmt(f),
            text => write!(f, "{} {}", self.kind, go_quote(text)),
        }
    }
}

/// The marks of the language.
const MARKS: [&str; 14] = ["...", "!", "$", "&", "(", ")", ":", "=", "@", "[", "]", "{", "}", "|"];

/// Reads tokens one after the other.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    /// What is not read yet.
    rest: &'t str,
    row: i64,
    /// Column of the first character of `rest`.
    col: i64,
}

// === impl Lexer ===

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { rest: text, row: 1, col: 1 }
    }

    pub(super) fn next(&mut self) -> Token {
        self.skip_ignored();
        let start = self.place();
        let Some(first) = self.rest.chars().next() else {
            return Self::token(Kind::End, String::new(), start);
        };
        if let Some(mark) = MARKS.into_iter().find(|mark| self.rest.starts_with(mark)) {
            self.advance(mark.len());
            return Self::token(Kind::Mark(mark), String::new(), start);
        }
        match first {
            '#' => {
                let end = self.rest.find(|c: char| c < ' ' && c != '\t').unwrap_or(self.rest.len());
                Self::token(Kind::Comment, self.advance(end).to_owned(), start)
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
                Self::token(Kind::Name, self.advance(end).to_owned(), start)
            }
            '-' | '0'..='9' => self.number(start),
            '"' if self.rest.starts_with("\"\"\"") => self.block_string(),
            '"' => self.string(),
            '\'' => self.invalid(r#"Unexpected single quote character ('), did you mean to use a double quote (")?"#),
            c if c < ' ' => self.invalid(format!("Cannot contain the invalid character \"\\u{:04x}\"", u32::from(c))),
            _ => {
                let byte = char::from(self.rest.bytes().next().unwrap_or_default());
                self.invalid(format!("Cannot parse the unexpected character \"{byte}\"."))
            }
        }
    }

    /// Blanks, commas, ends of lines and byte order marks.
    fn skip_ignored(&mut self) {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\t' | ' ' | ',' | '\u{feff}' => {
                    self.advance(c.len_utf8());
                }
                '\n' | '\r' => self.new_line(),
                _ => return,
            }
        }
    }

    /// `\n`, `\r` or `\r\n`. The `\n` of the last counts as a column of the new line.
    fn new_line(&mut self) {
        let returned = self.rest.starts_with('\r');
        self.advance(1);
        (self.row, self.col) = (self.row.saturating_add(1), 1);
        if returned && self.rest.starts_with('\n') {
            self.advance(1);
        }
    }

    fn number(&mut self, start: Place) -> Token {
        let whole = self.rest;
        self.accept(&['-']);
        let mut kind = Kind::Int;
        if self.accept(&['0']) {
            if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
                return self.invalid(format!("Invalid number, unexpected digit after 0: {}.", self.describe()));
            }
        } else if !self.digits() {
            return self.no_digit();
        }
        if self.accept(&['.']) {
            kind = Kind::Float;
            if !self.digits() {
                return self.no_digit();
            }
        }
        if self.accept(&['e', 'E']) {
            kind = Kind::Float;
            self.accept(&['-', '+']);
            if !self.digits() {
                return self.no_digit();
            }
        }
        let text = whole.strip_suffix(self.rest).unwrap_or_default();
        Self::token(kind, text.to_owned(), start)
    }

    fn no_digit(&self) -> Token {
        self.invalid(format!("Invalid number, expected digit but got: {}.", self.describe()))
    }

    fn accept(&mut self, any: &[char]) -> bool {
        let found = self.rest.starts_with(any);
        if found {
            self.advance(1);
        }
        found
    }

    /// Were there any?
    fn digits(&mut self) -> bool {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        self.advance(end);
        end > 0
    }

    /// The next byte, as a character of its value.
    fn describe(&self) -> String {
        match self.rest.bytes().next() {
            Some(byte) => format!("\"{}\"", char::from(byte)),
            None => "<EOF>".to_owned(),
        }
    }

    fn string(&mut self) -> Token {
        self.advance(1);
        let start = self.place();
        let mut text = String::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\n' | '\r' => break,
                '"' => {
                    self.advance(1);
                    return Self::token(Kind::String, text, start);
                }
                '\\' => match self.escape() {
                    Ok(c) => text.push(c),
                    Err(token) => return *token,
                },
                c if c < ' ' && c != '\t' => return self.control(c),
                c => {
                    text.push(c);
                    self.advance(c.len_utf8());
                }
            }
        }
        self.invalid("Unterminated string.")
    }

    /// The character that an escape stands for.
    fn escape(&mut self) -> Result<char, Box<Token>> {
        let bytes = self.rest.as_bytes();
        let Some(&letter) = bytes.get(1) else {
            self.advance(1);
            return Err(Box::new(self.invalid("Invalid character escape sequence.")));
        };
        let c = match letter {
            b'"' | b'/' | b'\\' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let digits = bytes.get(2..6).filter(|_| bytes.len() > 6);
                let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                if let Some(number) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
                    self.advance(6);
                    return Ok(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                let shown = String::from_utf8_lossy(bytes.get(1..6.min(bytes.len())).unwrap_or_default()).into_owned();
                // Where the text ends too early for four digits, all of it is shown.
                let shown = if bytes.len() > 6 { shown } else { self.rest.chars().skip(1).collect() };
                self.advance(1);
                return Err(Box::new(self.invalid(format!("Invalid character escape sequence: \\{shown}."))));
            }
            other => {
                self.advance(1);
                let shown = char::from(other);
                return Err(Box::new(self.invalid(format!("Invalid character escape sequence: \\{shown}."))));
            }
        };
        self.advance(2);
        Ok(c)
    }

    fn block_string(&mut self) -> Token {
        self.advance(3);
        let start = self.place();
        // Characters between the start of its first line and the start of the present one.
        let mut behind: i64 = 0;
        let mut text = String::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '"' => {
                    let quotes = self.rest.len() - self.rest.trim_start_matches('"').len();
                    if let Some(extra) = quotes.checked_sub(3) {
                        text.extend(std::iter::repeat_n('"', extra));
                        // OPA's parser tells the row where the text ends, and the column seen from there.
                        let place = Place { row: self.row, col: start.col.saturating_sub(behind) };
                        self.advance(quotes);
                        return Self::token(Kind::BlockString, dedent(&text), place);
                    }
                    text.push('"');
                    self.advance(1);
                }
                '\\' if self.rest.starts_with("\\\"\"\"") => {
                    text.push_str("\"\"\"");
                    self.advance(4);
                }
                '\r' | '\n' => {
                    let width = if self.rest.starts_with("\r\n") { 2 } else { 1 };
                    self.advance(width);
                    behind = behind.saturating_add(self.col - 1);
                    text.push('\n');
                    (self.row, self.col) = (self.row.saturating_add(1), 1);
                }
                c if c < ' ' && c != '\t' => return self.control(c),
                c => {
                    text.push(c);
                    self.advance(c.len_utf8());
                }
            }
        }
        self.invalid("Unterminated string.")
    }

    fn control(&self, c: char) -> Token {
        self.invalid(format!("Invalid character within String: \"\\u{:04x}\".", u32::from(c)))
    }

    fn invalid(&self, message: impl Into<String>) -> Token {
        let place = self.place();
        let fault = Some(Fault::at(Some(place), message));
        Token { kind: Kind::Invalid, text: String::new(), place, fault }
    }

    fn token(kind: Kind, text: String, place: Place) -> Token {
        Token { kind, text, place, fault: None }
    }

    fn place(&self) -> Place {
        Place { row: self.row, col: self.col }
    }

    /// Reads so many bytes, which hold no end of line.
    fn advance(&mut self, bytes: usize) -> &'t str {
        let (read, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        let width = i64::try_from(read.chars().count()).unwrap_or(i64::MAX);
        self.col = self.col.saturating_add(width);
        self.rest = rest;
        read
    }
}

/// The value of a block string: common indentation and blank first and last lines do not count.
fn dedent(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let indent = |line: &str| line.find(|c| c != ' ' && c != '\t');
    let common = lines.iter().filter_map(|line| indent(line)).min();
    let cut = |(index, line): (usize, &&str)| -> String {
        match common {
            Some(common) if index > 0 => line.get(common..).unwrap_or_default().to_owned(),
            _ => (*line).to_owned(),
        }
    };
    let lines: Vec<String> = lines.iter().enumerate().map(cut).collect();
    let first = lines.iter().position(|line| indent(line).is_some());
    let last = lines.iter().rposition(|line| indent(line).is_some());
    match (first, last) {
        (Some(first), Some(last)) => lines.get(first..=last).unwrap_or_default().join("\n"),
        _ => String::new(),
    }
}
