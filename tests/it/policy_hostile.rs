//! Policies that try to end the process, to run without end or to be evaluated by accident. Each case says in its first
//! line what must come of it: `load <code>`, `eval <code>`, `undefined`, `value <json>`, `blocks` (the policy set says that
//! its deadline may not hold, so that callers evaluate it elsewhere and stop waiting), or `any` (whatever it is, the process
//! survives and the deadline is kept). They run on a thread with the stack of the binary's workers.

use std::{path::Path, sync::mpsc, time::Duration};

use claimgate::policy::{
    DataPath, EvalOptions, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, install_panic_hook,
    to_opa_json,
};

/// The stack of the binary's worker threads.
const STACK: usize = 8 << 20;
/// What an evaluation may take in all when its deadline is [`DEADLINE`], on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_millis(200);

#[test]
fn hostile_policies_end_as_they_should_and_in_time() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/policy/hostile");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let want = text.lines().next().unwrap().strip_prefix("# expect: ").expect("a first line").to_owned();
        cases.push((path.file_name().unwrap().to_string_lossy().into_owned(), want, bytes));
    }
    assert!(cases.len() >= 60, "the corpus is missing");
    check(cases);
}

#[test]
fn hostile_texts_that_are_too_large_to_keep_end_as_they_should() {
    let module = |body: String| format!("package hostile\n{body}").into_bytes();
    let rules = |line: fn(usize) -> String, n: usize| (1..=n).map(line).collect::<String>();
    let raw = |bytes: &[u8]| [b"package hostile\np := \"", bytes, b"\"\n"].concat();
    check(
        [
            ("10,000 brackets", "load rego_limit_error", module(format!("p := {}", "[".repeat(10_000)))),
            (
                "10,000 closed brackets",
                "load rego_limit_error",
                module(format!("p := {}{}", "[".repeat(10_000), "]".repeat(10_000))),
            ),
            ("25 arrays", "load rego_limit_error", module(format!("p := {}1{}", "[".repeat(25), "]".repeat(25)))),
            (
                "25 objects",
                "load rego_limit_error",
                module(format!("p := {}1{}", "{\"a\":".repeat(25), "}".repeat(25))),
            ),
            (
                "25 sets in a body",
                "load rego_limit_error",
                module(format!("p if {}1{}", "{".repeat(25), "}".repeat(25))),
            ),
            (
                "25 arrays in a head",
                "load rego_limit_error",
                module(format!("p[{}1{}] := 1", "[".repeat(25), "]".repeat(25))),
            ),
            (
                "25 comprehensions",
                "load rego_limit_error",
                module(format!("p := {}1{}", "[1 | ".repeat(25), "]".repeat(25))),
            ),
            ("10,000 braces", "load rego_limit_error", module(format!("p if {}", "{".repeat(10_000)))),
            ("10,000 parentheses", "load rego_limit_error", module(format!("p := {}", "(".repeat(10_000)))),
            ("100,000 operators", "load rego_limit_error", module(format!("p := {}", vec!["1"; 100_000].join(" + ")))),
            (
                "100,000 operators on lines",
                "load rego_limit_error",
                module(format!("p := {}", vec!["1"; 100_000].join(" +\n"))),
            ),
            ("100,000 links", "load rego_limit_error", module(format!("p := input{}", ".a".repeat(100_000)))),
            ("100,000 indexes", "load rego_limit_error", module(format!("p := input{}", "[0]".repeat(100_000)))),
            ("100,000 minus signs", "load rego_limit_error", module(format!("p := {}1", "-".repeat(100_000)))),
            ("100,000 nots", "load rego_limit_error", module(format!("p if {} true", "not ".repeat(100_000)))),
            ("100,000 elses", "any", module(format!("p := 1 if false{}", " else := 2 if false".repeat(100_000)))),
            ("deep every", "any", module(format!("p if {} 1 == 1 {}", "every x in [1] { ".repeat(30), "}".repeat(30)))),
            ("a line of 10 MB", "load rego_parse_error", module(format!("p := \"{}\"", "x".repeat(10 << 20)))),
            ("a line of 1 MB", "load rego_parse_error", module(format!("p := \"{}\"", "x".repeat(1 << 20)))),
            ("a million digits", "load rego_limit_error", module(format!("p := {}", "9".repeat(1_000_000)))),
            ("bytes that are no text", "load rego_parse_error", raw(b"\xff\xfe\x00")),
            ("NUL", "load rego_parse_error", raw(b"\x00")),
            ("an empty file", "load rego_parse_error", Vec::new()),
            ("no package", "load rego_parse_error", b"p := 1".to_vec()),
            ("an endless string", "load rego_parse_error", b"package hostile\np := \"abc".to_vec()),
            (
                "a chain of 5,000 rules",
                "load rego_limit_error",
                module(rules(|i| format!("a{i} := a{}\n", i - 1), 5_000) + "a0 := 1\np := a5000"),
            ),
            (
                "a chain of 5,000 functions",
                "load rego_limit_error",
                module(rules(|i| format!("f{i}(x) := f{}(x)\n", i - 1), 5_000) + "f0(x) := x\np := f5000(1)"),
            ),
            (
                "5,000 nested loops",
                "load rego_limit_error",
                module(format!("p if {{\n{}}}", "some _ in [1]\n".repeat(5_000))),
            ),
            (
                "a value of 50,000 levels",
                "load rego_limit_error",
                module(format!(
                    "p := count(x50000) if {{\nx0 := [1]\n{}}}",
                    rules(|i| format!("x{i} := [x{}]\n", i - 1), 50_000)
                )),
            ),
            (
                "a value of 1,000,000 levels",
                "load rego_limit_error",
                module(
                    "f0(x) := [x]\n".to_owned()
                        + &rules(|i| format!("f{i}(x) := f{0}(f{0}(x))\n", i - 1), 20)
                        + "p := count(f20(1))",
                ),
            ),
            (
                "a value of many levels by replaced functions",
                "any",
                module("f(x) := [x]\n".to_owned() + &format!("p := {}1{}", "f(".repeat(25), ")".repeat(25))),
            ),
            ("20,000 rules", "value 1", module(rules(|i| format!("r{i} := {i}\n"), 20_000) + "p := r1")),
            ("20,000 definitions", "any", module(rules(|i| format!("q if input.x == {i}\n"), 20_000) + "p if not q")),
            (
                "20,000 unknown functions",
                "load rego_type_error",
                module(rules(|i| format!("r{i} := nope{i}(1)\n"), 20_000)),
            ),
        ]
        .map(|(name, want, bytes)| (name.to_owned(), want.to_owned(), bytes))
        .into(),
    );
}

