//! Ad-hoc queries: any Rego query against the loaded policies and data, with its bindings, in the shape that OPA's query
//! API and `opa eval` print. Queries pass the checks that rules pass.

use regorus::Value;

use super::{EvalError, EvalErrorKind, EvalOptions, PolicySet, check, json};

/// The result of an ad-hoc query, in OPA's shape. No row: undefined.
#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    /// One row per way to satisfy the query.
    pub rows: Vec<QueryRow>,
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
        let facts = check::query(query, &self.facts)?;
        let result = self.run_query(query, &facts, input, options)?;
        let rows: Vec<QueryRow> = result.result.into_iter().map(row).collect();
        let mut left = self.max_result_bytes();
        for value in rows.iter().flat_map(|row| row.expressions.iter().map(|e| &e.value)) {
            if !json::spend_value(value, &mut left) {
                return Err(EvalError::new(EvalErrorKind::OutputLimit, "result of the query is too large"));
            }
        }
        Ok(QueryResult { rows })
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
