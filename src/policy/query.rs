//! Ad-hoc queries: any Rego query against the loaded policies and data, with its bindings, in the shape that OPA's query
//! API and `opa eval` print. Queries pass the checks that rules pass.

use regorus::Value;

use super::{
    EvalError, EvalErrorKind, EvalOptions, PolicySet, check, json, lower,
    set::QUERY,
    solutions::{self, Solutions},
};

/// The engine's name for the text of a query.
pub(super) const QUERY_FILE: &str = "<query.rego>";

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
        let (text, origins) = lower::query(query)
            .and_then(|(text, origins)| lower::in_scope(text, origins, &options.scope, &self.facts.names))
            .map_err(|error| EvalError::query(error.code, error.message, error.location))?;
        self.query_lowered(&text, options, input)
            .map_err(|mut error| {
                if let Some(at) = &mut error.location {
                    origins.original(at);
                }
                error
            })
            .map(|mut result| {
                for expression in result.rows.iter_mut().flat_map(|row| &mut row.expressions) {
                    origins.original_expression(expression, query);
                }
                result
            })
    }

    /// As [`PolicySet::query`], of a text that the engine's parser can read.
    fn query_lowered(
        &self,
        query: &str,
        options: &EvalOptions,
        input: Option<Value>,
    ) -> Result<QueryResult, EvalError> {
        let (facts, tree) = check::query(query, &self.facts, self.has_network(), false)?;
        if let Some(name) = check::network_call(&facts).filter(|_| options.foreign_query) {
            let message = format!("unsafe built-in function calls in expression: {name}");
            return Err(EvalError::query("rego_type_error", message, None));
        }
        if let Some((name, at)) = solutions::unbound(&tree) {
            return Err(EvalError::query("rego_unsafe_var_error", format!("var {name} is unsafe"), Some(at)));
        }
        let solutions = Solutions::new(query, &tree, &facts, &self.facts.names);
        let in_query = |mut error: EvalError| {
            if let Some(at) = error.location.as_mut().filter(|at| at.file == QUERY) {
                solutions.original_place(at, &error.message);
            }
            error
        };
        let (rows, prints) = if solutions.names_all_data() {
            // The engine cannot assemble all of `data` inside of a comprehension.
            let (result, prints) = self.run_query(query, &facts, input, options)?;
            (result.result.into_iter().map(row).collect(), prints)
        } else {
            let (facts, _) = check::query(&solutions.text, &self.facts, self.has_network(), true).map_err(in_query)?;
            let (result, prints) = self.run_query(&solutions.text, &facts, input, options).map_err(in_query)?;
            let value = result.result.into_iter().next().and_then(|row| row.expressions.into_iter().next());
            (value.map(|expression| solutions.rows(&expression.value)).unwrap_or_default(), prints)
        };
        let mut left = self.max_result_bytes();
        let expressions = rows.iter().flat_map(|row| row.expressions.iter().map(|e| &e.value));
        for value in expressions.chain(rows.iter().flat_map(|row| row.bindings.iter().map(|(_, value)| value))) {
            if !json::spend_value(value, &mut left) {
                return Err(EvalError::new(EvalErrorKind::OutputLimit, "result of the query is too large"));
            }
        }
        let prints = prints.into_iter().map(|line| self.without_place(&line).to_owned()).collect();
        Ok(QueryResult { rows, prints })
    }

    /// What `print` was given; the engine puts the place before it.
    pub(super) fn without_place<'l>(&self, line: &'l str) -> &'l str {
        let files = self.files.iter().map(|file| file.id.as_str()).chain([QUERY_FILE]);
        let rest = files.filter_map(|file| line.strip_prefix(file)?.strip_prefix(':')).min_by_key(|rest| rest.len());
        rest.and_then(|rest| rest.split_once(": ")).map_or(line, |(_, message)| message)
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
        let members = members.iter_sorted();
        members.map(|(name, value)| (name.as_string().map_or("", |n| n).to_owned(), value.clone())).collect()
    });
    QueryRow { expressions: expressions.collect(), bindings: bindings.unwrap_or_default() }
}
