//! [`Value`] → YAML in block style, as OPA's `yaml.marshal` writes it. The engine's own writer spells numbers out as
//! objects, because of the exact numbers of `serde_json` that it shares with us.

use regorus::Value;

use super::json;

/// A YAML document that ends in a line feed.
pub(super) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0, true);
    out
}

/// `fresh`: the cursor is where a block may start, on a line of its own or after `- `.
fn node(out: &mut String, value: &Value, depth: usize, fresh: bool) {
    match value {
        Value::Array(items) => sequence(out, items.iter(), depth, fresh),
        Value::Set(items) => sequence(out, items.iter_sorted(), depth, fresh),
        Value::Object(members) if !members.is_empty() => {
            let mut sorted: Vec<(String, &Value)> = members.iter().map(|(key, v)| (json::key_text(key), v)).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            for (index, (key, member)) in sorted.into_iter().enumerate() {
                start(out, depth, fresh && index == 0);
                out.push_str(&scalar(&key));
                out.push(':');
                match member {
                    // A sequence stands as deep as its name.
                    Value::Array(_) | Value::Set(_) => node(out, member, depth, false),
                    _ => node(out, member, depth + 1, false),
                }
            }
        }
        other => {
            if !fresh {
                out.push(' ');
            }
            match other {
                Value::String(text) => out.push_str(&scalar(text)),
                other => out.push_str(&json::to_opa_json(other)),
            }
            out.push('\n');
        }
    }
}

fn sequence<'v, I: Iterator<Item = &'v Value>>(out: &mut String, items: I, depth: usize, fresh: bool) {
    let mut empty = true;
    for item in items {
        start(out, depth, fresh && empty);
        out.push_str("- ");
        node(out, item, depth + 1, true);
        empty = false;
    }
    if empty {
        out.push_str(if fresh { "[]\n" } else { " []\n" });
    }
}

/// The line feed and indentation before an entry; none where the cursor stands well.
fn start(out: &mut String, depth: usize, here: bool) {
    if here {
        return;
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// A text as it is where YAML reads it as the same text, else as its JSON, which YAML reads too.
fn scalar(text: &str) -> String {
    let word = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b' '));
    let start = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'/');
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if word && start && !text.ends_with(' ') && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        json::quote(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{parse_json, parse_yaml};

    #[test]
    fn what_is_written_is_block_style_and_reads_back_as_the_same() {
        for (json, want) in [
            (r#"[{"foo":[1,2,3]}]"#, "- foo:\n  - 1\n  - 2\n  - 3\n"),
            (r#"{"a":{"b":[]},"c":{}}"#, "a:\n  b: []\nc: {}\n"),
            (
                r#"{"a":"yes","b":"x: y","c":"12","d":"some words","e":""}"#,
                "a: \"yes\"\nb: \"x: y\"\nc: \"12\"\nd: some words\ne: \"\"\n",
            ),
            (r#"[[1,[2]],"x",null,true]"#, "- - 1\n  - - 2\n- x\n- null\n- true\n"),
            (r#"{"a":[{"b":1,"c":[{"d":2}]}]}"#, "a:\n- b: 1\n  c:\n  - d: 2\n"),
            ("7", "7\n"),
            ("[]", "[]\n"),
        ] {
            let value = parse_json(json).unwrap();
            assert_eq!(to_yaml(&value), want, "{json}");
            assert_eq!(parse_yaml(want).unwrap(), value, "{json}");
        }
    }
}
