//! What of an expression OPA evaluates on its own, and which variables it has: calls and references that are arguments
//! are taken out and evaluated before what they stand in.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Query, Ref, RuleHead};

use super::Writer;
use crate::policy::{builtins, syntax};

/// Offsets of start and end.
pub(super) type Span = (usize, usize);

/// A head's reference, arguments, and what it computes.
pub(super) fn head_values(head: &RuleHead) -> (&Expr, Vec<&Expr>, Vec<&Expr>) {
    match head {
        RuleHead::Compr { refr, assign, .. } => {
            (refr, Vec::new(), assign.iter().map(|assign| &*assign.value).collect())
        }
        RuleHead::Set { refr, key, .. } => (refr, Vec::new(), key.iter().map(|key| &**key).collect()),
        RuleHead::Func { refr, args, assign, .. } => {
            (refr, args.iter().map(|arg| &**arg).collect(), assign.iter().map(|assign| &*assign.value).collect())
        }
    }
}

/// The queries in an expression that stand in no other one, with the terms that each gives.
pub(super) fn nested<'e>(expr: &'e Expr, found: &mut Vec<(&'e Ref<Query>, Vec<&'e Expr>)>) {
    match expr {
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => found.push((query, vec![term])),
        Expr::ObjectCompr { key, value, query, .. } => found.push((query, vec![key, value])),
        other => syntax::parts(other).into_iter().for_each(|part| nested(part, found)),
    }
}

/// What is evaluated before a statement.
pub(super) fn statement_children(writer: &Writer<'_>, statement: &LiteralStmt, found: &mut Vec<Span>) {
    match &statement.literal {
        Literal::SomeVars { .. } => {}
        Literal::SomeIn { collection, .. } => match &**collection {
            Expr::Var { .. } => {}
            Expr::RefDot { .. } | Expr::RefBrack { .. } => indexes(writer, collection, found),
            _ => {
                found.push((start(writer.text, collection), end(writer.text, collection)));
                inner(writer, collection, found);
            }
        },
        Literal::Every { domain, .. } => {
            found.push((start(writer.text, domain), end(writer.text, domain)));
            children(writer, domain, found);
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => children(writer, expr, found),
    }
    for with in &statement.with_mods {
        if !matches!(&*with.r#as, Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. }) {
            inner(writer, &with.r#as, found);
        }
    }
}

fn children(writer: &Writer<'_>, expr: &Expr, found: &mut Vec<Span>) {
    match expr {
        Expr::AssignExpr { lhs, rhs, .. } | Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } => {
            side(writer, lhs, found);
            side(writer, rhs, found);
        }
        Expr::RefDot { .. } | Expr::RefBrack { .. } => indexes(writer, expr, found),
        Expr::Call { fcn, params, .. } if fcn.span().text() == "print" => {
            for param in params {
                found.push((start(writer.text, param), end(writer.text, param)));
                inner(writer, param, found);
            }
        }
        other => syntax::parts(other).into_iter().for_each(|part| argument(writer, part, found)),
    }
}

fn side(writer: &Writer<'_>, expr: &Expr, found: &mut Vec<Span>) {
    match expr {
        Expr::RefDot { .. } | Expr::RefBrack { .. } => indexes(writer, expr, found),
        other => inner(writer, other, found),
    }
}

/// As [`argument`], where the term itself may stay.
fn inner(writer: &Writer<'_>, expr: &Expr, found: &mut Vec<Span>) {
    if is_call(expr) {
        argument(writer, expr, found);
    } else {
        syntax::parts(expr).into_iter().for_each(|part| argument(writer, part, found));
    }
}

/// A term that is evaluated before what it stands in.
pub(super) fn argument(writer: &Writer<'_>, expr: &Expr, found: &mut Vec<Span>) {
    let own = (start(writer.text, expr), end(writer.text, expr));
    match expr {
        Expr::Var { span, .. } if matches!(span.text(), "input" | "data") || (writer.is_document)(span.text()) => {
            found.push(own);
        }
        Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            found.push(own);
            indexes(writer, expr, found);
        }
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => found.push(own),
        other if is_call(other) => {
            found.push(own);
            children(writer, other, found);
        }
        other => syntax::parts(other).into_iter().for_each(|part| argument(writer, part, found)),
    }
}

/// What a reference computes on its way.
pub(super) fn indexes(writer: &Writer<'_>, expr: &Expr, found: &mut Vec<Span>) {
    match expr {
        Expr::RefDot { refr, .. } => indexes(writer, refr, found),
        Expr::RefBrack { refr, index, .. } => {
            indexes(writer, refr, found);
            argument(writer, index, found);
        }
        Expr::Var { .. } => {}
        other => {
            found.push((start(writer.text, other), end(writer.text, other)));
            inner(writer, other, found);
        }
    }
}

