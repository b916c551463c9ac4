//! `json.match_schema` and `json.verify_schema` with the drafts, the sentences and the order of OPA's library (members are
//! taken by name). References reach only into the schema itself: nothing is fetched. Depth and steps are bounded.

mod compile;
mod format;
#[cfg(test)]
mod tests;
mod validate;

use std::{cell::Cell, cmp::Ordering};

use regorus::Value;
use x509_parser::der_parser::num_bigint::BigInt;

use super::super::{builtins::BuiltinError, document::parse_json, guard, json::to_opa_json};
use super::{
    Outcome,
    operand::{failed, record},
};

/// Deepest way through a schema and a document.
const MAX_DEPTH: usize = 200;
/// Most looks at a schema of one call.
const MAX_STEPS: usize = 1 << 20;
/// Longest number, in digits with its exponent applied.
const MAX_DIGITS: usize = 2_048;

/// Why a schema is none.
enum Fault {
    /// OPA's sentence.
    Invalid(String),
    /// It would cost too much.
    Limit(BuiltinError),
}

/// Work done so far.
#[derive(Default)]
struct Steps(Cell<usize>);

/// A number as its digits and how many of them are behind the point.
#[derive(Debug, Clone)]
struct Decimal {
    digits: BigInt,
    scale: usize,
    text: String,
}

pub(super) fn verify(args: &[Value]) -> Outcome {
    let compiled = loaded(args.first()).map_err(Fault::from).and_then(|schema| compile::schema(&schema).map(|_| ()));
    let (valid, message) = match compiled {
        Ok(()) => (true, Value::Null),
        Err(Fault::Invalid(message)) => (false, Value::from(format!("jsonschema: {message}"))),
        Err(Fault::Limit(error)) => return Err(error),
    };
    Ok(Value::from(vec![Value::from(valid), message]))
}

pub(super) fn matches(args: &[Value]) -> Outcome {
    let document = loaded(args.first())?;
    let schema = compile::schema(&loaded(args.get(1))?).map_err(Fault::error)?;
    let errors = validate::document(&schema, &document)?;
    let shown = errors.iter().map(|error| {
        let text = format!("{}: {}", error.field, error.description);
        record([
            ("desc", Value::from(error.description.as_str())),
            ("error", Value::from(text)),
            ("field", Value::from(error.field.as_str())),
            ("type", Value::from(error.kind)),
        ])
    });
    Ok(Value::from(vec![Value::from(errors.is_empty()), Value::from(shown.collect::<Vec<_>>())]))
}

/// A document: JSON in a string, or an object or array as its JSON.
fn loaded(value: Option<&Value>) -> Outcome {
    match value {
        Some(Value::String(text)) => parse_json(text).map_err(|_| failed("invalid JSON string")),
        Some(value @ (Value::Object(_) | Value::Array(_))) => parse_json(&to_opa_json(value))
            .map_err(|error| BuiltinError::Limit(format!("a document cannot be read: {}", error.message))),
        _ => Err(failed("wrong type, expected string or object")),
    }
}

// === impl Fault ===

impl Fault {
    fn error(self) -> BuiltinError {
        match self {
            Self::Invalid(message) => failed(message),
            Self::Limit(error) => error,
        }
    }
}

impl From<BuiltinError> for Fault {
    fn from(error: BuiltinError) -> Self {
        match error {
            BuiltinError::Failed(message) => Self::Invalid(message),
            other => Self::Limit(other),
        }
    }
}

// === impl Steps ===

impl Steps {
    /// Counts one look, `depth` levels down.
    fn charge(&self, depth: usize) -> Result<(), BuiltinError> {
        let sum = self.0.get() + 1;
        self.0.set(sum);
        if depth > MAX_DEPTH {
            return Err(BuiltinError::Limit(format!("a schema nests deeper than {MAX_DEPTH}")));
        }
        if sum > MAX_STEPS {
            return Err(BuiltinError::Limit(format!("a schema takes more than {MAX_STEPS} steps")));
        }
        if sum.is_multiple_of(1_024) && guard::time_left().is_zero() {
            return Err(BuiltinError::Limit("execution exceeded time limit".to_owned()));
        }
        Ok(())
    }
}

// === impl Decimal ===

impl Decimal {
    fn of(value: &Value) -> Option<Self> {
        let Value::Number(_) = value else { return None };
        let text = to_opa_json(value);
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
        let exponent = exponent.parse::<i32>().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        let zeros = usize::try_from(-scale.min(0)).ok()?;
        if whole.len() + fraction.len() + zeros > MAX_DIGITS {
            return None;
        }
        let digits = format!("{whole}{fraction}{}", "0".repeat(zeros)).parse().ok()?;
        Some(Self { digits, scale: usize::try_from(scale.max(0)).ok()?.min(MAX_DIGITS), text })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let (a, b) = self.aligned(other);
        a.cmp(&b)
    }

    fn is_multiple_of(&self, other: &Self) -> bool {
        let (a, b) = self.aligned(other);
        b != BigInt::from(0) && a % b == BigInt::from(0)
    }

    fn is_integer(&self) -> bool {
        let scale = u32::try_from(self.scale).unwrap_or(u32::MAX);
        &self.digits % BigInt::from(10).pow(scale) == BigInt::from(0)
    }

    /// The digits of both with as many behind the point.
    fn aligned(&self, other: &Self) -> (BigInt, BigInt) {
        let scale = self.scale.max(other.scale);
        let of = |number: &Self| {
            let zeros = u32::try_from(scale - number.scale).unwrap_or_default();
            &number.digits * BigInt::from(10).pow(zeros)
        };
        (of(self), of(other))
    }

    /// As Go's `big.Float` is shown: the fewest digits, and an exponent from a million on.
    fn shown(&self) -> String {
        let Ok(float) = self.text.parse::<f64>() else { return self.text.clone() };
        let scientific = format!("{float:e}");
        let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
        let exponent = exponent.parse::<i32>().unwrap_or_default();
        if (-4..6).contains(&exponent) {
            return format!("{float}");
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    }
}
