//! What OPA's type checker calls types: what is known of a value before anything runs, the union of two, what a member
//! of one is, and whether two can meet in one value. A type that would be too large becomes `any`, which fits everything:
//! nothing here may refuse what OPA accepts.

mod notation;
mod signatures;

use std::{cell::Cell, sync::Arc};

use regorus::Value;

pub(super) use self::{
    notation::sprint,
    signatures::{Signature, have_and_want, signature},
};

/// `None`: nothing is known, not even that it could be anything.
pub(super) type Ty = Option<Arc<Type>>;

/// Most nodes of one type.
const MAX_SIZE: usize = 1_024;

/// The order of the variants, and of their fields, is the one in which unions list their members.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    Null,
    Boolean,
    Number,
    String,
    Array {
        /// What may follow the elements that are known.
        rest: Ty,
        fixed: Vec<Ty>,
    },
    Object {
        /// Key and value of members that are not known by name.
        rest: Option<(Ty, Ty)>,
        /// Sorted by key.
        fixed: Vec<(Value, Ty)>,
    },
    Set(Ty),
    /// One of these; of nothing: anything.
    Any(Vec<Arc<Type>>),
    Function {
        arguments: Vec<Ty>,
        result: Ty,
    },
}

thread_local! {
    /// Comparisons that the check of this load may still make.
    static FUEL: Cell<u32> = const { Cell::new(0) };
}

/// Allows this many steps from here on; when they are spent, everything fits everything.
pub(super) fn refuel(steps: u32) {
    FUEL.set(steps);
}

/// Takes steps; false when there are none left.
pub(super) fn spend(steps: usize) -> bool {
    let left = FUEL.get().saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX));
    FUEL.set(left);
    left > 0
}

pub(super) fn any() -> Ty {
    Some(Arc::new(Type::Any(Vec::new())))
}

/// A type without parts.
pub(super) fn plain(own: Type) -> Ty {
    Some(Arc::new(own))
}

pub(super) fn array(fixed: Vec<Ty>, rest: Ty) -> Ty {
    let size = fixed.iter().chain([&rest]).map(size).sum::<usize>();
    limited(size, || Type::Array { rest, fixed })
}

pub(super) fn object(mut fixed: Vec<(Value, Ty)>, rest: Option<(Ty, Ty)>) -> Ty {
    let outer = rest.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>();
    let size = fixed.iter().map(|(_, value)| size(value)).sum::<usize>() + outer;
    limited(size, || {
        fixed.sort_by(|a, b| a.0.cmp(&b.0));
        Type::Object { rest, fixed }
    })
}

pub(super) fn set(of: Ty) -> Ty {
    limited(size(&of), || Type::Set(of))
}

fn limited(size: usize, build: impl FnOnce() -> Type) -> Ty {
    spend(size);
    if size >= MAX_SIZE { any() } else { plain(build()) }
}

/// The nodes of a type, counted up to the most that one may have.
fn size(of: &Ty) -> usize {
    fn count(of: &Type, left: &mut usize) {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return;
        }
        let mut part = |ty: &Ty| ty.iter().for_each(|ty| count(ty, left));
        match of {
            Type::Null | Type::Boolean | Type::Number | Type::String => {}
            Type::Array { rest, fixed } => fixed.iter().chain([rest]).for_each(part),
            Type::Object { rest, fixed } => {
                rest.iter().flat_map(|(key, value)| [key, value]).for_each(&mut part);
                fixed.iter().for_each(|(_, value)| part(value));
            }
            Type::Set(of) => part(of),
            Type::Any(of) => of.iter().for_each(|ty| count(ty, left)),
            Type::Function { arguments, result } => arguments.iter().chain([result]).for_each(part),
        }
    }
    let mut left = MAX_SIZE;
    if let Some(of) = of {
        count(of, &mut left);
    }
    (MAX_SIZE - left).max(1)
}

impl Type {
    /// A collection that holds nothing.
    pub(super) fn is_empty_collection(&self) -> bool {
        match self {
            Self::Array { rest, fixed } => rest.is_none() && fixed.is_empty(),
            Self::Object { rest, fixed } => rest.is_none() && fixed.is_empty(),
            Self::Set(of) => of.is_none(),
            _ => false,
        }
    }

    /// Is `other` this or one of this?
    fn contains(&self, other: &Self) -> bool {
        match self {
            Self::Any(of) => {
                !matches!(other, Self::Function { .. })
                    && (of.is_empty() || of.iter().any(|member| member.as_ref() == other))
            }
            own => own == other,
        }
    }
}

/// Is some part of it not known?
pub(super) fn is_open(ty: &Ty) -> bool {
    let Some(ty) = ty else { return true };
    match ty.as_ref() {
        Type::Null | Type::Boolean | Type::Number | Type::String | Type::Any(_) => false,
        Type::Array { rest, fixed } => fixed.iter().any(is_open) || (rest.is_some() && is_open(rest)),
        Type::Object { rest, fixed } => {
            fixed.iter().any(|(_, value)| is_open(value))
                || rest.as_ref().is_some_and(|(key, value)| is_open(key) || is_open(value))
        }
        Type::Set(of) => is_open(of),
        Type::Function { arguments, result } => arguments.iter().any(is_open) || is_open(result),
    }
}

