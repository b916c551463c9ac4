//! The names that OPA has for the operators that stand between two terms.

use regorus::unstable::{ArithOp, BinOp, BoolOp, Expr, Ref};

/// OPA's name for an infix operator, and its two sides.
pub(in crate::policy) fn infix(expr: &Expr) -> Option<(&'static str, [&Ref<Expr>; 2])> {
    Some(match expr {
        Expr::BinExpr { op, lhs, rhs, .. } => {
            let name = match op {
                BinOp::Intersection => "and",
                BinOp::Union => "or",
            };
            (name, [lhs, rhs])
        }
        Expr::ArithExpr { op, lhs, rhs, .. } => {
            let name = match op {
                ArithOp::Add => "plus",
                ArithOp::Sub => "minus",
                ArithOp::Mul => "mul",
                ArithOp::Div => "div",
                ArithOp::Mod => "rem",
            };
            (name, [lhs, rhs])
        }
        Expr::BoolExpr { op, lhs, rhs, .. } => {
            let name = match op {
                BoolOp::Lt => "lt",
                BoolOp::Le => "lte",
                BoolOp::Eq => "equal",
                BoolOp::Ge => "gte",
                BoolOp::Gt => "gt",
                BoolOp::Ne => "neq",
            };
            (name, [lhs, rhs])
        }
        _ => return None,
    })
}
