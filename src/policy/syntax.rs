//! Reads what a module refers to off its syntax tree: references with their absolute path, calls, and how deep it
//! nests. It resolves names as Rego does (locals shadow imports, imports shadow rules) and judges nothing; the checks do.

use std::collections::{HashMap, HashSet};

use regorus::{
    Value,
    unstable::{ArithOp, AssignOp, Expr, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleBody, RuleHead, Span},
};

use super::Location;

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
    pub arguments: usize,
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
    /// Deepest nesting of expressions, in nodes.
    pub depth: usize,
    /// Most loops that one body nests, those of its comprehensions included.
    pub loops: usize,
    /// How much deeper than its inputs a value can become: the nested constructors around variables, statement by
    /// statement, without what called functions add.
    pub nest: usize,
    /// Multiplications: every one may double the digits of a number.
    pub products: usize,
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

    /// A document that is whole: no rule may stand below it.
    pub(super) fn is_closed(self) -> bool {
        matches!(self, Self::Complete | Self::Set | Self::Function)
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

    pub(super) fn function_arity(&self, callee: &Callee) -> Option<usize> {
        match callee {
            Callee::Function(path) => self.functions.get(path).copied(),
            Callee::Builtin(_) => None,
        }
    }
}

/// The package of a module, as segments under `data`.
pub(super) fn package_path(module: &Module) -> Vec<String> {
    flatten(&module.package.refr)
        .map(|(root, rest)| {
            let mut path = vec![root.text().to_owned()];
            path.extend(rest.into_iter().filter_map(|s| s.constant()));
            path
        })
        .unwrap_or_default()
}

/// The facts of every rule of a module.
pub(super) fn rules(module: &Module, names: &Names) -> Vec<RuleFacts> {
    let package = package_path(module);
    let mut imports = HashMap::new();
    for import in &module.imports {
        let Some((root, rest)) = flatten(&import.refr) else { continue };
        let Some(start) = root_of(root.text()) else { continue };
        let path: Vec<Segment> = rest.into_iter().map(Link::segment).collect();
        let alias = match (&import.r#as, path.last()) {
            (Some(alias), _) => alias.text().to_owned(),
            (None, Some(Some(last))) => last.clone(),
            _ => continue,
        };
        imports.insert(alias, (start, path));
    }
    module
        .policy
        .iter()
        .filter_map(|rule| {
            let (head, segments) = head_path(rule)?;
            let path: Vec<Segment> = package.iter().cloned().map(Some).chain(segments).collect();
            let mut walker = Walker {
                names,
                package: &package,
                imports: &imports,
                scopes: Vec::new(),
                level: 0,
                facts: RuleFacts {
                    kind: RuleKind::of(rule, &path),
                    path,
                    package_length: package.len(),
                    function: arity(rule),
                    references: Vec::new(),
                    calls: Vec::new(),
                    mentions: Vec::new(),
                    depth: 0,
                    loops: 0,
                    nest: 0,
                    statements: 0,
                    products: 0,
                    location: location(head.span()),
                },
            };
            walker.rule(rule);
            Some(walker.facts)
        })
        .collect()
}

