//! The rules about values and the variables in them: types, enumerations, members of input objects, and whether a
//! variable may stand where it does.

use super::super::go_quote;
use super::{
    Checked, Definition, Expected, Fault, Literal, Type, VariableDefinition, Walker, has_default, literal, suggest,
    type_of,
};

impl<'a> Walker<'a> {
    pub(super) fn on_value(
        &mut self,
        value: &'a Literal,
        expected: Expected<'a>,
        variable: Option<&'a VariableDefinition>,
    ) -> Checked {
        self.undefined_variable(value, variable)?;
        if value.kind == literal::OBJECT {
            let mut seen = std::collections::HashSet::new();
            for child in &value.children {
                if !seen.insert(&child.name) {
                    let message = format!("There can be only one input field named \"{}\".", child.name);
                    self.complain(child.place, message)?;
                }
            }
        }
        if let (Some(definition), Some(r#type)) = (expected.definition, expected.r#type) {
            self.of_correct_type(value, definition, r#type)?;
        }
        if let (Some(expected_type), Some(variable), Some(_)) = (expected.r#type, variable, self.operation) {
            let own = type_of(variable.r#type.as_ref())?;
            let nullable = has_default(variable.default_value.as_ref()) || expected.has_default;
            if !fits(own, expected_type, expected_type.non_null && !nullable) {
                let message = format!(
                    "Variable \"${}\" of type \"{own}\" used in position expecting type \"{expected_type}\".",
                    value.raw
                );
                self.complain(value.place, message)?;
            }
        }
        match expected.definition {
            Some(definition) if value.kind == literal::OBJECT && is_one_of(definition) => {
                self.null_for_one_of(value, definition)
            }
            _ => Ok(()),
        }
    }

    fn undefined_variable(&mut self, value: &Literal, variable: Option<&VariableDefinition>) -> Checked {
        let Some(operation) = self.operation.filter(|_| value.kind == literal::VARIABLE && variable.is_none()) else {
            return Ok(());
        };
        let message = match operation.name.as_str() {
            "" => format!("Variable \"${}\" is not defined.", value.raw),
            name => format!("Variable \"${}\" is not defined by operation \"{name}\".", value.raw),
        };
        self.complain(value.place, message)
    }

    fn null_for_one_of(&mut self, value: &'a Literal, definition: &Definition) -> Checked {
        for child in value.children.iter().filter_map(|child| child.value.as_ref()) {
            let Some(variable) = self.variable(child)? else { continue };
            let own = type_of(variable.r#type.as_ref())?;
            if !own.non_null {
                let message = format!(
                    "Variable \"${}\" is of type \"{own}\" but must be non-nullable to be used for OneOf Input Object \
                     \"{}\".",
                    child.raw, definition.name
                );
                self.complain(variable.place, message)?;
            }
        }
        Ok(())
    }

    fn of_correct_type(&mut self, value: &'a Literal, definition: &'a Definition, expected: &Type) -> Checked {
        if value.kind == literal::NULL && expected.non_null {
            let message = format!("Expected value of type \"{expected}\", found {}.", self.text(value)?);
            self.complain(value.place, message)?;
        }
        let one_of = |names: &[&str]| names.contains(&definition.name.as_str());
        if definition.kind == "SCALAR" && !one_of(&["Int", "Float", "String", "Boolean", "ID"]) {
            return Ok(());
        }
        if !self.converts(value, 0)? {
            self.unexpected(value, definition, expected)?;
        }
        let is_enum = definition.kind == "ENUM";
        match value.kind {
            literal::LIST if expected.elem.is_none() => self.unexpected(value, definition, expected),
            literal::INT if !one_of(&["Int", "Float", "ID"]) => self.unexpected(value, definition, expected),
            literal::FLOAT if !one_of(&["Float"]) => self.unexpected(value, definition, expected),
            literal::STRING | literal::BLOCK if is_enum => {
                let hint = self.enum_hint(value, definition)?;
                let text = self.text(value)?;
                let message = format!("Enum \"{expected}\" cannot represent non-enum value: {text}.{hint}");
                self.complain(value.place, message)
            }
            literal::STRING | literal::BLOCK if !one_of(&["String", "ID"]) => {
                self.unexpected(value, definition, expected)
            }
            literal::ENUM if !is_enum => self.unexpected(value, definition, expected),
            literal::ENUM if !definition.enum_values.iter().any(|known| known.name == value.raw) => {
                let hint = self.enum_hint(value, definition)?;
                let text = self.text(value)?;
                let message = format!("Value \"{text}\" does not exist in \"{expected}\" enum.{hint}");
                self.complain(value.place, message)
            }
            literal::BOOLEAN if !one_of(&["Boolean"]) => self.unexpected(value, definition, expected),
            literal::OBJECT => self.members(value, definition),
            _ => Ok(()),
        }
    }

    fn enum_hint(&self, value: &Literal, definition: &Definition) -> Result<String, Fault> {
        let names = definition.enum_values.iter().map(|value| value.name.as_str());
        let near = suggest::near(self.context, &value.raw, names)?;
        Ok(suggest::question("Did you mean the enum value", &near))
    }

    fn members(&mut self, value: &'a Literal, definition: &'a Definition) -> Checked {
        let name = &definition.name;
        for field in &definition.fields {
            let of = type_of(field.r#type.as_ref())?;
            self.context.charge(value.children.len())?;
            let given = value.children.iter().any(|child| child.name == field.name);
            if of.non_null && !given && field.default_value.is_none() {
                let message = format!("Field \"{name}.{}\" of required type \"{of}\" was not provided.", field.name);
                self.complain(value.place, message)?;
            }
        }
        if is_one_of(definition) {
            match value.children.as_slice() {
                [only] => {
                    let own = only.value.as_ref().filter(|own| own.kind == literal::NULL);
                    if let (Some(own), Some(first)) = (own, definition.fields.first()) {
                        self.complain(own.place, format!("Field \"{name}.{}\" must be non-null.", first.name))?;
                    }
                }
                _ => {
                    let message = format!("OneOf Input Object \"{name}\" must specify exactly one key.");
                    self.complain(value.place, message)?;
                }
            }
        }
        for child in &value.children {
            self.context.charge(definition.fields.len())?;
            if definition.fields.iter().any(|field| field.name == child.name) {
                continue;
            }
            let names = definition.fields.iter().map(|field| field.name.as_str());
            let near = suggest::near(self.context, &child.name, names)?;
            let hint = suggest::question("Did you mean", &near);
            let message = format!("Field \"{}\" is not defined by type \"{name}\".{hint}", child.name);
            self.complain(child.place, message)?;
        }
        Ok(())
    }

    fn unexpected(&mut self, value: &Literal, definition: &Definition, expected: &Type) -> Checked {
        let text = self.text(value)?;
        let message = match expected.to_string().as_str() {
            "Int" | "Int!" if is_large(&value.raw) => {
                format!("Int cannot represent non 32-bit signed integer value: {text}")
            }
            "Int" | "Int!" => format!("Int cannot represent non-integer value: {text}"),
            "String" | "String!" | "[String]" => format!("String cannot represent a non string value: {text}"),
            "Boolean" | "Boolean!" => format!("Boolean cannot represent a non boolean value: {text}"),
            "Float" | "Float!" => format!("Float cannot represent non numeric value: {text}"),
            "ID" | "ID!" => format!("ID cannot represent a non-string and non-integer value: {text}"),
            shown if definition.kind == "ENUM" => {
                format!("Enum \"{shown}\" cannot represent non-enum value: {text}.")
            }
            shown => format!("Expected value of type \"{shown}\", found {text}."),
        };
        self.complain(value.place, message)
    }

    /// A value as it is shown in sentences.
    fn text(&self, value: &Literal) -> Result<String, Fault> {
        fn write(out: &mut String, value: Option<&Literal>) {
            let Some(value) = value else { return out.push_str("<nil>") };
            match value.kind {
                literal::VARIABLE => {
                    out.push('$');
                    out.push_str(&value.raw);
                }
                literal::STRING | literal::BLOCK => out.push_str(&go_quote(&value.raw)),
                literal::LIST | literal::OBJECT => {
                    let is_list = value.kind == literal::LIST;
                    out.push(if is_list { '[' } else { '{' });
                    for (index, child) in value.children.iter().enumerate() {
                        if index > 0 {
                            out.push(',');
                        }
                        if !is_list {
                            out.push_str(&child.name);
                            out.push(':');
                        }
                        write(out, child.value.as_ref());
                    }
                    out.push(if is_list { ']' } else { '}' });
                }
                _ => out.push_str(&value.raw),
            }
        }
        let mut out = String::new();
        write(&mut out, Some(value));
        self.context.charge(out.len() / 8)?;
        Ok(out)
    }

    /// Can the text of every number and boolean in it be read?
    fn converts(&self, value: &Literal, depth: usize) -> Result<bool, Fault> {
        self.context.charge(1)?;
        Ok(match value.kind {
            // A default could hold the variable itself.
            literal::VARIABLE if depth < super::MAX_DEPTH => {
                let default = self.variable(value)?.and_then(|variable| variable.default_value.as_ref());
                match default {
                    Some(default) => self.converts(default, depth + 1)?,
                    None => true,
                }
            }
            literal::INT => value.raw.parse::<i64>().is_ok(),
            literal::FLOAT => value.raw.parse::<f64>().is_ok_and(f64::is_finite),
            literal::BOOLEAN => {
                matches!(
                    value.raw.as_str(),
                    "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False"
                )
            }
            literal::LIST | literal::OBJECT => {
                for child in value.children.iter().filter_map(|child| child.value.as_ref()) {
                    if !self.converts(child, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => true,
        })
    }
}

fn is_one_of(definition: &Definition) -> bool {
    definition.directives.iter().any(|directive| directive.name == "oneOf")
}

/// An integer, but one that 32 bits cannot hold?
fn is_large(raw: &str) -> bool {
    let digits = raw.strip_prefix(['-', '+']).unwrap_or(raw);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && raw.parse::<i32>().is_err()
}

/// May a variable of this type stand where the other is expected?
fn fits(own: &Type, expected: &Type, expected_non_null: bool) -> bool {
    if own.named_type != expected.named_type {
        return false;
    }
    let inner = match (&own.elem, &expected.elem) {
        (Some(own), Some(expected)) => fits(own, expected, expected.non_null),
        (Some(_), None) => false,
        (None, _) => true,
    };
    inner && (!expected_non_null || own.non_null)
}
