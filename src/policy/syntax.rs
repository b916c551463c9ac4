//! Reads what a module refers to off its syntax tree: references with their absolute path, calls, and how deep it
//! nests. It resolves names as Rego does (locals shadow imports, imports shadow rules) and judges nothing; the checks do.

mod growth;
mod infix;
mod pattern;
pub(super) mod walk;

use std::collections::{HashMap, HashSet};

use regorus::{
    Value,
    unstable::{Expr, Import, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleHead, Span},
};

pub(super) use self::infix::infix;
pub(super) use self::pattern::Misreading;
use self::walk::Walker;
use super::{Location, builtins};

/// One segment of a path; `None` when it is computed.
pub(super) type Segment = Option<String>;

/// Where a reference starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Input,
    Data,
}

/// `data.a.b[x]` or `input.token.claims.role`, after imports, package names and simple local aliases were resolved.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub root: Root,
    pub path: Vec<Segment>,
    pub location: Location,
}

/// What a call names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Callee {
    /// A function rule, by its path under `data`.
    Function(Vec<String>),
    /// A dotted name that no rule defines: a builtin, or nothing.
    Builtin(String),
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub callee: Callee,
    pub location: Location,
}

/// A builtin's name in the text.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    pub name: String,
    pub kind: MentionKind,
    /// Byte offset of the name.
    pub start: usize,
    pub location: Location,
}

/// The name of an imported document where a reference starts with it.
#[derive(Debug, Clone)]
pub(super) struct Alias {
    pub name: String,
    /// `data.a.b`.
    pub stands_for: String,
    /// Byte offset of the name.
    pub start: usize,
    pub location: Location,
}

/// What a builtin's name stands there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MentionKind {
    /// A call, with its result as last argument or not.
    Call { output: bool },
    /// `with <here> as …`.
    Replaced,
    /// `with … as <here>`.
    Replacement,
}

/// What a rule definition defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// One value.
    Complete,
    /// Members of an object, by a computed key.
    Object,
    /// Elements of a set.
    Set,
    Function,
    Default,
    /// No rule: an ad-hoc query.
    Query,
}

/// What one rule definition refers to.
#[derive(Debug, Clone)]
pub(super) struct RuleFacts {
    pub kind: RuleKind,
    /// Path under `data`: the package, then the head; `None` where the head has a variable.
    pub path: Vec<Segment>,
    /// How many segments of the path are the package's.
    pub package_length: usize,
    /// The number of parameters of a function.
    pub function: Option<usize>,
    pub references: Vec<Reference>,
    pub calls: Vec<Call>,
    pub mentions: Vec<Mention>,
    pub aliases: Vec<Alias>,
    /// What the engine would read in another way than OPA.
    pub misreadings: Vec<(Misreading, Location)>,
    /// Deepest nesting of expressions, in nodes.
    pub depth: usize,
    /// Most loops that one body nests, those of its comprehensions included.
    pub loops: usize,
    /// How much deeper than its inputs a value can become: the nested constructors around variables, statement by
    /// statement, without what called functions add.
    pub nest: usize,
    /// Multiplications: every one may double the digits of a number.
    pub products: usize,
    /// Has it an operator of numbers?
    pub arithmetic: bool,
    /// May it make a number that is no integer, of integers or of text?
    pub fractions: bool,
    /// How often its largest value doubles one that it is made of, by holding it more than once.
    pub doublings: usize,
    /// Statements of its longest body.
    pub statements: usize,
    pub location: Location,
}

/// Names that resolution needs from all modules.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Package path → first segments of the rules in it.
    rules: HashMap<Vec<String>, HashSet<String>>,
    /// Function path → arity.
    pub functions: HashMap<Vec<String>, usize>,
}

// === impl RuleKind ===

impl RuleKind {
    fn of(rule: &Rule, path: &[Segment]) -> Self {
        match rule {
            Rule::Default { .. } => Self::Default,
            Rule::Spec { head: RuleHead::Func { .. }, .. } => Self::Function,
            Rule::Spec { head: RuleHead::Set { .. }, .. } => Self::Set,
            Rule::Spec { .. } if path.iter().any(Option::is_none) => Self::Object,
            Rule::Spec { .. } => Self::Complete,
        }
    }
}

// === impl Names ===

impl Names {
    pub(super) fn collect(modules: &[Ref<Module>]) -> Self {
        let mut names = Self::default();
        for module in modules {
            let package = package_path(module);
            for rule in &module.policy {
                let Some((_, head)) = head_path(rule) else { continue };
                if let Some(Some(first)) = head.first() {
                    names.rules.entry(package.clone()).or_default().insert(first.clone());
                }
                if let Some(arity) = arity(rule) {
                    let path = package.iter().cloned().chain(head.into_iter().flatten()).collect();
                    names.functions.entry(path).or_insert(arity);
                }
            }
        }
        names
    }

    /// May the name stand for a document or a rule, in some package?
    pub(super) fn is_document(&self, name: &str) -> bool {
        root_of(name).is_some() || self.rules.values().any(|rules| rules.contains(name))
    }

