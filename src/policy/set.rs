//! [`PolicySet`]: sources → checked modules on a prepared engine, and `data.<path>` → [`Outcome`]. It holds no state
//! that an evaluation changes.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::digest;
use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};

use super::{
    BundleInfo, ClaimRead, DataPath, Entrypoint, EvalError, EvalErrorKind, EvalOptions, LoadError, ModuleInfo, Outcome,
    Settings, Source, builtins,
    bundle::{self, RegoFile},
    check::{self, Facts},
    error::{Rendered, classify_compile},
    guard::Deadline,
    json, lower, panics,
    path::{Place, Tree, member},
    scan,
};

/// Steps of the interpreter between two looks at the clock: some microseconds.
const CHECK_INTERVAL: std::num::NonZeroU32 = match std::num::NonZeroU32::new(64) {
    Some(n) => n,
    None => std::num::NonZeroU32::MIN,
};
/// Most modules that may have a compile error before the rest is not looked at any more.
const MOST_COMPILE_ERRORS: usize = 20;

/// Compiled policies and base data of all sources.
pub struct PolicySet {
    /// Prepared; evaluations run on clones, which share everything.
    lenient: Engine,
    /// The same without our builtins, to derive the strict one.
    bare: Engine,
    strict: OnceLock<Engine>,
    used: BTreeSet<&'static str>,
    tree: Tree,
    pub(super) facts: Facts,
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
        let digest = content_digest(&sources);
        let content = bundle::read(&sources, settings)?;
        drop(sources);
        let facts = check::modules(&content.modules, &content.data)?;
        let lowered = lower::forms(&content.modules, &facts.rules, &facts.packages);
        let bare = compile(&lowered, &content.data)?;
        drop(lowered);
        let used = builtins::used(&facts.rules);
        let mut lenient = bare.clone();
        builtins::register(&mut lenient, &used, false);
        let tree = Tree::new(&facts.rules, &facts.packages);
        let modules = content.modules.into_iter().map(|file| ModuleInfo { id: file.id, raw: Arc::from(file.text) });
        Ok(Self {
            lenient,
            bare,
            strict: OnceLock::new(),
            used,
            tree,
            facts,
            data: content.data,
            bundles: content.bundles,
            modules: modules.collect(),
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

    /// The wall-clock budget of one evaluation, unless a call overrides it.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    pub(super) fn max_result_bytes(&self) -> usize {
        self.settings.max_result_bytes
    }

    /// Evaluates `data.<path>`.
    ///
    /// # Errors
    /// [`EvalError`] when the policy conflicts with itself, takes too long or too much, or the engine fails.
    pub fn evaluate(&self, path: &DataPath, input: Option<Value>, options: &EvalOptions) -> Result<Outcome, EvalError> {
        let value = match self.tree.find(path.segments()) {
            Place::Function => return Ok(Outcome::Undefined),
            Place::Base => match self.base_data(path.segments()) {
                Some(value) => value.clone(),
                None => return Ok(Outcome::Undefined),
            },
            Place::Rule { engine_path, rest } => {
                let whole = self.run(input, options, &[], |engine| engine.eval_rule(engine_path.to_owned()))?;
                match rest {
                    [] => whole,
                    rest => match member(&whole, rest) {
                        Some(value) => value.clone(),
                        None => return Ok(Outcome::Undefined),
                    },
                }
            }
            Place::Virtual { query, rest } => {
                let result = self.run(input, options, &[], |engine| engine.eval_query(query.to_owned(), false))?;
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

    /// Runs the engine under the deadline, with the builtins of `extra` too.
    pub(super) fn run<T>(
        &self,
        input: Option<Value>,
        options: &EvalOptions,
        extra: &[&'static str],
        work: impl FnOnce(&mut Engine) -> anyhow::Result<T>,
    ) -> Result<T, EvalError> {
        let limit = options.deadline.unwrap_or(self.settings.deadline);
        let mut engine = self.engine(options.strict_builtin_errors).clone();
        builtins::register(&mut engine, extra, options.strict_builtin_errors);
        engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval: CHECK_INTERVAL });
        engine.set_input(input.unwrap_or(Value::Undefined));
        let _deadline = Deadline::start(limit, options.strict_builtin_errors);
        match panics::catch(|| work(&mut engine)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(EvalError::from_engine(&error)),
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

/// A prepared engine. Everything was parsed before, so what fails here is what only the engine's own analysis sees.
fn compile(files: &[RegoFile], data: &Value) -> Result<Engine, Vec<LoadError>> {
    let mut left: Vec<&RegoFile> = files.iter().collect();
    let mut errors = Vec::new();
    loop {
        let Err(error) = panics::catch(|| prepare(&left, data)).unwrap_or_else(|panic| Err(anyhow::anyhow!("{panic}")))
        else {
            break;
        };
        let Rendered { message, mut location } = Rendered::parse(&format!("{error:#}"));
        let (code, message) = classify_compile(&message);
        // The engine stops at the first error of all modules: take that module out and look at the others.
        let file = location.as_ref().and_then(|at| left.iter().position(|file| file.id == at.file));
        if let (Some(index), Some(at)) = (file, &mut location) {
            at.file = left.remove(index).display.clone();
        }
        errors.push(LoadError::new(code, message, location));
        if file.is_none() || errors.len() >= MOST_COMPILE_ERRORS {
            break;
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    prepare(&left, data).map_err(|error| vec![LoadError::new("rego_compile_error", format!("{error:#}"), None)])
}

fn prepare(files: &[&RegoFile], data: &Value) -> anyhow::Result<Engine> {
    let mut engine = Engine::new();
    engine.set_policy_length_config(scan::LENGTHS);
    engine.set_strict_builtin_errors(false);
    // `print` must not write to stderr.
    engine.set_gather_prints(true);
    for file in files {
        engine.set_rego_v0(file.v0);
        engine.add_policy(file.id.clone(), file.text.clone())?;
    }
    engine.set_rego_v0(false);
    engine.add_data(data.clone())?;
    engine.eval_query("true".to_owned(), false)?;
    Ok(engine)
}

fn content_digest(sources: &[Source]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut field = |bytes: &[u8]| {
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    for source in sources {
        field(source.name.as_bytes());
        let mut files: Vec<_> = source.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in files {
            field(file.path.as_bytes());
            field(&file.bytes);
        }
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
