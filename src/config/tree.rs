//! YAML (or JSON) text → a tree of nodes that know where they stand, with `${ENV}` expanded.
//!
//! Nothing here knows which keys exist: that is [`super::section`]'s and the schema's business. The tree is built in
//! memory from text and an environment passed as an argument, so that loading a configuration is a pure function.

use std::{fmt, sync::Arc};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use super::problem::{Code, Report};

/// How deep a document may nest; the schema needs six levels, an inline key set a few more.
const DEEPEST: usize = 24;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In the file, 1-based.
    File {
        /// Line.
        line: u64,
        /// Column.
        column: u64,
    },
    /// On the command line, as typed: `--set limits.body_bytes=1MiB`.
    Argument(Arc<str>),
    /// Nowhere: the whole configuration.
    Nowhere,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What YAML can say.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text {
        text: String,
        /// A variable was expanded in it, so it may stand for a number or a flag.
        expanded: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One member of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// Looks an environment variable up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Parses the text of a configuration file. An empty document is an empty mapping.
pub(super) fn parse_file(text: &str, report: &Report) -> Node {
    match parse(text) {
        Ok(Node { value: Value::Null, .. }) => empty(),
        Ok(node) => node,
        Err(error) => {
            let error = error.without_snippet();
            let place = error.location().filter(|at| at.line() > 0).map_or(Place::Nowhere, Place::from_span);
            report.add(Code::Syntax, &place, "", sentence(error));
            empty()
        }
    }
}

/// Parses the value of an argument as YAML; what is not YAML is taken as it stands.
pub(super) fn parse_argument(text: &str, place: &Place) -> Node {
    let mut node = parse(text).unwrap_or_else(|_| Node {
        place: place.clone(),
        value: Value::Text { text: text.to_owned(), expanded: false },
    });
    node.set_place(place);
    node
}

/// A text node that was written on the command line.
pub(super) fn text_argument(text: &str, place: &Place) -> Node {
    Node { place: place.clone(), value: Value::Text { text: text.to_owned(), expanded: false } }
}

fn empty() -> Node {
    Node { place: Place::Nowhere, value: Value::Map(Vec::new()) }
}

/// What a configuration may hold after its aliases are expanded: values, lists and mappings.
const MOST_NODES: usize = 50_000;

fn parse(text: &str) -> Result<Node, serde_saphyr::Error> {
    // Repeated keys are let through here, so that all of them are reported, with their places. The parser recurses.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST, max_aliases: 1_000, max_documents: 1, max_nodes: MOST_NODES, max_events: 4 * MOST_NODES
        },
    };
    serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options).map(Node::from)
}

/// The parser's own words without its position, which stands before the message already.
fn sentence(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    if let Some((_, breach)) = line.split_once("budget breached: ") {
        return match breach.split(' ').next() {
            Some("Documents") => "it holds more than one document; a configuration is one".to_owned(),
            Some("Depth") => format!("it nests deeper than {DEEPEST} levels; this cannot be a configuration"),
            _ => "its anchors and lists expand to more than a configuration can hold".to_owned(),
        };
    }
    let end = line.find(" at line ").unwrap_or(line.len());
    format!("not valid YAML: {}", line.get(..end).unwrap_or(line))
}

// === impl Place ===

impl Place {
    fn from_span(location: serde_saphyr::Location) -> Self {
        Self::File { line: location.line(), column: location.column() }
    }
}

// === impl Node ===

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { place: Place::from_span(spanned.referenced), value: spanned.value }
    }
}

