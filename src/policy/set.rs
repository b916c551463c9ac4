//! [`PolicySet`]: sources → checked modules on a prepared engine, and `data.<path>` → [`Outcome`]. It holds no state
//! that an evaluation changes.

mod conflicts;
mod explain;
mod machine;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use regorus::{Engine, Value};

use super::{
    BundleInfo, ClaimRead, DataPath, Entrypoint, EvalError, EvalErrorKind, EvalOptions, LoadError, ModuleInfo, Outcome,
    Settings, Source, blame, builtins,
    bundle::{self, RegoFile},
    check::{self, Facts, Rigour},
    coverage::Plan,
    http::Session,
    json,
    lower::{self, Edits, Rewritings},
    path::{Place, Tree, member},
    source,
    syntax::RuleFacts,
};

pub(super) use self::machine::Care;
use self::machine::{Machine, Machines};

/// How messages name an ad-hoc query.
pub(super) const QUERY: &str = "query";
/// Compiled policies and base data of all sources.
pub struct PolicySet {
    machines: Machines,
    /// Has a rule an operator of numbers?
    arithmetic: bool,
    /// May a rule make a number that is no integer, whatever the input?
    fractions: bool,
    /// Is there one in the data? It is looked for when it matters.
    data_fractions: OnceLock<bool>,
    tree: Tree,
    pub(super) facts: Facts,
    /// What the modules note, where they were loaded for coverage.
    plan: Option<Arc<Plan>>,
    /// As the engine's parser gets them.
    pub(super) files: Vec<RegoFile>,
    data: Value,
    bundles: Vec<BundleInfo>,
    modules: Vec<ModuleInfo>,
    digest: String,
    settings: Settings,
}

// === impl PolicySet ===

impl PolicySet {
    /// Loads, checks and compiles everything, or says everything that is wrong.
    ///
    /// # Errors
    /// Every problem that was found, each with its place.
    pub fn load(sources: Vec<Source>, settings: &Settings) -> Result<Self, Vec<LoadError>> {
        let digest = source::content_digest(&sources);
        let content = bundle::read(sources, settings)?;
        let mut errors = Vec::new();
        let (files, origins) = lower::modules(&content.modules, &mut errors);
        let rigour =
            Rigour { network: settings.http.is_some(), is_strict: settings.is_strict, max_errors: settings.max_errors };
        let mut facts = check::modules(&files, &origins, &content.data, rigour, errors)?;
        let (mut files, mut origins, mut plan) = (files, origins, None);
        if settings.coverage {
            let (noting, notes) = lower::instrument(&files, &facts.names, &mut origins)?;
            facts.rules = check::rules(&noting, &origins, &facts.names)?;
            (files, plan) = (noting, Some(Arc::new(notes)));
        }
        let origins = Arc::new(origins);
        let machines = Machines::new(&files, &origins, &content.data, &facts, settings.max_memory_bytes)?;
        let tree = Tree::new(&facts.rules, &facts.packages);
        let module = |file: &RegoFile| ModuleInfo { id: file.id.clone(), raw: Arc::clone(&file.text) };
        let modules = content.modules.iter().map(module).collect();
        Ok(Self {
            machines,
            arithmetic: facts.rules.iter().any(|rule| rule.arithmetic),
            fractions: facts.rules.iter().any(|rule| rule.fractions),
            data_fractions: OnceLock::new(),
            tree,
            facts,
            plan,
            files,
            data: content.data,
            bundles: content.bundles,
            modules,
            digest,
            settings: settings.clone(),
        })
    }

    /// SHA-256 (hex) over names, paths and contents.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The bundles, in the order given.
    #[must_use]
    pub fn bundles(&self) -> &[BundleInfo] {
        &self.bundles
    }

    /// The modules, in the order given.
    #[must_use]
    pub fn modules(&self) -> &[ModuleInfo] {
        &self.modules
    }

    /// What OPA's strict mode would refuse.
    #[must_use]
    pub fn warnings(&self) -> &[LoadError] {
        &self.facts.warnings
    }