/// The facts of an ad-hoc query.
pub(super) fn query(query: &Query, names: &Names) -> RuleFacts {
    let imports = HashMap::new();
    let facts = RuleFacts {
        kind: RuleKind::Query,
        path: Vec::new(),
        package_length: 0,
        function: None,
        references: Vec::new(),
        calls: Vec::new(),
        mentions: Vec::new(),
        depth: 0,
        loops: 0,
        nest: 0,
        statements: 0,
        products: 0,
        location: location(&query.span),
    };
    let mut walker = Walker { names, package: &[], imports: &imports, scopes: Vec::new(), level: 0, facts };
    walker.query(query, |_| {});
    walker.facts
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
enum Link<'a> {
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
fn flatten(expr: &Expr) -> Option<(&Span, Vec<Link<'_>>)> {
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

/// `io.jwt.decode`.
fn dotted_name(expr: &Expr) -> Option<String> {
    let (root, links) = flatten(expr)?;
    let mut name = root.text().to_owned();
    for link in links {
        name.push('.');
        name.push_str(&link.constant()?);
    }
    Some(name)
}

/// What a local variable stands for: nothing known, or a reference.
type Local = Option<(Root, Vec<Segment>)>;

struct Walker<'a> {
    names: &'a Names,
    package: &'a [String],
    imports: &'a HashMap<String, (Root, Vec<Segment>)>,
    scopes: Vec<HashMap<String, Local>>,
    level: usize,
    facts: RuleFacts,
}

impl Walker<'_> {
    fn rule(&mut self, rule: &Rule) {
        match rule {
            Rule::Default { refr, args, value, .. } => {
                self.open(args);
                self.indexes(refr);
                self.expr(value);
                self.scopes.pop();
            }
            Rule::Spec { head, bodies, .. } => {
                let args: &[Ref<Expr>] = if let RuleHead::Func { args, .. } = head { args } else { &[] };
                self.open(args);
                if bodies.is_empty() {
                    self.head(head);
                }
                for body in bodies {
                    self.body(head, body);
                }
                self.scopes.pop();
            }
        }
    }

    fn open(&mut self, patterns: &[Ref<Expr>]) {
        let mut scope = HashMap::new();
        for pattern in patterns {
            declare(pattern, &mut scope);
        }
        self.scopes.push(scope);
    }

    fn head(&mut self, head: &RuleHead) {
        match head {
            RuleHead::Compr { refr, assign, .. } | RuleHead::Func { refr, assign, .. } => {
                self.indexes(refr);
                if let Some(assign) = assign {
                    self.builds(&assign.value);
                    self.expr(&assign.value);
                }
            }
            RuleHead::Set { refr, key, .. } => {
                self.indexes(refr);
                if let Some(key) = key {
                    self.builds(key);
                    self.expr(key);
                }
            }
        }
    }

    fn builds(&mut self, expr: &Expr) {
        self.facts.nest += nest(expr).unwrap_or_default();
    }

    fn body(&mut self, head: &RuleHead, body: &RuleBody) {
        let most = std::mem::take(&mut self.facts.loops);
        self.query(&body.query, |walker| {
            if let Some(assign) = &body.assign {
                walker.builds(&assign.value);
                walker.expr(&assign.value);
            } else {
                walker.head(head);
            }
        });
        self.facts.loops = self.facts.loops.max(most);
    }

    /// The computed links of a head reference: its own name is no reference.
    fn indexes(&mut self, refr: &Ref<Expr>) {
        if let Some((_, links)) = flatten(refr) {
            for link in links {
                if let Link::Computed(index) = link {
                    self.expr(index);
                }
            }
        }
    }

    /// A query with what is evaluated in its scope.
    fn query(&mut self, query: &Query, inside: impl FnOnce(&mut Self)) {
        self.facts.statements = self.facts.statements.max(query.stmts.len());
        self.scopes.push(HashMap::new());
        for statement in &query.stmts {
            self.declarations(statement);
        }
        for statement in &query.stmts {
            self.statement(statement);
        }
        inside(self);
        self.scopes.pop();
    }

    fn declarations(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                for var in vars {
                    self.declare_local(var.text(), None);
                }
            }
            Literal::SomeIn { key, value, .. } => {
                if let Some(scope) = self.scopes.last_mut() {
                    key.iter().chain([value]).for_each(|pattern| declare(pattern, scope));
                }
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op, lhs, rhs, .. } = expr.as_ref() {
                    self.assignment(op, lhs, rhs);
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }

    fn assignment(&mut self, op: &AssignOp, lhs: &Ref<Expr>, rhs: &Ref<Expr>) {
        let alias = self.resolve(rhs).filter(|(_, path)| path.iter().all(Option::is_some));
        match (op, lhs.as_ref()) {
            (_, Expr::Var { span, .. }) if *op == AssignOp::ColEq || self.is_free(span.text()) => {
                self.declare_local(span.text(), alias);
            }
            (AssignOp::ColEq, _) => {
                if let Some(scope) = self.scopes.last_mut() {
                    declare(lhs, scope);
                }
            }
            (AssignOp::Eq, _) => {}
        }
    }

    fn declare_local(&mut self, name: &str, alias: Local) {
        if let Some(scope) = self.scopes.last_mut() {
            // Two meanings in one scope (a `some` and a unification): what it stands for is not known.
            let known = if scope.contains_key(name) { scope.get(name).cloned().flatten().or(alias) } else { alias };
            scope.insert(name.to_owned(), known);
        }
    }

    fn statement(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.builds(expr),
            Literal::SomeIn { collection: expr, .. } | Literal::Every { domain: expr, .. } => self.builds(expr),
            Literal::SomeVars { .. } => {}
        }
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                self.facts.loops += 1;
                if let Some(key) = key {
                    self.pattern(key);
                }
                self.pattern(value);
                self.expr(collection);
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.top_expr(expr),
            Literal::Every { key, value, domain, query, .. } => {
                self.expr(domain);
                let mut scope = HashMap::from([(value.text().to_owned(), None)]);
                if let Some(key) = key {
                    scope.insert(key.text().to_owned(), None);
                }
                self.scopes.push(scope);
                self.nested(|walker| walker.query(query, |_| {}));
                self.scopes.pop();
            }
        }
        for modifier in &statement.with_mods {
            self.indexes(&modifier.refr);
            self.mention(&modifier.refr, MentionKind::Replaced);
            self.mention(&modifier.r#as, MentionKind::Replacement);
            match self.function_named(&modifier.r#as) {
                Some(callee) => {
                    let location = location(modifier.r#as.span());
                    // The replacement has the arity of what it replaces; it is checked where it is called.
                    self.facts.calls.push(Call { callee, arguments: usize::MAX, location });
                }
                None => self.expr(&modifier.r#as),
            }
        }
    }

    /// `x := ref` gives `x` a meaning and reads nothing by itself; every use of `x` counts instead.
    fn top_expr(&mut self, expr: &Ref<Expr>) {
        if let Expr::AssignExpr { lhs, rhs, .. } = expr.as_ref()
            && let Expr::Var { span, .. } = lhs.as_ref()
            && let Some(Some((root, path))) = self.local(span.text())
            && self.resolve(rhs).is_some_and(|(r, p)| r == *root && p == *path)
        {
            if *root == Root::Data {
                self.reference(rhs);
            }
            return;
        }
        self.expr(expr);
    }

    fn expr(&mut self, expr: &Ref<Expr>) {
        self.nested(|walker| walker.expr_inner(expr));
    }

    fn nested(&mut self, inside: impl FnOnce(&mut Self)) {
        self.level += 1;
        self.facts.depth = self.facts.depth.max(self.level);
        inside(self);
        self.level -= 1;
    }

    fn expr_inner(&mut self, expr: &Ref<Expr>) {
        match expr.as_ref() {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr),
            Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| self.expr(item)),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expr(key);
                    self.expr(value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.query(query, |walker| walker.expr(term));
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                self.query(query, |walker| {
                    walker.expr(key);
                    walker.expr(value);
                });
            }
            Expr::Call { fcn, params, .. } => self.call(expr, fcn, params),
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BinExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                self.facts.products += usize::from(*op == ArithOp::Mul);
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                if let Some(key) = key {
                    self.expr(key);
                }
                self.expr(value);
                self.expr(collection);
            }
        }
    }

    /// A pattern of `some … in`: variables are declarations, the rest is read.
    fn pattern(&mut self, expr: &Ref<Expr>) {
        if !matches!(expr.as_ref(), Expr::Var { .. }) {
            self.expr(expr);
        }
    }

    fn reference(&mut self, expr: &Ref<Expr>) {
        if let Some((root, path)) = self.resolve(expr) {
            self.facts.references.push(Reference { root, path, location: location(expr.span()) });
        }
        // The parts that the reference computes are expressions of their own.
        let mut at = expr;
        loop {
            match at.as_ref() {
                Expr::RefDot { refr, .. } => at = refr,
                Expr::RefBrack { refr, index, .. } => {
                    if matches!(index.as_ref(), Expr::Var { .. }) {
                        self.facts.loops += 1;
                    }
                    self.expr(index);
                    at = refr;
                }
                Expr::Var { .. } => break,
                _ => {
                    self.expr(at);
                    break;
                }
            }
        }
    }

    fn call(&mut self, expr: &Ref<Expr>, fcn: &Ref<Expr>, params: &[Ref<Expr>]) {
        let callee = self.function_named(fcn).or_else(|| dotted_name(fcn).map(Callee::Builtin));
        let Some(callee) = callee else { return };
        if let Callee::Builtin(name) = &callee {
            let output = super::builtins::arity(name).is_some_and(|arity| params.len() == arity + 1);
            self.mention(fcn, MentionKind::Call { output });
        }
        if callee == Callee::Builtin("walk".to_owned()) {
            self.facts.loops += 1;
        }
        let reads_member = callee == Callee::Builtin("object.get".to_owned());
        self.facts.calls.push(Call { callee, arguments: params.len(), location: location(expr.span()) });
        let mut rest = params;
        if reads_member
            && let [object, key, ..] = params
            && let Some((root, mut path)) = self.resolve(object)
        {
            path.push(first_key(key));
            self.facts.references.push(Reference { root, path, location: location(object.span()) });
            rest = params.get(1..).unwrap_or_default();
        }
        rest.iter().for_each(|param| self.expr(param));
    }

    /// Notes a name that is neither a rule nor a local variable nor below `input` or `data`.
    fn mention(&mut self, expr: &Expr, kind: MentionKind) {
        if self.resolve(expr).is_some() || self.function_named(expr).is_some() {
            return;
        }
        if let Some(name) = dotted_name(expr)
            && let Some((root, _)) = flatten(expr)
            && self.local(root.text()).is_none()
        {
            let start = usize::try_from(root.start).unwrap_or(usize::MAX);
            self.facts.mentions.push(Mention { name, kind, start, location: location(root) });
        }
    }

    /// The function that an expression names, when a rule defines it.
    fn function_named(&self, expr: &Expr) -> Option<Callee> {
        let (root, links) = flatten(expr)?;
        if self.local(root.text()).is_some() {
            return None;
        }
        let rest: Vec<String> = links.into_iter().map(Link::constant).collect::<Option<_>>()?;
        let mut candidates = Vec::new();
        match self.imports.get(root.text()) {
            Some((Root::Data, path)) => {
                candidates.push(path.iter().flatten().cloned().chain(rest.clone()).collect::<Vec<_>>());
            }
            Some((Root::Input, _)) => {}
            None if root.text() == "data" => candidates.push(rest.clone()),
            None => {}
        }
        let mut local = self.package.to_vec();
        local.push(root.text().to_owned());
        local.extend(rest);
        candidates.push(local);
        candidates.into_iter().find(|path| self.names.functions.contains_key(path)).map(Callee::Function)
    }

    /// The absolute path of a reference; `None` for locals that stand for nothing known and for other expressions.
    fn resolve(&self, expr: &Expr) -> Local {
        let (root, links) = flatten(expr)?;
        let name = root.text();
        let (start, mut path) = match self.local(name) {
            Some(alias) => alias.clone()?,
            None => match (root_of(name), self.imports.get(name)) {
                (Some(start), _) => (start, Vec::new()),
                (None, Some((start, path))) => (*start, path.clone()),
                (None, None) if self.is_rule(name) => {
                    let path = self.package.iter().cloned().chain([name.to_owned()]).map(Some).collect();
                    (Root::Data, path)
                }
                (None, None) => return None,
            },
        };
        path.extend(links.into_iter().map(Link::segment));
        Some((start, path))
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    fn is_rule(&self, name: &str) -> bool {
        self.names.rules.get(self.package).is_some_and(|rules| rules.contains(name))
    }

    /// A name that `=` may bind: neither local nor imported nor a rule nor a root.
    fn is_free(&self, name: &str) -> bool {
        self.local(name).is_none() && root_of(name).is_none() && !self.imports.contains_key(name) && !self.is_rule(name)
    }
}

