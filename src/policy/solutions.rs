//! An ad-hoc query as an array comprehension of its solutions: `x := [1, 2][_]; x > 1` becomes
//! `[[[true, e1], {"x": x}] | x := [1, 2][_]; e1 := x > 1; e1]`. The engine's own gathering of results is made for simple
//! queries: it keeps what an expression gave in a solution that failed later, and takes a failed `not` for a solution.
//! The body of a comprehension is evaluated as the body of a rule is. Positions are told in the original query.

use std::collections::BTreeMap;

use regorus::{
    Value,
    unstable::{Expr, Literal, LiteralStmt, Query, Span},
};

use super::{
    ExpressionValue, Location, QueryRow, builtins,
    syntax::{self, Callee, Names, RuleFacts},
};

/// Starts the names of the variables that hold values of expressions.
const CAPTURED: &str = "__claimgate_value_";

/// A query rewritten.
#[derive(Debug)]
pub(super) struct Solutions<'q> {
    original: &'q str,
    /// What to evaluate: gives an array.
    pub text: String,
    /// Text that stands in both: offset here, offset in the original, length.
    copied: Vec<(usize, usize, usize)>,
    /// The query's variables and where each is first named.
    variables: BTreeMap<String, Location>,
    names_all_data: bool,
    /// Text and place of each expression.
    expressions: Vec<(String, u32, u32)>,
}

// === impl Solutions ===

impl<'q> Solutions<'q> {
    pub(super) fn new(original: &'q str, tree: &Query, facts: &RuleFacts, names: &Names) -> Self {
        let mut variables = BTreeMap::new();
        for statement in &tree.stmts {
            statement_variables(statement, &mut variables);
        }
        let tested = match tree.stmts.as_slice() {
            [LiteralStmt { literal: Literal::Expr { expr, .. }, .. }] => iterates(expr),
            _ => true,
        };
        let names_all_data = match tree.stmts.as_slice() {
            [LiteralStmt { literal: Literal::Expr { expr, .. }, .. }] => match &**expr {
                Expr::AssignExpr { lhs, rhs, .. } => is_data(lhs) || is_data(rhs),
                expr => is_data(expr),
            },
            _ => false,
        };
        let mut solutions = Self {
            original,
            text: String::new(),
            copied: Vec::new(),
            variables,
            names_all_data,
            expressions: Vec::new(),
        };
        let mut body = Vec::new();
        let mut values = Vec::new();
        for (index, statement) in tree.stmts.iter().enumerate() {
            let (start, end) = extent(original, statement);
            let declaration = matches!(statement.literal, Literal::SomeVars { .. });
            let captured = match &statement.literal {
                Literal::Expr { expr, .. } if has_value(expr, facts, names) => Some(format!("{CAPTURED}{index}")),
                _ => None,
            };
            if !declaration {
                values.push(captured.clone().unwrap_or_else(|| "true".to_owned()));
                let (row, col) = place(original, start);
                solutions.expressions.push((original.get(start..end).unwrap_or_default().to_owned(), row, col));
            }
            body.push((captured, start, end));
        }
        let bindings: Vec<String> = solutions.variables.keys().map(|name| format!("\"{name}\": {name}")).collect();
        solutions.text = format!("[[[{}], {{{}}}] |", values.join(", "), bindings.join(", "));
        for (captured, start, end) in body {
            solutions.text.push('\n');
            if let Some(name) = &captured {
                solutions.text.push_str(&format!("{name} := "));
            }
            solutions.copied.push((solutions.text.len(), start, end - start));
            solutions.text.push_str(original.get(start..end).unwrap_or_default());
            if let Some(name) = captured.filter(|_| tested) {
                solutions.text.push_str(&format!("\n{name}"));
            }
        }
        solutions.text.push_str("\n]");
        solutions
    }

    /// Is one side of the query, or all of it, the whole of `data`?
    pub(super) fn names_all_data(&self) -> bool {
        self.names_all_data
    }

