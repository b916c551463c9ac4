<<<<<<< HEAD
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
=======
//! Rewrites what policies write about builtins into what the engine can do. The engine knows our builtins as extensions,
//! which have no output argument (`io.jwt.decode(t, [header, payload, _])`) and cannot be replaced by `with`, and it lets
//! no builtin be a replacement (`with f as count`). A Rego function around the builtin can do all of it: where a policy
//! needs it, the builtin's name is rewritten to such a function of [`PACKAGE`] in the text that the engine gets. The text
//! that people see, and every place that they are told, is the original.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Location, builtins,
    syntax::{Mention, MentionKind, RuleFacts},
};

/// Where the functions are; `data.system` is in no document that is asked for as a whole.
const PACKAGE: &str = "system.claimgate";
/// The module that defines them.
pub(super) const LIBRARY: &str = "claimgate/builtins.rego";

/// One replaced name in the text of a module.
#[derive(Debug, Clone, Copy)]
struct Edit {
    row: u32,
    /// In the original.
    col: u32,
    old: u32,
    new: u32,
}

/// The replaced names, by module.
#[derive(Debug, Default)]
pub(super) struct Edits(BTreeMap<String, Vec<Edit>>);

/// The builtins that need a function around them.
pub(super) fn needed<'f, R: IntoIterator<Item = &'f RuleFacts>>(rules: R) -> BTreeSet<String> {
    let mentions = rules.into_iter().flat_map(|rule| &rule.mentions);
    let needs = mentions.filter(|mention| match mention.kind {
        MentionKind::Call { output } => output && builtins::is_extension(&mention.name),
        MentionKind::Replaced => builtins::is_extension(&mention.name),
        MentionKind::Replacement => builtins::arity(&mention.name).is_some(),
    });
    needs.map(|mention| mention.name.clone()).collect()
}

/// The module of the functions; `None` when none is needed.
pub(super) fn library(names: &BTreeSet<String>) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let mut text = format!("package {PACKAGE}\n");
    for name in names {
        let parameters: Vec<String> =
            (0..builtins::arity(name).unwrap_or_default()).map(|index| format!("x{index}")).collect();
        let parameters = parameters.join(", ");
        text.push_str(&format!("{}({parameters}) := {name}({parameters})\n", function(name)));
    }
    Some(text)
}

/// Not the builtin's own name: inside of its package, a function named `count` would call itself.
fn function(name: &str) -> String {
    format!("call__{}", name.replace('.', "__"))
}

// === impl Edits ===

impl Edits {
    /// The text of a module for the engine.
    pub(super) fn apply(&mut self, id: &str, text: &str, rules: &[&RuleFacts], names: &BTreeSet<String>) -> String {
        let wanted = |mention: &&Mention| {
            names.contains(&mention.name)
                && (mention.kind == MentionKind::Replacement || builtins::is_extension(&mention.name))
                && text.get(mention.start..mention.start + mention.name.len()) == Some(&mention.name)
        };
        let mut mentions: Vec<&Mention> = rules.iter().flat_map(|rule| &rule.mentions).filter(wanted).collect();
        mentions.sort_by_key(|mention| mention.start);
        mentions.dedup_by_key(|mention| mention.start);
        let mut lowered = String::with_capacity(text.len());
        let mut done = 0;
        let mut edits = Vec::new();
        for mention in mentions {
            let replacement = format!("data.{PACKAGE}.{}", function(&mention.name));
            lowered.push_str(text.get(done..mention.start).unwrap_or_default());
            lowered.push_str(&replacement);
            done = mention.start + mention.name.len();
            let size = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
            let Location { row, col, .. } = mention.location;
            edits.push(Edit { row, col, old: size(&mention.name), new: size(&replacement) });
        }
        lowered.push_str(text.get(done..).unwrap_or_default());
        if !edits.is_empty() {
            self.0.insert(id.to_owned(), edits);
        }
        lowered
    }

    /// A place in the text that the engine got → the place in the original.
    pub(super) fn original(&self, location: &mut Location) {
        let edits = self.0.get(&location.file).map(Vec::as_slice).unwrap_or_default();
        let mut col = location.col;
        for edit in edits.iter().filter(|edit| edit.row == location.row) {
            if col <= edit.col {
                break;
            }
            // What was inside of the longer name is at its start; what came after it moves back.
            col = if col < edit.col + edit.new { edit.col } else { (col + edit.old).saturating_sub(edit.new) };
        }
        location.col = col;
    }
>>>>>>> main
}

#[cfg(test)]
mod tests {
<<<<<<< HEAD
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
=======
    use super::*;

    #[test]
    fn columns_lead_back_to_the_original() {
        let edit = |col, old, new| Edit { row: 1, col, old, new };
        let edits = Edits(BTreeMap::from([("m".to_owned(), vec![edit(5, 3, 10), edit(20, 2, 12)])]));
        // Original: name at 5..8, at 20..22; engine: 5..15, 27..39.
        for (engine, want) in [(1, 1), (5, 5), (9, 5), (15, 8), (26, 19), (27, 20), (30, 20), (39, 22), (50, 33)] {
            let mut location = Location { file: "m".to_owned(), row: 1, col: engine };
            edits.original(&mut location);
            assert_eq!(location.col, want, "{engine}");
        }
>>>>>>> main
    }
}
