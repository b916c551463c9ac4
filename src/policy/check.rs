//! What is refused before any rule runs, stage by stage as OPA's compiler does it: what does not parse, declarations,
//! `with`, names that conflict, unknown functions, unsafe variables, recursion and types; and what the engine could not
//! bear: nesting that would overflow the stack, and values without bounds. A stage that fails is the last one, and all its
//! problems are reported.

mod calls;
mod conflicts;
mod forms;
mod parse;
mod problems;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
};

use regorus::{
    Value,
    unstable::{Module, Query, Ref},
};

pub(super) use self::parse::{module, query_tree};
use self::{
    calls::{Complaint, Rules},
    conflicts::Named,
    problems::Problems,
};
use super::{
    ClaimRead, EvalError, LoadError, Location,
    bundle::{self, RegoFile},
    core::{self, Found, Lowered, Pos},
    graph::{Graph, dotted},
    infer::{self, Known},
    lower::Origins,
    safety,
    syntax::{self, Call, Callee, Misreading, Names, Reference, Root, RuleFacts, Segment},
};

/// Most problems of one kind that are worth reading.
const MOST: usize = 100;
/// What a thread with 8 MiB of stack can evaluate, in nested nodes along the deepest chain of rules, with a reserve.
pub(super) const MAX_DEPTH: usize = 1_200;
/// Deepest value that rules may build: dropping or comparing it costs stack for every level.
const MAX_HEIGHT: usize = 1_000;
/// Multiplications in a row of which each can double the digits of the one before: 2¹² × 1,000 digits are milliseconds.
const MAX_PRODUCTS: usize = 12;
/// Most doublings of a value in a row: 2²⁴ parts take a comparison about as long as a deadline is.
const MAX_DOUBLINGS: usize = 24;
/// Most statements of one body: the engine's scheduler needs the square of it.
pub(super) const MAX_STATEMENTS: usize = 2_000;
/// The builtins that wait for others.
const NETWORK: [&str; 2] = ["http.send", "net.lookup_ip_addr"];
/// A loop of a body costs the interpreter as much stack as this many nested nodes.
const LOOP_DEPTH: usize = 3;

/// How to check.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rigour {
    /// Some host may be asked by `http.send`.
    pub network: bool,
    /// What OPA's strict mode finds is an error, not a warning.
    pub is_strict: bool,
    /// Most errors that are told; 0: as many as are worth reading.
    pub max_errors: usize,
}

/// What is known about modules that passed.
#[derive(Debug)]
pub(super) struct Facts {
    pub rules: Vec<RuleFacts>,
    pub names: Names,
    pub packages: Vec<Vec<String>>,
    pub claim_reads: Vec<ClaimRead>,
    /// Numbers may grow faster than the engine looks at the clock.
    pub may_block: bool,
    /// Paths of the rules that can reach `http.send`.
    pub network: Vec<Vec<Segment>>,
    /// What OPA's strict mode would refuse.
    pub warnings: Vec<LoadError>,
    /// The types of the rules.
    known: Known,
    paths: HashSet<Vec<String>>,
}

