//! What `opa check` says about small policies, one for each thing that it checks, and what we say: code, place and
//! message, with `--strict` and without. The expectations in `tests/cases/policy/opa-check.txt` are those of a real OPA;
//! `UPDATE_CHECKS=1` writes them anew where the variable `OPA` names one. A line `!!! reason` says why ours may differ.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use claimgate::policy::{LoadError, PolicySet, Settings, Source, SourceFile, SourceKind};

const FILE: &str = "m.rego";

/// One policy.
#[derive(Debug, Default, Clone)]
struct Case {
    name: String,
    /// Why ours may differ.
    known: Option<String>,
    text: String,
    plain: Vec<String>,
    strict: Vec<String>,
}

#[test]
fn small_policies_are_refused_as_opa_refuses_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/policy/opa-check.txt");
    let mut cases = read(&fs::read_to_string(&path).unwrap());
    if std::env::var_os("UPDATE_CHECKS").is_some() {
        let opa = std::env::var_os("OPA").expect("OPA names the program");
        for case in &mut cases {
            case.plain = ask(Path::new(&opa), &case.text, false);
            case.strict = ask(Path::new(&opa), &case.text, true);
        }
        fs::write(&path, cases.iter().map(written).collect::<String>()).unwrap();
    }
    let failures: String = cases.iter().filter_map(check).collect();
    assert!(failures.is_empty(), "{failures}");
}

/// What is wrong with one case, if anything.
fn check(case: &Case) -> Option<String> {
    let (plain, strict) = (ours(&case.text, false), ours(&case.text, true));
    let same = plain == case.plain && strict == case.strict;
    match (&case.known, same) {
        (None, true) | (Some(_), false) => None,
        (Some(reason), true) => Some(format!("=== {}\nagrees now; remove: {reason}\n", case.name)),
        (None, false) => {
            let mut out = format!("=== {}\n{}", case.name, case.text);
            for (what, theirs, ours) in [("check", &case.plain, &plain), ("strict", &case.strict, &strict)] {
                if theirs != ours {
                    let _ = write!(
                        out,
                        "--- {what}\n  opa: {}\n  own: {}\n",
                        theirs.join("\n       "),
                        ours.join("\n       ")
                    );
                }
            }
            Some(out)
        }
    }
}

fn ours(text: &str, is_strict: bool) -> Vec<String> {
    let files = vec![SourceFile { path: FILE.to_owned(), bytes: text.as_bytes().to_vec() }];
    let kind = SourceKind::Plain { prefix: Vec::new() };
    let source = Source { name: String::new(), origin: FILE.to_owned(), kind, files };
    let settings = Settings { is_strict, max_errors: 0, http: None, ..Settings::default() };
    let line = |error: &LoadError| {
        let (row, col) = error.location.as_ref().map_or((0, 0), |at| (at.row, at.col));
        format!("{row}:{col} {}: {}", error.code, error.message.replace('\n', "\\n"))
    };
    PolicySet::load(vec![source], &settings).err().unwrap_or_default().iter().map(line).collect()
}

/// What a real OPA says.
fn ask(opa: &Path, text: &str, is_strict: bool) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE), text).unwrap();
    let mut command = Command::new(opa);
    command.args(["check", "--max-errors", "0", "--format", "json", FILE]).current_dir(directory.path());
    if is_strict {
        command.arg("--strict");
    }
    let output = command.output().unwrap();
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let Ok(said) = serde_json::from_slice::<serde_json::Value>(&said) else { return Vec::new() };
    let errors = said["errors"].as_array().cloned().unwrap_or_default();
    let line = |error: &serde_json::Value| {
        let at = |name: &str| error["location"][name].as_u64().unwrap_or_default();
        let text = |name: &str| error[name].as_str().unwrap_or_default().replace('\n', "\\n");
        format!("{}:{} {}: {}", at("row"), at("col"), text("code"), text("message"))
    };
    errors.iter().map(line).collect()
}

/// `=== name`, perhaps `!!! reason`, the text, `--- check` and its lines, `--- strict` and its lines (or `same`).
fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut part = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case { name: name.to_owned(), ..Case::default() });
            part = 0;
            continue;
        }
        let case = cases.last_mut().unwrap();
        match (part, line) {
            (_, "--- check") => part = 1,
            (_, "--- strict") => part = 2,
            (0, line) if line.starts_with("!!! ") => case.known = line.strip_prefix("!!! ").map(str::to_owned),
            (0, line) => case.text.push_str(&format!("{line}\n")),
            (1, line) => case.plain.push(line.to_owned()),
            (_, "same") => case.strict.clone_from(&case.plain),
            (_, line) => case.strict.push(line.to_owned()),
        }
    }
    cases
}

fn written(case: &Case) -> String {
    let known = case.known.as_ref().map(|reason| format!("!!! {reason}\n")).unwrap_or_default();
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let strict = if case.plain == case.strict { "same\n".to_owned() } else { lines(&case.strict) };
    format!("=== {}\n{known}{}--- check\n{}--- strict\n{strict}", case.name, case.text, lines(&case.plain))
}
