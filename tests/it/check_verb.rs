//! `claimgate check PATH…` and `claimgate bench` from outside, as `opa check` and `opa bench` do.

use std::{fs, process::Command};

/// Runs a verb beside some files and gives exit code, stdout and stderr.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "good.rego",
            "package good\n\np if input.x == 1\n\nundefined if false\n\ntwice := 1 if input.x\n\ntwice := 2 if input.x\n",
        ),
        ("types.rego", "package types\n\np if foo(1)\n\nq if bar(1)\n"),
        ("broken.rego", "package broken\n\np if {"),
        ("v0.rego", "package old\n\np { true }\n"),
        ("mixed/a.rego", "package mixed\n\np if true\n"),
        ("mixed/b.json", "{ no JSON"),
        ("input.json", "{\"x\": 1}"),
    ] {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_claimgate"));
    let output = command.args(args).current_dir(directory.path()).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn nothing_is_said_of_policies_that_are_right() {
    for args in [
        vec!["check", "good.rego"],
        vec!["check", "-f", "json", "good.rego"],
        vec!["check", "--v0-compatible", "v0.rego"],
        vec!["check", "--ignore", "types.rego,broken.rego,v0.rego", "."],
        // Data beside the policies is not checked.
        vec!["check", "mixed"],
        vec!["check", "--as-bundle", "mixed"],
    ] {
        assert_eq!(run(&args), (Some(0), String::new(), String::new()), "{args:?}");
    }
}

#[test]
fn problems_are_opas_lines_or_its_object_on_stderr() {
    let types = "types.rego:3: rego_type_error: undefined function foo";
    for (args, code, want) in [
        (
            vec!["types.rego"],
            1,
            format!("2 errors occurred:\n{types}\ntypes.rego:5: rego_type_error: undefined function bar\n"),
        ),
        (
            vec!["-m", "1", "types.rego"],
            1,
            format!("2 errors occurred:\n{types}\nrego_compile_error: error limit reached\n"),
        ),
        (vec!["broken.rego"], 1, "1 error occurred during loading: broken.rego:3: rego_parse_error: ".to_owned()),
        (vec!["v0.rego"], 1, "1 error occurred during loading: v0.rego:3: rego_parse_error: ".to_owned()),
        (vec!["missing"], 1, "1 error occurred during loading: ".to_owned()),
        (vec!["--ignore", "[", "good.rego"], 2, "claimgate: `[` is no file name pattern".to_owned()),
        (vec!["-c", "x.yaml", "good.rego"], 2, "error: the argument".to_owned()),
        (vec!["-f", "json"], 2, "error: the following required arguments were not provided".to_owned()),
    ] {
        let (exit, stdout, stderr) = run(&[&["check"], &args[..]].concat());
        assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
        assert!(stderr.starts_with(&want), "{args:?}: {stderr}");
    }
    let (_, _, stderr) = run(&["check", "-f", "json", "-m", "0", "types.rego"]);
    let found: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    let want = serde_json::json!({
        "message": "undefined function foo", "code": "rego_type_error",
        "location": {"file": "types.rego", "row": 3, "col": 6},
    });
    assert_eq!((&found["errors"][0], found["errors"].as_array().unwrap().len()), (&want, 2));
}

#[test]
fn a_benchmark_is_reported_as_opa_reports_it() {
    let base = ["bench", "-d", "good.rego", "-i", "input.json", "--duration", "10ms"];
    let (exit, stdout, stderr) = run(&[&base[..], &["data.good.p"]].concat());
    assert_eq!(exit, Some(0), "{stderr}");
    for name in ["│ samples ", "│ ns/op ", "_ns_99.9% ", "_ns_median "] {
        assert!(stdout.contains(name), "{name}: {stdout}");
    }
    let (_, stdout, _) = run(&[&base[..], &["-f", "json", "data.good.p == true"]].concat());
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let median = &found["Extra"]["histogram_timer_rego_query_eval_ns_median"];
    assert!(median.as_f64().unwrap() > 0.0 && found["N"].as_u64().unwrap() > 0, "{stdout}");
    let (_, stdout, _) =
        run(&[&base[..], &["-f", "gobench", "--metrics=false", "--count", "2", "data.good.p"]].concat());
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{stdout}");
    assert!(lines.iter().all(|line| line.starts_with("BenchmarkOPAEval\t") && line.ends_with(" ns/op")), "{stdout}");
}

#[test]
fn a_benchmark_of_nothing_fails() {
    for (args, code, want) in [
        (vec!["-d", "good.rego", "data.good.undefined"], 1, "1 error occurred: undefined result"),
        (vec!["-d", "good.rego", "-i", "input.json", "data.good.twice"], 1, "eval_conflict_error"),
        (vec!["x +"], 1, "rego_parse_error"),
        (vec!["-d", "broken.rego", "1"], 1, "broken.rego:3: rego_parse_error"),
        (vec!["-d", "missing", "1"], 1, "cannot read `missing`"),
        (vec!["-i", "missing", "1"], 2, "cannot read `missing`"),
        (vec!["--duration", "1", "1"], 2, "is no duration"),
        (vec!["--count", "x", "1"], 2, "invalid value"),
        (vec![], 2, "required"),
    ] {
        let (exit, stdout, stderr) = run(&[&["bench"], &args[..]].concat());
        assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(want), "{args:?}: {stderr}");
    }
    let args = ["bench", "-d", "good.rego", "--fail=false", "--duration", "5ms", "-f", "json", "data.good.undefined"];
    assert_eq!(run(&args).0, Some(0));
}
