//! The types of rules by their path under `data`, as far as they are known. It holds and merges them; it checks nothing.

use std::collections::BTreeMap;

use regorus::Value;

use crate::policy::{
    core::Term,
    types::{self, Ty, Type, merge, or, select, values},
};

/// Everything below `data`.
#[derive(Debug, Default)]
pub(in crate::policy) struct Known {
    root: Node,
}

/// A path: what a rule gives there, and the paths below it.
#[derive(Debug, Default)]
pub(super) struct Node {
    ty: Ty,
    children: BTreeMap<Value, Node>,
}

// === impl Known ===

impl Known {
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// The type of a rule at exactly this path.
    pub(super) fn exact(&self, path: &[String]) -> Ty {
        let mut node = &self.root;
        for name in path {
            node = node.child(&Value::from(name.as_str()))?;
        }
        node.ty.clone()
    }

    /// The type of what stands at a path.
    pub(super) fn of(&self, path: &[Term]) -> Ty {
        let mut node = &self.root;
        for (index, step) in path.iter().enumerate() {
            let rest = path.get(index..).unwrap_or_default();
            let child = match step {
                Term::Const(key) => node.child(key),
                _ => None,
            };
            match child {
                Some(child) => node = child,
                None if node.ty.is_some() => return below(&node.ty, rest),
                None if !step.is_const() => return below(&node.extent(), rest),
                // A base document.
                None => return types::any(),
            }
        }
        node.extent()
    }

    /// Replaces what is known of a rule.
    pub(super) fn put(&mut self, path: &[Term], ty: Ty) {
        let mut node = &mut self.root;
        for key in ground(path) {
            node = node.children.entry(key).or_default();
        }
        node.ty = ty;
    }

    /// Adds what one more body of a rule gives.
    pub(super) fn insert(&mut self, path: &[Term], ty: &Ty) {
        let path: Vec<Value> = ground(path).collect();
        let mut node = &mut self.root;
        for (index, key) in path.iter().enumerate() {
            node = node.children.entry(key.clone()).or_default();
            let rest = path.get(index + 1..).unwrap_or_default();
            if !rest.is_empty() && matches!(node.ty.as_deref(), Some(Type::Object { .. })) {
                node.ty = with_member(&node.ty, rest, ty);
            }
        }
        node.ty = merge(&node.ty, ty);
        if matches!(ty.as_deref(), Some(Type::Object { .. })) && !node.children.is_empty() {
            let mut leaves = Vec::new();
            node.children.iter().for_each(|(key, child)| child.leaves(&mut vec![key.clone()], &mut leaves));
            for (path, leaf) in leaves {
                node.ty = with_member(&node.ty, &path, &leaf);
            }
        }
    }
}

// === impl Node ===

impl Node {
    pub(super) fn ty(&self) -> &Ty {
        &self.ty
    }

    pub(super) fn child(&self, key: &Value) -> Option<&Self> {
        self.children.get(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn names(&self) -> Vec<Value> {
        self.children.keys().cloned().collect()
    }

    /// Its own type, or an object of what is below it and of base documents.
    pub(super) fn extent(&self) -> Ty {
        if self.ty.is_some() {
            return self.ty.clone();
        }
        if !types::spend(self.children.len()) {
            return types::any();
        }
        let fixed = self.children.iter().map(|(key, child)| (key.clone(), child.extent())).collect();
        types::object(fixed, Some((types::plain(Type::String), types::any())))
    }

    fn leaves(&self, path: &mut Vec<Value>, found: &mut Vec<(Vec<Value>, Ty)>) {
        if self.ty.is_some() {
            found.push((path.clone(), self.ty.clone()));
            return;
        }
        for (key, child) in &self.children {
            path.push(key.clone());
            child.leaves(path, found);
            path.pop();
        }
    }
}

/// The steps of a head before the first computed one.
fn ground(path: &[Term]) -> impl Iterator<Item = Value> {
    path.iter().map_while(|step| match step {
        Term::Const(value) => Some(value.clone()),
        _ => None,
    })
}

fn below(ty: &Ty, path: &[Term]) -> Ty {
    path.iter().fold(ty.clone(), |ty, step| match step {
        Term::Const(key) => select(&ty, key),
        _ if ty.as_ref().is_some_and(|ty| ty.is_empty_collection()) => types::any(),
        _ => values(&ty),
    })
}

/// An object that also has a member at a path.
fn with_member(object: &Ty, path: &[Value], ty: &Ty) -> Ty {
    let (Some(Type::Object { rest, fixed }), Some((key, below))) = (object.as_deref(), path.split_first()) else {
        return object.clone();
    };
    let value = if below.is_empty() { ty.clone() } else { with_member(&types::object(Vec::new(), None), below, ty) };
    let key = types::of_value(key);
    let rest = match rest {
        Some((own_key, own_value)) => (or(own_key, &key), or(own_value, &value)),
        None => (key, value),
    };
    types::object(fixed.clone(), Some(rest))
}
