//! (policy set, input) → [`Outcome`]. The only user of `regorus`.
//!
//! Sources are already in memory: nothing here reads a file, and the only clock is the engine's own deadline. What would
//! crash the engine, overflow the stack or fail open is refused by [`PolicySet::load`], with a place for every complaint;
//! what can only be seen while evaluating ends in an [`EvalError`], never in the end of the process.
//!
//! Reading order: [`mod@source`] and [`bundle`] (files → modules and data), [`document`] (JSON and YAML), [`scan`],
//! [`syntax`], [`graph`] and [`check`] (what is refused before anything runs), [`lower`], [`builtins`] and [`guard`]
//! (what policies may call, and for how much), [`http`] (the port of
//! `http.send`), [`set`] (load and evaluate), [`blame`] (whose error it was), [`query`] and [`solutions`] (ad-hoc queries), [`testing`] (test
//! rules), [`json`] (values as OPA writes them).

mod blame;
mod builtins;
mod bundle;
mod check;
mod core;
mod coverage;
mod document;
mod error;
mod graph;
mod guard;
mod http;
#[cfg(test)]
mod http_tests;
mod infer;
mod json;
mod lower;
mod panics;
mod path;
mod query;
mod safety;
mod scan;
mod set;
mod solutions;
mod source;
mod stdlib;
mod syntax;
mod testing;
#[cfg(test)]
mod tests;
mod types;
mod yaml;

use std::{sync::Arc, time::Duration};

pub use coverage::{Coverage, CoverageReport, FileCoverage, Kind as CoverageKind, Range};
pub use document::{DocumentError, parse_json, parse_yaml};
pub use error::{EvalError, EvalErrorKind, LoadError, Location};
pub use http::{HttpCaching, HttpError, HttpRequest, HttpResponse, HttpSend, HttpTls, PemSource};
pub use json::{quote, to_opa_json, to_opa_json_pretty};
pub use panics::install_panic_hook;
pub use path::{DataPath, Entrypoint};
pub use query::{ExpressionValue, QueryResult, QueryRow};
pub use regorus::Value;
pub use set::PolicySet;
pub use source::{Source, SourceFile, SourceKind};
pub use testing::{StepProbe, TermProbe, TestRule, TestRun};

/// Load and evaluation limits and switches.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Wall-clock budget of one evaluation.
    pub deadline: Duration,
    /// The same, for evaluations that can reach `http.send`: waiting for the network counts.
    pub io_deadline: Duration,
    /// Who sends the requests of `http.send`; `None`: modules that call it do not load.
    pub http: Option<Arc<dyn HttpSend>>,
    /// Largest single file of a bundle, after decompression.
    pub max_file_bytes: usize,
    /// Largest bundle in all, after decompression.
    pub max_bundle_bytes: usize,
    /// Largest serialized result of one evaluation.
    pub max_result_bytes: usize,
    /// Most that the builtins of one evaluation may make, in bytes: texts, and what collections take themselves.
    pub max_memory_bytes: usize,
    /// What OPA's strict mode finds is an error, not a warning.
    pub is_strict: bool,
    /// Most errors of one load that are told; 0: as many as are worth reading.
    pub max_errors: usize,
    /// Modules note what of them is evaluated, for [`Coverage`]: they are slower, and nest the stack much deeper.
    pub coverage: bool,
    /// Modules of which nothing else says it are written for Rego v0.
    pub v0_compatible: bool,
}

/// A bundle as activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleInfo {
    /// As configured.
    pub name: String,
    /// From its manifest; empty when it has none.
    pub revision: String,
    /// From its manifest, without slashes at the ends; `[""]` owns everything.
    pub roots: Vec<String>,
}

/// A module as loaded.
#[derive(Debug, Clone)]
pub struct ModuleInfo {
    /// `<bundle>/<path>`; for plain sources the path as shown.
    pub id: String,
    /// Its text.
    pub raw: Arc<str>,
}

/// A place in Rego that reads `input.token.claims`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRead {
    /// The claim; `None` when the whole object or a computed name is read.
    pub claim: Option<String>,
    /// Where.
    pub location: Location,
}

/// What an evaluation gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// No rule gave a value.
    Undefined,
    /// The value, without `undefined` anywhere in it.
    Value(Value),
}

/// Per-call switches.
#[derive(Debug, Clone, Default)]
pub struct EvalOptions {
    /// A builtin error ends the evaluation instead of being undefined.
    pub strict_builtin_errors: bool,
    /// Overrides [`Settings::deadline`] and [`Settings::io_deadline`].
    pub deadline: Option<Duration>,
    /// A query is from a client: it may not call `http.send` itself. Rules that it asks for may.
    pub foreign_query: bool,
    /// Where a query stands.
    pub scope: QueryScope,
}

/// The package whose rules an ad-hoc query names without a path, and what it imports.
#[derive(Debug, Clone, Default)]
pub struct QueryScope {
    /// Below `data`; empty for none.
    pub package: Vec<String>,
    /// By name: below `data`, or with `true` below `input`.
    pub imports: Vec<(String, bool, Vec<String>)>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(100),
            io_deadline: Duration::from_secs(10),
            http: None,
            max_file_bytes: 64 << 20,
            max_bundle_bytes: 1 << 30,
            max_result_bytes: 16 << 20,
            max_memory_bytes: 64 << 20,
            is_strict: false,
            max_errors: 10,
            coverage: false,
            v0_compatible: false,
        }
    }
}
