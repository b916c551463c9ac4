//! The order in which OPA would evaluate the statements of a body: each after what it needs a value from. It complains
//! about nothing; where there is no such order, another check says why.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Closure, DATA, Function, INPUT, Kind, Statement, Term, Var};
use crate::policy::types::spend;

/// The statements in their order; `None` when some never have what they need. `arity` counts the inputs of a function,
/// `known` holds the variables from around the body and takes those of the body, which `taken` lists.
pub(in crate::policy) fn ordered<'s>(
    body: &'s [Statement],
    arity: &dyn Fn(&Function) -> Option<usize>,
    known: &mut HashSet<Var>,
    taken: &mut Vec<Var>,
) -> Option<Vec<&'s Statement>> {
    let mut own = HashSet::new();
    for statement in body {
        vars_of(statement, &mut |var| _ = own.insert(var));
    }
    let needs: Vec<HashSet<Var>> = body
        .iter()
        .map(|statement| {
            let mut closed = HashSet::new();
            closed_vars(statement, &mut closed);
            closed.retain(|var| own.contains(var));
            closed
        })
        .collect();
    // A statement is looked at again when one of its variables has got a value.
    let mut users: HashMap<Var, Vec<usize>> = HashMap::new();
    for (index, (statement, closed)) in body.iter().zip(&needs).enumerate() {
        vars_of(statement, &mut |var| users.entry(var).or_default().push(index));
        closed.iter().for_each(|var| users.entry(*var).or_default().push(index));
    }
    let mut order = Vec::with_capacity(body.len());
    let mut waiting: BTreeSet<usize> = (0..body.len()).collect();
    let mut candidates = waiting.clone();
    let mut at = 0;
    while let Some(index) = candidates.range(at..).next().or_else(|| candidates.first()).copied() {
        candidates.remove(&index);
        at = index + 1;
        let (Some(statement), Some(closed)) = (body.get(index), needs.get(index)) else { continue };
        if !spend(1) || !closed.iter().all(|var| is_known(*var, known)) {
            continue;
        }
        let given = outputs(statement, arity, known);
        let mut ready = true;
        vars_of(statement, &mut |var| ready &= is_known(var, known) || given.contains(&var));
        if ready {
            waiting.remove(&index);
            order.push(statement);
            for var in given.into_iter().filter(|var| known.insert(*var)) {
                taken.push(var);
                let users = users.get(&var).into_iter().flatten();
                candidates.extend(users.filter(|user| waiting.contains(user)));
            }
        }
    }
    if !waiting.is_empty() {
        return None;
    }
    Some(order)
}

fn is_known(var: Var, known: &HashSet<Var>) -> bool {
    matches!(var, DATA | INPUT) || known.contains(&var)
}

/// The variables that a statement names itself.
fn vars_of(statement: &Statement, visit: &mut impl FnMut(Var)) {
    statement.terms().for_each(|term| term.vars(visit));
    statement.with.iter().for_each(|with| with.value.vars(visit));
}

/// The variables that closures in a statement name.
fn closed_vars(statement: &Statement, found: &mut HashSet<Var>) {
    let values = statement.with.iter().map(|with| &with.value);
    statement.terms().chain(values).for_each(|term| term.closures(&mut |closure| of_closure(closure, found)));
    if let Kind::Every { body, .. } = &statement.kind {
        body.iter().for_each(|statement| of_statement(statement, found));
    }
}

fn of_closure(closure: &Closure, found: &mut HashSet<Var>) {
    closure.body.iter().for_each(|statement| of_statement(statement, found));
    for term in &closure.terms {
        term.vars(&mut |var| _ = found.insert(var));
        term.closures(&mut |closure| of_closure(closure, found));
    }
}

fn of_statement(statement: &Statement, found: &mut HashSet<Var>) {
    vars_of(statement, &mut |var| _ = found.insert(var));
    closed_vars(statement, found);
}

/// The variables that a statement gives values to, when its turn comes.
fn outputs(statement: &Statement, arity: &dyn Fn(&Function) -> Option<usize>, known: &HashSet<Var>) -> HashSet<Var> {
    let mut given = HashSet::new();
    let all_known = |term: &Term| {
        let mut all = true;
        term.vars(&mut |var| all &= is_known(var, known));
        all
    };
    if statement.is_negated || !statement.with.iter().all(|with| all_known(&with.value)) {
        return given;
    }
    statement.terms().for_each(|term| steps(term, known, &mut given));
    if let Some((left, right)) = statement.sides() {
        unify(left, right, known, statement.is_assignment, &mut given);
    } else if let Kind::Call { function, arguments } = &statement.kind
        && let Some(count) = arity(function)
        && let Some((inputs, [output])) = arguments.split_at_checked(count)
    {
        let mut ready = true;
        let mut need = |var: Var| ready &= is_known(var, known) || given.contains(&var);
        inputs.iter().for_each(|input| input.vars(&mut need));
        if ready {
            pattern(output, &mut given);
        }
    }
    given
}

/// The variables that steps of references get values from.
fn steps(term: &Term, known: &HashSet<Var>, given: &mut HashSet<Var>) {
    match term {
        Term::Ref(reference) if is_known(reference.head, known) => {
            for step in &reference.path {
                match step {
                    Term::Ref(_) => steps(step, known, given),
                    step => step.vars(&mut |var| _ = given.insert(var)),
                }
            }
        }
        Term::Array(items) | Term::Set(items) => items.iter().for_each(|item| steps(item, known, given)),
        Term::Object(members) => members.iter().for_each(|(key, value)| {
            steps(key, known, given);
            steps(value, known, given);
        }),
        _ => {}
    }
}

/// The variables that `left = right` gives values to.
fn unify(left: &Term, right: &Term, known: &HashSet<Var>, one_way: bool, given: &mut HashSet<Var>) {
    match (left, right) {
        (Term::Array(left), Term::Array(right)) => {
            if left.len() == right.len() {
                let pairs = || left.iter().zip(right);
                pairs().for_each(|(left, right)| unify(left, right, known, one_way, given));
                pairs().rev().for_each(|(left, right)| unify(left, right, known, one_way, given));
            }
        }
        (Term::Object(left), Term::Object(right)) => {
            for (key, value) in left {
                let same = |other: &&(Term, Term)| match (key, &other.0) {
                    (Term::Const(own), Term::Const(other)) => own == other,
                    _ => false,
                };
                if let Some((_, other)) = right.iter().find(same) {
                    unify(value, other, known, one_way, given);
                }
            }
        }
        _ => {
            let ready = |term: &Term, given: &HashSet<Var>| {
                let mut all = true;
                term.vars(&mut |var| all &= is_known(var, known) || given.contains(&var));
                all
            };
            if ready(right, given) {
                pattern(left, given);
            }
            if !one_way && ready(left, given) {
                pattern(right, given);
            }
        }
    }
}

/// The variables that a pattern binds.
fn pattern(term: &Term, given: &mut HashSet<Var>) {
    match term {
        Term::Var(var) => _ = given.insert(*var),
        Term::Array(items) => items.iter().for_each(|item| pattern(item, given)),
        Term::Object(members) => members.iter().for_each(|(_, value)| pattern(value, given)),
        _ => {}
    }
}
