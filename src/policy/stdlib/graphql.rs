//! `graphql.*`: documents and schemas parsed and checked with OPA's grammar, tree and sentences. No resolver is here:
//! nothing is executed, and nothing is kept between calls.

mod ast;
mod lexer;
mod parser;
mod schema;
#[cfg(test)]
mod tests;
mod validate;

use regorus::Value;
use serde::{Serialize, de::DeserializeOwned};

use self::{
    ast::{QueryDocument, SchemaDocument},
    validate::Complaint,
};
use super::super::{builtins::BuiltinError, json::to_opa_json};
use super::{
    Outcome,
    operand::{self, failed},
};

/// Deepest tree that a policy may hand in.
const MAX_DEPTH: usize = 400;

/// Row and column from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    row: i64,
    col: i64,
}

/// Why a document is none, or is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// A sentence of OPA's parser or checks; parts of a tree that was handed in have no place.
    At { place: Option<Place>, message: String },
    /// It would cost too much.
    Limit(String),
}

/// A failed check of the text itself is an answer of some builtins, an error of others.
type Tried<T> = Result<T, Fault>;

pub(super) fn parse_query(args: &[Value]) -> Outcome {
    let document = parser::query(operand::string(args, 0)?).map_err(Fault::in_text)?;
    tree(&document)
}

pub(super) fn parse_schema(args: &[Value]) -> Outcome {
    let document = parser::schema(operand::string(args, 0)?).map_err(Fault::in_text)?;
    tree(&document)
}

pub(super) fn schema_is_valid(args: &[Value]) -> Outcome {
    let Some(value @ (Value::String(_) | Value::Object(_))) = args.first() else { return Ok(Value::from(false)) };
    match schema_document(value).and_then(|document| schema::check(&document)) {
        Ok(_) => Ok(Value::from(true)),
        Err(Fault::Limit(message)) => Err(BuiltinError::Limit(message)),
        Err(Fault::At { .. }) => Ok(Value::from(false)),
    }
}

pub(super) fn parse(args: &[Value]) -> Outcome {
    let query = match args.first() {
        Some(Value::String(text)) => parser::query(text).map_err(Fault::in_text)?,
        Some(value @ Value::Object(_)) => from_tree(value).map_err(Fault::of_tree)?,
        other => return Err(neither(0, other)),
    };
    let document = match args.get(1) {
        Some(Value::String(text)) => parser::schema(text).map_err(Fault::in_text)?,
        Some(value @ Value::Object(_)) => from_tree(value).map_err(Fault::of_tree)?,
        other => return Err(neither(1, other)),
    };
    let schema = schema::check(&document).map_err(Fault::of_schema)?;
    let complaints = validate::check(&schema, &query).map_err(Fault::of_tree)?;
    if !complaints.is_empty() {
        return Err(failed(all(&complaints)));
    }
    Ok(Value::from(vec![tree(&query)?, tree(&document)?]))
}

pub(super) fn parse_and_verify(args: &[Value]) -> Outcome {
    let parsed = verified(args)?;
    let (valid, query, schema) = match &parsed {
        Some((query, schema)) => (true, tree(query)?, tree(schema)?),
        None => (false, Value::new_object(), Value::new_object()),
    };
    Ok(Value::from(vec![Value::from(valid), query, schema]))
}

pub(super) fn is_valid(args: &[Value]) -> Outcome {
    Ok(Value::from(verified(args)?.is_some()))
}

/// Both documents, when the query is one of the schema.
fn verified(args: &[Value]) -> Result<Option<(QueryDocument, SchemaDocument)>, BuiltinError> {
    let (Some(query @ (Value::String(_) | Value::Object(_))), Some(schema @ (Value::String(_) | Value::Object(_)))) =
        (args.first(), args.get(1))
    else {
        return Ok(None);
    };
    let both = || {
        let query = match query {
            Value::String(text) => parser::query(text)?,
            other => from_tree(other)?,
        };
        let document = schema_document(schema)?;
        validate::valid(&schema::check(&document)?, &query)?;
        Ok((query, document))
    };
    match both() {
        Ok(documents) => Ok(Some(documents)),
        Err(Fault::Limit(message)) => Err(BuiltinError::Limit(message)),
        Err(Fault::At { .. }) => Ok(None),
    }
}

fn neither(index: usize, got: Option<&Value>) -> BuiltinError {
    let got = got.map_or("undefined", operand::type_name);
    // Counted from 0, unlike nearly everywhere.
    BuiltinError::Type(format!("operand {index} must be one of {{string, object}} but got {got}"))
}

/// All complaints as OPA's library writes them one below the other, with the place of the first taken out.
fn all(complaints: &[Complaint]) -> String {
    let lines = complaints.iter().map(|Complaint { place, message }| match place {
        Some(Place { row, col }) => format!("input:{row}:{col}: {message}\n"),
        None => format!("input: {message}\n"),
    });
    let text: String = lines.collect();
    let mut parts = text.splitn(4, ':').skip(1);
    let numbers = [parts.next(), parts.next()].map(|part| part.and_then(|part| part.parse::<u64>().ok()));
    match (numbers, parts.next()) {
        ([Some(row), Some(col)], Some(rest)) => {
            let rest = rest.trim_start_matches(' ');
            format!("{} in GraphQL string at location {row}:{col}", rest.strip_suffix(".\n").unwrap_or(rest))
        }
        _ => format!("GraphQL parse error: {text}"),
    }
}

