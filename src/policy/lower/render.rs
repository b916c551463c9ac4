//! `internal.template_string`: puts the parts of a string with expressions together, in OPA's writing of terms.

use regorus::Value;

use crate::policy::{builtins::BuiltinError, json};

/// How an undefined expression is written.
const UNDEFINED: &str = "<undefined>";
/// Most bytes of a result.
const MAX_BYTES: usize = 64 << 20;

/// One array: strings stand for themselves, sets hold the value of an expression, or nothing when it is undefined.
pub(in crate::policy) fn template_string(args: &[Value]) -> Result<Value, BuiltinError> {
    let Some(Value::Array(parts)) = args.first() else {
        return Err(BuiltinError::Type("operand 1 must be array".to_owned()));
    };
    let mut text = String::new();
    for part in parts.iter() {
        match part {
            Value::Set(values) => {
                let mut values = values.iter();
                match (values.next(), values.next()) {
                    (None, _) => text.push_str(UNDEFINED),
                    (Some(Value::String(value)), None) => text.push_str(value),
                    (Some(value), None) => term(value, &mut text)?,
                    (Some(_), Some(_)) => {
                        let message = "template-strings must not produce multiple outputs";
                        return Err(BuiltinError::Failed(message.to_owned()));
                    }
                }
            }
            Value::String(value) => text.push_str(value),
            value => term(value, &mut text)?,
        }
        within(&text)?;
    }
    Ok(Value::from(text))
}

/// A value as OPA writes terms; `None` when that would be too long.
pub(in crate::policy) fn term_text(value: &Value) -> Option<String> {
    let mut text = String::new();
    term(value, &mut text).ok().map(|()| text)
}

fn within(text: &str) -> Result<(), BuiltinError> {
    if text.len() > MAX_BYTES {
        return Err(BuiltinError::Limit(format!("string would be larger than {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// A value as OPA writes terms.
fn term(value: &Value, text: &mut String) -> Result<(), BuiltinError> {
    match value {
        Value::Array(items) => list('[', items.iter(), ']', text)?,
        Value::Set(items) if items.is_empty() => text.push_str("set()"),
        Value::Set(items) => list('{', items.iter_sorted(), '}', text)?,
        Value::Object(members) => {
            text.push('{');
            for (index, (key, value)) in members.iter_sorted().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                term(key, text)?;
                text.push_str(": ");
                term(value, text)?;
            }
            text.push('}');
        }
        Value::Undefined => text.push_str(UNDEFINED),
        Value::String(value) => quote(value, text),
        scalar => text.push_str(&json::to_opa_json(scalar)),
    }
    within(text)
}

/// Go's quoting of strings.
fn quote(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        let short = match c {
            '"' => Some("\\\""),
            '\\' => Some("\\\\"),
            '\u{7}' => Some("\\a"),
            '\u{8}' => Some("\\b"),
            '\u{c}' => Some("\\f"),
            '\n' => Some("\\n"),
            '\r' => Some("\\r"),
            '\t' => Some("\\t"),
            '\u{b}' => Some("\\v"),
            _ => None,
        };
        match short {
            Some(short) => text.push_str(short),
            None if c.is_ascii_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            None if c == ' ' || !(c.is_control() || c.is_whitespace() || is_format(c)) => text.push(c),
            None => text.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    text.push('"');
}

/// Characters that show nothing.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn list<'v, I: Iterator<Item = &'v Value>>(
    open: char,
    items: I,
    close: char,
    text: &mut String,
) -> Result<(), BuiltinError> {
    text.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        term(item, text)?;
    }
    text.push(close);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_opa_writes_terms() {
        for (parts, want) in [
            (r#"["a", 1]"#, "a1"),
            (
                r#"[["q\"\n<é\u0001\u00a0", {"b": [], "a": null}, true, 1.25]]"#,
                "[\"q\\\"\\n<é\\x01\\u00a0\", {\"a\": null, \"b\": []}, true, 1.25]",
            ),
        ] {
            let parts = crate::policy::parse_json(parts).unwrap();
            assert_eq!(template_string(&[parts]), Ok(Value::from(want)));
        }
        let set = |items: &[i64]| {
            Value::from(items.iter().map(|n| Value::from(*n)).collect::<std::collections::BTreeSet<_>>())
        };
        let parts = Value::from(vec![set(&[]), Value::from("|"), set(&[7])]);
        assert_eq!(template_string(&[parts]), Ok(Value::from("<undefined>|7")));
        assert!(template_string(&[Value::from(vec![set(&[1, 2])])]).is_err());
        assert!(template_string(&[Value::from("x")]).is_err());
    }
}