/// The last argument of a call that receives the result.
pub(super) fn output(statement: &LiteralStmt) -> Option<&Expr> {
    let Literal::Expr { expr, .. } = &statement.literal else { return None };
    let Expr::Call { fcn, params, .. } = &**expr else { return None };
    let arity = syntax::dotted_name(fcn).and_then(|name| builtins::arity(&name))?;
    params.last().filter(|_| params.len() == arity + 1).map(|param| &**param)
}

fn is_call(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Call { .. }
            | Expr::BoolExpr { .. }
            | Expr::ArithExpr { .. }
            | Expr::BinExpr { .. }
            | Expr::Membership { .. }
            | Expr::UnaryExpr { .. }
    ) && !matches!(expr, Expr::UnaryExpr { expr, .. } if matches!(**expr, Expr::Number { .. }))
}

/// Is anything called in a term?
pub(super) fn calls(expr: &Expr) -> bool {
    is_call(expr) || syntax::parts(expr).iter().any(|part| calls(part))
}

/// Where an expression starts. Spans of strings leave their quotes out, and some of objects their brace.
pub(super) fn start(text: &str, expr: &Expr) -> usize {
    let parts = syntax::parts(expr).into_iter().map(|part| start(text, part));
    let own = super::offset(expr.span().start);
    let own = match expr {
        Expr::String { .. } | Expr::RawString { .. } => own.saturating_sub(1),
        _ => own,
    };
    let first = parts.chain([own]).min().unwrap_or(own);
    let is_braced =
        matches!(expr, Expr::Object { .. } | Expr::Set { .. } | Expr::ObjectCompr { .. } | Expr::SetCompr { .. });
    if is_braced && !text.get(first..).is_some_and(|rest| rest.starts_with('{')) {
        let before = text.get(..first).unwrap_or_default().trim_end();
        return before.strip_suffix('{').map_or(first, str::len);
    }
    first
}

/// Where an expression ends.
pub(super) fn end(text: &str, expr: &Expr) -> usize {
    let own = super::offset(expr.span().end);
    match text.get(own..) {
        Some(rest) if rest.starts_with(['"', '`']) => own + 1,
        _ => own,
    }
}

/// The statements of a body by which OPA's rule index leaves the rule out without looking at it, as text.
pub(super) fn filters(text: &str, query: &Query, args: &[&Expr]) -> Vec<String> {
    let prints = |statement: &LiteralStmt| match &statement.literal {
        Literal::Expr { expr, .. } => match &**expr {
            Expr::Call { fcn, .. } => fcn.span().text() == "print",
            _ => false,
        },
        _ => false,
    };
    if query.stmts.iter().any(prints) {
        return Vec::new();
    }
    let parameters: BTreeSet<String> =
        args.iter().filter(|arg| matches!(arg, Expr::Var { .. })).map(|arg| arg.span().text().to_owned()).collect();
    let is_indexed = |expr: &Expr| match syntax::flatten(expr) {
        Some((root, links)) => {
            let steps = links.iter().all(|link| match link {
                syntax::Link::Name(_) => true,
                syntax::Link::Computed(index) => {
                    matches!(&***index, Expr::Var { span, .. } if !parameters.contains(span.text()))
                }
            });
            let root = root.text();
            steps && ((root == "input" && !links.is_empty()) || (links.is_empty() && parameters.contains(root)))
        }
        None => false,
    };
    let mut found = Vec::new();
    for statement in query.stmts.iter().filter(|statement| statement.with_mods.is_empty()) {
        let Literal::Expr { expr, .. } = &statement.literal else { continue };
        let (from, to) = (start(text, expr), end(text, expr));
        let Some(own) = text.get(from..to).filter(|own| !own.contains('\n')) else { continue };
        match &**expr {
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                let pairs = [(lhs, rhs), (rhs, lhs)];
                if pairs.iter().any(|(refr, value)| is_indexed(refr) && super::groups::is_ground(value)) {
                    found.push(own.to_owned());
                }
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } if is_indexed(expr) => found.push(format!("[{own}] != null")),
            Expr::Membership { key: None, value, collection, .. }
                if is_indexed(value) && super::groups::is_ground(collection) =>
            {
                found.push(own.to_owned());
            }
            _ => {}
        }
    }
    found
}

