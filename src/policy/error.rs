//! What can go wrong while loading and evaluating, and how regorus' rendered messages become a code, a sentence and a
//! place. It decides nothing about policies; it only names failures.

use std::fmt;

/// A position for a person.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Location {
    /// Path as shown to the operator.
    pub file: String,
    /// 1-based; 0 when unknown.
    pub row: u32,
    /// 1-based; 0 when unknown.
    pub col: u32,
}

/// One problem found while loading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct LoadError {
    /// Stable code in OPA's words where OPA has one: `rego_parse_error`, `rego_recursion_error`, `rego_type_error`,
    /// `rego_unsafe_var_error`, `rego_compile_error`, `bundle_error`; ours: `rego_limit_error`, `entrypoint_error`.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// Lines that say more, for people.
    pub details: Vec<String>,
    /// Where.
    pub location: Option<Location>,
}

/// Why an evaluation gave no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// The class of the failure.
    pub kind: EvalErrorKind,
    /// In OPA's words where OPA has them.
    pub message: String,
    /// Module id (`<bundle>/<path>`), row and column.
    pub location: Option<Location>,
    /// Lines that say more, for people.
    pub details: Vec<String>,
}

/// Closed list of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalErrorKind {
    /// Two rules or two clauses gave different values for one document.
    Conflict,
    /// A builtin failed and the call asked for strict builtin errors.
    Builtin,
    /// A builtin got an argument of the wrong type and the call asked for strict builtin errors.
    Type,
    /// The deadline passed.
    Deadline,
    /// The result is larger than [`super::Settings::max_result_bytes`].
    OutputLimit,
    /// A builtin was asked for more than one evaluation may use.
    ResourceLimit,
    /// Builtins made more than [`super::Settings::max_memory_bytes`] of values.
    MemoryLimit,
    /// `http.send` was asked for what the configuration forbids, or got more than it allows.
    Refused,
    /// The engine panicked; the panic was caught.
    Panic,
    /// The ad-hoc query does not parse or compile.
    Query,
    /// Anything else; a defect of the engine or of this module.
    Internal,
}

// === impl Location ===

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.row == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}:{}", self.file, self.row, self.col) }
    }
}

// === impl LoadError ===

impl LoadError {
    pub(super) fn new(code: &'static str, message: impl Into<String>, location: Option<Location>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), location }
    }

    /// A problem of a whole file.
    pub(super) fn in_file(code: &'static str, file: &str, message: impl Into<String>) -> Self {
        Self::new(code, message, Some(Location { file: file.to_owned(), row: 0, col: 0 }))
    }
}

impl LoadError {
    /// The message and what says more, in one line.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        // Lines that repeat a reference, and those that point into it, say nothing without the others.
        let more = self.details.iter().map(|line| words(line));
        let more: Vec<String> = more.filter(|line| !line.starts_with('^') && !self.message.ends_with(line)).collect();
        let message = words(&self.message);
        if more.is_empty() { message } else { format!("{message}; {}", more.join("; ")) }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(l) => write!(f, "{l}: {}: {}", self.code, self.message)?,
            None => write!(f, "{}: {}", self.code, self.message)?,
        }
        self.details.iter().try_for_each(|line| write!(f, "\n\t{line}"))
    }
}

// === impl EvalError ===

impl EvalError {
    pub(super) fn new(kind: EvalErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), location: None, details: Vec::new() }
    }

    /// A query that does not pass; its message starts with the code that a load error would have.
    pub(super) fn query(code: &str, message: impl fmt::Display, location: Option<Location>) -> Self {
        Self { location, ..Self::new(EvalErrorKind::Query, format!("{code}: {message}")) }
    }

    /// Classifies an error of the engine by its text: regorus re-wraps errors as text on the way up, so the type is lost.
    pub(super) fn from_engine(error: &anyhow::Error) -> Self {
        let Rendered { message, location } = Rendered::parse(&format!("{error:#}"));
        let (kind, message) = classify(message);
        Self { location, ..Self::new(kind, message.replace(super::builtins::LINE_MARK, "\n")) }
    }
}

