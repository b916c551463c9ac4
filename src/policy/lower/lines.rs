//! Where OPA ends a statement and the engine goes on, or the other way round, in the text before it is parsed: a `(` in a
//! new line calls nothing; each body of `p contains x if { … } { … }` is a rule with the same head; an `import` may stand
//! behind rules. It knows brackets and the words at the start of a line, and leaves every mistake to the parser but those
//! that the parser would read as something else.

use std::ops::Range;

use super::{
    keywords::{continues, is_tail},
    lex::{Kind, Lexer, Token},
    rewrite::{self, Rewriter, Rewritten},
};
use crate::policy::{LoadError, Location};

/// What is put in, or moved.
#[derive(Debug)]
enum Edit {
    /// Text before an offset.
    Put(usize, String),
    /// Text that moves to the imports.
    Move(Range<usize>),
}

/// The statement at the top that is being read.
#[derive(Debug, Default)]
struct Statement {
    start: usize,
    kind: StatementKind,
    /// Where its head ends, once a body was found.
    head_end: Option<usize>,
    /// Has it an `if`?
    has_if: bool,
    has_else: bool,
    /// The braces of an `every` without braces around it are still to come.
    has_every: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum StatementKind {
    #[default]
    Rule,
    Default,
    Package,
    Import,
}

struct Reader<'t> {
    display: &'t str,
    text: &'t str,
    v0: bool,
    /// Is `if` a keyword here?
    knows_if: bool,
    edits: Vec<Edit>,
    /// Where the package and the imports at its side end.
    imports_end: usize,
    has_rules: bool,
    statement: Statement,
}

/// The text as the engine's parser has to get it; `None` when it is that already.
pub(super) fn lower(display: &str, text: &str, v0: bool) -> Result<Option<Rewritten>, LoadError> {
    let knows_if = !v0 || ["rego.v1", "future.keywords"].iter().any(|import| text.contains(import));
    let statement = Statement { kind: StatementKind::Package, ..Statement::default() };
    let mut reader =
        Reader { display, text, v0, knows_if, edits: Vec::new(), imports_end: 0, has_rules: false, statement };
    reader.read()?;
    Ok(reader.rewritten())
}

// === impl Reader ===

impl<'t> Reader<'t> {
    fn read(&mut self) -> Result<(), LoadError> {
        let mut depth = 0_usize;
        let mut previous: Option<Token> = None;
        // Is the previous token a name behind a dot?
        let mut field = false;
        for token in Lexer::new(self.text, 0) {
            let before = previous.map(|token| (token.kind, self.piece(token.start..token.end)));
            let behind_dot = previous.is_some_and(|token| token.kind == Kind::Symbol(b'.'));
            let ended = previous.is_some() && !continues(before, field);
            let end = previous.map_or(0, |token| token.end);
            match token.kind {
                Kind::Symbol(open @ (b'{' | b'[' | b'(')) => {
                    if open == b'(' && ended && end < token.start && callable(before) {
                        self.parenthesis(token, depth)?;
                    } else if open == b'{' && depth == 0 {
                        self.brace(token, before, ended);
                    }
                    depth += 1;
                }
                Kind::Symbol(b'}' | b']' | b')') => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 && !behind_dot => self.word(token, before, ended, end)?,
                _ => {}
            }
            field = behind_dot;
            previous = Some(token);
        }
        self.close(previous.map_or(0, |token| token.end));
        Ok(())
    }

    /// A `(` with space before it, behind what could be called.
    fn parenthesis(&mut self, token: Token, depth: usize) -> Result<(), LoadError> {
        if token.first {
            self.edits.push(Edit::Put(token.start, "; ".to_owned()));
        } else if depth > 0 {
            return self.fail(token.start, "unexpected ( token");
        }
        Ok(())
    }

    /// A `{` at the top.
    fn brace(&mut self, token: Token, before: Option<(Kind, &str)>, ended: bool) {
        let Statement { start, kind, head_end, has_if, has_else, has_every } = self.statement;
        if kind != StatementKind::Rule || has_else {
            return;
        }
        let behind_if = matches!(before, Some((Kind::Word, "if")));
        match head_end {
            None if self.v0 && ended => self.statement.head_end = Some(token.start),
            Some(_) if !ended || behind_if => {}
            Some(_) if has_every => self.statement.has_every = false,
            Some(end) => {
                let head = self.piece(start..end).trim_end();
                // A comment at the end would go on.
                let head = if has_if { head.to_owned() } else { format!("{head}\n") };
                self.edits.push(Edit::Put(token.start, format!("\n{head} ")));
            }
            None => {}
        }
    }