/// The variables that a statement gives values, all that it has, and whether it is a unification.
pub(super) fn facts(statement: &LiteralStmt) -> (BTreeSet<String>, BTreeSet<String>, bool) {
    let (binds, unifies) = binds(statement);
    let mut all = BTreeSet::new();
    match &statement.literal {
        Literal::SomeVars { vars, .. } => all.extend(vars.iter().map(|var| var.text().to_owned())),
        Literal::SomeIn { key, value, collection, .. } => {
            key.iter().chain([value, collection]).for_each(|expr| all.extend(all_variables(expr)));
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => all.extend(all_variables(expr)),
        Literal::Every { domain, query, key, value, .. } => {
            let mut inside = BTreeSet::new();
            query.stmts.iter().for_each(|statement| inside.extend(facts(statement).1));
            for name in key.iter().chain([value]) {
                inside.remove(name.text());
            }
            all.extend(all_variables(domain));
            all.extend(inside);
        }
    }
    statement.with_mods.iter().for_each(|with| all.extend(all_variables(&with.r#as)));
    (binds, all, unifies)
}

/// The variables that a statement gives values, and whether it is a unification.
pub(super) fn binds(statement: &LiteralStmt) -> (BTreeSet<String>, bool) {
    let mut found = BTreeSet::new();
    let mut unifies = false;
    match &statement.literal {
        Literal::SomeVars { .. } | Literal::NotExpr { .. } => {}
        Literal::SomeIn { key, value, collection, .. } => {
            key.iter().chain([value]).for_each(|expr| found.extend(variables(expr)));
            steps(collection, &mut found);
        }
        Literal::Every { domain, .. } => steps(domain, &mut found),
        Literal::Expr { expr, .. } => {
            steps(expr, &mut found);
            match &**expr {
                Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => found.extend(variables(lhs)),
                Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                    unifies = true;
                    found.extend(variables(lhs));
                    found.extend(variables(rhs));
                }
                _ => found.extend(output(statement).iter().flat_map(|output| variables(output))),
            }
        }
    }
    (found, unifies)
}

/// The variables that a statement declares.
pub(super) fn declares(statement: &LiteralStmt) -> BTreeSet<String> {
    match &statement.literal {
        Literal::SomeIn { key, value, .. } => key.iter().chain([value]).flat_map(|expr| variables(expr)).collect(),
        Literal::Expr { expr, .. } => match &**expr {
            Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => variables(lhs),
            _ => output(statement).map(variables).unwrap_or_default(),
        },
        _ => BTreeSet::new(),
    }
}

/// The variables of each side of a unification that something else must bind.
pub(super) fn sides(statement: &LiteralStmt) -> Vec<BTreeSet<String>> {
    match &statement.literal {
        Literal::Expr { expr, .. } => match &**expr {
            Expr::AssignExpr { lhs, rhs, .. } => [lhs, rhs]
                .into_iter()
                .map(|side| {
                    let mut own = BTreeSet::new();
                    steps(side, &mut own);
                    all_variables(side).difference(&own).cloned().collect()
                })
                .collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Variables that are steps of references.
fn steps(expr: &Expr, found: &mut BTreeSet<String>) {
    if let Expr::RefBrack { index, .. } = expr {
        found.extend(variables(index));
    }
    syntax::parts(expr).into_iter().for_each(|part| steps(part, found));
}

/// The variables of a pattern.
pub(super) fn variables(expr: &Expr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match expr {
        Expr::Var { span, .. } => {
            found.extend(Some(span.text()).filter(|name| !is_no_variable(name)).map(str::to_owned));
        }
        Expr::Array { .. } | Expr::Object { .. } | Expr::Set { .. } => {
            syntax::parts(expr).into_iter().for_each(|part| found.extend(variables(part)));
        }
        _ => {}
    }
    found
}

/// All variables, those in comprehensions too.
pub(super) fn all_variables(expr: &Expr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match expr {
        Expr::Var { span, .. } => {
            found.extend(Some(span.text()).filter(|name| !is_no_variable(name)).map(str::to_owned));
        }
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            found.extend(all_variables(term));
            query.stmts.iter().for_each(|statement| found.extend(facts(statement).1));
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            found.extend(all_variables(key));
            found.extend(all_variables(value));
            query.stmts.iter().for_each(|statement| found.extend(facts(statement).1));
        }
        other => syntax::parts(other).into_iter().for_each(|part| found.extend(all_variables(part))),
    }
    found
}

fn is_no_variable(name: &str) -> bool {
    matches!(name, "_" | "input" | "data")
}
