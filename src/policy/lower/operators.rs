//! What rewritten texts call in place of what the engine does in another way than OPA: arithmetic that is exact for
//! integers and has 64 bits for the rest, operators that have no value for operands of another type where the engine
//! fails, and the sizes of patterns. Policies cannot name them: the checks know no such builtins.

mod float;

use regorus::Value;

pub(in crate::policy) use self::float::Float;
use crate::policy::{
    builtins::{Builtin, BuiltinError, FAILED_MARK},
    stdlib::type_name,
};

/// `__claimgate_size(x, n)`: is it an object of exactly `n` members?
pub(super) const SIZE: &str = "__claimgate_size";
/// `__claimgate_collection(x)`: what has elements; anything else has no value.
pub(super) const COLLECTION: &str = "__claimgate_collection";
/// How every operator starts.
pub(super) const PREFIX: &str = "__claimgate_";

/// Every operator.
pub(in crate::policy) const ALL: &[Builtin] = &[
    Builtin { name: SIZE, arity: 2, call: size },
    Builtin { name: COLLECTION, arity: 1, call: collection },
    Builtin { name: "__claimgate_plus", arity: 2, call: |args| arithmetic("plus", args, plus) },
    Builtin { name: "__claimgate_minus", arity: 2, call: minus },
    Builtin { name: "__claimgate_mul", arity: 2, call: |args| arithmetic("mul", args, mul) },
    Builtin { name: "__claimgate_div", arity: 2, call: |args| arithmetic("div", args, div) },
    Builtin { name: "__claimgate_rem", arity: 2, call: |args| arithmetic("rem", args, rem) },
    Builtin { name: "__claimgate_or", arity: 2, call: |args| sets("or", args, true) },
    Builtin { name: "__claimgate_and", arity: 2, call: |args| sets("and", args, false) },
];

type Outcome = Result<Value, BuiltinError>;

fn size(args: &[Value]) -> Outcome {
    let [Value::Object(members), wanted] = args else { return Ok(Value::from(false)) };
    Ok(Value::from(Value::from(members.len()) == *wanted))
}

fn collection(args: &[Value]) -> Outcome {
    match args {
        [value @ (Value::Array(_) | Value::Set(_) | Value::Object(_))] => Ok(value.clone()),
        _ => Ok(Value::Undefined),
    }
}

/// Two numbers, or what is wrong with them in OPA's words.
fn arithmetic(name: &str, args: &[Value], operation: fn(&Value, &Value) -> Outcome) -> Outcome {
    let [left, right] = args else { return Ok(Value::Undefined) };
    for (index, value) in [left, right].into_iter().enumerate() {
        if !matches!(value, Value::Number(_)) {
            return Err(wrong_type(name, index, "number", value));
        }
    }
    operation(left, right).map_err(|error| match error {
        BuiltinError::Failed(message) => BuiltinError::Failed(format!("{FAILED_MARK}{name}: {message}")),
        other => other,
    })
}

fn plus(left: &Value, right: &Value) -> Outcome {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) if a.is_integer() && b.is_integer() => exact(a.add(b)),
        _ => fraction(left, right, Float::add),
    }
}

fn difference(left: &Value, right: &Value) -> Outcome {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) if a.is_integer() && b.is_integer() => exact(a.sub(b)),
        _ => fraction(left, right, Float::sub),
    }
}

fn minus(args: &[Value]) -> Outcome {
    match args {
        [Value::Set(left), Value::Set(right)] => Ok(Value::from(left.difference(right))),
        [Value::Number(_), Value::Number(_)] => arithmetic("minus", args, difference),
        [Value::Number(_), other] => Err(wrong_type("minus", 1, "number", other)),
        [Value::Set(_), other @ Value::Number(_)] => Err(wrong_type("minus", 1, "set", other)),
        [Value::Set(_), other] => Err(wrong_type("minus", 1, "number", other)),
        [other, ..] => Err(wrong_type("minus", 0, "one of {number, set}", other)),
        [] => Ok(Value::Undefined),
    }
}

fn mul(left: &Value, right: &Value) -> Outcome {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) if a.is_integer() && b.is_integer() => exact(a.mul(b)),
        _ => fraction(left, right, Float::mul),
    }
}

fn div(left: &Value, right: &Value) -> Outcome {
    if *right == Value::from(0) {
        return Err(BuiltinError::Failed("divide by zero".to_owned()));
    }
    if let (Value::Number(a), Value::Number(b)) = (left, right)
        && let (Some(a), Some(b)) = (a.as_i64(), b.as_i64())
        && a.checked_rem(b) == Some(0)
        && let Some(quotient) = a.checked_div(b)
    {
        return Ok(Value::from(quotient));
    }
    fraction(left, right, Float::div)
}

