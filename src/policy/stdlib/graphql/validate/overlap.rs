//! Fields that would share a name in the answer and yet differ: other fields, other arguments, other types. Every pair of
//! fields that may meet is compared, through fragments, in OPA's order; the steps are counted and bounded.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use super::{Checked, Fault, Field, Literal, Place, Selection, Spread, Type, Walker, literal, rules::within, type_of};

/// What was compared already.
#[derive(Default)]
pub(super) struct Overlap<'a> {
    /// Pairs of fragments, and whether they could not meet.
    pairs: HashMap<(&'a str, &'a str), bool>,
    fragments: HashSet<&'a str>,
}

/// Two fields that differ.
struct Conflict<'a> {
    name: &'a str,
    reason: Reason<'a>,
    place: Option<Place>,
}

enum Reason<'a> {
    Own(String),
    Inner(Vec<Conflict<'a>>),
}

/// The fields of a selection set by the name that they have in the answer, in order, and what it spreads.
#[derive(Default)]
struct Collected<'a> {
    order: Vec<&'a str>,
    fields: HashMap<&'a str, Vec<&'a Field>>,
    spreads: Vec<&'a Spread>,
}

type Conflicts<'a> = Vec<Conflict<'a>>;

impl<'a> Walker<'a> {
    /// Complains about conflicts of a selection set.
    pub(super) fn overlapping(&mut self, selections: &'a [Selection]) -> Checked {
        if selections.is_empty() {
            return Ok(());
        }
        let own = self.collect(selections)?;
        let mut conflicts = Vec::new();
        for name in &own.order {
            let fields = own.fields.get(name).map(Vec::as_slice).unwrap_or_default();
            for (index, first) in fields.iter().enumerate() {
                for second in fields.iter().skip(index + 1) {
                    conflicts.extend(self.conflict(false, first, second, 0)?);
                }
            }
        }
        self.overlap.fragments.clear();
        for (index, spread) in own.spreads.iter().enumerate() {
            self.with_fragment(&mut conflicts, false, &own, spread, 0)?;
            for other in own.spreads.iter().skip(index + 1) {
                self.fragments(&mut conflicts, false, (spread, other), 0)?;
            }
        }
        for conflict in conflicts {
            let mut reason = String::new();
            conflict.reason.write(&mut reason);
            let message = format!(
                "Fields \"{}\" conflict because {reason}. Use different aliases on the fields to fetch both if this was \
                 intentional.",
                conflict.name
            );
            self.complain(conflict.place, message)?;
        }
        Ok(())
    }