    /// Every read of `input.token.claims`.
    #[must_use]
    pub fn claim_reads(&self) -> &[ClaimRead] {
        &self.facts.claim_reads
    }

    /// Checks that the rule exists.
    ///
    /// # Errors
    /// An `entrypoint_error` that names the nearest rule.
    pub fn entrypoint(&self, path: &DataPath) -> Result<Entrypoint, LoadError> {
        if self.tree.is_rule(path.segments()) {
            return Ok(Entrypoint::new(path.clone()));
        }
        let asked = path.to_string();
        let rules = self.tree.rules();
        let near = rules.iter().map(|rule| (strsim::damerau_levenshtein(rule, &asked), rule)).min();
        let hint = match near {
            Some((distance, rule)) if distance <= asked.len() / 3 + 1 => format!("; did you mean `{rule}`?"),
            Some(_) => String::new(),
            None => "; no bundle has any rule".to_owned(),
        };
        Err(LoadError::new("entrypoint_error", format!("no bundle defines the rule `{asked}`{hint}"), None))
    }

    /// Is there any document (rule, package or base data) at this path?
    #[must_use]
    pub fn defines(&self, path: &DataPath) -> bool {
        match self.tree.find(path.segments()) {
            Place::Rule { .. } | Place::Virtual { .. } | Place::Function => true,
            Place::Base => self.base_data(path.segments()).is_some(),
        }
    }

    /// Base data at a path; never a rule's value.
    #[must_use]
    pub fn base_data(&self, path: &[String]) -> Option<&Value> {
        member(&self.data, path)
    }

    /// Must evaluation run off the async workers? (It calls builtins whose cost the deadline cannot interrupt.)
    #[must_use]
    pub fn may_block(&self) -> bool {
        self.facts.may_block
    }

    /// Can the evaluation of this path reach `http.send`, and so wait for others?
    #[must_use]
    pub fn reaches_network(&self, path: &DataPath) -> bool {
        // A rule above gives what is below it, and a document holds the rules in it.
        self.facts.network.iter().any(|rule| {
            let pairs = rule.iter().zip(path.segments());
            pairs.into_iter().all(|(own, asked)| own.as_ref().is_none_or(|own| own == asked))
        })
    }

    /// The wall-clock budget of an evaluation of this path, unless a call overrides it.
    #[must_use]
    pub fn deadline(&self, path: &DataPath) -> Duration {
        if self.reaches_network(path) { self.settings.io_deadline } else { self.settings.deadline }
    }

    /// Does any rule call `http.send`?
    #[must_use]
    pub fn may_wait(&self) -> bool {
        !self.facts.network.is_empty()
    }

    pub(super) fn coverage_plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    pub(super) fn has_network(&self) -> bool {
        self.settings.http.is_some()
    }

    pub(super) fn max_result_bytes(&self) -> usize {
        self.settings.max_result_bytes
    }

    /// Evaluates `data.<path>`.
    ///
    /// # Errors
    /// [`EvalError`] when the policy conflicts with itself, takes too long or too much, or the engine fails.
    pub fn evaluate(&self, path: &DataPath, input: Option<Value>, options: &EvalOptions) -> Result<Outcome, EvalError> {
        self.evaluate_printing(path, input, options, &mut Vec::new())
    }

    /// As [`PolicySet::evaluate`], if that needs no engine that is yet to be made: making one takes a time that grows
    /// with the policies and that no deadline ends. `None`: [`PolicySet::evaluate`] would make one.
    pub fn evaluate_if_made(
        &self,
        path: &DataPath,
        input: Option<Value>,
        options: &EvalOptions,
    ) -> Option<Result<Outcome, EvalError>> {
        match self.evaluate_on(|care| self.machines.made(care), path, input, options, &mut Vec::new()) {
            Ok(outcome) => Some(Ok(outcome)),
            Err(Stop::Failed(error)) => Some(Err(error)),
            Err(Stop::NotMade) => None,
        }
    }

