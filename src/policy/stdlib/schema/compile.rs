//! A schema document → nodes, in the order in which OPA's library reads its members, so that the first fault is the same.
//! Which draft it is written for decides what some members mean.

use std::collections::HashMap;

use regorus::{Value, value::Object};

use super::super::regex;
use super::{Decimal, Fault, Steps, to_opa_json};

const TYPES: [&str; 7] = ["array", "boolean", "integer", "number", "null", "object", "string"];

/// What a member that is a schema or `true` or `false` says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Rest {
    #[default]
    Any,
    Allowed(bool),
    Schema(usize),
}

#[derive(Debug)]
pub(super) enum Dependency {
    Names(Vec<String>),
    Schema(usize),
}

/// One schema; others are their numbers.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub pass: Option<bool>,
    pub reference: Option<usize>,
    pub types: Vec<&'static str>,
    pub properties: Vec<(String, usize)>,
    pub additional_properties: Rest,
    pub pattern_properties: Vec<(String, usize)>,
    pub property_names: Option<usize>,
    pub dependencies: HashMap<String, Dependency>,
    pub items: Vec<usize>,
    pub single_items: bool,
    pub additional_items: Rest,
    pub multiple_of: Option<Decimal>,
    pub minimum: Option<Decimal>,
    pub exclusive_minimum: Option<Decimal>,
    pub maximum: Option<Decimal>,
    pub exclusive_maximum: Option<Decimal>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub pattern: Option<String>,
    pub format: String,
    pub min_properties: Option<i64>,
    pub max_properties: Option<i64>,
    pub required: Vec<String>,
    pub min_items: Option<i64>,
    pub max_items: Option<i64>,
    pub unique_items: bool,
    pub contains: Option<usize>,
    pub constant: Option<String>,
    pub values: Option<Vec<String>>,
    pub one_of: Vec<usize>,
    pub any_of: Vec<usize>,
    pub all_of: Vec<usize>,
    pub not: Option<usize>,
    pub condition: Option<usize>,
    pub then: Option<usize>,
    pub otherwise: Option<usize>,
}

/// A compiled schema; the first node is its root.
#[derive(Debug)]
pub(super) struct Schema(pub Vec<Node>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Draft {
    Four,
    Six,
    Seven,
    /// Whatever any of them says.
    Hybrid,
}

struct Compiler<'d> {
    root: &'d Value,
    draft: Draft,
    nodes: Vec<Node>,
    references: HashMap<String, usize>,
    steps: Steps,
}

type Compiled<T> = Result<T, Fault>;

pub(super) fn schema(document: &Value) -> Compiled<Schema> {
    let mut draft = Draft::Hybrid;
    match document {
        Value::Bool(_) => {}
        Value::Object(members) => match member(members, "$schema") {
            None => {}
            Some(Value::String(url)) => {
                draft = match url.trim_end_matches('#') {
                    "http://json-schema.org/draft-04/schema" => Draft::Four,
                    "http://json-schema.org/draft-06/schema" => Draft::Six,
                    "http://json-schema.org/draft-07/schema" => Draft::Seven,
                    _ => Draft::Hybrid,
                }
            }
            Some(_) => return invalid("$schema must be of type string"),
        },
        _ => return invalid("schema is invalid"),
    }
    let mut compiler =
        Compiler { root: document, draft, nodes: Vec::new(), references: HashMap::new(), steps: Steps::default() };
    compiler.node(document, 0)?;
    Ok(Schema(compiler.nodes))
}

fn invalid<T>(message: impl Into<String>) -> Compiled<T> {
    Err(Fault::Invalid(message.into()))
}

fn wrong_type<T>(expected: &str, given: &str) -> Compiled<T> {
    invalid(format!("Invalid type. Expected: {expected}, given: {given}"))
}

fn member<'v>(members: &'v Object, name: &str) -> Option<&'v Value> {
    members.get(&Value::from(name))
}

fn text<'v>(members: &'v Object, name: &str) -> Compiled<Option<&'v str>> {
    match member(members, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => wrong_type("string", name),
    }
}

fn list<'v>(members: &'v Object, name: &str) -> Compiled<Option<Vec<&'v Value>>> {
    match member(members, name) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.iter().collect())),
        Some(_) => invalid(format!("{name} must be of an array")),
    }
}