/// What is of either type.
pub(super) fn or(a: &Ty, b: &Ty) -> Ty {
    let (Some(left), Some(right)) = (a, b) else { return a.clone().or_else(|| b.clone()) };
    let members = match (left.as_ref(), right.as_ref()) {
        (Type::Function { arguments: left, result }, Type::Function { arguments: right, result: other }) => {
            if left.len() != right.len() {
                return None;
            }
            let arguments = left.iter().zip(right).map(|(left, right)| or(left, right)).collect();
            return plain(Type::Function { arguments, result: or(result, other) });
        }
        (Type::Function { .. }, _) | (_, Type::Function { .. }) => return None,
        (Type::Any(of), Type::Any(other)) => {
            if of.is_empty() || other.is_empty() {
                return any();
            }
            of.iter().chain(other).cloned().collect::<Vec<_>>()
        }
        (Type::Any(of), _) if of.is_empty() || of.contains(right) => return a.clone(),
        (_, Type::Any(of)) if of.is_empty() || of.contains(left) => return b.clone(),
        (Type::Any(of), _) => of.iter().chain([right]).cloned().collect(),
        (_, Type::Any(of)) => of.iter().chain([left]).cloned().collect(),
        (one, other) if one == other => return a.clone(),
        _ => vec![Arc::clone(left), Arc::clone(right)],
    };
    let mut members = members;
    members.sort();
    members.dedup();
    limited(members.iter().map(|member| size(&Some(Arc::clone(member)))).sum(), || Type::Any(members))
}

/// The type of a constant.
pub(super) fn of_value(value: &Value) -> Ty {
    match value {
        Value::Null => plain(Type::Null),
        Value::Bool(_) => plain(Type::Boolean),
        Value::Number(_) => plain(Type::Number),
        Value::String(_) => plain(Type::String),
        _ => any(),
    }
}

/// The member of a constant name, `None` when there is none.
pub(super) fn select(of: &Ty, key: &Value) -> Ty {
    match of.as_ref()?.as_ref() {
        Type::Array { rest, fixed } => {
            let Value::Number(number) = key else { return None };
            let at = usize::try_from(number.as_u64()?).ok()?;
            fixed.get(at).cloned().unwrap_or_else(|| rest.clone())
        }
        Type::Object { rest, fixed } => {
            if let Ok(at) = fixed.binary_search_by(|(own, _)| own.cmp(key)) {
                return fixed.get(at).and_then(|(_, value)| value.clone());
            }
            let (of, value) = rest.as_ref()?;
            of.as_ref()?.contains(of_value(key)?.as_ref()).then(|| value.clone()).flatten()
        }
        Type::Set(of) => {
            let key = of_value(key)?;
            of.as_ref()?.contains(&key).then_some(key)
        }
        Type::Any(of) if of.is_empty() => any(),
        Type::Any(of) => of.iter().fold(None, |all, member| or(&select(&Some(Arc::clone(member)), key), &all)),
        _ => None,
    }
}

/// What its members are named by.
pub(super) fn keys(of: &Ty) -> Ty {
    match of.as_ref()?.as_ref() {
        Type::Array { .. } => plain(Type::Number),
        Type::Object { rest, fixed } => {
            let named = fixed.iter().fold(None, |all, (key, _)| or(&all, &of_value(key)));
            rest.iter().fold(named, |all, (key, _)| or(&all, key))
        }
        Type::Set(of) => of.clone(),
        Type::Any(of) if of.is_empty() => any(),
        Type::Any(of) => of.iter().fold(None, |all, member| or(&keys(&Some(Arc::clone(member))), &all)),
        _ => None,
    }
}

/// What its members are.
pub(super) fn values(of: &Ty) -> Ty {
    match of.as_ref()?.as_ref() {
        Type::Array { rest, fixed } => fixed.iter().chain([rest]).fold(None, |all, item| or(&all, item)),
        Type::Object { rest, fixed } => {
            let named = fixed.iter().fold(None, |all, (_, value)| or(&all, value));
            rest.iter().fold(named, |all, (_, value)| or(&all, value))
        }
        Type::Set(of) => of.clone(),
        Type::Any(of) if of.is_empty() => any(),
        Type::Any(of) => of.iter().fold(None, |all, member| or(&values(&Some(Arc::clone(member))), &all)),
        _ => None,
    }
}

/// Can one value be of both types?
pub(super) fn unifies(a: &Ty, b: &Ty) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => meets(a, b),
        _ => false,
    }
}

