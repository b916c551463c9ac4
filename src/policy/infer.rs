//! OPA's type checker: the types of rules, callees first, and what cannot be in a body because of them. Base documents
//! are anything. What it is not sure of it lets pass, and so is a module whose types would take too long.

mod known;
mod unify;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use regorus::Value;

pub(super) use self::known::Known;
use super::{
    core::{
        Closure, DATA, Function, INPUT, Kind, Pos, Reference, Rule, Shape, Statement, Target, Term, Var, Vars, ordered,
    },
    types::{self, Ty, Type, have_and_want, keys, select, sprint, unifies, values},
};

/// Steps that the types of one load may take, and more for each rule: some tenths of a second.
const FUEL: usize = 4_000_000;
const FUEL_OF_RULE: usize = 5_000;

/// What a function takes, and its result, with their names.
type Places = Vec<(&'static str, Ty)>;

/// The number of inputs of a function.
pub(super) type Arity<'a> = &'a dyn Fn(&Function) -> Option<usize>;

/// A complaint.
#[derive(Debug, Clone)]
pub(super) struct TypeError {
    pub message: String,
    /// What a person sees below it.
    pub details: Vec<String>,
    pub at: Pos,
    /// It follows from another one.
    is_open: bool,
}

/// Starts the types of a load of so many rules.
pub(super) fn start(rules: usize) {
    types::refuel(u32::try_from(FUEL.saturating_add(rules.saturating_mul(FUEL_OF_RULE))).unwrap_or(u32::MAX));
}

/// Checks a body of a rule and adds what the rule is to `known`.
pub(super) fn rule(rule: &Rule, known: &mut Known, arity: Arity<'_>, errors: &mut Vec<TypeError>) {
    let mut checker = Checker::new(known, &rule.vars, arity);
    let mut vars = HashSet::new();
    rule.arguments.iter().flatten().for_each(|argument| argument.vars(&mut |var| _ = vars.insert(var)));
    let passes = checker.body(&rule.body, &mut vars, &mut Vec::new());
    if !passes || !checker.errors.is_empty() {
        errors.append(&mut checker.errors);
        known.put(&rule.path, types::any());
        return;
    }
    let ty = match &rule.arguments {
        Some(arguments) => {
            for argument in arguments {
                argument.vars(&mut |var| {
                    checker.vars.entry(var).or_insert_with(types::any);
                });
            }
            let arguments = arguments.iter().map(|argument| checker.ty(argument)).collect();
            types::plain(Type::Function { arguments, result: checker.ty(&rule.value) })
        }
        None if rule.is_set => match checker.ty(&rule.value) {
            None => None,
            of => checker.nested(&rule.path, types::set(of)),
        },
        None => checker.nested(&rule.path, checker.ty(&rule.value)),
    };
    if ty.is_some() {
        known.insert(&rule.path, &ty);
    }
}

/// Checks a query.
pub(super) fn query(rule: &Rule, known: &Known, arity: Arity<'_>) -> Vec<TypeError> {
    start(1);
    let mut checker = Checker::new(known, &rule.vars, arity);
    checker.body(&rule.body, &mut HashSet::new(), &mut Vec::new());
    checker.errors
}

struct Checker<'a> {
    known: &'a Known,
    info: &'a Vars,
    arity: Arity<'a>,
    vars: HashMap<Var, Ty>,
    closures: HashMap<usize, Ty>,
    /// `with` may have replaced what rules depend on.
    is_replaced: bool,
    errors: Vec<TypeError>,
}

impl<'a> Checker<'a> {
    fn new(known: &'a Known, info: &'a Vars, arity: Arity<'a>) -> Self {
        let (vars, closures) = (HashMap::new(), HashMap::new());
        Self { known, info, arity, vars, closures, is_replaced: false, errors: Vec::new() }
    }