/// The n-th rule of a chain.
type Line = fn(usize) -> String;

#[test]
fn the_longest_chain_that_loads_also_evaluates() {
    let shapes: [(&str, Line); 8] = [
        ("a0 := 1", |i| format!("a{i} := a{}\n", i - 1)),
        ("a0 := [1]", |i| format!("a{i} := [x | some x in a{}; x > 0]\n", i - 1)),
        ("a0 := {1}", |i| format!("a{i} contains x if {{ some x in a{}; x > 0 }}\n", i - 1)),
        ("a0 if true", |i| format!("a{i} if {{ every x in [1] {{ x > 0; a{} }} }}\n", i - 1)),
        ("a0 if true", |i| format!("a{i} if {{ false }} else if {{ not a{} }} else := true\n", i - 1)),
        ("f0(x) := x", |i| format!("f{i}(x) := f{}(x)\na{i} := f{i}(1)\n", i - 1)),
        ("f0(x) := x", |i| format!("f{i}(x) := count([y | some y in [1, 2]; y > f{0}(x)])\na{i} := f{0}(1)\n", i - 1)),
        ("a0 := {\"x\": [1]}", |i| format!("a{i}[k] := [v] if {{ some k, v in a{}; input.z[_][_][_] == 1 }}\n", i - 1)),
    ];
    install_panic_hook();
    for (first, line) in shapes {
        let text = |n: usize| {
            let rules: String = (1..=n).map(line).collect();
            format!("package hostile\n{first}\n{rules}p := a{n}\n").into_bytes()
        };
        let loads = |n: usize| PolicySet::load(vec![source(text(n))], &Settings::default()).is_ok();
        let (mut good, mut bad) = (1, 3_000);
        assert!(loads(good) && !loads(bad), "{first}");
        while bad - good > 1 {
            let middle = (good + bad) / 2;
            *(if loads(middle) { &mut good } else { &mut bad }) = middle;
        }
        assert!(good >= 50, "{first}: only {good} rules may follow one another");
        check(vec![(format!("{first} × {good}"), "any".to_owned(), text(good))]);
    }
}

fn check(cases: Vec<(String, String, Vec<u8>)>) {
    install_panic_hook();
    let mut wrong = Vec::new();
    for (name, want, bytes) in cases {
        let (send, receive) = mpsc::channel();
        std::thread::Builder::new().stack_size(STACK).spawn(move || send.send(run(bytes))).unwrap();
        match receive.recv_timeout(PATIENCE) {
            Ok(got) if want != "any" && got.split(": ").next() != Some(&want) => {
                wrong.push(format!("{name}: want {want}, got {got}"));
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{name}: {error} after {PATIENCE:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What comes of a policy: `load <code>: …`, `eval <code>: …`, `undefined` or `value <json>`.
fn run(bytes: Vec<u8>) -> String {
    let settings = Settings { deadline: DEADLINE, ..Settings::default() };
    let set = match PolicySet::load(vec![source(bytes)], &settings) {
        Ok(set) => set,
        Err(errors) => {
            let has_place = |error: &claimgate::policy::LoadError| {
                error.location.is_some() || error.message == "error limit reached"
            };
            assert!(errors.iter().all(has_place), "an error without a place: {errors:?}");
            return format!("load {}: {}", errors[0].code, errors[0]);
        }
    };
    if set.may_block() {
        return "blocks".to_owned();
    }
    match set.evaluate(&DataPath::from_slash("hostile/p"), None, &EvalOptions::default()) {
        Ok(Outcome::Undefined) => "undefined".to_owned(),
        Ok(Outcome::Value(value)) => format!("value {}", to_opa_json(&value)),
        Err(error) => format!("eval {}: {}", error.kind.code(), error.message),
    }
}

fn source(bytes: Vec<u8>) -> Source {
    Source {
        name: "hostile".into(),
        origin: "hostile".into(),
        kind: SourceKind::Bundle,
        files: vec![SourceFile { path: "p.rego".into(), bytes }],
    }
}
