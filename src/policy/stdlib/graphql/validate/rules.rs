//! The rules about operations, fragments, fields, arguments and directives. Each function is what is asked of one kind of
//! node once everything in it was walked, in the order of the rules' names.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::go_quote;
use super::{
    Argument, ArgumentDefinition, Checked, Definition, Directive, DirectiveDefinition, Fault, Field, Fragment, Inline,
    Known, Operation, Place, Selection, Spread, Walker, is_abstract, is_composite, is_leaf, suggest, type_of,
};

/// Most lists of an introspection query within one another.
const MAX_LISTS: usize = 3;

impl<'a> Walker<'a> {
    pub(super) fn on_operation(&mut self, operation: &'a Operation, root: Option<&Definition>) -> Checked {
        let (name, context) = (operation.name.as_str(), self.context);
        if root.is_none() {
            let message = format!("Schema does not support operation type \"{}\"", operation.operation);
            self.complain(operation.place, message)?;
        }
        if name.is_empty() && context.document.operations.len() > 1 {
            self.complain(operation.place, "This anonymous operation must be the only defined operation.")?;
        }
        for variable in &operation.variable_definitions {
            if variable.used || self.used_variables.contains(&std::ptr::from_ref(variable)) {
                continue;
            }
            let mut message = format!("Variable \"${}\" is never used", variable.variable);
            if !name.is_empty() {
                message.push_str(&format!(" in operation \"{name}\""));
            }
            self.complain(variable.place, message + ".")?;
        }
        self.overlapping(&operation.selection_set)?;
        if operation.operation == "subscription" && root.is_some() {
            self.single_field(operation)?;
        }
        if !self.seen.operations.insert(name) {
            self.complain(operation.place, format!("There can be only one operation named \"{name}\"."))?;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for variable in &operation.variable_definitions {
            let count = counts.entry(&variable.variable).or_default();
            *count += 1;
            if *count == 2 {
                let message = format!("There can be only one variable named \"${}\".", variable.variable);
                self.complain(variable.place, message)?;
            }
        }
        for variable in &operation.variable_definitions {
            let of = type_of(variable.r#type.as_ref())?;
            let definition = context.r#type(of.name());
            if definition.is_some_and(|of| !matches!(of.kind.as_str(), "SCALAR" | "ENUM" | "INPUT_OBJECT")) {
                let message = format!("Variable \"${}\" cannot be non-input type \"{of}\".", variable.variable);
                self.complain(variable.place, message)?;
            }
        }
        Ok(())
    }

    fn single_field(&mut self, operation: &'a Operation) -> Checked {
        let mut fields = Vec::new();
        self.top_fields(&operation.selection_set, &mut HashSet::new(), &mut fields, 0)?;
        let mut names = HashSet::new();
        fields.retain(|field| names.insert(field.name.as_str()));
        let name = match operation.name.as_str() {
            "" => "Anonymous Subscription".to_owned(),
            name => format!("Subscription {}", go_quote(name)),
        };
        if let Some(second) = fields.get(1) {
            self.complain(second.place, format!("{name} must select only one top level field."))?;
        }
        for field in fields.iter().filter(|field| field.name.starts_with("__")) {
            self.complain(field.place, format!("{name} must not select an introspection top level field."))?;
        }
        Ok(())
    }

    fn top_fields(
        &self,
        selections: &'a [Selection],
        entered: &mut HashSet<&'a str>,
        fields: &mut Vec<&'a Field>,
        depth: usize,
    ) -> Checked {
        within(depth)?;
        for selection in selections {
            self.context.charge(1)?;
            match selection {
                Selection::Field(field) => fields.push(field),
                Selection::Inline(inline) => self.top_fields(&inline.selection_set, entered, fields, depth + 1)?,
                Selection::Spread(spread) => {
                    let Some(fragment) = self.context.fragments.get(spread.name.as_str()) else { return Ok(()) };
                    if entered.insert(&fragment.name) {
                        self.top_fields(&fragment.selection_set, entered, fields, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_fragment(&mut self, fragment: &'a Fragment, of: Option<&Definition>) -> Checked {
        let (name, on) = (fragment.name.as_str(), fragment.type_condition.as_str());
        if of.is_some_and(|of| !on.is_empty() && !is_composite(of)) {
            let message = format!("Fragment \"{name}\" cannot condition on non composite type \"{on}\".");
            self.complain(fragment.place, message)?;
        }
        if of.is_none() {
            let near = suggest::near(self.context, on, self.context.schema.types.keys().map(String::as_str))?;
            let hint = suggest::question("Did you mean", &near);
            self.complain(fragment.place, format!("Unknown type \"{on}\".{hint}"))?;
        }
        self.cycles(fragment, &mut Vec::new(), &mut HashMap::new())?;
        self.seen.within_fragments = true;
        if !self.seen.spread.contains(name) {
            self.complain(fragment.place, format!("Fragment \"{name}\" is never used."))?;
        }
        self.overlapping(&fragment.selection_set)?;
        if !self.seen.fragments.insert(name) {
            self.complain(fragment.place, format!("There can be only one fragment named \"{name}\"."))?;
        }
        Ok(())
    }

    /// Fragments that spread themselves; `path` is the way here, `entered` how long it was at each fragment on it.
    fn cycles(
        &mut self,
        fragment: &'a Fragment,
        path: &mut Vec<&'a Spread>,
        entered: &mut HashMap<&'a str, usize>,
    ) -> Checked {
        within(path.len())?;
        if !self.seen.cycles.insert(&fragment.name) {
            return Ok(());
        }
        let mut spreads = Vec::new();
        let mut open = vec![fragment.selection_set.as_slice()];
        while let Some(selections) = open.pop() {
            self.context.charge(selections.len())?;
            for selection in selections {
                match selection {
                    Selection::Spread(spread) => spreads.push(spread),
                    Selection::Field(field) => open.push(&field.selection_set),
                    Selection::Inline(inline) => open.push(&inline.selection_set),
                }
            }
        }
        if spreads.is_empty() {
            return Ok(());
        }
        entered.insert(&fragment.name, path.len());
        for spread in spreads {
            let start = entered.get(spread.name.as_str()).copied();
            if let Some(start) = start {
                let names: Vec<String> = path.iter().skip(start).map(|spread| format!("\"{}\"", spread.name)).collect();
                let via = if names.is_empty() { String::new() } else { format!(" via {}", names.join(", ")) };
                let message = format!("Cannot spread fragment \"{}\" within itself{via}.", spread.name);
                self.complain(spread.place, message)?;
            } else if let Some(next) = self.context.fragments.get(spread.name.as_str()) {
                path.push(spread);
                self.cycles(next, path, entered)?;
                path.pop();
            }
        }
        entered.remove(fragment.name.as_str());
        Ok(())
    }

    pub(super) fn on_inline(&mut self, inline: &'a Inline, parent: Option<&'a Definition>) -> Checked {
        let on = inline.type_condition.as_str();
        let of = self.context.r#type(on);
        if of.is_some_and(|of| !is_composite(of)) {
            let message = format!("Fragment cannot condition on non composite type \"{on}\".");
            self.complain(inline.place, message)?;
        }
        if of.is_none() && !on.is_empty() {
            self.complain(inline.place, format!("Unknown type \"{on}\"."))?;
        }
        self.overlapping(&inline.selection_set)?;
        if let Some(parent) = parent.filter(|parent| self.is_foreign(parent, of)) {
            let message = format!(
                "Fragment cannot be spread here as objects of type \"{}\" can never be of type \"{on}\".",
                parent.name
            );
            self.complain(inline.place, message)?;
        }
        Ok(())
    }

    pub(super) fn on_spread(
        &mut self,
        spread: &'a Spread,
        fragment: Option<&'a Fragment>,
        parent: Option<&'a Definition>,
    ) -> Checked {
        if !self.seen.within_fragments {
            self.seen.spread.insert(&spread.name);
        }
        let Some(fragment) = fragment else {
            return self.complain(spread.place, format!("Unknown fragment \"{}\".", spread.name));
        };
        let on = &fragment.type_condition;
        if let Some(parent) = parent.filter(|parent| self.is_foreign(parent, self.context.r#type(on))) {
            let message = format!(
                "Fragment \"{}\" cannot be spread here as objects of type \"{}\" can never be of type \"{on}\".",
                spread.name, parent.name
            );
            self.complain(spread.place, message)?;
        }
        Ok(())
    }

    /// Can no value be of both types?
    fn is_foreign(&self, parent: &Definition, of: Option<&Definition>) -> bool {
        let Some(of) = of.filter(|of| is_composite(of) && is_composite(parent)) else { return false };
        let own: HashSet<&str> = match parent.kind.as_str() {
            "OBJECT" => HashSet::from([parent.name.as_str()]),
            _ => self.context.possible(parent).iter().map(String::as_str).collect(),
        };
        !self.context.possible(of).iter().any(|name| own.contains(name.as_str()))
    }

    pub(super) fn on_field(&mut self, field: &'a Field, known: Known<'a>) -> Checked {
        if let (Some(parent), None) = (known.parent, known.definition) {
            let hint = self.field_hint(parent, &field.name)?;
            let message = format!("Cannot query field \"{}\" on type \"{}\".{hint}", field.name, parent.name);
            self.complain(field.place, message)?;
        }
        if let (Some(parent), Some(definition)) = (known.parent, known.definition) {
            let of = format!("field \"{}.{}\"", parent.name, field.name);
            self.known_arguments(&field.arguments, &definition.arguments, &of, field.place)?;
        }
        if matches!(field.name.as_str(), "__schema" | "__type")
            && self.too_many_lists(std::slice::from_ref(field), &[], &mut HashSet::new(), (0, 0))?
        {
            self.complain(field.place, "Maximum introspection depth exceeded")?;
        }
        if self.operation.is_some() {
            self.overlapping(&field.selection_set)?;
        }
        if let Some(definition) = known.definition {
            let of = format!("Field \"{}\"", field.name);
            self.required_arguments(&field.arguments, &definition.arguments, &of, field.place)?;
            let of = type_of(definition.r#type.as_ref())?;
            let leaf = self.context.r#type(of.name()).map(|definition| (is_leaf(definition), &definition.name));
            match (leaf, field.selection_set.is_empty()) {
                (Some((true, name)), false) => {
                    let message = format!(
                        "Field \"{}\" must not have a selection since type \"{name}\" has no subfields.",
                        field.name
                    );
                    self.complain(field.place, message)?;
                }
                (Some((false, _)), true) => {
                    let message = format!(
                        "Field \"{0}\" of type \"{of}\" must have a selection of subfields. Did you mean \"{0} {{ ... \
                         }}\"?",
                        field.name
                    );
                    self.complain(field.place, message)?;
                }
                _ => {}
            }
        }
        self.unique_arguments(&field.arguments)
    }

    fn field_hint(&self, parent: &'a Definition, name: &str) -> Result<String, Fault> {
        if is_abstract(parent) {
            let types = self.types_with(parent, name)?;
            if !types.is_empty() {
                return Ok(format!(" Did you mean to use an inline fragment on {}?", suggest::or_list(&types)));
            }
        }
        if !matches!(parent.kind.as_str(), "OBJECT" | "INTERFACE") {
            return Ok(String::new());
        }
        let near = suggest::near(self.context, name, parent.fields.iter().map(|field| field.name.as_str()))?;
        Ok(suggest::question("Did you mean", &near))
    }

    /// The types below an abstract one that have a field, those that say most first.
    fn types_with(&self, parent: &Definition, name: &str) -> Result<Vec<&'a str>, Fault> {
        let context = self.context;
        let has = |of: &Definition| {
            context.charge(of.fields.len())?;
            Ok::<bool, Fault>(of.fields.iter().any(|field| field.name == name))
        };
        let mut objects = Vec::new();
        let mut interfaces = Vec::new();
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        for possible in context.possible(parent).iter().filter_map(|name| context.r#type(name)) {
            if !has(possible)? {
                continue;
            }
            objects.push(possible.name.as_str());
            for interface in possible.interfaces.iter().filter_map(|name| context.r#type(name)) {
                if has(interface)? {
                    let count = uses.entry(&interface.name).or_default();
                    *count += 1;
                    if *count == 1 {
                        interfaces.push(interface.name.as_str());
                    }
                }
            }
        }
        interfaces.append(&mut objects);
        interfaces.sort_by_key(|name| (std::cmp::Reverse(uses.get(name).copied().unwrap_or_default()), *name));
        Ok(interfaces)
    }

    /// Does an introspection query nest lists too deep? `fields` and `selections` are looked at; `lists` is how many are
    /// around, `depth` how far in this is.
    fn too_many_lists(
        &self,
        fields: &'a [Field],
        selections: &'a [Selection],
        entered: &mut HashSet<&'a str>,
        (lists, depth): (usize, usize),
    ) -> Result<bool, Fault> {
        within(depth)?;
        let own = selections.iter().filter_map(|selection| match selection {
            Selection::Field(field) => Some(field),
            _ => None,
        });
        self.context.charge(selections.len())?;
        for field in fields.iter().chain(own) {
            let is_list = matches!(field.name.as_str(), "fields" | "interfaces" | "possibleTypes" | "inputFields");
            let lists = lists + usize::from(is_list);
            if is_list && lists >= MAX_LISTS
                || self.too_many_lists(&[], &field.selection_set, entered, (lists, depth + 1))?
            {
                return Ok(true);
            }
        }
        for selection in selections {
            let found = match selection {
                Selection::Field(_) => false,
                Selection::Inline(inline) => {
                    self.too_many_lists(&[], &inline.selection_set, entered, (lists, depth + 1))?
                }
                Selection::Spread(spread) => match self.context.fragments.get(spread.name.as_str()) {
                    Some(fragment) if entered.insert(&spread.name) => {
                        let found = self.too_many_lists(&[], &fragment.selection_set, entered, (lists, depth + 1))?;
                        entered.remove(spread.name.as_str());
                        found
                    }
                    _ => false,
                },
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn known_arguments(
        &mut self,
        given: &[Argument],
        definitions: &'a [ArgumentDefinition],
        of: &str,
        place: Option<Place>,
    ) -> Checked {
        for argument in given {
            self.context.charge(definitions.len())?;
            if definitions.iter().any(|known| known.name == argument.name) {
                continue;
            }
            let names = definitions.iter().map(|known| known.name.as_str());
            let near = suggest::near(self.context, &argument.name, names)?;
            let hint = suggest::question("Did you mean", &near);
            self.complain(place, format!("Unknown argument \"{}\" on {of}.{hint}", argument.name))?;
        }
        Ok(())
    }

    fn required_arguments(
        &mut self,
        given: &[Argument],
        definitions: &[ArgumentDefinition],
        of: &str,
        place: Option<Place>,
    ) -> Checked {
        for definition in definitions {
            let r#type = type_of(definition.r#type.as_ref())?;
            if !r#type.non_null || definition.default_value.is_some() {
                continue;
            }
            self.context.charge(given.len())?;
            if !given.iter().any(|argument| argument.name == definition.name) {
                let name = &definition.name;
                let message =
                    format!("{of} argument \"{name}\" of type \"{type}\" is required, but it was not provided.");
                self.complain(place, message)?;
            }
        }
        Ok(())
    }

    fn unique_arguments(&mut self, arguments: &[Argument]) -> Checked {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for argument in arguments {
            let count = counts.entry(&argument.name).or_default();
            *count += 1;
            if *count == 2 {
                let message = format!("There can be only one argument named \"{}\".", argument.name);
                self.complain(argument.place, message)?;
            }
        }
        Ok(())
    }

    pub(super) fn on_directive(
        &mut self,
        directive: &'a Directive,
        definition: Option<&'a DirectiveDefinition>,
        location: &str,
    ) -> Checked {
        let name = directive.name.as_str();
        if let Some(definition) = definition {
            let of = format!("directive \"@{name}\"");
            self.known_arguments(&directive.arguments, &definition.arguments, &of, directive.place)?;
            let place = directive.place.map(|Place { row, col }| (row, col));
            if !definition.locations.iter().any(|known| known == location) && self.seen.misplaced.insert((name, place))
            {
                self.complain(directive.place, format!("Directive \"@{name}\" may not be used on {location}."))?;
            }
            let of = format!("Directive \"@{name}\"");
            self.required_arguments(&directive.arguments, &definition.arguments, &of, directive.place)?;
        } else {
            self.complain(directive.place, format!("Unknown directive \"@{name}\"."))?;
        }
        self.unique_arguments(&directive.arguments)
    }

    pub(super) fn on_directives(&mut self, directives: &'a [Directive]) -> Checked {
        let mut seen = HashSet::new();
        for directive in directives {
            let definition = self.context.schema.directives.get(&directive.name);
            if !seen.insert(&directive.name) && definition.is_none_or(|definition| !definition.is_repeatable) {
                let message = format!("The directive \"@{}\" can only be used once at this location.", directive.name);
                self.complain(directive.place, message)?;
            }
        }
        Ok(())
    }
}

/// Bounds the walks of rules as the walk itself is.
pub(super) fn within(depth: usize) -> Checked {
    if depth > super::MAX_DEPTH {
        return Err(Fault::Limit(format!("selections and fragments nest deeper than {}", super::MAX_DEPTH)));
    }
    Ok(())
}