    /// Objects around a type, for the steps of a head that are computed.
    fn nested(&self, path: &[Term], ty: Ty) -> Ty {
        let ground = path.iter().take_while(|step| step.is_const()).count();
        path.iter().skip(ground).rev().try_fold(ty?, |ty, step| {
            let key = self.ty(step)?;
            types::object(Vec::new(), Some((Some(key), Some(ty))))
        })
    }

    /// False when the body has no order. `taken` lists the variables that it adds to those known.
    fn body(&mut self, body: &[Statement], known: &mut HashSet<Var>, taken: &mut Vec<Var>) -> bool {
        let Some(order) = ordered(body, self.arity, known, taken) else { return false };
        for statement in order {
            if !types::spend(1) {
                return false;
            }
            self.statement(statement, known);
        }
        true
    }

    fn statement(&mut self, statement: &Statement, known: &mut HashSet<Var>) {
        let outer = self.is_replaced;
        self.is_replaced |= !statement.with.is_empty();
        let before = self.errors.len();
        let values = statement.with.iter().map(|with| &with.value);
        for term in statement.terms().chain(values) {
            term.closures(&mut |closure| self.closure(closure, known));
        }
        if let Kind::Every { body, .. } = &statement.kind {
            self.every(body);
        }
        statement.terms().for_each(|term| self.references(term));
        let is_blamed = self.errors.len() > before;
        if let Some(error) = self.statement_error(statement)
            && !(is_blamed && error.is_open)
        {
            self.errors.push(error);
        }
        self.is_replaced = outer;
    }

    fn closure(&mut self, closure: &Closure, known: &mut HashSet<Var>) {
        let before = self.errors.len();
        let mut taken = Vec::new();
        let passes = self.body(&closure.body, known, &mut taken) && self.errors.len() == before;
        let ty = passes.then(|| match (closure.shape, closure.terms.as_slice()) {
            (Shape::Array, [term]) => types::array(Vec::new(), self.ty(term)),
            (Shape::Set, [term]) => types::set(self.ty(term)),
            (Shape::Object, [key, value]) => types::object(Vec::new(), Some((self.ty(key), self.ty(value)))),
            _ => types::any(),
        });
        self.closures.insert(closure.id, ty.flatten());
        // Another closure may have a variable of this name.
        for var in taken {
            known.remove(&var);
            self.vars.remove(&var);
        }
    }

    /// OPA looks at the references of an `every` alone.
    fn every(&mut self, body: &[Statement]) {
        for statement in body {
            statement.terms().for_each(|term| {
                term.closures(&mut |closure| {
                    // What its variables are is not known here, and a complaint would only be about that.
                    self.closures.insert(closure.id, types::any());
                });
                self.references(term);
            });
            if let Kind::Every { body, .. } = &statement.kind {
                self.every(body);
            }
        }
    }

