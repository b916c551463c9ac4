//! `rego.parse_module`: a module's syntax tree as OPA's JSON, without places. Nothing in it is compiled, resolved or run.
//! What the parser of policies refuses is an error here too; modules whose rules are named by keywords are among that.

mod terms;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use regorus::{
    Value,
    unstable::{
        AssignOp, Expr, Import, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleAssign, RuleBody, RuleHead,
    },
};

use self::terms::{Members, always, assigns, compare, is_scalar, object, operator, term};
use super::super::{LoadError, builtins::BuiltinError, bundle::RegoFile, check, lower, syntax::infix};
use super::{
    Outcome,
    operand::{self, failed, record},
};

/// Largest module.
const MOST_BYTES: usize = 1 << 20;

pub(super) fn parse_module(args: &[Value]) -> Outcome {
    let name = operand::string(args, 0)?;
    // OPA counts both operands as its first.
    let Some(Value::String(text)) = args.get(1) else { return Err(operand::wrong_type(0, "string", args.get(1))) };
    let text = text.as_ref();
    if text.trim().is_empty() {
        return Err(failed(format!("{name}:0: rego_parse_error: empty module")));
    }
    if text.len() > MOST_BYTES {
        return Err(BuiltinError::Limit(format!("a module is larger than {MOST_BYTES} bytes")));
    }
    let complain = |error: LoadError| {
        let place = error.location.map(|at| format!("{name}:{}: ", at.row)).unwrap_or_default();
        failed(format!("1 error occurred: {place}{}: {}", error.code, error.message))
    };
    let lowered = lower::without_templates(name, text).map_err(complain)?;
    let file =
        RegoFile { id: name.to_owned(), display: name.to_owned(), text: Arc::from(lowered), v0: false, roots: None };
    let module = check::module(&file).map_err(complain)?;
    Writer { wildcards: 0 }.module(&module, name, text)
}

/// Writes terms; wildcards are numbered in the order of the text.
struct Writer {
    wildcards: usize,
}

// === impl Writer ===

impl Writer {
    fn module(&mut self, module: &Module, name: &str, text: &str) -> Outcome {
        let mut package = vec![term("var", Value::from("data"))];
        for part in self.path(&module.package.refr)? {
            package.push(term("string", part["value"].clone()));
        }
        let mut members = vec![("package", record([("path", Value::from(package))]))];
        let imports = module.imports.iter().map(|import| self.import(import)).collect::<Result<Vec<_>, _>>()?;
        if !imports.is_empty() {
            members.push(("imports", Value::from(imports)));
        }
        let mut rules = Vec::new();
        for rule in &module.policy {
            self.rule(rule, &mut rules)?;
        }
        if !rules.is_empty() {
            members.push(("rules", Value::from(rules)));
        }
        let comments: Vec<Value> = lower::comments(text)
            .into_iter()
            .map(|(row, col, comment)| {
                let location =
                    record([("col", Value::from(col)), ("file", Value::from(name)), ("row", Value::from(row))]);
                record([("Location", location), ("Text", Value::from(STANDARD.encode(comment)))])
            })
            .collect();
        if !comments.is_empty() {
            members.push(("comments", Value::from(comments)));
        }
        Ok(object(members))
    }

