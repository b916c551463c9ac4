//! `strings.render_template`: the part of Go's `text/template` that puts values in: `{{ .a.b }}`, and `{{-` and `-}}`
//! that trim. Pipelines, conditions, loops, functions and values that are not scalars end the evaluation as refused,
//! because a wrong text could turn a deny into an allow. Its cost is one pass over the template and what it puts in.

use regorus::Value;

use super::super::{builtins::BuiltinError, json::to_opa_json};
use super::{Outcome, operand};

/// Most bytes of a rendered text.
const MAX_BYTES: usize = 8 << 20;

pub(super) fn render(args: &[Value]) -> Outcome {
    let mut rest = operand::string(args, 0)?;
    operand::object(args, 1)?;
    let variables = args.get(1).unwrap_or(&Value::Undefined);
    let mut out = String::new();
    let mut trim = false;
    while let Some((text, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or_else(|| refused("an action without end"))?;
        let text = if trim { text.trim_start_matches(BLANKS) } else { text };
        let (action, left) = match action.strip_prefix('-').filter(|action| action.starts_with(BLANKS)) {
            Some(action) => (action, true),
            None => (action, false),
        };
        let (action, right) = match action.strip_suffix('-').filter(|action| action.ends_with(BLANKS)) {
            Some(action) => (action, true),
            None => (action, false),
        };
        out.push_str(if left { text.trim_end_matches(BLANKS) } else { text });
        put(&mut out, action.trim_matches(BLANKS), variables)?;
        if out.len() > MAX_BYTES {
            return Err(BuiltinError::Limit(format!("the text would be longer than {MAX_BYTES} bytes")));
        }
        (rest, trim) = (after, right);
    }
    out.push_str(if trim { rest.trim_start_matches(BLANKS) } else { rest });
    // OPA does so with all of the text, whoever wrote it.
    Ok(Value::from(out.replace("<no value>", "<undefined>")))
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Puts in what `.a.b` names.
fn put(out: &mut String, action: &str, variables: &Value) -> Result<(), BuiltinError> {
    let names = action.strip_prefix('.').ok_or_else(|| refused("an action other than {{ .name }}"))?;
    let mut value = variables;
    for name in names.split('.') {
        let named = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(named) {
            return Err(refused("an action other than {{ .name }}"));
        }
        value = match value {
            Value::Object(members) => operand::member(members, name).unwrap_or(&Value::Undefined),
            Value::Undefined => value,
            _ => return Err(refused("a name within a value that is no object")),
        };
    }
    match value {
        Value::String(text) => out.push_str(text),
        Value::Bool(_) | Value::Number(_) => out.push_str(&to_opa_json(value)),
        Value::Null | Value::Undefined => out.push_str("<no value>"),
        Value::Array(_) | Value::Set(_) | Value::Object(_) => {
            return Err(refused("an array, set or object in the text"));
        }
    }
    Ok(())
}

fn refused(what: &str) -> BuiltinError {
    BuiltinError::Refused(format!("{what} is not supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(template: &str) -> String {
        let variables = r#"{"a": "x", "n": 5, "t": true, "z": null, "o": {"b": "y"}, "l": [1], "q": "{{.a}}"}"#;
        match render(&[Value::from(template), Value::from_json_str(variables).unwrap()]) {
            Ok(value) => value.as_string().unwrap().to_string(),
            Err(BuiltinError::Refused(message)) => format!("refused: {message}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_are_replaced_and_everything_else_is_refused() {
        let other = "refused: an action other than {{ .name }} is not supported";
        for (template, want) in [
            ("", ""),
            ("{{.a}} {{ .n }}{{\n.t }}", "x 5true"),
            ("{{.o.b}}{{.none}}{{.none.b}}{{.z}}", "y<undefined><undefined><undefined>"),
            ("1 {{- .a -}} 2 {{ .a -}}\n", "1x2 x"),
            ("<no value>}} {", "<undefined>}} {"),
            ("{{.q}}", "{{.a}}"),
            ("{{.l}}", "refused: an array, set or object in the text is not supported"),
            ("{{.a.b}}", "refused: a name within a value that is no object is not supported"),
            ("{{.a", "refused: an action without end is not supported"),
            ("{{-.a}}", other),
            ("{{}}", other),
            ("{{.}}", other),
            ("{{..a}}", other),
            ("{{.1}}", other),
            ("{{/* c */}}", other),
            ("{{if .t}}x{{end}}", other),
            ("{{.a | len}}", other),
            ("{{.a .n}}", other),
            ("{{\"}}\"}}", other),
        ] {
            assert_eq!(call(template), want, "{template}");
        }
    }
}
