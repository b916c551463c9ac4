//! Calls of functions that are not there or take other arguments, and `with` of what cannot be replaced. It looks at
//! rules as [`core`] has them.

use std::collections::HashSet;

use crate::policy::{
    builtins,
    core::{DATA, Function, INPUT, Kind, Pos, Statement, Target, Term, With},
    syntax::Names,
    types::{self, Ty, have_and_want},
};

/// A complaint: code, message, details, place.
pub(super) type Complaint = (&'static str, String, Vec<String>, Pos);

/// What the checks know of all rules.
pub(super) struct Rules<'a> {
    pub names: &'a Names,
    /// The paths of all rules, as far as they are constant.
    pub paths: &'a HashSet<Vec<String>>,
}

impl Rules<'_> {
    /// The number of inputs; of a rule that is no function, none.
    pub(super) fn arity(&self, function: &Function) -> Option<usize> {
        match function {
            Function::Builtin(name) => builtins::arity(name),
            Function::Operator(name) => types::signature(name).map(|signature| signature.arguments.len()),
            Function::Rule(path) => {
                self.names.functions.get(path).copied().or_else(|| self.paths.contains(path).then_some(0))
            }
        }
    }

    /// Every call of a body, and of the bodies in it.
    pub(super) fn calls(&self, body: &[Statement], found: &mut Vec<Complaint>) {
        each(body, &mut |statement| {
            if let Kind::Call { function, arguments } = &statement.kind {
                let hint = found.len() < MOST;
                found.extend(self.call(function, arguments, statement, hint));
            }
        });
    }

    fn call(&self, function: &Function, arguments: &[Term], statement: &Statement, hint: bool) -> Option<Complaint> {
        let name = function.name();
        if name == "print" {
            // It takes whatever there is.
            return None;
        }
        let fail = |message, details| Some(("rego_type_error", message, details, statement.at));
        let Some(arity) = self.arity(function) else {
            if types::signature(&name).is_some_and(|signature| signature.is_deprecated) {
                return fail(old(&name), Vec::new());
            }
            return fail(format!("undefined function {name}"), if hint { near(&name) } else { Vec::new() });
        };
        let have = arguments.len();
        let fits = if statement.is_generated { have == arity + 1 } else { have == arity || have == arity + 1 };
        if fits || (statement.is_generated && statement.sides().is_some()) {
            // The engine gives no results to a `walk` that is not told where they go.
            let is_value = matches!(function, Function::Builtin(name) if name == "walk")
                && (statement.is_generated || have == arity);
            return if is_value { fail(WALK.to_owned(), Vec::new()) } else { None };
        }
        if let (Function::Builtin(own), Some(signature)) = (function, types::signature(&name)) {
            let have: Vec<Ty> = arguments.iter().map(constant_type).collect();
            return fail(format!("{own}: arity mismatch"), have_and_want(&have, &signature.arguments));
        }
        let given = have - usize::from(statement.is_generated);
        let plural = if given == 1 { "" } else { "s" };
        fail(format!("function {name} has arity {arity}, got {given} argument{plural}"), Vec::new())
    }

    /// Every `with` of a body, and of the bodies in it. A statement may stand there more than once, for what was taken out of it.
    pub(super) fn withs(&self, body: &[Statement], found: &mut Vec<Complaint>) {
        each(body, &mut |statement| {
            found.extend(statement.with.iter().find_map(|with| self.with(with)));
        });
    }

    fn with(&self, with: &With) -> Option<Complaint> {
        let fail = |code, message: &str| Some((code, message.to_owned(), Vec::new(), with.at));
        match &with.target {
            Target::Document(reference) if reference.head == DATA => {
                let names: Vec<String> = reference
                    .path
                    .iter()
                    .map_while(|step| match step {
                        Term::Const(regorus::Value::String(text)) => Some(text.to_string()),
                        _ => None,
                    })
                    .collect();
                let above = names.len().min(reference.path.len().saturating_sub(1));
                let is_part = (1..=above).any(|length| {
                    names
                        .get(..length)
                        .is_some_and(|path| self.paths.contains(path) || self.names.functions.contains_key(path))
                });
                if is_part {
                    return fail("rego_compile_error", "with keyword cannot partially replace virtual document(s)");
                }
                None
            }
            Target::Document(reference) if reference.head == INPUT => None,
            Target::Builtin(name) => {
                let prefix = "with keyword replacing built-in function: ";
                if matches!(name.as_str(), "eq" | "rego.metadata.chain" | "rego.metadata.rule") {
                    return fail("rego_compile_error", &format!("{prefix}replacement of \"{name}\" invalid"));
                }
                if name.starts_with("internal.") {
                    return fail(
                        "rego_compile_error",
                        &format!("{prefix}replacement of internal function \"{name}\" invalid"),
                    );
                }
                let signature = types::signature(name)?;
                if signature.is_relation {
                    return fail("rego_compile_error", &format!("{prefix}target must not be a relation"));
                }
                if signature.result.is_none() {
                    return fail("rego_compile_error", &format!("{prefix}target must not be a void function"));
                }
                None
            }
            _ => fail("rego_type_error", "with keyword target must reference existing input, data, or a function"),
        }
    }

    /// Every call of a builtin that is kept for old policies.
    pub(super) fn deprecated(&self, body: &[Statement], found: &mut Vec<Complaint>) {
        each(body, &mut |statement| {
            if let Kind::Call { function: Function::Builtin(name), .. } = &statement.kind
                && types::signature(name).is_some_and(|signature| signature.is_deprecated)
            {
                found.push(("rego_type_error", old(name), Vec::new(), statement.at));
            }
        });
    }
}

const WALK: &str = "walk: its result as a value is not supported; write `walk(x, [path, value])`";
/// Most complaints that get a hint.
const MOST: usize = 100;

/// OPA's sentence for a builtin of old policies; the engine does not have all of them.
fn old(name: &str) -> String {
    format!("deprecated built-in function calls in expression: {name}")
}

/// Calls `visit` with each statement of a body and of the bodies in it.
fn each(body: &[Statement], visit: &mut dyn FnMut(&Statement)) {
    for statement in body {
        visit(statement);
        let values = statement.with.iter().map(|with| &with.value);
        for term in statement.terms().chain(values) {
            term.closures(&mut |closure| each(&closure.body, visit));
        }
        if let Kind::Every { body, .. } = &statement.kind {
            each(body, visit);
        }
    }
}

/// The type of a term before anything is known of its variables.
fn constant_type(term: &Term) -> Ty {
    match term {
        Term::Const(value) => types::of_value(value),
        Term::Array(items) => types::array(items.iter().map(constant_type).collect(), None),
        _ => None,
    }
}

/// A hint at what the name may have meant.
fn near(name: &str) -> Vec<String> {
    let near = builtins::names().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    match near {
        Some((distance, known)) if distance <= 2 && name.len() > 3 => vec![format!("did you mean {known}?")],
        _ => Vec::new(),
    }
}
