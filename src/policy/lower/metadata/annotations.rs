//! METADATA comments → what `rego.metadata.*` show of them. It reads the YAML of each block and checks the types of its
//! members; what a block stands above, and what may stand there, is for the caller.

use regorus::{Value, value::Object};

use super::super::lex::comments;
use crate::policy::{json::to_opa_json, parse_yaml, stdlib::record};

const MARK: &str = "METADATA";

/// A block of comments.
pub(super) struct Block {
    /// The line of its mark.
    pub row: u32,
    /// Or the sentence that says what is wrong with it.
    pub parsed: Result<Annotation, String>,
}

/// What one block says.
pub(super) struct Annotation {
    /// As written, until the caller knows better.
    pub scope: Option<String>,
    pub entrypoint: bool,
    /// What it is about, under `data`.
    pub path: Vec<String>,
    /// File and line, for complaints.
    pub place: String,
    /// Its members but the scope.
    pub members: Vec<(&'static str, Value)>,
}

/// What an annotation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Rule,
    Document,
    Package,
    Subpackages,
}

/// The blocks of a module, in order.
pub(super) fn read(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut current: Option<(u32, u32, String)> = None;
    for (row, _, comment) in comments(text).into_iter().filter(|(_, column, _)| *column == 1) {
        let is_mark = comment.trim().starts_with(MARK);
        if let Some((start, last, lines)) = &mut current {
            if !is_mark && row == *last + 1 {
                lines.push_str(comment.strip_prefix(' ').unwrap_or(comment));
                lines.push('\n');
                *last = row;
                continue;
            }
            blocks.push(Block { row: *start, parsed: parse(lines) });
        }
        current = is_mark.then(|| (row, row, String::new()));
    }
    blocks.extend(current.map(|(row, _, lines)| Block { row, parsed: parse(&lines) }));
    blocks
}

fn parse(lines: &str) -> Result<Annotation, String> {
    if lines.trim().is_empty() {
        return Err("expected METADATA block, found whitespace".to_owned());
    }
    let value = parse_yaml(lines).map_err(|error| format!("yaml: line {}: {}", error.row, error.message))?;
    let empty = Value::new_object();
    let value = if value == Value::Null { &empty } else { &value };
    let Value::Object(block) = value else {
        return Err(format!("yaml: unmarshal errors:\n  cannot unmarshal {} into METADATA", to_opa_json(value)));
    };
    let get = |name: &str| block.get(&Value::from(name)).filter(|value| **value != Value::Null);
    let mut members = Vec::new();
    for name in ["title", "description"] {
        let text = get(name).map(|value| scalar(name, value)).transpose()?.filter(|text| !text.is_empty());
        members.extend(text.map(|text| (name, Value::from(text))));
    }
    let entrypoint = match get("entrypoint") {
        None => false,
        Some(Value::Bool(entrypoint)) => *entrypoint,
        Some(other) => return Err(unfit("entrypoint", other)),
    };
    if entrypoint {
        members.push(("entrypoint", Value::from(true)));
    }
    list(get("organizations"), "organizations", &mut members, &|item| scalar("organizations", item).map(Value::from))?;
    list(get("related_resources"), "related_resources", &mut members, &|item| {
        related(item).map_err(|error| format!("invalid related-resource definition {}: {error}", shown(item)))
    })?;
    list(get("authors"), "authors", &mut members, &|item| {
        author(item).map_err(|error| format!("invalid author definition {}: {error}", shown(item)))
    })?;
    list(get("schemas"), "schemas", &mut members, &schema)?;
    for name in ["custom", "labels"] {
        match get(name) {
            None => {}
            Some(value @ Value::Object(of)) if !of.is_empty() => members.push((name, value.clone())),
            Some(Value::Object(_)) => {}
            Some(other) => return Err(unfit(name, other)),
        }
    }
    let scope = get("scope").map(|value| scalar("scope", value)).transpose()?.filter(|scope| !scope.is_empty());
    Ok(Annotation { scope, entrypoint, path: Vec::new(), place: String::new(), members })
}

/// A text is shown without quotes.
fn shown(value: &Value) -> String {
    value.as_string().map_or_else(|_| to_opa_json(value), ToString::to_string)
}

/// A text, or a number or boolean as text.
fn scalar(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        Value::Null => Ok(String::new()),
        Value::Number(_) | Value::Bool(_) => Ok(to_opa_json(value)),
        other => Err(unfit(name, other)),
    }
}

fn unfit(name: &str, value: &Value) -> String {
    format!("yaml: unmarshal errors:\n  cannot unmarshal {} into {name}", to_opa_json(value))
}