// === impl Fault ===

impl Fault {
    fn at(place: Option<Place>, message: impl Into<String>) -> Self {
        Self::At { place, message: message.into() }
    }

    /// As OPA says it of a tree.
    fn of_tree(self) -> BuiltinError {
        match self {
            Self::At { message, .. } => failed(message),
            Self::Limit(message) => BuiltinError::Limit(message),
        }
    }

    /// As OPA says it of a schema that does not hold.
    fn of_schema(self) -> BuiltinError {
        let about = "Error in gqlparser SchemaDocument to Schema conversion: input";
        match self {
            Self::At { place: Some(Place { row, col }), message } => failed(format!("{about}:{row}:{col}: {message}")),
            Self::At { place: None, message } => failed(format!("{about}: {message}")),
            Self::Limit(message) => BuiltinError::Limit(message),
        }
    }

    /// As OPA says it of the text that was handed in.
    fn in_text(self) -> BuiltinError {
        match self {
            Self::At { place: Some(Place { row, col }), message } if row >= 0 && col >= 0 => {
                failed(format!("{} in GraphQL string at location {row}:{col}", message.trim_start_matches(' ')))
            }
            Self::At { place: Some(Place { row, col }), message } => {
                failed(format!("GraphQL parse error: input:{row}:{col}: {message}"))
            }
            Self::At { place: None, message } => failed(format!("GraphQL parse error: input: {message}")),
            Self::Limit(message) => BuiltinError::Limit(message),
        }
    }
}

// === trees ===

fn schema_document(value: &Value) -> Tried<SchemaDocument> {
    match value {
        Value::String(text) => parser::schema(text),
        other => from_tree(other),
    }
}

/// A tree as a policy sees it: without what is null or empty.
fn tree<T: Serialize>(document: &T) -> Outcome {
    let json = serde_json::to_value(document).map_err(|error| failed(error.to_string()))?;
    Ok(pruned(json).unwrap_or_else(Value::new_object))
}

fn pruned(json: serde_json::Value) -> Option<Value> {
    use serde_json::Value as Json;
    match json {
        Json::Null => None,
        Json::Bool(value) => Some(Value::from(value)),
        Json::Number(number) => Value::from_numeric_string(&number.to_string()).ok(),
        Json::String(text) => Some(Value::from(text)),
        Json::Array(items) => {
            let items: Vec<Value> = items.into_iter().filter_map(pruned).collect();
            Some(Value::from(items)).filter(|items| items.as_array().is_ok_and(|items| !items.is_empty()))
        }
        Json::Object(members) => {
            let members = members.into_iter().filter_map(|(key, member)| Some((Value::from(key), pruned(member)?)));
            let members: std::collections::BTreeMap<Value, Value> = members.collect();
            if members.is_empty() { None } else { Some(Value::from(members)) }
        }
    }
}

fn from_tree<T: DeserializeOwned>(value: &Value) -> Tried<T> {
    let json = plain(value, 0)?.unwrap_or_default();
    serde_json::from_value(json).map_err(|error| Fault::at(None, format!("json: {error}")))
}

/// A value as JSON, without null.
fn plain(value: &Value, depth: usize) -> Tried<Option<serde_json::Value>> {
    use serde_json::Value as Json;
    if depth > MAX_DEPTH {
        return Err(Fault::Limit(format!("a syntax tree nests deeper than {MAX_DEPTH}")));
    }
    let items = |items: &mut dyn Iterator<Item = &Value>| -> Tried<Option<Json>> {
        let mut all = Vec::new();
        for item in items {
            all.extend(plain(item, depth + 1)?);
        }
        Ok(Some(Json::Array(all)))
    };
    match value {
        Value::Null | Value::Undefined => Ok(None),
        Value::Bool(value) => Ok(Some(Json::Bool(*value))),
        Value::Number(_) => Ok(serde_json::from_str(&to_opa_json(value)).ok()),
        Value::String(text) => Ok(Some(Json::String(text.to_string()))),
        Value::Array(of) => items(&mut of.iter()),
        Value::Set(of) => items(&mut of.iter_sorted()),
        Value::Object(members) => {
            let mut all = serde_json::Map::new();
            for (key, member) in members.iter() {
                let key = key.as_string().map_or_else(|_| to_opa_json(key), ToString::to_string);
                if let Some(member) = plain(member, depth + 1)? {
                    all.insert(key, member);
                }
            }
            Ok(Some(Json::Object(all)))
        }
    }
}

/// A text as Go's `strconv.Quote` writes it.
pub(super) fn go_quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            ' '..='~' => out.push(c),
            c if c.is_control() || c.is_whitespace() || c == '\u{feff}' => match u32::from(c) {
                code @ 0..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