    /// The rows of what the text gave.
    pub(super) fn rows(&self, result: &Value) -> Vec<QueryRow> {
        let Value::Array(rows) = result else { return Vec::new() };
        rows.iter().filter_map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &Value) -> Option<QueryRow> {
        let Value::Array(parts) = row else { return None };
        let (Some(Value::Array(values)), Some(Value::Object(members))) = (parts.first(), parts.get(1)) else {
            return None;
        };
        let expressions = values.iter().zip(&self.expressions).map(|(value, (text, row, col))| ExpressionValue {
            value: value.clone(),
            text: text.clone(),
            row: *row,
            col: *col,
        });
        let bindings = self
            .variables
            .keys()
            .filter_map(|name| members.get(&Value::from(name.as_str())).map(|value| (name.clone(), value.clone())));
        Some(QueryRow { expressions: expressions.collect(), bindings: bindings.collect() })
    }

    /// The place in the original that a place in the text stands for. `message` may name a variable.
    pub(super) fn original_place(&self, at: &mut Location, message: &str) {
        if let Some(offset) = offset(&self.text, at.row, at.col) {
            let copied = self.copied.iter().find(|(start, _, length)| (*start..*start + *length).contains(&offset));
            if let Some((start, original, _)) = copied {
                (at.row, at.col) = place(self.original, original + (offset - start));
                return;
            }
        }
        let named = self.variables.iter().find(|(name, _)| message.contains(&format!("var {name} ")));
        (at.row, at.col) = named.map_or((1, 1), |(_, place)| (place.row, place.col));
    }
}

/// From where to where a statement reaches. Spans of strings leave their quotes out.
pub(super) fn extent(text: &str, statement: &LiteralStmt) -> (usize, usize) {
    let offset = |at: u32| usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
    let mut end = statement.span.end;
    match &statement.literal {
        Literal::SomeIn { collection, .. } => end = end.max(collection.span().end),
        Literal::SomeVars { vars, .. } => end = vars.iter().map(|var| var.end).fold(end, u32::max),
        _ => {}
    }
    end = statement.with_mods.iter().map(|with| with.r#as.span().end).fold(end, u32::max);
    let (mut start, mut end) = (offset(statement.span.start), offset(end));
    let quote = |c: char| matches!(c, '"' | '`');
    if let Some(before) = text.get(..start)
        && before.ends_with(quote)
    {
        start -= 1;
    }
    if let Some(after) = text.get(end..)
        && after.starts_with(quote)
    {
        end += 1;
    }
    (start, end.max(start))
}

/// Row and column of an offset.
fn place(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (narrow(before.matches('\n').count() + 1), narrow(line.chars().count() + 1))
}

/// The offset of a row and column.
fn offset(text: &str, row: u32, col: u32) -> Option<usize> {
    let lines = usize::try_from(row.checked_sub(1)?).ok()?;
    let start: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    let column = usize::try_from(col.checked_sub(1)?).ok()?;
    text.get(start..)?.char_indices().nth(column).map(|(at, _)| start + at)
}

/// Has the expression a value to show? An assignment has none, nor a call whose last argument receives its result.
fn has_value(expr: &Expr, facts: &RuleFacts, names: &Names) -> bool {
    match expr {
        Expr::AssignExpr { .. } => false,
        Expr::Call { fcn, params, .. } => {
            let places = [syntax::location(expr.span()), syntax::location(fcn.span())];
            let call = facts.calls.iter().find(|call| places.contains(&call.location));
            let arity = call.and_then(|call| match &call.callee {
                Callee::Builtin(name) => builtins::arity(name),
                Callee::Function(_) => names.function_arity(&call.callee),
            });
            arity.is_none_or(|arity| params.len() <= arity)
        }
        _ => true,
    }
}

/// Does a reference of the expression have a variable among its steps? Comprehensions keep theirs to themselves.
fn iterates(expr: &Expr) -> bool {
    match expr {
        Expr::RefBrack { index, .. } if matches!(**index, Expr::Var { .. }) => true,
        expr => children(expr).iter().any(|child| iterates(child)),
    }
}

/// The first variable that nothing in the query can bind: the engine takes it for undefined, OPA for an error.
pub(super) fn unbound(tree: &Query) -> Option<(String, Location)> {
    let (mut all, mut bound) = (BTreeMap::new(), BTreeMap::new());
    for statement in &tree.stmts {
        statement_variables(statement, &mut all);
        match &statement.literal {
            Literal::SomeIn { key, value, .. } => {
                key.iter().chain([value]).for_each(|expr| variables(expr, &mut bound));
            }
            Literal::Expr { expr, .. } => bind(expr, false, &mut bound),
            _ => {}
        }
        if let Literal::SomeIn { collection: expr, .. } | Literal::Every { domain: expr, .. } = &statement.literal {
            bind(expr, false, &mut bound);
        }
    }
    all.into_iter().filter(|(name, _)| !bound.contains_key(name)).min_by_key(|(_, at)| (at.row, at.col))
}

/// Collects what stands where a variable may get its value: a side of `=`, a step of a reference, an argument.
fn bind(expr: &Expr, here: bool, found: &mut BTreeMap<String, Location>) {
    match expr {
        Expr::Var { span, .. } if here => variable(span, found),
        Expr::RefBrack { refr, index, .. } => {
            bind(refr, false, found);
            bind(index, true, found);
        }
        Expr::AssignExpr { .. } | Expr::Call { .. } | Expr::Membership { .. } => {
            children(expr).iter().for_each(|child| bind(child, true, found));
        }
        Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } => {
            children(expr).iter().for_each(|child| bind(child, here, found));
        }
        other => children(other).iter().for_each(|child| bind(child, false, found)),
    }
}

