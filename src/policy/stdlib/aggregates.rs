//! `sum` of numbers that are not all integers, with OPA's 64 bits: the engine rounds every step to 53. (So does OPA for
//! `product`.)

use regorus::Value;

use super::{super::lower::operators::Float, operand};

/// Most numbers that are added up with more care than the engine's: some tens of milliseconds.
const MOST: usize = 200_000;

/// The numbers of an array or a set, added up; `None` when the engine does it as well.
pub(in super::super) fn sum(args: &[Value]) -> Option<Value> {
    let items = args.first().and_then(operand::elements)?;
    let is_fraction = |item: &&Value| matches!(item, Value::Number(number) if !number.is_integer());
    if items.len() > MOST
        || !items.iter().any(is_fraction)
        || !items.iter().all(|item| matches!(item, Value::Number(_)))
    {
        return None;
    }
    items.into_iter().try_fold(Float::parse("0")?, |total, item| total.add(&Float::of(item)?))?.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OPA 1.22.2 gives.
    #[test]
    fn fractions_are_added_up_with_64_bits() {
        for (numbers, want) in [
            ("[0.1, 0.2]", Some("0.3")),
            ("[0.1, 0.2, 0.3, 0.4, 1e20]", Some("100000000000000000000")),
            ("[0.5, 0.5]", Some("1")),
            ("[1, 2]", None),
            ("[0.5, \"a\"]", None),
            ("{\"a\": 0.5}", None),
        ] {
            let args = [Value::from_json_str(numbers).unwrap()];
            assert_eq!(sum(&args).map(|value| value.to_string()).as_deref(), want, "{numbers}");
        }
    }
}
