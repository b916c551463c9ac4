//! Generated policies and inputs, and OPA's conformance cases, through claimgate and a real `opa`: values byte for byte,
//! definedness and error codes. A difference fails the test, with the smallest policy that still shows it.
//!
//! `CLAIMGATE_PAIRS` says how many pairs of policy and input are generated, `CLAIMGATE_SEED` where the choices start.

mod grammar;
mod words;

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use claimgate::policy::{
    DataPath, EvalOptions, LoadError, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, install_panic_hook,
    parse_json, to_opa_json,
};
use proptest::{
    collection::vec,
    prelude::{Strategy as _, any},
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    http::{Client, request},
    tools::{Running, find},
};

/// Pairs of an ordinary run.
const PAIRS: usize = 800;
/// Unoptimised builds of the interpreter need several times the stack of optimised ones.
const STACK_BYTES: usize = 256 << 20;
/// Steps towards the smallest policy.
const MOST_STEPS: usize = 1_500;
/// Differences to shrink and to report.
const MOST_DIFFERENCES: usize = 10;

const DATA: &str = r#"{"n": 3, "list": [1, "a", 2.5, null, [1, 2]], "mixed": [[1, 2], ["k", true], [3]],
    "users": {"ann": {"k": 1, "roles": ["a", "b"]}, "bob": {"k": "x"}, "k": []}}"#;

/// Each, or none, is the input.
const INPUTS: &[&str] = &[
    r#"{"a": 1, "b": "a", "xs": [1, 2, 2, 3], "o": {"k": 1, "ann": [1, 2]}}"#,
    r#"{"a": "k", "b": 2.50, "xs": [["a", 1], ["b", 2]], "o": {"k": {"k": "v"}, "1": 1}}"#,
    r#"{"a": ["x", "y"], "b": null, "xs": ["a,b", "é", "", "1.2.3", "10.0.0.1"], "o": {}}"#,
    r#"{"a": -4, "b": 1e2, "xs": [], "o": {"k": [3, 1, 2], "ann": "ann"}}"#,
    r#"{"a": false, "b": "[a-c]+", "xs": {"k": 0, "l": "0"}, "o": [true, {"k": 12345678901234567890}]}"#,
    r#"[0, {"k": 1}]"#,
];

/// Where the engine ends the evaluation and OPA goes on with undefined: how its message starts. Such an answer is a deny,
/// but not OPA's; what is mended leaves this list.
const KNOWN: &[&str] = &["complete rules must not produce multiple outputs", " is unsafe", "item cannot be indexed"];

/// What one side says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// JSON as OPA writes it.
    Value(String),
    Undefined,
    /// The evaluation ended with this code.
    Failed(String),
    /// It closed the connection, as Go's panics end, or did not answer in half a minute.
    Panicked,
}

/// A running `opa`.
struct Opa {
    address: String,
    client: Client,
    _running: Running,
}

/// A difference: its kind, which stays while a policy is made smaller, and what was said.
#[derive(Debug, Clone)]
struct Difference {
    kind: String,
    said: String,
}

/// The numbers of a run.
#[derive(Debug, Default)]
struct Tally {
    pairs: usize,
    questions: usize,
    refused_by_both: usize,
    /// With the same complaints at the same places.
    refused_alike: usize,
    /// OPA's checks of types and of variables see more than claimgate's.
    refused_by_opa: usize,
    refused_by_claimgate: usize,
    panics_of_opa: usize,
    in_other_order: usize,
    known: usize,
    differences: Vec<String>,
}

#[test]
fn generated_policies_say_what_they_say_in_opa() {
    let Some(opa) = find("opa", "OPA") else { return };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let (pairs, seed) = (number("CLAIMGATE_PAIRS").unwrap_or(PAIRS), number("CLAIMGATE_SEED").unwrap_or_default());
    let tally = on_a_large_stack(move || generated(&mut Opa::start(&opa), pairs, seed));
    println!(
        "{} pairs, {} questions, {} refused by both ({} with the same words), {} refused by opa alone, {} by claimgate alone, {} panics of opa, {} in another order, {} known, {} differences",
        tally.pairs,
        tally.questions,
        tally.refused_by_both,
        tally.refused_alike,
        tally.refused_by_opa,
        tally.refused_by_claimgate,
        tally.panics_of_opa,
        tally.in_other_order,
        tally.known,
        tally.differences.len()
    );
    assert!(tally.questions > tally.pairs, "most policies are refused: {tally:?}");
    assert!(tally.differences.is_empty(), "{}", tally.differences.join("\n\n"));
}

impl Difference {
    fn new(kind: &str, said: &str, message: &str) -> Self {
        Self { kind: kind.to_owned(), said: format!("claimgate left, opa right: {said} {message}") }
    }
}

fn on_a_large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    install_panic_hook();
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap().join().unwrap()
}

