//! `not` as OPA evaluates it. OPA takes calls, and most references, out of a negated expression and evaluates them before
//! it: where one is undefined, the body ends there, and `not startswith(input.path, "/x")` without a path does **not**
//! hold. For the engine it would. So a statement that asks for those values goes before the negated one, in the text that
//! the engine gets; it asks for nothing else, and what OPA leaves inside of the negation stays there:
//! a reference as the whole expression, or on one side of `==`.

use regorus::unstable::{BoolOp, Expr, Literal, LiteralStmt, Module, Query, Rule, RuleHead, WithModifier};

use super::{
    print::Printer,
    rewrite::{Rewriter, Rewritten},
};
use crate::policy::{
    LoadError,
    solutions::extent,
    syntax::{self, parts},
};

/// Statements to put in, by offset.
struct Negations<'n> {
    is_document: &'n dyn Fn(&str) -> bool,
    found: Vec<(usize, String)>,
    printed: usize,
}

/// Most text that is put into one module: a negation in a negation is written twice.
const MOST: usize = 1 << 20;

/// The statements that a module needs. `is_document` tells whether a name may stand for a document or a rule.
pub(super) fn of_module(
    file: &str,
    text: &str,
    module: &Module,
    is_document: &dyn Fn(&str) -> bool,
) -> Result<Option<Rewritten>, LoadError> {
    let imports: Vec<String> = module.imports.iter().filter_map(syntax::imported_name).collect();
    let is_document = |name: &str| is_document(name) || imports.iter().any(|import| import == name);
    let mut negations = Negations { is_document: &is_document, found: Vec::new(), printed: 0 };
    for rule in &module.policy {
        match &**rule {
            Rule::Default { value, .. } => negations.expr(value),
            Rule::Spec { head, bodies, .. } => {
                negations.head(head);
                for (index, body) in bodies.iter().enumerate() {
                    let terms: Vec<&Expr> = match &body.assign {
                        Some(assign) => vec![&assign.value],
                        None if index == 0 => terms(head),
                        None => Vec::new(),
                    };
                    negations.body(text, &body.query, &terms);
                    if let Some(assign) = &body.assign {
                        negations.expr(&assign.value);
                    }
                }
            }
        }
    }
    negations.finish(file, text)
}

/// The statements that an ad-hoc query needs.
pub(super) fn of_query(
    file: &str,
    text: &str,
    query: &Query,
    is_document: &dyn Fn(&str) -> bool,
) -> Result<Option<Rewritten>, LoadError> {
    let mut negations = Negations { is_document, found: Vec::new(), printed: 0 };
    negations.query(query);
    negations.finish(file, text)
}