/// Declares the variables of a pattern.
fn declare(pattern: &Ref<Expr>, scope: &mut HashMap<String, Local>) {
    match pattern.as_ref() {
        Expr::Var { span, .. } => {
            scope.insert(span.text().to_owned(), None);
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| declare(item, scope)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| declare(value, scope)),
        _ => {}
    }
}

/// How many constructors stand around the deepest variable of an expression; `None` when it has none.
fn nest(expr: &Expr) -> Option<usize> {
    let deepest = |items: &mut dyn Iterator<Item = &Ref<Expr>>| items.filter_map(|item| nest(item)).max();
    match expr {
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => {
            None
        }
        Expr::Var { .. } | Expr::RefDot { .. } => Some(0),
        Expr::RefBrack { refr, index, .. } => deepest(&mut [refr, index].into_iter()).or(Some(0)),
        Expr::Array { items, .. } | Expr::Set { items, .. } => deepest(&mut items.iter()).map(|n| n + 1),
        Expr::Object { fields, .. } => deepest(&mut fields.iter().flat_map(|(_, k, v)| [k, v])).map(|n| n + 1),
        Expr::ArrayCompr { term, .. } | Expr::SetCompr { term, .. } => Some(nest(term).unwrap_or_default() + 1),
        Expr::ObjectCompr { key, value, .. } => Some(deepest(&mut [key, value].into_iter()).unwrap_or_default() + 1),
        Expr::Call { params, .. } => deepest(&mut params.iter()),
        Expr::UnaryExpr { expr, .. } => nest(expr),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => deepest(&mut [lhs, rhs].into_iter()),
        Expr::Membership { value, collection, .. } => deepest(&mut [value, collection].into_iter()),
    }
}

/// The member that `object.get(o, key, …)` reads first.
fn first_key(key: &Expr) -> Segment {
    match key {
        Expr::String { value: Value::String(s), .. } | Expr::RawString { value: Value::String(s), .. } => {
            Some(s.to_string())
        }
        Expr::Array { items, .. } => items.first().and_then(|item| first_key(item)),
        _ => None,
    }
}
