//! String interpolation: `$"a {x}"` becomes `internal.template_string(["a ", {t | t := (x)}])`, as OPA's compiler has it:
//! the set of an expression is empty when it is undefined. A string without expressions becomes a plain string. What an
//! expression may be is checked by the parentheses around it; what they cannot see is refused here.

use super::{
    lex::{Kind, Lexer, Token},
    rewrite::{self, Rewriter, Rewritten},
};
use crate::policy::{LoadError, Location};

/// The builtin that puts the parts together.
pub(in crate::policy) const BUILTIN: &str = "internal.template_string";
/// The variable of an expression's set.
pub(in crate::policy) const VARIABLE: &str = "__claimgate_part";
/// Most strings within expressions of strings.
const MAX_NESTING: usize = 16;

/// A string that is being read.
#[derive(Debug)]
struct Template {
    /// Where it starts, for complaints.
    start: usize,
    raw: bool,
    /// Was its call opened, that is: has it an expression?
    call: bool,
    /// Were there parts before?
    parts: bool,
}

/// An expression that is being read.
#[derive(Debug)]
struct Expression {
    template: Template,
    start: usize,
    /// Brackets that are open in it.
    depth: usize,
    /// `with` was seen: the parentheses are closed.
    with: bool,
    previous: Option<Token>,
}

/// The text with plain calls in place of templates; `None` when it has none.
pub(super) fn lower(display: &str, text: &str) -> Result<Option<Rewritten>, LoadError> {
    if !text.contains("$\"") && !text.contains("$`") {
        return Ok(None);
    }
    let mut reader = Reader { display, text, writer: Rewriter::new(text), open: Vec::new(), found: false };
    reader.read()?;
    Ok(reader.found.then(|| reader.writer.finish()))
}