    /// As [`PolicySet::evaluate`]; `prints` receives what `print` was given, also when the evaluation fails.
    pub(super) fn evaluate_printing(
        &self,
        path: &DataPath,
        input: Option<Value>,
        options: &EvalOptions,
        prints: &mut Vec<String>,
    ) -> Result<Outcome, EvalError> {
        let get = |care| Some(self.machines.get(self, false, care));
        self.evaluate_on(get, path, input, options, prints).map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::NotMade => EvalError::new(EvalErrorKind::Internal, "an engine was not made".to_owned()),
        })
    }

    fn evaluate_on<'s>(
        &'s self,
        get: impl Fn(Care) -> Option<Result<&'s Machine, EvalError>>,
        path: &DataPath,
        input: Option<Value>,
        options: &EvalOptions,
        prints: &mut Vec<String>,
    ) -> Result<Outcome, Stop> {
        let limit = options.deadline.unwrap_or_else(|| self.deadline(path));
        let _session = Session::start(self.settings.http.clone());
        let value = match self.tree.find(path.segments()) {
            Place::Function => return Ok(Outcome::Undefined),
            Place::Base => match self.base_data(path.segments()) {
                Some(value) => value.clone(),
                None => return Ok(Outcome::Undefined),
            },
            Place::Rule { engine_path, rest } => {
                let whole = self
                    .with_care(get, input, options, limit, prints, |engine| engine.eval_rule(engine_path.to_owned()))?;
                match rest {
                    [] => whole,
                    rest => match member(&whole, rest) {
                        Some(value) => value.clone(),
                        None => return Ok(Outcome::Undefined),
                    },
                }
            }
            Place::Virtual { query, rest } => {
                let result = self.with_care(get, input, options, limit, prints, |engine| {
                    engine.eval_query(query.to_owned(), false)
                })?;
                let row = result.result.into_iter().next();
                let value = row.and_then(|row| row.expressions.into_iter().next()).map(|e| e.value);
                let Some(mut value) = value else { return Ok(Outcome::Undefined) };
                if path.segments().is_empty()
                    && let Ok(members) = value.as_object_mut()
                {
                    members.remove(&Value::from("system"));
                }
                match member(&value, rest) {
                    Some(value) => value.clone(),
                    None => return Ok(Outcome::Undefined),
                }
            }
        };
        if value == Value::Undefined {
            return Ok(Outcome::Undefined);
        }
        if !json::fits(&value, self.settings.max_result_bytes) {
            let max = self.settings.max_result_bytes;
            let message = format!("result is larger than {max} bytes");
            return Err(Stop::Failed(EvalError::new(EvalErrorKind::OutputLimit, message)));
        }
        Ok(Outcome::Value(value))
    }

    /// Runs the engine as it is, and with OPA's operators where its own would not do; see [`Care`].
    fn with_care<'s, T>(
        &'s self,
        get: impl Fn(Care) -> Option<Result<&'s Machine, EvalError>>,
        input: Option<Value>,
        options: &EvalOptions,
        limit: Duration,
        prints: &mut Vec<String>,
        work: impl Fn(&mut Engine) -> anyhow::Result<T>,
    ) -> Result<T, Stop> {
        let start = Instant::now();
        let care = self.care(None, input.as_ref(), options);
        let known = prints.len();
        let mut run = |care, input, limit| {
            let machine = get(care).ok_or(Stop::NotMade)??;
            let result = machine.run(input, options, limit, &[], |engine| {
                let value = work(engine);
                prints.truncate(known);
                prints.extend(engine.take_prints()?);
                value
            });
            let explain = |error| if care.is_enough(&error) { self.explained(error, machine) } else { error };
            result.map_err(explain).map_err(Stop::Failed)
        };
        match run(care, input.clone(), limit) {
            Err(Stop::Failed(error)) if !care.is_enough(&error) => run(Care::Exact, input, rest(limit, start)),
            result => result,
        }
    }

    /// Does an evaluation compute with fractions, or want OPA's words for every failure?
    fn care(&self, query: Option<&RuleFacts>, input: Option<&Value>, options: &EvalOptions) -> Care {
        let arithmetic = self.arithmetic || query.is_some_and(|query| query.arithmetic);
        let fractions = || {
            self.fractions
                || query.is_some_and(|query| query.fractions)
                || *self.data_fractions.get_or_init(|| has_fraction(&self.data))
                || input.is_some_and(has_fraction)
        };
        if options.strict_builtin_errors || arithmetic && fractions() { Care::Exact } else { Care::Fast }
    }

    /// Runs a query, which passed its checks, on the engine.
    pub(super) fn run_query(
        &self,
        text: &str,
        facts: &RuleFacts,
        input: Option<Value>,
        options: &EvalOptions,
    ) -> Result<(regorus::QueryResults, Vec<String>), EvalError> {
        let start = Instant::now();
        // What a query reaches is not worked out: one call of `http.send` anywhere is enough.
        let waits = self.may_wait() || check::calls_network(facts);
        let limit = if waits { self.settings.io_deadline } else { self.settings.deadline };
        let limit = options.deadline.unwrap_or(limit);
        let _session = Session::start(self.settings.http.clone());
        let care = self.care(Some(facts), input.as_ref(), options);
        match self.run_query_on(care, text, facts, input.clone(), (options, limit)) {
            Err(error) if !care.is_enough(&error) => {
                self.run_query_on(Care::Exact, text, facts, input, (options, rest(limit, start)))
            }
            result => result,
        }
    }

    fn run_query_on(
        &self,
        care: Care,
        original: &str,
        facts: &RuleFacts,
        input: Option<Value>,
        (options, limit): (&EvalOptions, Duration),
    ) -> Result<(regorus::QueryResults, Vec<String>), EvalError> {
        let lowered = lower::needed([facts]);
        let machine = self.machines.get(self, !self.machines.wraps(&lowered), care)?;
        let mut edits = Edits::default();
        let mut places = Edits::places(std::slice::from_ref(facts), &machine.lowered);
        let text = edits.apply(QUERY, original, &places.remove(QUERY).unwrap_or_default());
        let mut rewritings = Rewritings::default();
        let text = rewritings
            .query(text, &self.facts.names, care)
            .map_err(|error| EvalError::query(error.code, error.message, error.location))?;
        let mut extra: Vec<&'static str> = builtins::used([facts]).into_iter().collect();
        extra.extend(rewritings.operators());
        let result = machine.run(input, options, limit, &extra, |engine| {
            let results = engine.eval_query(text, false)?;
            Ok((results, engine.take_prints()?))
        });
        result.map_err(|mut error| {
            if !care.is_enough(&error) {
                return error;
            }
            match error.location.as_mut().filter(|at| at.file == super::query::QUERY_FILE) {
                Some(at) => {
                    at.file = QUERY.to_owned();
                    rewritings.original(at);
                    edits.original(at);
                    blame::in_query(&mut error, original);
                    error
                }
                None => self.explained(error, machine),
            }
        })
    }
}

/// Why an evaluation has no outcome.
enum Stop {
    Failed(EvalError),
    /// It needs an engine that was not made yet, and may not make it.
    NotMade,
}

impl From<EvalError> for Stop {
    fn from(error: EvalError) -> Self {
        Self::Failed(error)
    }
}

/// What is left of a budget; 0 stays "no limit".
fn rest(limit: Duration, start: Instant) -> Duration {
    if limit.is_zero() { limit } else { limit.saturating_sub(start.elapsed()).max(Duration::from_nanos(1)) }
}

/// Is there a number that is no integer?
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_integer(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Set(items) => items.iter().any(has_fraction),
        Value::Object(members) => members.iter().any(|(key, value)| has_fraction(key) || has_fraction(value)),
        _ => false,
    }
}
