//! Terms against types: do they fit, and what are the variables in them then? The rules are OPA's, with its gaps: a type
//! that is not known yet fits what it meets first.

use std::sync::Arc;

use super::{Checker, Term, Ty, Type};
use crate::policy::types::{self, is_open, or, select, unifies};

impl Checker<'_> {
    /// `left = right`, of these types.
    pub(super) fn unify_terms(&mut self, left: &Term, a: &Ty, right: &Term, b: &Ty) -> bool {
        match (is_open(a), is_open(b)) {
            (true, false) => return self.unify(left, b, false),
            (false, true) => return self.unify(right, a, false),
            (false, false) => return unifies(a, b),
            (true, true) => {}
        }
        match (left, right) {
            (Term::Array(own), Term::Array(other)) => {
                return own.len() == other.len()
                    && own.iter().zip(other).all(|(own, other)| self.unify_parts(own, other));
            }
            (Term::Object(own), Term::Object(other)) => {
                if own.len() != other.len() {
                    return false;
                }
                return own.iter().all(|(key, value)| {
                    let same = |(other, _): &&(Term, Term)| match (key, other) {
                        (Term::Const(key), Term::Const(other)) => key == other,
                        _ => false,
                    };
                    match other.iter().find(same) {
                        Some((_, other)) => self.unify_parts(value, other),
                        // Computed keys are not compared.
                        None => !key.is_const(),
                    }
                });
            }
            (composite @ (Term::Array(_) | Term::Object(_)), var @ Term::Var(_))
            | (var @ Term::Var(_), composite @ (Term::Array(_) | Term::Object(_) | Term::Var(_))) => {
                return self.unify(composite, &types::any(), false) && {
                    let ty = self.ty(composite);
                    self.unify(var, &ty, false)
                };
            }
            (var @ Term::Var(_), Term::Ref(_)) | (Term::Ref(_), var @ Term::Var(_)) => {
                return self.unify(var, &types::any(), false);
            }
            _ => {}
        }
        match (left, right) {
            (var @ Term::Var(_), _) if a.is_none() && b.is_some() => self.unify(var, b, false),
            (_, var @ Term::Var(_)) if b.is_none() && a.is_some() => self.unify(var, a, false),
            // One that has no type at all has its own complaint.
            _ => a.is_none() || b.is_none(),
        }
    }

    fn unify_parts(&mut self, left: &Term, right: &Term) -> bool {
        let (a, b) = (self.ty(left), self.ty(right));
        self.unify_terms(left, &a, right, &b)
    }

    /// Does a term fit a type? Variables that have none get it; with `union`, they may be of both.
    pub(super) fn unify(&mut self, term: &Term, ty: &Ty, union: bool) -> bool {
        let composite = matches!(term, Term::Array(_) | Term::Set(_) | Term::Object(_));
        if composite && let Some(Type::Any(of)) = ty.as_deref() {
            if of.is_empty() {
                self.anything(term);
                return true;
            }
            let mut fits = false;
            for member in of {
                fits |= self.unify(term, &Some(Arc::clone(member)), true);
            }
            return fits;
        }
        match (term, ty.as_deref()) {
            (Term::Array(items), Some(Type::Array { rest, fixed })) => {
                (items.len() == fixed.len() || rest.is_some())
                    && items.iter().enumerate().all(|(index, item)| {
                        let ty = fixed.get(index).cloned().unwrap_or_else(|| rest.clone());
                        self.unify(item, &ty, union)
                    })
            }
            (Term::Object(members), Some(Type::Object { rest, fixed })) => {
                (members.len() == fixed.len() || rest.is_some())
                    && members.iter().all(|(key, value)| match key {
                        Term::Const(key) => match select(ty, key) {
                            None => false,
                            child => self.unify(value, &child, union),
                        },
                        _ => {
                            self.unify(value, &types::any(), union);
                            true
                        }
                    })
            }
            (Term::Set(items), Some(Type::Set(of))) => items.iter().all(|item| self.unify(item, of, union)),
            (Term::Array(_) | Term::Object(_) | Term::Set(_), _) => false,
            (Term::Var(var), _) => {
                let own = self.vars.get(var).cloned().flatten();
                match own {
                    own if union => {
                        self.vars.insert(*var, or(&own, ty));
                        true
                    }
                    None => {
                        self.vars.insert(*var, ty.clone());
                        true
                    }
                    own => unifies(&own, ty),
                }
            }
            (Term::Unknown, _) => true,
            (term, _) => unifies(&self.ty(term), ty),
        }
    }

    /// Variables of a term that may be anything.
    fn anything(&mut self, term: &Term) {
        match term {
            Term::Array(items) | Term::Set(items) => items.iter().for_each(|item| self.any_part(item)),
            Term::Object(members) => members.iter().for_each(|(key, value)| {
                self.any_part(key);
                self.any_part(value);
            }),
            _ => {}
        }
    }

    fn any_part(&mut self, term: &Term) {
        self.unify(term, &types::any(), true);
    }
}
