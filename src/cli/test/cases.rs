//! The cases of a test whose head goes on below its name: those in its value, and those that should be there and are
//! not, which is how a case fails.

use super::CaseResult;
use crate::{
    cli::sources::Loading,
    policy::{EvalOptions, Outcome, PolicySet, Source, SourceFile, SourceKind, TestRule, Value, to_opa_json},
};

/// The name of the module that asks.
const PROBE: &str = "claimgate_cases.rego";

/// The names, as a path, of all cases that the definitions of a test have.
pub(super) fn expected(files: &[Source], set: &PolicySet, rule: &TestRule, loading: &Loading) -> Vec<Vec<Value>> {
    let mut found = Vec::new();
    for candidates in set.case_probes(rule) {
        for text in candidates {
            // The engine takes a variable that nothing binds for undefined: such a probe has no case.
            let outcome = ask(files, set, rule, &text, loading);
            let Some(Outcome::Value(Value::Set(cases))) = outcome else { continue };
            let paths = cases.iter().filter_map(|case| case.as_array().ok());
            let before = found.len();
            found.extend(paths.map(|path| path.iter().cloned().collect()));
            if found.len() > before {
                break;
            }
        }
    }
    found
}

/// What a probe answers when it is loaded beside the others.
pub(super) fn ask(
    files: &[Source],
    set: &PolicySet,
    rule: &TestRule,
    probe: &str,
    loading: &Loading,
) -> Option<Outcome> {
    let mut files = files.to_vec();
    files.push(Source {
        name: String::new(),
        origin: PROBE.to_owned(),
        kind: SourceKind::Plain { prefix: Vec::new() },
        files: vec![SourceFile { path: PROBE.to_owned(), bytes: probe.as_bytes().to_vec() }],
    });
    let probe = loading.load(files).ok()?;
    probe.evaluate(&set.probe_path(rule), None, &EvalOptions::default()).ok()
}

/// The results of the cases of a value; those of `expected` that it lacks have failed.
pub(super) fn of(outcome: &Outcome, expected: &[Vec<Value>]) -> Vec<CaseResult> {
    let mut cases = match outcome {
        Outcome::Value(value) => members(value),
        Outcome::Undefined => Vec::new(),
    };
    for path in expected {
        add_missing(&mut cases, path);
    }
    settle(&mut cases);
    cases
}

/// A member for each case; an object is a group of cases.
fn members(value: &Value) -> Vec<CaseResult> {
    let Value::Object(members_of) = value else { return Vec::new() };
    let case = |(name, value): (&Value, &Value)| CaseResult {
        name: shown(name),
        passed: *value == Value::Bool(true),
        cases: members(value),
    };
    members_of.iter().map(case).collect()
}

fn add_missing(cases: &mut Vec<CaseResult>, path: &[Value]) {
    let Some((name, below)) = path.split_first() else { return };
    let name = shown(name);
    match cases.iter_mut().find(|case| case.name == name) {
        Some(case) => add_missing(&mut case.cases, below),
        None => {
            let mut case = CaseResult { name, passed: false, cases: Vec::new() };
            add_missing(&mut case.cases, below);
            cases.push(case);
        }
    }
}

/// A group passes when all of it does; cases stand in the order of their names.
fn settle(cases: &mut [CaseResult]) {
    for case in cases.iter_mut().filter(|case| !case.cases.is_empty()) {
        settle(&mut case.cases);
        case.passed = case.cases.iter().all(|case| case.passed);
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
}

fn shown(name: &Value) -> String {
    match name {
        Value::String(text) => text.to_string(),
        other => to_opa_json(other),
    }
}
