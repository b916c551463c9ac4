//! How large values are: bounded measures, which stop where the bound is passed.

use regorus::Value;

/// What a value that is no string counts.
pub(super) const NODE: usize = 8;
/// What a value counts, at most `most`.
pub(super) fn weight(value: &Value, most: usize) -> usize {
    let mut left = most;
    let _ = weigh(value, &mut left);
    most - left
}

/// Takes what a value counts off `left`; false when that is used up.
pub(super) fn weigh(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => text.len() + NODE,
        // About a digit for every three bits.
        Value::Number(_) => NODE.max(usize::try_from(bits(value) / 3).unwrap_or(usize::MAX)),
        _ => NODE,
    };
    *left = left.saturating_sub(own);
    *left > 0
        && match value {
            Value::Array(items) => items.iter().all(|item| weigh(item, left)),
            Value::Set(items) => items.iter().all(|item| weigh(item, left)),
            Value::Object(members) => members.iter().all(|(key, member)| weigh(key, left) && weigh(member, left)),
            _ => true,
        }
}

/// How many bits a number has, about.
pub(super) fn bits(value: &Value) -> u64 {
    let Value::Number(number) = value else { return 0 };
    match number.as_f64() {
        Some(n) if n.abs() < 1e18 => 64,
        _ => number.to_big().map_or(u64::MAX, |big| big.bits()),
    }
}

/// How deep a value nests, at most `most`.
pub(super) fn depth(value: &Value, most: usize) -> usize {
    if most == 0 {
        return 0;
    }
    let below = |value| depth(value, most - 1);
    1 + match value {
        Value::Array(items) => items.iter().map(below).max().unwrap_or_default(),
        Value::Set(items) => items.iter().map(below).max().unwrap_or_default(),
        Value::Object(members) => members.iter().map(|(_, member)| below(member)).max().unwrap_or_default(),
        _ => 0,
    }
}
