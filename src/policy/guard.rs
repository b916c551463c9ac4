//! Bounded versions of the engine's builtins that could run, allocate or nest without end: the engine's deadline does
//! not interrupt a builtin, so what its arguments ask for is measured first. Within the bounds the engine's own code
//! runs; what is refused ends the evaluation, whatever its mode, because undefined could turn a deny into an allow.

mod measure;
mod native;
mod paths;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use regorus::Value;

pub(super) use self::native::engine;
use self::{
    measure::{NODE, bits, depth, weigh, weight},
    native::{failed, no_number},
    paths::reachable_paths,
};
use super::{
    builtins::{Builtin, BuiltinError},
    document,
    stdlib::{aggregates, type_name},
    yaml::to_yaml,
};

/// Starts the message of an error that ends the evaluation for what it would cost.
pub(super) const LIMIT_MARK: &str = "\u{1}limit\u{1}";

/// As [`LIMIT_MARK`], for [`super::Settings::max_memory_bytes`].
pub(super) const MEMORY_MARK: &str = "\u{1}memory\u{1}";

/// What an element of a collection takes, about.
const ELEMENT: usize = 32;
/// Most that one call may read or write, in bytes of text plus [`NODE`] for every value, shared parts counted each time.
const MAX_BYTES: usize = 8 << 20;
/// Most comparisons of a naive text search: the product of both lengths.
const MAX_PRODUCT: usize = 1 << 26;
/// Most elements that a range makes.
const MAX_RANGE: f64 = 1_000_000.0;
/// Most bits that shifting or multiplying makes.
const MAX_BITS: u64 = 1 << 20;
/// Longest pattern, and longest text for one.
const MAX_PATTERN: usize = 16 << 10;
const MAX_HAYSTACK: usize = 1 << 20;
/// Deepest value that a patch makes.
const MAX_PATCH_DEPTH: usize = 512;
type Outcome = Result<Value, BuiltinError>;

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

/// The evaluation on this thread.
#[derive(Debug, Clone, Copy)]
struct Current {
    end: Instant,
    /// What the engine's clock said when it was first asked: one time for everything that the evaluation computes.
    now_ns: Option<u64>,
    strict: bool,
    /// Bytes that its builtins may still make.
    memory: usize,
}

/// Notes when the evaluation on this thread has to end, until dropped.
#[derive(Debug)]
pub(super) struct Deadline {
    before: Option<Current>,
}

// === impl Deadline ===

impl Deadline {
    /// Builtins may make values of `memory` bytes in all.
    pub(super) fn start(limit: Duration, strict: bool, memory: usize) -> Self {
        let now = Instant::now();
        let end = now.checked_add(limit).unwrap_or(now);
        Self { before: CURRENT.with(|current| current.replace(Some(Current { end, now_ns: None, strict, memory }))) }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(self.before));
    }
}

/// Takes what a builtin made off the evaluation's memory; `false`: there is not enough left. Texts count with their length,
/// collections with their own elements: what is in those was made before, unless it was read from a text.
pub(super) fn charge(name: &str, value: &Value) -> bool {
    let size = match value {
        Value::Array(_) | Value::Object(_) if name.ends_with(".unmarshal") => {
            let mut left = usize::MAX;
            weigh(value, &mut left);
            usize::MAX - left
        }
        Value::String(text) => text.len(),
        Value::Array(items) => items.len().saturating_mul(ELEMENT),
        Value::Set(items) => items.len().saturating_mul(ELEMENT),
        Value::Object(members) => members.len().saturating_mul(2 * ELEMENT),
        _ => return true,
    };
    CURRENT.with(|current| match current.get() {
        Some(of) => match of.memory.checked_sub(size) {
            Some(memory) => {
                current.set(Some(Current { memory, ..of }));
                true
            }
            None => false,
        },
        None => true,
    })
}

/// What is left of the current evaluation's time; zero when it is over, a second outside of an evaluation.
pub(super) fn time_left() -> Duration {
    CURRENT
        .with(Cell::get)
        .map_or(Duration::from_secs(1), |current| current.end.saturating_duration_since(Instant::now()))
}

