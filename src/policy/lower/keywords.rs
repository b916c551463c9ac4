//! Keywords as the first name of a rule: `as.foo := 1` in package `test` stands where `foo := 1` in package `test.as`
//! would stand, so such rules move to a module of their own, in which everything else is blank; what they name of their
//! own package is imported there. At the start of a statement `as.foo` then becomes `data.test.as.foo`. (Keywords behind
//! a dot the parser knows.) What the engine has no way to say, a rule without a further name or `as[x]`, is left to the
//! parser, which refuses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use super::{
    lex::{Kind, Lexer, Token},
    rewrite::{Rewriter, Rewritten},
};
use crate::policy::bundle::RegoFile;

const KEYWORDS: [&str; 11] =
    ["as", "default", "else", "false", "import", "not", "null", "package", "some", "true", "with"];
/// Those of Rego v1. `contains` the parser takes for a name.
const NEW_KEYWORDS: [&str; 3] = ["every", "if", "in"];

/// The end of another name for what a rule would hide.
const OUTER: &str = "__outer";

/// What became of one file.
#[derive(Debug)]
pub(super) struct Split {
    /// Index of the file.
    pub file: usize,
    /// The keywords in front of the names of its rules: `None` for what stays in the file's own package.
    pub prefix: Option<String>,
    pub rewritten: Rewritten,
}

/// Where the statements of a module are.
#[derive(Debug, Default)]
struct Outline<'t> {
    text: &'t str,
    /// The path behind `package`, as written.
    package: Range<usize>,
    imports: Vec<Range<usize>>,
    aliases: BTreeSet<&'t str>,
    rules: Vec<Rule<'t>>,
    /// Keywords at the start of a statement of a body, with a path behind them.
    references: Vec<(usize, &'t str)>,
}

#[derive(Debug)]
struct Rule<'t> {
    range: Range<usize>,
    name: &'t str,
    /// Where the head's own name starts, and the keywords before it.
    moved: Option<(usize, &'t str)>,
}

/// What a package has.
#[derive(Debug, Default)]
struct Package<'t> {
    names: BTreeSet<&'t str>,
    /// Keywords that start the names of its rules.
    roots: BTreeSet<&'t str>,
    /// Those keywords and the first name behind them.
    below: BTreeSet<(&'t str, &'t str)>,
}

/// The files of packages that have rules named by keywords, taken apart. Other files are not mentioned.
pub(super) fn split(files: &[RegoFile], texts: &[Arc<str>]) -> Vec<Split> {
    let outlines: Vec<Outline<'_>> = files.iter().zip(texts).map(|(file, text)| Outline::new(text, file.v0)).collect();
    if outlines.iter().all(|outline| outline.rules.iter().all(|rule| rule.moved.is_none())) {
        return Vec::new();
    }
    let mut packages: BTreeMap<String, Package<'_>> = BTreeMap::new();
    for outline in &outlines {
        let package = packages.entry(outline.package_key()).or_default();
        for rule in &outline.rules {
            match rule.moved {
                Some((name, prefix)) => {
                    package.roots.insert(rule.name);
                    let name = Lexer::new(outline.text, name).next();
                    package.below.extend(name.map(|name| (prefix, outline.piece(name.start..name.end))));
                }
                None => {
                    package.names.insert(rule.name);
                }
            }
        }
    }
    packages.retain(|_, package| !package.roots.is_empty());
    let mut splits = Vec::new();
    for (file, outline) in outlines.iter().enumerate() {
        let Some(package) = packages.get(&outline.package_key()) else { continue };
        splits.push(Split { file, prefix: None, rewritten: outline.stay(package) });
        let prefixes: BTreeSet<&str> =
            outline.rules.iter().filter_map(|rule| rule.moved.map(|(_, prefix)| prefix)).collect();
        for prefix in prefixes {
            let rewritten = outline.go(package, prefix);
            splits.push(Split { file, prefix: Some(prefix.to_owned()), rewritten });
        }
    }
    splits
}

