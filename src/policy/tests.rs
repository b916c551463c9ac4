//! The module through its public face: what loads, what is refused and in which words, and what evaluates to what.

mod misreadings;

mod queries;

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
    assert_eq!(late, "b/p.rego:7:43: eval_builtin_error: div: divide by zero");
    let rows = set.query("f := 1; x := count([3, 4]) with count as max", None, &strict).unwrap().rows;
    assert_eq!(to_opa_json(&rows[0].bindings[1].1), "4");
}

/// Every error of a bundle, as an operator sees it.
/// The engine's own resolution of `a` would evaluate all of `data.a`, and fail.
#[test]
fn a_reference_through_an_import_asks_for_nothing_else_of_the_package() {
    let set = load(&[
        ("a.rego", "package a\nx := 1\nf(x) := x\nbroken := 1 if true\nbroken := 2 if true\n"),
        (
            "b.rego",
            "package b\nimport data.a\nimport data.a as other\np if a.x == 1\nq if other[\"x\"] == 1\nr if { not a.y }\n\
             s := a.f(a.x)\nt if { a := {\"x\": 7}; a.x == 7 }\nv(a) := a.x\n\
             w := v({\"x\": 9})\nall := a\n",
        ),
    ])
    .unwrap();
    evaluates(
        &set,
        &[
            ("b/p", "true"),
            ("b/q", "true"),
            ("b/r", "true"),
            ("b/s", "1"),
            ("b/t", "true"),
            ("b/w", "9"),
            ("b/all", "b/a.rego:5:1: eval_conflict_error: complete rules must not produce multiple outputs"),
        ],
    );
}

fn refuses(files: &[(&str, &str)], want: &[&str]) {
    assert_eq!(load(files).map(|_| ()).unwrap_err(), want);
}

#[test]
fn every_problem_is_reported_with_its_place() {
    refuses(
        &[
            ("a.rego", "package a\n\np := q\nq := p\nr := nope(1)\ns := count(1, 2, 3)\n"),
            ("b.rego", "package b\n\np := {\n"),
            ("c.rego", "package c\n\nq if http.send({})\nt if stratswith(\"a\", \"b\")\n"),
            ("d/data.json", "{\n  \"x\": 1,\n}"),
        ],
        &["dir/d/data.json:3:1: bundle_error: trailing comma"],
    );
    refuses(
        &[
            ("a.rego", "package a\n\np := q\nq := p\nr := startswitch(1, 2)\ns := count(1, 2, 3)\n"),
            ("b.rego", "package b\n\np := {\n"),
            ("c.rego", "package c\n\nq if http.send({})\nf(x) := f(x)\n"),
        ],
        &["dir/b.rego:4:0: rego_parse_error: unexpected eof token"],
    );
    refuses(
        &[
            ("a.rego", "package a\n\np := 1\ns := count(1, 2, 3)\n"),
            ("c.rego", "package c\n\nq if http.send({})\nf(x) := f(x)\n"),
        ],
        &[
            "dir/a.rego:4:6: rego_type_error: count: arity mismatch\n\thave: (number, number, number, ???)\n\twant: (collection: any<string, array[any], object[any: any], set[any]>)",
            "dir/c.rego:3:6: rego_type_error: http.send is not allowed: no host is listed; list those that policies may ask in \
             `policy.http_send.allow`, or load what the policy needs as data",
        ],
    );
    refuses(
        &[("a.rego", "package a\n\np := q\nq := p\n"), ("c.rego", "package c\n\n\nf(x) := f(x)\n")],
        &[
            "dir/a.rego:3:1: rego_recursion_error: rule data.a.p is recursive: data.a.p -> data.a.q -> data.a.p",
            "dir/a.rego:4:1: rego_recursion_error: rule data.a.q is recursive: data.a.q -> data.a.p -> data.a.q",
            "dir/c.rego:4:1: rego_recursion_error: rule data.c.f is recursive: data.c.f -> data.c.f",
        ],
    );
    refuses(
        &[("a.rego", "package a\np := startswitch(1, 2)\nq := nope.nope(1)\n")],
        &[
            "dir/a.rego:2:6: rego_type_error: undefined function startswitch\n\tdid you mean startswith?",
            "dir/a.rego:3:6: rego_type_error: undefined function nope.nope",
        ],
    );
    refuses(
        &[("a.rego", "package a\np if x > 1\n"), ("b.rego", "package b\nq if {\n  y == 1\n}\n")],
        &[
            "dir/a.rego:2:6: rego_unsafe_var_error: var x is unsafe",
            "dir/b.rego:3:3: rego_unsafe_var_error: var y is unsafe",
        ],
    );
}

