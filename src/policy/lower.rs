//! Calls of our builtins in forms that the engine knows only for its own: `f(x, out)`, and mocking by `with f as …`.
//!
//! The engine treats a builtin of ours as an extension, which can be called for its value and nothing else; a function
//! written in Rego can also have its result as one argument more and be replaced by `with`. So where a policy uses one of
//! those forms, each package that names the builtin gets a function around it, and the names in the text become the
//! function's. The function's name is as long as the builtin's: every message keeps its line and column.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    builtins,
    bundle::RegoFile,
    syntax::{Callee, RuleFacts},
};

/// The modules for the engine, from the modules as written, their rules' facts and their packages (in the same order).
pub(super) fn forms(files: &[RegoFile], rules: &[RuleFacts], packages: &[Vec<String>]) -> Vec<RegoFile> {
    let mut lowered = files.to_vec();
    let names = needed(rules);
    if names.is_empty() {
        return lowered;
    }
    // File → places where a name starts; the files of plain sources are known by what is shown of them.
    let mut places: BTreeMap<&str, BTreeMap<usize, &'static str>> = BTreeMap::new();
    for mention in rules.iter().flat_map(mentions) {
        if let Some(name) = names.get(mention.name) {
            places.entry(mention.file).or_default().insert(mention.start, name);
        }
    }
    let mut defined: BTreeSet<(&[String], &str)> = BTreeSet::new();
    for ((file, original), package) in lowered.iter_mut().zip(files).zip(packages) {
        let Some(places) = places.get(original.display.as_str()) else { continue };
        for (&start, &name) in places {
            let range = start..start + name.len();
            if file.text.get(range.clone()) != Some(name) {
                continue;
            }
            file.text.replace_range(range, &function(name));
            if defined.insert((package, name)) {
                define(&mut file.text, name);
            }
        }
    }
    lowered
}

/// The name under which the engine knows a builtin of ours that a function stands around.
pub(super) fn hidden(name: &str) -> String {
    format!("__builtin.{name}")
}

/// A place where a rule names a builtin.
struct Mention<'f> {
    name: &'f str,
    file: &'f str,
    start: usize,
}

fn mentions(rule: &RuleFacts) -> impl Iterator<Item = Mention<'_>> {
    let calls = rule.calls.iter().filter_map(|call| match &call.callee {
        Callee::Builtin(name) => Some(Mention { name, file: &call.location.file, start: call.start }),
        Callee::Function(_) => None,
    });
    let mocks = rule.mocks.iter().map(|mock| Mention { name: &mock.name, file: &mock.file, start: mock.start });
    calls.chain(mocks)
}

/// The builtins of ours that the engine has not, and that some rule uses in a form for which it must be a function.
fn needed(rules: &[RuleFacts]) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for rule in rules {
        for call in &rule.calls {
            if let Callee::Builtin(name) = &call.callee
                && let Some(builtin) = builtins::added(name)
                && call.arguments == usize::from(builtin.arity) + 1
            {
                names.insert(builtin.name);
            }
        }
        names.extend(rule.mocks.iter().filter_map(|mock| builtins::added(&mock.name)).map(|builtin| builtin.name));
    }
    names
}

/// As long as the builtin's name, and no name that anybody writes.
fn function(name: &str) -> String {
    let mut letters = name.chars().map(|c| if c == '.' { '_' } else { c });
    let first = letters.next().map_or('_', |c| c.to_ascii_uppercase());
    let rest: String = letters.collect();
    format!("{first}{rest}")
}

fn define(text: &mut String, name: &str) {
    let arity = builtins::added(name).map_or(0, |builtin| builtin.arity);
    let parameters: Vec<String> = (0..arity).map(|index| format!("x{index}")).collect();
    let parameters = parameters.join(", ");
    let _ = write!(text, "\n{}({parameters}) := {}({parameters})\n", function(name), hidden(name));
}

#[cfg(test)]
mod tests {
    use super::super::{EvalOptions, PolicySet, Settings, Source, SourceFile, SourceKind, to_opa_json};

    fn check(modules: &[&str], query: &str, want: &str) {
        let files = modules
            .iter()
            .enumerate()
            .map(|(index, text)| SourceFile { path: format!("{index}.rego"), bytes: text.as_bytes().to_vec() });
        let kind = SourceKind::Plain { prefix: Vec::new() };
        let source = Source { name: String::new(), origin: "test".into(), kind, files: files.collect() };
        let set = PolicySet::load(vec![source], &Settings::default()).unwrap();
        let result = set.query(query, None, &EvalOptions::default()).unwrap();
        let values: Vec<String> =
            result.rows.iter().flat_map(|row| &row.expressions).map(|e| to_opa_json(&e.value)).collect();
        assert_eq!(values.join(" "), want, "{query}: {modules:?}");
    }

    #[test]
    fn a_result_may_be_one_argument_more() {
        let module = "package p\n\nx := y if crypto.md5(\"abc\", y)\n\nz if not crypto.md5(\"abc\", \"no\")";
        check(&[module], "data.p", r#"{"x":"900150983cd24fb0d6963f7d28e17f72","z":true}"#);
    }

    #[test]
    fn a_builtin_can_be_replaced_by_a_value_and_by_a_function() {
        let module = "package p\n\nx := crypto.md5(\"abc\")";
        let test = "package p_test\n\nm(text) := concat(\"-\", [text, text])\n\n\
                    a := data.p.x with crypto.md5 as \"value\"\n\nb := data.p.x with crypto.md5 as m";
        check(&[module, test], "data.p_test", r#"{"a":"value","b":"abc-abc"}"#);
        check(&[module, test], "data.p", r#"{"x":"900150983cd24fb0d6963f7d28e17f72"}"#);
    }

    #[test]
    fn what_only_looks_like_a_call_stays_as_it_is() {
        let module = "package p\n\n# crypto.md5(\nx := \"crypto.md5\" if crypto.md5(\"abc\", _)";
        check(&[module], "data.p.x", r#""crypto.md5""#);
    }
}