// === impl Outline ===

impl<'t> Outline<'t> {
    fn new(text: &'t str, v0: bool) -> Self {
        let mut outline = Self { text, ..Self::default() };
        let is_keyword = |word: &str| KEYWORDS.contains(&word) || (!v0 && NEW_KEYWORDS.contains(&word));
        let mut depth = 0_usize;
        let mut previous: Option<Token> = None;
        // Is the previous token a name behind a dot?
        let mut field = false;
        // Where a statement at the top starts whose name is still to come.
        let mut start: Option<usize> = None;
        let mut statements: Vec<(usize, Token)> = Vec::new();
        for token in Lexer::new(text, 0) {
            let word = outline.piece(token.start..token.end);
            let is_path = matches!(text.as_bytes().get(token.end), Some(b'.' | b'['));
            let behind_dot = previous.is_some_and(|token| token.kind == Kind::Symbol(b'.'));
            let before = previous.map(|token| (token.kind, outline.piece(token.start..token.end)));
            match token.kind {
                Kind::Symbol(b'{' | b'[' | b'(') => depth += 1,
                Kind::Symbol(b'}' | b']' | b')') => depth = depth.saturating_sub(1),
                Kind::Word if behind_dot => {}
                Kind::Word => {
                    let continued = previous.is_some() && continues(before, field);
                    let begins = depth == 0 && token.first && !continued && (is_path || !is_tail(word));
                    if let Some(at) = start.take().or(begins.then_some(token.start)) {
                        if word == "default" && !is_path && at == token.start {
                            start = Some(at);
                        } else {
                            statements.push((at, token));
                        }
                    } else if is_path && is_keyword(word) && begins_literal(before, field, token.first && !continued) {
                        outline.references.push((token.start, word));
                    }
                }
                _ => {}
            }
            field = behind_dot;
            previous = Some(token);
        }
        let ends = statements.iter().skip(1).map(|(start, _)| *start).chain([text.len()]).collect::<Vec<_>>();
        for ((start, token), end) in statements.into_iter().zip(ends) {
            outline.statement(start..end, token, &is_keyword);
        }
        outline
    }

    /// A statement at the top, by the token that names it.
    fn statement(&mut self, range: Range<usize>, token: Token, is_keyword: &dyn Fn(&str) -> bool) {
        let text = self.text;
        let name = self.piece(token.start..token.end);
        let is_path = matches!(text.as_bytes().get(token.end), Some(b'.' | b'['));
        if is_path || !matches!(name, "package" | "import") {
            let moved = if is_keyword(name) { self.below(token, is_keyword) } else { None };
            self.rules.push(Rule { range, name, moved });
        } else if name == "import" {
            let words = Lexer::new(self.piece(token.end..range.end), 0).filter(|token| token.kind == Kind::Word);
            if let Some(last) = words.last() {
                self.aliases.insert(self.piece(token.end + last.start..token.end + last.end));
            }
            self.imports.push(range);
        } else if self.package.is_empty() {
            let mut path = Lexer::new(text, token.end).peekable();
            let start = path.peek().map_or(token.end, |token| token.start);
            let mut end = start;
            while let Some(next) = path.next_if(|token| token.start == end && token.start < range.end) {
                end = next.end;
            }
            self.package = start..end;
        }
    }

    /// Where the first name that is no keyword starts in a head, and the keywords before it.
    fn below(&self, token: Token, is_keyword: &dyn Fn(&str) -> bool) -> Option<(usize, &'t str)> {
        let bytes = self.text.as_bytes();
        let mut end = token.end;
        loop {
            if bytes.get(end) != Some(&b'.') {
                return None;
            }
            let next = Lexer::new(self.text, end + 1).next()?;
            if next.kind != Kind::Word || next.start != end + 1 {
                return None;
            }
            if !is_keyword(self.piece(next.start..next.end)) {
                return Some((next.start, self.piece(token.start..end)));
            }
            end = next.end;
        }
    }