/// Parses and checks everything. `errors` are those of modules that are not among the files.
pub(super) fn modules(
    files: &[RegoFile],
    origins: &Origins,
    data: &Value,
    rigour: Rigour,
    errors: Vec<LoadError>,
) -> Result<Facts, Vec<LoadError>> {
    let mut problems = Problems::new(files, origins, errors);
    let mut parsed = Vec::new();
    for file in files {
        match module(file) {
            Ok(module) => {
                forms::parsed(&file.display, &module, &mut problems);
                parsed.push((file, module));
            }
            Err(error) => problems.unparsed(error),
        }
    }
    let stop = |problems: Problems<'_>| Err(problems.finish(rigour.max_errors).0);
    if !problems.is_empty() {
        return stop(problems);
    }
    let trees: Vec<Ref<Module>> = parsed.iter().map(|(_, module)| module.clone()).collect();
    let names = Names::collect(&trees);
    let mut rules = Vec::new();
    let mut packages = Vec::new();
    let mut lowered = Vec::new();
    let mut is_fatal = false;
    for (file, module) in &parsed {
        let package = syntax::package_path(module);
        let mut at = syntax::location(&module.package.span);
        origins.original(&mut at);
        roots(file, &at, &package, &mut problems);
        hidden(module, &package, &names, &file.display, &mut problems);
        let imports = syntax::imports(module);
        let meaning = core::Names { all: &names, package: &package, imports: &imports, used: RefCell::default() };
        let mut own = core::module(module, &meaning);
        is_fatal |= declarations(file, &mut own, rigour, &mut problems);
        let used = meaning.used.into_inner();
        // Where a file was taken apart, an import may be used in another part.
        let used = Some(&used).filter(|_| !origins.is_split(&file.display));
        forms::names(&file.display, module, file.v0, rigour.is_strict, used, &mut problems);
        lowered.push((*file, own));
        rules.extend(syntax::rules(module, &names).into_iter().map(|mut facts| {
            origins.original_facts(&mut facts);
            facts
        }));
        packages.push((package, at));
    }
    if is_fatal {
        return stop(problems);
    }
    let known_before = problems.count();
    let paths: HashSet<Vec<String>> = rules.iter().filter_map(|rule| rule.path.iter().cloned().collect()).collect();
    let calls = Rules { names: &names, paths: &paths };
    let each = |find: &dyn Fn(&[core::Statement], &mut Vec<Complaint>), problems: &mut Problems<'_>| {
        for (file, own) in &lowered {
            let mut found = Vec::new();
            own.rules.iter().flatten().for_each(|rule| find(&rule.body, &mut found));
            found
                .into_iter()
                .for_each(|(code, message, details, at)| problems.raw(&file.display, code, message, details, at));
        }
    };
    each(&|body, found| calls.withs(body, found), &mut problems);
    if problems.count() > known_before {
        return stop(problems);
    }
    let written: Vec<&core::Rule> =
        lowered.iter().flat_map(|(_, own)| own.rules.iter().filter_map(|bodies| bodies.first())).collect();
    let named: Vec<Named<'_>> = rules
        .iter()
        .enumerate()
        .map(|(index, facts)| Named {
            facts,
            name: written.get(index).map_or_else(|| dotted(&facts.path), |rule| rule.name()),
        })
        .collect();
    conflicts::rules(&named, &packages, &mut problems);
    conflicts::packages(&rules, &packages, &mut problems);
    conflicts::base(&rules, data, &mut problems);
    if problems.count() > known_before {
        return stop(problems);
    }
    each(&|body, found| calls.calls(body, found), &mut problems);
    for rule in &rules {
        misreadings(rule, &mut problems);
        if !rigour.network {
            no_network(rule, &mut problems);
        }
        if rule.statements > MAX_STATEMENTS {
            let message = format!("a body has more than {MAX_STATEMENTS} statements; split it");
            problems.fact(LoadError::new("rego_limit_error", message, Some(rule.location.clone())));
        }
    }
    if problems.count() > known_before {
        return stop(problems);
    }
    let mut unsafe_vars = Vec::new();
    parsed.iter().for_each(|(_, module)| safety::module(module, &names, &mut unsafe_vars));
    unsafe_vars.into_iter().for_each(|error| problems.unparsed(error));
    let graph = Graph::new(&rules);
    if problems.count() == known_before {
        let cycles = graph.cycles(MOST);
        let circular = !cycles.is_empty();
        for cycle in cycles {
            let location = rules.get(cycle.fact).map(|rule| rule.location.clone());
            problems.fact(LoadError::new("rego_recursion_error", cycle.message, location));
        }
        if !circular {
            depth(&graph, &rules, &mut problems);
        }
    }
    if problems.count() > known_before {
        return stop(problems);
    }
    let known = types(&graph, &lowered, &calls, &mut problems);
    if problems.count() == known_before {
        deprecated(&lowered, &calls, rigour.is_strict, &mut problems);
    }
    if !problems.is_empty() {
        return stop(problems);
    }
    let products = graph.heights(&rules, |rule| rule.products);
    let may_block = products.iter().any(|product| *product > MAX_PRODUCTS);
    let claim_reads = rules.iter().flat_map(|rule| &rule.references).filter_map(claim_read).collect();
    let sends = graph.fold(|fact| usize::from(rules.get(fact).is_some_and(calls_network)), usize::max);
    let network = graph.with_cost(&sends).map(<[Segment]>::to_vec).collect();
    let packages = packages.into_iter().map(|(path, _)| path).collect();
    let warnings = problems.finish(rigour.max_errors).1;
    Ok(Facts { rules, names, packages, claim_reads, may_block, network, warnings, known, paths })
}

/// The rules of files that were made of files which passed the checks.
pub(super) fn rules(files: &[RegoFile], origins: &Origins, names: &Names) -> Result<Vec<RuleFacts>, Vec<LoadError>> {
    let mut rules = Vec::new();
    for file in files {
        let module = parse::unlimited(file);
        let module = module.map_err(|error| vec![error])?;
        rules.extend(syntax::rules(&module, names).into_iter().map(|mut facts| {
            origins.original_facts(&mut facts);
            facts
        }));
    }
    Ok(rules)
}