    /// Does a package have a rule (or rules below a name) of this name?
    pub(super) fn is_rule(&self, package: &[String], name: &str) -> bool {
        self.rules.get(package).is_some_and(|rules| rules.contains(name))
    }

    /// The arity of the function that a dotted name means in a package, when it is one.
    pub(super) fn arity_near(&self, package: &[String], name: &str) -> Option<usize> {
        let mut path: Vec<String> = package.to_vec();
        match name.strip_prefix("data.") {
            Some(rest) => path = rest.split('.').map(str::to_owned).collect(),
            None => path.extend(name.split('.').map(str::to_owned)),
        }
        self.functions.get(&path).copied()
    }

    pub(super) fn function_arity(&self, callee: &Callee) -> Option<usize> {
        match callee {
            Callee::Function(path) => self.functions.get(path).copied(),
            Callee::Builtin(_) => None,
        }
    }
}

/// The number of arguments of what is called, a function or a builtin.
pub(super) fn called_arity(
    function: &Ref<Expr>,
    names: &Names,
    package: &[String],
    imports: &HashMap<String, (Root, Vec<Segment>)>,
) -> Option<usize> {
    let name = dotted_name(function)?;
    let (first, rest) = name.split_once('.').map_or((name.as_str(), None), |(first, rest)| (first, Some(rest)));
    if let Some((Root::Data, path)) = imports.get(first) {
        let rest = rest.into_iter().flat_map(|rest| rest.split('.').map(str::to_owned));
        let path: Vec<String> = path.iter().flatten().cloned().chain(rest).collect();
        return names.functions.get(&path).copied();
    }
    names.arity_near(package, &name).or_else(|| builtins::arity(&name))
}

/// The package of a module, as segments under `data`.
pub(super) fn package_path(module: &Module) -> Vec<String> {
    flatten(&module.package.refr)
        .map(|(root, rest)| {
            let mut path = vec![root.text().to_owned()];
            path.extend(rest.into_iter().filter_map(Link::constant));
            path
        })
        .unwrap_or_default()
}

/// What an import brings in from below `input` or `data`.
pub(super) struct Imported {
    /// The name that it has in the module.
    pub alias: String,
    pub root: Root,
    pub path: Vec<Segment>,
    pub location: Location,
}

/// The name under which a module knows what it imports.
pub(super) fn imported_name(import: &Import) -> Option<String> {
    match (&import.r#as, flatten(&import.refr)?.1.pop()) {
        (Some(alias), _) => Some(alias.text().to_owned()),
        (None, Some(last)) => last.constant(),
        (None, None) => None,
    }
}

/// The imports of a module, in order, but those of keywords.
pub(super) fn imported(module: &Module) -> impl Iterator<Item = Imported> {
    module.imports.iter().filter_map(|import| {
        let (start, rest) = flatten(&import.refr)?;
        Some(Imported {
            alias: imported_name(import)?,
            root: root_of(start.text())?,
            path: rest.into_iter().map(Link::segment).collect(),
            location: location(&import.span),
        })
    })
}

/// What the imports of a module stand for.
pub(super) fn imports(module: &Module) -> HashMap<String, (Root, Vec<Segment>)> {
    imported(module).map(|import| (import.alias, (import.root, import.path))).collect()
}

/// What a rule defines, and where.
pub(super) fn defined(module: &Module, rule: &Rule) -> Option<(RuleKind, Vec<Segment>)> {
    let path: Vec<Segment> = package_path(module).into_iter().map(Some).chain(head_path(rule)?.1).collect();
    Some((RuleKind::of(rule, &path), path))
}

/// The facts of every rule of a module.
pub(super) fn rules(module: &Module, names: &Names) -> Vec<RuleFacts> {
    let package = package_path(module);
    let imports = imports(module);
    module
        .policy
        .iter()
        .filter_map(|rule| {
            let (_, segments) = head_path(rule)?;
            let path: Vec<Segment> = package.iter().cloned().map(Some).chain(segments).collect();
            let mut walker = Walker {
                names,
                package: &package,
                imports: &imports,
                scopes: Vec::new(),
                level: 0,
                facts: RuleFacts {
                    package_length: package.len(),
                    function: arity(rule),
                    doublings: growth::of_rule(rule),
                    ..RuleFacts::new(RuleKind::of(rule, &path), path, location(rule.span()))
                },
            };
            walker.rule(rule);
            Some(walker.facts)
        })
        .collect()
}

/// The facts of an ad-hoc query.
pub(super) fn query(query: &Query, names: &Names) -> RuleFacts {
    query_in(query, names, &[], &HashMap::new())
}

/// As [`query`], of one that stands in a package.
pub(super) fn query_in(
    query: &Query,
    names: &Names,
    package: &[String],
    imports: &HashMap<String, (Root, Vec<Segment>)>,
) -> RuleFacts {
    let facts = RuleFacts {
        doublings: growth::of_query(query),
        ..RuleFacts::new(RuleKind::Query, Vec::new(), location(&query.span))
    };
    let mut walker = Walker { names, package, imports, scopes: Vec::new(), level: 0, facts };
    walker.query(query, |_| {});
    walker.facts
}

