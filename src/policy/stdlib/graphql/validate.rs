//! A query checked against a schema by the rules of the GraphQL specification, in the order and with the sentences of
//! OPA's. This file walks the document and says what each part means; the rules are in [`rules`], [`values`] and
//! [`overlap`]. Steps and nesting are bounded; every fault is collected, none is repaired.

mod overlap;
mod rules;
mod suggest;
mod values;

use std::collections::{HashMap, HashSet};

use self::overlap::Overlap;
use super::{
    Fault, Place,
    ast::{
        Argument, ArgumentDefinition, Definition, Directive, DirectiveDefinition, Field, FieldDefinition, Fragment,
        Inline, Literal, Operation, QueryDocument, Selection, Spread, Type, VariableDefinition, literal,
    },
    schema::Schema,
};

/// Deepest way through selections and fragments.
const MAX_DEPTH: usize = 300;
/// Most bytes of sentences about one document.
const MAX_BYTES: usize = 1 << 20;

type Checked = Result<(), Fault>;

/// Is a document one of the schema? The first complaint is the fault.
pub(super) fn valid(schema: &Schema, document: &QueryDocument) -> Checked {
    walk(schema, document, true).map(|_| ())
}

/// Everything that is wrong with a document, in OPA's order.
pub(super) fn check(schema: &Schema, document: &QueryDocument) -> Result<Vec<Complaint>, Fault> {
    walk(schema, document, false)
}

fn walk(schema: &Schema, document: &QueryDocument, first: bool) -> Result<Vec<Complaint>, Fault> {
    let mut fragments = HashMap::new();
    for fragment in &document.fragments {
        fragments.entry(fragment.name.as_str()).or_insert(fragment);
    }
    let typename = FieldDefinition {
        name: "__typename".to_owned(),
        r#type: Some(Type { named_type: "String".to_owned(), ..Type::default() }),
        ..FieldDefinition::default()
    };
    let context = Context { schema, document, fragments, typename };
    let mut walker = Walker {
        context: &context,
        first,
        errors: Vec::new(),
        bytes: 0,
        depth: 0,
        operation: None,
        entered: HashSet::new(),
        used_variables: HashSet::new(),
        fields: HashMap::new(),
        seen: Seen::default(),
        overlap: Overlap::default(),
    };
    for operation in &document.operations {
        walker.entered.clear();
        walker.operation(operation)?;
    }
    for fragment in &document.fragments {
        walker.entered.clear();
        walker.fragment(fragment)?;
    }
    Ok(walker.errors)
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub place: Option<Place>,
    pub message: String,
}

/// What does not change during a walk.
struct Context<'a> {
    schema: &'a Schema,
    document: &'a QueryDocument,
    /// The first of each name.
    fragments: HashMap<&'a str, &'a Fragment>,
    /// The definition of the field that every type has.
    typename: FieldDefinition,
}

/// Where a field stands, and what the schema says of it.
#[derive(Clone, Copy, Default)]
struct Known<'a> {
    parent: Option<&'a Definition>,
    definition: Option<&'a FieldDefinition>,
}

/// What the place of a value asks for.
#[derive(Clone, Copy, Default)]
struct Expected<'a> {
    r#type: Option<&'a Type>,
    definition: Option<&'a Definition>,
    has_default: bool,
}

/// What single rules remember.
#[derive(Default)]
struct Seen<'a> {
    operations: HashSet<&'a str>,
    fragments: HashSet<&'a str>,
    spread: HashSet<&'a str>,
    cycles: HashSet<&'a str>,
    within_fragments: bool,
    misplaced: HashSet<(&'a str, Option<(i64, i64)>)>,
}

struct Walker<'a> {
    context: &'a Context<'a>,
    /// Stop at the first complaint.
    first: bool,
    errors: Vec<Complaint>,
    bytes: usize,
    depth: usize,
    operation: Option<&'a Operation>,
    /// Fragments that were walked in this operation.
    entered: HashSet<&'a str>,
    used_variables: HashSet<*const VariableDefinition>,
    fields: HashMap<*const Field, Known<'a>>,
    seen: Seen<'a>,
    overlap: Overlap<'a>,
}

// === impl Context ===

impl<'a> Context<'a> {
    fn charge(&self, steps: usize) -> Checked {
        self.schema.steps.charge(steps)
    }