/// What the declarations of a module's rules are blamed for. True when the check ends after that.
fn declarations(file: &RegoFile, own: &mut Lowered, rigour: Rigour, problems: &mut Problems<'_>) -> bool {
    let mut is_fatal = false;
    for (found, message, at) in own.found.drain(..) {
        let is_error = match found {
            Found::Fatal => {
                is_fatal = true;
                true
            }
            Found::Error => true,
            Found::New => rigour.is_strict || own.is_v1,
            Found::Strict => rigour.is_strict,
        };
        if is_error {
            problems.raw(&file.display, "rego_compile_error", message, Vec::new(), at);
        } else {
            problems.warn(&file.display, "rego_compile_error", message, at);
        }
    }
    is_fatal
}

/// The types of all rules, those first that others refer to.
fn types(graph: &Graph, lowered: &[(&RegoFile, Lowered)], calls: &Rules<'_>, problems: &mut Problems<'_>) -> Known {
    let all: Vec<(&RegoFile, &Vec<core::Rule>)> =
        lowered.iter().flat_map(|(file, own)| own.rules.iter().map(|bodies| (*file, bodies))).collect();
    infer::start(all.len());
    let mut known = Known::default();
    for (file, bodies) in graph.facts_in_order().filter_map(|fact| all.get(fact)) {
        for rule in *bodies {
            let mut errors = Vec::new();
            infer::rule(rule, &mut known, &|function| calls.arity(function), &mut errors);
            for error in errors {
                problems.raw(&file.display, "rego_type_error", error.message, error.details, error.at);
            }
        }
    }
    known
}

/// Old builtins: for Rego v1 an error, before it a matter of strictness.
fn deprecated(lowered: &[(&RegoFile, Lowered)], calls: &Rules<'_>, is_strict: bool, problems: &mut Problems<'_>) {
    for (file, own) in lowered {
        let mut found = Vec::new();
        own.rules.iter().flatten().for_each(|rule| calls.deprecated(&rule.body, &mut found));
        for (code, message, details, at) in found {
            if is_strict || own.is_v1 {
                problems.raw(&file.display, code, message, details, at);
            } else {
                problems.warn(&file.display, code, message, at);
            }
        }
    }
}

/// Parses and checks an ad-hoc query. One that was rewritten has passed OPA's checks as it was.
pub(super) fn query(
    text: &str,
    facts: &Facts,
    network: bool,
    is_rewritten: bool,
) -> Result<(RuleFacts, Ref<Query>), EvalError> {
    let as_query = |error: LoadError| {
        let details = error.details;
        EvalError { details, ..EvalError::query(error.code, error.message, error.location) }
    };
    let tree = query_tree(text).map_err(as_query)?;
    let found = syntax::query(&tree, &facts.names);
    let origins = Origins::default();
    let mut problems = Problems::new(&[], &origins, Vec::new());
    if !is_rewritten {
        query_problems(&tree, facts, &mut problems);
    }
    misreadings(&found, &mut problems);
    if found.doublings > MAX_DOUBLINGS {
        let message = format!("query builds a value of more than 2^{MAX_DOUBLINGS} parts; say each part once");
        problems.fact(LoadError::new("rego_limit_error", message, Some(found.location.clone())));
    }
    if !network {
        no_network(&found, &mut problems);
    }
    match problems.finish(0).0.into_iter().next() {
        Some(error) => Err(as_query(error)),
        None => Ok((found, tree)),
    }
}

/// The stages of [`modules`] that queries go through.
fn query_problems(tree: &Ref<Query>, facts: &Facts, problems: &mut Problems<'_>) {
    let imports = HashMap::new();
    let meaning = core::Names { all: &facts.names, package: &[], imports: &imports, used: RefCell::default() };
    let lowered = core::query(tree, &meaning);
    let mut raw = |(code, message, details, at): Complaint| problems.raw("query", code, message, details, at);
    for (_, message, at) in lowered.found.into_iter().filter(|(found, ..)| matches!(found, Found::Fatal | Found::Error))
    {
        raw(("rego_compile_error", message, Vec::new(), at));
    }
    let calls = Rules { names: &facts.names, paths: &facts.paths };
    let Some(rule) = lowered.rules.first().and_then(|bodies| bodies.first()) else { return };
    let mut found = Vec::new();
    calls.withs(&rule.body, &mut found);
    if found.is_empty() {
        calls.calls(&rule.body, &mut found);
    }
    if found.is_empty() {
        let errors = infer::query(rule, &facts.known, &|function| calls.arity(function));
        found.extend(errors.into_iter().map(|error| ("rego_type_error", error.message, error.details, error.at)));
    }
    found.into_iter().for_each(raw);
}