    /// A word at the top that is no field.
    fn word(&mut self, token: Token, before: Option<(Kind, &str)>, ended: bool, end: usize) -> Result<(), LoadError> {
        let word = self.piece(token.start..token.end);
        let is_path = matches!(self.text.as_bytes().get(token.end), Some(b'.' | b'['));
        let begins = token.first && (ended || before.is_none()) && (is_path || !is_tail(word));
        if word == "if" && !is_path && !self.knows_if && ended {
            return self.plain_if(token);
        }
        if begins {
            self.close(end);
            let kind = match word {
                "package" if !is_path => StatementKind::Package,
                "import" if !is_path => StatementKind::Import,
                "default" if !is_path => StatementKind::Default,
                _ => StatementKind::Rule,
            };
            self.statement = Statement { start: token.start, kind, ..Statement::default() };
            return Ok(());
        }
        match word {
            "if" if !is_path && ended && self.statement.head_end.is_none() => {
                self.statement.head_end = Some(token.end);
                self.statement.has_if = true;
            }
            "else" if !is_path && ended => self.statement.has_else = true,
            "every" if matches!(before, Some((Kind::Word, "if"))) => self.statement.has_every = true,
            _ => {}
        }
        Ok(())
    }

    /// `if` where it is a name, which the parser takes for one with a warning.
    fn plain_if(&mut self, token: Token) -> Result<(), LoadError> {
        let Statement { start, kind, head_end, .. } = self.statement;
        if !token.first {
            return self.fail(start, "var cannot be used for rule name");
        }
        if kind == StatementKind::Rule && head_end.is_none() {
            self.edits.push(Edit::Put(token.start, "{ true } ".to_owned()));
        }
        self.close(token.start);
        self.statement = Statement { start: token.start, ..Statement::default() };
        Ok(())
    }

    /// The end of a statement.
    fn close(&mut self, end: usize) {
        match self.statement.kind {
            StatementKind::Package => self.imports_end = end,
            StatementKind::Import if self.has_rules => self.edits.push(Edit::Move(self.statement.start..end)),
            StatementKind::Import => self.imports_end = end,
            StatementKind::Rule | StatementKind::Default => self.has_rules = true,
        }
    }

    fn piece(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    fn fail<T>(&self, at: usize, message: &str) -> Result<T, LoadError> {
        let (row, col) = rewrite::place(self.text, at);
        let location = Location { file: self.display.to_owned(), row, col };
        Err(LoadError::new("rego_parse_error", message, Some(location)))
    }

    fn rewritten(self) -> Option<Rewritten> {
        if self.edits.is_empty() {
            return None;
        }
        let mut rewriter = Rewriter::new(self.text);
        let moved = self.edits.iter().filter_map(|edit| match edit {
            Edit::Move(range) => Some(range.clone()),
            Edit::Put(..) => None,
        });
        let mut moved = moved.peekable();
        if moved.peek().is_some() {
            rewriter.copy(self.imports_end);
            for range in moved {
                rewriter.insert("\n");
                rewriter.copy_again(range);
            }
        }
        for edit in &self.edits {
            match edit {
                Edit::Put(at, text) => {
                    rewriter.copy(*at);
                    rewriter.insert(text);
                }
                Edit::Move(range) => {
                    rewriter.copy(range.start);
                    rewriter.blank(range.end);
                }
            }
        }
        Some(rewriter.finish())
    }
}

/// May a `(` behind this token call it?
fn callable(before: Option<(Kind, &str)>) -> bool {
    matches!(before, Some((Kind::Word | Kind::Symbol(b']'), _)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_they_end_in_opa() {
        for (v0, text, want) in [
            (false, "package a\np if {\n b.c\n (d)\n}", Some("package a\np if {\n b.c\n ; (d)\n}")),
            (false, "package a\np := [x | x := y\n(z)]", Some("package a\np := [x | x := y\n; (z)]")),
            (false, "package a\np if {\n b(\n (c)\n )\n x in\n (d)\n a.in(e)}", None),
            (
                false,
                "package a\np contains x if { y } {\n z\n}\nq := 1",
                Some("package a\np contains x if { y } \np contains x if {\n z\n}\nq := 1"),
            ),
            (false, "package a\np if every x in {1} { x }\nq if {1} == {1}\nr := {1}\ns if x in {\n1}", None),
            (
                false,
                "package a\np if every x in y { x }\n{ z }",
                Some("package a\np if every x in y { x }\n\np if { z }"),
            ),
            (false, "package a\np := 1 if { x } else := 2 if { y } { z }", None),
            (
                true,
                "package a\np[x] = {1} { y } { z }\nq { r }",
                Some("package a\np[x] = {1} { y } \np[x] = {1}\n { z }\nq { r }"),
            ),
            (true, "package a\np = 1\nif = 2", Some("package a\np = 1\n{ true } if = 2")),
            (
                false,
                "package a # b\nimport c.d\np := x # e\nimport data.y as x # f\nq.import := 1",
                Some(
                    "package a # b\nimport c.d\nimport data.y as x\np := x # e\n                   # f\nq.import := 1",
                ),
            ),
        ] {
            let got = lower("a.rego", text, v0).unwrap();
            assert_eq!(got.as_ref().map(Rewritten::text), want, "{text}");
        }
    }

    #[test]
    fn what_the_parser_would_read_as_something_else_is_refused() {
        for (v0, text, want) in [
            (false, "package a\np := [count ([1])]", "a.rego:2:13: rego_parse_error: unexpected ( token"),
            (true, "package a\np if = 2", "a.rego:2:1: rego_parse_error: var cannot be used for rule name"),
        ] {
            let got = lower("a.rego", text, v0).unwrap_err();
            assert_eq!(got.to_string(), want, "{text}");
        }
    }
}