    fn r#type(&self, name: &str) -> Option<&'a Definition> {
        self.schema.types.get(name)
    }

    fn root(&self, operation: &str) -> Option<&'a Definition> {
        self.schema.roots.get(operation).and_then(|name| self.r#type(name))
    }

    /// The types that a value of this type may have.
    fn possible(&self, of: &Definition) -> &'a [String] {
        self.schema.possible.get(&of.name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The name of the type within lists; a tree that a policy hands in may lack it.
fn type_of(of: Option<&Type>) -> Result<&Type, Fault> {
    of.ok_or_else(|| Fault::at(None, "a definition has no type"))
}

fn value_of(argument: &Argument) -> Result<&Literal, Fault> {
    argument.value.as_ref().ok_or_else(|| Fault::at(None, "an argument has no value"))
}

fn is_leaf(of: &Definition) -> bool {
    matches!(of.kind.as_str(), "ENUM" | "SCALAR")
}

fn is_composite(of: &Definition) -> bool {
    matches!(of.kind.as_str(), "OBJECT" | "INTERFACE" | "UNION")
}

fn is_abstract(of: &Definition) -> bool {
    matches!(of.kind.as_str(), "INTERFACE" | "UNION")
}

fn has_default(value: Option<&Literal>) -> bool {
    value.is_some_and(|value| value.kind != literal::NULL)
}

// === impl Walker ===

impl<'a> Walker<'a> {
    fn complain(&mut self, place: Option<Place>, message: impl Into<String>) -> Checked {
        let message = message.into();
        if self.first {
            return Err(Fault::At { place, message });
        }
        self.bytes = self.bytes.saturating_add(message.len());
        self.context.charge(message.len())?;
        if self.bytes > MAX_BYTES {
            return Err(Fault::Limit(format!("more than {MAX_BYTES} bytes of complaints about a document")));
        }
        self.errors.push(Complaint { place, message });
        Ok(())
    }

    fn deeper(&mut self, walk: impl FnOnce(&mut Self) -> Checked) -> Checked {
        if self.depth >= MAX_DEPTH {
            return Err(Fault::Limit(format!("selections and fragments nest deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let done = walk(self);
        self.depth -= 1;
        done
    }

    fn operation(&mut self, operation: &'a Operation) -> Checked {
        self.operation = Some(operation);
        let context = self.context;
        for variable in &operation.variable_definitions {
            let of = type_of(variable.r#type.as_ref())?;
            if context.r#type(of.name()).is_none() {
                self.complain(variable.place, format!("Unknown type \"{}\".", of.name()))?;
            }
        }
        let (name, location) = match operation.operation.as_str() {
            "" | "query" => ("query", "QUERY"),
            "mutation" => ("mutation", "MUTATION"),
            "subscription" => ("subscription", "SUBSCRIPTION"),
            other => return Err(Fault::at(None, format!("got unknown operation type \"{other}\""))),
        };
        let root = context.root(name);
        for variable in &operation.variable_definitions {
            let of = type_of(variable.r#type.as_ref())?;
            let definition = context.r#type(of.name());
            if let Some(value) = &variable.default_value {
                let expected = Expected { r#type: Some(of), definition, has_default: value.expected_type_has_default };
                self.value(value, expected)?;
            }
            self.directives(&variable.directives, "VARIABLE_DEFINITION")?;
        }
        self.directives(&operation.directives, location)?;
        self.selections(root, &operation.selection_set)?;
        self.on_operation(operation, root)?;
        self.operation = None;
        Ok(())
    }

    fn fragment(&mut self, fragment: &'a Fragment) -> Checked {
        let of = self.context.r#type(&fragment.type_condition);
        self.directives(&fragment.directives, "FRAGMENT_DEFINITION")?;
        self.selections(of, &fragment.selection_set)?;
        self.on_fragment(fragment, of)
    }

    fn directives(&mut self, directives: &'a [Directive], location: &str) -> Checked {
        for directive in directives {
            let definition = self.context.schema.directives.get(&directive.name);
            for argument in &directive.arguments {
                let of = self.argument_of(definition.map(|of| of.arguments.as_slice()), argument)?;
                self.argument(of, argument)?;
            }
            self.on_directive(directive, definition, location)?;
        }
        self.on_directives(directives)
    }

    fn argument_of(
        &self,
        definitions: Option<&'a [ArgumentDefinition]>,
        argument: &Argument,
    ) -> Result<Option<&'a ArgumentDefinition>, Fault> {
        let definitions = definitions.unwrap_or_default();
        self.context.charge(definitions.len())?;
        Ok(definitions.iter().find(|definition| definition.name == argument.name))
    }

    fn argument(&mut self, of: Option<&'a ArgumentDefinition>, argument: &'a Argument) -> Checked {
        let value = value_of(argument)?;
        let mut expected = Expected { has_default: value.expected_type_has_default, ..Expected::default() };
        if let Some(of) = of {
            let own = type_of(of.r#type.as_ref())?;
            expected = Expected {
                r#type: Some(own),
                definition: self.context.r#type(own.name()),
                has_default: has_default(of.default_value.as_ref()),
            };
        }
        self.value(value, expected)
    }

    fn value(&mut self, value: &'a Literal, expected: Expected<'a>) -> Checked {
        let context = self.context;
        context.charge(1)?;
        let variable = self.variable(value)?;
        if let Some(variable) = variable {
            self.used_variables.insert(std::ptr::from_ref(variable));
        }
        let children = match value.kind {
            literal::OBJECT | literal::LIST => value.children.as_slice(),
            _ => &[],
        };
        for child in children {
            let own = child.value.as_ref().ok_or_else(|| Fault::at(None, "a value has no value"))?;
            let mut inner = Expected { has_default: own.expected_type_has_default, ..Expected::default() };
            if value.kind == literal::OBJECT {
                let fields = expected.definition.map(|of| of.fields.as_slice()).unwrap_or_default();
                context.charge(fields.len())?;
                if let Some(field) = fields.iter().find(|field| field.name == child.name) {
                    let of = type_of(field.r#type.as_ref())?;
                    inner = Expected {
                        r#type: Some(of),
                        definition: context.r#type(of.name()),
                        has_default: has_default(field.default_value.as_ref()),
                    };
                }
            } else if let Some(element) = expected.r#type.and_then(|of| of.elem.as_deref()) {
                inner = Expected { r#type: Some(element), definition: expected.definition, ..inner };
            }
            self.deeper(|walker| walker.value(own, inner))?;
        }
        self.on_value(value, expected, variable)
    }

    /// The definition of a variable that is used in an operation.
    fn variable(&self, value: &Literal) -> Result<Option<&'a VariableDefinition>, Fault> {
        let Some(operation) = self.operation.filter(|_| value.kind == literal::VARIABLE) else { return Ok(None) };
        self.context.charge(operation.variable_definitions.len())?;
        Ok(operation.variable_definitions.iter().find(|variable| variable.variable == value.raw))
    }

    fn selections(&mut self, parent: Option<&'a Definition>, selections: &'a [Selection]) -> Checked {
        for selection in selections {
            self.context.charge(1)?;
            self.deeper(|walker| match selection {
                Selection::Field(field) => walker.field(parent, field),
                Selection::Inline(inline) => walker.inline(parent, inline),
                Selection::Spread(spread) => walker.spread(parent, spread),
            })?;
        }
        Ok(())
    }

    fn field(&mut self, parent: Option<&'a Definition>, field: &'a Field) -> Checked {
        let context = self.context;
        let definition = if field.name == "__typename" {
            Some(&context.typename)
        } else {
            let fields = parent.map(|of| of.fields.as_slice()).unwrap_or_default();
            context.charge(fields.len())?;
            fields.iter().find(|known| known.name == field.name)
        };
        let known = Known { parent, definition };
        self.fields.insert(std::ptr::from_ref(field), known);
        let next = match definition {
            Some(definition) => context.r#type(type_of(definition.r#type.as_ref())?.name()),
            None => None,
        };
        for argument in &field.arguments {
            let of = self.argument_of(definition.map(|of| of.arguments.as_slice()), argument)?;
            self.argument(of, argument)?;
        }
        self.directives(&field.directives, "FIELD")?;
        self.selections(next, &field.selection_set)?;
        self.on_field(field, known)
    }

    fn inline(&mut self, parent: Option<&'a Definition>, inline: &'a Inline) -> Checked {
        let next = if inline.type_condition.is_empty() { parent } else { self.context.r#type(&inline.type_condition) };
        self.directives(&inline.directives, "INLINE_FRAGMENT")?;
        self.selections(next, &inline.selection_set)?;
        self.on_inline(inline, parent)
    }

    fn spread(&mut self, parent: Option<&'a Definition>, spread: &'a Spread) -> Checked {
        let context = self.context;
        let fragment = context.fragments.get(spread.name.as_str()).copied();
        let next = fragment.and_then(|fragment| context.r#type(&fragment.type_condition));
        self.directives(&spread.directives, "FRAGMENT_SPREAD")?;
        if let Some(fragment) = fragment
            && self.entered.insert(&fragment.name)
        {
            self.directives(&fragment.directives, "FRAGMENT_DEFINITION")?;
            self.selections(next, &fragment.selection_set)?;
        }
        self.on_spread(spread, fragment, parent)
    }
}
