//! (policy set, input) → [`Outcome`]. The only user of `regorus`. Pure: sources are already in memory.

use std::{fmt, sync::Arc, time::Duration};

pub use regorus::Value;

/// One file of a source, already in memory.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path relative to the source's root, `/`-separated, no leading `/`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// How the files of a source are understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// An OPA bundle: `*.rego`, `data.json|yaml|yml` by directory, `.manifest`.
    Bundle,
    /// `-d PATH`: `*.rego` and every `*.json|yaml|yml`, mounted at `prefix` (+ the directory they stand in), as `opa run PATH` does.
    Plain {
        /// Path under `data`.
        prefix: Vec<String>,
    },
}

/// A directory, file or archive that was read completely.
#[derive(Debug, Clone)]
pub struct Source {
    /// Bundle name as configured; module ids are `<name>/<path>`.
    pub name: String,
    /// What the operator wrote: a path; shown in messages as `<origin>/<file>` (or `<origin>` when a single file).
    pub origin: String,
    /// How to read it.
    pub kind: SourceKind,
    /// Its files.
    pub files: Vec<SourceFile>,
}

/// Load and evaluation limits and switches.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Wall-clock budget of one evaluation.
    pub deadline: Duration,
    /// Largest single file of a bundle, after decompression.
    pub max_file_bytes: usize,
    /// Largest bundle in all, after decompression.
    pub max_bundle_bytes: usize,
    /// Largest serialized result of one evaluation.
    pub max_result_bytes: usize,
}

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
    /// Stable code in OPA's words where OPA has one: `rego_parse_error`, `rego_recursion_error`, `rego_type_error`, `bundle_error`, …
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// Where.
    pub location: Option<Location>,
}

/// Compiled policies and base data of all sources.
pub struct PolicySet {}

/// A bundle as activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleInfo {
    pub name: String,
    pub revision: String,
    pub roots: Vec<String>,
}

/// A module as loaded: `id` is `<bundle>/<path>`.
#[derive(Debug, Clone)]
pub struct ModuleInfo {
    pub id: String,
    pub raw: Arc<str>,
}

/// A place in Rego that reads `input.token.claims.<name>`; `None` when it reads the whole object or a computed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRead {
    pub claim: Option<String>,
    pub location: Location,
}

/// A path under `data`, as the OPA REST API and entrypoints write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DataPath(Vec<String>);

/// A rule that was checked to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint(DataPath);

/// What an evaluation gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Undefined,
    Value(Value),
}

/// Per-call switches.
#[derive(Debug, Clone, Default)]
pub struct EvalOptions {
    /// A builtin error ends the evaluation instead of being undefined.
    pub strict_builtin_errors: bool,
    /// Overrides [`Settings::deadline`].
    pub deadline: Option<Duration>,
}

/// Why an evaluation gave no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    pub kind: EvalErrorKind,
    pub message: String,
    pub location: Option<Location>,
}

/// Closed list of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EvalErrorKind {
    Conflict,
    Builtin,
    Type,
    Deadline,
    OutputLimit,
    Panic,
    Query,
    Internal,
}

/// The result of an ad-hoc query, in OPA's shape.
#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    pub rows: Vec<QueryRow>,
}
/// One row.
#[derive(Debug, Clone)]
pub struct QueryRow {
    pub expressions: Vec<ExpressionValue>,
    pub bindings: Vec<(String, Value)>,
}
/// One expression.
#[derive(Debug, Clone)]
pub struct ExpressionValue {
    pub value: Value,
    pub text: String,
    pub row: u32,
    pub col: u32,
}

impl Source {
    /// Reads an OPA `.tar.gz`.
    pub fn from_archive(name: &str, origin: &str, bytes: &[u8], settings: &Settings) -> Result<Self, LoadError> {
        let _ = (bytes, settings);
        Ok(Self { name: name.into(), origin: origin.into(), kind: SourceKind::Bundle, files: vec![] })
    }
}
impl PolicySet {
    /// Loads, checks and compiles everything, or says everything that is wrong.
    pub fn load(sources: Vec<Source>, settings: &Settings) -> Result<Self, Vec<LoadError>> {
        let _ = (sources, settings);
        Ok(Self {})
    }
    /// SHA-256 (hex) over names, paths and contents.
    pub fn digest(&self) -> &str {
        ""
    }
    pub fn bundles(&self) -> &[BundleInfo] {
        &[]
    }
    pub fn modules(&self) -> &[ModuleInfo] {
        &[]
    }
    /// Every read of `input.token.claims`.
    pub fn claim_reads(&self) -> &[ClaimRead] {
        &[]
    }
    /// Checks that the rule exists.
    pub fn entrypoint(&self, path: &DataPath) -> Result<Entrypoint, LoadError> {
        Ok(Entrypoint(path.clone()))
    }
    /// Is there any document (rule or base data) at this path? (OPA v0 tells "missing" from "undefined".)
    pub fn defines(&self, path: &DataPath) -> bool {
        let _ = path;
        false
    }
    /// Base data at a path; never a rule's value.
    pub fn base_data(&self, path: &[String]) -> Option<&Value> {
        let _ = path;
        None
    }
    /// Must evaluation of this path run off the async workers? (It calls builtins whose cost the deadline cannot interrupt.)
    pub fn may_block(&self) -> bool {
        false
    }
    /// Evaluates `data.<path>`.
    pub fn evaluate(&self, path: &DataPath, input: Option<Value>, options: &EvalOptions) -> Result<Outcome, EvalError> {
        let _ = (path, input, options);
        Ok(Outcome::Undefined)
    }
    /// Evaluates an ad-hoc query.
    pub fn query(&self, query: &str, input: Option<Value>, options: &EvalOptions) -> Result<QueryResult, EvalError> {
        let _ = (query, input, options);
        Ok(QueryResult::default())
    }
}
impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicySet")
    }
}
impl DataPath {
    /// From already decoded segments.
    pub fn new(segments: Vec<String>) -> Self {
        Self(segments)
    }
    /// From `a/b/c` (optional leading `/` or `data.`-free), no decoding.
    pub fn from_slash(path: &str) -> Self {
        Self(path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect())
    }
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}
impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}
impl Entrypoint {
    pub fn path(&self) -> &DataPath {
        &self.0
    }
}
impl EvalErrorKind {
    /// OPA's `eval_*_error` where OPA has one, else `eval_deadline_exceeded`, `eval_output_limit`, `eval_internal_error`, …
    pub fn code(self) -> &'static str {
        "placeholder"
    }
}
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(l) => write!(f, "{l}: {}: {}", self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.row == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}:{}", self.file, self.row, self.col) }
    }
}
impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            max_file_bytes: 64 << 20,
            max_bundle_bytes: 1 << 30,
            max_result_bytes: 16 << 20,
        }
    }
}
