//! Rewrites what policies may write in OPA into what the engine can do, and leads every place back to the original. In
//! [`modules`], before anything is parsed: what the engine's parser does not know (see [`template`] and [`keywords`]). After the checks:
//! what policies write about builtins. The engine knows our builtins as extensions,
//! which have no output argument (`io.jwt.decode(t, [header, payload, _])`) and cannot be replaced by `with`, and it lets
//! no builtin be a replacement (`with f as count`). A Rego function around the builtin can do all of it: where a policy
//! needs it, the builtin's name is rewritten to such a function of [`PACKAGE`] in the text that the engine gets. The text
//! that people see, and every place that they are told, is the original.

mod arithmetic;
mod cover;
mod imports;
mod keywords;
mod lex;
mod lines;
mod metadata;
mod negation;
pub(super) mod operators;
mod pattern;
mod print;
mod render;
mod rewrite;
pub(super) mod template;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::{
    keywords::Split,
    rewrite::{Rewriter, Rewritten},
};
use super::{
    ExpressionValue, LoadError, Location, QueryScope, builtins,
    bundle::RegoFile,
    check,
    set::{Care, QUERY},
    syntax::{self, Alias, Mention, MentionKind, Names, Root, RuleFacts},
};

pub(super) use self::{
    cover::instrument,
    lex::comments,
    render::{template_string, term_text},
    rewrite::characters,
};

/// Where the functions are; `data.system` is in no document that is asked for as a whole.
const PACKAGE: &str = "system.claimgate";
/// The module that defines them.
pub(super) const LIBRARY: &str = "claimgate/builtins.rego";

/// Where the places of rewritten texts come from: by file as shown, and by module id.
#[derive(Debug, Default)]
pub(super) struct Origins(BTreeMap<String, Origin>);

/// One rewritten text.
#[derive(Debug)]
struct Origin {
    rewritten: Arc<Rewritten>,
    /// The name of the original.
    name: String,
}

/// One replaced name in the text of a module.
#[derive(Debug, Clone, Copy)]
struct Edit {
    row: u32,
    /// In the original.
    col: u32,
    old: u32,
    new: u32,
}

/// A name to replace.
#[derive(Debug)]
pub(super) struct Place<'f> {
    start: usize,
    name: &'f str,
    replacement: String,
    location: &'f Location,
}

/// The replaced names, by module.
#[derive(Debug, Default)]
pub(super) struct Edits(BTreeMap<String, Vec<Edit>>);

/// The modules as the engine's parser can read them; what cannot be rewritten is in `errors`, and its module left out.
pub(super) fn modules(files: &[RegoFile], errors: &mut Vec<LoadError>) -> (Vec<RegoFile>, Origins) {
    let mut kept: Vec<RegoFile> = Vec::with_capacity(files.len());
    let mut texts: Vec<Arc<str>> = Vec::with_capacity(files.len());
    let mut rewritings: Vec<Option<Rewritten>> = Vec::with_capacity(files.len());
    for file in files {
        match readable(&file.display, &file.text, file.v0) {
            Ok(rewritten) => {
                kept.push(file.clone());
                texts.push(rewritten.as_ref().map_or_else(|| Arc::clone(&file.text), |new| Arc::from(new.text())));
                rewritings.push(rewritten);
            }
            Err(error) => errors.push(error),
        }
    }
    let mut parts: BTreeMap<usize, Vec<(Option<String>, Rewritten)>> = BTreeMap::new();
    for Split { file, prefix, rewritten } in keywords::split(&kept, &texts) {
        let before = rewritings.get(file).cloned().flatten();
        let whole = match before {
            Some(before) => before.then(rewritten),
            None => rewritten,
        };
        parts.entry(file).or_default().push((prefix, whole));
    }
    let mut origins = Origins::default();
    let mut lowered = Vec::with_capacity(kept.len());
    for (index, (file, rewritten)) in kept.into_iter().zip(rewritings).enumerate() {
        let own = || rewritten.map(|rewritten| vec![(None, rewritten)]);
        match parts.remove(&index).or_else(own) {
            None => lowered.push(file),
            Some(parts) => lowered.extend(
                parts.into_iter().map(|(prefix, part)| origins.part(&file, prefix.as_deref(), &Arc::new(part))),
            ),
        }
    }
    metadata::lower(&mut lowered, &mut origins, errors);
    (lowered, origins)
}

