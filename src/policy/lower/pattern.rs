//! Patterns as OPA matches them. `{"k": v} = x` holds only for an object with no other member; the engine would take one
//! with more. So an object with variables that stands where it is matched gets a name, and statements follow that ask for
//! its size and take it apart: `name = x; {"k": v} = name; size(name, 1)`. Parameters of functions that are objects, or
//! that have to be computed, move into every body in the same way. Where a pattern cannot be moved, it is refused.

mod edits;
mod names;

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleBody, RuleHead, Span};

use self::{
    edits::{Edit, Edits, Piece},
    names::{has_closure, matches_in, mentioned, movable, variables},
};
use super::{
    lex::{Kind, Lexer, Token},
    operators,
    rewrite::{Rewritten, offset},
};
use crate::policy::{
    LoadError,
    solutions::extent,
    syntax::{self, Names, Root, Segment, parts},
};

/// Starts the names of what was a pattern.
const NAME: &str = "__claimgate_object_";

/// Names that have a value before a statement is looked at.
type Bound = BTreeSet<String>;

struct Patterns<'n> {
    text: &'n str,
    file: &'n str,
    names: &'n Names,
    package: Vec<String>,
    imports: HashMap<String, (Root, Vec<Segment>)>,
    edits: Edits,
    tokens: OnceCell<Vec<Token>>,
    made: usize,
    refused: Option<LoadError>,
}

/// What moves out of one statement.
#[derive(Debug)]
struct Moved {
    /// How an object is compared with what is taken apart.
    sign: &'static str,
    bound: Bound,
    /// May a pattern move out from here?
    allowed: bool,
    /// Statements that follow.
    statements: Vec<Vec<Piece>>,
}

/// The module with its patterns moved; `None` when it has none.
pub(super) fn of_module(
    (file, text): (&str, &str),
    v0: bool,
    module: &Module,
    names: &Names,
) -> Result<Option<Rewritten>, LoadError> {
    let mut patterns = Patterns::new(file, text, names);
    (patterns.package, patterns.imports) = (syntax::package_path(module), syntax::imports(module));
    // With it, a body needs its `if`.
    let v0 = v0 && !module.imports.iter().any(|import| import.refr.span().text() == "rego.v1");
    for rule in &module.policy {
        patterns.rule(rule, v0);
    }
    patterns.finish()
}

/// The same for an ad-hoc query.
pub(super) fn of_query(
    (file, text): (&str, &str),
    query: &Query,
    names: &Names,
) -> Result<Option<Rewritten>, LoadError> {
    let mut patterns = Patterns::new(file, text, names);
    patterns.query(query, &Bound::new());
    patterns.finish()
}

// === impl Patterns ===

impl<'n> Patterns<'n> {
    fn new(file: &'n str, text: &'n str, names: &'n Names) -> Self {
        let (package, imports) = (Vec::new(), HashMap::new());
        Self {
            text,
            file,
            names,
            package,
            imports,
            edits: Edits::default(),
            tokens: OnceCell::new(),
            made: 0,
            refused: None,
        }
    }