fn meets(a: &Arc<Type>, b: &Arc<Type>) -> bool {
    if !spend(1) {
        return true;
    }
    let of_any = |of: &[Arc<Type>], other: &Arc<Type>| {
        !matches!(other.as_ref(), Type::Function { .. })
            && (of.is_empty() || of.iter().any(|member| meets(member, other)))
    };
    match (a.as_ref(), b.as_ref()) {
        (Type::Any(of), Type::Any(other)) => of_any(of, b) || of_any(other, a),
        (Type::Any(of), _) => of_any(of, b),
        (_, Type::Any(of)) => of_any(of, a),
        (Type::Array { rest, fixed }, Type::Array { rest: other_rest, fixed: other_fixed }) => {
            let at = |index: usize, fixed: &[Ty], rest: &Ty| fixed.get(index).cloned().unwrap_or_else(|| rest.clone());
            let fit = |fixed: &[Ty], others: &[Ty], rest: &Ty| {
                fixed.iter().enumerate().all(|(index, own)| unifies(own, &at(index, others, rest)))
            };
            fit(fixed, other_fixed, other_rest) && fit(other_fixed, fixed, rest) && both(rest, other_rest)
        }
        (Type::Object { rest, fixed }, Type::Object { rest: other_rest, fixed: other_fixed }) => {
            let value = |rest: &Option<(Ty, Ty)>| rest.as_ref().and_then(|(_, value)| value.clone());
            let open = value(rest).is_some() || value(other_rest).is_some();
            let fit = |fixed: &[(Value, Ty)], other: &Arc<Type>| {
                fixed.iter().all(|(key, own)| match select(&Some(Arc::clone(other)), key) {
                    None => open,
                    other => unifies(own, &other),
                })
            };
            fit(fixed, b) && fit(other_fixed, a) && both(&value(rest), &value(other_rest))
        }
        (Type::Set(of), Type::Set(other)) => both(of, other),
        (Type::Function { arguments, .. }, Type::Function { arguments: others, .. }) => {
            arguments.len() == others.len() && arguments.iter().zip(others).all(|(own, other)| unifies(own, other))
        }
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// As [`unifies`], where what is not there is no obstacle.
fn both(a: &Ty, b: &Ty) -> bool {
    a.is_none() || b.is_none() || unifies(a, b)
}

/// What several rules of one name give together.
pub(super) fn merge(a: &Ty, b: &Ty) -> Ty {
    let (Some(left), Some(right)) = (a, b) else { return a.clone().or_else(|| b.clone()) };
    match (left.as_ref(), right.as_ref()) {
        (Type::Object { rest, fixed }, Type::Object { rest: other, fixed: others })
            if fixed.is_empty() && others.is_empty() =>
        {
            match (rest, other) {
                (None, _) => b.clone(),
                (_, None) => a.clone(),
                (Some((key, value)), Some((other_key, other_value))) => {
                    object(Vec::new(), Some((or(key, other_key), merge(value, other_value))))
                }
            }
        }
        (Type::Set(of), Type::Set(other)) => set(or(of, other)),
        _ => or(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Ty {
        notation::Reader { rest: text }.ty()
    }

    #[test]
    fn types_meet_as_they_do_in_opa() {
        refuel(1_000_000);
        for (a, b, want) in [
            ("number", "string", false),
            ("number", "any", true),
            ("any<number, string>", "any<null, string>", true),
            ("any<number, boolean>", "any<null, string>", false),
            ("array<number>", "array<number, number>", false),
            ("array<number>[string]", "array<number, string, string>", true),
            ("array<number>[string]", "array<number, number>", false),
            ("array", "array[string]", true),
            ("set", "set[number]", true),
            ("set[number]", "set[string]", false),
            ("object<a: number>", "object<b: number>", false),
            ("object<a: number>", "object<a: string>", false),
            ("object<a: number>", "object[string: number]", true),
            ("object<a: string>", "object[string: number]", false),
            ("object<a: number>[string: any]", "object<b: number>", true),
        ] {
            assert_eq!(unifies(&parsed(a), &parsed(b)), want, "{a} and {b}");
            assert_eq!(unifies(&parsed(b), &parsed(a)), want, "{b} and {a}");
        }
    }

    #[test]
    fn members_are_of_the_type_that_they_have_in_opa() {
        refuel(1_000_000);
        for (of, key, want) in [
            ("array<number, string>", Value::from(1_u64), "string"),
            ("array<number>[boolean]", Value::from(7_u64), "boolean"),
            ("array<number>", Value::from(7_u64), "???"),
            ("object<a: number>", Value::from("a"), "number"),
            ("object<a: number>", Value::from("b"), "???"),
            ("object[string: null]", Value::from("b"), "null"),
            ("object[string: null]", Value::from(1_u64), "???"),
            ("any<array[number], object[string: string]>", Value::from("b"), "string"),
            ("set[any<number, string>]", Value::from("b"), "string"),
            ("number", Value::from("b"), "???"),
            ("any", Value::from("b"), "any"),
        ] {
            assert_eq!(sprint(&select(&parsed(of), &key)), want, "{of}");
        }
    }

    #[test]
    fn a_type_stays_small_and_a_union_sorted() {
        refuel(1_000_000);
        assert_eq!(sprint(&or(&parsed("string"), &parsed("any<number, set[null]>"))), "any<number, string, set[null]>");
        let wide = (0..5_000).map(|_| parsed("number")).collect();
        assert_eq!(sprint(&array(wide, None)), "any");
        let mut deep = parsed("number");
        for _ in 0..5_000 {
            deep = array(vec![deep.clone(), deep], None);
        }
        assert_eq!(size(&deep), 1);
    }
}
