//! What patterns and bodies name, for [`super`]. It judges nothing.

use regorus::unstable::{AssignOp, Expr, Literal, Query};

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