    fn collect(&self, selections: &'a [Selection]) -> Result<Collected<'a>, Fault> {
        let mut collected = Collected::default();
        let mut open = vec![selections.iter()];
        while let Some(last) = open.last_mut() {
            self.context.charge(1)?;
            match last.next() {
                Some(Selection::Field(field)) => {
                    let name = if field.alias.is_empty() { &field.name } else { &field.alias };
                    let same = collected.fields.entry(name).or_default();
                    if same.is_empty() {
                        collected.order.push(name);
                    }
                    same.push(field);
                }
                Some(Selection::Inline(inline)) => open.push(inline.selection_set.iter()),
                Some(Selection::Spread(spread)) => collected.spreads.push(spread),
                None => {
                    open.pop();
                }
            }
        }
        Ok(collected)
    }

    /// Between fields and those of a fragment, and of the fragments in it.
    fn with_fragment(
        &mut self,
        conflicts: &mut Conflicts<'a>,
        exclusive: bool,
        own: &Collected<'a>,
        spread: &'a Spread,
        depth: usize,
    ) -> Checked {
        within(depth)?;
        if !self.overlap.fragments.insert(&spread.name) {
            return Ok(());
        }
        let Some(fragment) = self.context.fragments.get(spread.name.as_str()) else { return Ok(()) };
        let other = self.collect(&fragment.selection_set)?;
        if own.is_same(&other) {
            return Ok(());
        }
        self.between(conflicts, exclusive, own, &other, depth)?;
        for inner in other.spreads.iter().filter(|inner| inner.name != spread.name) {
            self.with_fragment(conflicts, exclusive, own, inner, depth + 1)?;
        }
        Ok(())
    }

    fn fragments(
        &mut self,
        conflicts: &mut Conflicts<'a>,
        exclusive: bool,
        (first, second): (&'a Spread, &'a Spread),
        depth: usize,
    ) -> Checked {
        within(depth)?;
        self.context.charge(1)?;
        let pair = (first.name.as_str(), second.name.as_str());
        let before = self.overlap.pairs.get(&pair);
        if first.name == second.name || before.is_some_and(|before| exclusive || !before) {
            return Ok(());
        }
        self.overlap.pairs.insert(pair, exclusive);
        self.overlap.pairs.insert((pair.1, pair.0), exclusive);
        let fragment = |name: &str| self.context.fragments.get(name).copied();
        let (Some(a), Some(b)) = (fragment(pair.0), fragment(pair.1)) else { return Ok(()) };
        let (a, b) = (self.collect(&a.selection_set)?, self.collect(&b.selection_set)?);
        self.between(conflicts, exclusive, &a, &b, depth)?;
        for inner in b.spreads {
            self.fragments(conflicts, exclusive, (first, inner), depth + 1)?;
        }
        for inner in a.spreads {
            self.fragments(conflicts, exclusive, (inner, second), depth + 1)?;
        }
        Ok(())
    }

    fn between(
        &mut self,
        conflicts: &mut Conflicts<'a>,
        exclusive: bool,
        own: &Collected<'a>,
        other: &Collected<'a>,
        depth: usize,
    ) -> Checked {
        for name in &own.order {
            self.context.charge(1)?;
            let fields = |of: &Collected<'a>| of.fields.get(name).cloned().unwrap_or_default();
            let others = fields(other);
            if others.is_empty() {
                continue;
            }
            for first in fields(own) {
                for second in &others {
                    conflicts.extend(self.conflict(exclusive, first, second, depth)?);
                }
            }
        }
        Ok(())
    }

    fn conflict(
        &mut self,
        exclusive: bool,
        first: &'a Field,
        second: &'a Field,
        depth: usize,
    ) -> Result<Option<Conflict<'a>>, Fault> {
        within(depth)?;
        self.context.charge(4)?;
        let known = |field: &Field| self.fields.get(&std::ptr::from_ref(field)).copied().unwrap_or_default();
        let (a, b) = (known(first), known(second));
        let (Some(a_parent), Some(b_parent)) = (a.parent, b.parent) else { return Ok(None) };
        let apart = a_parent.name != b_parent.name && a_parent.kind == "OBJECT" && b_parent.kind == "OBJECT";
        let exclusive = exclusive || apart && a.definition.is_some() && b.definition.is_some();
        let conflict = |reason| {
            let name = if first.alias.is_empty() { &first.name } else { &first.alias };
            Ok(Some(Conflict { name, reason, place: second.place }))
        };
        if !exclusive {
            if first.name != second.name {
                let reason = format!("\"{}\" and \"{}\" are different fields", first.name, second.name);
                return conflict(Reason::Own(reason));
            }
            if !self.same_arguments(first, second)? {
                return conflict(Reason::Own("they have differing arguments".to_owned()));
            }
        }
        if let (Some(a), Some(b)) = (a.definition, b.definition) {
            let (a, b) = (type_of(a.r#type.as_ref())?, type_of(b.r#type.as_ref())?);
            if self.types_differ(a, b) {
                return conflict(Reason::Own(format!("they return conflicting types \"{a}\" and \"{b}\"")));
            }
        }
        let (a, b) = (self.collect(&first.selection_set)?, self.collect(&second.selection_set)?);
        let mut inner = Vec::new();
        self.between(&mut inner, exclusive, &a, &b, depth + 1)?;
        for spread in &b.spreads {
            self.overlap.fragments.clear();
            self.with_fragment(&mut inner, exclusive, &a, spread, depth + 1)?;
        }
        for spread in &a.spreads {
            self.overlap.fragments.clear();
            self.with_fragment(&mut inner, exclusive, &b, spread, depth + 1)?;
        }
        for spread in &a.spreads {
            for other in &b.spreads {
                self.fragments(&mut inner, exclusive, (spread, other), depth + 1)?;
            }
        }
        if inner.is_empty() { Ok(None) } else { conflict(Reason::Inner(inner)) }
    }

    fn same_arguments(&self, first: &Field, second: &Field) -> Result<bool, Fault> {
        if first.arguments.len() != second.arguments.len() {
            return Ok(false);
        }
        for own in &first.arguments {
            self.context.charge(second.arguments.len())?;
            let mut found = false;
            for other in second.arguments.iter().filter(|other| other.name == own.name) {
                found = found || self.same_value(own.value.as_ref(), other.value.as_ref())?;
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_value(&self, first: Option<&Literal>, second: Option<&Literal>) -> Result<bool, Fault> {
        let (Some(first), Some(second)) = (first, second) else { return Ok(first.is_none() && second.is_none()) };
        self.context.charge(1 + first.raw.len() / 64)?;
        if first.kind != second.kind || first.raw != second.raw || first.children.len() != second.children.len() {
            return Ok(false);
        }
        let sorted = |of: &Literal| {
            let mut order: Vec<usize> = (0..of.children.len()).collect();
            if of.kind == literal::OBJECT {
                order.sort_by_key(|index| of.children.get(*index).map(|child| &child.name));
            }
            order
        };
        for (a, b) in sorted(first).into_iter().zip(sorted(second)) {
            let (Some(a), Some(b)) = (first.children.get(a), second.children.get(b)) else { return Ok(false) };
            if a.name != b.name || !self.same_value(a.value.as_ref(), b.value.as_ref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn types_differ(&self, a: &Type, b: &Type) -> bool {
        match (&a.elem, &b.elem) {
            (Some(a), Some(b)) => return self.types_differ(a, b),
            (None, None) => {}
            _ => return true,
        }
        let kind = |of: &Type| self.context.r#type(&of.named_type).map_or("", |of| of.kind.as_str());
        let leaves = [kind(a), kind(b)].iter().all(|kind| matches!(*kind, "SCALAR" | "ENUM"));
        a.non_null != b.non_null || leaves && a.named_type != b.named_type
    }
}

// === impl Collected ===

impl Collected<'_> {
    fn is_same(&self, other: &Self) -> bool {
        let same = |name: &&str| {
            let (Some(a), Some(b)) = (self.fields.get(name), other.fields.get(name)) else { return false };
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| std::ptr::eq(*a, *b))
        };
        self.order == other.order && self.order.iter().all(same)
    }
}

// === impl Reason ===

impl Reason<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Self::Own(text) => out.push_str(text),
            Self::Inner(conflicts) => {
                for (index, conflict) in conflicts.iter().enumerate() {
                    let and = if index > 0 { " and " } else { "" };
                    let _ = write!(out, "{and}subfields \"{}\" conflict because ", conflict.name);
                    conflict.reason.write(out);
                }
            }
        }
    }
}