/// What has to be defined before a negated statement is evaluated, as a statement; `None`: nothing.
pub(super) fn guard(
    statement: &LiteralStmt,
    is_document: &dyn Fn(&str) -> bool,
    printer: &mut Printer<'_>,
) -> Option<String> {
    let Literal::NotExpr { expr, .. } = &statement.literal else { return None };
    let mut needed = Vec::new();
    whole(expr, is_document, &mut needed);
    if needed.is_empty() {
        return None;
    }
    let terms: Vec<String> = needed.into_iter().map(|term| printer.expr(term)).collect();
    // An array is defined when all that is in it is, and never null.
    let mut text = format!("[{}] != null", terms.join(", "));
    for WithModifier { refr, r#as, .. } in &statement.with_mods {
        text.push_str(&format!(" with {} as {}", printer.expr(refr), printer.expr(r#as)));
    }
    Some(text)
}

// === impl Negations ===

impl Negations<'_> {
    fn finish(mut self, file: &str, text: &str) -> Result<Option<Rewritten>, LoadError> {
        if self.found.is_empty() {
            return Ok(None);
        }
        self.found.sort_by_key(|(start, _)| *start);
        if self.printed > MOST {
            return Err(LoadError::in_file("rego_limit_error", file, "negations are nested too deeply"));
        }
        let mut rewriter = Rewriter::new(text);
        for (at, added) in &self.found {
            rewriter.copy(*at);
            rewriter.insert(added);
        }
        Ok(Some(rewriter.finish()))
    }

    fn head(&mut self, head: &RuleHead) {
        match head {
            RuleHead::Compr { refr, assign, .. } | RuleHead::Func { refr, assign, .. } => {
                self.expr(refr);
                if let Some(assign) = assign {
                    self.expr(&assign.value);
                }
            }
            RuleHead::Set { refr, key, .. } => {
                self.expr(refr);
                if let Some(key) = key {
                    self.expr(key);
                }
            }
        }
    }

    /// A body may be one statement without braces. `terms` are those of its head: where one of them is undefined, OPA goes on
    /// with the next solution, and the engine would forget all of them.
    fn body(&mut self, text: &str, query: &Query, terms: &[&Expr]) {
        let known = self.found.len();
        self.query(query);
        let Some(last) = query.stmts.last() else { return };
        let mut needed = Vec::new();
        if iterates(query) {
            terms.iter().for_each(|term| inner(term, self.is_document, &mut needed));
        }
        let (_, end) = extent(text, last);
        if !needed.is_empty() {
            let mut printer = Printer::new(self.is_document, MOST.saturating_sub(self.printed));
            let terms: Vec<String> = needed.into_iter().map(|term| printer.expr(term)).collect();
            let guard = format!("; [{}] != null", terms.join(", "));
            self.printed =
                self.printed.saturating_add(guard.len()).saturating_add(usize::from(printer.is_spent()) * MOST);
            self.found.push((end, guard));
        }
        if let [statement] = query.stmts.as_slice()
            && statement.span.start == query.span.start
            && self.found.len() > known
        {
            let (start, end) = extent(text, statement);
            let at_end = self.found.iter().skip(known).any(|(at, _)| *at == end);
            match self.found.get_mut(known) {
                Some((at, guard)) if *at == start => guard.insert_str(0, "{ "),
                _ if at_end => self.found.insert(known, (start, "{ ".to_owned())),
                // Only closures have guards.
                _ => return,
            }
            self.found.push((end, " }".to_owned()));
        }
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            let mut printer = Printer::new(self.is_document, MOST.saturating_sub(self.printed));
            if let Some(guard) = guard(statement, self.is_document, &mut printer) {
                self.printed =
                    self.printed.saturating_add(guard.len()).saturating_add(usize::from(printer.is_spent()) * MOST);
                let start = usize::try_from(statement.span.start).unwrap_or(usize::MAX);
                self.found.push((start, guard + "; "));
            }
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { collection: expr, .. }
                | Literal::Expr { expr, .. }
                | Literal::NotExpr { expr, .. } => self.expr(expr),
                Literal::Every { domain, query, .. } => {
                    self.expr(domain);
                    self.query(query);
                }
            }
            for modifier in &statement.with_mods {
                self.expr(&modifier.r#as);
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.expr(term);
                self.query(query);
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.expr(key);
                self.expr(value);
                self.query(query);
            }
            other => parts(other).into_iter().for_each(|part| self.expr(part)),
        }
    }
}

/// The terms of a head.
fn terms(head: &RuleHead) -> Vec<&Expr> {
    let (refr, value) = match head {
        RuleHead::Compr { refr, assign, .. } | RuleHead::Func { refr, assign, .. } => {
            (refr, assign.as_ref().map(|assign| &assign.value))
        }
        RuleHead::Set { refr, key, .. } => (refr, key.as_ref()),
    };
    let mut found: Vec<&Expr> = value.into_iter().map(|value| &**value).collect();
    let mut at = refr;
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at.as_ref() {
        if let Expr::RefBrack { index, .. } = at.as_ref() {
            found.push(index);
        }
        at = refr;
    }
    found
}

/// May a body have more than one solution?
fn iterates(query: &Query) -> bool {
    fn within(expr: &Expr) -> bool {
        match expr {
            Expr::RefBrack { index, .. }
                if matches!(index.as_ref(), Expr::Var { .. } | Expr::Array { .. } | Expr::Object { .. }) =>
            {
                true
            }
            Expr::Call { fcn, .. } if fcn.span().text() == "walk" => true,
            other => parts(other).into_iter().any(|part| within(part)),
        }
    }
    query.stmts.iter().any(|statement| match &statement.literal {
        Literal::SomeIn { .. } => true,
        Literal::Expr { expr, .. } => within(expr),
        _ => false,
    })
}

/// What OPA takes out of an expression that is a statement.
fn whole<'e>(expr: &'e Expr, is_document: &dyn Fn(&str) -> bool, needed: &mut Vec<&'e Expr>) {
    match expr {
        Expr::AssignExpr { lhs, rhs, .. } | Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } => {
            side(lhs, is_document, needed);
            side(rhs, is_document, needed);
        }
        Expr::Call { .. }
        | Expr::BoolExpr { .. }
        | Expr::ArithExpr { .. }
        | Expr::BinExpr { .. }
        | Expr::Membership { .. } => {
            parts(expr).into_iter().for_each(|part| inner(part, is_document, needed));
        }
        term => side(term, is_document, needed),
    }
}

/// A term that may stay where it is; what it is made of may not.
fn side<'e>(expr: &'e Expr, is_document: &dyn Fn(&str) -> bool, needed: &mut Vec<&'e Expr>) {
    match expr {
        Expr::Var { .. } => {}
        Expr::RefDot { refr, .. } => side(refr, is_document, needed),
        Expr::RefBrack { refr, index, .. } => {
            side(refr, is_document, needed);
            inner(index, is_document, needed);
        }
        other => inner(other, is_document, needed),
    }
}

