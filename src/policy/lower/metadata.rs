//! `rego.metadata.rule()` and `rego.metadata.chain()`: what they give is known before anything runs, so a call becomes
//! a reference to a constant of [`PACKAGE`], in a module that is added. (A constant in the call's place could not have
//! `[_].path` behind it.) Modules that do not parse are left alone; the checks complain.

mod annotations;

use std::{collections::BTreeMap, sync::Arc};

use regorus::{
    Value,
    unstable::{Module, Ref, Rule},
};

use self::annotations::{Annotation, Scope};
use super::{
    Origins,
    lex::{Kind, Lexer},
    rewrite::{Rewriter, Rewritten},
};
use crate::policy::{
    LoadError, Location,
    bundle::RegoFile,
    check,
    json::to_opa_json,
    stdlib::record,
    syntax::{self, Names, RuleFacts},
};

/// Where the constants are.
const PACKAGE: &str = "system.claimgate.metadata";
/// The module that defines them.
const MODULE: &str = "claimgate/metadata.rego";

const CONSTANT: &str = "data.system.claimgate.metadata.m";

/// Longest argument that is looked through.
const MOST_TOKENS: usize = 64;
const CALL: &str = "rego.metadata.";
const RULE: &str = "rego.metadata.rule";
const CHAIN: &str = "rego.metadata.chain";

/// A module with its annotations.
struct Annotated {
    file: usize,
    package: Vec<String>,
    package_row: u32,
    rules: Vec<RuleFacts>,
    /// Where each rule starts, and its first `else`: what is behind that has no annotations of its own.
    starts: Vec<(usize, usize)>,
    /// By the index of the rule.
    of_rules: BTreeMap<usize, Vec<Annotation>>,
}

/// Annotations of all modules that are not of one rule alone.
#[derive(Default)]
struct Shared {
    packages: BTreeMap<Vec<String>, Annotation>,
    /// Those of documents and of subpackages, by path.
    paths: BTreeMap<Vec<String>, Annotation>,
}

/// Puts references to constants where the calls are.
pub(super) fn lower(files: &mut Vec<RegoFile>, origins: &mut Origins, errors: &mut Vec<LoadError>) {
    let mut chains = Vec::new();
    for file in files.iter_mut().filter(|file| file.text.contains(CALL)) {
        if let Some(rewritten) = rewrite(&file.text, &mut chains) {
            file.text = Arc::from(rewritten.text());
            origins.then(file, &rewritten);
        }
    }
    if chains.is_empty() {
        return;
    }
    let parsed: Vec<(usize, Ref<Module>)> =
        files.iter().enumerate().filter_map(|(index, file)| Some((index, check::module(file).ok()?))).collect();
    let trees: Vec<Ref<Module>> = parsed.iter().map(|(_, module)| module.clone()).collect();
    let names = Names::collect(&trees);
    let mut modules: Vec<Annotated> =
        parsed.iter().map(|(file, module)| Annotated::new(*file, module, &names)).collect();
    let mut shared = Shared::default();
    let known = errors.len();
    for (module, (_, tree)) in modules.iter_mut().zip(&parsed) {
        let Some(file) = files.get(module.file) else { continue };
        let imports: Vec<u32> = tree.imports.iter().map(|import| import.span.line).collect();
        module.attach(file, &imports, &mut shared, errors);
    }
    for at in errors.iter_mut().skip(known).filter_map(|error| error.location.as_mut()) {
        origins.original(at);
    }
    let mut constants = vec![Value::new_object(); chains.len()];
    for module in &modules {
        let text = files.get(module.file).map_or("", |file| &file.text);
        for (at, _) in text.match_indices(CONSTANT) {
            let digits = text.get(at + CONSTANT.len()..).unwrap_or_default();
            let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            let Ok(number) = digits.parse::<usize>() else { continue };
            if let (Some(constant), Some(chain)) = (constants.get_mut(number), chains.get(number)) {
                *constant = module.value(at, *chain, &shared);
            }
        }
    }
    let rules = constants.iter().enumerate().map(|(index, value)| format!("m{index} := {}\n", to_opa_json(value)));
    let rules: String = rules.collect();
    files.push(RegoFile {
        id: MODULE.to_owned(),
        display: MODULE.to_owned(),
        text: Arc::from(format!("package {PACKAGE}\n{rules}")),
        v0: false,
        roots: None,
    });
}

