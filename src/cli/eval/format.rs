//! The shapes in which `eval` prints a result, byte for byte those of `opa eval`.

use std::fmt::Write as _;

use super::{Answer, Format};
use crate::cli::coverage::{json as coverage_json, percent};
use crate::policy::{ExpressionValue, QueryResult, QueryRow, Value, quote, to_opa_json, to_opa_json_pretty};

impl Format {
    pub(super) fn render(self, answer: &Answer) -> String {
        let result = &answer.result;
        match self {
            Self::Json => json(answer, result_json(result)),
            Self::Discard => json(answer, (!result.rows.is_empty()).then(|| "\"discarded\"".to_owned())),
            Self::Pretty => pretty(result) + &figures(answer),
            Self::Raw => result.rows.iter().map(|row| joined(&row.expressions, raw) + "\n").collect(),
            Self::Values => result.rows.iter().map(values).collect(),
            Self::Bindings => result.rows.iter().map(|row| bindings(row, 0) + "\n").collect(),
        }
    }
}

fn json(answer: &Answer, result: Option<String>) -> String {
    let mut members: Vec<String> = result.into_iter().map(|result| format!("  \"result\": {result}")).collect();
    if !answer.metrics.is_empty() {
        let metrics: Vec<String> =
            answer.metrics.iter().map(|(name, value)| format!("    \"{name}\": {value}")).collect();
        members.push(format!("  \"metrics\": {{\n{}\n  }}", metrics.join(",\n")));
    }
    if let Some(coverage) = &answer.coverage {
        members.push(format!("  \"coverage\": {}", indented(&coverage_json(coverage), 2)));
    }
    if members.is_empty() { "{}\n".to_owned() } else { format!("{{\n{}\n}}\n", members.join(",\n")) }
}

/// What stands below the answer for people.
fn figures(answer: &Answer) -> String {
    let mut text = String::new();
    if !answer.metrics.is_empty() {
        let titles = vec!["Metric".to_owned(), "Value".to_owned()];
        let rows = answer.metrics.iter().map(|(name, value)| vec![(*name).to_owned(), value.to_string()]);
        text.push_str(&draw(&[titles].into_iter().chain(rows).collect::<Vec<_>>()));
    }
    if let Some(coverage) = &answer.coverage {
        let cells = ["Overall Coverage".to_owned(), format!("{:.2}", percent(coverage))];
        let [title, value] = cells.each_ref().map(|cell| "─".repeat(cell.chars().count() + 2));
        let [left, right] = cells;
        text.push_str(&format!("┌{title}┬{value}┐\n│ {left} │ {right} │\n└{title}┴{value}┘\n"));
    }
    text
}

fn result_json(result: &QueryResult) -> Option<String> {
    if result.rows.is_empty() {
        return None;
    }
    let mut text = String::from("[\n");
    for (index, row) in result.rows.iter().enumerate() {
        text.push_str(if index == 0 { "    {\n" } else { ",\n    {\n" });
        text.push_str("      \"expressions\": [\n");
        for (index, ExpressionValue { value, text: source, row, col }) in row.expressions.iter().enumerate() {
            text.push_str(if index == 0 { "        {\n" } else { ",\n        {\n" });
            let _ = write!(
                text,
                "          \"value\": {},\n          \"text\": {},\n          \"location\": {{\n            \"row\": \
                 {row},\n            \"col\": {col}\n          }}\n        }}",
                indented(&to_opa_json_pretty(value), 10),
                quote(source),
            );
        }
        text.push_str("\n      ]");
        if !row.bindings.is_empty() {
            let _ = write!(text, ",\n      \"bindings\": {}", bindings(row, 6));
        }
        text.push_str("\n    }");
    }
    Some(text + "\n  ]")
}

fn bindings(row: &QueryRow, indent: usize) -> String {
    let members = row.bindings.iter().map(|(name, value)| (Value::from(name.as_str()), value.clone()));
    let object = Value::from(members.collect::<std::collections::BTreeMap<_, _>>());
    indented(&to_opa_json_pretty(&object), indent)
}

fn values(row: &QueryRow) -> String {
    let values: Vec<Value> = row.expressions.iter().map(|expression| expression.value.clone()).collect();
    to_opa_json_pretty(&Value::from(values)) + "\n"
}

/// A value for scripts: a string is its text.
fn raw(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => to_opa_json(other),
    }
}

fn joined(expressions: &[ExpressionValue], show: fn(&Value) -> String) -> String {
    expressions.iter().map(|expression| show(&expression.value)).collect::<Vec<_>>().join(" ")
}

/// Nothing in JSON but its indentation holds a line break.
fn indented(json: &str, by: usize) -> String {
    json.replace('\n', &format!("\n{}", " ".repeat(by)))
}

/// The value alone when there is nothing else to show, else a table: variables, and expressions that are no booleans.
fn pretty(result: &QueryResult) -> String {
    let Some(first) = result.rows.first() else { return "undefined\n".to_owned() };
    if let ([_], [expression], []) = (result.rows.as_slice(), first.expressions.as_slice(), first.bindings.as_slice()) {
        return to_opa_json_pretty(&expression.value) + "\n";
    }
    let shown: Vec<usize> = (0..first.expressions.len())
        .filter(|index| first.expressions.get(*index).is_some_and(|e| !matches!(e.value, Value::Bool(_))))
        .collect();
    let mut table: Vec<Vec<String>> = Vec::new();
    let titles = shown.iter().filter_map(|index| first.expressions.get(*index)).map(|e| e.text.clone());
    table.push(titles.chain(first.bindings.iter().map(|(name, _)| name.clone())).collect());
    if table.first().is_some_and(Vec::is_empty) {
        return "true\n".to_owned();
    }
    for row in &result.rows {
        let values = shown.iter().filter_map(|index| row.expressions.get(*index)).map(|e| to_opa_json(&e.value));
        table.push(values.chain(row.bindings.iter().map(|(_, value)| to_opa_json(value))).collect());
    }
    draw(&table)
}

/// A table with a centred first row.
fn draw(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let mut text = rule("┌", "┬", "┐");
    for (index, row) in table.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            if index == 0 {
                let _ = write!(text, "│ {cell:^width$} ");
            } else {
                let _ = write!(text, "│ {cell:<width$} ");
            }
        }
        text.push_str("│\n");
        if index == 0 {
            text.push_str(&rule("├", "┼", "┤"));
        }
    }
    text + &rule("└", "┴", "┘")
}
