//! The walk over one rule or query: scopes and aliases of local variables, and a fact for everything that it meets.

use std::collections::HashMap;

use regorus::{
    Value,
    unstable::{ArithOp, AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleBody, RuleHead, Span},
};

use super::{
    Alias, Call, Callee, Link, Mention, MentionKind, Names, Reference, Root, RuleFacts, RuleKind, Segment, dotted_name,
    flatten, location, pattern, root_of,
};
use crate::policy::{builtins, json};

/// What a local variable stands for: nothing known, or a reference.
pub(super) type Local = Option<(Root, Vec<Segment>)>;

pub(super) struct Walker<'a> {
    pub names: &'a Names,
    pub package: &'a [String],
    pub imports: &'a HashMap<String, (Root, Vec<Segment>)>,
    pub scopes: Vec<HashMap<String, Local>>,
    pub level: usize,
    pub facts: RuleFacts,
}

impl Walker<'_> {
    pub(super) fn rule(&mut self, rule: &Rule) {
        match rule {
            Rule::Default { refr, args, value, .. } => {
                self.open(args);
                self.indexes(refr);
                self.expr(value);
                self.scopes.pop();
            }
            Rule::Spec { head, bodies, .. } => {
                let args: &[Ref<Expr>] = if let RuleHead::Func { args, .. } = head { args } else { &[] };
                pattern::parameters(args, &mut self.facts.misreadings);
                self.open(args);
                // A parameter may be a reference or a call, whose value the argument has to be.
                args.iter().for_each(|arg| self.expr(arg));
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
    pub(super) fn query(&mut self, query: &Query, inside: impl FnOnce(&mut Self)) {
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
                pattern::repeated(key.iter().chain([value]), &mut self.facts.misreadings);
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
                    self.facts.calls.push(Call { callee, location });
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
            Expr::Number { value, .. } => {
                self.facts.fractions |= matches!(value, Value::Number(number) if !number.is_integer());
            }
            Expr::String { .. } | Expr::RawString { .. } | Expr::Bool { .. } | Expr::Null { .. } => {}
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
                self.facts.arithmetic = true;
                self.facts.fractions |= *op == ArithOp::Div;
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
                Expr::Var { span, .. } => {
                    self.alias(span);
                    break;
                }
                _ => {
                    self.expr(at);
                    break;
                }
            }
        }
    }

    /// Notes the name of an imported document.
    fn alias(&mut self, span: &Span) {
        let name = span.text();
        if self.local(name).is_some() || root_of(name).is_some() {
            return;
        }
        let is_query = self.facts.kind == RuleKind::Query;
        let (from, path) = match self.imports.get(name) {
            Some((Root::Data, path)) => ("data", path.clone()),
            Some((Root::Input, path)) => ("input", path.clone()),
            None if is_query && self.is_rule(name) => {
                ("data", self.package.iter().map(String::as_str).chain([name]).map(str::to_owned).map(Some).collect())
            }
            _ => return,
        };
        if let Some(segments) = path.iter().map(Option::as_deref).collect::<Option<Vec<_>>>() {
            let stands_for = segments.iter().fold(from.to_owned(), |text, name| text + &step(name));
            let start = usize::try_from(span.start).unwrap_or(usize::MAX);
            self.facts.aliases.push(Alias { name: name.to_owned(), stands_for, start, location: location(span) });
        }
    }

    fn call(&mut self, expr: &Ref<Expr>, fcn: &Ref<Expr>, params: &[Ref<Expr>]) {
        let callee = self.function_named(fcn).or_else(|| dotted_name(fcn).map(Callee::Builtin));
        let Some(callee) = callee else { return };
        if let Some((root, _)) = flatten(fcn) {
            self.alias(root);
        }
        if let Callee::Builtin(name) = &callee {
            let output = builtins::arity(name).is_some_and(|arity| params.len() == arity + 1);
            self.mention(fcn, MentionKind::Call { output });
        }
        self.facts.fractions |= matches!(&callee, Callee::Builtin(name) if builtins::makes_fractions(name));
        if callee == Callee::Builtin("walk".to_owned()) {
            self.facts.loops += 1;
        }
        let reads_member = callee == Callee::Builtin("object.get".to_owned());
        // The span of a call starts at its parenthesis.
        let at = flatten(fcn).map_or(expr.span(), |(root, _)| root);
        self.facts.calls.push(Call { callee, location: location(at) });
        let mut rest = params;
        if reads_member
            && let [object, key, ..] = params
            && let Some((root, mut path)) = self.resolve(object)
        {
            path.extend(keys(key));
            self.facts.references.push(Reference { root, path, location: location(object.span()) });
            rest = params.get(1..).unwrap_or_default();
        }
        rest.iter().for_each(|param| self.expr(param));
    }

    /// Notes a name that is neither a rule nor a local variable nor below `input` or `data`.
    fn mention(&mut self, expr: &Expr, kind: MentionKind) {
        if let Some((root, _)) = flatten(expr) {
            self.alias(root);
        }
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

/// A step of a reference, as Rego.
pub(in crate::policy) fn step(name: &str) -> String {
    const KEYWORDS: [&str; 15] = [
        "as", "contains", "default", "else", "every", "false", "if", "import", "in", "not", "null", "package", "some",
        "true", "with",
    ];
    let is_plain =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') && !KEYWORDS.contains(&name);
    if is_plain { format!(".{name}") } else { format!("[{}]", json::quote(name)) }
}

/// Declares the variables of a pattern.
fn declare(pattern: &Ref<Expr>, scope: &mut HashMap<String, Local>) {
    match pattern.as_ref() {
        Expr::Var { span, .. } => _ = scope.insert(span.text().to_owned(), None),
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

/// The members that `object.get(o, key, …)` reads, one below the other.
fn keys(key: &Expr) -> Vec<Segment> {
    match key {
        Expr::String { value: Value::String(s), .. } | Expr::RawString { value: Value::String(s), .. } => {
            vec![Some(s.to_string())]
        }
        Expr::Array { items, .. } => items.iter().flat_map(|item| keys(item)).collect(),
        _ => vec![None],
    }
}
