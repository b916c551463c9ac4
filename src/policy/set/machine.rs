//! Engines with all modules compiled, and what leads from the texts that they got back to the originals. They are made
//! when they are first needed; the first one when the set is loaded, so that its errors are the set's.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};

use super::PolicySet;
use crate::policy::{
    EvalError, EvalErrorKind, EvalOptions, LoadError, builtins,
    bundle::RegoFile,
    check::Facts,
    error::{Rendered, classify_compile},
    guard::Deadline,
    lower::{self, Edits, Origins, Rewritings},
    panics, scan,
};

/// Steps of the interpreter between two looks at the clock: some microseconds.
const CHECK_INTERVAL: std::num::NonZeroU32 = match std::num::NonZeroU32::new(64) {
    Some(n) => n,
    None => std::num::NonZeroU32::MIN,
};
/// Most modules that may have a compile error before the rest is not looked at any more.
const MOST_COMPILE_ERRORS: usize = 20;

/// Whose operators an engine has. Its own are as fast as can be, fail where OPA has no value, and round fractions to 53
/// bits. OPA's are calls. Which an evaluation needs is seen from its numbers; that it needed OPA's, from how it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Care {
    /// The engine's own.
    Fast,
    /// OPA's.
    Exact,
}

/// The engines of a set.
pub(super) struct Machines {
    origins: Arc<Origins>,
    /// Builtins that need a function around them for what the modules write.
    needed: BTreeSet<String>,
    /// With the functions that the modules need, then with all of them; each with the engine's operators, then with OPA's.
    made: [OnceLock<Result<Machine, String>>; 4],
}

/// Prepared engines; evaluations run on clones, which share everything.
pub(super) struct Machine {
    lenient: Engine,
    /// The same without our builtins, to derive the strict one.
    bare: Engine,
    strict: OnceLock<Engine>,
    used: BTreeSet<&'static str>,
    /// Builtins that have a function around them.
    pub(super) lowered: BTreeSet<String>,
    /// Bytes that the builtins of one evaluation may make.
    memory: usize,
    edits: Edits,
    rewritings: Rewritings,
    pub(super) origins: Arc<Origins>,
}

// === impl Care ===

impl Care {
    pub(in crate::policy) fn is_exact(self) -> bool {
        self == Self::Exact
    }

    /// How the engine says what OPA would not say.
    const FAILURES: [&str; 5] = [
        "expects array/set/object. Got",
        "expects numeric argument. Got",
        "expects set argument. Got",
        "modulo on floating-point number",
        "unary - can only be used",
    ];

    /// May an error stand, or has the evaluation to be made again with more care?
    pub(super) fn is_enough(self, error: &EvalError) -> bool {
        self == Self::Exact || !Self::FAILURES.iter().any(|failure| error.message.contains(failure))
    }
}

// === impl Machines ===

impl Machines {
    pub(super) fn new(
        files: &[RegoFile],
        origins: &Arc<Origins>,
        data: &Value,
        facts: &Facts,
        memory: usize,
    ) -> Result<Self, Vec<LoadError>> {
        let needed = lower::needed(&facts.rules);
        let first = Machine::new(files, origins, data, facts, (needed.clone(), Care::Fast, memory))?;
        let made = [OnceLock::from(Ok(first)), OnceLock::new(), OnceLock::new(), OnceLock::new()];
        Ok(Self { origins: Arc::clone(origins), needed, made })
    }

    pub(super) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Have the builtins of a query their functions in the engine that the modules need?
    pub(super) fn wraps(&self, names: &BTreeSet<String>) -> bool {
        names.is_subset(&self.needed)
    }

    /// An engine; `all`: with a function around every builtin, for queries that need one which the modules do not.
    ///
    /// The modules have to call the functions too, or `with` would not reach them, so they are compiled anew: with all
    /// functions, so that clients with ever other queries make it happen only once.
    pub(super) fn get(&self, set: &PolicySet, all: bool, care: Care) -> Result<&Machine, EvalError> {
        let machine = self.cell(all, care).get_or_init(|| {
            let names = if all { builtins::names().map(str::to_owned).collect() } else { self.needed.clone() };
            let machine = Machine::new(
                &set.files,
                &self.origins,
                &set.data,
                &set.facts,
                (names, care, set.settings.max_memory_bytes),
            );
            machine.map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default())
        });
        unwrap(machine)
    }

    /// An engine with the functions that the modules need, if it is there.
    pub(super) fn made(&self, care: Care) -> Option<Result<&Machine, EvalError>> {
        self.cell(false, care).get().map(unwrap)
    }

    fn cell(&self, all: bool, care: Care) -> &OnceLock<Result<Machine, String>> {
        let [fast, exact, all_fast, all_exact] = &self.made;
        match (all, care) {
            (false, Care::Fast) => fast,
            (false, Care::Exact) => exact,
            (true, Care::Fast) => all_fast,
            (true, Care::Exact) => all_exact,
        }
    }
}

fn unwrap(made: &Result<Machine, String>) -> Result<&Machine, EvalError> {
    made.as_ref().map_err(|message| EvalError::new(EvalErrorKind::Internal, message.clone()))
}

// === impl Machine ===

impl Machine {
    fn new(
        files: &[RegoFile],
        origins: &Arc<Origins>,
        data: &Value,
        facts: &Facts,
        (lowered, care, memory): (BTreeSet<String>, Care, usize),
    ) -> Result<Self, Vec<LoadError>> {
        let mut edits = Edits::default();
        let mut rewritings = Rewritings::default();
        let mut errors = Vec::new();
        let mut texts: Vec<EngineModule> = Vec::with_capacity(files.len());
        let places = Edits::places(&facts.rules, &lowered);
        for file in files {
            let text = edits.apply(&file.id, &file.text, places.get(file.display.as_str()).map_or(&[], Vec::as_slice));
            let text = match rewritings.module(file, text, &facts.names, care) {
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
            memory,
            edits,
            rewritings,
            origins: Arc::clone(origins),
        })
    }

    /// Runs the engine under a deadline, with the builtins of `extra` too.
    pub(super) fn run<T>(
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
        let _deadline = Deadline::start(limit, options.strict_builtin_errors, self.memory);
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
