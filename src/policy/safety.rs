//! Are the variables of rules safe, as OPA's compiler wants it: does each get its value from something that is known,
//! whatever the order of the statements? The engine finds only some of those that are not, and some only when the rule
//! runs. Nothing is evaluated here, and a body is gone through at most once for every statement that waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleHead, Span};

use super::{
    LoadError, Location, builtins, check,
    lower::template,
    syntax::{self, Names, Root, Segment, parts},
};

/// Variables and where each is first named. A wildcard is a name of its own wherever it stands.
type Vars = BTreeMap<String, Location>;

/// What the checks of one module know.
struct Checker<'a> {
    names: &'a Names,
    package: &'a [String],
    imports: &'a HashMap<String, (Root, Vec<Segment>)>,
    unsafe_vars: Vars,
}

/// What one statement needs and gives.
#[derive(Default)]
struct Needs {
    /// Variables that must have a value.
    all: Vars,
    /// Those within closures.
    closed: Vars,
}

/// Reports every variable of a module that is not safe.
pub(super) fn module(module: &Module, names: &Names, errors: &mut Vec<LoadError>) {
    let package = syntax::package_path(module);
    let imports = syntax::imports(module);
    for rule in &module.policy {
        let mut checker = Checker { names, package: &package, imports: &imports, unsafe_vars: Vars::new() };
        checker.rule(rule);
        let found = checker.unsafe_vars.into_iter().map(|(name, at)| {
            let name = name.split(' ').next().unwrap_or_default();
            LoadError::new("rego_unsafe_var_error", format!("var {name} is unsafe"), Some(at))
        });
        errors.extend(found);
    }
}

// === impl Checker ===

