//! Builtins against the names of a real OPA (`opa capabilities --current`): each is implemented or refused by name when
//! a policy loads. None may load and then be missing, or be silently undefined.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use claimgate::policy::{
    EvalOptions, PolicySet, Settings, Source, SourceFile, SourceKind, Value, parse_json, to_opa_json,
    to_opa_json_pretty,
};

/// What no policy may call here: the list only gets shorter.
const REFUSED: &[&str] = &[
    "and",
    "assign",
    "div",
    "eq",
    "equal",
    "gt",
    "gte",
    "internal.member_2",
    "internal.member_3",
    "internal.print",
    "internal.test_case",
    "lt",
    "lte",
    "minus",
    "mul",
    "neq",
    "or",
    "plus",
    "rem",
];

#[test]
fn every_builtin_of_opa_is_implemented_or_refused_by_name() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/opa-capabilities/names.txt");
    let names = fs::read_to_string(path).unwrap();
    let mut refused = Vec::new();
    let mut wrong = Vec::new();
    for name in names.lines() {
        // No builtin has nine arguments: one that exists complains about their number (`print` takes any).
        let complaint = load_error(&format!("package p\n\nr := {name}(1, 2, 3, 4, 5, 6, 7, 8, 9)\n"));
        let unknown = format!("undefined function {name}");
        let old = format!("deprecated built-in function calls in expression: {name}");
        if complaint.contains(&unknown)
            || complaint.ends_with(&old)
            || complaint.contains(&format!("{name} is not supported"))
        {
            refused.push(name);
        } else if !complaint.contains("arity mismatch") && name != "print" {
            wrong.push(format!("{name}: {complaint}"));
        }
    }
    println!("{} of {} builtins are implemented", names.lines().count() - refused.len(), names.lines().count());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(refused, REFUSED);
}

fn load_error(module: &str) -> String {
    let files = vec![SourceFile { path: "p.rego".to_owned(), bytes: module.as_bytes().to_vec() }];
    let kind = SourceKind::Plain { prefix: Vec::new() };
    let source = Source { name: String::new(), origin: "test".to_owned(), kind, files };
    match PolicySet::load(vec![source], &Settings::default()) {
        Ok(_) => "loads".to_owned(),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

#[test]
fn certificates_and_requests_have_the_members_that_opa_gives_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/opa-capabilities/x509.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for case in cases {
        let (builtin, argument) = (case["builtin"].as_str().unwrap(), &case["argument"]);
        let set = PolicySet::load(Vec::new(), &Settings::default()).unwrap();
        let input = parse_json(&argument.to_string()).unwrap();
        let options = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
        let result = set.query(&format!("{builtin}(input)"), Some(input), &options).unwrap();
        let got = to_opa_json_pretty(&result.rows[0].expressions[0].value);
        let want = to_opa_json_pretty(&parse_json(&case["value"].to_string()).unwrap());
        for (got, want) in got.lines().zip(want.lines()) {
            assert_eq!(got, want, "{builtin}");
        }
        assert_eq!(got, want);
    }
}

/// One call, and what `opa eval --strict-builtin-errors` said to it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    query: String,
    #[serde(default)]
    modules: BTreeMap<String, String>,
    input: Option<serde_json::Value>,
    want: Want,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(untagged)]
enum Want {
    Undefined { undefined: bool },
    Value { value: Vec<serde_json::Value> },
    Error { error: String, message: String },
}

#[test]
fn calls_give_the_values_and_the_errors_of_opa() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/opa-capabilities/calls"));
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let calls: Vec<Call> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        count += calls.len();
        for call in calls {
            let got = answer(&call);
            if got != call.want {
                wrong.push(format!("{}: {}\n  {got:?}\n  {:?}", path.display(), call.query, call.want));
            }
        }
    }
    assert!(wrong.is_empty() && count > 0, "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

fn answer(call: &Call) -> Want {
    let file = |(path, text): (&String, &String)| SourceFile { path: path.clone(), bytes: text.clone().into_bytes() };
    let files = call.modules.iter().map(file).collect();
    let kind = SourceKind::Plain { prefix: Vec::new() };
    let settings = Settings { deadline: Duration::from_secs(20), ..Settings::default() };
    let set = PolicySet::load(vec![Source { name: String::new(), origin: String::new(), kind, files }], &settings);
    let set = match set {
        Ok(set) => set,
        Err(errors) => {
            let message = errors[0].message.replace(" /", " ");
            return Want::Error { error: errors[0].code.to_owned(), message };
        }
    };
    let input = call.input.as_ref().map(|input| parse_json(&input.to_string()).unwrap());
    let options = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
    match set.query(&call.query, input, &options) {
        Ok(result) if result.rows.is_empty() => Want::Undefined { undefined: true },
        Ok(result) => {
            let value = |value: &Value| serde_json::from_str(&to_opa_json(value)).unwrap();
            Want::Value { value: result.rows.iter().map(|row| value(&row.expressions.last().unwrap().value)).collect() }
        }
        Err(error) => Want::Error { error: error.code().to_owned(), message: error.text().to_owned() },
    }
}