    fn statement_error(&mut self, statement: &Statement) -> Option<TypeError> {
        for with in statement.with.iter() {
            let target = match &with.target {
                Target::Builtin(name) => Function::Builtin(name.clone()),
                Target::Document(reference) if reference.head == DATA => Function::Rule(constants(&reference.path)?),
                _ => continue,
            };
            if let Some(error) = self.replacement_error(&target, with.function.as_ref(), with.value_at) {
                return Some(error);
            }
        }
        let Kind::Call { function, arguments } = &statement.kind else { return None };
        let fail = |message: String, details, is_open| Some(TypeError { message, details, at: statement.at, is_open });
        if let Some((left, right)) = statement.sides() {
            let (a, b) = (self.ty(left), self.ty(right));
            if self.unify_terms(left, &a, right, &b) {
                return None;
            }
            let details = vec![format!("left  : {}", sprint(&a)), format!("right : {}", sprint(&b))];
            return fail("match error".to_owned(), details, types::is_open(&a) || types::is_open(&b));
        }
        if let Function::Operator(name) = function
            && let Some(count) = ["internal.member_2", "internal.member_3"].iter().position(|own| own == name)
            && let Some((collection, members)) = arguments.get(..count + 2).and_then(<[Term]>::split_last)
        {
            let of = self.ty(collection);
            if values(&of).is_some() {
                let wanted = [keys(&of), values(&of)];
                for (term, want) in members.iter().rev().zip(wanted.iter().rev()).rev() {
                    let have = self.ty(term);
                    let fits = want.is_none()
                        || types::is_open(want)
                        || ((types::is_open(&have) || unifies(&have, want)) && self.unify(term, want, false));
                    if !fits {
                        let details = vec![format!("left  : {}", sprint(&have)), format!("right : {}", sprint(want))];
                        return fail("match error".to_owned(), details, types::is_open(&have));
                    }
                }
            }
        }
        let (wanted, places) = self.places(function)?;
        let before: Vec<Ty> = arguments.iter().map(|argument| self.ty(argument)).collect();
        if arguments.len() > places.len() {
            return None;
        }
        let message = format!("{}: invalid argument(s)", function.name());
        for ((argument, have), want) in arguments.iter().zip(&before).zip(&places) {
            if !types::is_open(have) && !unifies(have, want) {
                return fail(message, have_and_want(&before, &wanted), before.iter().any(types::is_open));
            }
            if !self.unify(argument, want, false) {
                let after: Vec<Ty> = arguments.iter().map(|argument| self.ty(argument)).collect();
                let is_open = after.iter().any(types::is_open);
                return fail(message, have_and_want(&after, &wanted), is_open);
            }
        }
        None
    }

    /// The arguments of a function, and its result as the last one: with their names, and their types alone.
    fn places(&self, function: &Function) -> Option<(Places, Vec<Ty>)> {
        match function {
            Function::Builtin(_) | Function::Operator(_) => {
                let signature = types::signature(&function.name())?;
                Some((signature.arguments.iter().chain(&signature.result).cloned().collect(), signature.places()))
            }
            Function::Rule(path) => {
                let ty = self.known.exact(path)?;
                let Type::Function { arguments, result } = ty.as_ref() else { return None };
                let result = result.is_some().then_some(result);
                let places: Vec<Ty> = arguments.iter().chain(result).cloned().collect();
                Some((places.iter().map(|ty| ("", ty.clone())).collect(), places))
            }
        }
    }

    /// A function replaced by one of another arity, or of other arguments.
    fn replacement_error(&self, target: &Function, by: Option<&Function>, at: Pos) -> Option<TypeError> {
        let ty = |function: &Function| match function {
            Function::Builtin(_) | Function::Operator(_) => {
                types::signature(&function.name()).and_then(types::Signature::function)
            }
            Function::Rule(path) => self.known.exact(path),
        };
        let (own, other) = (ty(target)?, ty(by?)?);
        let (Type::Function { .. }, Type::Function { arguments, .. }) = (own.as_ref(), other.as_ref()) else {
            return None;
        };
        if unifies(&Some(own), &Some(Arc::clone(&other))) {
            return None;
        }
        let (wanted, _) = self.places(target)?;
        let inputs = wanted.len().checked_sub(1).and_then(|inputs| wanted.get(..inputs)).unwrap_or_default();
        let details = have_and_want(arguments, inputs);
        Some(TypeError { message: format!("{}: arity mismatch", target.name()), details, at, is_open: false })
    }

    /// The type of a term.
    fn ty(&self, term: &Term) -> Ty {
        match term {
            Term::Const(value) => types::of_value(value),
            Term::Var(var) => self.vars.get(var).cloned().flatten(),
            Term::Ref(reference) => self.of_reference(reference),
            Term::Array(items) => types::array(items.iter().map(|item| self.ty(item)).collect(), None),
            Term::Set(items) => types::set(items.iter().fold(None, |all, item| types::or(&all, &self.ty(item)))),
            Term::Object(members) => {
                let mut fixed: Vec<(Value, Ty)> = Vec::new();
                let mut rest = None;
                for (key, value) in members {
                    match key {
                        Term::Const(key) => fixed.push((key.clone(), self.ty(value))),
                        key => rest = Some((self.ty(key), self.ty(value))),
                    }
                }
                fixed.sort_by(|a, b| a.0.cmp(&b.0));
                fixed.dedup_by(|a, b| a.0 == b.0);
                types::object(fixed, rest)
            }
            Term::Closure(closure) => self.closures.get(&closure.id).cloned().flatten(),
            Term::Unknown => types::any(),
        }
    }

