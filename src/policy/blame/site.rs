//! Which call of a builtin stands at a place of a text. It looks at every expression of a tree and judges nothing.

use regorus::unstable::{ArithOp, BinOp, Expr, Literal, Query, Ref, Rule, RuleHead, Span};

use crate::policy::{
    builtins,
    solutions::children,
    syntax::{dotted_name, flatten},
};

/// A call of a builtin whose own place, or that of one of its operands, is where the engine puts an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub name: String,
    /// What the engine's sentences for it, when it is an operator, start with.
    pub words: &'static [&'static str],
    /// From 1.
    pub operand: Option<usize>,
    pub operands: usize,
    /// Where the call starts, as the engine counts columns.
    pub at: (u32, u32),
}

// === impl Site ===

impl Site {
    pub(super) fn is_named(&self, message: &str) -> bool {
        let rest = message.strip_prefix('`').unwrap_or(message).strip_prefix(&self.name);
        rest.is_some_and(|rest| rest.starts_with(['`', ':'])) || self.words.iter().any(|word| message.starts_with(word))
    }
}

/// The call that an expression is, if it or one of its operands is at the place.
pub(super) fn site(expr: &Expr, place: (u32, u32)) -> Option<Site> {
    let here = |span: &Span| (span.line, span.col) == place;
    let (name, words, operands): (String, &'static [&'static str], Vec<&Ref<Expr>>) = match expr {
        Expr::Call { fcn, params, .. } => (dotted_name(fcn)?, &[], params.iter().collect()),
        Expr::ArithExpr { op, lhs, rhs, .. } => {
            let (name, words): (_, &[_]) = match op {
                ArithOp::Add => ("plus", &["`add`"]),
                ArithOp::Sub => ("minus", &["`sub`", "`difference`"]),
                ArithOp::Mul => ("mul", &["`mul`"]),
                ArithOp::Div => ("div", &["`div`", "divide"]),
                ArithOp::Mod => ("rem", &["`mod`", "modulo"]),
            };
            (name.to_owned(), words, vec![lhs, rhs])
        }
        Expr::BinExpr { op, lhs, rhs, .. } => {
            let (name, words): (_, &[_]) = match op {
                BinOp::Union => ("or", &["`union`"]),
                BinOp::Intersection => ("and", &["`intersection`"]),
            };
            (name.to_owned(), words, vec![lhs, rhs])
        }
        _ => return None,
    };
    if matches!(expr, Expr::Call { .. }) && builtins::arity(&name).is_none() {
        return None;
    }
    // An operator that is an operand became a call, which starts where its first operand does.
    let is_operator = |operand: &Expr| matches!(operand, Expr::ArithExpr { .. } | Expr::BinExpr { .. });
    let is_here = |operand: &Expr| here(operand.span()) || is_operator(operand) && here(start(operand));
    let operand = operands.iter().position(|operand| is_here(operand)).map(|index| index + 1);
    let own = here(expr.span());
    let start = start(expr);
    (own || operand.is_some()).then_some(Site {
        name,
        words,
        operand: if own { None } else { operand },
        operands: operands.len(),
        at: (start.line, start.col),
    })
}

/// Where the text of an expression starts: the engine puts a call at its parenthesis, and an operator at itself.
fn start(expr: &Expr) -> &Span {
    match expr {
        Expr::ArithExpr { lhs, .. } | Expr::BinExpr { lhs, .. } => start(lhs),
        Expr::Call { fcn, .. } => start(fcn),
        _ => flatten(expr).map_or(expr.span(), |(root, _)| root),
    }
}

// === every expression, outer ones first ===

pub(super) fn each_in_rule<'t>(rule: &'t Rule, visit: &mut dyn FnMut(&'t Expr)) {
    match rule {
        Rule::Default { value, .. } => each(value, visit),
        Rule::Spec { head, bodies, .. } => {
            match head {
                RuleHead::Compr { refr, assign, .. } | RuleHead::Func { refr, assign, .. } => {
                    each(refr, visit);
                    if let Some(assign) = assign {
                        each(&assign.value, visit);
                    }
                }
                RuleHead::Set { refr, key, .. } => [refr].into_iter().chain(key).for_each(|expr| each(expr, visit)),
            }
            for body in bodies {
                if let Some(assign) = &body.assign {
                    each(&assign.value, visit);
                }
                each_in_query(&body.query, visit);
            }
        }
    }
}

pub(super) fn each_in_query<'t>(query: &'t Query, visit: &mut dyn FnMut(&'t Expr)) {
    for statement in &query.stmts {
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                key.iter().chain([value, collection]).for_each(|expr| each(expr, visit));
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => each(expr, visit),
            Literal::Every { domain, query, .. } => {
                each(domain, visit);
                each_in_query(query, visit);
            }
        }
        statement.with_mods.iter().for_each(|with| each(&with.r#as, visit));
    }
}

fn each<'t>(expr: &'t Expr, visit: &mut dyn FnMut(&'t Expr)) {
    visit(expr);
    match expr {
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            each(term, visit);
            each_in_query(query, visit);
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            each(key, visit);
            each(value, visit);
            each_in_query(query, visit);
        }
        _ => children(expr).into_iter().for_each(|child| each(child, visit)),
    }
}