/// The text of a module without templates, for the parser alone.
pub(super) fn without_templates(display: &str, text: &str) -> Result<String, LoadError> {
    Ok(template::lower(display, text)?.map_or_else(|| text.to_owned(), |rewritten| rewritten.text().to_owned()))
}

/// Text whose strings and statements the engine's parser reads as OPA's does.
fn readable(display: &str, text: &str, v0: bool) -> Result<Option<Rewritten>, LoadError> {
    let mut steps = Steps::new(text.to_owned());
    steps.take(template::lower(display, text)?);
    let place = |mut error: LoadError, steps: &Steps| {
        if let (Some(at), Some(before)) = (&mut error.location, &steps.rewritten) {
            before.original(at);
        }
        error
    };
    let lines = lines::lower(display, steps.text(), v0).map_err(|error| place(error, &steps))?;
    steps.take(lines);
    Ok(steps.rewritten)
}

/// An ad-hoc query as the engine's parser can read it.
pub(super) fn query(text: &str) -> Result<(String, Origins), LoadError> {
    let mut origins = Origins::default();
    let Some(rewritten) = template::lower(QUERY, text)? else { return Ok((text.to_owned(), origins)) };
    let lowered = rewritten.text().to_owned();
    origins.0.insert(QUERY.to_owned(), Origin { rewritten: Arc::new(rewritten), name: QUERY.to_owned() });
    Ok((lowered, origins))
}

/// A query of [`query`] with the names of its scope replaced by what they stand for.
pub(super) fn in_scope(
    text: String,
    mut origins: Origins,
    scope: &QueryScope,
    names: &Names,
) -> Result<(String, Origins), LoadError> {
    if scope.package.is_empty() && scope.imports.is_empty() {
        return Ok((text, origins));
    }
    let imports = scope.imports.iter().map(|(name, from_input, path)| {
        let root = if *from_input { Root::Input } else { Root::Data };
        (name.clone(), (root, path.iter().cloned().map(Some).collect()))
    });
    let facts = syntax::query_in(&*check::query_tree(&text)?, names, &scope.package, &imports.collect());
    let mut aliases: Vec<&Alias> = facts.aliases.iter().collect();
    aliases.sort_by_key(|alias| alias.start);
    aliases.dedup_by_key(|alias| alias.start);
    let mut rewriter = Rewriter::new(&text);
    for Alias { name, stands_for, start, .. } in aliases {
        rewriter.copy(*start);
        match stands_for.strip_suffix(name.as_str()).filter(|path| path.ends_with('.')) {
            // What is copied leads back to itself.
            Some(path) => rewriter.insert(path),
            None => {
                rewriter.insert(stands_for);
                rewriter.skip(start + name.len());
            }
        }
    }
    let rewritten = rewriter.finish();
    let lowered = rewritten.text().to_owned();
    let before = origins.0.remove(QUERY).map(|before| Arc::unwrap_or_clone(before.rewritten));
    let whole = Arc::new(match before {
        Some(before) => before.then(rewritten),
        None => rewritten,
    });
    origins.0.insert(QUERY.to_owned(), Origin { rewritten: whole, name: QUERY.to_owned() });
    Ok((lowered, origins))
}

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

/// The builtin whose function stands in a row of the module of [`library`].
pub(super) fn in_library(names: &BTreeSet<String>, row: u32) -> Option<&str> {
    names.iter().nth(usize::try_from(row).ok()?.checked_sub(2)?).map(String::as_str)
}

/// Not the builtin's own name: inside of its package, a function named `count` would call itself.
fn function(name: &str) -> String {
    format!("call__{}", name.replace('.', "__"))
}

/// Rewritings of the engine's texts, by module id.
#[derive(Debug, Default)]
pub(super) struct Rewritings(BTreeMap<String, Rewritten>);

// === impl Rewritings ===

