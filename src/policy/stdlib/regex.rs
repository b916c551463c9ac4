//! `regex.*` over the patterns that OPA takes: those of RE2, which [`pattern`] writes as the `regex` crate has them. The
//! engine's own read patterns as that crate does: `\w` takes all of Unicode, and `[a&&b]` is an intersection.
//! A pattern that would be too large to run is refused and ends the evaluation; it is never taken for one that is wrong.

mod class;
mod pattern;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, rc::Rc};

use quick_cache::unsync::Cache;
use regex::{Captures, Regex, RegexBuilder};
use regorus::Value;

use super::{
    Outcome,
    operand::{failed, string, wrong_type},
};
use crate::policy::builtins::BuiltinError;

/// Longest pattern, and longest text for one.
const MAX_PATTERN: usize = 16 << 10;
const MAX_HAYSTACK: usize = 1 << 20;
/// Most that a compiled pattern takes, in bytes, and the table that grows while it runs.
const MAX_PROGRAM: usize = 100 << 10;
const MAX_TABLE: usize = 512 << 10;
/// Most values that one call finds.
const MAX_FOUND: usize = 2 << 20;
/// Most that replacing makes.
const MAX_REPLACED: usize = 8 << 20;
/// Compiled patterns that a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static COMPILED: RefCell<Cache<String, Compiled>> = RefCell::new(Cache::new(KEPT));
}

/// A pattern, or why there is none.
#[derive(Debug, Clone)]
enum Compiled {
    Regex(Rc<Regex>),
    /// What OPA says about it.
    Invalid(Rc<str>),
    TooLarge,
}

// === builtins ===

pub(super) fn is_valid(args: &[Value]) -> Outcome {
    let Ok(pattern) = string(args, 0) else { return Ok(Value::from(false)) };
    match compiled(pattern)? {
        Compiled::TooLarge => Err(too_large()),
        found => Ok(Value::from(matches!(found, Compiled::Regex(_)))),
    }
}

/// Does a pattern, which is one, match somewhere in a text?
pub(super) fn matches(pattern: &str, text: &str) -> Result<bool, BuiltinError> {
    if text.len() > MAX_HAYSTACK {
        return Err(too_large());
    }
    Ok(regex(pattern)?.is_match(text))
}

/// Is this a pattern?
pub(super) fn is_pattern(pattern: &str) -> Result<bool, BuiltinError> {
    match compiled(pattern)? {
        Compiled::TooLarge => Err(too_large()),
        found => Ok(matches!(found, Compiled::Regex(_))),
    }
}

pub(super) fn is_match(args: &[Value]) -> Outcome {
    let (pattern, text) = (string(args, 0)?, haystack(args, 1)?);
    Ok(Value::from(regex(pattern)?.is_match(text)))
}

pub(super) fn find_n(args: &[Value]) -> Outcome {
    let (pattern, text, most) = (string(args, 0)?, haystack(args, 1)?, number(args)?);
    let regex = regex(pattern)?;
    Ok(Value::from(regex.find_iter(text).take(most).map(|found| Value::from(found.as_str())).collect::<Vec<_>>()))
}

pub(super) fn find_all_string_submatch_n(args: &[Value]) -> Outcome {
    let (pattern, text, most) = (string(args, 0)?, haystack(args, 1)?, number(args)?);
    let mut left = MAX_FOUND;
    let mut all = Vec::new();
    for found in regex(pattern)?.captures_iter(text).take(most) {
        left = left
            .checked_sub(found.len())
            .ok_or_else(|| BuiltinError::Limit(format!("would find more than {MAX_FOUND} values")))?;
        let groups = found.iter().map(|group| Value::from(group.map_or("", |group| group.as_str())));
        all.push(Value::from(groups.collect::<Vec<_>>()));
    }
    Ok(Value::from(all))
}

/// As Go splits: an empty match parts nothing off at either end.
pub(super) fn split(args: &[Value]) -> Outcome {
    let (pattern, text) = (string(args, 0)?, haystack(args, 1)?);
    let regex = regex(pattern)?;
    let part = |from: usize, to: usize| Value::from(text.get(from..to).unwrap_or_default());
    if text.is_empty() && !pattern.is_empty() {
        return Ok(Value::from(vec![part(0, 0)]));
    }
    let (mut parts, mut from, mut to) = (Vec::new(), 0, 0);
    for found in regex.find_iter(text) {
        to = found.start();
        if found.end() != 0 {
            parts.push(part(from, to));
        }
        from = found.end();
    }
    if to != text.len() {
        parts.push(part(from, text.len()));
    }
    Ok(Value::from(parts))
}

pub(super) fn replace(args: &[Value]) -> Outcome {
    let (text, pattern, with) = (haystack(args, 0)?, string(args, 1)?, string(args, 2)?);
    let grown = (text.len() + 1).saturating_mul(with.len().saturating_mul(2) + 1);
    if grown > MAX_REPLACED {
        return Err(BuiltinError::Limit(format!("would make more than {MAX_REPLACED} bytes")));
    }
    let regex = regex(pattern)?;
    if !with.contains('$') {
        return Ok(Value::from(regex.replace_all(text, regex::NoExpand(with)).as_ref()));
    }
    let mut made = 0_usize;
    let replaced = regex.replace_all(text, |found: &Captures<'_>| {
        let expanded = if made > MAX_REPLACED { String::new() } else { expand(with, found) };
        made = made.saturating_add(expanded.len());
        expanded
    });
    if made > MAX_REPLACED {
        return Err(BuiltinError::Limit(format!("would make more than {MAX_REPLACED} bytes")));
    }
    Ok(Value::from(replaced.as_ref()))
}