#[test]
fn names_that_mean_two_things_are_conflicts_in_opas_words() {
    refuses(
        &[("a.rego", "package a\np := 1\np(x) := x\n")],
        &["dir/a.rego:2:1: rego_type_error: conflicting rules data.a.p found"],
    );
    refuses(
        &[("a.rego", "package a\np := 1\np contains 1\n")],
        &["dir/a.rego:2:1: rego_type_error: conflicting rules data.a.p found"],
    );
    refuses(
        &[("a.rego", "package a\ndefault p := 1\ndefault p := 2\n")],
        &["dir/a.rego:1:1: rego_type_error: multiple default rules data.a.p found at dir/a.rego:2, dir/a.rego:3"],
    );
    refuses(
        &[("a.rego", "package a\nb := 1\n"), ("b.rego", "package a.b\nx := 1\n")],
        &[
            "dir/a.rego:1:1: rego_type_error: package a.b conflicts with rule b defined at dir/a.rego:2",
            "dir/a.rego:2:1: rego_type_error: rule data.a.b conflicts with:\n  rule data.a.b.x at dir/b.rego:2",
        ],
    );
    refuses(
        &[("a.rego", "package a\nb := 1\n"), ("a/data.json", r#"{"b":2}"#)],
        &["dir/a.rego:2:1: rego_compile_error: conflicting rule for data path a/b found"],
    );
    refuses(
        &[("a/data.json", r#"{"b":2}"#), ("data.json", r#"{"a":{"b":3}}"#)],
        &["dir/data.json: bundle_error: merge error: `data.a.b` has another value already"],
    );
    refuses(
        &[(".manifest", r#"{"roots":["x"]}"#), ("a.rego", "package a\nb := 1\n"), ("y/data.json", "{}")],
        &[
            "dir: bundle_error: manifest roots [x] do not permit data at path '/y' (hint: check bundle directory structure)",
        ],
    );
    refuses(
        &[(".manifest", r#"{"roots":["x"]}"#), ("a.rego", "package a\nb := 1\n")],
        &["dir/a.rego:1:1: bundle_error: manifest roots [x] do not permit 'package a' in module 'b/a.rego'"],
    );
    refuses(
        &[(".manifest", r#"{"roots":["x","x/y"]}"#)],
        &["dir/.manifest: bundle_error: manifest has overlapped roots: 'x' and 'x/y'"],
    );
}

#[test]
fn bundles_that_own_the_same_documents_are_refused() {
    let bundle = |name: &str, roots: &str| Source {
        name: name.into(),
        origin: name.into(),
        ..source(&[(".manifest", &format!(r#"{{"roots":{roots},"revision":"r-{name}"}}"#))])
    };
    let load = |a: &str, b: &str| PolicySet::load(vec![bundle("a", a), bundle("b", b)], &Settings::default());
    let words = |errors: Vec<LoadError>| errors[0].to_string();
    assert_eq!(
        load(r#"["x"]"#, r#"["x"]"#).map_err(words).unwrap_err(),
        "bundle_error: detected overlapping roots in manifests for these bundles: [a, b] (root x is in multiple bundles)"
    );
    assert!(load(r#"["x"]"#, r#"["x/y"]"#).is_err());
    let set = load(r#"["x"]"#, r#"["xy"]"#).unwrap();
    assert_eq!(set.bundles()[1].revision, "r-b");
    evaluates(&set, &[("system/bundles/a/manifest/revision", r#""r-a""#)]);
}

#[test]
fn reads_of_claims_are_seen_through_every_alias() {
    let cases = [
        ("p := input.token.claims.role", "role"),
        ("p := input[\"token\"].claims[\"role\"]", "role"),
        ("p := x if { c := input.token.claims; x := c.role }", "role"),
        ("p := x if { t := input.token; c := t.claims; x := c.role }", "role"),
        ("import input.token.claims\np := claims.role", "role"),
        ("import input.token as t\np := t.claims.role", "role"),
        ("p := object.get(input.token.claims, \"role\", \"\")", "role"),
        ("p := object.get(input, [\"token\", \"claims\", \"role\"], \"\")", "role"),
        ("p := input.token.claims[input.name]", "*"),
        ("p := input.token.claims", "*"),
        ("f(c) := c.role\np := f(input.token.claims)", "*"),
        ("p if { some k, v in input.token.claims; k == v }", "*"),
        ("p := [x | x := input.token.claims.role.name]", "role"),
        ("p if { input.token.claims = {\"role\": r}; r == 1 }", "*"),
        ("p if input.token.subject == \"x\"", ""),
        ("p if input.claims.role", ""),
        ("token := {\"claims\": {\"role\": 1}}\np := token.claims.role", ""),
    ];
    for (text, want) in cases {
        let set = load(&[("a.rego", &format!("package a\n{text}\n"))]).unwrap();
        let mut found: Vec<_> = set.claim_reads().iter().map(|read| read.claim.as_deref().unwrap_or("*")).collect();
        found.dedup();
        assert_eq!(found.join(","), want, "{text}");
        assert!(set.claim_reads().iter().all(|read| read.location.row >= 2), "{text}");
    }
}

#[test]
fn builtin_errors_are_undefined_unless_the_call_is_strict() {
    let set = load(&[(
        "a.rego",
        "package a\nzero := 1 / 0\nnumber := to_number(\"x\")\nallow if not number\nany_of := json.unmarshal(\"1\")\nparse := json.unmarshal(any_of)\n\
         twice := x if some x in [1, 2]\nlong := numbers.range(1, 999999999)\nopen if not long\n",
    )])
    .unwrap();
    let strict = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
    for (path, lenient, strictly) in [
        ("a/zero", "undefined", "b/a.rego:2:9: eval_builtin_error: div: divide by zero"),
        (
            "a/number",
            "undefined",
            "b/a.rego:3:11: eval_builtin_error: to_number: strconv.ParseFloat: parsing \"x\": invalid syntax",
        ),
        (
            "a/allow",
            "true",
            "b/a.rego:3:11: eval_builtin_error: to_number: strconv.ParseFloat: parsing \"x\": invalid syntax",
        ),
        (
            "a/parse",
            "undefined",
            "b/a.rego:6:10: eval_type_error: json.unmarshal: operand 1 must be string but got number",
        ),
        (
            "a/twice",
            "b/a.rego:7:1: eval_conflict_error: complete rules must not produce multiple outputs",
            "b/a.rego:7:1: eval_conflict_error: complete rules must not produce multiple outputs",
        ),
        (
            "a/open",
            "b/a.rego:8:22: eval_resource_limit: numbers.range: would make more than 1000000 elements",
            "b/a.rego:8:22: eval_resource_limit: numbers.range: would make more than 1000000 elements",
        ),
    ] {
        let path = DataPath::from_slash(path);
        assert_eq!(show(set.evaluate(&path, None, &EvalOptions::default())), lenient, "{path}");
        assert_eq!(show(set.evaluate(&path, None, &strict)), strictly, "{path}");
    }
}

#[test]
fn keywords_name_rules_and_strings_hold_expressions() {
    let set = load(&[
        (
            "a.rego",
            r#"package a
            foo := 7
            as.foo := 1
            as.z := foo
            as.calls := f(foo) if not.x.y == 3
            default if.f(_) := 0
            if.f(x) := x if x > 1
            not.x.y := 3
            f(x) := x + 1
            made := [if_f, g] if {
              as.z == 7; if.f(2, if_f)
              as_q := $"\{{data.a.as.q}"
              g := $"{f(1)} {[y | if.f(5, y)]} {as_q}"
            }
            as.err := x if { x := 1 / 0 }
            "#,
        ),
        (
            "b.rego",
            "package a\nas.q[x] := x if some x in {1, 2}\nby_with := $\"{data.a.as.q[1] with input as {}}\" if as.foo",
        ),
    ])
    .unwrap();
    evaluates(
        &set,
        &[
            ("a/as", r#"{"calls":8,"foo":1,"q":{"1":1,"2":2},"z":7}"#),
            ("a/made", r#"[2,"2 [5] {{1: 1, 2: 2}"]"#),
            ("a/by_with", r#""1""#),
            ("a/not", r#"{"x":{"y":3}}"#),
        ],
    );
    let strict = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
    let error = show(set.evaluate(&DataPath::from_slash("a/as/err"), None, &strict));
    assert!(error.starts_with("b/a.rego:15:35: eval_builtin_error"), "{error}");
    let query = r#"x := $"{data.a.foo}"; count($"{x}{x}") == 2"#;
    let rows = set.query(query, None, &EvalOptions::default()).unwrap().rows;
    let texts: Vec<&str> = rows.iter().flat_map(|row| row.expressions.iter().map(|e| e.text.as_str())).collect();
    assert_eq!(texts, query.split("; ").collect::<Vec<_>>());
}

#[test]
fn mistakes_near_rewritten_text_are_told_at_their_place() {
    for (text, want) in [
        ("package a\nas.x := 1\nas.y := nope(1)", "dir/p.rego:3:9: rego_type_error: undefined function nope"),
        ("package a\nas.x := 1 if { y }", "dir/p.rego:2:16: rego_unsafe_var_error: var y is unsafe"),
        ("package a\np := $\"{nope(1)} {nope(2)}\"", "dir/p.rego:2:9: rego_type_error: undefined function nope"),
        ("package a\np := $\"é{1 2}\"", "dir/p.rego:2:9: rego_parse_error: expecting `}` while parsing set"),
        ("package a\np if { as.x == 1; y }\nas.x := 1", "dir/p.rego:2:19: rego_unsafe_var_error: var y is unsafe"),
        ("package a\np := $\"{", "dir/p.rego:2:8: rego_parse_error: expected } to end template string expression"),
        ("package a\nas := 1", "dir/p.rego:2:1: rego_parse_error: unexpected as keyword"),
    ] {
        let errors = load(&[("p.rego", text)]).err().unwrap_or_default();
        assert_eq!(errors.first().map(String::as_str), Some(want), "{text}: {errors:?}");
    }
}

#[test]
fn variables_without_a_value_are_refused_at_load_as_opa_does() {
    for (body, unsafe_vars) in [
        ("p := y", "y"),
        ("p contains x", "x"),
        ("p[x] := 1", "x"),
        ("p := x if { true }", "x"),
        ("p if { x := 1 } else := y", "y"),
        ("p := 1 if { x := 1 } else := x", "x"),
        ("f(x) := y if { x == 1 }", "y"),
        ("f(x[y]) := 1", "x y"),
        ("p if { not input.xs[_] == 1 }", "_"),
        ("p if { some i; not input.xs[i] }", "i"),
        ("p if { x = y }", "x y"),
        ("p if { {x} = {1} }", "x"),
        ("p if { {\"a\": [x]} = {\"a\": [1], \"b\": 2} }", "x"),
        ("p if { y in input.x }", "y"),
        ("p if { some {x: 1} in input }", "x"),
        ("p if { x := {i | input.x[i] == y} }", "y"),
        ("p := [i | true]", "i"),
        ("p if { x := {y: 1 | some y in [1]}; z := y }", "y"),
        ("p if { $\"{z}\" }", "z"),
        ("p if { $\"{input[i]}\" }", "i"),
        ("p := input.xs[i]", ""),
        ("p contains count(input.xs[_])", ""),
        ("p[input.xs[i]] := i", ""),
        ("f([x, {\"a\": y}]) := x + y", ""),
        ("p if { x[y]; x = input }", ""),
        ("p if { walk(input, [path, v]); v == 1; path }", ""),
        ("p if { every x in input.xs[i] { x > 0 } }", ""),
        ("p if { true with input as data.q[i] }", ""),
        ("p if { true with count as max }", ""),
        ("p if { {y | y = z}; z = 1 }", ""),
        ("xs := {1}\np := x if {\n  y := {x | xs[x]}\n  x := count(y)\n}", ""),
        ("p if { _ = input; $\"{x}\"; x = 1 }", ""),
    ] {
        let errors = load(&[("p.rego", &format!("package a\n{body}"))]).err().unwrap_or_default();
        let found: Vec<&str> = errors
            .iter()
            .map(|error| error.split_once("rego_unsafe_var_error: var ").map_or(error.as_str(), |(_, rest)| rest))
            .map(|rest| rest.trim_end_matches(" is unsafe"))
            .collect();
        assert_eq!(found.join(" "), unsafe_vars, "{body}");
    }
}

#[test]
fn an_engine_with_opas_operators_is_not_made_by_who_may_not_wait_for_it() {
    let set = load(&[("a.rego", "package a\nsum := 0.1 + 0.2\nplain := 1")]).unwrap();
    let at_once = |path| set.evaluate_if_made(&DataPath::from_slash(path), None, &EvalOptions::default()).map(show);
    assert_eq!(at_once("a/sum"), None);
    evaluates(&set, &[("a/sum", "0.3")]);
    assert_eq!(at_once("a/sum").as_deref(), Some("0.3"));
}
