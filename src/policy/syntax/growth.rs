//! How often a value holds the same part: `x1 := [x0, x0]; x2 := [x1, x1]; …` shares its parts and costs nothing, until
//! something (a comparison, a print) looks at all of them, which the engine's deadline does not interrupt. Elements of
//! comprehensions count as one: how many there are is only known when they are evaluated.

use std::collections::{HashMap, HashSet};

use regorus::unstable::{AssignOp, Expr, Literal, Query, Ref, Rule, RuleBody, RuleHead};

/// After so many passes everything that can double has done so to the limit of the numbers.
const PASSES: usize = 64;

/// How many parts the largest value of a rule or query has, against how many it is made of.
#[derive(Debug, Default)]
pub(super) struct Growth<'a> {
    /// By query and local variable: what each assignment that names it says.
    sizes: HashMap<(u32, &'a str), HashMap<Option<u32>, u64>>,
    /// The queries around what is looked at, with the variables of each.
    scopes: Vec<(u32, HashSet<&'a str>)>,
    /// The assignment looked at: what it said before is no news to it, whichever side gives the other its value.
    at: Option<u32>,
    /// What is not built here.
    leaves: HashSet<&'a str>,
    most: u64,
    changed: bool,
}

/// Doublings along one rule: a value that holds every part once has none.
pub(super) fn of_rule(rule: &Rule) -> usize {
    let mut growth = Growth::default();
    growth.settle(|growth| growth.rule(rule));
    doublings(growth.most / u64::try_from(growth.leaves.len()).unwrap_or(u64::MAX).max(1))
}

/// As [`of_rule`], for a query.
pub(super) fn of_query(query: &Query) -> usize {
    let mut growth = Growth::default();
    growth.settle(|growth| growth.query(query, &mut |_| {}));
    doublings(growth.most)
}

fn doublings(times: u64) -> usize {
    times.checked_ilog2().and_then(|log| usize::try_from(log).ok()).unwrap_or_default()
}

fn variables<'a>(pattern: &'a Expr, into: &mut HashSet<&'a str>) {
    match pattern {
        Expr::Var { span, .. } => {
            into.insert(span.text());
        }
        Expr::Array { items, .. } => items.iter().for_each(|item| variables(item, into)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| variables(value, into)),
        _ => {}
    }
}

// === impl Growth ===

impl<'a> Growth<'a> {
    /// Statements may stand in any order: they are looked at until nothing changes.
    fn settle(&mut self, mut pass: impl FnMut(&mut Self)) {
        for _ in 0..PASSES {
            self.changed = false;
            pass(self);
            if !self.changed {
                break;
            }
        }
    }

