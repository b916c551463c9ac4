//! Arguments of builtins, taken apart with OPA's sentences for what does not fit. It converts nothing silently.

use std::collections::BTreeMap;

use regorus::{
    Value,
    value::{Array, Object},
};

use super::super::builtins::BuiltinError;

/// Most that the arguments of one call may hold, in bytes of text plus eight for every value.
const MAX_BYTES: usize = 8 << 20;

/// Refuses arguments that are too large to work on, counting shared parts each time.
pub(super) fn within_limit(args: &[Value]) -> Result<(), BuiltinError> {
    fn take(value: &Value, left: &mut usize) -> bool {
        let own = match value {
            Value::String(text) => text.len() + 8,
            _ => 8,
        };
        let Some(rest) = left.checked_sub(own) else { return false };
        *left = rest;
        match value {
            Value::Array(items) => items.iter().all(|item| take(item, left)),
            Value::Set(items) => items.iter().all(|item| take(item, left)),
            Value::Object(members) => members.iter().all(|(key, member)| take(key, left) && take(member, left)),
            _ => true,
        }
    }
    let mut left = MAX_BYTES;
    if args.iter().all(|value| take(value, &mut left)) {
        return Ok(());
    }
    Err(BuiltinError::Limit(format!("arguments are larger than {MAX_BYTES} bytes")))
}

/// A failure of the operation itself.
pub(super) fn failed(message: impl Into<String>) -> BuiltinError {
    BuiltinError::Failed(message.into())
}

/// The argument at `index` (from 0) as text.
pub(super) fn string(args: &[Value], index: usize) -> Result<&str, BuiltinError> {
    match args.get(index) {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong_type(index, "string", other)),
    }
}

/// The argument at `index` (from 0) as an array.
pub(super) fn array(args: &[Value], index: usize) -> Result<&Array, BuiltinError> {
    match args.get(index) {
        Some(Value::Array(items)) => Ok(items),
        other => Err(wrong_type(index, "array", other)),
    }
}

/// The argument at `index` (from 0) as an object.
pub(super) fn object(args: &[Value], index: usize) -> Result<&Object, BuiltinError> {
    match args.get(index) {
        Some(Value::Object(members)) => Ok(members),
        other => Err(wrong_type(index, "object", other)),
    }
}

/// A member of an object by its name.
pub(super) fn member<'v>(object: &'v Object, name: &str) -> Option<&'v Value> {
    object.get(&Value::from(name))
}

/// The elements of an array, or those of a set in order.
pub(super) fn elements(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Array(items) => Some(items.iter().collect()),
        Value::Set(items) => Some(items.iter_sorted().collect()),
        _ => None,
    }
}

/// An object from names and values.
pub(in super::super) fn record<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter().map(|(name, value)| (Value::from(name), value));
    Value::from(members.collect::<BTreeMap<Value, Value>>())
}

/// `operand n must be <what> but got <type>`.
pub(super) fn wrong_type(index: usize, want: &str, got: Option<&Value>) -> BuiltinError {
    let got = got.map_or("undefined", type_name);
    BuiltinError::Type(format!("operand {} must be {want} but got {got}", index + 1))
}

/// OPA's name of a value's type.
pub(in super::super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Set(_) => "set",
        Value::Object(_) => "object",
        Value::Undefined => "undefined",
    }
}