impl Node {
    /// Moves the node and everything below it to one place.
    fn set_place(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.set_place(place)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.place = place.clone();
                    entry.node.set_place(place);
                }
            }
            _ => {}
        }
    }

    /// Expands `${NAME}` in every string below.
    pub(super) fn expand(&mut self, path: &str, environment: Environment<'_>, report: &Report) {
        match &mut self.value {
            Value::Text { text, expanded } if text.contains('$') => match expand(text, environment) {
                Ok((value, used)) => {
                    *text = value;
                    *expanded = used;
                }
                Err(message) => report.add(Code::Variable, &self.place, path, message),
            },
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.expand(&format!("{path}[{index}]"), environment, report);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                    entry.node.expand(&path, environment, report);
                }
            }
            _ => {}
        }
    }

    /// What a person would call it: `a list`, `the number 5`.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(flag) => format!("`{flag}`"),
            Value::Integer(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Text { text, .. } => format!("`{}`", shorten(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Long values do not drown the message.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// `${NAME}`, `${NAME:-default}` and `$$`. Returns the text and whether a variable was used. The default stands in for
/// a variable that is undefined or empty, as in a shell.
fn expand(text: &str, environment: Environment<'_>) -> Result<(String, bool), String> {
    let mut out = String::with_capacity(text.len());
    let mut used = false;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after
                .split_once('}')
                .ok_or("`${` has no closing `}`; write `${NAME}`, or `$$` for a dollar sign".to_owned())?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_variable_name(name) {
                return Err(format!(
                    "`${{{}}}` does not name an environment variable; write `${{NAME}}`, or `$$` for a dollar sign",
                    shorten(inside)
                ));
            }
            match (environment(name), default) {
                (Some(value), None) => out.push_str(&value),
                (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (None, None) => {
                    return Err(format!(
                        "the environment variable `{name}` is not defined; define it, or give a default: `${{{name}:-…}}`"
                    ));
                }
            }
            used = true;
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok((out, used))
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

// === impl Deserialize ===

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text { text: text.to_owned(), expanded: false })
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text { text, expanded: false })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(Node::from(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = members.next_entry::<Spanned<String>, Spanned<Value>>()? {
            map.push(Entry { key: key.value, place: Place::from_span(key.referenced), node: Node::from(value) });
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let environment = |name: &str| match name {
            "HOST" => Some("idp.example".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let found = expand(text, &environment).map(|(text, _)| text);
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn variables_are_expanded_once_and_dollars_can_be_escaped() {
        check("https://${HOST}/x", Ok("https://idp.example/x"));
        check("${HOST}${HOST}", Ok("idp.exampleidp.example"));
        check("${EMPTY}", Ok(""));
        check("${EMPTY:-a}", Ok("a"));
        check("${NOPE:-a b}", Ok("a b"));
        check("${NOPE:-}", Ok(""));
        check("$${HOST}", Ok("${HOST}"));
        check("a $ b $c $$", Ok("a $ b $c $"));
    }

    #[test]
    fn a_variable_that_cannot_be_expanded_is_named() {
        check(
            "${NOPE}",
            Err("the environment variable `NOPE` is not defined; define it, or give a default: `${NOPE:-…}`"),
        );
        check("${HOST", Err("`${` has no closing `}`; write `${NAME}`, or `$$` for a dollar sign"));
        check(
            "${a b}",
            Err("`${a b}` does not name an environment variable; write `${NAME}`, or `$$` for a dollar sign"),
        );
        check("${}", Err("`${}` does not name an environment variable; write `${NAME}`, or `$$` for a dollar sign"));
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let node = parse("a: 1\nb:\n  - x\n  - {c: 'y'}\na: 2\n").expect("valid");
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        let places: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.place.clone(), e.node.place.clone())).collect();
        let file = |line, column| Place::File { line, column };
        assert_eq!(places[0], ("a", file(1, 1), file(1, 4)));
        assert_eq!(places[1].1, file(2, 1));
        assert_eq!(places[2], ("a", file(5, 1), file(5, 4)), "repeated keys are kept for the report");
        let Value::List(items) = &entries[1].node.value else { panic!("{entries:?}") };
        assert_eq!((items[0].place.clone(), items[1].place.clone()), (file(3, 5), file(4, 5)));
    }
}
