//! Definitions of one rule: which of them are evaluated together, and whether OPA stops at the first that holds.

use std::collections::BTreeMap;

use regorus::unstable::{Expr, Module, Rule, RuleHead};

use crate::policy::syntax;

/// Definitions of one rule, which OPA may stop to evaluate at the first that holds.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<String, Group>);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: usize,
    first: (usize, usize),
    last: (usize, usize),
    /// All give the same value, if any.
    pub(super) stops: bool,
    value: Option<String>,
    /// The default's value, and its arguments in parentheses.
    pub(super) default: Option<(String, String)>,
}

/// What a rule is in its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'g> {
    pub(super) group: Option<&'g Group>,
    pub(super) first: bool,
    pub(super) last: bool,
}

// === impl Groups ===

impl Groups {
    pub(super) fn new(modules: &[&Module]) -> Self {
        let mut groups = Self::default();
        for (index, module) in modules.iter().enumerate() {
            for (position, rule) in module.policy.iter().enumerate() {
                let at = (index, position);
                let number = groups.0.len();
                let group = groups.0.entry(key(module, rule)).or_insert(Group {
                    number,
                    first: at,
                    last: at,
                    stops: true,
                    value: None,
                    default: None,
                });
                match &**rule {
                    Rule::Default { value, args, .. } => {
                        let args: Vec<&str> = args.iter().map(|arg| arg.span().text()).collect();
                        let args = if args.is_empty() { String::new() } else { format!("({})", args.join(", ")) };
                        group.default = Some((written(value), args));
                    }
                    Rule::Spec { head, bodies, .. } => {
                        if group.first == group.last && group.value.is_none() && group.default.is_some() {
                            group.first = at;
                        }
                        group.last = at;
                        group.stops &= bodies.iter().all(|body| !body.is_else) && group.agrees(head);
                    }
                }
            }
        }
        groups
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What a rule is.
    pub(super) fn place(&self, module: &Module, at: (usize, usize), rule: &Rule) -> Place<'_> {
        let group = self.0.get(&key(module, rule));
        Place {
            group,
            first: group.is_some_and(|group| group.first == at),
            last: group.is_some_and(|group| group.last == at),
        }
    }
}

impl Group {
    /// Is the value of this head that of the others?
    fn agrees(&mut self, head: &RuleHead) -> bool {
        let value = match head {
            RuleHead::Set { .. } => return false,
            RuleHead::Compr { refr, .. } if matches!(**refr, Expr::RefBrack { .. }) => return false,
            RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => match assign {
                None => "true".to_owned(),
                Some(assign) if is_ground(&assign.value) => written(&assign.value),
                Some(_) => return false,
            },
        };
        *self.value.get_or_insert_with(|| value.clone()) == value
    }
}

fn key(module: &Module, rule: &Rule) -> String {
    let refr = match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    };
    format!("{}/{}", syntax::package_path(module).join("/"), refr.span().text())
}

/// Is it a constant?
pub(super) fn is_ground(expr: &Expr) -> bool {
    match expr {
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. } => {
            true
        }
        Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } => {
            syntax::parts(expr).iter().all(|part| is_ground(part))
        }
        _ => false,
    }
}

/// The text of a constant. Spans of strings leave their quotes out.
fn written(expr: &Expr) -> String {
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => value.to_string(),
        other => other.span().text().to_owned(),
    }
}