impl RuleFacts {
    /// Nothing found yet.
    fn new(kind: RuleKind, path: Vec<Segment>, location: Location) -> Self {
        Self {
            kind,
            path,
            package_length: 0,
            function: None,
            references: Vec::new(),
            calls: Vec::new(),
            mentions: Vec::new(),
            aliases: Vec::new(),
            misreadings: Vec::new(),
            depth: 0,
            loops: 0,
            nest: 0,
            statements: 0,
            products: 0,
            arithmetic: false,
            fractions: false,
            doublings: 0,
            location,
        }
    }
}

pub(super) fn location(span: &Span) -> Location {
    Location { file: span.source.file().clone(), row: span.line, col: span.col }
}

fn root_of(name: &str) -> Option<Root> {
    match name {
        "input" => Some(Root::Input),
        "data" => Some(Root::Data),
        _ => None,
    }
}

/// The head of a rule and its segments after the package.
fn head_path(rule: &Rule) -> Option<(&Ref<Expr>, Vec<Segment>)> {
    let refr = match rule {
        Rule::Spec {
            head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. },
            ..
        }
        | Rule::Default { refr, .. } => refr,
    };
    let (root, rest) = flatten(refr)?;
    let path = std::iter::once(Some(root.text().to_owned())).chain(rest.into_iter().map(Link::segment)).collect();
    Some((refr, path))
}

fn arity(rule: &Rule) -> Option<usize> {
    match rule {
        Rule::Spec { head: RuleHead::Func { args, .. }, .. } => Some(args.len()),
        Rule::Default { args, .. } if !args.is_empty() => Some(args.len()),
        _ => None,
    }
}

/// One step of a reference.
pub(super) enum Link<'a> {
    Name(String),
    Computed(&'a Ref<Expr>),
}

impl Link<'_> {
    fn constant(self) -> Option<String> {
        match self {
            Self::Name(name) => Some(name),
            Self::Computed(_) => None,
        }
    }

    fn segment(self) -> Segment {
        self.constant()
    }
}

/// A reference as its root variable and its links; `None` when it starts with something else than a variable.
pub(super) fn flatten(expr: &Expr) -> Option<(&Span, Vec<Link<'_>>)> {
    let mut links = Vec::new();
    let mut at = expr;
    let root = loop {
        match at {
            Expr::RefDot { refr, field, .. } => {
                links.push(Link::Name(field.0.text().to_owned()));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                links.push(match index.as_ref() {
                    Expr::String { value: Value::String(s), .. } | Expr::RawString { value: Value::String(s), .. } => {
                        Link::Name(s.to_string())
                    }
                    Expr::Number { value, .. } => Link::Name(value.to_string()),
                    _ => Link::Computed(index),
                });
                at = refr;
            }
            Expr::Var { span, .. } => break span,
            _ => return None,
        }
    };
    links.reverse();
    Some((root, links))
}

/// Row and column where an expression starts: the parser has some start at their operator, and strings behind the quote.
pub(super) fn start(expr: &Expr) -> (u32, u32) {
    let mut at = expr;
    loop {
        at = match at {
            Expr::Call { fcn, .. } => fcn,
            Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => refr,
            Expr::BinExpr { lhs, .. }
            | Expr::BoolExpr { lhs, .. }
            | Expr::ArithExpr { lhs, .. }
            | Expr::AssignExpr { lhs, .. } => lhs,
            Expr::Membership { key, value, .. } => key.as_ref().unwrap_or(value),
            Expr::String { span, .. } | Expr::RawString { span, .. } => return (span.line, span.col.saturating_sub(1)),
            _ => return (at.span().line, at.span().col),
        };
    }
}

/// `io.jwt.decode`.
pub(super) fn dotted_name(expr: &Expr) -> Option<String> {
    let (root, links) = flatten(expr)?;
    let mut name = root.text().to_owned();
    for link in links {
        name.push('.');
        name.push_str(&link.constant()?);
    }
    Some(name)
}

/// Row and column where a statement starts.
pub(super) fn statement_start(statement: &LiteralStmt) -> (u32, u32) {
    match &statement.literal {
        Literal::Expr { expr, .. } => {
            let (own, first) = ((statement.span.line, statement.span.col), start(expr));
            // A parenthesis before it is no part of the expression.
            if own > first { first } else { own }
        }
        _ => (statement.span.line, statement.span.col),
    }
}

/// The expressions that an expression is made of; a function's name is none, nor what a comprehension holds.
pub(super) fn parts(expr: &Expr) -> Vec<&Ref<Expr>> {
    match expr {
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().collect(),
        Expr::Object { fields, .. } => fields.iter().flat_map(|(_, key, value)| [key, value]).collect(),
        Expr::Call { params, .. } => params.iter().collect(),
        Expr::UnaryExpr { expr, .. } => vec![expr],
        Expr::RefDot { refr, .. } => vec![refr],
        Expr::RefBrack { refr, index, .. } => vec![refr, index],
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership { key, value, collection, .. } => key.iter().chain([value, collection]).collect(),
        _ => Vec::new(),
    }
}
