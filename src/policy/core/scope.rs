//! Which variable a name means, statement by statement: what `some`, `:=` and arguments declare, what was named before,
//! and what nobody names again. It writes down OPA's complaints; it resolves no rule and no import.

use std::collections::{BTreeMap, HashSet};

use super::{Pos, Var, Vars};

/// How a name came into a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occurrence {
    Argument,
    Seen,
    Assigned,
    Declared,
}

#[derive(Debug, Clone)]
struct Entry {
    var: Var,
    occurrence: Occurrence,
    /// How often it was named.
    count: usize,
    /// The statement that brought it in.
    at: Pos,
}

/// The names of one body.
#[derive(Debug, Clone, Default)]
struct Scope {
    /// They hide rules and imports, also before they are declared.
    hiding: HashSet<String>,
    entries: BTreeMap<String, Entry>,
}

/// The bodies around a statement, the innermost last.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes(Vec<Scope>);

/// A name that nobody uses.
#[derive(Debug)]
pub(super) struct Idle {
    pub name: String,
    pub is_assigned: bool,
    pub at: Pos,
}

// === impl Scopes ===

impl Scopes {
    pub(super) fn push(&mut self, hiding: HashSet<String>) {
        self.0.push(Scope { hiding, entries: BTreeMap::new() });
    }

    /// More names for the innermost scope.
    pub(super) fn hide(&mut self, names: HashSet<String>) {
        if let Some(scope) = self.0.last_mut() {
            scope.hiding.extend(names);
        }
    }

    /// Does the name mean a variable, whatever rules and imports there are?
    pub(super) fn hides(&self, name: &str) -> bool {
        self.0.iter().any(|scope| scope.hiding.contains(name))
    }

    /// Was it declared, assigned or an argument?
    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.find(name).is_some_and(|entry| entry.occurrence != Occurrence::Seen)
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.0.iter().rev().find_map(|scope| scope.entries.get(name))
    }

    /// A variable is named.
    pub(super) fn named(&mut self, name: &str, vars: &mut Vars, free: &mut BTreeMap<String, Var>) -> Var {
        if let Some(entry) = self.0.iter_mut().rev().find_map(|scope| scope.entries.get_mut(name)) {
            entry.count += 1;
            return entry.var;
        }
        let var = *free.entry(name.to_owned()).or_insert_with(|| vars.add(name));
        self.insert(name, var, Occurrence::Seen, Pos::default());
        var
    }

    /// A variable is declared; an error is OPA's sentence.
    pub(super) fn declare(
        &mut self,
        name: &str,
        occurrence: Occurrence,
        at: Pos,
        vars: &mut Vars,
    ) -> Result<Var, String> {
        let var = vars.add(name);
        match self.0.last().and_then(|scope| scope.entries.get(name)).map(|entry| entry.occurrence) {
            Some(Occurrence::Seen) => Err(format!("var {name} referenced above")),
            Some(Occurrence::Assigned) => Err(format!("var {name} assigned above")),
            Some(Occurrence::Declared) => Err(format!("var {name} declared above")),
            Some(Occurrence::Argument) => Err(format!("arg {name} redeclared")),
            None => {
                self.insert(name, var, occurrence, at);
                Ok(var)
            }
        }
    }

    fn insert(&mut self, name: &str, var: Var, occurrence: Occurrence, at: Pos) {
        if let Some(scope) = self.0.last_mut() {
            scope.entries.insert(name.to_owned(), Entry { var, occurrence, count: 1, at });
        }
    }

    /// Closes the innermost scope.
    pub(super) fn pop(&mut self) -> Vec<Idle> {
        let entries = self.0.pop().map(|scope| scope.entries).unwrap_or_default();
        let idle = |occurrence| {
            let idle = move |(_, entry): &(&String, &Entry)| entry.occurrence == occurrence && entry.count <= 1;
            entries.iter().filter(idle).map(move |(name, entry)| Idle {
                name: name.clone(),
                is_assigned: occurrence == Occurrence::Assigned,
                at: entry.at,
            })
        };
        idle(Occurrence::Assigned).chain(idle(Occurrence::Declared)).collect()
    }

    /// The arguments that nobody has named.
    pub(super) fn idle_arguments(&self) -> HashSet<String> {
        let entries = self.0.first().into_iter().flat_map(|scope| &scope.entries);
        let idle = entries.filter(|(_, entry)| entry.occurrence == Occurrence::Argument && entry.count <= 1);
        idle.map(|(name, _)| name.clone()).collect()
    }
}