impl Rewritings {
    /// The text of a module in which patterns, operators and `not` mean what they mean in OPA.
    pub(super) fn module(
        &mut self,
        file: &RegoFile,
        text: String,
        names: &Names,
        care: Care,
    ) -> Result<String, LoadError> {
        let parse = |text: &str| check::module(&RegoFile { text: Arc::from(text), ..file.clone() });
        let mut steps = Steps::new(text);
        let tree = parse(steps.text())?;
        let tree = match steps.take(imports::without_idle(steps.text(), &tree)) {
            true => parse(steps.text())?,
            false => tree,
        };
        let tree = match steps.take(pattern::of_module((&file.display, steps.text()), file.v0, &tree, names)?) {
            true => parse(steps.text())?,
            false => tree,
        };
        let tree = match steps.take(care.is_exact().then(|| arithmetic::of_module(steps.text(), &tree)).flatten()) {
            true => parse(steps.text())?,
            false => tree,
        };
        let is_document = |name: &str| names.is_document(name);
        steps.take(negation::of_module(&file.display, steps.text(), &tree, &is_document)?);
        Ok(self.keep(&file.id, steps))
    }

    /// The same for an ad-hoc query.
    pub(super) fn query(&mut self, text: String, names: &Names, care: Care) -> Result<String, LoadError> {
        let mut steps = Steps::new(text);
        let tree = check::query_tree(steps.text())?;
        let tree = match steps.take(pattern::of_query((QUERY, steps.text()), &tree, names)?) {
            true => check::query_tree(steps.text())?,
            false => tree,
        };
        let tree = match steps.take(care.is_exact().then(|| arithmetic::of_query(steps.text(), &tree)).flatten()) {
            true => check::query_tree(steps.text())?,
            false => tree,
        };
        let is_document = |name: &str| names.is_document(name);
        steps.take(negation::of_query(QUERY, steps.text(), &tree, &is_document)?);
        Ok(self.keep(QUERY, steps))
    }

    fn keep(&mut self, id: &str, steps: Steps) -> String {
        let Some(rewritten) = steps.rewritten else { return steps.original };
        let text = rewritten.text().to_owned();
        self.0.insert(id.to_owned(), rewritten);
        text
    }

    /// The operators that the rewritten texts call.
    pub(super) fn operators(&self) -> impl Iterator<Item = &'static str> {
        let names = operators::ALL.iter().map(|operator| operator.name);
        names.filter(|name| self.0.values().any(|rewritten| rewritten.text().contains(name)))
    }

    /// A place in the text that the engine got → the place before.
    pub(super) fn original(&self, location: &mut Location) {
        if let Some(rewritten) = self.0.get(&location.file) {
            rewritten.original_for_engine(location);
        }
    }
}

/// One rewriting after the other, as one.
struct Steps {
    original: String,
    rewritten: Option<Rewritten>,
}

// === impl Steps ===

impl Steps {
    fn new(original: String) -> Self {
        Self { original, rewritten: None }
    }

    fn text(&self) -> &str {
        self.rewritten.as_ref().map_or(&self.original, Rewritten::text)
    }

    /// Adds a rewriting of the text as it is now. Was there one?
    fn take(&mut self, next: Option<Rewritten>) -> bool {
        let Some(next) = next else { return false };
        self.rewritten = Some(match self.rewritten.take() {
            Some(before) => before.then(next),
            None => next,
        });
        true
    }
}

// === impl Origins ===

impl Origins {
    /// Was this text rewritten?
    pub(super) fn has(&self, file: &str) -> bool {
        self.0.contains_key(file)
    }