fn is_data(expr: &Expr) -> bool {
    matches!(expr, Expr::Var { span, .. } if span.text() == "data")
}

fn statement_variables(statement: &LiteralStmt, found: &mut BTreeMap<String, Location>) {
    match &statement.literal {
        Literal::SomeVars { vars, .. } => vars.iter().for_each(|var| variable(var, found)),
        Literal::SomeIn { key, value, collection, .. } => {
            key.iter().chain([value, collection]).for_each(|expr| variables(expr, found));
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => variables(expr, found),
        Literal::Every { domain, .. } => variables(domain, found),
    }
    // `with f as max` names a builtin, not a variable.
    let values = statement.with_mods.iter().map(|with| &*with.r#as);
    values.filter(|value| builtins::arity(value.span().text()).is_none()).for_each(|value| variables(value, found));
}

fn variables(expr: &Expr, found: &mut BTreeMap<String, Location>) {
    if let Expr::Var { span, .. } = expr {
        variable(span, found);
    }
    children(expr).iter().for_each(|child| variables(child, found));
}

fn variable(span: &Span, found: &mut BTreeMap<String, Location>) {
    let name = span.text();
    if !matches!(name, "_" | "input" | "data") {
        found.entry(name.to_owned()).or_insert_with(|| syntax::location(span));
    }
}

/// The parts of an expression that share its variables; not the name of a function.
pub(super) fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::RefBrack { refr, index, .. } => vec![refr, index],
        Expr::RefDot { refr, .. } => vec![refr],
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().map(|item| &**item).collect(),
        Expr::Object { fields, .. } => fields.iter().flat_map(|(_, key, value)| [&**key, &**value]).collect(),
        Expr::Call { params, .. } => params.iter().map(|param| &**param).collect(),
        Expr::UnaryExpr { expr, .. } => vec![expr],
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership { key, value, collection, .. } => {
            key.iter().chain([value, collection]).map(|part| &**part).collect()
        }
        _ => Vec::new(),
    }
}
