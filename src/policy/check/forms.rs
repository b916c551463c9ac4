//! What OPA's parser and its first stages refuse in the form of a module: imports, default rules, and names that hide
//! `input` and `data`. It looks at one module at a time.

use std::collections::{BTreeMap, HashSet};

use regorus::unstable::{Expr, Module, Ref, Rule, RuleHead};

use super::problems::Problems;
use crate::policy::{
    core::Pos,
    syntax::{self, Link, parts},
};

/// Errors of the form that end the check.
pub(super) fn parsed(file: &str, module: &Module, problems: &mut Problems<'_>) {
    let mut fail = |message: String, at: Pos| problems.raw(file, "rego_parse_error", message, Vec::new(), at);
    for import in &module.imports {
        if let Some(alias) = import.r#as.as_ref().filter(|alias| matches!(alias.text(), "input" | "data")) {
            let at = Pos { row: alias.line, col: alias.col };
            fail(format!("unexpected import alias, must not be a reserved name, got: {}", alias.text()), at);
        }
        let Some((root, links)) = syntax::flatten(&import.refr) else { continue };
        let is_keywords = matches!(links.first(), Some(Link::Name(name)) if name == "keywords");
        if root.text() == "future" && !is_keywords {
            fail("invalid import, must be `future.keywords`".to_owned(), Pos { row: root.line, col: root.col });
        }
    }
    for rule in &module.policy {
        let Rule::Default { span, args, value, .. } = rule.as_ref() else { continue };
        let mut seen = HashSet::new();
        let mut wrong = value_of_default(value).map(|what| format!("value cannot contain {what}"));
        for argument in args {
            let found = match argument.as_ref() {
                Expr::Var { span, .. } if span.text() == "_" || seen.insert(span.text().to_owned()) => None,
                Expr::Var { span, .. } => Some(format!("arguments cannot be repeated {}", span.text())),
                other => Some(format!("arguments cannot contain {}", kind(other))),
            };
            wrong = wrong.or(found);
        }
        if let Some(wrong) = wrong {
            fail(format!("illegal default rule ({wrong})"), Pos { row: span.line, col: span.col });
        }
    }
}

/// What a default may not hold; comprehensions may hold anything.
fn value_of_default(value: &Ref<Expr>) -> Option<&'static str> {
    match value.as_ref() {
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => None,
        Expr::Var { span, .. } if matches!(span.text(), "input" | "data") => Some("ref"),
        own @ (Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } | Expr::Call { .. }) => Some(kind(own)),
        Expr::BinExpr { .. } | Expr::BoolExpr { .. } | Expr::ArithExpr { .. } | Expr::Membership { .. } => Some("call"),
        other => parts(other).into_iter().find_map(value_of_default),
    }
}

/// What OPA calls a term.
fn kind(expr: &Expr) -> &'static str {
    match expr {
        Expr::String { .. } | Expr::RawString { .. } => "string",
        Expr::Number { .. } => "number",
        Expr::Bool { .. } => "boolean",
        Expr::Null { .. } => "null",
        Expr::Var { .. } => "var",
        Expr::RefDot { .. } | Expr::RefBrack { .. } => "ref",
        Expr::Array { .. } => "array",
        Expr::Object { .. } => "object",
        Expr::Set { .. } => "set",
        Expr::ArrayCompr { .. } => "arraycomprehension",
        Expr::SetCompr { .. } => "setcomprehension",
        Expr::ObjectCompr { .. } => "objectcomprehension",
        _ => "call",
    }
}

/// Imports of one name, imports that nothing uses, and rules and arguments that hide a document. What holds in strict mode
/// alone is a warning without it. `used`: the imported names that are used; nothing where that is not known.
pub(super) fn names(
    file: &str,
    module: &Module,
    is_v0: bool,
    is_strict: bool,
    used: Option<&HashSet<String>>,
    problems: &mut Problems<'_>,
) {
    let mut complain = |message: String, at: Pos, is_error: bool| {
        if is_error {
            problems.raw(file, "rego_compile_error", message, Vec::new(), at);
        } else {
            problems.warn(file, "rego_compile_error", message, at);
        }
    };
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for import in &module.imports {
        let (Some(name), Some((root, _))) = (syntax::imported_name(import), syntax::flatten(&import.refr)) else {
            continue;
        };
        let at = Pos { row: import.span.line, col: import.span.col };
        let alias = import.r#as.as_ref().map(|alias| format!(" as {}", alias.text())).unwrap_or_default();
        let path = syntax::dotted_name(&import.refr).unwrap_or_default();
        let text = format!("import {path}{alias}");
        if matches!(root.text(), "input" | "data") && used.is_some_and(|used| !used.contains(&name)) {
            complain(format!("{text} unused"), at, is_strict);
        }
        match seen.get(&name) {
            Some(first) => complain(format!("import must not shadow {first}"), at, is_strict || !is_v0),
            None => _ = seen.insert(name, text),
        }
    }
    for rule in &module.policy {
        let span = rule.span();
        let at = Pos { row: span.line, col: span.col };
        let (refr, arguments) = match rule.as_ref() {
            Rule::Default { refr, args, .. } | Rule::Spec { head: RuleHead::Func { refr, args, .. }, .. } => {
                (refr, args.as_slice())
            }
            Rule::Spec { head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, .. } => (refr, [].as_slice()),
        };
        let hides = |expr: &Ref<Expr>| match expr.as_ref() {
            Expr::Var { span, .. } => {
                Some(span.text().to_owned()).filter(|name| matches!(name.as_str(), "input" | "data"))
            }
            _ => None,
        };
        if let Some((root, _)) = syntax::flatten(refr).filter(|(root, _)| matches!(root.text(), "input" | "data")) {
            let message = format!("rules must not shadow {} (use a different rule name)", root.text());
            complain(message, at, is_strict || !is_v0);
        }
        for name in arguments.iter().filter_map(hides) {
            let message = format!("args must not shadow {name} (use a different variable name)");
            complain(message, at, is_strict || !is_v0);
        }
    }
}