    /// The names of the originals of rewritten texts.
    pub(super) fn originals(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|origin| origin.name.as_str())
    }

    /// Was the file taken apart into several?
    pub(super) fn is_split(&self, file: &str) -> bool {
        let Some(origin) = self.0.get(file) else { return false };
        let parts = self.0.values().filter(|other| other.name == origin.name);
        parts.count() > 1
    }

    /// A place in a rewritten text → the place in the original.
    pub(super) fn original(&self, location: &mut Location) {
        if let Some(origin) = self.0.get(&location.file) {
            origin.rewritten.original(location);
            location.file.clone_from(&origin.name);
        }
    }

    /// The name of the original of a text.
    fn name<'a>(&'a self, file: &'a str) -> &'a str {
        self.0.get(file).map_or(file, |origin| &origin.name)
    }

    /// The rewriting of a text.
    fn rewritten(&self, file: &str) -> Option<Arc<Rewritten>> {
        self.0.get(file).map(|origin| Arc::clone(&origin.rewritten))
    }

    /// A file was rewritten once more.
    fn then(&mut self, file: &RegoFile, rewritten: &Rewritten) {
        for own in BTreeSet::from([&file.id, &file.display]) {
            let before = self.0.remove(own);
            let name = before.as_ref().map_or_else(|| own.clone(), |before| before.name.clone());
            let whole = before.map(|before| Arc::unwrap_or_clone(before.rewritten).then(rewritten.clone()));
            let rewritten = Arc::new(whole.unwrap_or_else(|| rewritten.clone()));
            self.0.insert(own.clone(), Origin { rewritten, name });
        }
    }

    /// Names a part of a file, and remembers where it is from.
    fn part(&mut self, file: &RegoFile, prefix: Option<&str>, rewritten: &Arc<Rewritten>) -> RegoFile {
        let text = Arc::from(rewritten.text());
        let mut named = |name: &str| {
            let new = prefix.map_or_else(|| name.to_owned(), |prefix| format!("{name} ({prefix})"));
            self.0.insert(new.clone(), Origin { rewritten: Arc::clone(rewritten), name: name.to_owned() });
            new
        };
        let (id, display) = (named(&file.id), named(&file.display));
        RegoFile { id, display, text, ..file.clone() }
    }

    /// The places of a rule. Those of mentions stay: they say where to rewrite the text again.
    pub(super) fn original_facts(&self, facts: &mut RuleFacts) {
        if self.0.is_empty() {
            return;
        }
        self.original(&mut facts.location);
        facts.references.iter_mut().for_each(|reference| self.original(&mut reference.location));
        facts.misreadings.iter_mut().for_each(|(_, location)| self.original(location));
        facts.calls.iter_mut().for_each(|call| self.original(&mut call.location));
    }

    /// The text and place that an expression of a query has in the original.
    pub(super) fn original_expression(&self, expression: &mut ExpressionValue, query: &str) {
        let Some(origin) = self.0.get(QUERY) else { return };
        if let Some((text, row, col)) =
            origin.rewritten.original_piece(expression.row, expression.col, &expression.text)
        {
            (expression.row, expression.col) = (row, col);
            expression.text = query.get(text).unwrap_or_default().to_owned();
        }
    }
}

// === impl Edits ===

impl Edits {
    /// What to replace in the texts of the engine, by file as shown: builtins of `names`, and imported names. The engine
    /// would evaluate all of a package that an imported name stands for, whatever is asked of it.
    pub(super) fn places<'f>(rules: &'f [RuleFacts], names: &BTreeSet<String>) -> BTreeMap<&'f str, Vec<Place<'f>>> {
        let mut places: BTreeMap<&str, Vec<Place<'_>>> = BTreeMap::new();
        for rule in rules {
            let is_wanted = |mention: &&Mention| {
                names.contains(&mention.name)
                    && (mention.kind == MentionKind::Replacement || builtins::is_extension(&mention.name))
            };
            for Mention { name, start, location, .. } in rule.mentions.iter().filter(is_wanted) {
                let replacement = format!("data.{PACKAGE}.{}", function(name));
                places.entry(&location.file).or_default().push(Place { start: *start, name, replacement, location });
            }
            for Alias { name, stands_for, start, location } in &rule.aliases {
                let replacement = stands_for.clone();
                places.entry(&location.file).or_default().push(Place { start: *start, name, replacement, location });
            }
        }
        for places in places.values_mut() {
            places.sort_by_key(|place| place.start);
            places.dedup_by_key(|place| place.start);
        }
        places
    }

    /// The text of a module for the engine.
    pub(super) fn apply(&mut self, id: &str, text: &str, places: &[Place<'_>]) -> String {
        let mut lowered = String::with_capacity(text.len());
        let mut done = 0;
        let mut edits = Vec::new();
        for Place { start, name, replacement, location } in places {
            if text.get(*start..start + name.len()) != Some(name) {
                continue;
            }
            lowered.push_str(text.get(done..*start).unwrap_or_default());
            lowered.push_str(replacement);
            done = start + name.len();
            let size = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
            let Location { row, col, .. } = **location;
            edits.push(Edit { row, col, old: size(name), new: size(replacement) });
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
