//! Rules as OPA's compiler sees them after its rewriting: every variable has one meaning, every name that is no variable
//! is a path under `input` or `data`, and a call inside of an expression is a statement of its own before it. Only the
//! checks read this; the engine gets the text. It judges nothing.

mod lower;
mod order;
mod scope;

use std::{collections::HashMap, rc::Rc};

use regorus::Value;

pub(super) use self::{
    lower::{Found, Lowered, Names, module, query},
    order::ordered,
};
use super::{graph::is_identifier, json};

/// A variable of one rule; the first two are the documents.
pub(super) type Var = usize;
pub(super) const DATA: Var = 0;
pub(super) const INPUT: Var = 1;

/// Row and column as the engine counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Pos {
    pub row: u32,
    pub col: u32,
}

#[derive(Debug, Clone)]
pub(super) enum Term {
    Const(Value),
    Var(Var),
    Ref(Box<Reference>),
    Array(Vec<Term>),
    Set(Vec<Term>),
    Object(Vec<(Term, Term)>),
    Closure(Rc<Closure>),
    /// What the checks say nothing about.
    Unknown,
}

#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub head: Var,
    pub path: Vec<Term>,
    pub at: Pos,
}

/// A comprehension.
#[derive(Debug)]
pub(super) struct Closure {
    pub shape: Shape,
    /// One, or key and value.
    pub terms: Vec<Term>,
    pub body: Vec<Statement>,
    /// Unique in its rule.
    pub id: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Array,
    Set,
    Object,
}

#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub kind: Kind,
    pub is_negated: bool,
    /// Made from a part of an expression.
    pub is_generated: bool,
    /// `:=`: the left side only takes.
    pub is_assignment: bool,
    pub with: Rc<[With]>,
    pub at: Pos,
}

#[derive(Debug, Clone)]
pub(super) struct With {
    pub target: Target,
    pub value: Term,
    /// The function that the value names, when it may name one.
    pub function: Option<Function>,
    pub at: Pos,
    pub value_at: Pos,
}

