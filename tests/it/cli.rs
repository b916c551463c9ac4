//! The real binary from outside: what it prints, where, and with which exit code.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs claimgate to its end in `directory`, with an environment that knows nothing but a place for temporary files.
fn claimgate_in(directory: &Path, args: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("TMPDIR", directory)
        .stdin(Stdio::null())
        .output()
        .expect("claimgate runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn claimgate(args: &[&str]) -> Outcome {
    claimgate_in(Path::new("."), args)
}

/// Exit code, and what stdout and stderr must contain; nothing may stand on the stream whose text is empty.
fn check(args: &[&str], code: i32, stdout: &str, stderr: &str) {
    expect(&claimgate(args), args, code, stdout, stderr);
}

fn expect(found: &Outcome, args: &[&str], code: i32, stdout: &str, stderr: &str) {
    let shown = format!("{args:?}\n--- stdout\n{}--- stderr\n{}", found.stdout, found.stderr);
    assert_eq!(found.code, Some(code), "{shown}");
    for (found, expected) in [(&found.stdout, stdout), (&found.stderr, stderr)] {
        assert!(found.contains(expected), "`{expected}` is missing: {shown}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{shown}");
    }
}

/// The verbs that the help lists.
fn verbs() -> Vec<String> {
    let help = claimgate(&["--help"]).stdout;
    let (_, commands) = help.split_once("Commands:\n").expect("a list of commands");
    let lines = commands.lines().take_while(|line| !line.is_empty());
    // A long description continues below, further to the right.
    lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn each_verb_has_help_with_examples_that_fits_a_terminal() {
    let verbs = verbs();
    for verb in ["run", "demo", "check", "eval", "test", "bench", "healthcheck", "version", "completion"] {
        assert!(verbs.iter().any(|found| found == verb), "{verb} is not among {verbs:?}");
    }
    let mut pages = vec![vec!["--help"], vec!["-h"]];
    pages.extend(verbs.iter().map(|verb| vec![verb.as_str(), "--help"]));
    for args in pages {
        let found = claimgate(&args);
        assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(found.stdout.contains("Usage: claimgate"), "{args:?}: {}", found.stdout);
        assert!(found.stdout.contains("Examples:\n"), "{args:?} shows no examples: {}", found.stdout);
        // What stands below the options is wrapped by hand; a narrow terminal must not wrap it again.
        let (_, below) = found.stdout.split_once("Examples:\n").expect("examples");
        for line in below.lines() {
            assert!(line.chars().count() < 80, "{args:?}: too long: {line}");
        }
    }
}

#[test]
fn wrong_usage_ends_with_code_two_and_a_hint() {
    check(&[], 2, "", "Usage: claimgate <COMMAND>");
    check(&["runn"], 2, "", "a similar subcommand exists: 'run'");
    check(&["run", "--lisen", "127.0.0.1:1"], 2, "", "a similar argument exists: '--listen'");
    check(&["run", "--listen"], 2, "", "a value is required for '--listen <ADDR>'");
    check(&["run", "-c", "a", "-c", "b"], 2, "", "cannot be used multiple times");
    check(&["demo", "x"], 2, "", "unexpected argument 'x'");
    check(&["completion", "cmd"], 2, "", "possible values: bash");
    check(&["healthcheck", "--admin-url", "127.0.0.1:1"], 2, "", "write `http://HOST:PORT`");
}

#[test]
fn a_configuration_that_is_wrong_ends_with_code_two_and_every_problem() {
    let refused = "nothing was started";
    check(&["run"], 2, "", "configuration: issuers: no issuer is configured");
    check(&["run", "-c", "no/such/file.yaml"], 2, "", "no/such/file.yaml: cannot be read: there is no such file");
    check(&["run", "-c", "tests/cases/config/no_audience.yaml"], 2, "", refused);
    check(&["check", "-c", "tests/cases/config/no_audience.yaml"], 2, "", "3 problems; `run` would not start");
    check(&["check", "-c", "tests/cases/config/tab.yaml"], 2, "", "tab.yaml:2:2: not valid YAML");
    let passthrough = ["--set", "opa.identity=passthrough"];
    for (args, stderr) in [
        (["--listen", ":80"], "--listen :80: listen: `:80` is not an address; write `127.0.0.1:80`"),
        (["--admin-listen", "x"], "--admin-listen x: admin.listen: `x` is not an address"),
        (
            ["--set", "limits.body_byte=1"],
            "--set limits.body_byte=1: limits.body_byte: there is no such key; did you mean",
        ),
        (["--set", "limits"], "--set limits: it has no `=`"),
        (["--bundle", "no/such"], "--bundle no/such: policy.bundles[0]: `no/such`: there is no such file or directory"),
        (["-d", "a.b:no/such"], "--data a.b:no/such: policy.data[0]: `no/such`: there is no such file or directory"),
    ] {
        check(&[&["run"], &passthrough[..], &args[..]].concat(), 2, "", stderr);
    }
}

#[test]
fn a_dollar_sign_in_a_flag_is_no_variable() {
    let args = ["check", "--set", "opa.identity=passthrough", "-b", "${HOME}"];
    check(&args, 2, "", "policy.bundles[0]: `${HOME}`: there is no such file or directory");
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let run = ["run", "--set", "opa.identity=passthrough", "-b", "rego", "-d", "data"];
    for (flag, other) in [("--listen", "--admin-listen"), ("--admin-listen", "--listen")] {
        let expected =
            format!("{address} is in use by another program; stop it, or choose another address with `{flag}`");
        check(&[&run[..], &[flag, &address, other, "127.0.0.1:0"]].concat(), 1, "", &expected);
    }
}

#[test]
fn a_demo_that_cannot_start_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let args = ["demo", "--listen", &address, "--admin-listen", "127.0.0.1:0"];
    let expected =
        format!("{address} is in use by another program; stop it, or choose another address with `--listen`");
    expect(&claimgate_in(directory.path(), &args), &args, 1, "", &expected);
    let left = fs::read_dir(directory.path()).expect("readable").count();
    assert_eq!(left, 0, "the temporary directory was not removed");
}

#[test]
fn check_says_what_it_looked_at() {
    let args = ["check", "-b", "rego", "-d", "data", "--set", "opa.identity=passthrough"];
    check(&args, 0, "ok: 5 policy modules, 0 issuers, entrypoint none\n", "");
}

#[test]
fn what_strict_mode_finds_is_a_warning_or_a_problem() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "package p\n\nimport data.x\n\nf(a, b) := a if {\n\tc := count(a)\n}\n";
    fs::write(directory.path().join("p.rego"), text).expect("writable");
    let lines = [
        "p.rego:3:1: rego_compile_error: import data.x unused",
        "p.rego:5:1: rego_compile_error: unused argument b. (hint: use _ (wildcard variable) instead)",
        "p.rego:6:2: rego_compile_error: assigned var c unused",
    ];
    let warnings: String =
        lines.iter().map(|line| format!("warning: {}\n", line.replace(" rego_compile_error:", ""))).collect();
    let ok = format!("ok: 1 policy module, 0 issuers, entrypoint none\n{warnings}");
    let problems = format!("{}\nclaimgate: 3 problems; `run` would not start\n", lines.join("\n"));
    let passthrough = ["check", "--set", "opa.identity=passthrough", "-b", "."];
    for (more, code, stdout, stderr) in [
        (&[][..], 0, ok.as_str(), ""),
        (&["--strict"], 1, "", problems.as_str()),
        (&["--set", "policy.strict=true"], 1, "", problems.as_str()),
        (&["-S", "-m", "1"], 1, "", "error limit reached\nclaimgate: 2 problems; `run` would not start\n"),
    ] {
        let found = claimgate_in(directory.path(), &[&passthrough[..], more].concat());
        assert_eq!((found.code, found.stdout.as_str()), (Some(code), stdout), "{more:?}: {}", found.stderr);
        assert!(found.stderr.ends_with(stderr) && (code == 1 || found.stderr.is_empty()), "{more:?}: {}", found.stderr);
    }
}