    fn finish(self) -> Result<Option<Rewritten>, LoadError> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok(self.edits.finish(self.text)),
        }
    }

    fn rule(&mut self, rule: &Rule, v0: bool) {
        let Rule::Spec { span, head, bodies } = rule else { return };
        let mut bound = Bound::new();
        let mut prefix = Vec::new();
        let (refr, mut terms): (&Ref<Expr>, Vec<&Ref<Expr>>) = match head {
            RuleHead::Compr { refr, assign, .. } => (refr, assign.iter().map(|assign| &assign.value).collect()),
            RuleHead::Set { refr, key, .. } => (refr, key.iter().collect()),
            RuleHead::Func { refr, args, assign, .. } => {
                for arg in args {
                    self.parameter(arg, &mut prefix);
                    variables(arg, &mut |name| _ = bound.insert(name.to_owned()));
                }
                (refr, assign.iter().map(|assign| &assign.value).collect())
            }
        };
        if !self.head(refr, &mut prefix) {
            terms.push(refr);
        }
        let mut named = bound.clone();
        bodies.iter().for_each(|body| mentioned(&body.query, &mut named));
        terms.into_iter().for_each(|term| self.closed(term, &named));
        for body in bodies {
            self.body(body, &prefix, &bound, v0);
            if let Some(assign) = &body.assign {
                self.closed(&assign.value, &named);
            }
        }
        if bodies.is_empty() && !prefix.is_empty() {
            self.bodiless(offset(span.end), &prefix, v0);
        }
    }

    /// Moves the calls of a head into the bodies where the engine cannot make them; was there one?
    fn head(&mut self, refr: &Ref<Expr>, prefix: &mut Vec<Vec<Piece>>) -> bool {
        let mut indexes = Vec::new();
        let mut at = refr;
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at.as_ref() {
            if let Expr::RefBrack { index, .. } = at.as_ref() {
                indexes.push(index);
            }
            at = refr;
        }
        let calls = indexes.iter().filter(|index| matches!(index.as_ref(), Expr::Call { .. }));
        let movable: Vec<_> = calls.filter(|index| indexes.len() > 1 || has_closure(index)).collect();
        for index in &movable {
            let mut moved = Moved::new("=", &Bound::new());
            self.move_out(index, &mut moved);
            prefix.append(&mut moved.statements);
        }
        !movable.is_empty()
    }

    fn body(&mut self, body: &RuleBody, prefix: &[Vec<Piece>], bound: &Bound, v0: bool) {
        let query = &body.query;
        let [first, ..] = query.stmts.as_slice() else {
            if !prefix.is_empty() {
                // An `else` without a body.
                self.bodiless(offset(body.span.end), prefix, v0);
            }
            return;
        };
        let (start, end) = extent(self.text, first);
        let known = self.edits.len();
        for statement in prefix {
            self.insert(start, statement.iter().cloned().chain([Piece::New("; ".to_owned())]));
        }
        self.query(query, bound);
        // A body may be one statement without braces.
        let bare = query.stmts.len() == 1 && first.span.start == query.span.start;
        let added = |edit: &Edit| edit.at.is_empty() && [start, end].contains(&edit.at.start);
        if bare && self.edits.since(known).any(added) {
            self.edits.insert_before(known, start, "{ ".to_owned());
            self.insert(end, [Piece::New(" }".to_owned())]);
        }
    }

    fn bodiless(&mut self, end: usize, prefix: &[Vec<Piece>], v0: bool) {
        let opening = if v0 { " { true" } else { " if { true" };
        self.insert(end, [Piece::New(opening.to_owned())]);
        for statement in prefix {
            self.insert(end, [Piece::New("; ".to_owned())].into_iter().chain(statement.iter().cloned()));
        }
        self.insert(end, [Piece::New(" }".to_owned())]);
    }

    /// Moves what is no variable, constant or array of them into the bodies.
    fn parameter(&mut self, arg: &Ref<Expr>, prefix: &mut Vec<Vec<Piece>>) {
        let mut moved = Moved::new("=", &Bound::new());
        match arg.as_ref() {
            Expr::Array { items, .. } => items.iter().for_each(|item| self.parameter(item, prefix)),
            Expr::Object { .. } if self.has_variable(arg, &moved) => self.move_out(arg, &mut moved),
            Expr::Call { .. } => self.move_out(arg, &mut moved),
            _ => {}
        }
        prefix.append(&mut moved.statements);
    }

    fn query(&mut self, query: &Query, bound: &Bound) {
        let mut bound = bound.clone();
        let mut named = bound.clone();
        mentioned(query, &mut named);
        self.declarations(query);
        for statement in &query.stmts {
            self.statement(statement, &mut bound, &named);
        }
    }

    /// The engine takes a declaration behind a loop for a second one when the loop goes on: it moves to the start.
    fn declarations(&mut self, query: &Query) {
        let Some(first) = query.stmts.first() else { return };
        for (statement, names) in movable(query) {
            let (start, end) = extent(self.text, statement);
            self.edits.insert(extent(self.text, first).0, [Piece::New(format!("some {}; ", names.join(", ")))]);
            self.edits.replace(start..end, "true");
        }
    }

    /// `bound` are the names that have values before the statement, `named` those that may have one by its turn.
    fn statement(&mut self, statement: &LiteralStmt, bound: &mut Bound, named: &Bound) {
        let (start, end) = extent(self.text, statement);
        let mut moved = Moved::new("=", bound);
        let mut declared = Bound::new();
        match &statement.literal {
            Literal::SomeVars { vars, .. } => vars.iter().for_each(|var| _ = bound.remove(var.text())),
            Literal::SomeIn { key, value, collection, .. } => {
                self.open(collection, &mut moved);
                moved.bound = Bound::new();
                let before = moved.statements.len();
                let patterns: Vec<_> = key.iter().chain([value]).collect();
                patterns.iter().for_each(|pattern| self.take(pattern, &mut moved));
                patterns
                    .iter()
                    .for_each(|pattern| variables(pattern, &mut |name| _ = declared.insert(name.to_owned())));
                if moved.statements.len() > before {
                    let names: Vec<&str> = declared.iter().map(String::as_str).filter(|name| *name != "_").collect();
                    if !names.is_empty() {
                        self.insert(start, [Piece::New(format!("some {}; ", names.join(", ")))]);
                    }
                }
            }
            Literal::Expr { expr, .. } => match expr.as_ref() {
                Expr::AssignExpr { op: AssignOp::ColEq, lhs, rhs, .. } => {
                    self.open(rhs, &mut moved);
                    (moved.sign, moved.bound) = (":=", Bound::new());
                    self.take(lhs, &mut moved);
                    variables(lhs, &mut |name| _ = declared.insert(name.to_owned()));
                }
                Expr::AssignExpr { lhs, rhs, .. } => self.unify(lhs, rhs, &mut moved),
                Expr::Call { fcn, params, .. } if self.arity(fcn).is_some_and(|arity| arity < params.len()) => {
                    if let Some((output, inputs)) = params.split_last() {
                        inputs.iter().for_each(|input| self.open(input, &mut moved));
                        self.take(output, &mut moved);
                    }
                }
                _ => self.open(expr, &mut moved),
            },
            Literal::NotExpr { expr, .. } => self.closed(expr, named),
            Literal::Every { key, value, domain, query, .. } => {
                self.closed(domain, named);
                self.every(key.as_ref(), value, query, bound);
            }
        }
        for modifier in &statement.with_mods {
            self.closed(&modifier.r#as, named);
        }
        // A modifier of the statement holds for what its patterns name too.
        let modifiers = statement.with_mods.first().map(|first| offset(first.span.start)..end);
        for statement in moved.statements {
            let modifiers = modifiers.iter().flat_map(|range| [Piece::New(" ".to_owned()), Piece::Old(range.clone())]);
            self.insert(end, [Piece::New("; ".to_owned())].into_iter().chain(statement).chain(modifiers));
        }
        declared.remove("_");
        bound.append(&mut declared);
    }

    /// The engine knows the variables of `every` only when it runs, so `=` in the body cannot be matched against one:
    /// there they are assigned first.
    fn every(&mut self, key: Option<&Span>, value: &Span, query: &Query, bound: &Bound) {
        let vars: Vec<&Span> = key.into_iter().chain([value]).filter(|var| var.text() != "_").collect();
        let mut inside = bound.clone();
        inside.extend(vars.iter().map(|var| var.text().to_owned()));
        let known = self.edits.len();
        self.query(query, &inside);
        let Some(first) = query.stmts.first().filter(|_| self.edits.len() > known || matches_in(query)) else { return };
        let (start, _) = extent(self.text, first);
        for (index, var) in vars.into_iter().enumerate() {
            let name = self.name();
            let at = offset(var.start)..offset(var.end);
            self.edits.replace(at, &name);
            self.edits.insert_before(known + index, start, format!("{} := {name}; ", var.text()));
        }
    }

    /// Moves the objects of a pattern out.
    fn take(&mut self, pattern: &Ref<Expr>, moved: &mut Moved) {
        match pattern.as_ref() {
            Expr::Array { items, .. } => items.iter().for_each(|item| self.take(item, moved)),
            Expr::Object { .. } if self.has_variable(pattern, moved) => self.move_out(pattern, moved),
            _ => self.open(pattern, moved),
        }
    }

    /// Two arrays or two objects that are written out are matched part by part.
    fn unify(&mut self, left: &Ref<Expr>, right: &Ref<Expr>, moved: &mut Moved) {
        match (left.as_ref(), right.as_ref()) {
            (Expr::Array { items: left, .. }, Expr::Array { items: right, .. }) if left.len() == right.len() => {
                left.iter().zip(right).for_each(|(left, right)| self.unify(left, right, moved));
            }
            (Expr::Object { fields: left, .. }, Expr::Object { fields: right, .. }) => {
                for (_, key, value) in left {
                    let same = right.iter().find(|(_, other, _)| other.span().text() == key.span().text());
                    match same {
                        Some((_, _, other)) => self.unify(value, other, moved),
                        None => self.open(value, moved),
                    }
                }
            }
            _ => {
                self.take(left, moved);
                self.take(right, moved);
            }
        }
    }

    fn move_out(&mut self, pattern: &Ref<Expr>, moved: &mut Moved) {
        let range = self.range(pattern);
        if !moved.allowed || range.is_empty() || matches!(pattern.as_ref(), Expr::Object { .. }) && has_closure(pattern)
        {
            self.refuse(pattern);
            return;
        }
        let name = self.name();
        self.edits.replace(range.clone(), &name);
        self.apart(pattern, range, &name, moved);
    }

    /// The statements that take one object apart, then those for the objects in it.
    fn apart(&mut self, pattern: &Ref<Expr>, range: Range<usize>, name: &str, moved: &mut Moved) {
        let mut inner = Vec::new();
        if let Expr::Object { fields, .. } = pattern.as_ref() {
            moved.statements.push(vec![Piece::New(format!("{}({name}, {})", operators::SIZE, fields.len()))]);
            fields.iter().for_each(|(_, _, value)| self.inner(value, moved, &mut inner));
        }
        let mut pieces = Vec::new();
        let mut done = range.start;
        for (_, range, name) in &inner {
            pieces.extend([Piece::Old(done..range.start), Piece::New(name.clone())]);
            done = range.end;
        }
        pieces.extend([Piece::Old(done..range.end), Piece::New(format!(" {} {name}", moved.sign))]);
        moved.statements.push(pieces);
        for (pattern, range, name) in inner {
            if matches!(pattern.as_ref(), Expr::Object { .. }) {
                self.apart(&pattern, range, &name, moved);
            }
        }
    }

    /// The outermost objects with variables, and the wildcards, in a value of a pattern.
    fn inner(&mut self, value: &Ref<Expr>, moved: &Moved, found: &mut Vec<(Ref<Expr>, Range<usize>, String)>) {
        match value.as_ref() {
            Expr::Array { items, .. } => items.iter().for_each(|item| self.inner(item, moved, found)),
            // The engine would take an object of nothing but wildcards for a value.
            Expr::Var { span, .. } if span.text() == "_" => {
                let name = self.name();
                found.push((value.clone(), offset(span.start)..offset(span.end), name));
            }
            Expr::Object { .. } if self.has_variable(value, moved) => {
                let range = self.range(value);
                if range.is_empty() {
                    self.refuse(value);
                }
                let name = self.name();
                found.push((value.clone(), range, name));
            }
            _ => {}
        }
    }

    /// An expression out of which patterns may move: steps of its references.
    fn open(&mut self, expr: &Ref<Expr>, moved: &mut Moved) {
        match expr.as_ref() {
            Expr::RefBrack { refr, index, .. } => {
                self.open(refr, moved);
                self.take(index, moved);
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.closure(query, &[term], &moved.bound);
            }
            Expr::ObjectCompr { key, value, query, .. } => self.closure(query, &[key, value], &moved.bound),
            _ => parts(expr).into_iter().for_each(|part| self.open(part, moved)),
        }
    }

    fn closure(&mut self, query: &Query, terms: &[&Ref<Expr>], bound: &Bound) {
        self.query(query, bound);
        let mut named = bound.clone();
        mentioned(query, &mut named);
        terms.iter().for_each(|term| self.closed(term, &named));
    }

    /// An expression whose patterns have to stay.
    fn closed(&mut self, expr: &Ref<Expr>, bound: &Bound) {
        self.open(expr, &mut Moved { allowed: false, ..Moved::new("=", bound) });
    }

    fn arity(&self, function: &Ref<Expr>) -> Option<usize> {
        syntax::called_arity(function, self.names, &self.package, &self.imports)
    }

    /// Has it a variable whose value is not known to be there?
    fn has_variable(&self, expr: &Ref<Expr>, moved: &Moved) -> bool {
        let mut found = false;
        // What is no variable, but the name of a rule, may move. Where nothing can, it has to be told apart.
        let is_document = |name: &str| {
            matches!(name, "input" | "data")
                || self.imports.contains_key(name)
                || self.names.is_rule(&self.package, name)
        };
        let mut see = |name: &str| found |= !moved.bound.contains(name) && (moved.allowed || !is_document(name));
        variables(expr, &mut see);
        found
    }

    /// Where an object or a call stands; empty when that cannot be told.
    fn range(&self, expr: &Ref<Expr>) -> Range<usize> {
        let span = expr.span();
        let (mut start, end) = (offset(span.start), offset(span.end));
        if let Expr::Object { fields, .. } = expr.as_ref()
            && let Some((_, key, _)) = fields.first()
        {
            // The parser's span of an object starts with its last member.
            let key = offset(key.span().start);
            let tokens = self.tokens.get_or_init(|| Lexer::new(self.text, 0).collect());
            let before = tokens.partition_point(|token| token.start < key.saturating_sub(1));
            let opening = tokens
                .get(..=before)
                .unwrap_or_default()
                .iter()
                .rev()
                .find(|token| token.start < key && token.kind == Kind::Symbol(b'{'));
            start = opening.map_or(end, |token| token.start);
        }
        let piece = self.text.get(start..end).unwrap_or_default();
        let complete = match expr.as_ref() {
            Expr::Object { .. } => piece.starts_with('{') && piece.ends_with('}'),
            _ => piece.ends_with(')'),
        };
        if complete { start..end } else { 0..0 }
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("{NAME}{}", self.made)
    }

    fn insert<P: IntoIterator<Item = Piece>>(&mut self, at: usize, pieces: P) {
        self.edits.insert(at, pieces);
    }

    fn refuse(&mut self, pattern: &Ref<Expr>) {
        let mut location = syntax::location(pattern.span());
        self.file.clone_into(&mut location.file);
        let message = "an object with variables cannot be matched here; give it a name in a statement before";
        self.refused.get_or_insert_with(|| LoadError::new("rego_compile_error", message, Some(location)));
    }
}

// === impl Moved ===

impl Moved {
    fn new(sign: &'static str, bound: &Bound) -> Self {
        Self { sign, bound: bound.clone(), allowed: true, statements: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
