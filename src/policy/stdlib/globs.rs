//! `regex.globs_match`: is there a text that two patterns of characters, `.`, `[…]`, `+` and `*` match both? The search
//! goes OPA's way, because that way misses some texts; what it has found once it keeps, so that its cost is bounded by
//! the product of both lengths.

use std::collections::HashMap;

use regorus::Value;

use super::super::builtins::BuiltinError;
use super::{
    Outcome,
    operand::{self, failed},
};

/// Most tokens of a pattern.
const MAX_TOKENS: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    None,
    Plus,
    Star,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Char(char),
    Dot,
    /// Ranges in order, apart from each other.
    Set(Vec<(u32, u32)>),
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    flag: Flag,
}

pub(super) fn globs_match(args: &[Value]) -> Outcome {
    let left = glob(operand::string(args, 0)?)?;
    let right = glob(operand::string(args, 1)?)?;
    let Some((left, right)) = trim(&left, &right) else { return Ok(Value::from(false)) };
    Ok(Value::from(Search { globs: [left, right], known: HashMap::new() }.normal(false, 0, 0)))
}

// === parsing ===

/// The tokens of a pattern, repeated ones with flags joined.
fn glob(text: &str) -> Result<Vec<Token>, BuiltinError> {
    let mut reader = Reader { text, input: text.chars().collect(), at: 0 };
    let mut tokens: Vec<Token> = Vec::new();
    while let Some(token) = reader.token()? {
        match tokens.last_mut() {
            Some(last) if last.flag != Flag::None && token.flag != Flag::None && last.kind == token.kind => {
                if token.flag == Flag::Plus {
                    last.flag = Flag::Plus;
                }
            }
            _ => tokens.push(token),
        }
        if tokens.len() > MAX_TOKENS {
            return Err(BuiltinError::Limit(format!("a pattern has more than {MAX_TOKENS} tokens")));
        }
    }
    Ok(tokens)
}

struct Reader<'t> {
    text: &'t str,
    input: Vec<char>,
    at: usize,
}

// === impl Reader ===

impl Reader<'_> {
    fn fault(&self, message: &str) -> BuiltinError {
        failed(format!("input:{}, pos:{}, {message}: the input provided is invalid", self.text, self.at))
    }

    /// The next character, and whether it was escaped.
    fn char(&mut self) -> Result<Option<(char, bool)>, BuiltinError> {
        let Some(&c) = self.input.get(self.at) else { return Ok(None) };
        if c != '\\' {
            self.at += 1;
            return Ok(Some((c, false)));
        }
        let Some(&c) = self.input.get(self.at + 1) else {
            return Err(self.fault("input ends with a \\ (escape) character"));
        };
        self.at += 2;
        Ok(Some((c, true)))
    }

    fn token(&mut self) -> Result<Option<Token>, BuiltinError> {
        let kind = match self.char()? {
            None => return Ok(None),
            Some(('.', false)) => Kind::Dot,
            Some((']', false)) => return Err(self.fault("set-close ']' with no preceding '['")),
            Some(('[', false)) => self.set()?,
            Some((c @ ('+' | '*'), false)) => {
                return Err(self.fault(&format!("flag '{c}' must be preceded by a non-flag")));
            }
            Some((c, _)) => Kind::Char(c),
        };
        let before = self.at;
        let flag = match self.char()? {
            Some(('+', false)) => Flag::Plus,
            Some(('*', false)) => Flag::Star,
            _ => {
                self.at = before;
                Flag::None
            }
        };
        Ok(Some(Token { kind, flag }))
    }

    fn set(&mut self) -> Result<Kind, BuiltinError> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut before = None;
        while let Some((c, escaped)) = self.char()? {
            match c {
                ']' if !escaped => return Ok(Kind::Set(joined(ranges))),
                '-' if !escaped => {
                    let Some(start) = before.take() else {
                        return Err(self.fault("range character '-' must be preceded by a Unicode character"));
                    };
                    if self.at + 1 >= self.input.len() {
                        return Err(self.fault("range character '-' must be followed by a Unicode character"));
                    }
                    let (end, escaped) = self.char()?.unwrap_or_default();
                    if !escaped && matches!(end, ']' | '-') {
                        return Err(self.fault("range character '-' cannot be followed by a special symbol"));
                    }
                    if end < start {
                        let message = format!("range is out of order: '{end}' comes before '{start}' in Unicode");
                        return Err(self.fault(&message));
                    }
                    ranges.push((u32::from(start), u32::from(end)));
                }
                c => {
                    ranges.push((u32::from(c), u32::from(c)));
                    before = Some(c);
                }
            }
        }
        Err(self.fault("found [ without matching ]"))
    }
}

fn joined(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut all: Vec<(u32, u32)> = Vec::new();
    for (start, end) in ranges {
        match all.last_mut() {
            Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
            _ => all.push((start, end)),
        }
    }
    all
}

// === search ===

/// Do two tokens have a character in common, flags aside?
fn meet(left: &Token, right: &Token) -> bool {
    match (&left.kind, &right.kind) {
        (Kind::Char(left), Kind::Char(right)) => left == right,
        (Kind::Char(c), Kind::Set(set)) | (Kind::Set(set), Kind::Char(c)) => {
            let c = u32::from(*c);
            set.iter().any(|(start, end)| (*start..=*end).contains(&c))
        }
        (Kind::Set(left), Kind::Set(right)) => {
            let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                if a.0 <= b.1 && b.0 <= a.1 {
                    return true;
                }
                if a.1 < b.1 {
                    left.next()
                } else {
                    right.next()
                };
            }
            false
        }
        (Kind::Dot, _) | (_, Kind::Dot) => true,
    }
}