fn rem(left: &Value, right: &Value) -> Outcome {
    let (Value::Number(a), Value::Number(b)) = (left, right) else { return Ok(Value::Undefined) };
    if !a.is_integer() || !b.is_integer() {
        return Err(BuiltinError::Failed("modulo on floating-point number".to_owned()));
    }
    if *right == Value::from(0) {
        return Err(BuiltinError::Failed("modulo by zero".to_owned()));
    }
    exact(a.clone().modulo(b))
}

/// A number that the engine computed of integers.
fn exact<N: Into<Value>>(number: Result<N, anyhow::Error>) -> Outcome {
    number.map(Into::into).map_err(|error| BuiltinError::Failed(error.to_string()))
}

fn fraction(left: &Value, right: &Value, operation: fn(&Float, &Float) -> Option<Float>) -> Outcome {
    let result = Float::of(left).zip(Float::of(right)).and_then(|(left, right)| operation(&left, &right));
    result.and_then(|number| number.value()).ok_or_else(|| BuiltinError::Failed("illegal value".to_owned()))
}

fn sets(name: &str, args: &[Value], all: bool) -> Outcome {
    match args {
        [Value::Set(left), Value::Set(right)] if all => Ok(Value::from(left.union(right))),
        [Value::Set(left), Value::Set(right)] => Ok(Value::from(left.intersection(right))),
        [Value::Set(_), other] => Err(wrong_type(name, 1, "set", other)),
        [other, ..] => Err(wrong_type(name, 0, "set", other)),
        [] => Ok(Value::Undefined),
    }
}

fn wrong_type(name: &str, index: usize, want: &str, got: &Value) -> BuiltinError {
    BuiltinError::Type(format!("{name}: operand {} must be {want} but got {}", index + 1, type_name(got)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OPA 1.22.2 gives, in strict mode.
    #[test]
    fn operators_give_what_they_give_in_opa() {
        for (name, args, want) in [
            ("plus", "[1, 2]", "3"),
            ("plus", "[0.1, 0.2]", "0.3"),
            ("plus", "[0.5, 0.5]", "1"),
            ("plus", "[9007199254740993, 1]", "9007199254740994"),
            ("plus", "[99999999999999999999, 1]", "100000000000000000000"),
            ("plus", "[1e-320, 1]", "1"),
            ("plus", "[1, \"a\"]", "plus: operand 2 must be number but got string"),
            ("plus", "[null, \"a\"]", "plus: operand 1 must be number but got null"),
            ("minus", "[0.3, 0.1]", "0.2"),
            ("minus", "[1.5, 1.5]", "0"),
            ("minus", "[0.1, 0.3]", "-0.2"),
            ("minus", "[\"a\", 1]", "minus: operand 1 must be one of {number, set} but got string"),
            ("minus", "[1, []]", "minus: operand 2 must be number but got array"),
            ("mul", "[1.1, 1.1]", "1.21"),
            ("mul", "[3, -0.1]", "-0.3"),
            ("mul", "[0, 0.5]", "0"),
            ("mul", "[1e300, 1e10]", &format!("1{}", "0".repeat(310))),
            ("div", "[1, 3]", "0.3333333333333333"),
            ("div", "[6, 3]", "2"),
            ("div", "[7, 2]", "3.5"),
            ("div", "[0, 5]", "0"),
            ("div", "[100000000000000000000000, 10]", "10000000000000000000000"),
            ("div", "[4.4, 1.1]", "4"),
            ("div", "[1, 0]", "div: divide by zero"),
            ("div", "[1, 0.0]", "div: divide by zero"),
            ("rem", "[-7, 3]", "-1"),
            ("rem", "[7, -3]", "1"),
            ("rem", "[7, 3.0]", "1"),
            ("rem", "[7, 0]", "rem: modulo by zero"),
            ("rem", "[7, 2.5]", "rem: modulo on floating-point number"),
            ("or", "[1, 2]", "or: operand 1 must be set but got number"),
            ("and", "[[], 2]", "and: operand 1 must be set but got array"),
            ("size", "[{\"a\": 1}, 1]", "true"),
            ("size", "[{\"a\": 1, \"b\": 2}, 1]", "false"),
            ("size", "[[1], 1]", "false"),
            ("collection", "[[1]]", "[1]"),
            ("collection", "[\"a\"]", "<undefined>"),
        ] {
            let Value::Array(args) = Value::from_json_str(args).unwrap() else { panic!() };
            let args: Vec<Value> = args.iter().cloned().collect();
            let operator = ALL.iter().find(|operator| operator.name == format!("{PREFIX}{name}")).unwrap();
            let got = match (operator.call)(&args) {
                Ok(Value::Undefined) => "<undefined>".to_owned(),
                Ok(value) => value.to_string(),
                Err(error) => error.to_string().replace(FAILED_MARK, ""),
            };
            assert_eq!(got, want, "{name}{args:?}");
        }
    }
}
