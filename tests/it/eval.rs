//! `claimgate eval` from outside: what it prints and how it ends, as a real OPA does.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

const POLICY: &str = r#"package a.b

allow if input.x == 1

names contains x if some x in ["é", "<b>"]

twice := 1 if input.z

twice := 2 if input.z
"#;

/// Files, by name below the directory that claimgate runs in.
fn files(directory: &Path) {
    fs::create_dir_all(directory.join("p")).unwrap();
    fs::create_dir_all(directory.join("empty")).unwrap();
    fs::write(directory.join("p/a.rego"), POLICY).unwrap();
    fs::write(directory.join("typed.rego"), "package typed\n\nimport data.x\n\no := {\"a\": 1}\n").unwrap();
    fs::write(directory.join("roles.json"), r#"{"roles": {"ann": [1, 2.5]}}"#).unwrap();
    fs::write(directory.join("input.json"), r#"{"x": 1}"#).unwrap();
    fs::write(directory.join("input.yaml"), "x: 1\n").unwrap();
    fs::write(directory.join("broken.json"), r#"{"x": "#).unwrap();
    fs::write(directory.join("deep.json"), "[".repeat(10_000)).unwrap();
    fs::write(directory.join("binary.json"), [0xff, 0xfe, 0]).unwrap();
    fs::write(directory.join("broken.rego"), "package x\nallow if {").unwrap();
}

/// Runs `eval` and gives exit code, stdout and stderr.
fn eval(args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    files(directory.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .arg("eval")
        .args(args)
        .current_dir(directory.path())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that does not read has gone away by now.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Each: arguments, stdin, exit code, the whole of stdout.
fn check(cases: &[(&[&str], &str, i32, &str)]) {
    for (args, stdin, code, want) in cases {
        let (found, stdout, stderr) = eval(args, stdin);
        assert_eq!((found, stdout.as_str()), (Some(*code), *want), "{args:?}: {stderr}");
    }
}

#[test]
fn json_is_byte_for_byte_that_of_opa() {
    let one = |value: &str, text: &str| {
        format!(
            "{{\n  \"result\": [\n    {{\n      \"expressions\": [\n        {{\n          \"value\": {value},\n          \
             \"text\": {text},\n          \"location\": {{\n            \"row\": 1,\n            \"col\": 1\n          }}\n        \
             }}\n      ]\n    }}\n  ]\n}}\n"
        )
    };
    check(&[
        (&["1 == 2"], "", 0, &one("false", r#""1 == 2""#)),
        (&[r#""<a>""#], "", 0, &one(r#""\u003ca\u003e""#, r#""\"\u003ca\u003e\"""#)),
        (&["-d", "p", "-i", "input.json", "data.a.b.allow"], "", 0, &one("true", r#""data.a.b.allow""#)),
        (&["-d", "p", "-i", "input.yaml", "data.a.b.allow"], "", 0, &one("true", r#""data.a.b.allow""#)),
        (&["-b", "p", "-I", "data.a.b.allow"], r#"{"x":1}"#, 0, &one("true", r#""data.a.b.allow""#)),
        (&["--stdin"], "1 + 1\n", 0, &one("2", r#""1 + 1""#)),
        (&["-b", "empty", "1"], "", 0, &one("1", r#""1""#)),
        (&["-d", "p", "data.a.b.allow"], "", 0, "{}\n"),
        (&["not true"], "", 0, "{}\n"),
        (
            &["x := 1; y = [x]"],
            "",
            0,
            r#"{
  "result": [
    {
      "expressions": [
        {
          "value": true,
          "text": "x := 1",
          "location": {
            "row": 1,
            "col": 1
          }
        },
        {
          "value": true,
          "text": "y = [x]",
          "location": {
            "row": 1,
            "col": 9
          }
        }
      ],
      "bindings": {
        "x": 1,
        "y": [
          1
        ]
      }
    }
  ]
}
"#,
        ),
    ]);
}

#[test]
fn other_formats_are_those_of_opa() {
    check(&[
        (&["-f", "raw", r#""a\nb""#], "", 0, "a\nb\n"),
        (&["-f", "raw", "[1, \"x\"][_]"], "", 0, "1\nx\n"),
        (&["-f", "raw", "1; {2}"], "", 0, "1 [2]\n"),
        (&["-f", "raw", "x := [1, 2, 3][_]; not x == 2"], "", 0, "true true\ntrue true\n"),
        (&["-f", "raw", "some x in [1, 2]; x > 1"], "", 0, "true true\n"),
        (&["-f", "raw", "data.nope"], "", 0, ""),
        (&["-f", "values", "[1, 2][_] > 1"], "", 0, "[\n  true\n]\n"),
        (&["-f", "bindings", "[7][i]"], "", 0, "{\n  \"i\": 0\n}\n"),
        (&["-f", "pretty", "data.nope"], "", 0, "undefined\n"),
        (&["-f", "pretty", "1 == 1; 2 == 2"], "", 0, "true\n"),
        (&["-f", "pretty", "-d", "p", "data.a.b.names"], "", 0, "[\n  \"\\u003cb\\u003e\",\n  \"é\"\n]\n"),
        (&["-f", "pretty", "-d", "roles.json", "data.roles"], "", 0, "{\n  \"ann\": [\n    1,\n    2.5\n  ]\n}\n"),
        (
            &["-f", "pretty", "[10, 2][x]"],
            "",
            0,
            "┌────────────┬───┐\n│ [10, 2][x] │ x │\n├────────────┼───┤\n│ 10         │ 0 │\n│ 2          │ 1 │\n└────────────┴───┘\n",
        ),
    ]);
}

#[test]
fn fail_flags_turn_definedness_into_the_exit_code() {
    check(&[
        (&["--fail", "-f", "raw", "data.nope"], "", 1, ""),
        (&["--fail", "-f", "raw", "false"], "", 0, "false\n"),
        (&["--fail-defined", "-f", "raw", "false"], "", 1, "false\n"),
        (&["--fail-defined", "-f", "raw", "data.nope"], "", 0, ""),
        (&["-f", "raw", "1 / 0"], "", 0, ""),
    ]);
}

#[test]
fn errors_are_opas_object_on_stdout_and_exit_code_2() {
    for (args, stdin, code, location) in [
        (vec!["--strict-builtin-errors", "1 / 0"], "", Some("eval_builtin_error"), Some(("", 1))),
        (vec!["-d", "p", "-I", "data.a.b.twice"], r#"{"z":true}"#, Some("eval_conflict_error"), Some(("p/a.rego", 9))),
        (vec!["nope(1)"], "", Some("rego_type_error"), Some(("", 1))),
        (vec!["x"], "", Some("rego_unsafe_var_error"), Some(("", 1))),
        (vec!["x +"], "", Some("rego_parse_error"), Some(("", 1))),
        (vec!["-d", "broken.rego", "1"], "", Some("rego_parse_error"), Some(("broken.rego", 2))),
        (vec!["-d", "broken.json", "1"], "", Some("bundle_error"), Some(("broken.json", 1))),
        (vec!["-d", "binary.json", "1"], "", Some("bundle_error"), None),
        (vec!["-d", "deep.json", "1"], "", Some("bundle_error"), Some(("deep.json", 1))),
        (vec!["-d", "missing", "1"], "", Some("file_unreadable"), None),
        (vec!["-b", "missing", "1"], "", Some("file_unreadable"), None),
        (vec![" "], "", None, None),
    ] {
        let (exit, stdout, stderr) = eval(&args, stdin);
        assert_eq!(exit, Some(2), "{args:?}: {stdout}{stderr}");
        let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let error = &answer["errors"][0];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{args:?}: {stdout}");
        assert_eq!(error["code"].as_str(), code, "{args:?}: {stdout}");
        let found = error["location"].as_object().map(|at| (at["file"].as_str().unwrap(), at["row"].as_u64().unwrap()));
        assert_eq!(found, location, "{args:?}: {stdout}");
        // The other formats say it on stderr, and nothing on stdout.
        let (exit, stdout, stderr) = eval(&[&args[..], &["-f", "raw"]].concat(), stdin);
        assert_eq!((exit, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.starts_with("1 error occurred: "), "{args:?}: {stderr}");
    }
}

#[test]
fn an_input_that_is_no_document_is_refused_in_a_sentence() {
    for (args, stdin, want) in [
        (vec!["-i", "missing.json", "1"], "", "cannot read `missing.json`: there is no such file or directory\n"),
        (vec!["-i", "broken.json", "1"], "", "unable to parse input: broken.json:1:"),
        (vec!["-i", "deep.json", "1"], "", "unable to parse input: deep.json:1:"),
        (vec!["-i", "binary.json", "1"], "", "not UTF-8"),
        (vec!["-i", "p", "1"], "", "cannot read `p`: it is a directory"),
        (vec!["-I", "1"], "{bad", "unable to parse input: stdin:1:"),
        (vec!["-I", "-i", "input.json", "1"], "", "cannot be used with"),
        (vec!["--timeout", "5", "1"], "", "is no duration"),
        (vec!["-f", "nope", "1"], "", "invalid value"),
        (vec![], "", "required"),
    ] {
        let (exit, stdout, stderr) = eval(&args, stdin);
        assert_eq!((exit, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(want), "{args:?}: {stderr}");
    }
}

#[test]
fn policies_and_queries_are_checked_as_opa_checks_them() {
    for (args, want) in [
        (
            &["-f", "raw", "upper(1)"][..],
            "1 error occurred: 1:1: rego_type_error: upper: invalid argument(s)\n\thave: (number)\n\twant: (x: string, y: string)\n",
        ),
        (
            &["-f", "raw", "x := 1; x = \"a\""],
            "1 error occurred: 1:9: rego_type_error: match error\n\tleft  : number\n\tright : string\n",
        ),
        (&["-f", "raw", "x := 1; x := 2"], "1 error occurred: 1:9: rego_compile_error: var x assigned above\n"),
        (
            &["-f", "raw", "-d", "typed.rego", "data.typed.o.b"],
            "1 error occurred: 1:1: rego_type_error: undefined ref: data.typed.o.b\n\tdata.typed.o.b\n\t             ^\n\t             have: \"b\"\n\t             want (one of): [\"a\"]\n",
        ),
        (
            &["-f", "raw", "--strict", "-d", "typed.rego", "data.typed.o"],
            "1 error occurred: typed.rego:3: rego_compile_error: import data.x unused\n",
        ),
    ] {
        let (exit, stdout, stderr) = eval(args, "");
        assert_eq!((exit, stdout.as_str(), stderr.as_str()), (Some(2), "", want), "{args:?}");
    }
    check(&[
        (&["-f", "raw", "-d", "typed.rego", "data.typed.o"], "", 0, "{\"a\":1}\n"),
        (&["-f", "raw", "1 == \"a\""], "", 0, "false\n"),
    ]);
}

#[test]
fn what_a_policy_prints_goes_to_stderr_and_an_endless_query_ends() {
    let (exit, stdout, stderr) = eval(&["-f", "raw", r#"print("hello", 1)"#], "");
    assert_eq!((exit, stdout.as_str(), stderr.as_str()), (Some(0), "true\n", "hello 1\n"));
    let endless = "count([1 | numbers.range(1, 3000)[_] >= 0; numbers.range(1, 3000)[_] >= 0])";
    let (exit, stdout, _) = eval(&["--timeout", "50ms", endless], "");
    assert_eq!(exit, Some(2));
    assert!(stdout.contains("eval_cancel_error"), "{stdout}");
}

#[test]
fn a_query_may_stand_in_a_package_and_import_what_it_names() {
    check(&[
        (
            &["-d", "p", "-i", "input.json", "-f", "raw", "--package", "a.b", "allow; allow == data.a.b.allow"],
            "",
            0,
            "true true\n",
        ),
        (&["-d", "p", "-i", "input.json", "-f", "raw", "--import", "data.a.b", "b.allow"], "", 0, "true\n"),
        (&["-d", "p", "-i", "input.json", "-f", "raw", "--import", "data.a as q", "q.b.allow"], "", 0, "true\n"),
        (&["-i", "input.json", "-f", "raw", "--import", "input.x", "x"], "", 0, "1\n"),
        (&["-i", "input.json", "-f", "raw", "--import", "input as i", "--import", "rego.v1", "i.x"], "", 0, "1\n"),
        // A variable of the query hides the rule.
        (&["-d", "p", "-f", "raw", "--package", "a.b", "names := 7; names == 7"], "", 0, "true true\n"),
    ]);
    let (exit, stdout, _) = eval(&["-d", "p", "-i", "input.json", "--package", "a.b", "allow"], "");
    assert_eq!(exit, Some(0));
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let want = serde_json::json!({"value": true, "text": "allow", "location": {"row": 1, "col": 1}});
    assert_eq!(found["result"][0]["expressions"][0], want);
}

#[test]
fn coverage_and_metrics_stand_beside_the_result() {
    check(&[
        (&["-f", "discard", "1"], "", 0, "{\n  \"result\": \"discarded\"\n}\n"),
        (&["-f", "discard", "data.nope"], "", 0, "{}\n"),
        (
            &["-d", "p", "-i", "input.json", "--coverage", "-f", "pretty", "data.a.b.allow"],
            "",
            0,
            "true\n┌──────────────────┬───────┐\n│ Overall Coverage │ 25.00 │\n└──────────────────┴───────┘\n",
        ),
    ]);
    let (_, stdout, _) = eval(&["-d", "p", "-i", "input.json", "--coverage", "--metrics", "data.a.b.allow"], "");
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(found["metrics"]["timer_rego_query_eval_ns"].as_u64().is_some_and(|time| time > 0), "{stdout}");
    let covered = &found["coverage"]["files"]["p/a.rego"]["covered"];
    let range =
        |from: u32, to: u32| serde_json::json!({"start": {"row": 3, "col": from}, "end": {"row": 3, "col": to}});
    assert_eq!(*covered, serde_json::json!([range(1, 6), range(10, 22)]), "{stdout}");
}

#[test]
fn what_opa_has_and_claimgate_has_not_is_refused_in_a_sentence() {
    for (args, want) in [
        (vec!["--partial", "1"], "partial evaluation"),
        (vec!["-u", "input.x", "1"], "partial evaluation"),
        (vec!["--schema", "s.json", "1"], "schemas are not read"),
        (vec!["--explain", "full", "1"], "no trace"),
        (vec!["--profile", "1"], "not timed"),
        (vec!["-t", "wasm", "1"], "WebAssembly"),
        (vec!["-O", "1", "1"], "as they are written"),
        (vec!["--package", "a b", "1"], "is no package"),
        (vec!["--import", "foo", "1"], "is no import"),
    ] {
        let (exit, stdout, stderr) = eval(&args, "");
        assert_eq!((exit, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.contains(want), "{args:?}: {stderr}");
    }
    check(&[(&["-t", "rego", "-O", "0", "-f", "raw", "1"], "", 0, "1\n")]);
}
