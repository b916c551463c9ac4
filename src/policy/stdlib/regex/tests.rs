//! Calls with what OPA 1.22.2 says to them: a value, or the sentence of the error.

use serde_json::Value as Json;

use super::super::all;
use crate::policy::{
    builtins::{BuiltinError, FAILED_MARK},
    json::to_opa_json,
    parse_json,
};

#[test]
fn calls_say_what_they_say_in_opa() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/opa-regex.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let row: Json = serde_json::from_str(line).unwrap();
        let name = row["call"].as_str().unwrap();
        let args: Vec<_> =
            row["args"].as_array().unwrap().iter().map(|arg| parse_json(&arg.to_string()).unwrap()).collect();
        let call = all().iter().find(|builtin| builtin.name == name).unwrap().call;
        let got = match call(&args) {
            Ok(value) => to_opa_json(&value),
            Err(BuiltinError::Failed(message) | BuiltinError::Type(message)) => message.replace(FAILED_MARK, ""),
            Err(other) => format!("{other:?}"),
        };
        let want = match row["error"].as_str() {
            Some(error) => error.to_owned(),
            None => to_opa_json(&parse_json(&row["value"].to_string()).unwrap()),
        };
        if got != want {
            wrong.push(format!("{line}\n    {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(text.lines().count() > 500);
}

#[test]
fn what_is_too_large_is_not_taken_for_what_is_wrong() {
    let nested = format!("{}{}", "(".repeat(900), ")".repeat(900));
    for pattern in [nested.as_str(), r"\pL{1000}", "(?:a{30}){30}b{900}c{1000}d{1000}e{1000}", &"a".repeat(20_000)] {
        for call in [super::is_valid, |args: &[regorus::Value]| super::is_match(&[args[0].clone(), "x".into()])] {
            let said = call(&[pattern.into()]);
            assert!(matches!(said, Err(BuiltinError::Limit(_))), "{said:?}");
        }
    }
}