/// A size: an integer from 0.
fn size(members: &Object, name: &str) -> Compiled<Option<i64>> {
    let Some(value) = member(members, name) else { return Ok(None) };
    let number = Decimal::of(value).and_then(|_| to_opa_json(value).parse::<i64>().ok());
    match number {
        None => invalid(format!("{name} must be of an integer")),
        Some(..0) => invalid(format!("{name} must be greater than or equal to 0")),
        Some(number) => Ok(Some(number)),
    }
}

fn sorted(members: &Object) -> Vec<(&str, &Value)> {
    let named = members.iter().filter_map(|(name, value)| Some((name.as_string().ok()?.as_ref(), value)));
    let mut named: Vec<(&str, &Value)> = named.collect();
    named.sort_by_key(|(name, _)| *name);
    named
}

// === impl Compiler ===

impl<'d> Compiler<'d> {
    /// Compiles a schema into a node of its own.
    fn node(&mut self, document: &'d Value, depth: usize) -> Compiled<usize> {
        self.steps.charge(depth)?;
        let number = self.nodes.len();
        self.nodes.push(Node::default());
        let node = self.read(document, depth)?;
        if let Some(slot) = self.nodes.get_mut(number) {
            *slot = node;
        }
        Ok(number)
    }

    fn nodes(&mut self, items: Option<Vec<&'d Value>>, depth: usize) -> Compiled<Vec<usize>> {
        items.into_iter().flatten().map(|item| self.node(item, depth + 1)).collect()
    }

    fn read(&mut self, document: &'d Value, depth: usize) -> Compiled<Node> {
        let mut node = Node::default();
        if let Value::Bool(pass) = document
            && self.draft >= Draft::Six
        {
            node.pass = Some(*pass);
            return Ok(node);
        }
        let Value::Object(of) = document else { return invalid("Expected: Valid Schema, given: Invalid JSON") };
        let id = if self.draft == Draft::Four || self.draft == Draft::Hybrid && member(of, "id").is_some() {
            "id"
        } else {
            "$id"
        };
        text(of, id)?;
        match member(of, "definitions") {
            None => {}
            Some(Value::Object(definitions)) => {
                for (_, definition) in sorted(definitions) {
                    if !matches!(definition, Value::Bool(_) | Value::Object(_)) {
                        return wrong_type("Array Of Schemas", "definitions");
                    }
                    self.node(definition, depth + 1)?;
                }
            }
            Some(_) => return wrong_type("Array Of Schemas", "definitions"),
        }
        text(of, "title")?;
        text(of, "description")?;
        if let Some(reference) = text(of, "$ref")? {
            node.reference = Some(self.reference(reference, depth)?);
            return Ok(node);
        }
        self.types(of, &mut node)?;
        self.object(of, &mut node, depth)?;
        self.array(of, &mut node, depth)?;
        self.numbers(of, &mut node)?;
        self.sizes(of, &mut node, depth)?;
        self.combinations(of, &mut node, depth)?;
        Ok(node)
    }

