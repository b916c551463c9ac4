//! [`Value`] → JSON text exactly as OPA writes it: compact or indented as Go does, HTML characters escaped, sets as
//! sorted arrays, members sorted, keys that are not strings written as their own JSON. It never writes `undefined`.

use regorus::Value;

/// Compact JSON.
#[must_use]
pub fn to_opa_json(value: &Value) -> String {
    let mut writer = Writer { out: String::new(), indent: None };
    writer.value(value, 0);
    writer.out
}

/// JSON indented by two spaces as Go's `MarshalIndent` does: empty collections stay `{}` and `[]`.
#[must_use]
pub fn to_opa_json_pretty(value: &Value) -> String {
    let mut writer = Writer { out: String::new(), indent: Some("  ") };
    writer.value(value, 0);
    writer.out
}

/// Is the compact JSON of a value at most `max` bytes? Costs at most that many bytes of work.
pub(super) fn fits(value: &Value, max: usize) -> bool {
    let mut left = max;
    measure(value, &mut left)
}

/// As [`fits`], of what is left; takes off what the value needs.
pub(super) fn spend_value(value: &Value, left: &mut usize) -> bool {
    measure(value, left)
}

/// A quoted JSON string with Go's escaping.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::new();
    write_string(&mut out, text);
    out
}

struct Writer {
    out: String,
    indent: Option<&'static str>,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null | Value::Undefined => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            Value::Number(_) => self.out.push_str(&number(value)),
            Value::String(s) => write_string(&mut self.out, s),
            Value::Array(items) => self.items(items.iter(), depth),
            Value::Set(items) => self.items(items.iter_sorted(), depth),
            Value::Object(members) => {
                let mut sorted: Vec<(String, &Value)> = members
                    .iter()
                    .filter(|(_, member)| **member != Value::Undefined)
                    .map(|(key, member)| (key_text(key), member))
                    .collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                self.out.push('{');
                let mut first = true;
                for (key, member) in sorted {
                    self.separate(&mut first, depth);
                    write_string(&mut self.out, &key);
                    self.out.push_str(if self.indent.is_some() { ": " } else { ":" });
                    self.value(member, depth + 1);
                }
                self.close('}', first, depth);
            }
        }
    }

    fn items<'v, I: Iterator<Item = &'v Value>>(&mut self, items: I, depth: usize) {
        self.out.push('[');
        let mut first = true;
        for item in items.filter(|item| **item != Value::Undefined) {
            self.separate(&mut first, depth);
            self.value(item, depth + 1);
        }
        self.close(']', first, depth);
    }

    fn separate(&mut self, first: &mut bool, depth: usize) {
        if !*first {
            self.out.push(',');
        }
        *first = false;
        self.line(depth + 1);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }
}

/// A key that is not a string is written as its own JSON, inside a string.
pub(super) fn key_text(key: &Value) -> String {
    match key {
        Value::String(s) => s.to_string(),
        other => to_opa_json(other),
    }
}

/// A fraction that is almost nothing has an exponent, as in Go's JSON.
fn number(value: &Value) -> String {
    let text = value.to_string();
    match value.as_f64() {
        Ok(number) if number.abs() < 1e-6 && text.trim_start_matches('-').starts_with("0.0") => format!("{number:e}"),
        _ => text,
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn measure(value: &Value, left: &mut usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Undefined => spend(left, 4),
        Value::String(s) => spend(left, s.len() + 2),
        Value::Array(items) => spend(left, 2) && items.iter().all(|item| spend(left, 1) && measure(item, left)),
        Value::Set(items) => spend(left, 2) && items.iter().all(|item| spend(left, 1) && measure(item, left)),
        Value::Object(members) => {
            spend(left, 2) && members.iter().all(|(k, v)| spend(left, 2) && measure(k, left) && measure(v, left))
        }
    }
}

fn spend(left: &mut usize, n: usize) -> bool {
    match left.checked_sub(n) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        Value::from_json_str(json).unwrap()
    }

    #[test]
    fn json_is_what_go_writes() {
        for (given, want) in [
            (r#"{"b":1,"a":[{},[],""]}"#, r#"{"a":[{},[],""],"b":1}"#),
            (
                r#""<a&b> \u2028 \u0001 \u007f é 🦀 \b\f\"\\/""#,
                "\"\\u003ca\\u0026b\\u003e \\u2028 \\u0001 \u{7f} é 🦀 \\b\\f\\\"\\\\/\"",
            ),
            ("[123456789012345678901234567890,-1.5,null,true]", "[123456789012345678901234567890,-1.5,null,true]"),
        ] {
            assert_eq!(to_opa_json(&value(given)), want);
        }
    }

    #[test]
    fn indentation_is_gos() {
        assert_eq!(
            to_opa_json_pretty(&value(r#"{"a":[1,{}],"b":{}}"#)),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {}\n}"
        );
    }

    #[test]
    fn keys_that_are_not_strings_are_their_json_and_undefined_is_never_written() {
        let mut object = std::collections::BTreeMap::new();
        object.insert(Value::from(vec![Value::from(1u64), Value::from("x")]), Value::from(1u64));
        object.insert(Value::from("u"), Value::Undefined);
        let set = Value::from(std::collections::BTreeSet::from([Value::from("b"), Value::from("a")]));
        let text = to_opa_json(&Value::from(vec![Value::from(object), set, Value::Undefined]));
        assert_eq!(text, r#"[{"[1,\"x\"]":1},["a","b"]]"#);
    }

    #[test]
    fn the_size_check_is_generous_but_bounded() {
        let mut doubled = value("[1,2,3]");
        for _ in 0..60 {
            doubled = Value::from(vec![doubled.clone(), doubled]);
        }
        assert!(!fits(&doubled, 1 << 20));
        assert!(fits(&value(r#"{"a":[1,2,3]}"#), 64));
    }
}
