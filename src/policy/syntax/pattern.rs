//! Patterns that the engine reads in another way than OPA: it takes the last value of a variable that stands twice. It
//! finds them and judges nothing.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Ref, Span};

use super::{Location, location, root_of};

/// What the engine would read in another way than OPA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) enum Misreading {
    /// `f(x, x)`, `some x, x in …`.
    Repeated(String),
    /// A parameter named `input` or `data`.
    Root(String),
}

type Found = Vec<(Misreading, Location)>;

/// The parameters of a function.
pub(super) fn parameters(arguments: &[Ref<Expr>], found: &mut Found) {
    repeated(arguments.iter(), found);
    for span in arguments.iter().flat_map(|argument| variables(argument)) {
        if root_of(span.text()).is_some() {
            found.push((Misreading::Root(span.text().to_owned()), location(span)));
        }
    }
}

/// A name in two of the patterns. Within one pattern the engine compares, as OPA does.
pub(super) fn repeated<'e, I: Iterator<Item = &'e Ref<Expr>>>(patterns: I, found: &mut Found) {
    let mut seen = BTreeSet::new();
    for pattern in patterns {
        let own = variables(pattern);
        for span in &own {
            if span.text() != "_" && seen.contains(span.text()) {
                found.push((Misreading::Repeated(span.text().to_owned()), location(span)));
            }
        }
        seen.extend(own.into_iter().map(|span| span.text().to_owned()));
    }
}

/// The variables of a pattern.
fn variables(pattern: &Ref<Expr>) -> Vec<&Span> {
    match pattern.as_ref() {
        Expr::Var { span, .. } => vec![span],
        Expr::Array { items, .. } => items.iter().flat_map(|item| variables(item)).collect(),
        Expr::Object { fields, .. } => fields.iter().flat_map(|(_, _, value)| variables(value)).collect(),
        _ => Vec::new(),
    }
}
