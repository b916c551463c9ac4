//! What small policies say in a real OPA and here: the document `data.p` as JSON, or the codes of the errors. They are
//! written in the ways that are easy to read wrong. The expectations in `tests/cases/policy/opa-reads.txt` are those of
//! OPA; `UPDATE_READS=1` writes them anew where the variable `OPA` names one. A line `!!! reason` says why ours may differ.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use claimgate::policy::{
    DataPath, EvalOptions, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, to_opa_json,
};

/// One policy, or several.
#[derive(Debug, Default)]
struct Case {
    /// Starts with `v0` for one in that language.
    name: String,
    known: Option<String>,
    files: Vec<(String, String)>,
    said: String,
}

#[test]
fn small_policies_say_what_they_say_in_opa() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/policy/opa-reads.txt");
    let mut cases = read(&fs::read_to_string(&path).unwrap());
    if std::env::var_os("UPDATE_READS").is_some() {
        let opa = std::env::var_os("OPA").expect("OPA names the program");
        cases.iter_mut().for_each(|case| case.said = ask(Path::new(&opa), case));
        fs::write(&path, cases.iter().map(written).collect::<String>()).unwrap();
    }
    let failures: String = cases.iter().filter_map(check).collect();
    assert!(failures.is_empty(), "{failures}");
}

/// What is wrong with one case, if anything.
fn check(case: &Case) -> Option<String> {
    let own = ours(case);
    match (&case.known, own == case.said) {
        (None, true) | (Some(_), false) => None,
        (Some(reason), true) => Some(format!("=== {}\nagrees now; remove: {reason}\n", case.name)),
        (None, false) => Some(format!("{}own: {own}\n", written(case))),
    }
}

fn is_v0(case: &Case) -> bool {
    case.name.starts_with("v0 ")
}

fn ours(case: &Case) -> String {
    let source = |(name, text): &(String, String)| Source {
        name: String::new(),
        origin: name.clone(),
        kind: SourceKind::Plain { prefix: Vec::new() },
        files: vec![SourceFile { path: name.clone(), bytes: text.clone().into_bytes() }],
    };
    let settings = Settings { v0_compatible: is_v0(case), http: None, ..Settings::default() };
    let set = match PolicySet::load(case.files.iter().map(source).collect(), &settings) {
        Ok(set) => set,
        Err(errors) => return codes(errors.iter().map(|error| error.code.to_owned())),
    };
    let path = DataPath::from_slash("p");
    match set.evaluate(&path, None, &EvalOptions::default()) {
        Ok(Outcome::Value(value)) => to_opa_json(&value),
        Ok(Outcome::Undefined) => "undefined".to_owned(),
        Err(error) => {
            let error = set.with_conflicting_values(error, None, &EvalOptions::default());
            format!("{}: {}", error.code(), error.text().replace('\n', "\\n"))
        }
    }
}

/// What a real OPA says.
fn ask(opa: &Path, case: &Case) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(opa);
    command.args(["eval", "--format", "json", "data.p"]).current_dir(directory.path());
    for (name, text) in &case.files {
        fs::write(directory.path().join(name), text).unwrap();
        command.args(["-d", name]);
    }
    if is_v0(case) {
        command.arg("--v0-compatible");
    }
    let said: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    if let Some(errors) = said["errors"].as_array() {
        let text = |error: &serde_json::Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
        return match errors.as_slice() {
            [error] if text(error, "code").starts_with("eval_") => {
                format!("{}: {}", text(error, "code"), text(error, "message").replace('\n', "\\n"))
            }
            errors => codes(errors.iter().map(|error| text(error, "code"))),
        };
    }
    match said.pointer("/result/0/expressions/0/value") {
        Some(value) => value.to_string(),
        None => "undefined".to_owned(),
    }
}

fn codes(codes: impl Iterator<Item = String>) -> String {
    codes.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(" ")
}

/// `=== name`, perhaps `!!! reason`, the text of `m.rego`, perhaps `--- name` and the text of another file, `>>> ` and
/// what OPA says.
fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            let files = vec![("m.rego".to_owned(), String::new())];
            cases.push(Case { name: name.to_owned(), files, ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap();
        if let Some(reason) = line.strip_prefix("!!! ") {
            case.known = Some(reason.to_owned());
        } else if let Some(said) = line.strip_prefix(">>> ") {
            case.said = said.to_owned();
        } else if let Some(name) = line.strip_prefix("--- ") {
            case.files.push((name.to_owned(), String::new()));
        } else {
            case.files.last_mut().unwrap().1.push_str(&format!("{line}\n"));
        }
    }
    cases
}

fn written(case: &Case) -> String {
    let mut out = format!("=== {}\n", case.name);
    if let Some(reason) = &case.known {
        out.push_str(&format!("!!! {reason}\n"));
    }
    for (index, (name, text)) in case.files.iter().enumerate() {
        if index > 0 {
            out.push_str(&format!("--- {name}\n"));
        }
        out.push_str(text);
    }
    format!("{out}>>> {}\n", case.said)
}
