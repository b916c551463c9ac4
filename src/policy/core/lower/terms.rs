//! Expressions → terms, and statements for what they compute.

use std::rc::Rc;

use regorus::{
    Value,
    unstable::{BoolOp, Expr, Query, Ref, Span},
};

use super::{Lowering, Pos, Statement, Term, Var, declared, generated, start};
use crate::policy::{
    core::{Closure, DATA, Function, INPUT, Kind, Reference, Shape},
    syntax::{self, Root},
};

/// A step of a reference.
#[derive(Clone, Copy)]
pub(super) enum Step<'e> {
    Name(&'e str),
    Index(&'e Ref<Expr>),
}

/// What a reference starts with, and its steps.
pub(super) fn steps(expr: &Ref<Expr>) -> Option<(&Ref<Expr>, Vec<Step<'_>>)> {
    let mut steps = Vec::new();
    let mut at = expr;
    loop {
        match at.as_ref() {
            Expr::RefDot { refr, field, .. } => {
                steps.push(Step::Name(field.0.text()));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                steps.push(Step::Index(index));
                at = refr;
            }
            _ => break,
        }
    }
    steps.reverse();
    Some((at, steps))
}

impl Lowering<'_> {
    /// An expression that is a statement.
    pub(super) fn top(&mut self, expr: &Ref<Expr>, at: Pos, body: &mut Vec<Statement>) -> Statement {
        match expr.as_ref() {
            Expr::AssignExpr { lhs, rhs, .. } => {
                let (left, right) = (self.side(lhs, body), self.side(rhs, body));
                Statement::equal(left, right, at)
            }
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } if !self.is_query => {
                let (left, right) = (self.side(lhs, body), self.side(rhs, body));
                Statement::equal(left, right, at)
            }
            expr_ref => match self.called(expr_ref, expr, body) {
                // What is printed is looked at, the call is not.
                Some((Function::Builtin(name), arguments)) if name == "print" => {
                    Statement::new(Kind::Term(Term::Array(arguments)), at)
                }
                Some((function, arguments)) => Statement::call(function, arguments, at),
                None => Statement::new(Kind::Term(self.side(expr, body)), at),
            },
        }
    }

    /// What a call or an operator calls, and with what.
    pub(super) fn called(
        &mut self,
        expr: &Expr,
        whole: &Ref<Expr>,
        body: &mut Vec<Statement>,
    ) -> Option<(Function, Vec<Term>)> {
        let (function, arguments): (Function, Vec<&Ref<Expr>>) = match expr {
            Expr::Call { fcn, params, .. } => {
                if let Some((root, _)) = syntax::flatten(fcn)
                    && self.scopes.is_declared(root.text())
                {
                    let name = syntax::dotted_name(fcn).unwrap_or_default();
                    self.fail(format!("called function {name} shadowed"), start(whole));
                }
                let function = self.function(fcn).unwrap_or_else(|| Function::Builtin(String::new()));
                (function, params.iter().collect())
            }
            Expr::Membership { key, value, collection, .. } => {
                let name = if key.is_some() { "internal.member_3" } else { "internal.member_2" };
                (Function::Operator(name), key.iter().chain([value, collection]).collect())
            }
            infix => {
                let (name, sides) = syntax::infix(infix)?;
                (Function::Operator(name), sides.to_vec())
            }
        };
        Some((function, arguments.into_iter().map(|argument| self.hoisted(argument, body)).collect()))
    }

    /// The function that a name means: a rule of this package, one below `data`, or a builtin.
    pub(super) fn function(&self, expr: &Ref<Expr>) -> Option<Function> {
        let name = syntax::dotted_name(expr)?;
        let (root, links) = syntax::flatten(expr)?;
        if self.scopes.is_declared(root.text()) {
            return None;
        }
        let rest = links.into_iter().map(|link| match link {
            syntax::Link::Name(name) => name,
            syntax::Link::Computed(_) => String::new(),
        });
        match self.global(root.text()) {
            Some((DATA, path)) => Some(Function::Rule(path.into_iter().chain(rest).collect())),
            Some(_) => None,
            None => Some(Function::Builtin(name)),
        }
    }

    /// The path that a name means, when it is no variable.
    pub(super) fn global(&self, name: &str) -> Option<(Var, Vec<String>)> {
        if self.scopes.hides(name) {
            return None;
        }
        if let Some((root, path)) = self.names.imports.get(name) {
            self.names.used.borrow_mut().insert(name.to_owned());
            let root = match root {
                Root::Data => DATA,
                Root::Input => INPUT,
            };
            return Some((root, path.iter().flatten().cloned().collect()));
        }
        match name {
            "data" => Some((DATA, Vec::new())),
            "input" => Some((INPUT, Vec::new())),
            name if self.names.all.is_rule(self.names.package, name) => {
                Some((DATA, self.names.package.iter().cloned().chain([name.to_owned()]).collect()))
            }
            _ => None,
        }
    }

    /// A side of a unification: what stands in it is taken out, itself it stays.
    pub(super) fn side(&mut self, expr: &Ref<Expr>, body: &mut Vec<Statement>) -> Term {
        match self.term(expr, body) {
            term @ (Term::Ref(_) | Term::Closure(_)) => term,
            term => self.hoist(term, start(expr), body),
        }
    }

    /// A term without references and closures in it: they are statements before.
    pub(super) fn hoisted(&mut self, expr: &Ref<Expr>, body: &mut Vec<Statement>) -> Term {
        let term = self.term(expr, body);
        self.hoist(term, start(expr), body)
    }

    pub(super) fn hoist(&mut self, term: Term, at: Pos, body: &mut Vec<Statement>) -> Term {
        match term {
            Term::Ref(reference) => {
                let (at, text) = (reference.at, self.vars.text(&reference, usize::MAX));
                let held = self.vars.stand_in(text);
                body.push(generated(Statement::equal(Term::Var(held), Term::Ref(reference), at)));
                Term::Var(held)
            }
            Term::Closure(closure) => {
                let held = self.vars.add("_");
                body.push(generated(Statement::equal(Term::Var(held), Term::Closure(closure), at)));
                Term::Var(held)
            }
            Term::Array(items) => Term::Array(items.into_iter().map(|item| self.hoist(item, at, body)).collect()),
            Term::Set(items) => Term::Set(items.into_iter().map(|item| self.hoist(item, at, body)).collect()),
            Term::Object(members) => {
                let pair = |(key, value)| (self.hoist(key, at, body), self.hoist(value, at, body));
                Term::Object(members.into_iter().map(pair).collect())
            }
            term => term,
        }
    }

    pub(super) fn term(&mut self, expr: &Ref<Expr>, body: &mut Vec<Statement>) -> Term {
        match expr.as_ref() {
            Expr::String { value, .. }
            | Expr::RawString { value, .. }
            | Expr::Number { value, .. }
            | Expr::Bool { value, .. }
            | Expr::Null { value, .. } => Term::Const(value.clone()),
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr, body),
            Expr::Array { items, .. } => Term::Array(items.iter().map(|item| self.term(item, body)).collect()),
            Expr::Set { items, .. } => Term::Set(items.iter().map(|item| self.term(item, body)).collect()),
            Expr::Object { fields, .. } => {
                let pair =
                    |(_, key, value): &(Span, Ref<Expr>, Ref<Expr>)| (self.term(key, body), self.term(value, body));
                Term::Object(fields.iter().map(pair).collect())
            }
            Expr::ArrayCompr { term, query, .. } => self.closure(Shape::Array, &[term], query),
            Expr::SetCompr { term, query, .. } => self.closure(Shape::Set, &[term], query),
            Expr::ObjectCompr { key, value, query, .. } => self.closure(Shape::Object, &[key, value], query),
            inner => match self.called(inner, expr, body) {
                Some((function, mut arguments)) => {
                    let text: Vec<String> = arguments.iter().map(|argument| self.vars.term(argument)).collect();
                    let held = self.vars.stand_in(format!("{}({})", function.name(), text.join(", ")));
                    arguments.push(Term::Var(held));
                    body.push(generated(Statement::call(function, arguments, start(expr))));
                    Term::Var(held)
                }
                None => Term::Unknown,
            },
        }
    }

    pub(super) fn reference(&mut self, expr: &Ref<Expr>, body: &mut Vec<Statement>) -> Term {
        let Some((root, links)) = steps(expr) else { return Term::Unknown };
        let at = start(root);
        let mut of = match root.as_ref() {
            Expr::Var { span, .. } if span.text() == "_" => Term::Var(self.vars.add("_")),
            Expr::Var { span, .. } => match self.global(span.text()) {
                Some((head, path)) => {
                    let path = path.into_iter().map(|name| Term::Const(Value::from(name))).collect();
                    Term::Ref(Box::new(Reference { head, path, at }))
                }
                None => Term::Var(self.scopes.named(span.text(), &mut self.vars, &mut self.free)),
            },
            _ => self.term(root, body),
        };
        for link in links {
            let step = self.step(link, body);
            of = self.member(of, step, at, body);
        }
        of
    }

    pub(super) fn step(&mut self, step: Step<'_>, body: &mut Vec<Statement>) -> Term {
        match step {
            Step::Name(name) => Term::Const(Value::from(name)),
            Step::Index(index) => self.hoisted(index, body),
        }
    }

    pub(super) fn closure(&mut self, shape: Shape, terms: &[&Ref<Expr>], query: &Query) -> Term {
        self.scopes.push(declared(query));
        let mut body = Vec::new();
        self.statements(query, &mut body);
        let terms = terms.iter().map(|term| self.hoisted(term, &mut body)).collect();
        self.close();
        self.closures += 1;
        Term::Closure(Rc::new(Closure { shape, terms, body, id: self.closures }))
    }
}
