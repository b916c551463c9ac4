//! Builtins that OPA keeps for policies of Rego v0: casts that convert next to nothing, `any` and `all`, `set_diff`. The
//! checks refuse them in Rego v1, as OPA does.

use std::collections::BTreeSet;

use regorus::Value;

use super::{
    Outcome,
    operand::{elements, type_name, wrong_type},
};
use crate::policy::builtins::BuiltinError;

const COLLECTIONS: &str = "one of {array, set}";

/// Is an element `true`?
pub(super) fn any(args: &[Value]) -> Outcome {
    Ok(Value::from(collection(args)?.contains(&&Value::Bool(true))))
}

/// Is every element `true`?
pub(super) fn all(args: &[Value]) -> Outcome {
    Ok(Value::from(collection(args)?.into_iter().all(|item| *item == Value::Bool(true))))
}

/// An array, or a set as one.
pub(super) fn cast_array(args: &[Value]) -> Outcome {
    Ok(Value::from(collection(args)?.into_iter().cloned().collect::<Vec<Value>>()))
}

/// A set, or an array as one.
pub(super) fn cast_set(args: &[Value]) -> Outcome {
    Ok(Value::from(collection(args)?.into_iter().cloned().collect::<BTreeSet<Value>>()))
}

/// The argument, if it has the type.
pub(super) fn cast(want: &str, args: &[Value]) -> Outcome {
    match args.first() {
        Some(value) if type_name(value) == want => Ok(value.clone()),
        other => Err(wrong_type(0, want, other)),
    }
}

/// What the first set has and the second lacks.
pub(super) fn set_diff(args: &[Value]) -> Outcome {
    let set = |index: usize| match args.get(index) {
        Some(Value::Set(items)) => Ok(items.iter_sorted().cloned().collect::<BTreeSet<Value>>()),
        other => Err(wrong_type(index, "set", other)),
    };
    let (left, right) = (set(0)?, set(1)?);
    Ok(Value::from(left.difference(&right).cloned().collect::<BTreeSet<Value>>()))
}

fn collection(args: &[Value]) -> Result<Vec<&Value>, BuiltinError> {
    let first = args.first();
    first.and_then(elements).ok_or_else(|| wrong_type(0, COLLECTIONS, first))
}
