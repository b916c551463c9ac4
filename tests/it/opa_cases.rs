//! OPA's own conformance cases through [`PolicySet`]: result, definedness and error code.
//!
//! Cases that do not pass yet stand in `tests/cases/policy/opa-v1.skip`, each with what it gives instead. That list only
//! shrinks: a case that fails and is not listed, or passes and is, fails the test. `UPDATE_SKIPS=1` writes the list anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, panic,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use claimgate::{
    outbound::{self, Outbound},
    policy::{
        EvalErrorKind, EvalOptions, HttpSend, PolicySet, QueryResult, Settings, Source, SourceFile, SourceKind, Value,
        install_panic_hook, parse_json, to_opa_json,
    },
};
use serde::Deserialize;

const THREADS: usize = 2;
/// Unoptimised builds of the interpreter need several times the stack of optimised ones.
const STACK_BYTES: usize = 256 << 20;
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    note: String,
    query: String,
    #[serde(default)]
    modules: Vec<String>,
    data: Option<serde_json::Value>,
    input: Option<serde_json::Value>,
    /// The input as a Rego term.
    input_term: Option<String>,
    want_result: Option<Vec<BTreeMap<String, serde_json::Value>>>,
    want_error: Option<String>,
    want_error_code: Option<String>,
    /// Arrays of the bindings are in no order.
    #[serde(default)]
    sort_bindings: bool,
    /// Bindings that the compiler made up do not count.
    #[serde(default)]
    ignore_generated_vars: bool,
    #[serde(default)]
    strict_error: bool,
}

/// A case by the name under which the list knows it: notes repeat.
struct Named {
    folder: String,
    name: String,
    case: Case,
}

/// What a case gave.
enum Given {
    Rows(QueryResult),
    Error { code: String, message: String },
}

#[test]
fn cases_of_opas_suite_give_what_they_give_in_opa_unless_listed() {
    let cases = read_cases();
    let list = manifest_dir().join("tests/cases/policy/opa-v1.skip");
    let skips = read_list(&list);
    let failures = run_all(&cases);

    let mut score: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (named, failure) in cases.iter().zip(&failures) {
        let (passed, all) = score.entry(&named.folder).or_default();
        *passed += usize::from(failure.is_none());
        *all += 1;
    }
    let mut report = String::new();
    for (folder, (passed, all)) in &score {
        let _ = writeln!(report, "{passed:>5} of {all:<5} {folder}");
    }
    let passed = failures.iter().filter(|failure| failure.is_none()).count();
    let _ = writeln!(report, "{passed:>5} of {:<5} in all", cases.len());
    println!("{report}");

    let failing: Vec<(&str, &str)> = cases
        .iter()
        .zip(&failures)
        .filter_map(|(named, failure)| Some((named.name.as_str(), failure.as_deref()?)))
        .collect();
    if std::env::var_os("UPDATE_SKIPS").is_some() {
        write_list(&list, &failing);
        return;
    }
    let mut complaints = Vec::new();
    for (name, reason) in &failing {
        if !skips.contains_key(*name) {
            complaints.push(format!("{name}: fails and is not listed: {reason}"));
        }
    }
    let failing: BTreeSet<&str> = failing.into_iter().map(|(name, _)| name).collect();
    for name in skips.keys().filter(|name| !failing.contains(name.as_str())) {
        complaints.push(format!("{name}: passes, or is no case; remove it from the list"));
    }
    assert!(complaints.is_empty(), "{}\n\n{report}", complaints.join("\n"));
}

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_cases() -> Vec<Named> {
    let mut paths: Vec<PathBuf> = fs::read_dir(manifest_dir().join("tests/fixtures/opa-v1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    let mut named = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for path in paths {
        let folder = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let file: File = serde_json::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in file.cases {
            let plain = format!("{folder}: {}", case.note);
            let count = seen.entry(plain.clone()).or_default();
            *count += 1;
            let name = if *count == 1 { plain } else { format!("{plain} ({count})") };
            named.push(Named { folder: folder.clone(), name, case });
        }
    }
    assert_eq!(named.len(), 1_538);
    named
}

/// `name<tab>reason`; lines that start with `#` are comments.
fn read_list(path: &Path) -> BTreeMap<String, String> {
    let Ok(text) = fs::read_to_string(path) else { return BTreeMap::new() };
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, reason) = line.split_once('\t').unwrap_or_else(|| panic!("no reason: {line}"));
            (name.to_owned(), reason.to_owned())
        })
        .collect()
}

fn write_list(path: &Path, failing: &[(&str, &str)]) {
    let mut text = String::from(
        "# Cases of tests/fixtures/opa-v1 that do not pass: name, tab, what they give. This list only gets shorter.\n",
    );
    for (name, reason) in failing {
        let _ = writeln!(text, "{name}\t{reason}");
    }
    fs::write(path, text).unwrap();
}

/// Why each case fails, in the order of the cases.
fn run_all(cases: &[Named]) -> Vec<Option<String>> {
    install_panic_hook();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; cases.len()]);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let worker = || {
                while let Some((index, named)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|named| (index, named))
                } {
                    let failure = panic::catch_unwind(|| check(&named.case))
                        .unwrap_or_else(|_| Err("panics outside of the guard".to_owned()));
                    results.lock().unwrap()[index] = failure.err();
                }
            };
            thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, worker).unwrap();
        }
    });
    results.into_inner().unwrap()
}