    fn reference(&mut self, reference: &str, depth: usize) -> Compiled<usize> {
        if let Some(known) = self.references.get(reference) {
            return Ok(*known);
        }
        let own_id = self.root.as_object().ok().and_then(|of| member(of, "$id").or_else(|| member(of, "id")));
        let own_id = own_id.and_then(|id| id.as_string().ok()).map_or("", |id| id.trim_end_matches('#'));
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        if !base.is_empty() && base != own_id {
            return invalid(format!("Reference {reference} is outside of the schema: nothing is fetched"));
        }
        let fragment = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy().into_owned();
        let mut at = self.root;
        for part in fragment.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match at {
                Value::Object(of) => member(of, &part),
                Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            at = match next {
                Some(next) => next,
                None => return invalid(format!("Object has no key '{part}'")),
            };
        }
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return invalid(format!("Reference {reference} names nothing in the schema"));
        }
        if !matches!(at, Value::Bool(_) | Value::Object(_)) {
            return invalid("Valid Schema must be of type object");
        }
        // Known before it is read: it may refer to itself.
        let number = self.nodes.len();
        self.references.insert(reference.to_owned(), number);
        self.node(at, depth + 1)
    }

    fn types(&self, of: &Object, node: &mut Node) -> Compiled<()> {
        let mut add = |given: &str| match TYPES.iter().find(|known| **known == given) {
            None => invalid(format!(
                "has a primitive type that is NOT VALID -- given: /{given}/ Expected valid values are:[{}]",
                TYPES.join(" ")
            )),
            Some(known) if node.types.contains(known) => invalid(format!("{given} type is duplicated")),
            Some(known) => {
                node.types.push(known);
                Ok(())
            }
        };
        match member(of, "type") {
            None => Ok(()),
            Some(Value::String(given)) => add(given),
            Some(Value::Array(all)) => all.iter().try_for_each(|given| match given {
                Value::String(given) => add(given),
                _ => wrong_type("type", "string/Array Of Strings"),
            }),
            Some(_) => wrong_type("type", "string/Array Of Strings"),
        }
    }

    fn rest(&mut self, of: &'d Object, name: &str, depth: usize) -> Compiled<Rest> {
        match member(of, name) {
            None => Ok(Rest::Any),
            Some(Value::Bool(allowed)) => Ok(Rest::Allowed(*allowed)),
            Some(value @ Value::Object(_)) => Ok(Rest::Schema(self.node(value, depth + 1)?)),
            Some(_) => wrong_type("boolean/Valid Schema", name),
        }
    }

    fn object(&mut self, of: &'d Object, node: &mut Node, depth: usize) -> Compiled<()> {
        match member(of, "properties") {
            None => {}
            Some(Value::Object(properties)) => {
                for (name, property) in sorted(properties) {
                    node.properties.push((name.to_owned(), self.node(property, depth + 1)?));
                }
            }
            Some(_) => return invalid("Properties must be of type object"),
        }
        node.additional_properties = self.rest(of, "additionalProperties", depth)?;
        match member(of, "patternProperties") {
            None => {}
            Some(Value::Object(patterns)) => {
                for (pattern, property) in sorted(patterns) {
                    if !regex::is_pattern(pattern)? {
                        return invalid(format!("Invalid regex pattern '{pattern}'"));
                    }
                    node.pattern_properties.push((pattern.to_owned(), self.node(property, depth + 1)?));
                }
            }
            Some(_) => return wrong_type("Valid Schema", "patternProperties"),
        }
        match member(of, "propertyNames").filter(|_| self.draft >= Draft::Six) {
            None => {}
            Some(names @ (Value::Bool(_) | Value::Object(_))) => {
                node.property_names = Some(self.node(names, depth + 1)?);
            }
            Some(_) => return wrong_type("Valid Schema", "patternProperties"),
        }
        match member(of, "dependencies") {
            None => {}
            Some(Value::Object(all)) => {
                for (name, value) in sorted(all) {
                    let dependency = match value {
                        Value::Array(names) => {
                            let names = names.iter().map(|name| name.as_string().ok().map(ToString::to_string));
                            match names.collect::<Option<Vec<_>>>() {
                                Some(names) => Dependency::Names(names),
                                None => return invalid("Dependency must be of type Schema Or Array Of Strings"),
                            }
                        }
                        Value::Bool(_) | Value::Object(_) => Dependency::Schema(self.node(value, depth + 1)?),
                        _ => return invalid("Dependency must be of type Schema Or Array Of Strings"),
                    };
                    node.dependencies.insert(name.to_owned(), dependency);
                }
            }
            Some(_) => return invalid("dependencies must be of type object"),
        }
        Ok(())
    }

    fn array(&mut self, of: &'d Object, node: &mut Node, depth: usize) -> Compiled<()> {
        match member(of, "items") {
            None => {}
            Some(Value::Array(items)) => {
                for item in items.iter() {
                    if !matches!(item, Value::Bool(_) | Value::Object(_)) {
                        return wrong_type("Valid Schema/Array Of Schemas", "items");
                    }
                    node.items.push(self.node(item, depth + 1)?);
                }
            }
            Some(item @ (Value::Bool(_) | Value::Object(_))) => {
                node.items.push(self.node(item, depth + 1)?);
                node.single_items = true;
            }
            Some(_) => return wrong_type("Valid Schema/Array Of Schemas", "items"),
        }
        node.additional_items = self.rest(of, "additionalItems", depth)?;
        Ok(())
    }

    fn numbers(&self, of: &Object, node: &mut Node) -> Compiled<()> {
        if let Some(value) = member(of, "multipleOf") {
            let Some(number) = Decimal::of(value) else { return wrong_type("Number", "multipleOf") };
            if number.digits <= 0.into() {
                return invalid("multipleOf must be strictly greater than 0");
            }
            node.multiple_of = Some(number);
        }
        let bounds = |name: &str, exclusive: &str| {
            let mut bound = None;
            if let Some(value) = member(of, name) {
                bound = Decimal::of(value);
                if bound.is_none() {
                    return invalid(format!("{name} must be of a Number"));
                }
            }
            let mut strict = None;
            match (member(of, exclusive), self.draft) {
                (None, _) => {}
                (Some(Value::Bool(is_strict)), Draft::Four | Draft::Hybrid) => {
                    if bound.is_none() {
                        return invalid(format!("{exclusive} cannot be used without {name}"));
                    }
                    if *is_strict {
                        strict = bound.take();
                    }
                }
                (Some(_), Draft::Four) => return wrong_type("boolean", exclusive),
                (Some(value), draft) => {
                    strict = Decimal::of(value);
                    if strict.is_none() {
                        let want = if draft == Draft::Hybrid { "boolean/number" } else { "number" };
                        return wrong_type(want, exclusive);
                    }
                }
            }
            Ok((bound, strict))
        };
        (node.minimum, node.exclusive_minimum) = bounds("minimum", "exclusiveMinimum")?;
        (node.maximum, node.exclusive_maximum) = bounds("maximum", "exclusiveMaximum")?;
        Ok(())
    }

    fn sizes(&mut self, of: &'d Object, node: &mut Node, depth: usize) -> Compiled<()> {
        let above = |least: Option<i64>, most: Option<i64>| least.zip(most).is_some_and(|(least, most)| least > most);
        node.min_length = size(of, "minLength")?;
        node.max_length = size(of, "maxLength")?;
        if above(node.min_length, node.max_length) {
            return invalid("minLength cannot be greater than maxLength");
        }
        if let Some(pattern) = text(of, "pattern")? {
            if !regex::is_pattern(pattern)? {
                return invalid("pattern must be a valid regex");
            }
            node.pattern = Some(pattern.to_owned());
        }
        text(of, "format")?.unwrap_or_default().clone_into(&mut node.format);
        node.min_properties = size(of, "minProperties")?;
        node.max_properties = size(of, "maxProperties")?;
        if above(node.min_properties, node.max_properties) {
            return invalid("minProperties cannot be greater than maxProperties");
        }
        for name in list(of, "required")?.into_iter().flatten() {
            let Value::String(name) = name else { return wrong_type("string", "required") };
            self.steps.charge(depth)?;
            if node.required.iter().any(|known| **known == **name) {
                return invalid("required items must be unique");
            }
            node.required.push(name.to_string());
        }
        node.min_items = size(of, "minItems")?;
        node.max_items = size(of, "maxItems")?;
        match member(of, "uniqueItems") {
            None => {}
            Some(Value::Bool(unique)) => node.unique_items = *unique,
            Some(_) => return invalid("uniqueItems must be of a boolean"),
        }
        if let Some(contains) = member(of, "contains").filter(|_| self.draft >= Draft::Six) {
            node.contains = Some(self.node(contains, depth + 1)?);
        }
        node.constant = member(of, "const").filter(|_| self.draft >= Draft::Six).map(to_opa_json);
        if let Some(values) = list(of, "enum")? {
            let mut all = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for value in values.into_iter().map(to_opa_json) {
                if !seen.insert(value.clone()) {
                    return invalid("enum items must be unique");
                }
                all.push(value);
            }
            node.values = Some(all);
        }
        Ok(())
    }

    fn combinations(&mut self, of: &'d Object, node: &mut Node, depth: usize) -> Compiled<()> {
        node.one_of = self.nodes(list(of, "oneOf")?, depth)?;
        node.any_of = self.nodes(list(of, "anyOf")?, depth)?;
        node.all_of = self.nodes(list(of, "allOf")?, depth)?;
        node.not = self.one(of, "not", depth)?;
        if self.draft >= Draft::Seven {
            node.condition = self.one(of, "if", depth)?;
            node.then = self.one(of, "then", depth)?;
            node.otherwise = self.one(of, "else", depth)?;
        }
        Ok(())
    }

    fn one(&mut self, of: &'d Object, name: &str, depth: usize) -> Compiled<Option<usize>> {
        match member(of, name) {
            None => Ok(None),
            Some(value @ (Value::Bool(_) | Value::Object(_))) => Ok(Some(self.node(value, depth + 1)?)),
            Some(_) => invalid(format!("{name} must be of an object")),
        }
    }
}
