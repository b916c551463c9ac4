//! Whether a type has what the interfaces that it implements ask for, in OPA's order and sentences. Whether its fields and
//! arguments are sound in themselves is not asked here.

use super::{
    super::{
        Fault,
        ast::{Definition, FieldDefinition, Type},
        go_quote,
    },
    Checked, Schema, known_type,
};

// === impl Schema ===

impl Schema {
    pub(super) fn implements(&self, of: &Definition, name: &str) -> Checked {
        let Some(interface) = self.types.get(name) else {
            return Err(Fault::at(of.place, format!("Undefined type {}.", go_quote(name))));
        };
        if interface.kind != "INTERFACE" {
            let message = format!("{} is a non interface type {}.", go_quote(name), interface.kind);
            return Err(Fault::at(of.place, message));
        }
        for required in &interface.fields {
            self.steps.charge(of.fields.len())?;
            let Some(found) = of.fields.iter().find(|field| field.name == required.name) else {
                let message =
                    format!("For {} to implement {name} it must have a field called {}.", of.name, required.name);
                return Err(Fault::at(of.place, message));
            };
            self.fits(of, name, required, found)?;
        }
        for transitive in &interface.interfaces {
            self.steps.charge(of.interfaces.len())?;
            if of.interfaces.contains(transitive) {
                continue;
            }
            let message = if *transitive == of.name {
                format!("Type {} cannot implement {name} because it would create a circular reference.", of.name)
            } else {
                format!("Type {} must implement {transitive} because it is implemented by {name}.", of.name)
            };
            return Err(Fault::at(of.place, message));
        }
        Ok(())
    }

    /// Is a field what an interface wants?
    fn fits(&self, of: &Definition, name: &str, required: &FieldDefinition, found: &FieldDefinition) -> Checked {
        let start = format!("For {} to implement {name}", of.name);
        let (wanted, given) = (known_type(required.r#type.as_ref())?, known_type(found.r#type.as_ref())?);
        if !self.covariant(wanted, given)? {
            let message = format!("{start} the field {} must have type {wanted}.", required.name);
            return Err(Fault::at(found.place, message));
        }
        for argument in &required.arguments {
            self.steps.charge(found.arguments.len())?;
            let start = format!("{start} the field {} must have the same arguments but", required.name);
            let Some(other) = found.arguments.iter().find(|other| other.name == argument.name) else {
                return Err(Fault::at(found.place, format!("{start} it is missing {}.", argument.name)));
            };
            if !compatible(known_type(argument.r#type.as_ref())?, known_type(other.r#type.as_ref())?) {
                return Err(Fault::at(other.place, format!("{start} {} has the wrong type.", argument.name)));
            }
        }
        for other in &found.arguments {
            self.steps.charge(required.arguments.len())?;
            let known = required.arguments.iter().any(|argument| argument.name == other.name);
            if !known && known_type(other.r#type.as_ref())?.non_null && other.default_value.is_none() {
                let message = format!(
                    "{start} any additional arguments on {} must be optional or have a default value but {} is required.",
                    found.name, other.name
                );
                return Err(Fault::at(other.place, message));
            }
        }
        Ok(())
    }

    fn covariant(&self, required: &Type, actual: &Type) -> Result<bool, Fault> {
        if required.non_null && !actual.non_null {
            return Ok(false);
        }
        if !required.named_type.is_empty() {
            if required.named_type == actual.named_type {
                return Ok(true);
            }
            let possible = self.possible.get(&required.named_type).map_or(&[][..], Vec::as_slice);
            self.steps.charge(possible.len())?;
            return Ok(possible.contains(&actual.named_type));
        }
        match (&required.elem, &actual.elem) {
            (Some(required), Some(actual)) => self.covariant(required, actual),
            _ => Ok(false),
        }
    }
}

/// May an argument of type `other` stand where an interface has `wanted`?
fn compatible(wanted: &Type, other: &Type) -> bool {
    if wanted.named_type != other.named_type {
        return false;
    }
    let elements = match (&wanted.elem, &other.elem) {
        (Some(wanted), Some(other)) => compatible(wanted, other),
        (Some(_), None) => false,
        (None, _) => true,
    };
    elements && (wanted.non_null || !other.non_null)
}
