//! Builtins over text that the engine lacks. The number of parts is that of the text, so that no limit is needed beyond
//! that on its length.

use regorus::Value;

use super::super::{builtins::BuiltinError, json::to_opa_json};
use super::{
    Outcome,
    operand::{string, wrong_type},
};

/// At most so many parts, from the end if the number is negative; the rest is left out.
pub(super) fn split_n(args: &[Value]) -> Outcome {
    let (text, delimiter) = (string(args, 0)?, string(args, 1)?);
    let Some(number @ Value::Number(_)) = args.get(2) else { return Err(wrong_type(2, "number", args.get(2))) };
    let number: i64 = to_opa_json(number)
        .parse()
        .map_err(|_| BuiltinError::Type("operand 3 must be integer number but got floating-point number".to_owned()))?;
    // Between characters, and not before the first and after the last, as Go splits.
    let parts: Vec<&str> = if delimiter.is_empty() {
        text.char_indices().filter_map(|(at, c)| text.get(at..at + c.len_utf8())).collect()
    } else {
        text.split(delimiter).collect()
    };
    let count = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX).min(parts.len());
    let kept = if number < 0 { parts.get(parts.len() - count..) } else { parts.get(..count) };
    Ok(Value::from(kept.unwrap_or_default().iter().map(|part| Value::from(*part)).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_the_side_that_the_sign_says() {
        for (text, delimiter, number, want) in [
            ("a.b.c", ".", "2", r#"["a","b"]"#),
            ("a.b.c", ".", "-2", r#"["b","c"]"#),
            ("a.b.c", ".", "0", "[]"),
            ("a.b.c", ".", "9223372036854775807", r#"["a","b","c"]"#),
            ("a.b.c", ".", "-9223372036854775808", r#"["a","b","c"]"#),
            ("", ".", "1", r#"[""]"#),
            ("", "", "1", "[]"),
            ("éa", "", "-1", r#"["a"]"#),
        ] {
            let number = Value::from_json_str(number).unwrap();
            assert_eq!(to_opa_json(&split_n(&[text.into(), delimiter.into(), number]).unwrap()), want);
        }
        let error = split_n(&["a".into(), "b".into(), Value::from(1.5)]).unwrap_err();
        assert!(matches!(error, BuiltinError::Type(_)));
    }
}