impl EvalError {
    /// The code: that of the kind, or the one that a query was refused with.
    #[must_use]
    pub fn code(&self) -> &str {
        match (self.kind, self.message.split_once(": ")) {
            (EvalErrorKind::Query, Some((code, _))) if code.starts_with("rego_") => code,
            (kind, _) => kind.code(),
        }
    }

    /// The message without the code.
    #[must_use]
    pub fn text(&self) -> &str {
        self.message.strip_prefix(self.code()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&self.message)
    }
}

impl EvalErrorKind {
    /// OPA's `eval_*_error` where OPA has one, else ours.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Conflict => "eval_conflict_error",
            Self::Builtin => "eval_builtin_error",
            Self::Type => "eval_type_error",
            Self::Deadline => "eval_deadline_exceeded",
            Self::OutputLimit => "eval_output_limit",
            Self::ResourceLimit => "eval_resource_limit",
            Self::MemoryLimit => "eval_memory_limit",
            Self::Refused => "eval_http_send_refused",
            Self::Panic => "eval_panic",
            Self::Query => "rego_parse_error",
            Self::Internal => "eval_internal_error",
        }
    }
}

/// A message of regorus taken apart: it renders `\n--> file:row:col`, a snippet of the source and `error: <message>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub message: String,
    pub location: Option<Location>,
}

impl Rendered {
    pub(super) fn parse(text: &str) -> Self {
        let Some((_, after)) = text.split_once("--> ") else {
            return Self { message: one_line(text), location: None };
        };
        let (place, rest) = after.split_once('\n').unwrap_or((after, ""));
        let location = parse_place(place);
        let Some((_, message)) = rest.split_once("\nerror: ") else {
            return Self { message: one_line(text), location };
        };
        // An extension's error carries a rendering of its own, with a place that means nothing: keep the outer place.
        if message.trim_start().starts_with("--> ") {
            let inner = Self::parse(message);
            return Self { message: inner.message, location };
        }
        Self { message: one_line(message), location }
    }
}

fn parse_place(place: &str) -> Option<Location> {
    let mut parts = place.rsplitn(3, ':');
    let col = parts.next()?.trim().parse().ok()?;
    let row = parts.next()?.parse().ok()?;
    let file = parts.next()?;
    (!file.is_empty()).then(|| Location { file: file.to_owned(), row, col })
}

/// The first line that says something; later lines are snippets.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown error").to_owned()
}

/// The code and the message of a load error, from regorus' sentence.
pub(super) fn classify_compile(message: &str) -> (&'static str, String) {
    if let Some(name) = between(message, "use of undefined variable `", "`").or_else(|| unsafe_var(message)) {
        return ("rego_unsafe_var_error", format!("var {name} is unsafe"));
    }
    if let Some(name) = between(message, "var `", "`").filter(|_| message.contains("used before definition")) {
        return ("rego_compile_error", format!("var {name} referenced above"));
    }
    if message.contains("was previously defined with") {
        let name = message.split_whitespace().next().unwrap_or("function");
        return ("rego_type_error", format!("conflicting rules {name} found: a function has one arity"));
    }
    if message.contains("multiple default rules") {
        return ("rego_type_error", "multiple default rules found".to_owned());
    }
    if message.contains("duplicated definition of local variable") {
        let name = message.rsplit(' ').next().unwrap_or_default();
        return ("rego_compile_error", format!("var {name} assigned above"));
    }
    ("rego_compile_error", message.to_owned())
}

fn unsafe_var(message: &str) -> Option<&str> {
    let name = message.strip_prefix("var ")?.split_whitespace().next()?;
    message.contains("is unsafe").then_some(name)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner)
}

const COMPLETE: &str = "complete rules must not produce multiple outputs";
const FUNCTIONS: &str = "functions must not produce multiple outputs for same inputs";
const KEYS: &str = "object keys must be unique";

