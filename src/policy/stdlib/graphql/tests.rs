//! Sentences, places, trees and limits of `graphql.*`, most of them as OPA gives them.

use regorus::Value;

use super::{Outcome, is_valid, parse, parse_query, parse_schema, schema_is_valid};
use crate::policy::{builtins::BuiltinError, to_opa_json};

/// JSON of the value, or the message.
fn call(builtin: fn(&[Value]) -> Outcome, text: &str) -> String {
    match builtin(&[Value::from(text)]) {
        Ok(value) => to_opa_json(&value),
        Err(BuiltinError::Limit(message)) => format!("limit: {message}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_does_not_parse_gets_opas_sentence_and_place() {
    for (text, want) in [
        ("{", "Expected Name, found <EOF> in GraphQL string at location 1:2"),
        ("{a(x: \"\u{1}\") }", "Unexpected <Invalid> in GraphQL string at location 1:8"),
        ("{a(x: \"\\", "Unexpected <Invalid> in GraphQL string at location 1:9"),
        ("{a(x: \"\\u12", "Unexpected <Invalid> in GraphQL string at location 1:9"),
        ("{a(x: \"\\ué12345\")}", "Unexpected <Invalid> in GraphQL string at location 1:9"),
        ("é", "Unexpected <Invalid> in GraphQL string at location 1:1"),
        ("'", "Unexpected <Invalid> in GraphQL string at location 1:1"),
        ("query Q { a @", "Expected Name, found <EOF> in GraphQL string at location 1:14"),
        ("{a(x: 00)}", "Unexpected <Invalid> in GraphQL string at location 1:8"),
        ("{a(x: -)}", "Unexpected <Invalid> in GraphQL string at location 1:8"),
        ("{a} \"\"\"x\n y\"\"\"", "GraphQL parse error: input:2:-1: Unexpected BlockString \"x\\n y\""),
        ("fragment on on T {a}", "Unexpected Name \"on\" in GraphQL string at location 1:10"),
        ("query ($a: [Int = 1) {a}", "Expected ], found = in GraphQL string at location 1:17"),
    ] {
        assert_eq!(call(parse_query, text), want, "{text}");
    }
    assert_eq!(
        call(parse_schema, "directive @a on NOWHERE"),
        "Unexpected Name \"NOWHERE\" in GraphQL string at location 1:17"
    );
}

#[test]
fn nesting_ends_the_evaluation_before_the_stack_does() {
    let deep = 200_000;
    for text in ["{a".repeat(deep), format!("{{a(x:{}", "[".repeat(deep)), format!("{{a(x:{}", "{a:".repeat(deep))] {
        assert_eq!(call(parse_query, &text), "limit: the document nests deeper than 100");
    }
    let types = format!("type Query {{ a: {}", "[".repeat(deep));
    assert_eq!(call(parse_schema, &types), "limit: the document nests deeper than 100");
    let mut tree = Value::from(1_u64);
    for _ in 0..1_000 {
        tree = Value::from(vec![tree]);
    }
    let tree = Value::from(std::collections::BTreeMap::from([(Value::from("Schema"), tree)]));
    assert!(matches!(schema_is_valid(&[tree]), Err(BuiltinError::Limit(_))));
}

#[test]
fn checks_that_would_compare_without_end_are_cut_off() {
    let fields: String = (0..20_000).map(|number| format!("f{number}: Int ")).collect();
    let text = format!("interface I {{ {fields} }} type Query implements I {{ {fields} }}");
    assert_eq!(call(schema_is_valid, &text), "limit: checking takes more than 8388608 steps");
    let chain: String = (0..5_000).map(|number| format!("input I{number} {{ a: I{}! }} ", number + 1)).collect();
    let text = format!("{chain} input I5000 {{ a: Int }}");
    assert_eq!(call(schema_is_valid, &text), "limit: a chain of required input objects is longer than 256");
}

#[test]
fn a_schema_that_requires_itself_or_repeats_itself_is_not_valid() {
    for (text, want) in [
        ("input A { a: A! } type Query { a(x: A): Int }", "false"),
        ("input A { a: [A!]! } type Query { a(x: A): Int }", "true"),
        ("type Query { a: Int a: Int }", "false"),
        ("enum E { A A }", "false"),
        ("union U = Q | Q type Q { a: Int }", "false"),
        ("type Q { __a: Int }", "false"),
        ("directive @a(x: Int @a) on ARGUMENT_DEFINITION", "false"),
        ("directive @skip on FIELD directive @skip on QUERY", "true"),
        ("type Int { a: String }", "false"),
        ("schema { query: Q }", "false"),
        ("interface I implements I { a: Int }", "true"),
    ] {
        assert_eq!(call(schema_is_valid, text), want, "{text}");
    }
}

#[test]
fn trees_of_other_shapes_are_no_schemas() {
    for (json, want) in [
        (r#"{}"#, "true"),
        (r#"{"Definitions": [{"Name": 1}]}"#, "false"),
        (r#"{"Definitions": [{"Kind": "OBJECT", "Name": "A", "Fields": [{"Name": "a"}]}]}"#, "false"),
        (r#"{"Definitions": "x"}"#, "false"),
        (r#"{"Definitions": null, "Other": [1]}"#, "true"),
    ] {
        let value = Value::from_json_str(json).unwrap();
        assert_eq!(to_opa_json(&schema_is_valid(&[value]).unwrap()), want, "{json}");
    }
    assert_eq!(schema_is_valid(&[Value::from(1_u64)]).unwrap(), Value::from(false));
}

#[test]
fn queries_that_would_be_checked_without_end_are_cut_off() {
    let schema = "type Query { a: Query b: Int }";
    // What both say: a limit of the second is not reached by the first when it stops before.
    let check = |query: &str| {
        let args = [Value::from(query), Value::from(schema)];
        let said = |outcome: Outcome| match outcome {
            Ok(value) => to_opa_json(&value),
            Err(BuiltinError::Limit(_)) => "limit".to_owned(),
            Err(_) => "error".to_owned(),
        };
        let parsed = said(parse(&args));
        format!("{} {}", said(is_valid(&args)), if parsed.starts_with('[') { "tree" } else { &parsed })
    };
    let chain = |count: usize, body: &dyn Fn(usize) -> String| -> String {
        (0..count).map(|number| format!("fragment F{number} on Query {{ {} }} ", body(number))).collect()
    };
    let long = chain(5_000, &|number| format!("...F{}", number + 1)) + "fragment F5000 on Query { b }";
    let twice = chain(60, &|number| format!("x: a {{ ...F{0} }} y: a {{ ...F{0} }}", number + 1));
    let twice = twice + "fragment F60 on Query { b }";
    let lists = chain(60, &|number| format!("...F{0} ofType {{ ...F{0} }}", number + 1));
    let lists = lists.replace("Query", "__Type") + "fragment F60 on __Type { name }";
    let variables: String = (0..20_000).map(|number| format!("$v{number}: Int ")).collect();
    let uses: String = (0..20_000).map(|number| format!("b(x: $v{number}) ")).collect();
    for (query, want) in [
        (format!("{{ ...F0 }} {long}"), "limit limit"),
        (format!("{{ ...F0 }} {twice}"), "true tree"),
        (format!("{{ __type(name: \"a\") {{ ...F0 }} }} {lists}"), "limit limit"),
        (format!("{{ {} }}", "a { b } ".repeat(10_000)), "limit limit"),
        (format!("{{ {} }}", "nope ".repeat(40_000)), "false limit"),
        (format!("query ({variables}) {{ {uses} }}"), "false limit"),
    ] {
        assert_eq!(check(&query), want, "{}", query.get(..100).unwrap_or_default());
    }
}
