//! `claimgate test` from outside: discovery, verdicts, reports and exit codes, as a real OPA gives them.

use std::{fs, process::Command};

const POLICY: &str = "package a\n\nallow if input.x == 1\n\nc := 1 if input.z\n\nc := 2 if input.z\n";

const TESTS: &str = r#"package a_test

import data.a

test_ok if a.allow with input as {"x": 1}

test_fail if a.allow with input as {"x": 2}

test_error if a.c == 1 with input.z as true

test_print if {
	print("hello", 1)
	1 == 2
}

todo_test_later if false

test_number := 3

test_table[name] if {
	some name, t in {"one": [1, 1], "two": [1, 2]}
	t[0] == t[1]
}

test_ok if false
"#;

const GOOD: &str = "package good_test\n\ntest_a if true\n\ntest_b[x] if some x in [\"u\", \"v\"]\n\nother if false\n";

/// Runs `test` and gives exit code, stdout with figures masked, and stderr.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("p/a.rego", POLICY),
        ("p/a_test.rego", TESTS),
        ("good/a_test.rego", GOOD),
        ("broken/x.rego", "package x\ntest_a if {"),
        ("data/data.json", "{\"k\": 1}"),
    ] {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(directory.path().join("binary.rego"), [0xff, 0xfe]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .arg("test")
        .args(args)
        .current_dir(directory.path())
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let figures = regex::Regex::new(r"\([0-9.]+(ns|µs|ms|s)\)").unwrap();
    let stdout = figures.replace_all(&text(output.stdout), "(T)").into_owned();
    (output.status.code(), stdout, text(output.stderr))
}

fn check(cases: &[(&[&str], i32, &str)]) {
    for (args, code, want) in cases {
        let (exit, stdout, stderr) = run(args);
        assert_eq!((exit, stdout.as_str()), (Some(*code), *want), "{args:?}: {stderr}");
    }
}

const RULE: &str = "--------------------------------------------------------------------------------";

#[test]
fn the_report_names_what_did_not_pass_and_counts_the_rest() {
    let want = format!(
        "p/a_test.rego:7:\ndata.a_test.test_fail: FAIL (T)\n\
         p/a_test.rego:9:\ndata.a_test.test_error: ERROR (T)\n  p/a.rego:7: eval_conflict_error: complete rules must not \
         produce multiple outputs\n\
         p/a_test.rego:11:\ndata.a_test.test_print: FAIL (T)\n\n  hello 1\n\n\
         p/a_test.rego:16:\ndata.a_test.todo_test_later: SKIPPED\n\
         p/a_test.rego:18:\ndata.a_test.test_number: FAIL (T)\n\
         p/a_test.rego:20:\ndata.a_test.test_table: FAIL (T)\n  two: FAIL\n\
         p/a_test.rego:25:\ndata.a_test.test_ok#01: FAIL (T)\n\
         {RULE}\nPASS: 2/9\nFAIL: 5/9\nSKIPPED: 1/9\nERROR: 1/9\n"
    );
    check(&[
        (&["p"], 2, &want),
        (&["good"], 0, "PASS: 3/3\n"),
        (&["good", "data"], 0, "PASS: 3/3\n"),
        (&["-b", "good"], 0, "PASS: 3/3\n"),
        (
            &["-v", "good"],
            0,
            &format!(
                "good/a_test.rego:3:\ndata.good_test.test_a: PASS (T)\ngood/a_test.rego:5:\ndata.good_test.test_b: PASS \
                 (T)\n  u: PASS\n  v: PASS\n{RULE}\nPASS: 3/3\n"
            ),
        ),
    ]);
}

#[test]
fn tests_are_chosen_by_name_and_files_by_pattern() {
    check(&[
        (&["-r", "a_test.test_ok$", "p"], 0, "PASS: 1/1\n"),
        (&["-r", "nothing", "p"], 0, ""),
        (&["--fail-on-empty", "-r", "nothing", "p"], 2, ""),
        (&["--ignore", "*_test.rego", "p"], 0, ""),
        (
            &["-z", "-r", "todo", "p"],
            0,
            &format!("p/a_test.rego:16:\ndata.a_test.todo_test_later: SKIPPED\n{RULE}\nSKIPPED: 1/1\n"),
        ),
    ]);
}

#[test]
fn the_json_report_is_opas() {
    let (exit, stdout, _) = run(&["-f", "json", "p"]);
    assert_eq!(exit, Some(2));
    let mut found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    for result in found.as_array_mut().unwrap() {
        assert!(result.as_object_mut().unwrap().remove("duration").unwrap().is_u64());
        result.as_object_mut().unwrap().remove("location").unwrap();
        if let Some(error) = result.get_mut("error") {
            *error = error["code"].clone();
        }
    }
    let want = serde_json::json!([
        {"package": "data.a_test", "name": "test_ok"},
        {"package": "data.a_test", "name": "test_fail", "fail": true},
        {"package": "data.a_test", "name": "test_error", "error": "eval_conflict_error"},
        {"package": "data.a_test", "name": "test_print", "fail": true, "output": "aGVsbG8gMQo="},
        {"package": "data.a_test", "name": "todo_test_later", "skip": true},
        {"package": "data.a_test", "name": "test_number", "fail": true},
        {"package": "data.a_test", "name": "test_table", "fail": true,
         "sub_results": {"one": {"name": "one"}, "two": {"name": "two", "fail": true}}},
        {"package": "data.a_test", "name": "test_ok#01", "fail": true},
    ]);
    assert_eq!(found, want);
    check(&[(&["-f", "json", "data"], 0, "[]\n")]);
}

#[test]
fn what_does_not_load_is_said_with_its_place_and_exit_code_1() {
    for (args, code, want) in [
        (vec!["broken"], 1, "1 error occurred during loading: broken/x.rego:2: rego_parse_error: "),
        (vec!["missing"], 1, "cannot read `missing`"),
        (vec!["binary.rego"], 1, "binary.rego"),
        (vec!["-r", "(", "p"], 2, "regex parse error"),
        (vec!["--ignore", "[", "p"], 2, "no file name pattern"),
        (vec![], 2, "required"),
    ] {
        let (exit, stdout, stderr) = run(&args);
        assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(want), "{args:?}: {stderr}");
    }
}

#[test]
fn a_verbose_report_says_which_statement_failed() {
    let (exit, stdout, _) = run(&["-v", "-r", "test_print|test_table", "p"]);
    assert_eq!(exit, Some(2));
    let failures = stdout.split_once("FAILURES\n").unwrap_or_else(|| panic!("{stdout}")).1;
    for want in [
        "data.a_test.test_print: FAIL (T)\n\n  query:1                Enter data.a_test.test_print = _\n",
        "  p/a_test.rego:13       | | Fail 1 == 2\n",
        "data.a_test.test_table: FAIL (T)\n\n  two: FAIL\n",
    ] {
        assert!(failures.contains(want), "{want}: {failures}");
    }
    assert!(!run(&["-r", "test_print", "p"]).1.contains("FAILURES"), "only a verbose report has them");
}