/// Nanoseconds since 1970 as the engine tells them, the same throughout an evaluation.
pub(super) fn now_ns() -> Result<u64, BuiltinError> {
    if let Some(now) = CURRENT.with(Cell::get).and_then(|current| current.now_ns) {
        return Ok(now);
    }
    let now = engine("time.now_ns", &[])?.as_u64();
    let now = now.map_err(|_| BuiltinError::Failed("time.now_ns: the clock is before 1970".to_owned()))?;
    CURRENT.with(|current| current.set(current.get().map(|of| Current { now_ns: Some(now), ..of })));
    Ok(now)
}

/// The guarded builtins.
pub(super) fn all() -> &'static [Builtin] {
    const fn guarded(name: &'static str, arity: u8, call: fn(&[Value]) -> Outcome) -> Builtin {
        Builtin { name, arity, call }
    }
    const GUARDED: &[Builtin] = &[
        guarded("array.concat", 2, |a| sized("array.concat", a)),
        guarded("array.reverse", 1, |a| sized("array.reverse", a)),
        guarded("base64.decode", 1, |a| sized("base64.decode", a)),
        guarded("base64.encode", 1, |a| sized("base64.encode", a)),
        guarded("base64url.decode", 1, |a| sized("base64url.decode", a)),
        guarded("base64url.encode", 1, |a| sized("base64url.encode", a)),
        guarded("base64url.encode_no_pad", 1, |a| sized("base64url.encode_no_pad", a)),
        guarded("bits.lsh", 2, shift),
        guarded("concat", 2, concat),
        guarded("format_int", 2, |a| sized("format_int", a)),
        guarded("glob.match", 3, |a| pattern("glob.match", a, 0, 2)),
        guarded("glob.quote_meta", 1, |a| pattern("glob.quote_meta", a, 0, 0)),
        guarded("graph.reachable", 2, |a| sized("graph.reachable", a)),
        guarded("graph.reachable_paths", 2, reachable_paths),
        guarded("hex.decode", 1, hex_decode),
        guarded("hex.encode", 1, |a| sized("hex.encode", a)),
        guarded("indexof", 2, |a| product("indexof", a)),
        guarded("indexof_n", 2, |a| product("indexof_n", a)),
        guarded("intersection", 1, |a| sized("intersection", a)),
        guarded("json.filter", 2, |a| sized("json.filter", a)),
        guarded("json.is_valid", 1, |a| valid(a, |text| document::parse_json(text).is_ok())),
        guarded("json.marshal", 1, |a| sized("json.marshal", a)),
        guarded("json.marshal_with_options", 2, |a| sized("json.marshal_with_options", a)),
        guarded("json.patch", 2, patch),
        guarded("json.remove", 2, |a| sized("json.remove", a)),
        guarded("json.unmarshal", 1, |a| parse("json.unmarshal", a, document::parse_json)),
        guarded("lower", 1, |a| sized("lower", a)),
        guarded("max", 1, |a| sized("max", a)),
        guarded("min", 1, |a| sized("min", a)),
        guarded("net.cidr_expand", 1, cidr_expand),
        guarded("numbers.range", 2, range),
        guarded("numbers.range_step", 3, range_step),
        guarded("object.filter", 2, |a| sized("object.filter", a)),
        guarded("object.remove", 2, |a| sized("object.remove", a)),
        guarded("object.subset", 2, |a| sized("object.subset", a)),
        guarded("object.union", 2, |a| sized("object.union", a)),
        guarded("object.union_n", 1, union_n),
        guarded("product", 1, multiply),
        guarded("replace", 3, replace),
        guarded("sort", 1, |a| sized("sort", a)),
        guarded("split", 2, |a| sized("split", a)),
        guarded("strings.any_prefix_match", 2, |a| sized("strings.any_prefix_match", a)),
        guarded("strings.any_suffix_match", 2, |a| sized("strings.any_suffix_match", a)),
        guarded("strings.count", 2, count),
        guarded("strings.replace_n", 2, replace_n),
        guarded("strings.reverse", 1, |a| sized("strings.reverse", a)),
        guarded("sum", 1, |a| aggregates::sum(a).map_or_else(|| sized("sum", a), Ok)),
        guarded("time.now_ns", 0, |_| now_ns().map(Value::from)),
        guarded("to_number", 1, |a| number("to_number", a)),
        guarded("trim", 2, |a| product("trim", a)),
        guarded("trim_left", 2, |a| product("trim_left", a)),
        guarded("trim_right", 2, |a| product("trim_right", a)),
        guarded("union", 1, |a| sized("union", a)),
        guarded("units.parse", 1, |a| number("units.parse", a)),
        guarded("units.parse_bytes", 1, |a| number("units.parse_bytes", a)),
        guarded("upper", 1, |a| sized("upper", a)),
        guarded("urlquery.decode", 1, |a| sized("urlquery.decode", a)),
        guarded("urlquery.decode_object", 1, |a| sized("urlquery.decode_object", a)),
        guarded("urlquery.encode", 1, |a| sized("urlquery.encode", a)),
        guarded("urlquery.encode_object", 1, |a| sized("urlquery.encode_object", a)),
        guarded("walk", 1, walk),
        guarded("yaml.is_valid", 1, |a| valid(a, |text| document::parse_yaml(text).is_ok())),
        guarded("yaml.marshal", 1, marshal_yaml),
        guarded("yaml.unmarshal", 1, |a| parse("yaml.unmarshal", a, document::parse_yaml)),
    ];
    GUARDED
}

