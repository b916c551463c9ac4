//! Statements of a body, with what they declare.

use std::{collections::HashSet, rc::Rc};

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Span, WithModifier};

use super::{
    Found, Lowering, Occurrence, Pos, Statement, Term, Var, declared, generated, named_in, pattern_names, place, start,
};
use crate::policy::{
    core::{DATA, Function, INPUT, Kind, Reference, Target, With},
    syntax, types,
};

impl Lowering<'_> {
    pub(super) fn statements(&mut self, query: &Query, body: &mut Vec<Statement>) {
        for statement in &query.stmts {
            self.statement(statement, body);
        }
    }

    pub(super) fn statement(&mut self, statement: &LiteralStmt, body: &mut Vec<Statement>) {
        let (row, col) = syntax::statement_start(statement);
        let at = Pos { row, col };
        let with: Rc<[With]> = statement.with_mods.iter().map(|with| self.with(with, body)).collect();
        let first = body.len();
        match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                for var in vars.iter().filter(|var| var.text() != "_") {
                    self.declare(var.text(), Occurrence::Declared, at);
                }
            }
            Literal::SomeIn { key, value, collection, .. } => self.some_in(key.as_ref(), value, collection, at, body),
            Literal::NotExpr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, .. } = expr.as_ref() {
                    self.fail("cannot assign vars inside negated expression".to_owned(), at);
                    return;
                }
                let mut own = self.top(expr, at, body);
                own.is_negated = true;
                body.push(own);
            }
            Literal::Expr { expr, .. } => match expr.as_ref() {
                Expr::AssignExpr { op: AssignOp::ColEq, lhs, rhs, .. } => {
                    let right = self.side(rhs, body);
                    if let Expr::Var { span, .. } = lhs.as_ref()
                        && matches!(span.text(), "input" | "data")
                    {
                        let hint = "(use a different variable name)";
                        self.found.push((Found::New, format!("variables must not shadow {} {hint}", span.text()), at));
                    }
                    let left = self.target(lhs, at);
                    body.push(Statement { is_assignment: true, ..Statement::equal(left, right, at) });
                }
                _ => {
                    let own = self.top(expr, at, body);
                    body.push(own);
                }
            },
            Literal::Every { key, value, domain, query, .. } => {
                self.every(key.as_ref(), value, domain, query, at, body);
            }
        }
        if !with.is_empty() {
            body.iter_mut().skip(first).for_each(|statement| statement.with = Rc::clone(&with));
        }
    }

    pub(super) fn declare(&mut self, name: &str, occurrence: Occurrence, at: Pos) -> Option<Var> {
        match self.scopes.declare(name, occurrence, at, &mut self.vars) {
            Ok(var) => Some(var),
            Err(message) => {
                self.fail(message, at);
                None
            }
        }
    }

    /// The left side of an assignment.
    pub(super) fn target(&mut self, expr: &Ref<Expr>, statement: Pos) -> Term {
        let kind = match expr.as_ref() {
            Expr::Var { span, .. } if span.text() == "_" => return Term::Var(self.vars.add("_")),
            Expr::Var { span, .. } => {
                return match self.scopes.declare(span.text(), Occurrence::Assigned, statement, &mut self.vars) {
                    Ok(var) => Term::Var(var),
                    Err(message) => {
                        self.fail(message, place(span));
                        Term::Unknown
                    }
                };
            }
            Expr::Array { items, .. } => {
                return Term::Array(items.iter().map(|item| self.target(item, statement)).collect());
            }
            Expr::Object { fields, .. } => {
                let mut none = Vec::new();
                let mut pair = |(_, key, value): &(Span, Ref<Expr>, Ref<Expr>)| {
                    let key = self.term(key, &mut none);
                    (key, self.target(value, statement))
                };
                return Term::Object(fields.iter().map(&mut pair).collect());
            }
            Expr::String { .. } | Expr::RawString { .. } => "string",
            Expr::Number { .. } => "number",
            Expr::Bool { .. } => "boolean",
            Expr::Null { .. } => "null",
            Expr::Set { .. } => "set",
            Expr::ArrayCompr { .. } => "arraycomprehension",
            Expr::SetCompr { .. } => "setcomprehension",
            Expr::ObjectCompr { .. } => "objectcomprehension",
            Expr::RefDot { .. } | Expr::RefBrack { .. } => "ref",
            _ => "call",
        };
        self.fail(format!("cannot assign to {kind}"), start(expr));
        Term::Unknown
    }

    /// `some k, v in xs` is `v = xs[k]`.
    pub(super) fn some_in(
        &mut self,
        key: Option<&Ref<Expr>>,
        value: &Ref<Expr>,
        collection: &Ref<Expr>,
        at: Pos,
        body: &mut Vec<Statement>,
    ) {
        let mut bound = HashSet::new();
        key.into_iter().chain([value]).for_each(|pattern| pattern_names(pattern, &mut bound));
        let mut inside = HashSet::new();
        named_in(collection, &mut inside);
        let mut twice: Vec<&String> = bound.intersection(&inside).collect();
        twice.sort();
        if !twice.is_empty() {
            for name in twice {
                self.found.push((Found::Fatal, format!("var {name} assigned before"), at));
            }
            return;
        }
        let mut bound: Vec<String> = bound.into_iter().collect();
        bound.sort();
        for name in bound {
            if self.declare(&name, Occurrence::Declared, at).is_none() {
                return;
            }
        }
        let value = self.hoisted(value, body);
        let key = match key {
            Some(key) => self.hoisted(key, body),
            None => Term::Var(self.vars.add("_")),
        };
        let domain = self.term(collection, body);
        let member = self.member(domain, key, start(collection), body);
        body.push(Statement::equal(value, member, at));
    }

    /// A step below a term.
    pub(super) fn member(&mut self, of: Term, step: Term, at: Pos, body: &mut Vec<Statement>) -> Term {
        match of {
            Term::Var(head) => Term::Ref(Box::new(Reference { head, path: vec![step], at })),
            Term::Ref(mut reference) => {
                reference.path.push(step);
                Term::Ref(reference)
            }
            Term::Const(_) | Term::Unknown => Term::Unknown,
            of => {
                let head = self.vars.stand_in(self.vars.term(&of));
                body.push(generated(Statement::equal(Term::Var(head), of, at)));
                Term::Ref(Box::new(Reference { head, path: vec![step], at }))
            }
        }
    }

    pub(super) fn every(
        &mut self,
        key: Option<&Span>,
        value: &Span,
        domain: &Ref<Expr>,
        query: &Query,
        at: Pos,
        body: &mut Vec<Statement>,
    ) {
        let domain_at = start(domain);
        let over = self.side(domain, body);
        let held = self.vars.stand_in(self.vars.term(&over));
        body.push(generated(Statement::equal(Term::Var(held), over, domain_at)));
        let mut hiding = declared(query);
        hiding.extend(key.into_iter().chain([value]).map(|span| span.text().to_owned()));
        self.scopes.push(hiding);
        let first = query.stmts.first().map_or(at, |statement| place(&statement.span));
        for span in key.into_iter().chain([value]).filter(|span| span.text() != "_") {
            if let Err(message) = self.scopes.declare(span.text(), Occurrence::Declared, first, &mut self.vars) {
                self.fail(message, at);
            }
        }
        let mut inner = Vec::new();
        self.statements(query, &mut inner);
        self.close();
        body.push(Statement::new(Kind::Every { domain: Term::Var(held), body: inner }, at));
    }

    pub(super) fn with(&mut self, with: &WithModifier, body: &mut Vec<Statement>) -> With {
        let target = match self.function(&with.refr) {
            Some(Function::Builtin(name)) if types::signature(&name).is_some() => Target::Builtin(name),
            _ => match self.term_of_path(&with.refr, body) {
                Term::Ref(reference) if matches!(reference.head, DATA | INPUT) => Target::Document(*reference),
                _ => Target::Other,
            },
        };
        let function = self.function(&with.r#as).filter(|function| match function {
            Function::Operator(_) => false,
            Function::Builtin(name) => types::signature(name).is_some(),
            Function::Rule(path) => self.names.all.functions.contains_key(path),
        });
        let value = if function.is_some() { Term::Unknown } else { self.hoisted(&with.r#as, body) };
        With { target, value, function, at: start(&with.refr), value_at: place(&with.span) }
    }

    /// A path, whose root is never a variable of a function's argument named `input`.
    pub(super) fn term_of_path(&mut self, expr: &Ref<Expr>, body: &mut Vec<Statement>) -> Term {
        match expr.as_ref() {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.term(expr, body),
            _ => Term::Unknown,
        }
    }
}