#[test]
fn check_reports_every_problem_of_a_bundle_with_its_place() {
    for (name, files, expected) in [
        ("syntax", &[("p.rego", "package p\n\nallow if {\n")][..], &["p.rego:"][..]),
        (
            "several",
            &[("a.rego", "package a\n\nx := nope(1)\n"), ("b.rego", "package b\n\ny := also_nope(1)\n")],
            &["a.rego:3:", "b.rego:3:", "rego_type_error", "2 problems; `run` would not start"],
        ),
        ("recursion", &[("r.rego", "package r\n\np if q\n\nq if p\n")], &["r.rego:", "rego_recursion_error"]),
        ("no JSON", &[("data.json", "{\"a\": ")], &["data.json"]),
        ("binary", &[("p.rego", "package p\n\u{0}\u{1}\n")], &["p.rego:2:1"]),
        (
            "entrypoint",
            &[("p.rego", "package p\n\nallow := true\n")],
            &["--set policy.entrypoint=authz/decision: entrypoint_error: ", "1 problem; `run` would not start"],
        ),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        for (file, content) in files {
            fs::write(directory.path().join(file), content).expect("writable");
        }
        let args =
            ["check", "--set", "opa.identity=passthrough", "--set", "policy.entrypoint=authz/decision", "-b", "."];
        let found = claimgate_in(directory.path(), &args);
        assert_eq!(found.code, Some(1), "{name}: {}", found.stderr);
        assert_eq!(found.stdout, "", "{name}");
        for expected in expected {
            assert!(found.stderr.contains(expected), "{name}: `{expected}` is missing:\n{}", found.stderr);
        }
    }
}

