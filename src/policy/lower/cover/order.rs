//! The order in which OPA evaluates the statements of a body: that of the text, except where a statement needs a variable
//! that a later one binds.

use std::collections::BTreeSet;

use regorus::unstable::{Literal, LiteralStmt, Query};

use super::ranges;

/// Levels of one body; what is left of a longer one is one level.
const MOST_LEVELS: usize = 48;

/// One statement, or what is left of a body.
pub(super) struct Level<'q> {
    pub(super) statements: Vec<&'q LiteralStmt>,
    pub(super) declared: BTreeSet<String>,
}

/// The statements in an order in which each has its variables, and all variables that they bind.
pub(super) fn levels<'q>(
    query: &'q Query,
    known: &BTreeSet<String>,
    is_document: &dyn Fn(&str) -> bool,
) -> (Vec<Level<'q>>, BTreeSet<String>) {
    let mut declared: BTreeSet<String> = BTreeSet::new();
    let mut assigned: BTreeSet<String> = BTreeSet::new();
    for statement in &query.stmts {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => declared.extend(vars.iter().map(|var| var.text().to_owned())),
            _ => assigned.extend(ranges::declares(statement)),
        }
    }
    // Any other name of a rule is the rule.
    let is_variable = |name: &String| declared.contains(name) || assigned.contains(name) || !is_document(name);
    let mut left: Vec<(&LiteralStmt, BTreeSet<String>, BTreeSet<String>, bool)> = Vec::new();
    let mut bindable = declared.clone();
    for statement in query.stmts.iter().filter(|statement| !matches!(statement.literal, Literal::SomeVars { .. })) {
        let (mut binds, mut all, unifies) = ranges::facts(statement);
        binds.retain(is_variable);
        all.retain(is_variable);
        bindable.extend(binds.iter().cloned());
        left.push((statement, binds, all, unifies));
    }
    let mut have: BTreeSet<String> = known.difference(&declared).cloned().collect();
    let own: BTreeSet<String> = bindable.iter().filter(|name| !have.contains(*name)).cloned().collect();
    let mut levels = Vec::new();
    while !left.is_empty() {
        let ready = left.iter().position(|(statement, binds, all, unifies)| {
            let free = |names: &BTreeSet<String>| names.iter().all(|name| !own.contains(name) || have.contains(name));
            let needs: BTreeSet<String> = all.difference(binds).cloned().collect();
            free(&needs) && (!unifies || ranges::sides(statement).iter().any(free))
        });
        let taken = match ready {
            Some(index) if levels.len() < MOST_LEVELS => vec![left.remove(index)],
            _ => std::mem::take(&mut left),
        };
        let mut level = Level { statements: Vec::new(), declared: BTreeSet::new() };
        let mut assigned = BTreeSet::new();
        for (statement, binds, all, _) in taken {
            let names = binds.iter().chain(&all);
            level.declared.extend(names.filter(|name| own.contains(*name) && !have.contains(*name)).cloned());
            assigned.extend(ranges::declares(statement));
            level.statements.push(statement);
        }
        have.extend(level.declared.iter().cloned());
        // A variable that nothing declares would be one of the rule around.
        level.declared.retain(|name| !assigned.contains(name));
        levels.push(level);
    }
    (levels, own)
}
