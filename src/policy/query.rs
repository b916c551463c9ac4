//! Ad-hoc queries: any Rego query against the loaded policies and data, with its bindings, in the shape that OPA's query
//! API and `opa eval` print. Queries pass the checks that rules pass.

use regorus::{
    Value,
    unstable::{Expr, Literal, Query},
};

use super::{EvalError, EvalErrorKind, EvalOptions, Location, PolicySet, builtins, check, json};

/// The engine's name for the text of a query.
const QUERY_FILE: &str = "<query.rego>";

/// The result of an ad-hoc query, in OPA's shape. No row: undefined.
#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    /// One row per way to satisfy the query.
    pub rows: Vec<QueryRow>,
    /// What `print` was given, a line each.
    pub prints: Vec<String>,
}

/// One row.
#[derive(Debug, Clone)]
pub struct QueryRow {
    /// One value per expression of the query.
    pub expressions: Vec<ExpressionValue>,
    /// The query's variables, by name.
    pub bindings: Vec<(String, Value)>,
}

/// One expression.
#[derive(Debug, Clone)]
pub struct ExpressionValue {
    /// Its value.
    pub value: Value,
    /// Its text in the query.
    pub text: String,
    /// 1-based, in the query.
    pub row: u32,
    /// 1-based, in the query.
    pub col: u32,
}

// === impl PolicySet ===

impl PolicySet {
    /// Evaluates an ad-hoc query.
    ///
    /// # Errors
    /// [`EvalErrorKind::Query`] when it does not pass the checks; else as [`PolicySet::evaluate`].
    pub fn query(&self, query: &str, input: Option<Value>, options: &EvalOptions) -> Result<QueryResult, EvalError> {
        let (facts, tree) = check::query(query, &self.facts)?;
        let shape = Shape::of(&tree);
        let extra: Vec<&'static str> = builtins::used([&facts]).into_iter().collect();
        let result = self.run(input, options, &extra, |engine| {
            let results = engine.eval_query(query.to_owned(), false)?;
            Ok((results, engine.take_prints()?))
        });
        let (result, prints) = result.map_err(|mut error| {
            if let Some(Location { file, .. }) = &mut error.location
                && file == QUERY_FILE
            {
                *file = "query".to_owned();
            }
            error
        })?;
        let rows: Vec<QueryRow> = result.result.into_iter().map(row).filter(|row| shape.holds(row)).collect();
        let mut left = self.max_result_bytes();
        for value in rows.iter().flat_map(|row| row.expressions.iter().map(|e| &e.value)) {
            if !json::spend_value(value, &mut left) {
                return Err(EvalError::new(EvalErrorKind::OutputLimit, "result of the query is too large"));
            }
        }
        let prints = prints.into_iter().map(|line| self.without_place(&line).to_owned()).collect();
        Ok(QueryResult { rows, prints })
    }

    /// What `print` was given; the engine puts the place before it.
    pub(super) fn without_place<'l>(&self, line: &'l str) -> &'l str {
        let files = self.modules().iter().map(|module| module.id.as_str()).chain([QUERY_FILE]);
        let rest = files.filter_map(|file| line.strip_prefix(file)?.strip_prefix(':')).min_by_key(|rest| rest.len());
        rest.and_then(|rest| rest.split_once(": ")).map_or(line, |(_, message)| message)
    }
}

// === impl Shape ===

/// What a query must give to be satisfied.
struct Shape {
    /// Its expressions.
    statements: usize,
    /// `false` is an answer. Only of a query of one expression that is tested once; else it means that there is none.
    may_be_false: bool,
}

impl Shape {
    fn of(query: &Query) -> Self {
        let may_be_false = match query.stmts.as_slice() {
            [only] => match &only.literal {
                Literal::Expr { expr, .. } => !matches!(**expr, Expr::AssignExpr { .. }) && !iterates(expr),
                _ => false,
            },
            _ => false,
        };
        let silent = query.stmts.iter().filter(|statement| matches!(statement.literal, Literal::SomeVars { .. }));
        Self { statements: query.stmts.len() - silent.count(), may_be_false }
    }

    fn holds(&self, row: &QueryRow) -> bool {
        row.expressions.len() >= self.statements
            && row.expressions.iter().all(|expression| match expression.value {
                Value::Undefined => false,
                Value::Bool(false) => self.may_be_false,
                _ => true,
            })
    }
}

/// Does a reference of the expression have a variable among its steps? Comprehensions keep theirs to themselves.
fn iterates(expr: &Expr) -> bool {
    match expr {
        Expr::RefBrack { refr, index, .. } => matches!(**index, Expr::Var { .. }) || iterates(refr) || iterates(index),
        Expr::RefDot { refr, .. } => iterates(refr),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().any(|item| iterates(item)),
        Expr::Object { fields, .. } => fields.iter().any(|(_, key, value)| iterates(key) || iterates(value)),
        Expr::Call { params, .. } => params.iter().any(|param| iterates(param)),
        Expr::UnaryExpr { expr, .. } => iterates(expr),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => iterates(lhs) || iterates(rhs),
        Expr::Membership { key, value, collection, .. } => {
            key.as_ref().is_some_and(|key| iterates(key)) || iterates(value) || iterates(collection)
        }
        _ => false,
    }
}

fn row(row: regorus::QueryResult) -> QueryRow {
    let expressions = row.expressions.into_iter().map(|expression| ExpressionValue {
        value: expression.value,
        text: expression.text.to_string(),
        row: expression.location.row,
        col: expression.location.col,
    });
    let bindings = row.bindings.as_object().map(|members| {
        members
            .iter_sorted()
            .map(|(name, value)| (name.as_string().map_or("", |n| n).to_owned(), value.clone()))
            .collect()
    });
    QueryRow { expressions: expressions.collect(), bindings: bindings.unwrap_or_default() }
}