fn inner<'e>(expr: &'e Expr, is_document: &dyn Fn(&str) -> bool, needed: &mut Vec<&'e Expr>) {
    match expr {
        Expr::Var { span, .. } if is_document(span.text()) => needed.push(expr),
        Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } => {
            parts(expr).into_iter().for_each(|part| inner(part, is_document, needed));
        }
        Expr::RefDot { .. }
        | Expr::RefBrack { .. }
        | Expr::Call { .. }
        | Expr::BoolExpr { .. }
        | Expr::ArithExpr { .. }
        | Expr::BinExpr { .. }
        | Expr::AssignExpr { .. }
        | Expr::Membership { .. } => needed.push(expr),
        // A comprehension is always defined.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    /// What OPA 1.22.2 says where `input` is `{"o": {}, "xs": [1, 2, 3]}`.
    #[test]
    fn a_head_without_a_value_loses_its_own_solution_only() {
        for (rule, want) in [
            ("r contains input.xs[i] if some i in [1, \"a\"]", "[2]"),
            ("r contains input.xs[i] if { some i in [\"a\", 1] }", "[2]"),
            ("r contains upper(data.p.names[i]) if {\n some i in [7, 1, 8] # why\n}", "[\"B\"]"),
            ("r[i] := input.xs[i] if some i in [1, \"a\"]", "{\"1\":2}"),
            ("r[names[i]] := i if some i in [1, 9]", "{\"b\":1}"),
            ("r := input.xs[i] if some i in [9, 1]", "2"),
            ("r := 1 if input.no\nelse := input.xs[i] if some i in [9, 1]", "2"),
            ("f(x) := x[i] if some i in [9, 1]\nr := f(input.xs)", "2"),
            ("r contains input.xs[i] if names[i]", "[1,2]"),
            ("r contains [i, input.xs[i] + 1] if some i in [1, 5]", "[[1,3]]"),
        ] {
            let text = format!("package p\nnames := [\"a\", \"b\"]\n{rule}");
            let file = SourceFile { path: "p.rego".to_owned(), bytes: text.into_bytes() };
            let kind = SourceKind::Plain { prefix: Vec::new() };
            let source = Source { name: String::new(), origin: "p".to_owned(), kind, files: vec![file] };
            let set = PolicySet::load(vec![source], &Settings::default())
                .unwrap_or_else(|errors| panic!("{rule}: {errors:?}"));
            let input = parse_json("{\"o\": {}, \"xs\": [1, 2, 3]}").unwrap();
            let found = set.evaluate(&DataPath::from_slash("p/r"), Some(input), &EvalOptions::default());
            let found = found.unwrap_or_else(|error| panic!("{rule}: {error}"));
            let Outcome::Value(value) = found else { panic!("{rule}: undefined") };
            assert_eq!(crate::policy::to_opa_json(&value), want, "{rule}");
        }
    }

    use crate::policy::{
        DataPath, EvalOptions, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, parse_json,
    };

    /// What OPA 1.22.2 says where `input` is `{"o": {}}`.
    #[test]
    fn a_negation_holds_only_where_what_opa_evaluates_before_it_is_defined() {
        for (body, want) in [
            ("not input.no", true),
            ("not input.no == 1", true),
            ("not input.no == input.other", true),
            ("not (input.no == 1)", true),
            ("not nothing", true),
            ("not nothing == 1", true),
            ("not f(1) == input.no", true),
            ("not data.p.nope", true),
            ("not {x | x := input.no}[3]", true),
            ("{ x := input.o; not x.no == 1 }", true),
            ("not startswith(\"b\", \"a\")", true),
            ("not input.no != 1", false),
            ("not input.no < 1", false),
            ("not startswith(input.no, \"a\")", false),
            ("not f(input.no)", false),
            ("not f(nothing)", false),
            ("not [1, input.no]", false),
            ("not [input.no] == [1]", false),
            ("not {\"a\": input.no} == {\"a\": 1}", false),
            ("not input.no + 1 == 2", false),
            ("not count(input.no) == 2", false),
            ("not max([count(input.no)]) > 3", false),
            ("not input.no in [1]", false),
            ("not 1 in input.no", false),
            ("not input[input.no]", false),
            ("not f(1)[input.no]", false),
            ("{ x := input.o; not startswith(x.no, \"a\") }", false),
            ("count([1 | not f(input.no)]) == 1", false),
            ("every x in [1] { not f(input.no) > x }", false),
            ("{ not startswith(input.no, # why\n\t\"a\") }", false),
        ] {
            let text = format!("package p\nf(x) := x\nnothing := input.none\nr if {body}\nelse := false");
            let file = SourceFile { path: "p.rego".to_owned(), bytes: text.into_bytes() };
            let kind = SourceKind::Plain { prefix: Vec::new() };
            let source = Source { name: String::new(), origin: "p".to_owned(), kind, files: vec![file] };
            let set = PolicySet::load(vec![source], &Settings::default())
                .unwrap_or_else(|errors| panic!("{body}: {errors:?}"));
            let input = parse_json("{\"o\": {}}").unwrap();
            let path = DataPath::from_slash("p/r");
            let found = set.evaluate(&path, Some(input), &EvalOptions::default()).unwrap();
            assert_eq!(found, Outcome::Value(want.into()), "{body}");
        }
    }
}
