//! What patterns and bodies name, for [`super`]. It judges nothing.

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Span};

use super::Bound;
use crate::policy::syntax::parts;

/// The variables of a pattern: in arrays and in values of objects.
pub(super) fn variables(pattern: &Expr, found: &mut dyn FnMut(&str)) {
    match pattern {
        Expr::Var { span, .. } => found(span.text()),
        Expr::Array { items, .. } => items.iter().for_each(|item| variables(item, found)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| variables(value, found)),
        _ => {}
    }
}

/// The names in a body, those of its closures apart.
pub(super) fn mentioned(query: &Query, found: &mut Bound) {
    for statement in &query.stmts {
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                key.iter().chain([value, collection]).for_each(|part| names(part, found));
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => names(expr, found),
            Literal::Every { domain, .. } => names(domain, found),
        }
    }
}

/// Declarations behind other statements, of names that none of those has.
pub(super) fn movable(query: &Query) -> Vec<(&LiteralStmt, Vec<&str>)> {
    let is_declaration = |statement: &&LiteralStmt| matches!(statement.literal, Literal::SomeVars { .. });
    let leading = query.stmts.iter().take_while(is_declaration).count();
    if leading == query.stmts.len() || !query.stmts.iter().skip(leading).any(|statement| is_declaration(&statement)) {
        return Vec::new();
    }
    let mut known = Bound::new();
    let mut found = Vec::new();
    for (index, statement) in query.stmts.iter().enumerate() {
        if let Literal::SomeVars { vars, .. } = &statement.literal {
            let names: Vec<&str> = vars.iter().map(Span::text).collect();
            if index >= leading && names.iter().all(|name| !known.contains(*name)) {
                found.push((statement, names.clone()));
            }
            known.extend(names.into_iter().map(str::to_owned));
        } else {
            every_name(statement, &mut known);
        }
    }
    found
}

/// The names of a statement, those of its closures too.
fn every_name(statement: &LiteralStmt, found: &mut Bound) {
    if let Literal::Every { query, .. } = &statement.literal {
        query.stmts.iter().for_each(|statement| every_name(statement, found));
    }
    let modifiers = statement.with_mods.iter().map(|modifier| &modifier.r#as);
    let exprs: Vec<&Ref<Expr>> = match &statement.literal {
        Literal::SomeVars { .. } => Vec::new(),
        Literal::SomeIn { key, value, collection, .. } => key.iter().chain([value, collection]).collect(),
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => vec![expr],
        Literal::Every { domain, .. } => vec![domain],
    };
    exprs.into_iter().chain(modifiers).for_each(|expr| every_name_of(expr, found));
}

fn every_name_of(expr: &Expr, found: &mut Bound) {
    let mut closure = |terms: &[&Ref<Expr>], query: &Query| {
        terms.iter().for_each(|term| every_name_of(term, found));
        query.stmts.iter().for_each(|statement| every_name(statement, found));
    };
    match expr {
        Expr::Var { span, .. } => _ = found.insert(span.text().to_owned()),
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => closure(&[term], query),
        Expr::ObjectCompr { key, value, query, .. } => closure(&[key, value], query),
        other => parts(other).into_iter().for_each(|part| every_name_of(part, found)),
    }
}

fn names(expr: &Expr, found: &mut Bound) {
    match expr {
        Expr::Var { span, .. } if span.text() != "_" => _ = found.insert(span.text().to_owned()),
        other => parts(other).into_iter().for_each(|part| names(part, found)),
    }
}

/// Has a body, or a body in it, a statement `a = b`?
pub(super) fn matches_in(query: &Query) -> bool {
    fn within(expr: &Expr) -> bool {
        match expr {
            Expr::AssignExpr { op: AssignOp::Eq, .. } => true,
            Expr::ArrayCompr { query, .. } | Expr::SetCompr { query, .. } | Expr::ObjectCompr { query, .. } => {
                matches_in(query)
            }
            other => parts(other).into_iter().any(|part| within(part)),
        }
    }
    query.stmts.iter().any(|statement| match &statement.literal {
        Literal::SomeVars { .. } => false,
        Literal::SomeIn { collection, .. } => within(collection),
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => within(expr),
        Literal::Every { domain, query, .. } => within(domain) || matches_in(query),
    })
}

pub(super) fn has_closure(expr: &Expr) -> bool {
    matches!(expr, Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. })
        || parts(expr).into_iter().any(|part| has_closure(part))
}
