//! The module through its public face: what loads, what is refused and in which words, and what evaluates to what.

use super::*;

fn source(files: &[(&str, &str)]) -> Source {
    let files = files.iter().map(|(path, text)| SourceFile { path: (*path).into(), bytes: text.as_bytes().to_vec() });
    Source { name: "b".into(), origin: "dir".into(), kind: SourceKind::Bundle, files: files.collect() }
}

fn load(files: &[(&str, &str)]) -> Result<PolicySet, Vec<String>> {
    PolicySet::load(vec![source(files)], &Settings { deadline: Duration::from_secs(2), ..Settings::default() })
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn show(outcome: Result<Outcome, EvalError>) -> String {
    match outcome {
        Ok(Outcome::Undefined) => "undefined".to_owned(),
        Ok(Outcome::Value(value)) => to_opa_json(&value),
        Err(error) => match error.location {
            Some(at) => format!("{at}: {}: {}", error.kind.code(), error.message),
            None => format!("{}: {}", error.kind.code(), error.message),
        },
    }
}

fn evaluates(set: &PolicySet, cases: &[(&str, &str)]) {
    let input = parse_json(r#"{"user":"ann","n":1}"#).unwrap();
    for (path, want) in cases {
        let got = show(set.evaluate(&DataPath::from_slash(path), Some(input.clone()), &EvalOptions::default()));
        assert_eq!(&got, want, "{path}");
    }
}

#[test]
fn paths_name_rules_packages_and_base_data_as_in_opa() {
    let set = load(&[
        (
            "a/p.rego",
            r#"package a.b
            default allow := false
            allow if input.user == "ann"
            deny if input.user == "bob"
            names contains input.user
            empty contains x if { x := 1; false }
            by_name[input.user] := {"n": [10, 20]}
            f(x) := x + 1
            q.r.s := 1
            q.t := 2
            count_roles := count(data.a.roles)
            calls := f(1)
            "#,
        ),
        ("e.rego", "package a.empty"),
        ("odd.rego", "package a[\"x y\"].z\nok := 1"),
        ("a/data.json", r#"{"roles":{"admin":["read","write"],"0":"zero"},"b":{"base":1}}"#),
        ("system/data.json", r#"{"x":1}"#),
    ])
    .unwrap();
    evaluates(
        &set,
        &[
            ("a/b/allow", "true"),
            ("a/b/deny", "undefined"),
            ("a/b/names", r#"["ann"]"#),
            ("a/b/names/ann", r#""ann""#),
            ("a/b/names/eve", "undefined"),
            ("a/b/empty", "[]"),
            ("a/b/by_name", r#"{"ann":{"n":[10,20]}}"#),
            ("a/b/by_name/ann/n/1", "20"),
            ("a/b/by_name/ann/n/2", "undefined"),
            ("a/b/by_name/ann/n/-1", "undefined"),
            ("a/b/f", "undefined"),
            ("a/b/f/1", "undefined"),
            ("a/b/calls", "2"),
            ("a/b/q", r#"{"r":{"s":1},"t":2}"#),
            ("a/b/q/r/s", "1"),
            ("a/b/count_roles", "2"),
            ("a/b/allow/x", "undefined"),
            ("a/roles/admin/0", r#""read""#),
            ("a/roles/0", r#""zero""#),
            ("a/roles/nobody", "undefined"),
            ("a/empty", "{}"),
            ("a/x y/z/ok", "1"),
            ("a/b/base", "1"),
            ("nothing/here", "undefined"),
            ("system/x", "1"),
            (
                "a/b",
                r#"{"allow":true,"base":1,"by_name":{"ann":{"n":[10,20]}},"calls":2,"count_roles":2,"empty":[],"names":["ann"],"q":{"r":{"s":1},"t":2}}"#,
            ),
            (
                "",
                r#"{"a":{"b":{"allow":true,"base":1,"by_name":{"ann":{"n":[10,20]}},"calls":2,"count_roles":2,"empty":[],"names":["ann"],"q":{"r":{"s":1},"t":2}},"empty":{},"roles":{"0":"zero","admin":["read","write"]},"x y":{"z":{"ok":1}}}}"#,
            ),
        ],
    );
    assert!(set.defines(&DataPath::from_slash("a/b/deny")));
    assert!(!set.defines(&DataPath::from_slash("a/nope")));
    assert!(set.entrypoint(&DataPath::from_slash("a/b/allow")).is_ok());
    let error = set.entrypoint(&DataPath::from_slash("a/b/alow")).unwrap_err();
    assert_eq!(error.to_string(), "entrypoint_error: no bundle defines the rule `a/b/alow`; did you mean `a/b/allow`?");
}

#[test]
fn builtins_of_ours_take_an_output_argument_and_are_replaced_by_with() {
    let set = load(&[(
        "p.rego",
        r#"package p
        f(xs) := 7
        calls := hex.encode("a")
        as_builtin := x if { x := count([1, 2]) with count as max }
        as_function := x if { x := f([1, 2]) with f as count }
        twice := [x, y] if { x := count([1, 5]) with count as max; y := f([1, 2, 3]) with f as count }
        late if { f("x") with f as count; 1 / 0 }
        "#,
    )])
    .unwrap();
    evaluates(
        &set,
        &[
            ("p/calls", r#""61""#),
            ("p/as_builtin", "2"),
            ("p/as_function", "2"),
            ("p/twice", "[5,3]"),
            ("p/late", "undefined"),
        ],
    );
    let strict = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
    let late = show(set.evaluate(&DataPath::from_slash("p/late"), None, &strict));
    assert_eq!(late, "b/p.rego:7:45: eval_builtin_error: divide by zero");
    let rows = set.query("f := 1; x := count([3, 4]) with count as max", None, &strict).unwrap().rows;
    assert_eq!(to_opa_json(&rows[0].bindings[1].1), "4");
}
