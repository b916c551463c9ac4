//! A document against a compiled schema, with OPA's errors: of alternatives, those of the one that came nearest, by the
//! count that OPA's library keeps.

use std::cmp::Ordering;
use std::collections::HashMap;

use regorus::Value;

use super::super::{operand, regex};
use super::{
    BuiltinError, Decimal, Steps,
    compile::{Dependency, Node, Rest, Schema},
    format, to_opa_json,
};

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(super) struct Error {
    pub kind: &'static str,
    pub field: String,
    pub description: String,
}

/// What was found, and how near it came.
#[derive(Default)]
struct Found {
    errors: Vec<Error>,
    score: i64,
}

/// Where in the document.
#[derive(Clone, Copy)]
struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    name: &'p str,
    depth: usize,
}

struct Validator<'s> {
    schema: &'s Schema,
    steps: Steps,
}

type Checked<T = ()> = Result<T, BuiltinError>;

pub(super) fn document(schema: &Schema, document: &Value) -> Checked<Vec<Error>> {
    let validator = Validator { schema, steps: Steps::default() };
    let root = Place { parent: None, name: "(Root)", depth: 0 };
    Ok(validator.whole(0, document, root)?.errors)
}

// === impl Place ===

impl<'p> Place<'p> {
    fn below(&'p self, name: &'p str) -> Self {
        Self { parent: Some(self), name, depth: self.depth + 1 }
    }

    /// Without the root, unless it is the root.
    fn field(&self) -> String {
        let mut names = vec![self.name];
        let mut at = self.parent;
        while let Some(place) = at {
            names.push(place.name);
            at = place.parent;
        }
        if names.len() > 1 {
            names.pop();
        }
        names.reverse();
        names.join(".")
    }
}

// === impl Found ===

impl Found {
    fn add(&mut self, kind: &'static str, place: Place<'_>, description: impl Into<String>) {
        self.errors.push(Error { kind, field: place.field(), description: description.into() });
        self.score -= 2;
    }

    fn merge(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.score += other.score;
    }

    /// The better of two that failed; the first of equals.
    fn better(best: Option<Self>, other: Self) -> Self {
        match best {
            Some(best) if other.score <= best.score => best,
            _ => other,
        }
    }
}

/// A number's type, or the value's.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Number(_) if Decimal::of(value).is_some_and(|number| number.is_integer()) => "integer",
        other => operand::type_name(other),
    }
}

// === impl Validator ===

