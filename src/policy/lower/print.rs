//! Expressions as text of one line, for statements that are put beside the original ones. It prints what the parser made
//! of a text, so comments, line breaks and superfluous parentheses are gone.

use regorus::{
    Value,
    unstable::{ArithOp, AssignOp, BinOp, BoolOp, Expr, Literal, Query, WithModifier},
};

use super::negation;
use crate::policy::json;

/// Prints until its budget is spent.
pub(super) struct Printer<'n> {
    /// May the name stand for a document or a rule?
    is_document: &'n dyn Fn(&str) -> bool,
    /// Nodes that may still be printed.
    left: usize,
}

impl<'n> Printer<'n> {
    pub(super) fn new(is_document: &'n dyn Fn(&str) -> bool, left: usize) -> Self {
        Self { is_document, left }
    }

    /// Was there too much to print? Then what was printed is of no use.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub(super) fn expr(&mut self, expr: &Expr) -> String {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return String::new();
        }
        match expr {
            Expr::String { value: Value::String(text), .. } | Expr::RawString { value: Value::String(text), .. } => {
                json::quote(text)
            }
            Expr::Array { items, .. } => format!("[{}]", self.list(items)),
            Expr::Set { items, .. } => format!("{{{}}}", self.list(items)),
            Expr::Object { fields, .. } => {
                let fields: Vec<String> =
                    fields.iter().map(|(_, key, value)| format!("{}: {}", self.expr(key), self.expr(value))).collect();
                format!("{{{}}}", fields.join(", "))
            }
            Expr::ArrayCompr { term, query, .. } => format!("[{} | {}]", self.expr(term), self.query(query)),
            Expr::SetCompr { term, query, .. } => format!("{{{} | {}}}", self.expr(term), self.query(query)),
            Expr::ObjectCompr { key, value, query, .. } => {
                format!("{{{}: {} | {}}}", self.expr(key), self.expr(value), self.query(query))
            }
            Expr::Call { fcn, params, .. } => format!("{}({})", self.expr(fcn), self.list(params)),
            Expr::UnaryExpr { expr, .. } => format!("-{}", self.expr(expr)),
            Expr::RefDot { refr, field, .. } => format!("{}.{}", self.expr(refr), field.0.text()),
            Expr::RefBrack { refr, index, .. } => format!("{}[{}]", self.expr(refr), self.expr(index)),
            Expr::BinExpr { op, lhs, rhs, .. } => self.infix(
                lhs,
                rhs,
                match op {
                    BinOp::Union => "|",
                    BinOp::Intersection => "&",
                },
            ),
            Expr::BoolExpr { op, lhs, rhs, .. } => self.infix(
                lhs,
                rhs,
                match op {
                    BoolOp::Lt => "<",
                    BoolOp::Le => "<=",
                    BoolOp::Eq => "==",
                    BoolOp::Ge => ">=",
                    BoolOp::Gt => ">",
                    BoolOp::Ne => "!=",
                },
            ),
            Expr::ArithExpr { op, lhs, rhs, .. } => self.infix(
                lhs,
                rhs,
                match op {
                    ArithOp::Add => "+",
                    ArithOp::Sub => "-",
                    ArithOp::Mul => "*",
                    ArithOp::Div => "/",
                    ArithOp::Mod => "%",
                },
            ),
            Expr::AssignExpr { op, lhs, rhs, .. } => {
                let sign = if *op == AssignOp::Eq { "=" } else { ":=" };
                format!("{} {sign} {}", self.expr(lhs), self.expr(rhs))
            }
            Expr::Membership { key, value, collection, .. } => {
                let key = key.as_ref().map(|key| self.expr(key) + ", ").unwrap_or_default();
                format!("({key}{} in {})", self.expr(value), self.expr(collection))
            }
            // Names, numbers, true, false, null.
            other => other.span().text().to_owned(),
        }
    }

    fn infix(&mut self, lhs: &Expr, rhs: &Expr, sign: &str) -> String {
        format!("({} {sign} {})", self.expr(lhs), self.expr(rhs))
    }

    fn list<E: std::ops::Deref<Target = Expr>>(&mut self, items: &[E]) -> String {
        items.iter().map(|item| self.expr(item)).collect::<Vec<_>>().join(", ")
    }

    fn query(&mut self, query: &Query) -> String {
        let mut statements = Vec::new();
        for statement in &query.stmts {
            let is_document = self.is_document;
            statements.extend(negation::guard(statement, is_document, self));
            let mut text = match &statement.literal {
                Literal::SomeVars { vars, .. } => {
                    format!("some {}", vars.iter().map(regorus::unstable::Span::text).collect::<Vec<_>>().join(", "))
                }
                Literal::SomeIn { key, value, collection, .. } => {
                    let key = key.as_ref().map(|key| self.expr(key) + ", ").unwrap_or_default();
                    format!("some {key}{} in {}", self.expr(value), self.expr(collection))
                }
                Literal::Expr { expr, .. } => self.expr(expr),
                Literal::NotExpr { expr, .. } => format!("not {}", self.expr(expr)),
                Literal::Every { key, value, domain, query, .. } => {
                    let key = key.as_ref().map(|key| format!("{}, ", key.text())).unwrap_or_default();
                    format!("every {key}{} in {} {{ {} }}", value.text(), self.expr(domain), self.query(query))
                }
            };
            for WithModifier { refr, r#as, .. } in &statement.with_mods {
                text.push_str(&format!(" with {} as {}", self.expr(refr), self.expr(r#as)));
            }
            statements.push(text);
        }
        statements.join("; ")
    }
}
