//! [`PolicySet`]: sources → checked modules on a prepared engine, and `data.<path>` → [`Outcome`]. It holds no state
//! that an evaluation changes.

mod explain;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};

use super::{
    BundleInfo, ClaimRead, DataPath, Entrypoint, EvalError, EvalErrorKind, EvalOptions, LoadError, ModuleInfo, Outcome,
    Settings, Source, blame, builtins,
    bundle::{self, RegoFile},
    check::{self, Facts},
    coverage::Plan,
    error::{Rendered, classify_compile},
    guard::Deadline,
    http::Session,
    json,
    lower::{self, Edits, Origins, Rewritings},
    panics,
    path::{Place, Tree, member},
    scan,
    syntax::RuleFacts,
};

/// Steps of the interpreter between two looks at the clock: some microseconds.
const CHECK_INTERVAL: std::num::NonZeroU32 = match std::num::NonZeroU32::new(64) {
    Some(n) => n,
    None => std::num::NonZeroU32::MIN,
};
/// How messages name an ad-hoc query.
pub(super) const QUERY: &str = "query";
/// Most modules that may have a compile error before the rest is not looked at any more.
const MOST_COMPILE_ERRORS: usize = 20;

/// Compiled policies and base data of all sources.
pub struct PolicySet {
    machine: Machine,
    /// With a function around every builtin, for ad-hoc queries that need one which the modules do not; made once.
    complete: OnceLock<Result<Machine, String>>,
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

/// Prepared engines; evaluations run on clones, which share everything.
struct Machine {
    lenient: Engine,
    /// The same without our builtins, to derive the strict one.
    bare: Engine,
    strict: OnceLock<Engine>,
    used: BTreeSet<&'static str>,
    /// Builtins that have a function around them.
    lowered: BTreeSet<String>,
    edits: Edits,
    rewritings: Rewritings,
    origins: Arc<Origins>,
}

// === impl PolicySet ===

impl PolicySet {
    /// Loads, checks and compiles everything, or says everything that is wrong.
    ///
    /// # Errors
    /// Every problem that was found, each with its place.
    pub fn load(sources: Vec<Source>, settings: &Settings) -> Result<Self, Vec<LoadError>> {
        let digest = super::source::content_digest(&sources);
        let content = bundle::read(sources, settings)?;
        let mut errors = Vec::new();
        let (files, origins) = lower::modules(&content.modules, &mut errors);
        let mut facts = check::modules(&files, &origins, &content.data, settings.http.is_some(), errors)?;
        let (mut files, mut origins, mut plan) = (files, origins, None);
        if settings.coverage {
            let (noting, notes) = lower::instrument(&files, &facts.names, &mut origins)?;
            facts.rules = check::rules(&noting, &origins, &facts.names)?;
            (files, plan) = (noting, Some(Arc::new(notes)));
        }
        let origins = Arc::new(origins);
        let lowered = lower::needed(&facts.rules);
        let machine = Machine::new(&files, &origins, &content.data, &facts, lowered)?;
        let tree = Tree::new(&facts.rules, &facts.packages);
        let module = |file: &RegoFile| ModuleInfo { id: file.id.clone(), raw: Arc::clone(&file.text) };
        let modules = content.modules.iter().map(module).collect();
        Ok(Self {
            machine,
            complete: OnceLock::new(),
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

    /// As [`PolicySet::evaluate`]; `prints` receives what `print` was given, also when the evaluation fails.
    pub(super) fn evaluate_printing(
        &self,
        path: &DataPath,
        input: Option<Value>,
        options: &EvalOptions,
        prints: &mut Vec<String>,
    ) -> Result<Outcome, EvalError> {
        let limit = options.deadline.unwrap_or_else(|| self.deadline(path));
        let _session = Session::start(self.settings.http.clone());
        let value = match self.tree.find(path.segments()) {
            Place::Function => return Ok(Outcome::Undefined),
            Place::Base => match self.base_data(path.segments()) {
                Some(value) => value.clone(),
                None => return Ok(Outcome::Undefined),
            },
            Place::Rule { engine_path, rest } => {
                let whole = self.machine.run(input, options, limit, &[], |engine| {
                    let value = engine.eval_rule(engine_path.to_owned());
                    prints.extend(engine.take_prints()?);
                    value
                });
                let whole = whole.map_err(|error| self.explained(error, &self.machine))?;
                match rest {
                    [] => whole,
                    rest => match member(&whole, rest) {
                        Some(value) => value.clone(),
                        None => return Ok(Outcome::Undefined),
                    },
                }
            }
            Place::Virtual { query, rest } => {
                let result = self.machine.run(input, options, limit, &[], |engine| {
                    let result = engine.eval_query(query.to_owned(), false);
                    prints.extend(engine.take_prints()?);
                    result
                });
                let result = result.map_err(|error| self.explained(error, &self.machine))?;
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
            return Err(EvalError::new(EvalErrorKind::OutputLimit, format!("result is larger than {max} bytes")));
        }
        Ok(Outcome::Value(value))
    }

    /// Runs a query, which passed its checks, on the engine.
    pub(super) fn run_query(
        &self,
        text: &str,
        facts: &RuleFacts,
        input: Option<Value>,
        options: &EvalOptions,
    ) -> Result<(regorus::QueryResults, Vec<String>), EvalError> {
        let lowered = lower::needed([facts]);
        let mut extra: Vec<&'static str> = builtins::used([facts]).into_iter().collect();
        let machine = if lowered.is_subset(&self.machine.lowered) { &self.machine } else { self.complete()? };
        let mut edits = Edits::default();
        let original = text;
        let mut places = Edits::places(std::slice::from_ref(facts), &machine.lowered);
        let text = edits.apply(QUERY, text, &places.remove(QUERY).unwrap_or_default());
        let mut rewritings = Rewritings::default();
        let text = rewritings
            .query(text, &self.facts.names)
            .map_err(|error| EvalError::query(error.code, error.message, error.location))?;
        extra.extend(rewritings.operators());
        // What a query reaches is not worked out: one call of `http.send` anywhere is enough.
        let waits = self.may_wait() || check::calls_network(facts);
        let limit = if waits { self.settings.io_deadline } else { self.settings.deadline };
        let _session = Session::start(self.settings.http.clone());
        let result = machine.run(input, options, options.deadline.unwrap_or(limit), &extra, |engine| {
            let results = engine.eval_query(text, false)?;
            Ok((results, engine.take_prints()?))
        });
        result.map_err(|mut error| match error.location.as_mut().filter(|at| at.file == super::query::QUERY_FILE) {
            Some(at) => {
                at.file = QUERY.to_owned();
                rewritings.original(at);
                edits.original(at);
                blame::in_query(&mut error, original);
                error
            }
            None => self.explained(error, machine),
        })
    }
}

impl PolicySet {
    /// The modules have to call the functions too, or `with` would not reach them: they are compiled anew, with all
    /// functions, so that clients with ever other queries make it happen only once.
    fn complete(&self) -> Result<&Machine, EvalError> {
        let machine = self.complete.get_or_init(|| {
            let all = builtins::names().map(str::to_owned).collect();
            let machine = Machine::new(&self.files, &self.machine.origins, &self.data, &self.facts, all);
            machine.map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default())
        });
        machine.as_ref().map_err(|message| EvalError::new(EvalErrorKind::Internal, message.clone()))
    }
}

// === impl Machine ===

impl Machine {
    fn new(
        files: &[RegoFile],
        origins: &Arc<Origins>,
        data: &Value,
        facts: &Facts,
        lowered: BTreeSet<String>,
    ) -> Result<Self, Vec<LoadError>> {
        let mut edits = Edits::default();
        let mut rewritings = Rewritings::default();
        let mut errors = Vec::new();
        let mut texts: Vec<EngineModule> = Vec::with_capacity(files.len());
        let places = Edits::places(&facts.rules, &lowered);
        for file in files {
            let text = edits.apply(&file.id, &file.text, places.get(file.display.as_str()).map_or(&[], Vec::as_slice));
            let text = match rewritings.module(file, text, &facts.names) {
                Ok(text) => text,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            texts.push(EngineModule { id: file.id.clone(), display: file.display.clone(), text, v0: file.v0 });
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let library = lower::library(&lowered).map(|text| EngineModule {
            id: lower::LIBRARY.to_owned(),
            display: lower::LIBRARY.to_owned(),
            text,
            v0: false,
        });
        texts.extend(library);
        let bare = compile(&texts, data, (&rewritings, &edits), origins)?;
        let mut used = builtins::used(&facts.rules);
        used.extend(builtins::named(&lowered));
        used.extend(rewritings.operators());
        let mut lenient = bare.clone();
        builtins::register(&mut lenient, &used, false);
        Ok(Self {
            lenient,
            bare,
            strict: OnceLock::new(),
            used,
            lowered,
            edits,
            rewritings,
            origins: Arc::clone(origins),
        })
    }

    /// Runs the engine under a deadline, with the builtins of `extra` too.
    fn run<T>(
        &self,
        input: Option<Value>,
        options: &EvalOptions,
        limit: Duration,
        extra: &[&'static str],
        work: impl FnOnce(&mut Engine) -> anyhow::Result<T>,
    ) -> Result<T, EvalError> {
        let mut engine = self.engine(options.strict_builtin_errors).clone();
        builtins::register(&mut engine, extra, options.strict_builtin_errors);
        engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: CHECK_INTERVAL });
        engine.set_input(input.unwrap_or(Value::Undefined));
        let _deadline = Deadline::start(limit, options.strict_builtin_errors);
        match panics::catch(|| work(&mut engine)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let mut error = EvalError::from_engine(&error);
                if let Some(at) = &mut error.location {
                    self.rewritings.original(at);
                    self.edits.original(at);
                }
                Err(error)
            }
            Err(panic) => Err(EvalError::new(EvalErrorKind::Panic, format!("the policy engine panicked: {panic}"))),
        }
    }

    fn engine(&self, strict: bool) -> &Engine {
        if !strict {
            return &self.lenient;
        }
        self.strict.get_or_init(|| {
            let mut engine = self.bare.clone();
            engine.set_strict_builtin_errors(true);
            builtins::register(&mut engine, &self.used, true);
            engine
        })
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySet")
            .field("bundles", &self.bundles)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A module as the engine gets it.
struct EngineModule {
    id: String,
    display: String,
    text: String,
    v0: bool,
}

/// A prepared engine. Everything was parsed before, so what fails here is what only the engine's own analysis sees.
fn compile(
    modules: &[EngineModule],
    data: &Value,
    (rewritings, edits): (&Rewritings, &Edits),
    origins: &Origins,
) -> Result<Engine, Vec<LoadError>> {
    let mut left: Vec<&EngineModule> = modules.iter().collect();
    let mut errors = Vec::new();
    loop {
        let result = panics::catch(|| prepare(&left, data)).unwrap_or_else(|panic| Err(anyhow::anyhow!("{panic}")));
        let error = match result {
            Ok(engine) if errors.is_empty() => return Ok(engine),
            Ok(_) => return Err(errors),
            Err(error) => error,
        };
        let Rendered { message, mut location } = Rendered::parse(&format!("{error:#}"));
        let (code, message) = classify_compile(&message);
        // The engine stops at the first error of all modules: take that module out and look at the others.
        let index = location.as_ref().and_then(|at| left.iter().position(|module| module.id == at.file));
        if let (Some(index), Some(at)) = (index, &mut location) {
            rewritings.original(at);
            edits.original(at);
            at.file = left.remove(index).display.clone();
            origins.original(at);
        }
        errors.push(LoadError::new(code, message, location));
        if index.is_none() || errors.len() >= MOST_COMPILE_ERRORS {
            return Err(errors);
        }
    }
}

fn prepare(modules: &[&EngineModule], data: &Value) -> anyhow::Result<Engine> {
    let mut engine = Engine::new();
    engine.set_policy_length_config(scan::LENGTHS);
    engine.set_strict_builtin_errors(false);
    // `print` must not write to stderr.
    engine.set_gather_prints(true);
    for module in modules {
        engine.set_rego_v0(module.v0);
        engine.add_policy(module.id.clone(), module.text.clone())?;
    }
    engine.set_rego_v0(false);
    engine.add_data(data.clone())?;
    engine.eval_query("true".to_owned(), false)?;
    Ok(engine)
}
