//! What policies may call: the engine's own builtins, those of [`super::stdlib`], and the guarded versions of
//! [`super::guard`] in place of builtins that could run without end. It registers them; it implements none.
//!
//! # Adding a builtin
//!
//! Write `fn name(args: &[Value]) -> Result<Value, BuiltinError>` under `src/policy/stdlib*` and list it in
//! [`super::stdlib::all`] as a [`Builtin`]. That is all: the load-time check knows its name and arity, and it is put on
//! the engine of every policy set (and query) that calls it. A builtin of a name that the engine has already replaces the
//! engine's. `args` has exactly `arity` elements and none is undefined. A failure is undefined (so `not f(x)` holds), or
//! ends the evaluation when the call asked for strict builtin errors; [`BuiltinError::Limit`] and
//! [`BuiltinError::Refused`] always end it. Long work
//! must look at [`guard::time_left`] now and then, because the engine cannot interrupt a builtin.

use std::collections::BTreeSet;

use regorus::{Engine, Value, unstable::BUILTINS};

use super::{
    coverage, guard,
    lower::operators,
    stdlib,
    syntax::{Callee, RuleFacts},
};

/// A builtin implemented here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Builtin {
    /// As policies write it: `io.jwt.decode`.
    pub name: &'static str,
    /// Number of arguments.
    pub arity: u8,
    /// The implementation.
    pub call: fn(&[Value]) -> Result<Value, BuiltinError>,
}

/// Why a builtin has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BuiltinError {
    /// The operation failed: `eval_builtin_error`.
    #[error("{0}")]
    Failed(String),
    /// An argument has the wrong type: `eval_type_error`.
    #[error("{0}")]
    Type(String),
    /// It would cost more than an evaluation may: ends the evaluation whatever the mode.
    #[error("{0}")]
    Limit(String),
    /// The configuration forbids it: ends the evaluation whatever the mode.
    #[error("{0}")]
    Refused(String),
}

/// The marks by which [`super::error`] knows the class of an error that went through the engine as text.
pub(super) const TYPE_MARK: &str = "\u{1}type\u{1}";
/// As [`TYPE_MARK`], for failures whose sentence speaks of operands and types.
pub(super) const FAILED_MARK: &str = "\u{1}failed\u{1}";

/// As [`TYPE_MARK`], for what the configuration forbids.
pub(super) const REFUSED_MARK: &str = "\u{1}refused\u{1}";

/// A line feed in a message: of other texts the engine's later lines are snippets.
pub(super) const LINE_MARK: &str = "\u{1}line\u{1}";

/// The builtin of this name that is ours.
fn own(name: &str) -> Option<&'static Builtin> {
    stdlib::all().iter().chain(guard::all()).chain(coverage::BUILTINS).find(|builtin| builtin.name == name)
}

/// The number of arguments of a builtin; `None` when there is no such builtin.
pub(super) fn arity(name: &str) -> Option<usize> {
    match own(name) {
        Some(builtin) => Some(usize::from(builtin.arity)),
        None => BUILTINS.get(name).map(|(_, arity)| usize::from(*arity)),
    }
}

/// May it give a number that is no integer and stands in none of its arguments?
pub(super) fn makes_fractions(name: &str) -> bool {
    let reads = ["http.send", "io.jwt.decode", "io.jwt.decode_verify", "json.unmarshal", "to_number", "yaml.unmarshal"];
    reads.contains(&name) || name.starts_with("units.parse")
}

/// Is this a builtin that the engine does not know by itself?
pub(super) fn is_extension(name: &str) -> bool {
    own(name).is_some() && !BUILTINS.contains_key(name)
}

/// Every name, for "did you mean".
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.keys().copied().chain(stdlib::all().iter().map(|builtin| builtin.name))
}

/// The builtins of ours that the rules call.
pub(super) fn used<'f, R: IntoIterator<Item = &'f RuleFacts>>(rules: R) -> BTreeSet<&'static str> {
    let calls = rules.into_iter().flat_map(|rule| &rule.calls);
    calls
        .filter_map(|call| match &call.callee {
            Callee::Builtin(name) => own(name).map(|builtin| builtin.name),
            Callee::Function(_) => None,
        })
        .collect()
}

/// The builtins of ours that have one of these names.
pub(super) fn named(names: &BTreeSet<String>) -> impl Iterator<Item = &'static str> {
    names.iter().filter_map(|name| own(name)).map(|builtin| builtin.name)
}

/// Puts builtins on an engine; those that are there already stay.
pub(super) fn register<'n, N: IntoIterator<Item = &'n &'static str>>(engine: &mut Engine, names: N, strict: bool) {
    let find = |name: &&str| own(name).or_else(|| operators::ALL.iter().find(|operator| operator.name == *name));
    for builtin in names.into_iter().filter_map(find) {
        let call = builtin.call;
        let extension = move |args: Vec<Value>| match call(&args) {
            Ok(value) if guard::charge(builtin.name, &value) => Ok(value),
            Ok(_) => Err(anyhow::anyhow!(
                "{}builtins made more values than `policy.limits.memory` allows",
                guard::MEMORY_MARK
            )),
            Err(BuiltinError::Limit(message)) => Err(anyhow::anyhow!("{}{message}", guard::LIMIT_MARK)),
            Err(BuiltinError::Refused(message)) => Err(anyhow::anyhow!("{REFUSED_MARK}{message}")),
            Err(BuiltinError::Type(message)) if strict => Err(anyhow::anyhow!("{TYPE_MARK}{}", one_line(&message))),
            Err(BuiltinError::Failed(message)) if strict => Err(anyhow::anyhow!("{}", one_line(&message))),
            // An extension's `Err` ends the evaluation whatever the engine's mode is.
            Err(_) => Ok(Value::Undefined),
        };
        // The only error is "already added".
        let _ = engine.add_extension(builtin.name.to_owned(), builtin.arity, Box::new(extension));
    }
}

fn one_line(message: &str) -> String {
    message.replace('\n', LINE_MARK)
}