// === measures ===

fn limit(name: &str, what: impl std::fmt::Display) -> BuiltinError {
    BuiltinError::Limit(format!("{name}: {what}"))
}

fn too_much(name: &str) -> BuiltinError {
    limit(name, format_args!("would read or make more than {MAX_BYTES} bytes"))
}

fn text(args: &[Value], index: usize) -> &str {
    match args.get(index) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

// === guards ===

/// Work and result are linear in the size of the arguments.
fn sized(name: &'static str, args: &[Value]) -> Outcome {
    let mut left = MAX_BYTES;
    if !args.iter().all(|value| weigh(value, &mut left)) {
        return Err(too_much(name));
    }
    engine(name, args)
}

/// Work is the product of the lengths of two texts.
fn product(name: &'static str, args: &[Value]) -> Outcome {
    if text(args, 0).len().saturating_mul(text(args, 1).len()) > MAX_PRODUCT {
        return Err(limit(name, "both texts are too long"));
    }
    sized(name, args)
}

fn concat(args: &[Value]) -> Outcome {
    let mut left = MAX_BYTES;
    let delimiter = text(args, 0).len() + NODE;
    let parts = args.get(1);
    let count = match parts {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Set(items)) => items.len(),
        _ => 0,
    };
    if delimiter.saturating_mul(count) > MAX_BYTES || !parts.is_none_or(|parts| weigh(parts, &mut left)) {
        return Err(too_much("concat"));
    }
    engine("concat", args)
}

fn pattern(name: &'static str, args: &[Value], pattern: usize, haystack: usize) -> Outcome {
    let (pattern, haystack) = (text(args, pattern), text(args, haystack));
    if pattern.len() > MAX_PATTERN {
        return Err(limit(name, format_args!("pattern is longer than {MAX_PATTERN} bytes")));
    }
    if haystack.len() > MAX_HAYSTACK {
        return Err(limit(name, format_args!("text is longer than {MAX_HAYSTACK} bytes")));
    }
    engine(name, args)
}

/// What replacing makes of a text, at most.
fn replaced(length: usize, old: &str, new: &str) -> usize {
    if old.is_empty() {
        length.saturating_add((length + 1).saturating_mul(new.len()))
    } else {
        length.saturating_add((length / old.len()).saturating_mul(new.len()))
    }
}

fn replace(args: &[Value]) -> Outcome {
    if replaced(text(args, 0).len(), text(args, 1), text(args, 2)) > MAX_BYTES {
        return Err(too_much("replace"));
    }
    engine("replace", args)
}

fn replace_n(args: &[Value]) -> Outcome {
    let mut length = text(args, 1).len();
    if let Some(Value::Object(pairs)) = args.first() {
        for (old, new) in pairs.iter() {
            let (Value::String(old), Value::String(new)) = (old, new) else { continue };
            length = replaced(length, old, new);
        }
        if length.saturating_mul(pairs.len()) > MAX_BYTES {
            return Err(too_much("strings.replace_n"));
        }
    }
    engine("strings.replace_n", args)
}