/// Both without the tokens that stand for one character at their starts and ends; `None` if those do not meet.
fn trim<'g>(left: &'g [Token], right: &'g [Token]) -> Option<(&'g [Token], &'g [Token])> {
    let plain = |pair: &(&Token, &Token)| pair.0.flag == Flag::None && pair.1.flag == Flag::None;
    let start = left.iter().zip(right).take_while(plain);
    let mut same = 0;
    for (a, b) in start {
        if !meet(a, b) {
            return None;
        }
        same += 1;
    }
    // One stays, so that none becomes empty.
    let start = usize::saturating_sub(same, 1);
    let (left, right) = (left.get(start..)?, right.get(start..)?);
    let mut same = 0;
    for (a, b) in left.iter().rev().zip(right.iter().rev()).take_while(plain) {
        if !meet(a, b) {
            return None;
        }
        same += 1;
    }
    let end = usize::saturating_sub(same, 1);
    Some((left.get(..left.len() - end)?, right.get(..right.len() - end)?))
}

struct Search<'g> {
    globs: [&'g [Token]; 2],
    /// What [`Search::normal`] gave.
    known: HashMap<(bool, usize, usize), bool>,
}

// === impl Search ===

impl<'g> Search<'g> {
    /// The first of the two (the second if `swapped`), and the other.
    fn sides(&self, swapped: bool) -> (&'g [Token], &'g [Token]) {
        let [left, right] = self.globs;
        if swapped { (right, left) } else { (left, right) }
    }

    /// Do the rests of both from here meet?
    fn normal(&mut self, swapped: bool, one: usize, two: usize) -> bool {
        if let Some(known) = self.known.get(&(swapped, one, two)) {
            return *known;
        }
        let (first, second) = self.sides(swapped);
        let (mut i, mut j) = (one, two);
        let found = loop {
            let (Some(a), Some(b)) = (first.get(i), second.get(j)) else {
                break i == first.len() && j == second.len();
            };
            match (a.flag, b.flag) {
                (Flag::Plus, _) => break self.plus(swapped, i, j),
                (Flag::Star, _) => break self.star(swapped, i, j),
                (Flag::None, Flag::Plus) => break self.plus(!swapped, j, i),
                (Flag::None, Flag::Star) => break self.star(!swapped, j, i),
                (Flag::None, Flag::None) if !meet(a, b) => break false,
                (Flag::None, Flag::None) => (i, j) = (i + 1, j + 1),
            }
        };
        self.known.insert((swapped, one, two), found);
        found
    }

    fn plus(&mut self, swapped: bool, plus: usize, other: usize) -> bool {
        let (first, second) = self.sides(swapped);
        let (Some(a), Some(b)) = (first.get(plus), second.get(other)) else { return false };
        if !meet(a, b) {
            return false;
        }
        self.star(swapped, plus, other + 1) || (b.flag != Flag::None && self.normal(swapped, plus + 1, other))
    }

    fn star(&mut self, swapped: bool, star: usize, other: usize) -> bool {
        let (first, second) = self.sides(swapped);
        let Some(starred) = first.get(star) else { return false };
        let next = first.get(star + 1);
        for (index, token) in second.iter().enumerate().skip(other) {
            if next.is_some_and(|next| meet(token, next)) && self.normal(swapped, star + 1, index) {
                return true;
            }
            if !meet(token, starred) {
                return false;
            }
        }
        next.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(left: &str, right: &str) -> String {
        match globs_match(&[Value::from(left), Value::from(right)]) {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn patterns_meet_where_opa_finds_a_text() {
        for (left, right, want) in [
            ("a.a.[0-9]+z", "b.b.b", "false"),
            ("[a-z]+", "[0-9]*", "false"),
            ("[a-e]*d", "[d-z]+", "true"),
            ("", "", "true"),
            ("", "a*", "false"),
            ("a+b*c", "a*bc", "true"),
            (".*", "\\]", "true"),
            ("a+a*", "aaa", "true"),
            ("[\u{0}-\u{10ffff}]", "é", "true"),
            ("a*", "b*", "false"),
            ("pqrs.+", ".qrs.*x", "true"),
        ] {
            assert_eq!(call(left, right), want, "{left} {right}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_where() {
        let wrong = ": the input provided is invalid";
        for (pattern, want) in [
            ("pqrs]", "pos:5, set-close ']' with no preceding '['"),
            ("*", "pos:1, flag '*' must be preceded by a non-flag"),
            ("a++", "pos:3, flag '+' must be preceded by a non-flag"),
            ("[", "pos:1, found [ without matching ]"),
            ("[-a]", "pos:2, range character '-' must be preceded by a Unicode character"),
            ("[a-", "pos:3, range character '-' must be followed by a Unicode character"),
            ("[a-]]", "pos:4, range character '-' cannot be followed by a special symbol"),
            ("[b-a]", "pos:4, range is out of order: 'a' comes before 'b' in Unicode"),
            ("a\\", "pos:1, input ends with a \\ (escape) character"),
        ] {
            assert_eq!(call(pattern, "a"), format!("input:{pattern}, {want}{wrong}"));
        }
    }

    #[test]
    fn patterns_that_branch_everywhere_end() {
        let (left, right) = ("a*b*".repeat(240), "b*a*".repeat(240));
        let start = std::time::Instant::now();
        call(&left, &format!("{right}c"));
        assert!(start.elapsed() < std::time::Duration::from_secs(60));
        assert_eq!(call(&"a".repeat(100_000), "a"), "a pattern has more than 500 tokens");
    }
}