fn generated(opa: &mut Opa, pairs: usize, seed: usize) -> Tally {
    let mut tally = Tally::default();
    opa.put("/v1/data/d", DATA);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::try_from(seed).unwrap().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let choices = (0..=INPUTS.len(), vec(any::<u16>(), 20..300));
    while tally.pairs < pairs && tally.differences.len() < MOST_DIFFERENCES {
        let mut tree = choices.new_tree(&mut runner).unwrap();
        let (input, found) = tree.current();
        let Some(first) = difference(opa, &grammar::module(&found), input, &mut tally) else { continue };
        let mut smallest = tree.current();
        let mut simpler = tree.simplify();
        for _ in 0..MOST_STEPS {
            if !simpler {
                break;
            }
            let candidate = tree.current();
            let other = difference(opa, &grammar::module(&candidate.1), candidate.0, &mut Tally::default());
            simpler = if other.is_some_and(|other| other.kind == first.kind) {
                smallest = candidate;
                tree.simplify()
            } else {
                tree.complicate()
            };
        }
        let text = smallest_text(opa, grammar::module(&smallest.1), smallest.0);
        tally.differences.push(text);
    }
    tally
}

/// Leaves out lines as long as a difference is left, and says what that is.
fn smallest_text(opa: &mut Opa, mut module: grammar::Module, input: usize) -> String {
    let mut found = difference(opa, &module, input, &mut Tally::default()).unwrap();
    let mut size = module.text.lines().count() / 2;
    while size > 0 {
        let mut start = 1;
        while start < module.text.lines().count() {
            let lines = module.text.lines().enumerate();
            let kept: Vec<&str> =
                lines.filter(|(index, _)| !(start..start + size).contains(index)).map(|(_, line)| line).collect();
            let candidate = grammar::Module { text: kept.join("\n") + "\n", rules: module.rules.clone() };
            match difference(opa, &candidate, input, &mut Tally::default()) {
                Some(other) if other.kind == found.kind => (module, found) = (candidate, other),
                _ => start += size,
            }
        }
        size /= 2;
    }
    format!("{}input: {}\n{}", module.text, INPUTS.get(input).unwrap_or(&"none"), found.said)
}

