//! Which values conflict, for people at a command line: after an evaluation has ended with the conflict of a complete
//! rule, the bodies of the rule are asked for their values one by one. No client of the server gets these.

use std::{collections::BTreeMap, time::Duration};

use regorus::{
    Value,
    unstable::{Module, Rule, RuleAssign, RuleBody, RuleHead, Span},
};

use super::PolicySet;
use crate::policy::{
    EvalError, EvalErrorKind, EvalOptions, Location, QueryScope,
    bundle::RegoFile,
    check, lower,
    solutions::extent,
    syntax::{self, Callee, Root, RuleFacts, RuleKind, Segment},
};

/// Most values of one message.
const MOST_VALUES: usize = 10;
/// Most definitions of a rule that are looked at.
const MOST_DEFINITIONS: usize = 100;
/// Most characters of one value.
const MOST_CHARACTERS: usize = 80;
/// What all questions together may take.
const LIMIT: Duration = Duration::from_secs(2);

/// A body of a rule.
struct Body {
    /// A query for its values, in order.
    query: String,
    at: Location,
}

/// One definition, with its `else`s.
struct Definition {
    scope: QueryScope,
    bodies: Vec<Body>,
}

// === impl PolicySet ===

impl PolicySet {
    /// The conflict of a complete rule in OPA's words, with the values and where they are from. Other errors, and
    /// conflicts that do not show again, stay as they are.
    #[must_use]
    pub fn with_conflicting_values(
        &self,
        mut error: EvalError,
        input: Option<&Value>,
        options: &EvalOptions,
    ) -> EvalError {
        let Some(at) = error.location.as_ref().filter(|_| error.kind == EvalErrorKind::Conflict) else { return error };
        let file = self.files.iter().find(|file| file.id == at.file).map(|file| file.display.as_str());
        let here = |at: &Location, own: &Location| Some(own.file.as_str()) == file && own.row == at.row;
        if let Some(called) = self.called(|own| here(at, own)).filter(|_| error.message.starts_with("functions ")) {
            error.message = format!("function {} produced conflicting values for the same inputs", name(called));
            return error;
        }
        let Some(rule) = self.facts.rules.iter().find(|rule| here(at, &rule.location)) else { return error };
        let holds = |other: &RuleFacts| {
            let mut steps = other.path.iter().zip(&rule.path);
            other.kind == RuleKind::Object && steps.all(|(own, step)| own.is_none() || own == step)
        };
        if self.facts.rules.iter().any(holds) {
            let location = Location { col: rule.location.col, ..at.clone() };
            return EvalError { message: "object keys must be unique".to_owned(), location: Some(location), ..error };
        }
        let Some(path) = rule.path.iter().cloned().collect::<Option<Vec<String>>>() else { return error };
        let definitions = self.definitions(&rule.path);
        let Some(values) = self.values(&definitions, input, options).filter(|values| values.len() > 1) else {
            return error;
        };
        let mut message = format!("rule {} produced conflicting values:", name(&path));
        for (value, Location { file, row, .. }) in values.iter().take(MOST_VALUES) {
            message.push_str(&format!("\n  {} at {file}:{row}", short(value)));
        }
        if values.len() > MOST_VALUES {
            message.push_str("\n  ...");
        }
        error.message = message;
        if let Some(at) = &mut error.location {
            at.col = rule.location.col;
        }
        error
    }

    /// The one function of a rule that is called in a row.
    fn called(&self, here: impl Fn(&Location) -> bool) -> Option<&[String]> {
        let calls = self.facts.rules.iter().flat_map(|rule| &rule.calls).filter(|call| here(&call.location));
        let mut functions = calls.filter_map(|call| match &call.callee {
            Callee::Function(path) => Some(path.as_slice()),
            Callee::Builtin(_) => None,
        });
        let first = functions.next()?;
        functions.all(|other| other == first).then_some(first)
    }