impl Checker<'_> {
    fn rule(&mut self, rule: &Rule) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        let mut known = BTreeSet::new();
        let (refr, mut terms): (_, Vec<&Ref<Expr>>) = match head {
            RuleHead::Compr { refr, assign, .. } => (refr, assign.iter().map(|assign| &assign.value).collect()),
            RuleHead::Set { refr, key, .. } => (refr, key.iter().collect()),
            RuleHead::Func { refr, args, assign, .. } => {
                for arg in args {
                    let mut vars = Vars::new();
                    pattern(arg, &mut vars);
                    known.extend(vars.into_keys());
                }
                // What is no pattern, a reference, is a term of the body.
                (refr, args.iter().chain(assign.iter().map(|assign| &assign.value)).collect())
            }
        };
        indexes(refr, &mut terms);
        if bodies.is_empty() {
            self.body(&[], &terms, &known);
        }
        for (index, body) in bodies.iter().enumerate() {
            let own: Vec<&Ref<Expr>> = match &body.assign {
                Some(assign) => vec![&assign.value],
                None if index == 0 => terms.clone(),
                None => Vec::new(),
            };
            self.body(&body.query.stmts, &own, &known);
        }
    }

    /// A body and the terms that are evaluated after it, with the variables that come from around it.
    fn body(&mut self, statements: &[LiteralStmt], terms: &[&Ref<Expr>], outer: &BTreeSet<String>) {
        if statements.len() > check::MAX_STATEMENTS {
            return;
        }
        let mut declared = Vars::new();
        let mut declared_at: BTreeMap<String, usize> = BTreeMap::new();
        for (index, statement) in statements.iter().enumerate() {
            let mut own = Vars::new();
            declarations(statement, &mut own);
            own.keys().for_each(|name| _ = declared_at.entry(name.clone()).or_insert(index));
            declared.extend(own);
        }
        let is_global = |name: &str| !declared.contains_key(name) && (outer.contains(name) || self.is_global(name));
        let needs: Vec<Needs> = statements
            .iter()
            .map(statement_needs)
            .chain(terms.iter().map(|term| expression_needs(term)))
            .enumerate()
            .map(|(index, mut needs)| {
                needs.all.retain(|name, _| !is_global(name));
                // A closure before the declaration of a variable means another one.
                let later = |name: &String| declared_at.get(name).is_some_and(|at| *at > index);
                needs.closed.retain(|name, _| !is_global(name) && !later(name));
                needs
            })
            .collect();
        let own: BTreeSet<&String> = needs.iter().flat_map(|needs| needs.all.keys()).collect();
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut waiting: Vec<usize> = (0..needs.len()).rev().collect();
        let given = |index: usize, known: &BTreeSet<String>| {
            let is_known = |name: &str| known.contains(name) || is_global(name);
            let mut given = Vars::new();
            match statements.get(index) {
                Some(statement) => outputs(statement, self, &is_known, &mut given),
                None => {
                    if let Some(term) = index.checked_sub(statements.len()).and_then(|index| terms.get(index)) {
                        references(term, &is_known, &mut given);
                    }
                }
            }
            given
        };
        loop {
            let before = waiting.len();
            // Chains in either direction need no more than two turns.
            waiting.reverse();
            waiting.retain(|index| {
                let Some(needs) = needs.get(*index) else { return false };
                let given = given(*index, &known);
                let ready = needs.all.keys().all(|name| known.contains(name) || given.contains_key(name))
                    && needs.closed.keys().all(|name| known.contains(name) || !own.contains(name));
                if ready {
                    known.extend(given.into_keys());
                }
                !ready
            });
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        waiting.sort_unstable();
        let mut found = Vars::new();
        // What a statement would give, were it not for others, is not at fault.
        let mut given: Vars = waiting.iter().flat_map(|index| given(*index, &known)).collect();
        for statement in waiting.iter().filter_map(|index| statements.get(*index)) {
            if let Literal::Expr { expr, .. } = &statement.literal
                && let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref()
            {
                pattern(lhs, &mut given);
            }
        }
        // Where nothing else is, they are.
        for given in [&given, &Vars::new()] {
            for needs in waiting.iter().filter_map(|index| needs.get(*index)) {
                let closed = needs.closed.iter().filter(|(name, _)| own.contains(name));
                let missing = needs.all.iter().chain(closed);
                for (name, at) in missing.filter(|(name, _)| !known.contains(*name) && !given.contains_key(*name)) {
                    found.entry(name.clone()).or_insert_with(|| at.clone());
                }
            }
            if !found.is_empty() {
                break;
            }
        }
        for (name, at) in found {
            self.unsafe_vars.entry(name).or_insert(at);
        }
        // What a closure names is known around it, or its own.
        let mut around = outer.clone();
        around.retain(|name| !declared.contains_key(name));
        around.extend(known);
        around.extend(declared.into_keys());
        if waiting.is_empty() {
            for statement in statements {
                self.closures_of_statement(statement, &around);
            }
            terms.iter().for_each(|term| self.closures(term, &around));
        }
    }

    fn is_global(&self, name: &str) -> bool {
        matches!(name, "input" | "data") || self.imports.contains_key(name) || self.names.is_rule(self.package, name)
    }

    fn closures_of_statement(&mut self, statement: &LiteralStmt, around: &BTreeSet<String>) {
        if let Literal::Every { key, value, query, .. } = &statement.literal {
            let mut inside = around.clone();
            inside.extend(key.iter().chain([value]).map(|span| span.text().to_owned()));
            self.body(&query.stmts, &[], &inside);
        }
        for expr in statement_expressions(statement) {
            self.closures(expr, around);
        }
    }

    fn closures(&mut self, expr: &Ref<Expr>, around: &BTreeSet<String>) {
        match expr.as_ref() {
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.body(&query.stmts, &[term], around);
            }
            Expr::ObjectCompr { key, value, query, .. } => self.body(&query.stmts, &[key, value], around),
            _ => parts(expr).into_iter().for_each(|part| self.closures(part, around)),
        }
    }
}

/// Names that a statement declares in its body.
fn declarations(statement: &LiteralStmt, found: &mut Vars) {
    match &statement.literal {
        Literal::SomeVars { vars, .. } => vars.iter().for_each(|var| variable(var, found)),
        Literal::SomeIn { key, value, .. } => key.iter().chain([value]).for_each(|term| pattern(term, found)),
        Literal::Expr { expr, .. } => {
            if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref() {
                pattern(lhs, found);
            }
        }
        Literal::NotExpr { .. } | Literal::Every { .. } => {}
    }
}

