//! From the parser's tree to [`super::Rule`]s, as OPA's compiler rewrites rules, with its complaints about declarations
//! on the way. Names are resolved as there: what a body declares hides imports and rules.

mod statements;
mod terms;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use regorus::{
    Value,
    unstable::{AssignOp, Expr, Literal, Module, Query, Ref, Rule as Tree, RuleHead, Span},
};

use self::terms::steps;
use super::{
    Pos, Rule, Statement, Term, Var, Vars,
    scope::{Occurrence, Scopes},
};
use crate::policy::{
    lower::template,
    syntax::{self, Root, Segment},
};

/// What names mean in a module.
#[derive(Debug)]
pub(in crate::policy) struct Names<'a> {
    pub all: &'a syntax::Names,
    pub package: &'a [String],
    pub imports: &'a HashMap<String, (Root, Vec<Segment>)>,
    /// The imports that were named.
    pub used: RefCell<HashSet<String>>,
}

/// How much a complaint matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Found {
    /// Nothing further is checked.
    Fatal,
    /// An error, and the rest is checked.
    Error,
    /// The same, but before Rego v1 only where OPA is strict.
    New,
    /// An error where OPA is strict.
    Strict,
}

/// A module or query.
#[derive(Debug, Default)]
pub(in crate::policy) struct Lowered {
    /// The bodies of each rule of the module.
    pub rules: Vec<Vec<Rule>>,
    pub found: Vec<(Found, String, Pos)>,
    /// Is it Rego v1, by its settings or by an import?
    pub is_v1: bool,
}

/// The rules of a module.
pub(in crate::policy) fn module(module: &Module, names: &Names<'_>) -> Lowered {
    let mut lowered = Lowered { is_v1: module.rego_v1, ..Lowered::default() };
    for rule in &module.policy {
        let mut lowering = Lowering::new(names);
        let rules = lowering.rule(rule);
        lowered.found.append(&mut lowering.found);
        lowered.rules.push(rules);
    }
    lowered
}

/// A query, as a rule of one body.
pub(in crate::policy) fn query(query: &Query, names: &Names<'_>) -> Lowered {
    let mut lowering = Lowering::new(names);
    lowering.is_query = true;
    lowering.scopes.push(declared(query));
    let mut body = Vec::new();
    lowering.statements(query, &mut body);
    lowering.close();
    let rule = Rule {
        path: Vec::new(),
        arguments: None,
        is_set: false,
        value: Term::Const(Value::from(true)),
        body,
        vars: Rc::new(lowering.vars),
    };
    Lowered { rules: vec![vec![rule]], found: lowering.found, is_v1: true }
}

struct Lowering<'a> {
    names: &'a Names<'a>,
    vars: Vars,
    scopes: Scopes,
    /// Variables that nothing declares, by name.
    free: BTreeMap<String, Var>,
    closures: usize,
    /// In queries OPA leaves `==` a comparison of anything.
    is_query: bool,
    /// A body had a name that nobody uses: those around it are not asked.
    idle: bool,
    found: Vec<(Found, String, Pos)>,
}

impl<'a> Lowering<'a> {
    fn new(names: &'a Names<'a>) -> Self {
        let (vars, scopes) = (Vars::new(), Scopes::default());
        Self {
            names,
            vars,
            scopes,
            free: BTreeMap::new(),
            closures: 0,
            is_query: false,
            idle: false,
            found: Vec::new(),
        }
    }

    fn fail(&mut self, message: String, at: Pos) {
        self.found.push((Found::Fatal, message, at));
    }

