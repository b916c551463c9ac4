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
}

#[cfg(test)]
mod tests {
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
    }
}