    fn of_reference(&self, reference: &Reference) -> Ty {
        match reference.head {
            INPUT => types::any(),
            DATA if self.is_replaced => types::any(),
            DATA => self.known.of(&reference.path),
            head => reference.path.iter().fold(self.vars.get(&head).cloned().flatten(), |ty, step| member(&ty, step)),
        }
    }

    fn references(&mut self, term: &Term) {
        match term {
            Term::Ref(reference) => {
                if let Err(error) = self.reference(reference) {
                    self.errors.push(error);
                }
            }
            Term::Array(items) | Term::Set(items) => items.iter().for_each(|item| self.references(item)),
            Term::Object(members) => members.iter().for_each(|(key, value)| {
                self.references(key);
                self.references(value);
            }),
            _ => {}
        }
    }

    fn reference(&mut self, reference: &Reference) -> Result<(), TypeError> {
        if self.of_reference(reference).is_some_and(|ty| matches!(ty.as_ref(), Type::Function { .. })) {
            let text = self.info.text(reference, usize::MAX);
            return Err(self.used_as_reference(&text, reference));
        }
        match reference.head {
            INPUT => self.steps(types::any(), reference, 0),
            DATA if self.is_replaced => self.steps(types::any(), reference, 0),
            DATA => self.document(reference),
            head => {
                let ty = self.vars.entry(head).or_default().get_or_insert_with(|| Arc::new(Type::Any(Vec::new())));
                let ty = Some(Arc::clone(ty));
                self.steps(ty, reference, 0)
            }
        }
    }

    fn used_as_reference(&self, text: &str, reference: &Reference) -> TypeError {
        let have = sprint(&self.of_reference(reference));
        let details = vec![text.to_owned(), "^".repeat(text.chars().count()), format!("have: {have}")];
        let message = format!("function {text} used as reference, not called");
        TypeError { message, details, at: reference.at, is_open: false }
    }

    /// A path below `data`.
    fn document(&mut self, reference: &Reference) -> Result<(), TypeError> {
        let known = self.known;
        let mut node = known.root();
        if node.is_empty() {
            return self.steps(types::any(), reference, 0);
        }
        for (index, step) in reference.path.iter().enumerate() {
            if index < 2 && !matches!(step, Term::Var(_) | Term::Const(Value::String(_))) {
                let (have, want) = (self.ty(step), types::plain(Type::String));
                return Err(self.invalid(reference, index, &have, &want, &node.names()));
            }
            if let Term::Var(var) = step {
                let keys = keys(&node.extent());
                match self.vars.get(var).cloned().flatten() {
                    Some(own) if !unifies(&keys, &Some(Arc::clone(&own))) => {
                        return Err(self.invalid(reference, index, &Some(own), &keys, &node.names()));
                    }
                    Some(_) => {}
                    None => _ = self.vars.insert(*var, keys),
                }
            }
            let child = match step {
                Term::Const(key) => node.child(key),
                _ => None,
            };
            match child {
                None => return self.steps(types::any(), reference, 0),
                Some(child) if child.ty().is_some() => return self.steps(child.ty().clone(), reference, index + 1),
                Some(child) => node = child,
            }
        }
        Ok(())
    }