    fn rule(&mut self, rule: &Tree) -> Vec<Rule> {
        self.scopes.push(HashSet::new());
        let none: &[Ref<Expr>] = &[];
        let (refr, arguments) = match rule {
            Tree::Default { refr, args, .. } => (refr, args.as_slice()),
            Tree::Spec { head: RuleHead::Func { refr, args, .. }, .. } => (refr, args.as_slice()),
            Tree::Spec { head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, .. } => (refr, none),
        };
        let mut hiding = HashSet::new();
        arguments.iter().for_each(|argument| pattern_names(argument, &mut hiding));
        self.scopes.hide(hiding);
        let mut own = Vec::new();
        let lowered: Vec<Term> = arguments.iter().map(|argument| self.argument(argument, &mut own)).collect();
        let is_function = matches!(rule, Tree::Spec { head: RuleHead::Func { .. }, .. }) || !arguments.is_empty();
        let at = start(refr);
        let outer = self.scopes.clone();
        let mut idle = outer.idle_arguments();
        let mut rules = Vec::new();
        let mut make = |lowering: &mut Self, query: Option<&Query>, value: Option<&Ref<Expr>>, is_set: bool| {
            lowering.scopes = outer.clone();
            lowering.scopes.hide(query.map(declared).unwrap_or_default());
            lowering.idle = false;
            let mut body = own.clone();
            if let Some(query) = query {
                lowering.statements(query, &mut body);
            }
            let path = lowering.head(refr, &mut body);
            let value = match value {
                Some(value) => lowering.hoisted(value, &mut body),
                None => Term::Const(Value::from(true)),
            };
            let still = lowering.scopes.idle_arguments();
            idle.retain(|name| still.contains(name));
            lowering.close();
            let arguments = is_function.then(|| lowered.clone());
            rules.push((path, arguments, is_set, value, body));
        };
        match rule {
            Tree::Default { value, .. } => make(self, None, Some(value), false),
            Tree::Spec { head, bodies, .. } => {
                let (value, is_set) = match head {
                    RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                        (assign.as_ref().map(|assign| &assign.value), false)
                    }
                    RuleHead::Set { key, .. } => (key.as_ref(), true),
                };
                if bodies.is_empty() {
                    make(self, None, value, is_set);
                }
                for (index, body) in bodies.iter().enumerate() {
                    let value = body
                        .assign
                        .as_ref()
                        .map(|assign| &assign.value)
                        .or(value.filter(|_| index == 0 || !body.is_else));
                    make(self, Some(&body.query), value, is_set);
                }
            }
        }
        if !matches!(rule, Tree::Default { .. }) {
            let mut idle: Vec<String> = idle.into_iter().collect();
            idle.sort();
            for name in idle {
                let hint = "(hint: use _ (wildcard variable) instead)";
                self.found.push((Found::Strict, format!("unused argument {name}. {hint}"), at));
            }
        }
        let vars = Rc::new(std::mem::take(&mut self.vars));
        let rules = rules.into_iter().map(|(path, arguments, is_set, value, body)| Rule {
            path,
            arguments,
            is_set,
            value,
            body,
            vars: Rc::clone(&vars),
        });
        rules.collect()
    }

    /// The path of a rule's head.
    fn head(&mut self, refr: &Ref<Expr>, body: &mut Vec<Statement>) -> Vec<Term> {
        let text = |name: &str| Term::Const(Value::from(name));
        let mut path: Vec<Term> = self.names.package.iter().map(|name| text(name)).collect();
        if let Some((root, links)) = steps(refr) {
            if let Expr::Var { span, .. } = root.as_ref() {
                path.push(text(span.text()));
            }
            for link in links {
                let step = self.step(link, body);
                path.push(step);
            }
        }
        path
    }

    /// An argument: its variables are declared by it.
    fn argument(&mut self, expr: &Ref<Expr>, body: &mut Vec<Statement>) -> Term {
        match expr.as_ref() {
            Expr::Var { span, .. } if span.text() != "_" => {
                let at = place(span);
                let declared = self.scopes.declare(span.text(), Occurrence::Argument, at, &mut self.vars);
                Term::Var(declared.unwrap_or_else(|_| self.scopes.named(span.text(), &mut self.vars, &mut self.free)))
            }
            Expr::Array { items, .. } => Term::Array(items.iter().map(|item| self.argument(item, body)).collect()),
            Expr::Object { fields, .. } => {
                let pair = |(_, key, value): &(Span, Ref<Expr>, Ref<Expr>)| {
                    let key = self.term(key, body);
                    (key, self.argument(value, body))
                };
                Term::Object(fields.iter().map(pair).collect())
            }
            // A string with expressions is no call.
            Expr::Call { fcn, .. } if syntax::dotted_name(fcn).is_none_or(|name| name != template::BUILTIN) => {
                self.fail("rule arguments cannot contain calls".to_owned(), start(expr));
                Term::Unknown
            }
            _ => self.term(expr, body),
        }
    }

    /// Ends the innermost scope.
    fn close(&mut self) {
        let clean = self.found.iter().all(|(found, ..)| *found != Found::Fatal) && !self.idle;
        for idle in self.scopes.pop() {
            if clean {
                let (found, what) =
                    if idle.is_assigned { (Found::Strict, "assigned") } else { (Found::Error, "declared") };
                self.idle = true;
                self.found.push((found, format!("{what} var {} unused", idle.name), idle.at));
            }
        }
    }
}

fn generated(statement: Statement) -> Statement {
    Statement { is_generated: true, ..statement }
}

/// The names that the statements of a body declare.
fn declared(query: &Query) -> HashSet<String> {
    let mut found = HashSet::new();
    for statement in &query.stmts {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => found.extend(vars.iter().map(|var| var.text().to_owned())),
            Literal::SomeIn { key, value, .. } => {
                key.iter().chain([value]).for_each(|pattern| pattern_names(pattern, &mut found));
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref() {
                    pattern_names(lhs, &mut found);
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }
    found
}

/// The variables of a pattern: its own, in arrays and in values of objects.
fn pattern_names(pattern: &Ref<Expr>, found: &mut HashSet<String>) {
    match pattern.as_ref() {
        Expr::Var { span, .. } if span.text() != "_" => _ = found.insert(span.text().to_owned()),
        Expr::Array { items, .. } => items.iter().for_each(|item| pattern_names(item, found)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| pattern_names(value, found)),
        _ => {}
    }
}

/// The names in an expression, but those in its comprehensions.
fn named_in(expr: &Ref<Expr>, found: &mut HashSet<String>) {
    match expr.as_ref() {
        Expr::Var { span, .. } => _ = found.insert(span.text().to_owned()),
        _ => syntax::parts(expr).into_iter().for_each(|part| named_in(part, found)),
    }
}

fn start(expr: &Ref<Expr>) -> Pos {
    let (row, col) = syntax::start(expr);
    Pos { row, col }
}

fn place(span: &Span) -> Pos {
    Pos { row: span.line, col: span.col }
}