impl Validator<'_> {
    fn whole(&self, node: usize, value: &Value, place: Place<'_>) -> Checked<Found> {
        let mut found = Found::default();
        self.node(node, value, place, 0, &mut found)?;
        Ok(found)
    }

    fn sub(&self, node: usize, value: &Value, place: Place<'_>, inner: usize) -> Checked<Found> {
        let mut found = Found::default();
        self.node(node, value, place, inner + 1, &mut found)?;
        Ok(found)
    }

    /// `inner` is how many schemas are looked at for the same value.
    fn node(&self, node: usize, value: &Value, place: Place<'_>, inner: usize, found: &mut Found) -> Checked {
        self.steps.charge(place.depth + inner)?;
        let Some(node) = self.schema.0.get(node) else { return Ok(()) };
        match (node.pass, node.reference) {
            (Some(true), _) => return Ok(()),
            (Some(false), _) => {
                found.add("false", place, "False always fails validation");
                return Ok(());
            }
            (None, Some(reference)) => return self.node(reference, value, place, inner + 1, found),
            (None, None) => {}
        }
        let given = type_of(value);
        let fits = node.types.contains(&given) || given == "integer" && node.types.contains(&"number");
        if !node.types.is_empty() && !fits {
            let expected = match node.types.as_slice() {
                [only] => (*only).to_owned(),
                types => format!("[{}]", types.join(",")),
            };
            found.add("invalid_type", place, format!("Invalid type. Expected: {expected}, given: {given}"));
            return Ok(());
        }
        self.combinations(node, value, place, inner, found)?;
        match value {
            Value::Number(_) => self.number(node, value, place, found),
            Value::Array(items) => self.array(node, &items.iter().collect::<Vec<_>>(), place, found)?,
            Value::Object(members) => {
                let named = members.iter().filter_map(|(name, value)| Some((name.as_string().ok()?.as_ref(), value)));
                let mut named: Vec<(&str, &Value)> = named.collect();
                named.sort_by_key(|(name, _)| *name);
                self.object(node, value, &named, place, found)?;
            }
            _ => {}
        }
        self.common(node, value, place, found)?;
        match value {
            Value::String(text) => self.string(node, text, place, found)?,
            Value::Object(members) => {
                for (name, property) in &node.properties {
                    if let Some(member) = operand::member(members, name) {
                        self.node(*property, member, place.below(name), 0, found)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn combinations(&self, node: &Node, value: &Value, place: Place<'_>, inner: usize, found: &mut Found) -> Checked {
        if !node.any_of.is_empty() {
            let (mut valid, mut best) = (false, None);
            for other in &node.any_of {
                let result = self.sub(*other, value, place, inner)?;
                valid = result.errors.is_empty();
                if valid {
                    break;
                }
                best = Some(Found::better(best, result));
            }
            if !valid {
                found.add("number_any_of", place, "Must validate at least one schema (anyOf)");
                best.into_iter().for_each(|best| found.merge(best));
            }
        }
        if !node.one_of.is_empty() {
            let (mut valid, mut best) = (0, None);
            for other in &node.one_of {
                let result = self.sub(*other, value, place, inner)?;
                if result.errors.is_empty() {
                    valid += 1;
                } else if valid == 0 {
                    best = Some(Found::better(best, result));
                }
            }
            if valid != 1 {
                found.add("number_one_of", place, "Must validate one and only one schema (oneOf)");
                best.into_iter().filter(|_| valid == 0).for_each(|best| found.merge(best));
            }
        }
        let mut valid = true;
        for other in &node.all_of {
            let result = self.sub(*other, value, place, inner)?;
            valid = valid && result.errors.is_empty();
            found.merge(result);
        }
        if !valid {
            found.add("number_all_of", place, "Must validate all the schemas (allOf)");
        }
        if let Some(not) = node.not
            && self.sub(not, value, place, inner)?.errors.is_empty()
        {
            found.add("number_not", place, "Must not validate the schema (not)");
        }
        if let Value::Object(members) = value {
            let mut names: Vec<&str> =
                members.keys().filter_map(|name| name.as_string().ok().map(|name| &**name)).collect();
            names.sort_unstable();
            for name in names {
                match node.dependencies.get(name) {
                    None => {}
                    Some(Dependency::Names(all)) => {
                        for other in all.iter().filter(|other| operand::member(members, other).is_none()) {
                            found.add("missing_dependency", place, format!("Has a dependency on {other}"));
                        }
                    }
                    Some(Dependency::Schema(other)) => self.node(*other, value, place, inner + 1, found)?,
                }
            }
        }
        if let Some(condition) = node.condition {
            let holds = self.sub(condition, value, place, inner)?.errors.is_empty();
            let (next, kind, description) = if holds {
                (node.then, "condition_then", "Must validate \"then\" as \"if\" was valid")
            } else {
                (node.otherwise, "condition_else", "Must validate \"else\" as \"if\" was not valid")
            };
            if let Some(next) = next {
                let result = self.sub(next, value, place, inner)?;
                if !result.errors.is_empty() {
                    found.add(kind, place, description);
                    found.merge(result);
                }
            }
        }
        found.score += 1;
        Ok(())
    }

    fn common(&self, node: &Node, value: &Value, place: Place<'_>, found: &mut Found) -> Checked {
        if let Some(constant) = &node.constant
            && to_opa_json(value) != *constant
        {
            found.add("const", place, format!("{} does not match: {constant}", place.field()));
        }
        if let Some(values) = &node.values
            && !values.contains(&to_opa_json(value))
        {
            let all = values.join(", ");
            found.add("enum", place, format!("{} must be one of the following: {all}", place.field()));
        }
        if let Value::String(text) = value
            && !format::fits(&node.format, text)?
        {
            found.add("format", place, format!("Does not match format '{}'", node.format));
        }
        found.score += 1;
        Ok(())
    }

    fn array(&self, node: &Node, items: &[&Value], place: Place<'_>, found: &mut Found) -> Checked {
        let numbers: Vec<String> = (0..items.len()).map(|index| index.to_string()).collect();
        let each = || items.iter().zip(&numbers);
        if node.single_items {
            for ((item, number), schema) in each().zip(node.items.iter().cycle()) {
                found.merge(self.sub(*schema, item, place.below(number), 0)?);
            }
        } else if !node.items.is_empty() {
            for ((item, number), schema) in each().zip(&node.items) {
                found.merge(self.sub(*schema, item, place.below(number), 0)?);
            }
            match node.additional_items {
                Rest::Allowed(false) if node.items.len() < items.len() => {
                    found.add("array_no_additional_items", place, "No additional items allowed on array");
                }
                Rest::Schema(schema) => {
                    for (item, number) in each().skip(node.items.len()) {
                        found.merge(self.sub(schema, item, place.below(number), 0)?);
                    }
                }
                _ => {}
            }
        }
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(least) = node.min_items.filter(|least| count < *least) {
            found.add("array_min_items", place, format!("Array must have at least {least} items"));
        }
        if let Some(most) = node.max_items.filter(|most| count > *most) {
            found.add("array_max_items", place, format!("Array must have at most {most} items"));
        }
        if node.unique_items {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for (index, item) in items.iter().enumerate() {
                if let Some(before) = seen.insert(to_opa_json(item), index) {
                    found.add("unique", place, format!("array items[{before},{index}] must be unique"));
                }
            }
        }
        if let Some(contains) = node.contains {
            let (mut valid, mut best) = (false, None);
            for (item, number) in each() {
                let result = self.sub(contains, item, place.below(number), 0)?;
                valid = result.errors.is_empty();
                if valid {
                    break;
                }
                best = Some(Found::better(best, result));
            }
            if !valid {
                found.add("contains", place, "At least one of the items must match");
                best.into_iter().for_each(|best| found.merge(best));
            }
        }
        found.score += 1;
        Ok(())
    }

    fn object(
        &self,
        node: &Node,
        whole: &Value,
        members: &[(&str, &Value)],
        place: Place<'_>,
        found: &mut Found,
    ) -> Checked {
        let count = i64::try_from(members.len()).unwrap_or(i64::MAX);
        if let Some(least) = node.min_properties.filter(|least| count < *least) {
            found.add("array_min_properties", place, format!("Must have at least {least} properties"));
        }
        if let Some(most) = node.max_properties.filter(|most| count > *most) {
            found.add("array_max_properties", place, format!("Must have at most {most} properties"));
        }
        let has = |name: &str| whole.as_object().is_ok_and(|of| operand::member(of, name).is_some());
        for name in &node.required {
            self.steps.charge(place.depth)?;
            if has(name) {
                found.score += 1;
            } else {
                found.add("required", place, format!("{name} is required"));
            }
        }
        for (name, value) in members {
            let mut known = node.properties.binary_search_by(|(own, _)| own.as_str().cmp(name)).is_ok();
            let mut matched = false;
            for (pattern, schema) in &node.pattern_properties {
                self.steps.charge(place.depth)?;
                if regex::matches(pattern, name)? {
                    matched = true;
                    found.merge(self.sub(*schema, value, place.below(name), 0)?);
                }
            }
            found.score += i64::from(matched);
            known = known || matched;
            match node.additional_properties {
                Rest::Allowed(false) if !known => {
                    let description = format!("Additional property {name} is not allowed");
                    found.add("additional_property_not_allowed", place, description);
                }
                Rest::Schema(schema) if !known => found.merge(self.sub(schema, value, place.below(name), 0)?),
                _ => {}
            }
        }
        if let Some(names) = node.property_names {
            for (name, _) in members {
                let result = self.sub(names, &Value::from(*name), place, 0)?;
                if !result.errors.is_empty() {
                    found.add("invalid_property_name", place, format!("Property name of \"{name}\" does not match"));
                    found.merge(result);
                }
            }
        }
        found.score += 1;
        Ok(())
    }

    fn string(&self, node: &Node, text: &str, place: Place<'_>, found: &mut Found) -> Checked {
        let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(least) = node.min_length.filter(|least| length() < *least) {
            found.add("string_gte", place, format!("String length must be greater than or equal to {least}"));
        }
        if let Some(most) = node.max_length.filter(|most| length() > *most) {
            found.add("string_lte", place, format!("String length must be less than or equal to {most}"));
        }
        if let Some(pattern) = &node.pattern
            && !regex::matches(pattern, text)?
        {
            found.add("pattern", place, format!("Does not match pattern '{pattern}'"));
        }
        found.score += 1;
        Ok(())
    }

    fn number(&self, node: &Node, value: &Value, place: Place<'_>, found: &mut Found) {
        let Some(number) = Decimal::of(value) else { return };
        if let Some(of) = node.multiple_of.as_ref().filter(|of| !number.is_multiple_of(of)) {
            found.add("multiple_of", place, format!("Must be a multiple of {}", of.shown()));
        }
        let mut bound = |bound: &Option<Decimal>, wrong: &[Ordering], kind, sentence: &str| {
            if let Some(bound) = bound.as_ref().filter(|bound| wrong.contains(&number.compare(bound))) {
                found.add(kind, place, format!("{sentence} {}", bound.shown()));
            }
        };
        use Ordering::{Equal, Greater, Less};
        bound(&node.maximum, &[Greater], "number_lte", "Must be less than or equal to");
        bound(&node.exclusive_maximum, &[Greater, Equal], "number_lt", "Must be less than");
        bound(&node.minimum, &[Less], "number_gte", "Must be greater than or equal to");
        bound(&node.exclusive_minimum, &[Less, Equal], "number_gt", "Must be greater than");
        found.score += 1;
    }
}