/// The text with a reference in place of every call; whether each is a call of the chain is added to `chains`.
fn rewrite(text: &str, chains: &mut Vec<bool>) -> Option<Rewritten> {
    let mut writer = Rewriter::new(text);
    let before = chains.len();
    let mut tokens = Lexer::new(text, 0);
    let mut behind_dot = false;
    while let Some(token) = tokens.next() {
        let rest = text.get(token.start..).unwrap_or_default();
        let name = [RULE, CHAIN].into_iter().find(|name| rest.starts_with(name));
        let name = name.filter(|_| !behind_dot && token.kind == Kind::Word);
        behind_dot = token.kind == Kind::Symbol(b'.');
        let Some(name) = name else { continue };
        let end = token.start + name.len();
        let mut after = Lexer::new(text, end);
        let (Some(open), Some(next)) = (after.next(), after.next()) else { break };
        if open.kind != Kind::Symbol(b'(') || has_comma(Lexer::new(text, open.end)) {
            continue;
        }
        writer.copy(token.start);
        writer.insert(&format!("{CONSTANT}{}", chains.len()));
        chains.push(name == CHAIN);
        writer.skip(end);
        if next.kind == Kind::Symbol(b')') {
            // A space would part the reference from a `[` behind it.
            if text.get(end..next.end).is_some_and(|piece| piece.contains('\n')) {
                writer.blank(next.end);
            } else {
                writer.skip(next.end);
            }
        } else {
            // The argument is the result's name.
            writer.insert(" = ");
        }
        tokens.seek(writer.done());
    }
    (chains.len() > before).then(|| writer.finish())
}

/// Are there several arguments? The checks complain about them.
fn has_comma(arguments: Lexer<'_>) -> bool {
    let mut depth = 0_usize;
    for token in arguments.take(MOST_TOKENS) {
        match token.kind {
            Kind::Symbol(b',') if depth == 0 => return true,
            Kind::Symbol(b'(' | b'[' | b'{') => depth += 1,
            Kind::Symbol(b')' | b']' | b'}') => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            _ => {}
        }
    }
    true
}

/// The path of what a rule defines, up to the first variable.
fn ground(rule: &RuleFacts) -> Vec<String> {
    rule.path.iter().map_while(Clone::clone).collect()
}

// === impl Annotated ===

impl Annotated {
    fn new(file: usize, module: &Module, names: &Names) -> Self {
        let offset = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        let starts = module.policy.iter().map(|rule| {
            let Rule::Spec { bodies, .. } = &**rule else { return (offset(rule.span().start), usize::MAX) };
            let first_else = bodies.iter().find(|body| body.is_else).map(|body| offset(body.span.start));
            (offset(rule.span().start), first_else.unwrap_or(usize::MAX))
        });
        Self {
            file,
            package: syntax::package_path(module),
            package_row: module.package.span.line,
            rules: syntax::rules(module, names),
            starts: starts.collect(),
            of_rules: BTreeMap::new(),
        }
    }