/// The parts between delimiters are patterns, the rest is text; all of the value has to match.
pub(super) fn template_match(args: &[Value]) -> Outcome {
    let (template, text) = (string(args, 0)?, haystack(args, 1)?);
    let (open, close) = (string(args, 2)?, string(args, 3)?);
    within(template)?;
    // OPA tells the length of the first one for both.
    let delimiter = |of: &str, which: &str| match of.as_bytes() {
        [one] => Ok(*one),
        _ => Err(failed(format!("{which} delimiter has to be exactly one character long but is {} long", open.len()))),
    };
    let (start, end) = (delimiter(open, "start")?, delimiter(close, "end")?);
    let parts = parts(template, start, end).ok_or_else(|| failed(format!("unbalanced braces in {template:?}")))?;
    let (mut whole, mut from) = ("^".to_owned(), 0);
    for (open, close) in parts {
        let part = template.get(open + 1..close).unwrap_or_default();
        pattern::translate(&format!("^{part}$")).map_err(failed)?;
        whole.push_str(&regex::escape(template.get(from..open).unwrap_or_default()));
        whole.push_str(&format!("({part})"));
        from = close + 1;
    }
    whole.push_str(&regex::escape(template.get(from..).unwrap_or_default()));
    whole.push('$');
    Ok(Value::from(regex(&whole)?.is_match(text)))
}

// === helpers ===

/// Where the outermost pairs of delimiters are; `None` where one has no other.
fn parts(template: &str, start: u8, end: u8) -> Option<Vec<(usize, usize)>> {
    let (mut level, mut opened, mut parts) = (0_usize, 0, Vec::new());
    for (at, byte) in template.bytes().enumerate() {
        if byte == start {
            level += 1;
            if level == 1 {
                opened = at;
            }
        } else if byte == end {
            level = level.checked_sub(1)?;
            if level == 0 {
                parts.push((opened, at));
            }
        }
    }
    (level == 0).then_some(parts)
}

fn too_large() -> BuiltinError {
    BuiltinError::Limit(format!("compiled pattern would take more than {MAX_PROGRAM} bytes or is nested too deeply"))
}

fn within(pattern: &str) -> Result<(), BuiltinError> {
    if pattern.len() > MAX_PATTERN {
        return Err(BuiltinError::Limit(format!("pattern is longer than {MAX_PATTERN} bytes")));
    }
    Ok(())
}

fn haystack(args: &[Value], index: usize) -> Result<&str, BuiltinError> {
    let text = string(args, index)?;
    if text.len() > MAX_HAYSTACK {
        return Err(BuiltinError::Limit(format!("text is longer than {MAX_HAYSTACK} bytes")));
    }
    Ok(text)
}

/// How many to find: all, if the number is negative.
fn number(args: &[Value]) -> Result<usize, BuiltinError> {
    match args.get(2) {
        Some(Value::Number(number)) if number.is_integer() => {
            Ok(number.as_i64().and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX))
        }
        Some(Value::Number(_)) => {
            Err(BuiltinError::Type("operand 3 must be integer number but got floating-point number".to_owned()))
        }
        other => Err(wrong_type(2, "number", other)),
    }
}

fn regex(pattern: &str) -> Result<Rc<Regex>, BuiltinError> {
    match compiled(pattern)? {
        Compiled::Regex(regex) => Ok(regex),
        Compiled::Invalid(why) => Err(failed(&*why)),
        Compiled::TooLarge => Err(too_large()),
    }
}

fn compiled(pattern: &str) -> Result<Compiled, BuiltinError> {
    within(pattern)?;
    let kept = COMPILED.with_borrow_mut(|kept| kept.get(pattern).cloned());
    Ok(kept.unwrap_or_else(|| {
        let made = compile(pattern);
        COMPILED.with_borrow_mut(|kept| kept.insert(pattern.to_owned(), made.clone()));
        made
    }))
}

fn compile(pattern: &str) -> Compiled {
    let text = match pattern::translate(pattern) {
        Ok(text) => text,
        Err(why) => return Compiled::Invalid(why.into()),
    };
    match RegexBuilder::new(&text).size_limit(MAX_PROGRAM).dfa_size_limit(MAX_TABLE).build() {
        Ok(regex) => Compiled::Regex(Rc::new(regex)),
        // What RE2 takes and the crate does not is nested too deeply.
        Err(_) => Compiled::TooLarge,
    }
}

/// What a replacement stands for, as Go expands it.
fn expand(template: &str, found: &Captures<'_>) -> String {
    let mut expanded = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = reference(rest) else {
            expanded.push('$');
            continue;
        };
        rest = after;
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        let group = if is_number { name.parse().ok().and_then(|number| found.get(number)) } else { found.name(name) };
        expanded.push_str(group.map_or("", |group| group.as_str()));
    }
    expanded.push_str(rest);
    expanded
}

/// The name after a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = text.strip_prefix('{').map_or((false, text), |text| (true, text));
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let rest = if braced { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}