    fn rule(&mut self, rule: &'a Rule) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        if bodies.is_empty() {
            self.head(head);
        }
        for RuleBody { assign, query, .. } in bodies {
            self.query(query, &mut |growth| match assign {
                Some(assign) => growth.value(&assign.value),
                None => growth.head(head),
            });
        }
    }

    fn head(&mut self, head: &'a RuleHead) {
        match head {
            RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                if let Some(assign) = assign {
                    self.value(&assign.value);
                }
            }
            RuleHead::Set { key, .. } => {
                if let Some(key) = key {
                    self.value(key);
                }
            }
        }
    }

    /// A query with what is evaluated in its scope.
    fn query(&mut self, query: &'a Query, inside: &mut dyn FnMut(&mut Self)) {
        self.open(query);
        let outer = self.at.take();
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { key, value, collection, .. } => {
                    let size = self.size(collection);
                    if let Some(key) = key {
                        self.bind(key, size);
                    }
                    self.bind(value, size);
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.value(expr),
                Literal::Every { value, domain, query: inner, .. } => {
                    let size = self.size(domain);
                    self.define(value.text(), size);
                    self.query(inner, &mut |_| {});
                }
            }
            for modifier in &statement.with_mods {
                self.value(&modifier.r#as);
            }
        }
        inside(self);
        self.at = outer;
        self.scopes.pop();
    }

    /// Declares the variables of a query; a name that `=` binds is an outer one if there is such a one.
    fn open(&mut self, query: &'a Query) {
        let mut own = HashSet::new();
        let mut unified = HashSet::new();
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { vars, .. } => own.extend(vars.iter().map(regorus::unstable::Span::text)),
                Literal::SomeIn { key, value, .. } => key.iter().chain([value]).for_each(|it| variables(it, &mut own)),
                Literal::Every { value, .. } => own.extend([value.text()]),
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => match expr.as_ref() {
                    Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => variables(lhs, &mut own),
                    Expr::AssignExpr { lhs, rhs, .. } => [lhs, rhs].iter().for_each(|it| variables(it, &mut unified)),
                    _ => {}
                },
            }
        }
        own.extend(unified.into_iter().filter(|name| self.scopes.iter().all(|(_, names)| !names.contains(name))));
        self.scopes.push((query.qidx, own));
    }

    fn variable(&self, name: &'a str) -> Option<(u32, &'a str)> {
        let scope = self.scopes.iter().rev().find(|(_, names)| names.contains(name));
        scope.map(|(query, _)| (*query, name))
    }

    fn value(&mut self, expr: &'a Ref<Expr>) {
        let size = self.size(expr);
        self.most = self.most.max(size);
    }

    /// What the variables of a pattern, or the variable that a value is given to, hold at most.
    fn bind(&mut self, pattern: &'a Expr, size: u64) {
        let mut names = HashSet::new();
        variables(pattern, &mut names);
        names.into_iter().for_each(|name| self.define(name, size));
    }

    fn define(&mut self, name: &'a str, size: u64) {
        let size = size.max(1);
        self.most = self.most.max(size);
        let Some(variable) = self.variable(name) else { return };
        let known = self.sizes.entry(variable).or_default().entry(self.at).or_default();
        if *known < size {
            *known = size;
            self.changed = true;
        }
    }

    fn size(&mut self, expr: &'a Ref<Expr>) -> u64 {
        match expr.as_ref() {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => 0,
            Expr::Var { span, .. } => self.leaf(span.text(), span.text()),
            Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr),
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.sum(items.iter()),
            Expr::Object { fields, .. } => self.sum(fields.iter().flat_map(|(_, key, value)| [key, value])),
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                let mut size = 0;
                self.query(query, &mut |growth| size = growth.size(term));
                size
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                let mut size = 0;
                self.query(query, &mut |growth| size = growth.sum([key, value].into_iter()));
                size
            }
            // What a builtin reads and makes is bounded; what a function adds is counted where it is defined.
            Expr::Call { params, .. } => params.iter().map(|param| self.size(param)).max().unwrap_or_default(),
            Expr::UnaryExpr { expr, .. } => self.size(expr),
            Expr::AssignExpr { op, lhs, rhs, eidx, .. } => {
                let outer = self.at.replace(*eidx);
                self.assign(op, lhs, rhs);
                self.at = outer;
                1
            }
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::Membership { value: lhs, collection: rhs, .. } => {
                let (lhs, rhs) = (self.size(lhs), self.size(rhs));
                self.most = self.most.max(lhs).max(rhs);
                lhs.max(rhs).min(1)
            }
        }
    }

    fn assign(&mut self, op: &AssignOp, lhs: &'a Ref<Expr>, rhs: &'a Ref<Expr>) {
        let (left, right) = (self.size(lhs), self.size(rhs));
        self.most = self.most.max(right);
        self.bind(lhs, right);
        if *op == AssignOp::Eq {
            self.most = self.most.max(left);
            self.bind(rhs, left);
        }
    }

    /// At most as large as the whole that it is a part of.
    fn reference(&mut self, expr: &'a Ref<Expr>) -> u64 {
        let mut at = expr;
        loop {
            match at.as_ref() {
                Expr::RefDot { refr, .. } => at = refr,
                Expr::RefBrack { refr, index, .. } => {
                    self.size(index);
                    at = refr;
                }
                Expr::Var { span, .. } => return self.leaf(span.text(), expr.span().text()),
                _ => return self.size(at),
            }
        }
    }

    fn leaf(&mut self, root: &'a str, whole: &'a str) -> u64 {
        let known = self.variable(root).and_then(|variable| self.sizes.get(&variable));
        let known = known.and_then(|from| {
            from.iter().filter(|(at, _)| **at != self.at || self.at.is_none()).map(|(_, size)| *size).max()
        });
        known.unwrap_or_else(|| {
            self.leaves.insert(whole);
            1
        })
    }

    fn sum(&mut self, items: impl Iterator<Item = &'a Ref<Expr>>) -> u64 {
        items.map(|item| self.size(item)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use regorus::Value;

    use crate::policy::{
        check::{self, Rigour},
        lower::Origins,
    };

    #[test]
    fn doublings_are_counted_through_whatever_takes_values_apart() {
        let facts =
            check::modules(&[], &Origins::default(), &Value::new_object(), Rigour::default(), Vec::new()).unwrap();
        let chain = |step: &str| {
            let steps: Vec<String> =
                (1..=10).map(|n| step.replace("NEW", &n.to_string()).replace("OLD", &(n - 1).to_string())).collect();
            format!("x0 := 1; {}", steps.join("; "))
        };
        let reversed =
            |text: String| text.split("; ").collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("; ");
        for (query, want) in [
            (chain("xNEW := [xOLD, xOLD]"), 10),
            (reversed(chain("xNEW = [xOLD, xOLD]").replace(":=", "=")), 10),
            (chain("xNEW = {\"a\": xOLD, \"b\": [xOLD]}"), 10),
            (chain("[xOLD, xOLD] = xNEW"), 10),
            (chain("yNEW = [[xOLD, xOLD]]; [xNEW] = yNEW"), 10),
            (chain("[xNEW] := [[xOLD, xOLD]]"), 10),
            (chain("some xNEW in [[xOLD, xOLD]]"), 10),
            (chain("xNEW := [x | some x in [xOLD, xOLD]][0]"), 10),
            (chain("xNEW := [[xOLD, xOLD] | true]"), 10),
            (chain("xNEW := [xOLD, 1, 2, 3]"), 0),
            (chain("xNEW := xOLD + xOLD"), 0),
            ("[a, b] = input.x; [a, c] = input.y".to_owned(), 1),
            ("a := [x | some x in input.a]; b := [[x, x] | some x in a]; c := [x | x = b[_]]".to_owned(), 1),
            ("x = [a, b]; x = input.y; a > b".to_owned(), 1),
            ("{\"a\": data.a, \"b\": data.b}".to_owned(), 1),
        ] {
            let (found, _) = check::query(&query, &facts, false, false).unwrap();
            assert_eq!(found.doublings, want, "{query}");
        }
    }
}