/// OPA counts occurrences that do not overlap, and an empty needle between all characters; the engine does neither (and
/// panics on the latter).
fn count(args: &[Value]) -> Outcome {
    match args {
        [Value::String(text), Value::String(needle)] => {
            let found = if needle.is_empty() { text.chars().count() + 1 } else { text.matches(&**needle).count() };
            Ok(Value::from(found))
        }
        _ => engine("strings.count", args),
    }
}

/// One pair of path and value per node, the path as long as the node is deep.
fn walk(args: &[Value]) -> Outcome {
    fn nodes(value: &Value, depth: usize, left: &mut usize) -> bool {
        *left = left.saturating_sub(NODE * (depth + 1));
        *left > 0
            && match value {
                Value::Array(items) => items.iter().all(|item| nodes(item, depth + 1, left)),
                Value::Set(items) => items.iter().all(|item| nodes(item, depth + 1, left)),
                Value::Object(members) => members.iter().all(|(_, member)| nodes(member, depth + 1, left)),
                _ => true,
            }
    }
    let mut left = MAX_BYTES;
    if !args.iter().all(|value| nodes(value, 0, &mut left)) {
        return Err(too_much("walk"));
    }
    engine("walk", args)
}

fn shift(args: &[Value]) -> Outcome {
    let by = match args.get(1) {
        Some(Value::Number(by)) => by.as_u64().unwrap_or_default(),
        _ => 0,
    };
    if by.saturating_add(args.first().map_or(0, bits)) > MAX_BITS {
        return Err(limit("bits.lsh", format_args!("result has more than {MAX_BITS} bits")));
    }
    engine("bits.lsh", args)
}

fn multiply(args: &[Value]) -> Outcome {
    let all = match args.first() {
        Some(Value::Array(items)) => items.iter().map(bits).fold(0, u64::saturating_add),
        Some(Value::Set(items)) => items.iter().map(bits).fold(0, u64::saturating_add),
        _ => 0,
    };
    if all > MAX_BITS {
        return Err(limit("product", format_args!("result has more than {MAX_BITS} bits")));
    }
    engine("product", args)
}

fn range(args: &[Value]) -> Outcome {
    elements("numbers.range", args, 1.0)
}

fn range_step(args: &[Value]) -> Outcome {
    // As text, because the engine makes no `f64` of what does not fit exactly.
    let step = args.get(2).filter(|step| matches!(step, Value::Number(_)));
    let step = step.and_then(|step| step.to_string().parse::<f64>().ok()).unwrap_or_default();
    if step <= 0.0 {
        return Err(BuiltinError::Failed("numbers.range_step: step must be a positive number above zero".to_owned()));
    }
    // The engine takes no step beyond 64 bits.
    if let (Some(first @ Value::Number(from)), Some(Value::Number(to))) = (args.first(), args.get(1))
        && step > 1e19
        && from.is_integer()
        && to.is_integer()
        && at(args, 0).abs() + at(args, 1).abs() < 1e19
    {
        return Ok(Value::from(vec![first.clone()]));
    }
    elements("numbers.range_step", args, step)
}

fn elements(name: &'static str, args: &[Value], step: f64) -> Outcome {
    let both_numbers = args.iter().all(|value| matches!(value, Value::Number(_)));
    let count = ((at(args, 1) - at(args, 0)) / step).abs();
    if both_numbers && (count.is_nan() || count >= MAX_RANGE) {
        return Err(limit(name, format_args!("would make more than {MAX_RANGE} elements")));
    }
    engine(name, args)
}

fn at(args: &[Value], index: usize) -> f64 {
    args.get(index).and_then(|value| value.as_f64().ok()).unwrap_or(f64::INFINITY)
}

/// OPA names the type of what is no object.
fn union_n(args: &[Value]) -> Outcome {
    let items = args.first().and_then(|items| items.as_array().ok());
    if let Some(other) = items.and_then(|items| items.iter().find(|item| !matches!(item, Value::Object(_)))) {
        let got = super::stdlib::type_name(other);
        let message = format!("object.union_n: operand 1 must be array of objects but got array containing {got}");
        return Err(BuiltinError::Type(message));
    }
    sized("object.union_n", args)
}