fn check(case: &Case) -> Result<(), String> {
    let given = run(case);
    if case.want_error.is_some() || case.want_error_code.is_some() {
        return match (&given, &case.want_error_code) {
            (Given::Error { code, .. }, None) if code.starts_with("eval_") || code.starts_with("rego_") => Ok(()),
            (Given::Error { code, .. }, Some(want)) if code == want => Ok(()),
            (given, want) => {
                let want = want.as_deref().unwrap_or("an error");
                Err(format!("want {want}; {}", given.describe()))
            }
        };
    }
    let Given::Rows(result) = &given else { return Err(given.describe()) };
    let mut rows: Vec<Value> = result.rows.iter().map(|row| bindings(case, row.bindings.iter().cloned())).collect();
    let want = case.want_result.iter().flatten().map(|row| {
        bindings(case, row.iter().map(|(name, value)| (name.clone(), parse_json(&value.to_string()).unwrap())))
    });
    let mut want: Vec<Value> = want.collect();
    rows.sort();
    want.sort();
    if rows == want { Ok(()) } else { Err(given.describe()) }
}

fn run(case: &Case) -> Given {
    // The cases of `http.send` are about its parameters and about mocks: nobody is asked.
    let http: Arc<dyn HttpSend> = Arc::new(Outbound::new(outbound::Settings::default()));
    let settings = Settings { deadline: DEADLINE, http: Some(http), ..Settings::default() };
    let set = match PolicySet::load(vec![source(case)], &settings) {
        Ok(set) => set,
        Err(errors) => {
            let first = &errors[0];
            return Given::Error { code: first.code.to_owned(), message: first.message.clone() };
        }
    };
    let input = match (&case.input, &case.input_term) {
        (Some(input), _) => Some(parse_json(&input.to_string()).unwrap()),
        (None, Some(term)) => match term_value(term) {
            Some(value) => Some(value),
            None => return Given::Error { code: "none".to_owned(), message: format!("input term `{term}`") },
        },
        (None, None) => None,
    };
    let options = EvalOptions { strict_builtin_errors: case.strict_error, ..EvalOptions::default() };
    match set.query(&case.query, input, &options) {
        Ok(result) => Given::Rows(result),
        Err(error) => {
            let code = match error.kind {
                EvalErrorKind::Query => error.message.split(':').next().unwrap_or_default().to_owned(),
                kind => kind.code().to_owned(),
            };
            Given::Error { code, message: error.message }
        }
    }
}

fn source(case: &Case) -> Source {
    let modules = case.modules.iter().enumerate();
    let mut files: Vec<SourceFile> = modules
        .map(|(index, text)| SourceFile { path: format!("{index}.rego"), bytes: text.clone().into_bytes() })
        .collect();
    if let Some(data) = &case.data {
        files.push(SourceFile { path: "data.json".to_owned(), bytes: data.to_string().into_bytes() });
    }
    Source { name: String::new(), origin: "case".to_owned(), kind: SourceKind::Plain { prefix: Vec::new() }, files }
}

fn term_value(term: &str) -> Option<Value> {
    let set = PolicySet::load(Vec::new(), &Settings::default()).unwrap();
    let result = set.query(&format!("x = {term}"), None, &EvalOptions::default()).ok()?;
    result.rows.into_iter().next()?.bindings.into_iter().next().map(|(_, value)| value)
}

/// Bindings as the suite compares them: as JSON, where sets are sorted arrays.
fn bindings(case: &Case, bindings: impl Iterator<Item = (String, Value)>) -> Value {
    let kept = bindings.filter(|(name, _)| !(case.ignore_generated_vars && name.starts_with("__local")));
    let members = kept.map(|(name, value)| {
        let mut value = parse_json(&to_opa_json(&value)).unwrap();
        if case.sort_bindings {
            sort_arrays(&mut value);
        }
        (Value::from(name.as_str()), value)
    });
    Value::from(members.collect::<BTreeMap<_, _>>())
}

fn sort_arrays(value: &mut Value) {
    if let Ok(items) = value.as_array_mut() {
        items.iter_mut().for_each(sort_arrays);
        items.sort();
    } else if let Ok(members) = value.as_object_mut() {
        let keys: Vec<Value> = members.keys().cloned().collect();
        for key in keys {
            members.get_mut(&key).map(sort_arrays);
        }
    }
}

// === impl Given ===

impl Given {
    /// One short line.
    fn describe(&self) -> String {
        let text = match self {
            Self::Error { code, message } if message.starts_with(code.as_str()) => message.clone(),
            Self::Error { code, message } => format!("{code}: {message}"),
            Self::Rows(result) if result.rows.is_empty() => "gives undefined".to_owned(),
            Self::Rows(result) => {
                let rows: Vec<String> = result
                    .rows
                    .iter()
                    .map(|row| {
                        let members =
                            row.bindings.iter().map(|(name, value)| format!("{name}: {}", to_opa_json(value)));
                        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
                    })
                    .collect();
                format!("gives {}", rows.join(" "))
            }
        };
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line.chars().count() > 140 { line.chars().take(140).chain(['…']).collect() } else { line }
    }
}
