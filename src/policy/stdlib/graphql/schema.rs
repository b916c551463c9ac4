//! A schema document made into a [`Schema`]: extensions merged, roots found, every definition checked in OPA's order,
//! so that the first fault is OPA's. What interfaces ask for is in [`interfaces`], circles are in [`circles`]. Its cost is
//! counted in steps and bounded; nothing is resolved or executed.

mod circles;
mod interfaces;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::super::super::guard;
use super::{
    Fault, Place,
    ast::{
        ArgumentDefinition, Definition, Directive, DirectiveDefinition, FieldDefinition, SchemaDefinition,
        SchemaDocument, Type, literal,
    },
    go_quote, parser,
};

/// What every schema has.
const PRELUDE: &str = include_str!("prelude.graphql");
/// Directives that a schema may define although the prelude has them; the prelude's stay.
const REDEFINABLE: [&str; 6] = ["include", "skip", "deprecated", "specifiedBy", "defer", "oneOf"];
/// Most names compared in the checks of one call.
const MAX_STEPS: usize = 1 << 23;
/// Looks at the count between two at the clock.
const LOOKS: u32 = 1_024;

type Checked = Result<(), Fault>;

/// Work done so far: in steps, and in looks at the count.
#[derive(Debug, Default)]
pub(super) struct Steps(Cell<usize>, Cell<u32>);

impl Steps {
    /// Counts a search through so many items.
    pub(super) fn charge(&self, items: usize) -> Checked {
        let sum = self.0.get().saturating_add(items).saturating_add(1);
        self.0.set(sum);
        let looks = self.1.get().wrapping_add(1);
        self.1.set(looks);
        if looks.is_multiple_of(LOOKS) && guard::time_left().is_zero() {
            return Err(Fault::Limit("execution exceeded time limit".to_owned()));
        }
        if sum > MAX_STEPS {
            return Err(Fault::Limit(format!("checking takes more than {MAX_STEPS} steps")));
        }
        Ok(())
    }
}

/// A checked schema.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub types: BTreeMap<String, Definition>,
    pub directives: BTreeMap<String, DirectiveDefinition>,
    /// Names of the root types: query, mutation, subscription.
    pub roots: BTreeMap<String, String>,
    /// The types that a value of an abstract type may have, by its name.
    pub possible: HashMap<String, Vec<String>>,
    pub steps: Steps,
}

/// Checks a document together with the prelude.
pub(super) fn check(document: &SchemaDocument) -> Result<Schema, Fault> {
    let prelude = parser::schema(PRELUDE)?;
    let mut schema = Schema::default();
    let mut order = Vec::new();
    let built_in = prelude.definitions.iter().map(|of| Definition { built_in: true, ..of.clone() });
    for definition in built_in.chain(document.definitions.iter().cloned()) {
        if schema.types.contains_key(&definition.name) {
            return Err(Fault::at(definition.place, format!("Cannot redeclare type {}.", definition.name)));
        }
        order.push(definition.name.clone());
        schema.types.insert(definition.name.clone(), definition);
    }
    for extension in &document.extensions {
        extend(&mut schema, &mut order, extension)?;
    }
    for name in &order {
        let Some(definition) = schema.types.get(name) else { continue };
        match definition.kind.as_str() {
            "UNION" => schema.possible.entry(name.clone()).or_default().extend(definition.types.iter().cloned()),
            kind @ ("INPUT_OBJECT" | "OBJECT" | "INTERFACE") => {
                let own = Some(name).filter(|_| kind != "INTERFACE");
                for of in definition.interfaces.iter().chain(own) {
                    schema.possible.entry(of.clone()).or_default().push(name.clone());
                }
            }
            _ => {}
        }
    }
    for directive in prelude.directives.iter().chain(&document.directives) {
        if schema.directives.contains_key(&directive.name) && !REDEFINABLE.contains(&directive.name.as_str()) {
            return Err(Fault::at(directive.place, format!("Cannot redeclare directive {}.", directive.name)));
        }
        // OPA says that it keeps the first, and keeps the last.
        schema.directives.insert(directive.name.clone(), directive.clone());
    }
    if let Some(second) = document.schema.get(1) {
        let message = "Cannot have multiple schema entry points, consider schema extensions instead.";
        return Err(Fault::at(second.place, message));
    }
    for definition in document.schema.iter().chain(&document.schema_extension) {
        schema.enter(definition)?;
    }
    for definition in schema.types.values() {
        schema.definition(definition)?;
    }
    schema.circles()?;
    for directive in schema.directives.values() {
        reserved(directive.place, &directive.name)?;
        schema.arguments(&directive.arguments, Some(&directive.name))?;
    }
    if document.schema.is_empty() {
        for (operation, name) in [("query", "Query"), ("mutation", "Mutation"), ("subscription", "Subscription")] {
            if schema.types.contains_key(name) {
                schema.roots.entry(operation.to_owned()).or_insert_with(|| name.to_owned());
            }
        }
    }
    let root = schema.roots.get("query").cloned();
    if let Some(query) = root.and_then(|root| schema.types.get_mut(&root)) {
        let named =
            |name: &str, non_null: bool| Some(Type { named_type: name.to_owned(), non_null, ..Type::default() });
        let of = |name: &str, r#type| FieldDefinition { name: name.to_owned(), r#type, ..FieldDefinition::default() };
        let name = ArgumentDefinition {
            name: "name".to_owned(),
            r#type: named("String", true),
            ..ArgumentDefinition::default()
        };
        query.fields.push(of("__schema", named("__Schema", true)));
        query.fields.push(FieldDefinition { arguments: vec![name], ..of("__type", named("__Type", false)) });
    }
    Ok(schema)
}

