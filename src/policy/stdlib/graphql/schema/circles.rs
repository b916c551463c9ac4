//! Input objects that require themselves through a series of fields that are not null. Circles that a null or an empty
//! list ends are left alone.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        Fault,
        ast::{Definition, FieldDefinition},
        go_quote,
    },
    Checked, Schema, known_type,
};

/// Longest chain of input objects, each required by the one before.
const MAX_CHAIN: usize = 256;

/// The way of [`Schema::circle`] through the input objects.
#[derive(Default)]
struct Search<'s> {
    visited: HashSet<&'s str>,
    path: Vec<&'s FieldDefinition>,
    /// Types on the path, and how long it was when they were entered.
    entered: HashMap<&'s str, usize>,
}

// === impl Schema ===

impl Schema {
    /// Input objects that require themselves.
    pub(super) fn circles(&self) -> Checked {
        let mut search = Search::default();
        for definition in self.types.values().filter(|definition| definition.kind == "INPUT_OBJECT") {
            self.circle(definition, &mut search)?;
        }
        Ok(())
    }

    fn circle<'s>(&'s self, of: &'s Definition, search: &mut Search<'s>) -> Checked {
        if !search.visited.insert(&of.name) {
            return Ok(());
        }
        if search.path.len() > MAX_CHAIN {
            return Err(Fault::Limit(format!("a chain of required input objects is longer than {MAX_CHAIN}")));
        }
        search.entered.insert(&of.name, search.path.len());
        for field in &of.fields {
            let of_field = known_type(field.r#type.as_ref())?;
            if !of_field.non_null || of_field.named_type.is_empty() {
                continue;
            }
            let next = self.types.get(&of_field.named_type).filter(|next| next.kind == "INPUT_OBJECT");
            let Some(next) = next else { continue };
            search.path.push(field);
            if let Some(start) = search.entered.get(next.name.as_str()) {
                let circle = search.path.get(*start..).unwrap_or_default();
                let names: Vec<&str> = circle.iter().map(|field| field.name.as_str()).collect();
                let message = format!(
                    "Cannot reference Input Object {} within itself through a series of non-null fields: {}.",
                    go_quote(&next.name),
                    go_quote(&names.join("."))
                );
                return Err(Fault::at(circle.first().and_then(|field| field.place), message));
            }
            self.circle(next, search)?;
            search.path.pop();
        }
        search.entered.remove(of.name.as_str());
        Ok(())
    }
}
