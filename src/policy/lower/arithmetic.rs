//! Operators as calls: `a + b` becomes `__claimgate_plus(a, b)`, and what `some … in` goes through is asked to be a
//! collection. The engine fails where OPA has no value, and rounds fractions differently; see [`super::operators`]. What
//! an operator's place cannot be found for stays as it is.

use regorus::unstable::{ArithOp, BinOp, Expr, Literal, Module, Query, Ref, Rule, RuleHead};

use super::{
    lex::{Kind, Lexer, Token},
    operators::{COLLECTION, PREFIX},
    rewrite::{Rewriter, Rewritten, offset},
};
use crate::policy::syntax::parts;

/// Text that stands in place of a range.
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

struct Operators<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    edits: Vec<Edit>,
}

/// The module with calls in place of operators; `None` when it has none.
pub(super) fn of_module(text: &str, module: &Module) -> Option<Rewritten> {
    let mut operators = Operators { text, tokens: Vec::new(), edits: Vec::new() };
    for rule in &module.policy {
        operators.rule(rule);
    }
    operators.finish()
}

/// The same for an ad-hoc query.
pub(super) fn of_query(text: &str, query: &Query) -> Option<Rewritten> {
    let mut operators = Operators { text, tokens: Vec::new(), edits: Vec::new() };
    operators.query(query);
    operators.finish()
}

// === impl Operators ===

impl Operators<'_> {
    fn finish(mut self) -> Option<Rewritten> {
        if self.edits.is_empty() {
            return None;
        }
        // Of what is put in at one place, the outer opens first and the inner closes first: as they were found.
        self.edits.sort_by_key(|edit| edit.start);
        let mut rewriter = Rewriter::new(self.text);
        for edit in &self.edits {
            rewriter.copy(edit.start);
            rewriter.skip(edit.end);
            rewriter.insert(&edit.text);
        }
        Some(rewriter.finish())
    }

    fn rule(&mut self, rule: &Rule) {
        match rule {
            Rule::Default { value, .. } => self.expr(value),
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { refr, assign, .. } => {
                        self.expr(refr);
                        assign.iter().for_each(|assign| self.expr(&assign.value));
                    }
                    RuleHead::Func { refr, assign, .. } => {
                        self.expr(refr);
                        assign.iter().for_each(|assign| self.expr(&assign.value));
                    }
                    RuleHead::Set { refr, key, .. } => {
                        self.expr(refr);
                        key.iter().for_each(|key| self.expr(key));
                    }
                }
                for body in bodies {
                    body.assign.iter().for_each(|assign| self.expr(&assign.value));
                    self.query(&body.query);
                }
            }
        }
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { collection, .. } => {
                    let asked = !is_collection(collection);
                    if asked {
                        self.open(collection, COLLECTION);
                    }
                    self.expr(collection);
                    if asked {
                        self.close(collection);
                    }
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
                Literal::Every { domain, query, .. } => {
                    self.expr(domain);
                    self.query(query);
                }
            }
            statement.with_mods.iter().for_each(|modifier| self.expr(&modifier.r#as));
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                let (sign, name) = match op {
                    ArithOp::Add => (b'+', "plus"),
                    ArithOp::Sub => (b'-', "minus"),
                    ArithOp::Mul => (b'*', "mul"),
                    ArithOp::Div => (b'/', "div"),
                    ArithOp::Mod => (b'%', "rem"),
                };
                self.infix(expr, (lhs, rhs), sign, name);
            }
            Expr::BinExpr { op, lhs, rhs, .. } => {
                let (sign, name) = match op {
                    BinOp::Union => (b'|', "or"),
                    BinOp::Intersection => (b'&', "and"),
                };
                self.infix(expr, (lhs, rhs), sign, name);
            }
            // The engine knows no minus but that of a number.
            Expr::UnaryExpr { expr: operand, .. } if !matches!(operand.as_ref(), Expr::Number { .. }) => {
                let start = offset(expr.span().start);
                if self.text.get(start..).is_some_and(|rest| rest.starts_with('-')) {
                    self.replace(start, start + 1, &format!("{PREFIX}minus(0, "));
                    self.expr(operand);
                    self.close(expr);
                } else {
                    self.expr(operand);
                }
            }
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

    fn infix(&mut self, whole: &Expr, (left, right): (&Ref<Expr>, &Ref<Expr>), sign: u8, name: &str) {
        let sign = self.sign(left, sign);
        if sign.is_some() {
            self.open(whole, &format!("{PREFIX}{name}"));
        }
        self.expr(left);
        if let Some(at) = sign {
            self.replace(at, at + 1, ",");
        }
        self.expr(right);
        if sign.is_some() {
            self.close(whole);
        }
    }

    /// Where the sign behind an operand stands: only what closes the operand may come before it.
    fn sign(&mut self, left: &Expr, sign: u8) -> Option<usize> {
        if self.tokens.is_empty() {
            self.tokens = Lexer::new(self.text, 0).collect();
        }
        let mut end = offset(left.span().end);
        if let Expr::Set { items, .. } = left
            && items.is_empty()
        {
            // The span of `set()` may end before what closes it.
            let start = offset(left.span().start);
            end = start + self.text.get(start..)?.find(')')? + 1;
        }
        let behind = self.tokens.partition_point(|token| token.start < end);
        let mut rest = self.tokens.get(behind..).unwrap_or_default().iter();
        let token = rest.find(|token| token.kind != Kind::Symbol(b')'))?;
        (token.kind == Kind::Symbol(sign)).then_some(token.start)
    }

    fn open(&mut self, expr: &Expr, name: &str) {
        let start = offset(expr.span().start);
        // The span of a string leaves its quotes out.
        let quoted = self.text.get(..start).is_some_and(|before| before.ends_with(['"', '`']));
        let start = start - usize::from(quoted);
        self.replace(start, start, &format!("{name}("));
    }

    fn close(&mut self, expr: &Expr) {
        let end = offset(expr.span().end);
        let quoted = self.text.get(end..).is_some_and(|after| after.starts_with(['"', '`']));
        let end = end + usize::from(quoted);
        self.replace(end, end, ")");
    }

    fn replace(&mut self, start: usize, end: usize, text: &str) {
        self.edits.push(Edit { start, end, text: text.to_owned() });
    }
}

/// Has it elements whatever the values in it are?
fn is_collection(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Array { .. }
            | Expr::Set { .. }
            | Expr::Object { .. }
            | Expr::ArrayCompr { .. }
            | Expr::SetCompr { .. }
            | Expr::ObjectCompr { .. }
    )
}