#[test]
fn check_reports_configuration_and_policies_together() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "issuers: []\nlimit: {}\npolicy: {bundles: [policies, nowhere], entrypoint: a/b}\n";
    fs::write(directory.path().join("claimgate.yaml"), config).expect("writable");
    fs::create_dir(directory.path().join("policies")).expect("writable");
    fs::write(directory.path().join("policies/p.rego"), "package p\n\nx := nope(1)\n").expect("writable");
    let args = ["check", "-c", "claimgate.yaml"];
    let found = claimgate_in(directory.path(), &args);
    expect(&found, &args, 2, "", "4 problems; `run` would not start");
    for (line, place) in found.stderr.lines().zip(["yaml:1:10: ", "yaml:2:1: ", "yaml:3:30: ", "policies/p.rego:3:"]) {
        assert!(line.contains(place), "{place}: {}", found.stderr);
    }
}

#[test]
fn the_shipped_policies_pass_their_own_tests() {
    check(&["test", "rego", "data"], 0, "PASS: 18/18\n", "");
}

#[test]
fn the_configuration_and_the_policy_of_the_readme_load() {
    let readme = fs::read_to_string("README.md").expect("readable");
    let block = |language: &str| {
        let (_, rest) = readme.split_once(&format!("```{language}\n")).expect("a block");
        rest.split_once("```").expect("its end").0
    };
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["rego", "data"] {
        fs::create_dir(directory.path().join(name)).expect("writable");
    }
    fs::write(directory.path().join("rego/policy.rego"), block("rego")).expect("writable");
    fs::write(directory.path().join("claimgate.yaml"), block("yaml")).expect("writable");
    let args = ["check", "-c", "claimgate.yaml"];
    expect(&claimgate_in(directory.path(), &args), &args, 0, "entrypoint authz/decision\n", "");
}

#[test]
fn version_names_the_crate_and_the_engine() {
    let version = env!("CARGO_PKG_VERSION");
    check(&["version"], 0, &format!("claimgate {version}\nengine: regorus "), "");
    check(&["--version"], 0, &format!("claimgate {version}\n"), "");
}

#[test]
fn completion_scripts_know_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let found = claimgate(&["completion", shell]);
        assert_eq!((found.code, found.stderr.as_str()), (Some(0), ""), "{shell}");
        for verb in verbs() {
            assert!(found.stdout.contains(&verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn a_health_check_without_a_server_fails_and_says_why() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let url = format!("http://{closed}");
    check(&["healthcheck", "--admin-url", &url], 1, "", &format!("claimgate: {url}: nothing listens there\n"));
    check(&["healthcheck", "--admin-url", "unix:/no/such.sock"], 1, "", "there is no such socket");
}