    /// Finds the statement that each block is written above, and files it by its scope.
    fn attach(&mut self, file: &RegoFile, imports: &[u32], shared: &mut Shared, errors: &mut Vec<LoadError>) {
        let place = |row| Location { file: file.display.clone(), row, col: 1 };
        for block in annotations::read(&file.text) {
            let row = block.row;
            let mut fail = |code, message: String| errors.push(LoadError::new(code, message, Some(place(row))));
            let mut annotation = match block.parsed {
                Ok(annotation) => annotation,
                Err(message) => {
                    fail("rego_parse_error", message);
                    continue;
                }
            };
            let next = self.rules.iter().enumerate().filter(|(_, rule)| rule.location.row > row);
            let next = next.min_by_key(|(_, rule)| rule.location.row);
            let import = imports.iter().copied().filter(|import| *import > row).min();
            let above_package = self.package_row > row;
            let rule =
                next.filter(|(_, rule)| !above_package && import.is_none_or(|import| import > rule.location.row));
            let scope = match annotation.scope.as_deref() {
                Some(name) => Scope::named(name).ok_or_else(|| name.to_owned()),
                None if above_package => Ok(Scope::Package),
                None if rule.is_some() && annotation.entrypoint => Ok(Scope::Document),
                None if rule.is_some() => Ok(Scope::Rule),
                None => Err(import.map_or("", |_| "import").to_owned()),
            };
            let scope = match scope {
                Ok(scope) => scope,
                Err(name) => {
                    let kinds = "Use one of 'rule', 'document', 'package', or 'subpackages'";
                    fail("rego_parse_error", format!("invalid annotation scope '{name}'. {kinds}"));
                    continue;
                }
            };
            if annotation.entrypoint && !matches!(scope, Scope::Document | Scope::Package) {
                let name = scope.name();
                let message = format!("annotation entrypoint applied to non-document or package scope '{name}'");
                fail("rego_parse_error", message);
                continue;
            }
            annotation.scope = Some(scope.name().to_owned());
            let (slot, path) = match (scope, rule) {
                (Scope::Rule, Some((index, rule))) => {
                    annotation.path = ground(rule);
                    self.of_rules.entry(index).or_default().push(annotation);
                    continue;
                }
                (Scope::Document, Some((_, rule))) => (&mut shared.paths, ground(rule)),
                (Scope::Package, _) if above_package => (&mut shared.packages, self.package.clone()),
                (Scope::Subpackages, _) if above_package => (&mut shared.paths, self.package.clone()),
                _ => {
                    let to = if matches!(scope, Scope::Rule | Scope::Document) { "rule" } else { "package" };
                    let name = scope.name();
                    let have = match (above_package, rule, import) {
                        (true, ..) => " (have package)",
                        (_, Some(_), _) => " (have rule)",
                        (_, _, Some(_)) => " (have import)",
                        _ => "",
                    };
                    let message = format!("annotation scope '{name}' must be applied to {to}{have}");
                    fail("rego_parse_error", message);
                    continue;
                }
            };
            annotation.place = format!("{}:{row}", file.display);
            annotation.path.clone_from(&path);
            if let Some(before) = slot.get(&path) {
                let message = format!("{} annotation redeclared: {}", scope.name(), before.place);
                fail("rego_type_error", message);
                continue;
            }
            slot.insert(path, annotation);
        }
    }

    /// What a call at this offset gives.
    fn value(&self, at: usize, chain: bool, shared: &Shared) -> Value {
        let index = self.starts.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        let is_else = self.starts.get(index).is_some_and(|(_, first_else)| at >= *first_else);
        let own = self.of_rules.get(&index).filter(|_| !is_else);
        let own = own.map(Vec::as_slice).unwrap_or_default();
        if !chain {
            return own.first().map_or_else(Value::new_object, Annotation::value);
        }
        let path = self.rules.get(index).map(ground).unwrap_or_default();
        let mut links: Vec<Value> = own.iter().rev().map(link).collect();
        if links.is_empty() {
            links.push(record([("path", strings(&path))]));
        }
        links.extend(shared.paths.get(&path).map(link));
        links.extend(shared.packages.get(&self.package).map(link));
        for length in (0..=self.package.len()).rev() {
            let above = self.package.get(..length).unwrap_or_default();
            links.extend(shared.paths.get(above).map(link));
        }
        Value::from(links)
    }
}

fn link(annotation: &Annotation) -> Value {
    record([("path", strings(&annotation.path)), ("annotations", annotation.value())])
}

fn strings(path: &[String]) -> Value {
    Value::from(path.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>())
}