/// An import whose name a rule of the package has too. OPA lets the import hide the rule, the engine the rule the import.
fn hidden(module: &Module, package: &[String], names: &Names, file: &str, problems: &mut Problems<'_>) {
    let mut seen = BTreeMap::new();
    for import in syntax::imported(module) {
        let alias = &import.alias;
        if names.is_rule(package, alias) && seen.insert(alias.clone(), ()).is_none() {
            let message =
                format!("import {alias} and a rule of this package have one name; give the import another with `as`");
            let at = Pos { row: import.location.row, col: import.location.col };
            problems.raw(file, "rego_compile_error", message, Vec::new(), at);
        }
    }
}

fn roots(file: &RegoFile, at: &Location, package: &[String], problems: &mut Problems<'_>) {
    if let Some(roots) = &file.roots
        && !bundle::under_roots(roots, &package.join("/"))
    {
        let message = bundle::package_outside(roots, &package.join("."), &file.id);
        problems.fact(LoadError::new("bundle_error", message, Some(at.clone())));
    }
}

/// What would hold here and not in OPA is refused.
fn misreadings(rule: &RuleFacts, problems: &mut Problems<'_>) {
    for (misreading, location) in &rule.misreadings {
        let message = match misreading {
            Misreading::Repeated(name) => {
                format!("variable {name} stands there twice; give the second another name and compare with `==`")
            }
            Misreading::Root(name) => format!("args must not shadow {name} (use a different variable name)"),
        };
        // OPA points at the rule of an argument.
        let at = if matches!(misreading, Misreading::Root(_)) { &rule.location } else { location };
        problems.fact(LoadError::new("rego_compile_error", message, Some(at.clone())));
    }
}

pub(super) fn calls_network(rule: &RuleFacts) -> bool {
    network_call(rule).is_some()
}

/// The builtin that waits for others, when one is called.
pub(super) fn network_call(rule: &RuleFacts) -> Option<&str> {
    rule.calls.iter().find_map(waits)
}

fn waits(call: &Call) -> Option<&str> {
    match &call.callee {
        Callee::Builtin(name) => NETWORK.into_iter().find(|network| name == network),
        Callee::Function(_) => None,
    }
}

/// Without a host that may be asked, they can only fail, and `not` over a failure holds.
fn no_network(rule: &RuleFacts, problems: &mut Problems<'_>) {
    for call in &rule.calls {
        if let Some(name) = waits(call) {
            let message = format!(
                "{name} is not allowed: no host is listed; list those that policies may ask in \
                 `policy.http_send.allow`, or load what the policy needs as data"
            );
            problems.fact(LoadError::new("rego_type_error", message, Some(call.location.clone())));
        }
    }
}

/// A chain of rules that each evaluate the next one nests the interpreter as deep as the chain is long.
fn depth(graph: &Graph, rules: &[RuleFacts], problems: &mut Problems<'_>) {
    let mut refuse = |costs: &[usize], most: usize, what: &dyn Fn(usize) -> String| {
        if let Some((name, cost, fact)) = graph.worst(costs)
            && cost > most
        {
            let location = rules.get(fact).map(|rule| rule.location.clone());
            let message = format!("evaluating {name} would {}; shorten its chain of rules", what(cost));
            problems.fact(LoadError::new("rego_limit_error", message, location));
        }
    };
    let deep = |verb, cost, most| format!("{verb} {cost} levels deep, more than {most}");
    let own = |fact: usize| rules.get(fact).map_or(0, |rule| rule.depth + rule.loops * LOOP_DEPTH);
    let costs = graph.fold(own, |own, below| own + below);
    refuse(&costs, MAX_DEPTH, &|cost| deep("nest", cost, MAX_DEPTH));
    let heights = graph.heights(rules, |rule| rule.nest);
    refuse(&heights, MAX_HEIGHT, &|cost| deep("build a value", cost, MAX_HEIGHT));
    let doublings = graph.heights(rules, |rule| rule.doublings);
    refuse(&doublings, MAX_DOUBLINGS, &|cost| {
        format!("build a value that holds one part 2^{cost} times, more than 2^{MAX_DOUBLINGS}")
    });
}

/// `input.token.claims…`, or what contains it.
fn claim_read(reference: &Reference) -> Option<ClaimRead> {
    if reference.root != Root::Input {
        return None;
    }
    let mut path = reference.path.iter();
    for name in ["token", "claims"] {
        match path.next() {
            Some(Some(segment)) if segment == name => {}
            Some(Some(_)) => return None,
            // `input.token`, `input[x]`: the claims are in there; whoever reads them by name is seen there.
            Some(None) | None => return None,
        }
    }
    Some(ClaimRead { claim: path.next().cloned().flatten(), location: reference.location.clone() })
}