fn extend(schema: &mut Schema, order: &mut Vec<String>, extension: &Definition) -> Checked {
    let base = schema.types.entry(extension.name.clone()).or_insert_with(|| {
        order.push(extension.name.clone());
        Definition {
            kind: extension.kind.clone(),
            name: extension.name.clone(),
            place: extension.place,
            ..Definition::default()
        }
    });
    if base.kind != extension.kind {
        let message = format!(
            "Cannot extend type {} because the base type is a {}, not {}.",
            extension.name, base.kind, extension.kind
        );
        return Err(Fault::at(extension.place, message));
    }
    base.directives.extend(extension.directives.iter().cloned());
    base.interfaces.extend(extension.interfaces.iter().cloned());
    base.fields.extend(extension.fields.iter().cloned());
    base.types.extend(extension.types.iter().cloned());
    base.type_places.extend(extension.type_places.iter().copied());
    base.enum_values.extend(extension.enum_values.iter().cloned());
    Ok(())
}

// === impl Schema ===

impl Schema {
    fn enter(&mut self, definition: &SchemaDefinition) -> Checked {
        for entry in &definition.operation_types {
            if !self.types.contains_key(&entry.r#type) {
                let message =
                    format!("Schema root {} refers to a type {} that does not exist.", entry.operation, entry.r#type);
                return Err(Fault::at(entry.place, message));
            }
            self.roots.insert(entry.operation.clone(), entry.r#type.clone());
        }
        self.directives(&definition.directives, "SCHEMA", None, true)
    }

    fn definition(&self, of: &Definition) -> Checked {
        let input = of.kind == "INPUT_OBJECT";
        for field in &of.fields {
            reserved(field.place, &field.name)?;
            self.known(known_type(field.r#type.as_ref())?)?;
            self.arguments(&field.arguments, None)?;
            let location = if input { "INPUT_FIELD_DEFINITION" } else { "FIELD_DEFINITION" };
            self.directives(&field.directives, location, None, true)?;
        }
        for name in &of.types {
            let Some(member) = self.types.get(name) else {
                return Err(Fault::at(of.place, format!("Undefined type {}.", go_quote(name))));
            };
            if member.kind != "OBJECT" {
                return Err(Fault::at(of.place, format!("{} type {} must be OBJECT.", of.kind, go_quote(name))));
            }
        }
        for interface in &of.interfaces {
            self.implements(of, interface)?;
        }
        self.contents(of)?;
        self.repeated(of)?;
        if !of.built_in {
            reserved(of.place, &of.name)?;
        }
        self.directives(&of.directives, &of.kind, None, false)
    }

    /// What a type of its kind must have.
    fn contents(&self, of: &Definition) -> Checked {
        let (kind, name) = (&of.kind, &of.name);
        let fields = |output: bool, allowed: [&str; 5], listed: &str| {
            for field in &of.fields {
                let Some(of_field) = self.types.get(known_type(field.r#type.as_ref())?.name()) else { continue };
                if !allowed.contains(&of_field.kind.as_str()) {
                    let (kind, name) = if output { (kind, name) } else { (&of_field.kind, &field.name) };
                    return Err(Fault::at(field.place, format!("{kind} {name}: field must be one of {listed}.")));
                }
            }
            Ok(())
        };
        match kind.as_str() {
            "OBJECT" | "INTERFACE" => {
                if of.fields.is_empty() {
                    return Err(Fault::at(of.place, format!("{kind} {name}: must define one or more fields.")));
                }
                let allowed = ["SCALAR", "OBJECT", "INTERFACE", "UNION", "ENUM"];
                fields(true, allowed, "SCALAR, OBJECT, INTERFACE, UNION, ENUM")
            }
            "ENUM" => {
                if of.enum_values.is_empty() {
                    let message = format!("{kind} {name}: must define one or more unique enum values.");
                    return Err(Fault::at(of.place, message));
                }
                for value in &of.enum_values {
                    if matches!(value.name.as_str(), "true" | "false" | "null") {
                        return Err(Fault::at(of.place, format!("{kind} {name}: non-enum value {}.", value.name)));
                    }
                    self.directives(&value.directives, "ENUM_VALUE", None, true)?;
                }
                Ok(())
            }
            "INPUT_OBJECT" => {
                if of.fields.is_empty() {
                    return Err(Fault::at(of.place, format!("{kind} {name}: must define one or more input fields.")));
                }
                fields(false, ["SCALAR", "ENUM", "INPUT_OBJECT", "", ""], "SCALAR, ENUM, INPUT_OBJECT")
            }
            _ => Ok(()),
        }
    }

    fn repeated(&self, of: &Definition) -> Checked {
        if let Some(at) = duplicate(of.fields.iter().map(|field| field.name.as_str())) {
            let Some(field) = of.fields.get(at) else { return Ok(()) };
            let message = format!("Field {}.{} can only be defined once.", of.name, field.name);
            return Err(Fault::at(field.place, message));
        }
        if let Some(at) = duplicate(of.enum_values.iter().map(|value| value.name.as_str())) {
            let Some(value) = of.enum_values.get(at) else { return Ok(()) };
            let message = format!("Enum value {}.{} can only be defined once.", of.name, value.name);
            return Err(Fault::at(value.place, message));
        }
        if let Some(at) = duplicate(of.types.iter().map(String::as_str)) {
            let Some(member) = of.types.get(at) else { return Ok(()) };
            let places = Some(&of.type_places).filter(|places| places.len() == of.types.len());
            let place = places.and_then(|places| places.get(at)).copied().or(of.place);
            let message = format!("Union type {} can only include type {member} once.", of.name);
            return Err(Fault::at(place, message));
        }
        Ok(())
    }

    fn known(&self, of: &Type) -> Checked {
        if self.types.contains_key(of.name()) {
            return Ok(());
        }
        Err(Fault::at(of.place, format!("Undefined type {}.", of.name())))
    }

    fn arguments(&self, arguments: &[ArgumentDefinition], within: Option<&str>) -> Checked {
        for argument in arguments {
            reserved(argument.place, &argument.name)?;
            let of = known_type(argument.r#type.as_ref())?;
            self.known(of)?;
            let kind = self.types.get(of.name()).map_or("", |of| of.kind.as_str());
            if !matches!(kind, "SCALAR" | "ENUM" | "INPUT_OBJECT") {
                let message =
                    format!("cannot use {of} as argument {} because {kind} is not a valid input type", argument.name);
                return Err(Fault::at(argument.place, message));
            }
            self.directives(&argument.directives, "ARGUMENT_DEFINITION", within, true)?;
        }
        Ok(())
    }

    /// `once`: they stand in one place, so that what is not repeatable may be there once.
    fn directives(&self, directives: &[Directive], location: &str, within: Option<&str>, once: bool) -> Checked {
        let mut seen = BTreeSet::new();
        for directive in directives {
            let name = &directive.name;
            reserved(directive.place, name)?;
            if within == Some(name) {
                return Err(Fault::at(directive.place, format!("Directive {name} cannot refer to itself.")));
            }
            let Some(definition) = self.directives.get(name) else {
                return Err(Fault::at(directive.place, format!("Undefined directive {name}.")));
            };
            if once && !seen.insert(name) && !definition.is_repeatable {
                let message = format!("The directive {name} can only be used once at this location.");
                return Err(Fault::at(directive.place, message));
            }
            if !definition.locations.iter().any(|allowed| allowed == location) {
                let message = format!("Directive {name} is not applicable on {location}.");
                return Err(Fault::at(directive.place, message));
            }
            for argument in &directive.arguments {
                self.steps.charge(definition.arguments.len())?;
                if !definition.arguments.iter().any(|known| known.name == argument.name) {
                    let message = format!("Undefined argument {} for directive {name}.", argument.name);
                    return Err(Fault::at(argument.place, message));
                }
            }
            for required in &definition.arguments {
                if !known_type(required.r#type.as_ref())?.non_null || required.default_value.is_some() {
                    continue;
                }
                self.steps.charge(directive.arguments.len())?;
                let given = directive.arguments.iter().find(|argument| argument.name == required.name);
                if given.and_then(|given| given.value.as_ref()).is_none_or(|value| value.kind == literal::NULL) {
                    let message = format!("Argument {} for directive {name} cannot be null.", required.name);
                    return Err(Fault::at(directive.place, message));
                }
            }
        }
        Ok(())
    }
}

/// A type that a tree handed in by a policy may lack.
fn known_type(of: Option<&Type>) -> Result<&Type, Fault> {
    of.ok_or_else(|| Fault::at(None, "a definition has no type"))
}

fn reserved(place: Option<Place>, name: &str) -> Checked {
    if name.starts_with("__") {
        let message = format!(r#"Name "{name}" must not begin with "__", which is reserved by GraphQL introspection."#);
        return Err(Fault::at(place, message));
    }
    Ok(())
}

/// Where the first name that occurs twice occurs for the second time.
fn duplicate<'n, I: Iterator<Item = &'n str>>(names: I) -> Option<usize> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut found: Option<(usize, usize)> = None;
    for (index, name) in names.enumerate() {
        let earlier = *first.entry(name).or_insert(index);
        if earlier < index {
            found = Some(found.map_or((earlier, index), |best| best.min((earlier, index))));
        }
    }
    found.map(|(_, second)| second)
}