/// What `with` replaces.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Document(Reference),
    Builtin(String),
    /// Nothing that can be replaced.
    Other,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Term(Term),
    Call { function: Function, arguments: Vec<Term> },
    Every { domain: Term, body: Vec<Statement> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Function {
    Builtin(String),
    /// A builtin that is written as an operator.
    Operator(&'static str),
    /// A path under `data`.
    Rule(Vec<String>),
}

/// One body of a rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// Path under `data`.
    pub path: Vec<Term>,
    pub arguments: Option<Vec<Term>>,
    pub is_set: bool,
    /// Its value, or the element of a set.
    pub value: Term,
    pub body: Vec<Statement>,
    pub vars: Rc<Vars>,
}

/// What is known of the variables of a rule.
#[derive(Debug, Default)]
pub(super) struct Vars {
    names: Vec<String>,
    /// The text of what a generated variable stands for.
    subjects: HashMap<Var, String>,
}

// === impl Statement ===

impl Statement {
    pub(super) fn call(function: Function, arguments: Vec<Term>, at: Pos) -> Self {
        Self::new(Kind::Call { function, arguments }, at)
    }

    pub(super) fn equal(left: Term, right: Term, at: Pos) -> Self {
        Self::call(Function::Operator("eq"), vec![left, right], at)
    }

    pub(super) fn new(kind: Kind, at: Pos) -> Self {
        Self { kind, is_negated: false, is_generated: false, is_assignment: false, with: Rc::from([]), at }
    }

    /// Both sides of a unification.
    pub(super) fn sides(&self) -> Option<(&Term, &Term)> {
        match &self.kind {
            Kind::Call { function: Function::Operator("eq"), arguments } => match arguments.as_slice() {
                [left, right] => Some((left, right)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Its own terms, without those of a body in it.
    pub(super) fn terms(&self) -> impl Iterator<Item = &Term> {
        let own: &[Term] = match &self.kind {
            Kind::Term(term) | Kind::Every { domain: term, .. } => std::slice::from_ref(term),
            Kind::Call { arguments, .. } => arguments,
        };
        own.iter()
    }
}

// === impl Rule ===

impl Rule {
    /// Its path as messages write it.
    pub(super) fn name(&self) -> String {
        self.vars.text(&Reference { head: DATA, path: self.path.clone(), at: Pos::default() }, usize::MAX)
    }
}

// === impl Function ===

impl Function {
    /// As messages have it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Builtin(name) => name.clone(),
            Self::Operator(name) => (*name).to_owned(),
            Self::Rule(path) => {
                let path: Vec<Option<String>> = path.iter().cloned().map(Some).collect();
                super::graph::dotted(&path)
            }
        }
    }
}

// === impl Term ===

impl Term {
    /// Calls `visit` with every variable in it, but those of closures. The head of a reference is one.
    pub(super) fn vars(&self, visit: &mut impl FnMut(Var)) {
        match self {
            Self::Const(_) | Self::Closure(_) | Self::Unknown => {}
            Self::Var(var) => visit(*var),
            Self::Ref(reference) => {
                visit(reference.head);
                reference.path.iter().for_each(|step| step.vars(visit));
            }
            Self::Array(items) | Self::Set(items) => items.iter().for_each(|item| item.vars(visit)),
            Self::Object(members) => members.iter().for_each(|(key, value)| {
                key.vars(visit);
                value.vars(visit);
            }),
        }
    }

    /// Calls `visit` with every closure in it that is in no other.
    pub(super) fn closures<'t>(&'t self, visit: &mut impl FnMut(&'t Rc<Closure>)) {
        match self {
            Self::Closure(closure) => visit(closure),
            Self::Ref(reference) => reference.path.iter().for_each(|step| step.closures(visit)),
            Self::Array(items) | Self::Set(items) => items.iter().for_each(|item| item.closures(visit)),
            Self::Object(members) => members.iter().for_each(|(key, value)| {
                key.closures(visit);
                value.closures(visit);
            }),
            Self::Const(_) | Self::Var(_) | Self::Unknown => {}
        }
    }

    pub(super) fn is_const(&self) -> bool {
        matches!(self, Self::Const(_))
    }
}

// === impl Vars ===

impl Vars {
    pub(super) fn new() -> Self {
        Self { names: vec!["data".to_owned(), "input".to_owned()], subjects: HashMap::new() }
    }

    pub(super) fn add(&mut self, name: &str) -> Var {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// A variable that stands for something, which messages name instead.
    pub(super) fn stand_in(&mut self, text: String) -> Var {
        let var = self.add("_");
        self.subjects.insert(var, text);
        var
    }

    /// A reference as messages write it: its first steps, all for `usize::MAX`.
    pub(super) fn text(&self, reference: &Reference, steps: usize) -> String {
        let mut out = self.name(reference.head);
        for step in reference.path.iter().take(steps) {
            match step {
                Term::Const(Value::String(name)) if is_identifier(name) => {
                    out.push('.');
                    out.push_str(name);
                }
                step => {
                    out.push('[');
                    out.push_str(&self.term(step));
                    out.push(']');
                }
            }
        }
        out
    }

    fn name(&self, var: Var) -> String {
        self.subjects.get(&var).or_else(|| self.names.get(var)).cloned().unwrap_or_default()
    }

    /// A term as messages write it.
    pub(super) fn term(&self, term: &Term) -> String {
        let list = |items: &[Term]| items.iter().map(|item| self.term(item)).collect::<Vec<_>>().join(", ");
        match term {
            Term::Const(Value::String(text)) => json::quote(text),
            Term::Const(value) => json::to_opa_json(value),
            Term::Var(var) => self.name(*var),
            Term::Ref(reference) => self.text(reference, usize::MAX),
            Term::Array(items) => format!("[{}]", list(items)),
            Term::Set(items) if items.is_empty() => "set()".to_owned(),
            Term::Set(items) => format!("{{{}}}", list(items)),
            Term::Object(members) => {
                let pair = |(key, value): &(Term, Term)| format!("{}: {}", self.term(key), self.term(value));
                format!("{{{}}}", members.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
            Term::Closure(_) | Term::Unknown => "_".to_owned(),
        }
    }
}