fn cidr_expand(args: &[Value]) -> Outcome {
    let cidr = text(args, 0);
    let width = if cidr.contains(':') { 128 } else { 32 };
    let prefix: Option<u32> = cidr.rsplit_once('/').and_then(|(_, prefix)| prefix.parse().ok());
    if prefix.is_some_and(|prefix| prefix < width - 16) {
        return Err(limit("net.cidr_expand", "would make more than 65536 addresses"));
    }
    engine("net.cidr_expand", args)
}

/// The engine computes a number of as many digits as its exponent says.
fn number(name: &'static str, args: &[Value]) -> Outcome {
    let trimmed = text(args, 0).trim_matches('"').trim_start_matches(['+', '-']);
    if ["inf", "infinity", "nan"].contains(&trimmed.to_lowercase().as_str()) {
        let message = format!("{name}: operand 1 must be valid number string but got string");
        return Err(BuiltinError::Type(message));
    }
    let length = document::number_len(trimmed.as_bytes());
    if let Some(literal) = trimmed.get(..length)
        && document::check_number(literal.trim_end_matches(['e', 'E'])).is_err()
    {
        return Err(limit(name, "number has too many digits"));
    }
    engine(name, args).map_err(|error| match error {
        BuiltinError::Failed(sentence) if sentence.contains("could not parse") => {
            failed(&format!("{name}: {}", no_number(name, text(args, 0))))
        }
        other => other,
    })
}

fn hex_decode(args: &[Value]) -> Outcome {
    let text = text(args, 0);
    sized("hex.decode", args).map_err(|error| match error {
        BuiltinError::Failed(sentence) if !sentence.is_empty() => {
            let wrong = text.chars().find(|c| !c.is_ascii_hexdigit());
            failed(&match wrong {
                Some(c) => format!("hex.decode: encoding/hex: invalid byte: U+{:04X} '{c}'", u32::from(c)),
                None => "hex.decode: encoding/hex: odd length hex string".to_owned(),
            })
        }
        other => other,
    })
}

fn parse(name: &'static str, args: &[Value], read: fn(&str) -> Result<Value, document::DocumentError>) -> Outcome {
    match args {
        [Value::String(text)] if text.len() > MAX_BYTES => Err(too_much(name)),
        [Value::String(text)] => read(text).map_err(|error| BuiltinError::Failed(format!("{name}: {error}"))),
        _ => {
            let got = args.first().map_or("undefined", type_name);
            Err(BuiltinError::Type(format!("{name}: operand 1 must be string but got {got}")))
        }
    }
}

fn marshal_yaml(args: &[Value]) -> Outcome {
    let mut left = MAX_BYTES;
    match args {
        [value] if weigh(value, &mut left) => Ok(Value::from(to_yaml(value))),
        _ => Err(too_much("yaml.marshal")),
    }
}

/// What is no text is not valid; OPA gives no error either.
fn valid(args: &[Value], read: fn(&str) -> bool) -> Outcome {
    Ok(Value::Bool(matches!(args, [Value::String(text)] if text.len() <= MAX_BYTES && read(text))))
}

/// `copy` and `move` of the whole into itself double its depth and size each time.
fn patch(args: &[Value]) -> Outcome {
    let depth = |value: &Value| depth(value, MAX_PATCH_DEPTH);
    let mut deepest = args.first().map_or(0, depth);
    let mut size = args.first().map_or(0, |value| weight(value, MAX_BYTES));
    let operations: Vec<&Value> = match args.get(1) {
        Some(Value::Array(items)) => items.iter().collect(),
        _ => Vec::new(),
    };
    for operation in operations {
        let member = |name: &str| operation.as_object().ok().and_then(|members| members.get(&Value::from(name)));
        let steps = match member("path") {
            Some(Value::String(path)) => path.matches('/').count(),
            Some(Value::Array(path)) => path.len(),
            _ => 0,
        };
        let copies = matches!(member("op"), Some(Value::String(op)) if matches!(&**op, "copy" | "move"));
        let value = member("value");
        let (added, grown) =
            if copies { (deepest, size) } else { (value.map_or(0, depth), value.map_or(0, |v| weight(v, MAX_BYTES))) };
        deepest = deepest.max(steps.saturating_add(added));
        size = size.saturating_add(grown);
        if deepest >= MAX_PATCH_DEPTH || size >= MAX_BYTES {
            return Err(limit("json.patch", "result would be too deep or too large"));
        }
    }
    engine("json.patch", args)
}