    /// The steps of a reference from `from` on, below a type.
    fn steps(&mut self, mut ty: Ty, reference: &Reference, from: usize) -> Result<(), TypeError> {
        for (index, step) in reference.path.iter().enumerate().skip(from) {
            if ty.as_ref().is_some_and(|ty| ty.is_empty_collection()) {
                return match step {
                    Term::Const(_) => Err(self.invalid(reference, index, &None, &None, &[])),
                    Term::Var(var) => {
                        self.vars.entry(*var).or_default().get_or_insert_with(|| Arc::new(Type::Any(Vec::new())));
                        Ok(())
                    }
                    _ => Ok(()),
                };
            }
            let keys = keys(&ty);
            if keys.is_none() {
                let text = self.info.text(reference, usize::MAX);
                let marked = self.info.text(reference, index).chars().count();
                let details = vec![text.clone(), "^".repeat(marked), format!("have: {}", sprint(&ty))];
                let message = match ty.as_deref() {
                    Some(Type::Function { .. }) => format!("function {text} used as reference, not called"),
                    _ => format!("undefined ref: {text}"),
                };
                return Err(TypeError { message, details, at: reference.at, is_open: false });
            }
            match step {
                Term::Const(key) => {
                    let child = select(&ty, key);
                    if child.is_none() {
                        return Err(self.invalid(reference, index, &None, &keys, &names(&ty)));
                    }
                    ty = child;
                    continue;
                }
                Term::Var(var) => match self.vars.get(var).cloned().flatten() {
                    Some(own) => {
                        let own = Some(own);
                        if !unifies(&own, &keys) {
                            return Err(self.invalid(reference, index, &own, &keys, &names(&ty)));
                        }
                    }
                    None => _ = self.vars.insert(*var, keys),
                },
                Term::Array(_) | Term::Set(_) | Term::Object(_) => {
                    if !self.unify(step, &keys, false) {
                        return Err(self.invalid(reference, index, &self.ty(step), &keys, &[]));
                    }
                }
                Term::Ref(_) | Term::Closure(_) | Term::Unknown => {}
            }
            ty = values(&ty);
        }
        Ok(())
    }

    fn invalid(&self, reference: &Reference, index: usize, have: &Ty, want: &Ty, one_of: &[Value]) -> TypeError {
        let text = self.info.text(reference, usize::MAX);
        let pad = " ".repeat(self.info.text(reference, index).chars().count() + 1);
        let have = match (have, reference.path.get(index)) {
            (None, Some(step)) => format!("{pad}have: {}", self.info.term(step)),
            (have, _) => format!("{pad}have (type): {}", sprint(have)),
        };
        let list: Vec<String> = one_of.iter().map(|value| self.info.term(&Term::Const(value.clone()))).collect();
        let want = match want {
            _ if !list.is_empty() => format!("{pad}want (one of): [{}]", list.join(" ")),
            None => format!("{pad}want (one of): []"),
            want => format!("{pad}want (type): {}", sprint(want)),
        };
        let details = vec![text.clone(), format!("{pad}^"), have, want];
        TypeError { message: format!("undefined ref: {text}"), details, at: reference.at, is_open: false }
    }
}

/// What a step gives.
fn member(ty: &Ty, step: &Term) -> Ty {
    match step {
        Term::Const(key) => select(ty, key),
        _ if ty.as_ref().is_some_and(|ty| ty.is_empty_collection()) => types::any(),
        _ => values(ty),
    }
}

/// The names of the members that a type is known to have.
fn names(ty: &Ty) -> Vec<Value> {
    let mut found = match ty.as_deref() {
        Some(Type::Object { fixed, .. }) => fixed.iter().map(|(key, _)| key.clone()).collect(),
        Some(Type::Any(of)) => of.iter().flat_map(|member| names(&Some(Arc::clone(member)))).collect(),
        _ => Vec::new(),
    };
    found.sort();
    found.dedup();
    found
}

/// A path without a computed step.
fn constants(path: &[Term]) -> Option<Vec<String>> {
    let text = |step: &Term| match step {
        Term::Const(Value::String(text)) => Some(text.to_string()),
        _ => None,
    };
    path.iter().map(text).collect()
}