    fn piece(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    /// The package's path, however it is written.
    fn package_key(&self) -> String {
        self.piece(self.package.clone()).replace("[\"", ".").replace("\"]", "")
    }

    /// Inserts where the rules of a keyword are before the references up to `end`.
    fn copy(&self, rewriter: &mut Rewriter<'_>, package: &Package<'_>, range: Range<usize>, hidden: &BTreeSet<&str>) {
        if !hidden.is_empty() {
            return self.rename(rewriter, package, range, hidden);
        }
        let first = self.references.partition_point(|(at, _)| *at < range.start);
        let within = self.references.iter().skip(first).take_while(|(at, _)| *at < range.end);
        for (at, _) in within.filter(|(_, root)| package.roots.contains(root)) {
            rewriter.copy(*at);
            rewriter.insert(&format!("data.{}.", self.piece(self.package.clone())));
        }
        rewriter.copy(range.end);
    }

    /// As [`Self::copy`], with another name for each variable that is `hidden`. The head's name stays.
    fn rename(&self, rewriter: &mut Rewriter<'_>, package: &Package<'_>, range: Range<usize>, hidden: &BTreeSet<&str>) {
        let mut behind_dot = true;
        for token in Lexer::new(self.text, range.start).take_while(|token| token.end <= range.end) {
            if !behind_dot && token.kind == Kind::Word && hidden.contains(self.piece(token.start..token.end)) {
                let from = rewriter.done();
                self.copy(rewriter, package, from..token.end, &BTreeSet::new());
                rewriter.insert(OUTER);
            }
            behind_dot = token.kind == Kind::Symbol(b'.');
        }
        let from = rewriter.done();
        self.copy(rewriter, package, from..range.end, &BTreeSet::new());
    }

    /// The module without the rules that move.
    fn stay(&self, package: &Package<'_>) -> Rewritten {
        let mut rewriter = Rewriter::new(self.text);
        let mut done = 0;
        for rule in self.rules.iter().filter(|rule| rule.moved.is_some()) {
            self.copy(&mut rewriter, package, done..rule.range.start, &BTreeSet::new());
            rewriter.blank(rule.range.end);
            done = rule.range.end;
        }
        self.copy(&mut rewriter, package, done..self.text.len(), &BTreeSet::new());
        rewriter.finish()
    }

    /// The module of the rules that move below a prefix.
    fn go(&self, package: &Package<'_>, prefix: &str) -> Rewritten {
        let mut rewriter = Rewriter::new(self.text);
        let path = self.piece(self.package.clone());
        rewriter.copy(self.package.end);
        rewriter.insert(&format!(".{prefix}"));
        let moving = || self.rules.iter().filter(|rule| rule.moved.is_some_and(|(_, own)| own == prefix));
        let words: BTreeSet<&str> = moving()
            .flat_map(|rule| {
                let piece = self.piece(rule.range.clone());
                Lexer::new(piece, 0).filter_map(move |token| piece.get(token.start..token.end))
            })
            .collect();
        // A rule of the new package hides what is imported by its name: that gets another name.
        let mut hidden = BTreeSet::new();
        for name in package.names.intersection(&words).filter(|name| !self.aliases.contains(*name)) {
            let own = package.below.contains(&(prefix, *name));
            rewriter.insert(&format!(
                " import data.{path}.{name}{}",
                if own { format!(" as {name}{OUTER}") } else { String::new() }
            ));
            if own {
                hidden.insert(*name);
            }
        }
        for import in &self.imports {
            rewriter.blank(import.start);
            rewriter.copy(import.end);
        }
        for rule in moving() {
            rewriter.blank(rule.range.start);
            if let Some((name, keywords)) = rule.moved {
                // `default as.foo` keeps its `default`.
                rewriter.copy(name - keywords.len() - 1);
                rewriter.skip(name);
                self.copy(&mut rewriter, package, name..rule.range.end, &hidden);
            }
        }
        rewriter.blank(self.text.len());
        rewriter.finish()
    }
}

/// Does an expression or head go on behind this token?
pub(super) fn continues(before: Option<(Kind, &str)>, field: bool) -> bool {
    match before {
        Some((Kind::Word, word)) => {
            let open =
                ["as", "contains", "default", "else", "every", "if", "import", "in", "not", "package", "some", "with"];
            !field && open.contains(&word)
        }
        Some((Kind::Symbol(symbol), _)) => !matches!(symbol, b'}' | b']' | b')' | b';'),
        Some((Kind::Text, _)) | None => false,
    }
}

/// Words that go on with a rule in a line of their own.
pub(super) fn is_tail(word: &str) -> bool {
    matches!(word, "as" | "contains" | "else" | "if" | "in" | "with")
}

/// Does a statement of a body start behind this token?
fn begins_literal(before: Option<(Kind, &str)>, field: bool, on_new_line: bool) -> bool {
    match before {
        Some((Kind::Symbol(b'{' | b'|' | b';'), _)) => true,
        Some((Kind::Word, "if")) if !field => true,
        _ => on_new_line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(texts: &[&str]) -> Vec<String> {
        let texts: Vec<Arc<str>> = texts.iter().map(|text| Arc::from(*text)).collect();
        let file = |text: &Arc<str>| RegoFile {
            id: String::new(),
            display: String::new(),
            text: Arc::clone(text),
            v0: false,
            roots: None,
        };
        let files: Vec<RegoFile> = texts.iter().map(file).collect();
        split(&files, &texts)
            .iter()
            .map(|split| {
                let lines: Vec<&str> = split.rewritten.text().lines().map(str::trim_end).collect();
                format!("{}:{}", split.prefix.as_deref().unwrap_or_default(), lines.join("|"))
            })
            .collect()
    }

    #[test]
    fn rules_named_by_keywords_move_below_their_keyword() {
        for (text, want) in [
            ("package a\nx.if := 1\np if { x.if == 1 }\nq := {true | true}", &[][..]),
            ("package a\np if not [1][0]\nq if some x in y", &[]),
            ("package a\nas := 1\nif[x] := 2\nin.not := 3", &[]),
            (
                "package a\nas.x := 1\np if { as.x == 1; y[as.x] }\nas.y if {\n  as[\"x\"] == p\n}\nq := 1",
                &[
                    ":package a||p if { data.a.as.x == 1; y[as.x] }||||q := 1",
                    "as:package a.as import data.a.p|x := 1||y if {|  data.a.as[\"x\"] == p|}|",
                ],
            ),
            (
                "package a\nimport data.b as p\ndefault default.f(_) := 1\ndefault.f(x) := y if y := p\nif.not.z contains 1\nelse.y := 2",
                &[
                    ":package a|import data.b as p||||",
                    "default:package a.default|import data.b as p|default f(_) := 1|f(x) := y if y := p||",
                    "else:package a.else|import data.b as p||||y := 2",
                    "if.not:package a.if.not|import data.b as p|||z contains 1|",
                ],
            ),
        ] {
            let got = parts(&[text]);
            let got: Vec<&str> = got.iter().map(|part| part.trim_end_matches('|')).collect();
            let want: Vec<&str> = want.iter().map(|part| part.trim_end_matches('|')).collect();
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn other_files_of_the_package_name_them_too() {
        let got = parts(&["package a\nas.x := 1", "package a\np if as.x", "package b\np if as.x"]);
        assert_eq!(got, [":package a|", "as:package a.as|x := 1", ":package a|p if data.a.as.x"]);
    }

    #[test]
    fn hostile_text_costs_no_more_than_its_length() {
        let many = 100_000;
        for text in ["as.x := 1\n".repeat(many), "as.".repeat(many), "p if { as.x }\n".repeat(many), "[".repeat(many)] {
            let start = std::time::Instant::now();
            parts(&[&format!("package a\nas.x := 1\n{text}")]);
            assert!(start.elapsed().as_secs() < 60, "the square of its length takes minutes");
        }
    }
}
