//! `claimgate test` from outside: discovery, verdicts, reports and exit codes, as a real OPA gives them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

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
        ("v0/a_test.rego", "package v0\n\ntest_a { true }\n"),
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
        (&["--fail-on-empty", "-r", "nothing", "p"], 1, ""),
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

/// Runs `test` over `tests/cases/coverage`, of which `opa.json` holds what OPA 1.22.2 reports.
fn covered(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .arg("test")
        .args(args)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/coverage"))
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn coverage_is_byte_for_byte_that_of_opa() {
    let (exit, stdout, stderr) = covered(&["-c", "p"]);
    let want = include_str!("../cases/coverage/opa.json");
    assert_eq!((exit, stdout.as_str()), (Some(0), want), "{stderr}");
}

#[test]
fn coverage_is_told_by_line_and_held_against_a_threshold() {
    let (exit, stdout, _) = covered(&["-c", "--coverage-format", "text", "p"]);
    assert_eq!(exit, Some(0));
    for want in
        [" 40.62 %  p/a.rego  not covered: 14-18, 26-27, 30, 34-40, 45, 47, 49, 51\n", "100.00 %  p/a_test.rego\n"]
    {
        assert!(stdout.contains(want), "{want}: {stdout}");
    }
    for (args, code, stdout, stderr) in [
        (vec!["--threshold", "10", "p"], 0, "{\n", ""),
        (vec!["--threshold", "99.5", "p"], 2, "", "Code coverage threshold not met: got "),
        (vec!["-v", "--threshold", "99.5", "p"], 2, "", "\nLines not covered:\n\tp/a.rego:14-18\n"),
        (vec!["--threshold", "101", "p"], 1, "", "Code coverage threshold must be between 0 and 100\n"),
        (vec!["--threshold", "much", "p"], 2, "", "invalid value"),
    ] {
        let (exit, out, err) = covered(&args);
        assert_eq!(exit, Some(code), "{args:?}: {err}");
        assert!(out.starts_with(stdout) && err.contains(stderr), "{args:?}: {out}{err}");
    }
}

#[test]
fn coverage_is_not_told_where_a_test_fails() {
    let (exit, stdout, stderr) = run(&["-c", "-r", "test_fail|test_ok$", "p"]);
    let want = format!("p/a_test.rego:7:\ndata.a_test.test_fail: FAIL (T)\n{RULE}\nFAIL: 1/1\n");
    assert_eq!((exit, stdout), (Some(1), want), "{stderr}");
    assert!(stderr.starts_with("data.a_test.test_fail: FAIL ("), "{stderr}");
    let (exit, stdout, stderr) = run(&["-c", "-r", "test_error", "p"]);
    assert_eq!((exit, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("eval_conflict_error"), "{stderr}");
}

#[test]
fn watched_tests_run_again_after_a_change_and_end_at_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a_test.rego");
    fs::write(&file, "package a_test\n\ntest_a if true\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .args(["test", "-w", "."])
        .current_dir(directory.path())
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |want: &str| {
        let found: Vec<String> = lines.by_ref().take_while(|line| line != want).collect();
        found.join("\n")
    };
    assert!(until("Watching for changes ...").starts_with("PASS: 1/1\n****"));
    fs::write(&file, "package a_test\n\ntest_a if true\n\ntest_b if false\n").unwrap();
    assert!(until("Watching for changes ...").contains("data.a_test.test_b: FAIL"), "after a change");
    // A state that does not load is said, and the next one is waited for.
    fs::write(&file, "package a_test\n\ntest_a if {").unwrap();
    until("Watching for changes ...");
    fs::write(&file, "package a_test\n\ntest_c if true\n").unwrap();
    assert!(until("Watching for changes ...").starts_with("PASS: 1/1\n"), "after a repair");
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert!(complaints.contains("rego_parse_error"), "{complaints}");
}

#[test]
fn an_endless_test_ends_and_tests_are_repeated_until_they_fail() {
    let endless = "package a_test\n\ntest_endless if {\n\tcount([1 | numbers.range(1, 3000)[_] >= 0; numbers.range(1, \
                   3000)[_] >= 0]) > 0\n}\n";
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a_test.rego"), endless).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .args(["test", "--timeout", "50ms", "."])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stdout}");
    assert!(stdout.contains("ERROR") && stdout.contains("eval_cancel_error"), "{stdout}");
    check(&[
        (&["--count", "3", "good"], 0, "PASS: 3/3\nPASS: 3/3\nPASS: 3/3\n"),
        (&["--count", "0", "p"], 0, ""),
        (&["--v0-compatible", "v0"], 0, "PASS: 1/1\n"),
    ]);
    let (exit, stdout, _) = run(&["--count", "3", "p"]);
    assert_eq!((exit, stdout.matches("PASS: 2/9").count()), (Some(2), 1), "{stdout}");
    assert_eq!(run(&["v0"]).0, Some(1));
}

/// The pictures are those of OPA 1.22.2.
#[test]
fn the_statement_that_fails_is_shown_with_the_values_of_its_variables() {
    let tests = "package v_test\n\ntest_direct if {\n\tx := 3\n\tz := {\"a\": [x, \"s\"]}\n\tz.a[0] == x + 1\n}\n\n\
                 test_some if {\n\tsome c in [1, 2]\n\tc > 5\n}\n\ntest_multi if {\n\tx := 1\n\ty := 2; x == y\n}\n";
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("v_test.rego"), tests).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .args(["test", "--var-values", "."])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    for want in [
        "\n\n  v_test.rego:6:\n    \tz.a[0] == x + 1\n    \t|         |\n    \t|         x + 1: 4\n    \t|         x: 3\n    \
         \tz.a[0]: 3\n    \tz: {\"a\": [3, \"s\"]}\n\n",
        "\n\n  v_test.rego:11:\n    \tc > 5\n    \t|\n    \t2\n\n",
        "\n\n  v_test.rego:16:\n    \t        x == y\n    \t        |    |\n    \t        |    2\n    \t        1\n\n",
    ] {
        assert!(stdout.contains(want), "{want}\n{stdout}");
    }
}