    /// The first value of the rule, and the first other one of each definition.
    fn values(
        &self,
        definitions: &[Definition],
        input: Option<&Value>,
        options: &EvalOptions,
    ) -> Option<Vec<(Value, Location)>> {
        let questions = definitions.iter().map(|definition| definition.bodies.len()).sum::<usize>();
        let deadline = LIMIT.checked_div(u32::try_from(questions).ok()?)?;
        let mut values: Vec<(Value, Location)> = Vec::new();
        for Definition { scope, bodies } in definitions {
            let options = EvalOptions { deadline: Some(deadline), scope: scope.clone(), ..options.clone() };
            for Body { query, at } in bodies {
                let result = self.query(query, input.cloned(), &options).ok()?;
                let row = result.rows.into_iter().next()?;
                let found = row.expressions.into_iter().next()?.value;
                let found = found.as_array().ok()?;
                for value in found.iter() {
                    if values.first().is_some_and(|(first, _)| first == value) {
                        continue;
                    }
                    let is_first = values.is_empty();
                    values.push((value.clone(), at.clone()));
                    if !is_first {
                        break;
                    }
                }
                if !found.is_empty() {
                    break;
                }
            }
            if values.len() > MOST_VALUES {
                break;
            }
        }
        Some(values)
    }

    /// Everything that defines the rule.
    fn definitions(&self, path: &[Segment]) -> Vec<Definition> {
        let mut definitions = Vec::new();
        for file in &self.files {
            let Ok(module) = check::module(file) else { continue };
            for rule in &module.policy {
                let defined = syntax::defined(&module, rule);
                if defined.is_some_and(|(kind, own)| kind == RuleKind::Complete && own == path)
                    && definitions.len() < MOST_DEFINITIONS
                {
                    definitions.extend(self.definition(file, &module, rule));
                }
            }
        }
        definitions
    }

    fn definition(&self, file: &RegoFile, module: &Module, rule: &Rule) -> Option<Definition> {
        let Rule::Spec { head: RuleHead::Compr { assign, .. }, bodies, span } = rule else { return None };
        let place = |span: &Span| {
            let mut at = syntax::location(span);
            self.machines.origins().original(&mut at);
            at
        };
        let imports: BTreeMap<_, _> = syntax::imports(module).into_iter().collect();
        let imports = imports.into_iter().filter_map(|(name, (root, path))| {
            Some((name, root == Root::Input, path.into_iter().collect::<Option<Vec<String>>>()?))
        });
        let scope = QueryScope { package: syntax::package_path(module), imports: imports.collect() };
        let mut own = vec![];
        if bodies.is_empty() {
            own.push(Body { query: question(&file.text, assign.as_ref(), None)?, at: place(span) });
        }
        for (index, body) in bodies.iter().enumerate() {
            let (assign, at) = if body.is_else { (body.assign.as_ref(), &body.span) } else { (assign.as_ref(), span) };
            let at = if index > 0 { &body.span } else { at };
            own.push(Body { query: question(&file.text, assign, Some(body))?, at: place(at) });
        }
        Some(Definition { scope, bodies: own })
    }
}

/// A path below `data`, as Rego.
fn name(path: &[String]) -> String {
    path.iter().fold("data".to_owned(), |text, name| text + &syntax::walk::step(name))
}

/// A query for the values of a body.
fn question(text: &str, assign: Option<&RuleAssign>, body: Option<&RuleBody>) -> Option<String> {
    let value = match assign {
        Some(assign) => {
            let (start, end) = (usize::try_from(assign.span.start).ok()?, usize::try_from(assign.span.end).ok()?);
            // The parser's places of a string are within its quotes.
            let end = end + usize::from(text.get(end..)?.starts_with(['"', '`']));
            text.get(start..end)?.trim_start_matches([':', '='])
        }
        None => "true",
    };
    let statements = body.map_or(&[][..], |body| &body.query.stmts);
    let body = match (statements.first(), statements.last()) {
        (Some(first), Some(last)) => text.get(extent(text, first).0..extent(text, last).1)?,
        _ => "true",
    };
    Some(format!("[__claimgate_value | {body}\n__claimgate_value := {value}]"))
}

/// A value in one line.
fn short(value: &Value) -> String {
    let text = lower::term_text(value).unwrap_or_default();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}...", words.get(..end).unwrap_or_default()),
        None => words,
    }
}