fn statement_expressions(statement: &LiteralStmt) -> Vec<&Ref<Expr>> {
    let mut found: Vec<&Ref<Expr>> = match &statement.literal {
        Literal::SomeVars { .. } => Vec::new(),
        Literal::SomeIn { key, value, collection, .. } => key.iter().chain([value, collection]).collect(),
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => vec![expr],
        Literal::Every { domain, .. } => vec![domain],
    };
    let values = statement.with_mods.iter().map(|modifier| &modifier.r#as);
    // `with f as max` names a builtin, not a variable.
    found.extend(values.filter(|value| syntax::dotted_name(value).is_none_or(|name| builtins::arity(&name).is_none())));
    found
}

fn statement_needs(statement: &LiteralStmt) -> Needs {
    let mut needs = Needs::default();
    let at = Some(syntax::statement_start(statement));
    for expr in statement_expressions(statement) {
        // OPA blames the statement, and for what is in a call within it, the call.
        match call_parts(expr) {
            Some(parts) => parts.into_iter().for_each(|part| variables(part, at, &mut needs)),
            None => variables(expr, at, &mut needs),
        }
    }
    if let Literal::Every { key, value, query, .. } = &statement.literal {
        let mut inside = Vars::new();
        closed_query(query, &mut inside);
        let own = |name: &str| value.text() == name || key.as_ref().is_some_and(|key| key.text() == name);
        inside.retain(|name, _| !own(name));
        needs.closed.extend(inside);
    }
    needs
}

fn expression_needs(expr: &Ref<Expr>) -> Needs {
    let mut needs = Needs::default();
    variables(expr, None, &mut needs);
    needs
}

/// The variables of an expression, those of its closures apart. `at`: what is blamed for them; else they are.
fn variables(expr: &Ref<Expr>, at: Option<(u32, u32)>, needs: &mut Needs) {
    match expr.as_ref() {
        Expr::Var { span, .. } => variable_at(span, at.unwrap_or((span.line, span.col)), &mut needs.all),
        Expr::ArrayCompr { term, query, .. } => closed(&[term], query, &mut needs.closed),
        Expr::SetCompr { term, query, .. } => match template_part(term, query) {
            // An expression of a string binds nothing.
            Some(part) => variables(part, None, needs),
            None => closed(&[term], query, &mut needs.closed),
        },
        Expr::ObjectCompr { key, value, query, .. } => closed(&[key, value], query, &mut needs.closed),
        _ => {
            let parts = parts(expr);
            let at = if call_parts(expr).is_some() { Some(syntax::start(expr)) } else { at };
            parts.into_iter().for_each(|part| variables(part, at, needs));
        }
    }
}

/// The operands of an expression that OPA takes out of the one around it.
fn call_parts(expr: &Expr) -> Option<Vec<&Ref<Expr>>> {
    let is_call = matches!(
        expr,
        Expr::Call { .. }
            | Expr::BinExpr { .. }
            | Expr::BoolExpr { .. }
            | Expr::ArithExpr { .. }
            | Expr::Membership { .. }
            | Expr::AssignExpr { .. }
    );
    is_call.then(|| parts(expr))
}

/// The expression of a rewritten template string whose set this is.
fn template_part<'e>(term: &Expr, query: &'e Query) -> Option<&'e Ref<Expr>> {
    match (term, query.stmts.as_slice()) {
        (Expr::Var { span, .. }, [LiteralStmt { literal: Literal::Expr { expr, .. }, with_mods, .. }])
            if span.text() == template::VARIABLE && with_mods.is_empty() =>
        {
            match expr.as_ref() {
                Expr::AssignExpr { rhs, .. } => Some(rhs),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Everything that a closure names and does not declare.
fn closed(terms: &[&Ref<Expr>], query: &Query, found: &mut Vars) {
    let mut inside = Vars::new();
    let mut needs = Needs::default();
    terms.iter().for_each(|term| variables(term, None, &mut needs));
    inside.extend(needs.all);
    inside.extend(needs.closed);
    closed_query(query, &mut inside);
    let mut declared = Vars::new();
    query.stmts.iter().for_each(|statement| declarations(statement, &mut declared));
    found.extend(inside.into_iter().filter(|(name, _)| !declared.contains_key(name)));
}

fn closed_query(query: &Query, found: &mut Vars) {
    let mut declared = Vars::new();
    query.stmts.iter().for_each(|statement| declarations(statement, &mut declared));
    for statement in &query.stmts {
        let needs = statement_needs(statement);
        let all = needs.all.into_iter().chain(needs.closed);
        found.extend(all.filter(|(name, _)| !declared.contains_key(name)));
    }
}

/// What a statement gives values to, when its order comes.
fn outputs(statement: &LiteralStmt, checker: &Checker<'_>, known: &dyn Fn(&str) -> bool, given: &mut Vars) {
    match &statement.literal {
        Literal::SomeVars { .. } | Literal::NotExpr { .. } => return,
        Literal::SomeIn { key, value, collection, .. } => {
            references(collection, known, given);
            key.iter().chain([value]).for_each(|term| pattern(term, given));
        }
        Literal::Every { domain, .. } => references(domain, known, given),
        Literal::Expr { expr, .. } => {
            references(expr, known, given);
            match expr.as_ref() {
                Expr::AssignExpr { lhs, rhs, .. } => unify(lhs, rhs, known, given),
                Expr::Call { fcn, params, .. } => {
                    if let (Some(arity), Some((output, inputs))) = (checker.arity(fcn), params.split_last())
                        && inputs.len() == arity
                        && inputs.iter().all(|input| all_known(input, known, given))
                    {
                        pattern(output, given);
                    }
                }
                _ => {}
            }
        }
    }
    for value in statement.with_mods.iter().map(|modifier| &modifier.r#as) {
        references(value, known, given);
    }
}

impl Checker<'_> {
    /// The number of arguments of what is called.
    fn arity(&self, function: &Ref<Expr>) -> Option<usize> {
        syntax::called_arity(function, self.names, self.package, self.imports)
    }
}

/// The variables that steps of references get values from; closures keep theirs.
fn references(expr: &Ref<Expr>, known: &dyn Fn(&str) -> bool, given: &mut Vars) {
    match expr.as_ref() {
        Expr::RefDot { refr, .. } => references(refr, known, given),
        Expr::RefBrack { refr, index, .. } => {
            references(refr, known, given);
            if all_known(root(refr), known, given) {
                pattern(index, given);
            }
            references(index, known, given);
        }
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {}
        _ => parts(expr).into_iter().for_each(|part| references(part, known, given)),
    }
}

/// What a reference starts with.
fn root(expr: &Ref<Expr>) -> &Ref<Expr> {
    let mut at = expr;
    loop {
        match at.as_ref() {
            Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => at = refr,
            _ => return at,
        }
    }
}

fn all_known(expr: &Ref<Expr>, known: &dyn Fn(&str) -> bool, given: &Vars) -> bool {
    let needs = expression_needs(expr);
    needs.all.keys().all(|name| known(name) || given.contains_key(name))
}

/// The variables that `left = right` gives values to.
fn unify(left: &Ref<Expr>, right: &Ref<Expr>, known: &dyn Fn(&str) -> bool, given: &mut Vars) {
    match (left.as_ref(), right.as_ref()) {
        (Expr::Array { items: left, .. }, Expr::Array { items: right, .. }) => {
            if left.len() == right.len() {
                // One element may give what another needs.
                left.iter().zip(right).for_each(|(left, right)| unify(left, right, known, given));
                left.iter().zip(right).rev().for_each(|(left, right)| unify(left, right, known, given));
            }
        }
        (Expr::Object { fields: left, .. }, Expr::Object { fields: right, .. }) => {
            let keys = |fields: &[(Span, Ref<Expr>, Ref<Expr>)]| -> Vec<String> {
                fields.iter().map(|(_, key, _)| key.span().text().to_owned()).collect()
            };
            let (left_keys, right_keys) = (keys(left), keys(right));
            if left_keys.len() == right_keys.len() && left_keys.iter().all(|key| right_keys.contains(key)) {
                for ((_, _, value), key) in left.iter().zip(&left_keys) {
                    let other = right.iter().zip(&right_keys).find(|(_, other)| *other == key);
                    if let Some(((_, _, other), _)) = other {
                        unify(value, other, known, given);
                    }
                }
            }
        }
        _ => {
            if all_known(right, known, given) {
                pattern(left, given);
            }
            if all_known(left, known, given) {
                pattern(right, given);
            }
        }
    }
}

/// The variables that a pattern binds: its own, in arrays and in values of objects.
fn pattern(expr: &Ref<Expr>, found: &mut Vars) {
    match expr.as_ref() {
        Expr::Var { span, .. } => variable(span, found),
        Expr::Array { items, .. } => items.iter().for_each(|item| pattern(item, found)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| pattern(value, found)),
        _ => {}
    }
}

/// Adds the computed steps of a head.
fn indexes<'e>(refr: &'e Ref<Expr>, terms: &mut Vec<&'e Ref<Expr>>) {
    let mut at = refr;
    loop {
        match at.as_ref() {
            Expr::RefDot { refr, .. } => at = refr,
            Expr::RefBrack { refr, index, .. } => {
                terms.push(index);
                at = refr;
            }
            _ => return,
        }
    }
}

fn variable(span: &Span, found: &mut Vars) {
    variable_at(span, (span.line, span.col), found);
}

fn variable_at(span: &Span, (row, col): (u32, u32), found: &mut Vars) {
    let name = match span.text() {
        "_" => format!("_ {}", span.start),
        name => name.to_owned(),
    };
    found.entry(name).or_insert_with(|| Location { row, col, ..syntax::location(span) });
}
