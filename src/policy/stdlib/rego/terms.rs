//! Terms as objects, and OPA's order of them. It knows no syntax trees.

use std::{cmp::Ordering, collections::BTreeMap};

use regorus::{Value, unstable::AssignOp};

use super::record;

/// The members of an object.
pub(super) type Members = Vec<(&'static str, Value)>;

/// The kinds of terms in OPA's order.
const ORDER: [&str; 13] = [
    "null",
    "boolean",
    "number",
    "string",
    "templatestring",
    "var",
    "ref",
    "array",
    "object",
    "set",
    "arraycomprehension",
    "objectcomprehension",
    "setcomprehension",
];

pub(super) fn term(kind: &str, value: Value) -> Value {
    record([("type", Value::from(kind)), ("value", value)])
}

pub(super) fn is_scalar(of: &Value) -> bool {
    ["null", "boolean", "number", "string"].iter().any(|kind| of["type"] == Value::from(*kind))
}

pub(super) fn operator(path: &[&str]) -> Value {
    let parts = path.iter().zip(0..).map(|(name, at)| term(if at == 0 { "var" } else { "string" }, Value::from(*name)));
    term("ref", Value::from(parts.collect::<Vec<_>>()))
}

/// The body of what has none.
pub(super) fn always() -> Value {
    record([
        ("generated", Value::from(true)),
        ("index", Value::from(0_u64)),
        ("terms", term("boolean", Value::from(true))),
    ])
}

pub(super) fn assigns(op: &AssignOp) -> Option<(&'static str, Value)> {
    matches!(op, AssignOp::ColEq).then(|| ("assign", Value::from(true)))
}

pub(super) fn object(members: Members) -> Value {
    let members = members.into_iter().map(|(name, value)| (Value::from(name), value));
    Value::from(members.collect::<BTreeMap<_, _>>())
}

/// OPA's order of terms, for what it sorts.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |of: &Value| ORDER.iter().position(|kind| of["type"] == Value::from(*kind)).unwrap_or(ORDER.len());
    rank(a).cmp(&rank(b)).then_with(|| match (&a["value"], &b["value"]) {
        (Value::Array(first), Value::Array(second)) => {
            let pairs = first.iter().zip(second.iter()).map(|(a, b)| match (a, b) {
                (Value::Array(_), _) => a.cmp(b),
                _ => compare(a, b),
            });
            pairs.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| first.len().cmp(&second.len()))
        }
        (first, second) => first.cmp(second),
    })
}