/// What the two sides say differently.
fn difference(opa: &mut Opa, module: &grammar::Module, input: usize, tally: &mut Tally) -> Option<Difference> {
    tally.pairs += 1;
    let data = format!(r#"{{"d": {DATA}}}"#);
    let loaded = load(std::slice::from_ref(&module.text), Some(&data));
    let theirs = opa.policy("g", &module.text);
    let set = match (loaded, theirs) {
        (Ok(set), Ok(())) => set,
        // Words and places are counted, and not held: OPA tells of one place of a reference that stands in several.
        (Err(ours), Err(theirs)) => {
            tally.refused_by_both += 1;
            tally.refused_alike += usize::from(ours == theirs);
            return None;
        }
        (Ok(_), Err(theirs))
            if theirs.iter().any(|line| line.contains("rego_type_error") || line.contains("rego_unsafe_var_error")) =>
        {
            tally.refused_by_opa += 1;
            return None;
        }
        // What cannot be run exactly may be refused.
        (Err(_), Ok(())) => {
            tally.refused_by_claimgate += 1;
            return None;
        }
        (ours, theirs) => {
            let (ours, theirs) = (ours.err(), theirs.err());
            return Some(Difference::new("load", &format!("{ours:?} {theirs:?}"), ""));
        }
    };
    let input = INPUTS.get(input).map(|text| parse_json(text).unwrap());
    let mut questions = vec![("g".to_owned(), false)];
    questions.extend(module.rules.iter().map(|rule| (format!("g/{rule}"), true)));
    let mut index = 0;
    while index < questions.len() {
        let (path, strict) = questions[index].clone();
        index += 1;
        tally.questions += 1;
        let options = EvalOptions { strict_builtin_errors: strict, ..EvalOptions::default() };
        let segments = path.split('/').map(str::to_owned).collect();
        let (ours, message) = match set.evaluate(&DataPath::new(segments), input.clone(), &options) {
            Ok(Outcome::Value(value)) => (Said::Value(to_opa_json(&value)), String::new()),
            Ok(Outcome::Undefined) => (Said::Undefined, String::new()),
            Err(error) => (Said::Failed(error.code().to_owned()), error.message),
        };
        let theirs = opa.ask(&path, input.as_ref().map(to_opa_json).as_deref(), strict);
        if theirs == Said::Panicked {
            tally.panics_of_opa += 1;
            return None;
        }
        // Which statement of a body comes first, and so whether an error or an undefined one ends it, is not OPA's
        // promise; so it is with which of two errors comes first.
        let fails = |said: &Said| matches!(said, Said::Failed(code) if code.starts_with("eval_"));
        if strict && ours != theirs && (fails(&ours) || fails(&theirs)) {
            tally.in_other_order += 1;
        } else if matches!(ours, Said::Failed(_)) && KNOWN.iter().any(|known| message.contains(known)) {
            tally.known += 1;
        } else if !same(&ours, &theirs) {
            let kind = match (&ours, &theirs) {
                (Said::Failed(_), _) => {
                    format!("{path:?} {}", message.split(['`', '{', '"']).next().unwrap_or_default())
                }
                (_, Said::Failed(code)) => code.clone(),
                (Said::Undefined, _) | (_, Said::Undefined) => "undefined".to_owned(),
                _ => "values".to_owned(),
            };
            let strict = if strict { " (strict)" } else { "" };
            return Some(Difference::new(&kind, &format!("{path}{strict}: {ours:?} {theirs:?}"), &message));
        }
        if matches!(ours, Said::Failed(_)) && !strict && path == "g" {
            questions.extend(module.rules.iter().map(|rule| (format!("g/{rule}"), false)));
        }
    }
    None
}

/// Numbers may be written in different ways.
fn same(ours: &Said, theirs: &Said) -> bool {
    match (ours, theirs) {
        (Said::Value(ours), Said::Value(theirs)) if ours != theirs => {
            matches!((parse_json(ours), parse_json(theirs)), (Ok(ours), Ok(theirs)) if ours == theirs)
        }
        _ => ours == theirs,
    }
}

fn load(modules: &[String], data: Option<&str>) -> Result<PolicySet, BTreeSet<String>> {
    let mut files: Vec<SourceFile> = modules
        .iter()
        .enumerate()
        .map(|(index, text)| SourceFile { path: format!("{index}.rego"), bytes: text.clone().into_bytes() })
        .collect();
    files.extend(data.map(|text| SourceFile { path: "data.json".to_owned(), bytes: text.as_bytes().to_vec() }));
    let kind = SourceKind::Plain { prefix: Vec::new() };
    let source = Source { name: String::new(), origin: "case".to_owned(), kind, files };
    let settings = Settings { deadline: Duration::from_secs(20), ..Settings::default() };
    PolicySet::load(vec![source], &settings).map_err(|errors| errors.iter().map(complaint).collect())
}

fn complaint(error: &LoadError) -> String {
    let (row, col) = error.location.as_ref().map_or((0, 0), |at| (at.row, at.col));
    format!("{row}:{col} {}: {}", error.code, error.message)
}

// === impl Opa ===

impl Opa {
    fn start(opa: &Path) -> Self {
        let (running, address) = eventually("opa serves", || {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let mut command = Command::new(opa);
            command.args(["run", "--server", "--log-level", "error", "--disable-telemetry", "--addr", &address]);
            let mut running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
            let listens = eventually("opa listens or ends", || {
                if running.0.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                std::net::TcpStream::connect(&address).is_ok().then_some(true)
            });
            listens.then_some((running, address))
        });
        Self { client: Client::connect(&address), address, _running: running }
    }

    fn send(&mut self, method: &str, target: &str, body: &str) -> (u16, String) {
        self.client.write(&request(method, target, &[("content-type", "application/json")], body.as_bytes()));
        let Some(answer) = self.client.try_answer(false) else {
            self.client = Client::connect(&self.address);
            return (0, String::new());
        };
        (answer.status, answer.text())
    }

    fn put(&mut self, target: &str, body: &str) {
        let (status, text) = self.send("PUT", target, body);
        assert_eq!(status, 204, "{target}: {text}");
    }

    fn policy(&mut self, name: &str, text: &str) -> Result<(), BTreeSet<String>> {
        let (status, answer) = self.send("PUT", &format!("/v1/policies/{name}"), text);
        if status == 200 { Ok(()) } else { Err(complaints(&answer)) }
    }

    fn ask(&mut self, path: &str, input: Option<&str>, strict: bool) -> Said {
        let body = input.map_or_else(|| "{}".to_owned(), |input| format!(r#"{{"input":{input}}}"#));
        let query = if strict { "?strict-builtin-errors" } else { "" };
        let (status, answer) = self.send("POST", &format!("/v1/data/{path}{query}"), &body);
        let answer = answer.trim_end();
        // Clients that forgot the input get a note.
        let noted = answer.split_once(r#","warning":{"code":"api_usage_warning""#);
        let answer = noted.map_or_else(|| answer.strip_suffix('}').unwrap_or(answer), |(answer, _)| answer);
        match answer.strip_prefix(r#"{"result":"#) {
            Some(value) if status == 200 => Said::Value(value.to_owned()),
            _ if status == 200 => Said::Undefined,
            _ if status == 0 => Said::Panicked,
            _ => Said::Failed(codes(&format!("{answer}}}")).into_iter().next().unwrap_or_else(|| answer.to_owned())),
        }
    }
}

/// `row:col code: message` of every error of an answer.
fn complaints(answer: &str) -> BTreeSet<String> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| json!({}));
    let line = |error: &Value| {
        let at = |name: &str| error["location"][name].as_u64().unwrap_or_default();
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        format!("{}:{} {}: {}", at("row"), at("col"), text("code"), text("message"))
    };
    answer["errors"].as_array().into_iter().flatten().map(line).collect()
}

fn codes(answer: &str) -> BTreeSet<String> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| json!({}));
    let errors = answer["errors"].as_array().into_iter().flatten();
    errors.filter_map(|error| error["code"].as_str()).map(str::to_owned).collect()
}