fn classify(message: String) -> (EvalErrorKind, String) {
    use EvalErrorKind::{Builtin, Conflict, Deadline, Internal, MemoryLimit, Query, Refused, ResourceLimit, Type};
    let has = |needle: &str| message.contains(needle);
    if has("execution exceeded time limit") {
        return (Deadline, "evaluation exceeded its deadline".to_owned());
    }
    if has(super::builtins::REFUSED_MARK) {
        return (Refused, message.replace(super::builtins::REFUSED_MARK, ""));
    }
    if has(super::guard::MEMORY_MARK) {
        return (MemoryLimit, message.replace(super::guard::MEMORY_MARK, ""));
    }
    if has("exceeded size limit") || has("exceeded memory limit") || has(super::guard::LIMIT_MARK) {
        return (ResourceLimit, message.replace(super::guard::LIMIT_MARK, ""));
    }
    if has(super::builtins::FAILED_MARK) {
        return (Builtin, message.replace(super::builtins::FAILED_MARK, ""));
    }
    if has(super::builtins::TYPE_MARK) {
        return (Type, message.replace(super::builtins::TYPE_MARK, ""));
    }
    if has("function produced multiple outputs") || has("functions must not produce") {
        return (Conflict, FUNCTIONS.to_owned());
    }
    if has("generated multiple times") {
        return (Conflict, KEYS.to_owned());
    }
    if has("multiple outputs") || has("previous value is not") || has("rule conflicts with rule") {
        return (Conflict, COMPLETE.to_owned());
    }
    if has("is unsafe") || has("undefined var") || has("undefined rule") || has("could not find function") {
        let (code, message) = classify_compile(&message);
        return (Query, format!("{code}: {message}"));
    }
    if has("recursion detected") {
        return (Query, "rule is recursive".to_owned());
    }
    if has("internal error") || has("Loop hoisting") || has("binding plan") || has("not a valid rule path") {
        return (Internal, message);
    }
    if is_of_type(&message) {
        return (Type, message);
    }
    (Builtin, message)
}

/// Does the engine complain about the type of a value?
pub(super) fn is_of_type(message: &str) -> bool {
    const TYPES: [&str; 8] = [
        "expects",
        "must be ",
        "requires ",
        "operand",
        "floating-point",
        "unknown key",
        "is not a ",
        "marshaling option",
    ];
    TYPES.iter().any(|needle| message.contains(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_error_becomes_a_place_and_a_sentence() {
        let text = "\n--> b/x:y.rego:3:7\n  |\n3 | foo(\n  |   ^\nerror: expecting `)` while parsing";
        let got = Rendered::parse(text);
        assert_eq!(got.message, "expecting `)` while parsing");
        assert_eq!(got.location, Some(Location { file: "b/x:y.rego".into(), row: 3, col: 7 }));
    }

    #[test]
    fn an_error_inside_an_error_keeps_the_outer_place() {
        let text =
            "\n--> a.rego:1:2\n  |\n1 | f\n  | ^\nerror: \n--> :1:1\n  |\n1 | \n  | ^\nerror: operand must be integer";
        let got = Rendered::parse(text);
        assert_eq!(got.message, "operand must be integer");
        assert_eq!(got.location.map(|l| l.to_string()), Some("a.rego:1:2".into()));
    }

    #[test]
    fn engine_sentences_get_opa_codes() {
        for (message, kind) in [
            ("execution exceeded time limit (elapsed=1ns, limit=1ns)", EvalErrorKind::Deadline),
            ("complete rules should not produce multiple outputs", EvalErrorKind::Conflict),
            ("value for key `\"a\"` generated multiple times: `1` and `2`", EvalErrorKind::Conflict),
            ("`count` expects string", EvalErrorKind::Type),
            ("divide by zero", EvalErrorKind::Builtin),
        ] {
            assert_eq!(classify(message.to_owned()).0, kind, "{message}");
        }
    }
}