/// Adds a list that is not empty.
fn list(
    value: Option<&Value>,
    name: &'static str,
    members: &mut Vec<(&'static str, Value)>,
    of: &dyn Fn(&Value) -> Result<Value, String>,
) -> Result<(), String> {
    match value {
        None => {}
        Some(Value::Array(items)) if items.is_empty() => {}
        Some(Value::Array(items)) => {
            members.push((name, Value::from(items.iter().map(of).collect::<Result<Vec<_>, _>>()?)));
        }
        Some(other) => return Err(unfit(name, other)),
    }
    Ok(())
}

fn text_of(object: &Object, name: &str) -> String {
    match object.get(&Value::from(name)) {
        Some(Value::String(text)) => text.trim().to_owned(),
        _ => String::new(),
    }
}

/// The members that are not empty.
fn object_of<const N: usize>(members: [(&str, String); N]) -> Value {
    let members = members.into_iter().filter(|(_, text)| !text.is_empty());
    let members = members.map(|(name, text)| (Value::from(name), Value::from(text)));
    Value::from(members.collect::<std::collections::BTreeMap<_, _>>())
}

fn related(item: &Value) -> Result<Value, String> {
    match item {
        Value::String(text) if text.is_empty() => Err("ref URL may not be empty string".to_owned()),
        Value::String(text) => Ok(object_of([("ref", text.to_string())])),
        Value::Object(object) => match text_of(object, "ref") {
            text if text.is_empty() => Err("'ref' value required in object".to_owned()),
            text => Ok(object_of([("ref", text), ("description", text_of(object, "description"))])),
        },
        _ => Err("invalid value type, must be string or map".to_owned()),
    }
}

fn author(item: &Value) -> Result<Value, String> {
    match item {
        Value::String(text) => {
            let mut words: Vec<&str> = text.split_whitespace().collect();
            let Some(last) = words.last() else { return Err("author is an empty string".to_owned()) };
            let email = last.strip_prefix('<').and_then(|last| last.strip_suffix('>')).unwrap_or_default().to_owned();
            if last.len() >= 2 && last.starts_with('<') && last.ends_with('>') {
                words.pop();
            }
            Ok(object_of([("name", words.join(" ")), ("email", email)]))
        }
        Value::Object(object) => match (text_of(object, "name"), text_of(object, "email")) {
            (name, email) if name.is_empty() && email.is_empty() => {
                Err("'name' and/or 'email' values required in object".to_owned())
            }
            (name, email) => Ok(object_of([("name", name), ("email", email)])),
        },
        _ => Err("invalid value type, must be string or map".to_owned()),
    }
}

/// `- input: schema.x`, or with the schema itself.
fn schema(item: &Value) -> Result<Value, String> {
    let Value::Object(pair) = item else { return Err(unfit("schemas", item)) };
    let Some((path, value)) = pair.iter().next() else { return Err("invalid document reference".to_owned()) };
    let of = scalar("schemas", path).ok().and_then(|path| reference(&path));
    let path = of.ok_or("invalid document reference")?;
    match value {
        Value::String(text) => {
            let schema = reference(text).filter(|path| path.first().is_some_and(|root| root == "schema"));
            let schema = schema.ok_or("invalid schema reference")?;
            Ok(record([("path", super::strings(&path)), ("schema", super::strings(&schema))]))
        }
        Value::Object(_) => Ok(record([("path", super::strings(&path)), ("definition", value.clone())])),
        _ => Err(format!("invalid schema declaration for path \"{}\"", path.join("."))),
    }
}

/// `a.b["c d"]` as its names.
fn reference(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    loop {
        let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        if let Some(quoted) = rest.strip_prefix("[\"").filter(|_| !names.is_empty()) {
            let (name, after) = quoted.split_once("\"]")?;
            names.push(name.to_owned());
            rest = after;
        } else {
            let own = if names.is_empty() { rest } else { rest.strip_prefix('.')? };
            let (name, after) = own.split_at_checked(word(own)).filter(|(name, _)| !name.is_empty())?;
            names.push(name.to_owned());
            rest = after;
        }
        if rest.is_empty() {
            return Some(names);
        }
    }
}

// === impl Annotation ===

impl Annotation {
    /// As a policy sees it.
    pub(super) fn value(&self) -> Value {
        let scope = self.scope.as_deref().map(|scope| ("scope", Value::from(scope)));
        let members = self.members.iter().cloned().chain(scope).map(|(name, value)| (Value::from(name), value));
        Value::from(members.collect::<std::collections::BTreeMap<_, _>>())
    }
}

// === impl Scope ===

impl Scope {
    const ALL: [Self; 4] = [Self::Rule, Self::Document, Self::Package, Self::Subpackages];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Document => "document",
            Self::Package => "package",
            Self::Subpackages => "subpackages",
        }
    }
}