struct Reader<'t> {
    display: &'t str,
    text: &'t str,
    writer: Rewriter<'t>,
    open: Vec<Expression>,
    found: bool,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), LoadError> {
        let mut lexer = Lexer::new(self.text, 0);
        while let Some(token) = lexer.next() {
            let quote = self.text.as_bytes().get(token.end).copied();
            match (token.kind, quote) {
                (Kind::Symbol(b'$'), Some(quote @ (b'"' | b'`'))) => {
                    self.found = true;
                    self.writer.copy(token.start);
                    self.writer.skip(token.end + 1);
                    let raw = quote == b'`';
                    let template = Template { start: token.start, raw, call: false, parts: false };
                    lexer.seek(self.string(template, token.end + 1)?);
                }
                (Kind::Symbol(b'}'), _) if self.open.last().is_some_and(|open| open.depth == 0) => {
                    lexer.seek(self.close(token)?);
                }
                _ => self.token(token)?,
            }
        }
        match self.open.last() {
            Some(open) => self.fail(open.start, "expected } to end template string expression"),
            None => Ok(()),
        }
    }

    /// A token of an expression.
    fn token(&mut self, token: Token) -> Result<(), LoadError> {
        let word = self.text.get(token.start..token.end).unwrap_or_default();
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let name = open.previous.is_some_and(|previous| previous.kind == Kind::Symbol(b'.'));
        match token.kind {
            Kind::Symbol(b'{' | b'[' | b'(') if !(open.with && open.depth == 0 && token.first) => open.depth += 1,
            Kind::Symbol(b'}' | b']' | b')') => open.depth = open.depth.saturating_sub(1),
            Kind::Word if word == "with" && open.depth == 0 && !name && open.previous.is_some() => {
                if !open.with {
                    self.writer.copy(token.start);
                    self.writer.insert(") ");
                }
                open.with = true;
            }
            // Behind the parentheses, a second statement would be taken for one.
            kind if open.with && open.depth == 0 => {
                let ended = open.previous.is_some_and(|previous| {
                    matches!(previous.kind, Kind::Word | Kind::Text | Kind::Symbol(b']' | b'}' | b')'))
                });
                let begins = matches!(kind, Kind::Word | Kind::Text | Kind::Symbol(b'[' | b'{' | b'('));
                if kind == Kind::Symbol(b';') || token.first && ended && begins {
                    return self.fail(token.start, "expected } to end template string expression");
                }
            }
            _ => {}
        }
        if let Some(open) = self.open.last_mut() {
            open.previous = Some(token);
        }
        Ok(())
    }

    /// The `}` of an expression: the string goes on.
    fn close(&mut self, token: Token) -> Result<usize, LoadError> {
        let Some(open) = self.open.pop() else { return Ok(token.end) };
        if open.previous.is_none() {
            return self.fail(token.start, "invalid template-string expression");
        }
        self.writer.copy(token.start);
        self.writer.insert(if open.with { "}" } else { ")}" });
        self.writer.skip(token.end);
        self.string(open.template, token.end)
    }

    /// Reads text from `at` to the next expression or the end of the string, and says where to go on.
    fn string(&mut self, mut template: Template, mut at: usize) -> Result<usize, LoadError> {
        let bytes = self.text.as_bytes();
        let quote = if template.raw { b'`' } else { b'"' };
        let begin = at;
        let mut opened = false;
        loop {
            let byte = bytes.get(at).copied();
            let next = bytes.get(at + 1).copied();
            match byte {
                None => return self.fail(template.start, "non-terminated string"),
                Some(b'\n') if !template.raw => return self.fail(template.start, "non-terminated string"),
                Some(b'{') => break,
                Some(byte) if byte == quote => break,
                Some(b'\\') if next == Some(b'{') => {
                    self.part(&mut template, &mut opened, begin);
                    self.writer.copy(at);
                    self.writer.skip(at + 1);
                    at += 2;
                }
                Some(b'\\') if !template.raw && next.is_some_and(|byte| byte != b'\n') => {
                    at += 2;
                }
                Some(_) => at += 1,
            }
        }
        let ends = bytes.get(at) == Some(&quote);
        // A string of nothing but text, even of none, is a part.
        if at > begin || (ends && !template.call) {
            self.part(&mut template, &mut opened, begin);
            self.writer.copy(at);
            self.writer.insert(if template.raw { "`" } else { "\"" });
        }
        self.writer.skip(at + 1);
        if !ends {
            return self.expression(template, at);
        }
        if template.call {
            self.writer.insert("])");
        }
        if let Some(b'.' | b'[' | b'(') = bytes.get(at + 1) {
            return self.fail(template.start, "illegal ref (head cannot be templatestring)");
        }
        if let Some(outer) = self.open.last_mut() {
            outer.previous = Some(Token { kind: Kind::Text, start: template.start, end: at + 1, first: false });
        }
        Ok(at + 1)
    }

    /// Opens the literal of a piece of text, and the call before it when it is sure to come.
    fn part(&mut self, template: &mut Template, opened: &mut bool, begin: usize) {
        if *opened {
            return;
        }
        *opened = true;
        if !template.call && self.has_expression(template.raw, begin) {
            self.call(template);
        }
        self.separate(template);
        self.writer.insert(if template.raw { "`" } else { "\"" });
    }

    fn call(&mut self, template: &mut Template) {
        template.call = true;
        self.writer.insert(BUILTIN);
        self.writer.insert("([");
    }

    fn separate(&mut self, template: &mut Template) {
        if std::mem::replace(&mut template.parts, true) {
            self.writer.insert(", ");
        }
    }

    fn expression(&mut self, mut template: Template, at: usize) -> Result<usize, LoadError> {
        if self.open.len() >= MAX_NESTING {
            return self.fail(at, &format!("template strings are nested more than {MAX_NESTING} levels deep"));
        }
        if !template.call {
            self.call(&mut template);
        }
        self.separate(&mut template);
        self.writer.insert(&format!("{{{VARIABLE} | {VARIABLE} := ("));
        self.open.push(Expression { template, start: at, depth: 0, with: false, previous: None });
        Ok(at + 1)
    }

    /// Does an expression follow in the string whose text starts at `at`? It is asked once a string, before its first part.
    fn has_expression(&self, raw: bool, mut at: usize) -> bool {
        let bytes = self.text.as_bytes();
        loop {
            match (bytes.get(at), bytes.get(at + 1)) {
                (None, _) => return false,
                (Some(b'{'), _) => return true,
                (Some(b'"'), _) if !raw => return false,
                (Some(b'`'), _) if raw => return false,
                (Some(b'\\'), Some(b'{')) => at += 2,
                (Some(b'\\'), Some(_)) if !raw => at += 2,
                _ => at += 1,
            }
        }
    }

    fn fail<T>(&self, at: usize, message: &str) -> Result<T, LoadError> {
        let (row, col) = rewrite::place(self.text, at);
        let location = Location { file: self.display.to_owned(), row, col };
        Err(LoadError::new("rego_parse_error", message, Some(location)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(text: &str) -> String {
        match lower("x.rego", text) {
            Ok(Some(rewritten)) => rewritten.text().replace(VARIABLE, "t").replace(BUILTIN, "f"),
            Ok(None) => "unchanged".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn templates_become_calls_and_plain_strings() {
        for (text, want) in [
            ("p := \"$\" # $\"{x}\"", "unchanged"),
            ("p := \"$\\\"{x}\"", "unchanged"),
            ("p := `$\"{x}\"`", "unchanged"),
            ("p := $\"\"", "p := \"\""),
            ("p := $``", "p := ``"),
            ("p := $\"a } \\\"\\n\"", "p := \"a } \\\"\\n\""),
            ("p := $\"\\{a}\\{\"", "p := \"{a}{\""),
            ("p := $\"\\\\{a}\"", "p := f([\"\\\\\", {t | t := (a)}])"),
            ("p := $`\\\\{a}`", "p := `\\{a}`"),
            ("p := $\"\\{{a}\"", "p := f([\"{\", {t | t := (a)}])"),
            ("p := $\"{a}{b}c\"", "p := f([{t | t := (a)}, {t | t := (b)}, \"c\"])"),
            ("p := $`x\n{a}\n`", "p := f([`x\n`, {t | t := (a)}, `\n`])"),
            ("p := $\"{{\"a\": {1}}}\"", "p := f([{t | t := ({\"a\": {1}})}])"),
            ("p := $\"{$\"{a}\"}\"", "p := f([{t | t := (f([{t | t := (a)}]))}])"),
            ("p := $\"{a with input as {}}\"", "p := f([{t | t := (a ) with input as {}}])"),
            ("p := $\"{a.with}\"", "p := f([{t | t := (a.with)}])"),
            ("p := $\"{ # }\n1}\"", "p := f([{t | t := ( # }\n1)}])"),
        ] {
            assert_eq!(lowered(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place() {
        for (text, want) in [
            ("p := $\"a", "x.rego:1:6: rego_parse_error: non-terminated string"),
            ("p := $\"a\\", "x.rego:1:6: rego_parse_error: non-terminated string"),
            ("p := $\"a\n\"", "x.rego:1:6: rego_parse_error: non-terminated string"),
            ("p := $`a", "x.rego:1:6: rego_parse_error: non-terminated string"),
            ("p := $\"{1", "x.rego:1:8: rego_parse_error: expected } to end template string expression"),
            ("p := $\"{}\"", "x.rego:1:9: rego_parse_error: invalid template-string expression"),
            ("p := $\"\"[0]", "x.rego:1:6: rego_parse_error: illegal ref (head cannot be templatestring)"),
            (
                "p := $\"{a with b as c; d}\"",
                "x.rego:1:22: rego_parse_error: expected } to end template string expression",
            ),
            (
                "p := $\"{a with b as c\nd}\"",
                "x.rego:2:1: rego_parse_error: expected } to end template string expression",
            ),
        ] {
            assert_eq!(lowered(text), want, "{text}");
        }
    }

    #[test]
    fn hostile_text_costs_no_more_than_its_length() {
        let many = 200_000;
        let nested = lowered(&"$\"{".repeat(many));
        assert!(nested.contains("nested more than 16 levels"), "{nested}");
        for text in
            ["$\"".repeat(many), "$\"{".repeat(15) + &"{".repeat(many), "$\"\\{\"".repeat(many), "$`".repeat(many)]
        {
            let start = std::time::Instant::now();
            lowered(&text);
            assert!(start.elapsed().as_secs() < 5);
        }
    }
}
