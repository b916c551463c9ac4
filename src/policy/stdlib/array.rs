//! `array.flatten`: one level, as OPA does.

use regorus::Value;

use super::{Outcome, operand};

/// Elements of arrays in place of the arrays; deeper arrays stay.
pub(super) fn flatten(args: &[Value]) -> Outcome {
    let mut flat = Vec::new();
    for item in operand::array(args, 0)?.iter() {
        match item {
            Value::Array(inner) => flat.extend(inner.iter().cloned()),
            other => flat.push(other.clone()),
        }
    }
    Ok(Value::from(flat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_flattened_by_one_level() {
        let value = Value::from_json_str(r#"[1, [2, [3]], {"a": [4]}, []]"#).unwrap();
        assert_eq!(super::super::super::json::to_opa_json(&flatten(&[value]).unwrap()), r#"[1,2,[3],{"a":[4]}]"#);
    }
}