    fn import(&mut self, import: &Import) -> Outcome {
        let mut members = vec![("path", term("ref", Value::from(self.path(&import.refr)?)))];
        members.extend(import.r#as.as_ref().map(|alias| ("alias", Value::from(alias.text()))));
        Ok(object(members))
    }

    fn rule(&mut self, rule: &Rule, rules: &mut Vec<Value>) -> Result<(), BuiltinError> {
        match rule {
            Rule::Default { refr, args, op, value, .. } => {
                let mut head = self.head(refr)?;
                if head.iter().any(|(name, _)| *name == "key") {
                    head.retain(|(name, _)| *name == "ref");
                }
                self.arguments(args, &mut head)?;
                head.extend(assigns(op));
                head.push(("value", self.term(value)?));
                let body = Value::from(vec![always()]);
                rules.push(object(vec![("body", body), ("default", Value::from(true)), ("head", object(head))]));
            }
            Rule::Spec { head, bodies, .. } => {
                let mut rest = bodies.as_slice();
                loop {
                    let (own, after) = match rest.split_first() {
                        Some((first, after)) => (Some(first), after),
                        None => (None, rest),
                    };
                    let elses = after.iter().take_while(|body| body.is_else).count();
                    let (elses, next) = after.split_at_checked(elses).unwrap_or_default();
                    rules.push(self.spec(head, own, elses)?);
                    rest = next;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn spec(&mut self, head: &RuleHead, body: Option<&RuleBody>, elses: &[RuleBody]) -> Outcome {
        let (members, assign) = match head {
            RuleHead::Set { refr, key, .. } => {
                let mut members = self.head(refr)?;
                if let Some(key) = key {
                    let named = matches!(&**refr, Expr::Var { .. });
                    members.retain(|(name, _)| *name != "key" && (*name != "name" || named));
                    members.push(("key", self.term(key)?));
                }
                (members, None)
            }
            RuleHead::Compr { refr, assign, .. } => (self.head(refr)?, Some(assign)),
            RuleHead::Func { refr, args, assign, .. } => {
                let mut members = self.head(refr)?;
                members.retain(|(name, _)| *name != "key" && (*name != "name" || matches!(&**refr, Expr::Var { .. })));
                self.arguments(args, &mut members)?;
                (members, Some(assign))
            }
        };
        let mut members = members;
        if !matches!(head, RuleHead::Set { .. }) {
            // The older members say less of a head of two names.
            let pair = members.iter().any(|(name, _)| *name == "key");
            let valued = assign.is_some_and(Option::is_some);
            let bare = body.is_none_or(|body| body.query.stmts.is_empty());
            members.retain(|(name, value)| match *name {
                "name" => !pair || valued,
                "key" => bare || !is_scalar(value),
                _ => true,
            });
        }
        let mut whole = members.clone();
        if let Some(assign) = assign {
            self.value(assign.as_ref(), &mut whole)?;
        }
        let inherited: Vec<_> = whole.iter().filter(|(name, _)| *name == "assign").cloned().collect();
        let mut rule = vec![("head", object(whole)), ("body", self.body(body)?)];
        if let Some(other) = self.otherwise(head, (members, inherited), elses)? {
            rule.push(("else", other));
        }
        Ok(object(rule))
    }

    /// The branches behind `else`. Each has the head, with wildcards of its own; one that says no value has the sign of
    /// the first.
    fn otherwise(
        &mut self,
        head: &RuleHead,
        (mut members, inherited): (Members, Members),
        elses: &[RuleBody],
    ) -> Result<Option<Value>, BuiltinError> {
        let mut written = Vec::new();
        for body in elses {
            if let RuleHead::Func { args, .. } = head {
                members.retain(|(name, _)| *name != "args");
                self.arguments(args, &mut members)?;
            }
            let mut own = members.clone();
            if body.assign.is_none() {
                own.extend(inherited.iter().cloned());
            }
            self.value(body.assign.as_ref(), &mut own)?;
            written.push(vec![("head", object(own)), ("body", self.body(Some(body))?)]);
        }
        let mut inner = None;
        for mut rule in written.into_iter().rev() {
            rule.extend(inner.map(|inner| ("else", inner)));
            inner = Some(object(rule));
        }
        Ok(inner)
    }

    fn value(&mut self, assign: Option<&RuleAssign>, head: &mut Members) -> Result<(), BuiltinError> {
        match assign {
            Some(assign) => {
                head.extend(assigns(&assign.op));
                head.push(("value", self.term(&assign.value)?));
            }
            None => head.push(("value", term("boolean", Value::from(true)))),
        }
        Ok(())
    }

    /// The names of a head: as a reference, and in the older members where those can say it.
    fn head(&mut self, refr: &Expr) -> Result<Members, BuiltinError> {
        let path = self.path(refr)?;
        let mut members = Vec::new();
        match path.as_slice() {
            [only] => members.push(("name", only["value"].clone())),
            [first, key] => {
                members.extend([("name", first["value"].clone()), ("key", key.clone())]);
            }
            _ => {}
        }
        members.push(("ref", Value::from(path)));
        Ok(members)
    }

    fn arguments(&mut self, args: &[Ref<Expr>], head: &mut Members) -> Result<(), BuiltinError> {
        if !args.is_empty() {
            head.push(("args", Value::from(self.terms(args)?)));
        }
        Ok(())
    }

    fn body(&mut self, body: Option<&RuleBody>) -> Outcome {
        match body {
            Some(body) if !body.query.stmts.is_empty() => self.query(&body.query),
            _ => Ok(Value::from(vec![always()])),
        }
    }

    fn query(&mut self, query: &Query) -> Outcome {
        let statements = query.stmts.iter().zip(0_u64..);
        let statements = statements.map(|(statement, index)| self.statement(statement, index));
        Ok(Value::from(statements.collect::<Result<Vec<_>, _>>()?))
    }

    fn statement(&mut self, statement: &LiteralStmt, index: u64) -> Outcome {
        let mut members = vec![("index", Value::from(index))];
        let terms = match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                let vars = vars.iter().map(|var| self.variable(var.text())).collect::<Vec<_>>();
                record([("symbols", Value::from(vars))])
            }
            Literal::SomeIn { key, value, collection, .. } => {
                let call = self.membership(key.as_ref(), value, collection)?;
                record([("symbols", Value::from(vec![term("call", Value::from(call))]))])
            }
            Literal::Expr { expr, .. } => self.expression(expr)?,
            Literal::NotExpr { expr, .. } => {
                members.push(("negated", Value::from(true)));
                self.expression(expr)?
            }
            Literal::Every { key, value, domain, query, .. } => {
                let key = key.as_ref().map_or(Value::Null, |key| self.variable(key.text()));
                let value = self.variable(value.text());
                let domain = self.term(domain)?;
                record([("body", self.query(query)?), ("domain", domain), ("key", key), ("value", value)])
            }
        };
        members.push(("terms", terms));
        let mut with = Vec::new();
        for modifier in &statement.with_mods {
            let target = self.term(&modifier.refr)?;
            with.push(record([("target", target), ("value", self.term(&modifier.r#as)?)]));
        }
        if !with.is_empty() {
            members.push(("with", Value::from(with)));
        }
        Ok(object(members))
    }

    /// A call as a list of its parts, anything else as a term.
    fn expression(&mut self, expr: &Expr) -> Outcome {
        let value = self.term(expr)?;
        if value["type"] == Value::from("call") { Ok(value["value"].clone()) } else { Ok(value) }
    }

    fn terms(&mut self, exprs: &[Ref<Expr>]) -> Result<Vec<Value>, BuiltinError> {
        exprs.iter().map(|expr| self.term(expr)).collect()
    }

    fn term(&mut self, expr: &Expr) -> Outcome {
        Ok(match expr {
            Expr::String { value, .. } | Expr::RawString { value, .. } => term("string", value.clone()),
            Expr::Number { value, .. } => term("number", value.clone()),
            Expr::Bool { value, .. } => term("boolean", value.clone()),
            Expr::Null { .. } => term("null", Value::new_object()),
            Expr::Var { span, .. } => match span.text() {
                root @ ("input" | "data") => term("ref", Value::from(vec![term("var", Value::from(root))])),
                name => self.variable(name),
            },
            Expr::Array { items, .. } => term("array", Value::from(self.terms(items)?)),
            Expr::Set { items, .. } => {
                let mut items = self.terms(items)?;
                items.sort_by(compare);
                items.dedup();
                term("set", Value::from(items))
            }
            Expr::Object { fields, .. } => {
                let pairs = fields.iter().map(|(_, key, value)| Ok((self.term(key)?, self.term(value)?)));
                let mut pairs = pairs.collect::<Result<Vec<_>, BuiltinError>>()?;
                pairs.sort_by(|(a, _), (b, _)| compare(a, b));
                let pairs = pairs.into_iter().map(|(key, value)| Value::from(vec![key, value]));
                term("object", Value::from(pairs.collect::<Vec<_>>()))
            }
            Expr::ArrayCompr { term: of, query, .. } => {
                let of = self.term(of)?;
                term("arraycomprehension", record([("body", self.query(query)?), ("term", of)]))
            }
            Expr::SetCompr { term: of, query, .. } => {
                let of = self.term(of)?;
                term("setcomprehension", record([("body", self.query(query)?), ("term", of)]))
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                let (key, value) = (self.term(key)?, self.term(value)?);
                let parts = record([("body", self.query(query)?), ("key", key), ("value", value)]);
                term("objectcomprehension", parts)
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } => term("ref", Value::from(self.path(expr)?)),
            Expr::Call { fcn, params, .. } => return self.call(fcn, params),
            Expr::UnaryExpr { expr, .. } => {
                let parts = vec![operator(&["minus"]), term("number", Value::from(0_u64)), self.term(expr)?];
                term("call", Value::from(parts))
            }
            Expr::BinExpr { .. } | Expr::BoolExpr { .. } | Expr::ArithExpr { .. } => {
                let (name, sides) =
                    infix(expr).ok_or_else(|| BuiltinError::Failed("an operator has no name".to_owned()))?;
                return self.operation(name, &sides);
            }
            Expr::AssignExpr { op, lhs, rhs, .. } => {
                let name = if matches!(op, AssignOp::ColEq) { "assign" } else { "eq" };
                return self.operation(name, &[lhs, rhs]);
            }
            Expr::Membership { key, value, collection, .. } => {
                term("call", Value::from(self.membership(key.as_ref(), value, collection)?))
            }
        })
    }

    fn call(&mut self, fcn: &Expr, params: &[Ref<Expr>]) -> Outcome {
        let path = self.path(fcn)?;
        let name: Vec<&Value> = path.iter().map(|part| &part["value"]).collect();
        if params.is_empty() && name == [&Value::from("set")] {
            return Ok(term("set", Value::from(Vec::new())));
        }
        if let ([first, second], [Expr::Array { items, .. }]) =
            (name.as_slice(), &*params.iter().map(|p| &**p).collect::<Vec<_>>())
            && **first == Value::from("internal")
            && **second == Value::from("template_string")
        {
            return self.template(items);
        }
        let mut parts = vec![term("ref", Value::from(path))];
        parts.extend(self.terms(params)?);
        Ok(term("call", Value::from(parts)))
    }

    /// What [`lower::template`] made of a template.
    fn template(&mut self, items: &[Ref<Expr>]) -> Outcome {
        let mut parts = Vec::new();
        for item in items {
            match &**item {
                Expr::SetCompr { query, .. } => {
                    let statement = query.stmts.first();
                    let Some(LiteralStmt { literal: Literal::Expr { expr, .. }, .. }) = statement else { continue };
                    let Expr::AssignExpr { rhs, .. } = &**expr else { continue };
                    let mut part = vec![("index", Value::from(0_u64)), ("terms", self.expression(rhs)?)];
                    let mut with = Vec::new();
                    for modifier in statement.map(|statement| &statement.with_mods).into_iter().flatten() {
                        let target = self.term(&modifier.refr)?;
                        with.push(record([("target", target), ("value", self.term(&modifier.r#as)?)]));
                    }
                    if !with.is_empty() {
                        part.push(("with", Value::from(with)));
                    }
                    parts.push(object(part));
                }
                other => parts.push(self.term(other)?),
            }
        }
        let template = record([("multi_line", Value::from(false)), ("parts", Value::from(parts))]);
        Ok(term("templatestring", template))
    }

    fn operation(&mut self, name: &str, operands: &[&Ref<Expr>]) -> Outcome {
        let mut parts = vec![operator(&[name])];
        for operand in operands {
            parts.push(self.term(operand)?);
        }
        Ok(term("call", Value::from(parts)))
    }

    fn membership(
        &mut self,
        key: Option<&Ref<Expr>>,
        value: &Expr,
        collection: &Expr,
    ) -> Result<Vec<Value>, BuiltinError> {
        let mut parts = vec![operator(&["internal", if key.is_some() { "member_3" } else { "member_2" }])];
        if let Some(key) = key {
            parts.push(self.term(key)?);
        }
        parts.push(self.term(value)?);
        parts.push(self.term(collection)?);
        Ok(parts)
    }

    /// The terms of a reference.
    fn path(&mut self, expr: &Expr) -> Result<Vec<Value>, BuiltinError> {
        let mut links = Vec::new();
        let mut at = expr;
        let root = loop {
            match at {
                Expr::RefDot { refr, field, .. } => {
                    links.push(Err(field.1.clone()));
                    at = refr;
                }
                Expr::RefBrack { refr, index, .. } => {
                    links.push(Ok(index));
                    at = refr;
                }
                root => break root,
            }
        };
        let mut path = vec![match root {
            Expr::Var { span, .. } => self.variable(span.text()),
            other => self.term(other)?,
        }];
        for link in links.into_iter().rev() {
            path.push(match link {
                Err(name) => term("string", name),
                Ok(index) => self.term(index)?,
            });
        }
        Ok(path)
    }

    fn variable(&mut self, name: &str) -> Value {
        if name != "_" {
            return term("var", Value::from(name));
        }
        self.wildcards += 1;
        term("var", Value::from(format!("${}", self.wildcards - 1)))
    }
}
