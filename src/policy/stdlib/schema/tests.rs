//! Schemas and documents that would cost too much, or lead in circles.

use regorus::Value;

use super::{BuiltinError, matches, verify};
use crate::policy::to_opa_json;

fn check(document: &str, schema: &str) -> String {
    match matches(&[Value::from(document), Value::from(schema)]) {
        Ok(value) => to_opa_json(&value).chars().take(12).collect(),
        Err(BuiltinError::Limit(message)) => format!("limit: {message}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn circles_and_floods_end_the_evaluation() {
    let nested = |count: usize, open: &str, close: &str| format!("{}1{}", open.repeat(count), close.repeat(count));
    let double = r##"{"anyOf": [{"$ref": "#/definitions/a"}, {"$ref": "#/definitions/a"}], "definitions": {"##;
    let chain: Vec<String> = (0..24)
        .map(|level| {
            let next = format!("{{\"$ref\": \"#/definitions/{}\"}}", level + 1);
            format!(
                "\"{}\": {{\"anyOf\": [{next}, {next}]}}",
                if level == 0 { "a".to_owned() } else { level.to_string() }
            )
        })
        .collect();
    let exponential = format!("{double}{}, \"24\": {{\"type\": \"string\"}}}}}}", chain.join(", "));
    for (document, schema, want) in [
        ("1".to_owned(), r##"{"$ref": "#"}"##.to_owned(), "limit: a schema nests deeper than 200"),
        ("1".to_owned(), r##"{"allOf": [{"$ref": "#"}]}"##.to_owned(), "limit: a schema nests deeper than 200"),
        (nested(100, "[", "]"), r##"{"items": {"$ref": "#"}}"##.to_owned(), "[true,[]]"),
        (nested(100, "[", "]"), r##"{"items": {"$ref": "#"}, "type": "array"}"##.to_owned(), "[false,[{\"de"),
        ("1".to_owned(), exponential, "limit: a schema takes more than 1048576 steps"),
        (
            "1".to_owned(),
            r#"{"$ref": "http://example.com/x.json"}"#.to_owned(),
            "Reference http://example.com/x.json is",
        ),
        ("1".to_owned(), r#"{"pattern": "(((a{1000}){1000}){1000})"}"#.to_owned(), "pattern must be a valid regex"),
        ("1e999999999".to_owned(), r#"{"minimum": 1}"#.to_owned(), "invalid JSON string"),
        ("1".to_owned(), nested(500, "[", "]"), "invalid JSON string"),
    ] {
        let got = check(&document, &schema);
        assert!(got.starts_with(want), "{schema}: {got}");
    }
    let deep = format!("{}{{}}{}", "{\"not\":".repeat(120), "}".repeat(120));
    assert_eq!(to_opa_json(&verify(&[Value::from(deep.as_str())]).unwrap()), "[true,null]");
}
