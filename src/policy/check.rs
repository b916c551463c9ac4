//! What is refused before any rule runs: what does not parse, recursion, unknown functions, wrong arities, names that
//! conflict, packages outside of their roots, and nesting that would overflow the stack. All problems are reported.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regorus::{
    Source, Value,
    unstable::{Module, Parser, Query, Ref},
};

use super::{
    ClaimRead, EvalError, LoadError, Location, builtins,
    bundle::{self, RegoFile},
    error::Rendered,
    graph::{Graph, dotted},
    lower::Origins,
    panics, safety, scan,
    syntax::{self, Call, Callee, Misreading, Names, Reference, Root, RuleFacts, RuleKind, Segment},
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

const UNDEFINED_FUNCTION: &str = "undefined function";

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
}

/// Parses and checks everything. `errors` are those of modules that are not among the files.
pub(super) fn modules(
    files: &[RegoFile],
    origins: &Origins,
    data: &Value,
    network: bool,
    mut errors: Vec<LoadError>,
) -> Result<Facts, Vec<LoadError>> {
    let mut parsed = Vec::new();
    for file in files {
        match module(file) {
            Ok(module) => parsed.push((file, module)),
            Err(mut error) => {
                if let Some(at) = &mut error.location {
                    origins.original(at);
                }
                errors.push(error);
            }
        }
    }
    let complete = errors.is_empty();
    let trees: Vec<Ref<Module>> = parsed.iter().map(|(_, module)| module.clone()).collect();
    let names = Names::collect(&trees);
    let mut rules = Vec::new();
    let mut packages = Vec::new();
    for (file, module) in &parsed {
        let package = syntax::package_path(module);
        let mut at = syntax::location(&module.package.span);
        origins.original(&mut at);
        roots(file, &at, &package, &mut errors);
        imports(module, &package, &names, origins, &mut errors);
        rules.extend(syntax::rules(module, &names).into_iter().map(|mut facts| {
            origins.original_facts(&mut facts);
            facts
        }));
        packages.push((package, at));
    }
    conflicts(&rules, &packages, data, &mut errors);
    for rule in &rules {
        // A function that a broken file defines is not unknown.
        calls(rule, &names, complete, &mut errors);
        misreadings(rule, &mut errors);
        if !network {
            no_network(rule, &mut errors);
        }
        if rule.statements > MAX_STATEMENTS {
            let message = format!("a body has more than {MAX_STATEMENTS} statements; split it");
            errors.push(LoadError::new("rego_limit_error", message, Some(rule.location.clone())));
        }
    }
    // A function that is not there gives its output no value.
    if complete && !errors.iter().any(|error| error.message.starts_with(UNDEFINED_FUNCTION)) {
        let known = errors.len();
        parsed.iter().for_each(|(_, module)| safety::module(module, &names, &mut errors));
        for at in errors.iter_mut().skip(known).filter_map(|error| error.location.as_mut()) {
            origins.original(at);
        }
    }
    let graph = Graph::new(&rules);
    let cycles = graph.cycles(MOST);
    let circular = !cycles.is_empty();
    for cycle in cycles {
        let location = rules.get(cycle.fact).map(|rule| rule.location.clone());
        errors.push(LoadError::new("rego_recursion_error", cycle.message, location));
    }
    if !circular {
        depth(&graph, &rules, &mut errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let products = graph.heights(&rules, |rule| rule.products);
    let may_block = products.iter().any(|product| *product > MAX_PRODUCTS);
    let claim_reads = rules.iter().flat_map(|rule| &rule.references).filter_map(claim_read).collect();
    let sends = graph.fold(|fact| usize::from(rules.get(fact).is_some_and(calls_network)), usize::max);
    let network = graph.with_cost(&sends).map(<[Segment]>::to_vec).collect();
    let packages = packages.into_iter().map(|(path, _)| path).collect();
    Ok(Facts { rules, names, packages, claim_reads, may_block, network })
}

/// The rules of files that were made of files which passed the checks.
pub(super) fn rules(files: &[RegoFile], origins: &Origins, names: &Names) -> Result<Vec<RuleFacts>, Vec<LoadError>> {
    let mut rules = Vec::new();
    for file in files {
        let module = parse(&file.display, &file.text, file.v0, |parser| parser.parse().map(Ref::new));
        let module = module.map_err(|error| vec![error])?;
        rules.extend(syntax::rules(&module, names).into_iter().map(|mut facts| {
            origins.original_facts(&mut facts);
            facts
        }));
    }
    Ok(rules)
}

/// Parses and checks an ad-hoc query.
pub(super) fn query(text: &str, facts: &Facts, network: bool) -> Result<(RuleFacts, Ref<Query>), EvalError> {
    let as_query = |error: LoadError| EvalError::query(error.code, error.message, error.location);
    let tree = query_tree(text).map_err(as_query)?;
    let found = syntax::query(&tree, &facts.names);
    let mut errors = Vec::new();
    calls(&found, &facts.names, true, &mut errors);
    misreadings(&found, &mut errors);
    if found.doublings > MAX_DOUBLINGS {
        let message = format!("query builds a value of more than 2^{MAX_DOUBLINGS} parts; say each part once");
        errors.push(LoadError::new("rego_limit_error", message, Some(found.location.clone())));
    }
    if !network {
        no_network(&found, &mut errors);
    }
    match errors.into_iter().next() {
        Some(error) => Err(as_query(error)),
        None => Ok((found, tree)),
    }
}

/// Parses an ad-hoc query.
pub(super) fn query_tree(text: &str) -> Result<Ref<Query>, LoadError> {
    scan::check("query", text, scan::Kind::Query)?;
    #[expect(clippy::redundant_closure, reason = "the method alone is not general over the parser's lifetime")]
    let tree = parse("query", text, false, |parser| Parser::parse_user_query(parser));
    tree
}

pub(super) fn module(file: &RegoFile) -> Result<Ref<Module>, LoadError> {
    scan::check(&file.display, &file.text, scan::Kind::Module)?;
    parse(&file.display, &file.text, file.v0, |parser| parser.parse().map(Ref::new))
}

fn parse<T>(
    display: &str,
    text: &str,
    v0: bool,
    run: impl FnOnce(&mut Parser<'_>) -> anyhow::Result<T>,
) -> Result<T, LoadError> {
    let lengths = scan::LENGTHS;
    let parsed = panics::catch(|| {
        let (name, text) = (display.to_owned(), text.to_owned());
        let source = Source::from_contents_with_limits(name, text, lengths.max_file_bytes, lengths.max_lines)?;
        let mut parser = Parser::new(&source)?;
        parser.set_max_col(lengths.max_col);
        if !v0 {
            parser.enable_rego_v1()?;
        }
        run(&mut parser)
    });
    match parsed {
        Ok(Ok(tree)) => Ok(tree),
        Ok(Err(error)) => {
            let Rendered { mut message, location } = Rendered::parse(&format!("{error:#}"));
            if message == "expecting" {
                // The end that a query has is no text that the parser could name.
                "malformed query".clone_into(&mut message);
            }
            let whole_file = || Location { file: display.to_owned(), row: 0, col: 0 };
            Err(LoadError::new("rego_parse_error", message, Some(location.unwrap_or_else(whole_file))))
        }
        Err(panic) => Err(LoadError::in_file("rego_parse_error", display, format!("the parser panicked: {panic}"))),
    }
}

fn roots(file: &RegoFile, at: &Location, package: &[String], errors: &mut Vec<LoadError>) {
    if let Some(roots) = &file.roots
        && !bundle::under_roots(roots, &package.join("/"))
    {
        let message = bundle::package_outside(roots, &package.join("."), &file.id);
        errors.push(LoadError::new("bundle_error", message, Some(at.clone())));
    }
}

/// Names that mean two things, in OPA's words.
fn conflicts(rules: &[RuleFacts], packages: &[(Vec<String>, Location)], data: &Value, errors: &mut Vec<LoadError>) {
    let mut by_path: BTreeMap<&[Option<String>], Vec<&RuleFacts>> = BTreeMap::new();
    for rule in rules {
        by_path.entry(&rule.path).or_default().push(rule);
    }
    let mut fail = |code, message: String, location: &Location| {
        errors.push(LoadError::new(code, message, Some(location.clone())));
    };
    for (path, group) in &by_path {
        let Some(first) = group.first() else { continue };
        let name = dotted(path);
        let mut kinds = group.iter().filter(|rule| rule.kind != RuleKind::Default);
        let kind = kinds.next().map(|rule| (rule.kind, rule.function));
        if let Some(other) = kinds.find(|rule| Some((rule.kind, rule.function)) != kind) {
            fail("rego_type_error", format!("conflicting rules {name} found"), &other.location);
        }
        let mut defaults = group.iter().filter(|rule| rule.kind == RuleKind::Default);
        if let (Some(_), Some(second)) = (defaults.next(), defaults.next()) {
            fail("rego_type_error", format!("multiple default rules {name} found"), &second.location);
        }
        // A rule that is a value of its own cannot have rules below it.
        for length in 1..path.len() {
            let above = by_path.get(path.get(..length).unwrap_or_default());
            let closed = above.and_then(|group| group.iter().find(|rule| rule.kind.is_closed()));
            if let Some(closed) = closed {
                fail(
                    "rego_type_error",
                    format!("rule {} conflicts with [{name}]", dotted(&closed.path)),
                    &closed.location,
                );
            }
        }
        if first.function.is_none() {
            base_conflict(path, data, &mut |message| fail("rego_compile_error", message, &first.location));
        }
    }
    let mut seen = HashMap::new();
    for (package, location) in packages {
        let path: Vec<Option<String>> = package.iter().cloned().map(Some).collect();
        for length in 1..=path.len() {
            let rule = by_path.get(path.get(..length).unwrap_or_default()).and_then(|group| group.first());
            if let Some(rule) = rule
                && seen.insert((package, length), ()).is_none()
            {
                let at = &rule.location;
                let package = package.join(".");
                fail("rego_type_error", format!("package {package} conflicts with rule defined at {at}"), location);
            }
        }
    }
}

/// A rule may not stand where base data has a value, nor below a value that is no object.
fn base_conflict(path: &[Option<String>], data: &Value, fail: &mut impl FnMut(String)) {
    let mut at = data;
    let constant: Vec<&str> = path.iter().map_while(Option::as_deref).collect();
    for name in &constant {
        let Value::Object(members) = at else { break };
        match members.get(&Value::from(*name)) {
            Some(next) => at = next,
            None => return,
        }
    }
    fail(format!("conflicting rule for data path {} found", constant.join("/")));
}

fn calls(rule: &RuleFacts, names: &Names, complete: bool, errors: &mut Vec<LoadError>) {
    for call in &rule.calls {
        let (name, arity) = match &call.callee {
            Callee::Function(path) => {
                let path: Vec<_> = path.iter().cloned().map(Some).collect();
                (dotted(&path), names.function_arity(&call.callee))
            }
            Callee::Builtin(name) if name == "print" => continue,
            Callee::Builtin(name) => (name.clone(), builtins::arity(name)),
        };
        let location = || Some(call.location.clone());
        match arity {
            None if complete || builtins::arity(&name).is_some() => {
                let hint = errors.len() < MOST;
                errors.push(LoadError::new("rego_type_error", undefined_function(&name, hint), location()));
            }
            None => {}
            // One argument more is the place for the result.
            Some(arity) if call.arguments != usize::MAX && !(arity..=arity + 1).contains(&call.arguments) => {
                let have = call.arguments;
                let what = if have < arity { "too few arguments" } else { "too many arguments" };
                let message = format!("{name}: {what}: have {have}, want {arity}");
                errors.push(LoadError::new("rego_type_error", message, location()));
            }
            // The engine gives no results to a `walk` that is not told where they go.
            Some(_) if call.callee == Callee::Builtin("walk".to_owned()) && call.arguments == 1 => {
                let message = "walk: its result as a value is not supported; write `walk(x, [path, value])`";
                errors.push(LoadError::new("rego_type_error", message, location()));
            }
            Some(_) => {}
        }
    }
}

/// Imports whose name has another meaning already. OPA lets an import hide a rule, the engine the rule an import.
fn imports(module: &Module, package: &[String], names: &Names, origins: &Origins, errors: &mut Vec<LoadError>) {
    let mut seen = BTreeSet::new();
    for mut import in syntax::imported(module) {
        origins.original(&mut import.location);
        let alias = &import.alias;
        let message = if matches!(alias.as_str(), "input" | "data") && import.is_renamed {
            format!("unexpected import alias, must not be a reserved name, got: {alias}")
        } else if names.is_rule(package, alias) {
            format!("import {alias} and a rule of this package have one name; give the import another with `as`")
        } else if !seen.insert(alias.clone()) {
            format!("import must not shadow import {alias}")
        } else {
            continue;
        };
        errors.push(LoadError::new("rego_compile_error", message, Some(import.location)));
    }
}

/// What would hold here and not in OPA is refused.
fn misreadings(rule: &RuleFacts, errors: &mut Vec<LoadError>) {
    for (misreading, location) in &rule.misreadings {
        let message = match misreading {
            Misreading::Repeated(name) => {
                format!("variable {name} stands there twice; give the second another name and compare with `==`")
            }
            Misreading::Root(name) => format!("args must not shadow {name} (use a different variable name)"),
        };
        errors.push(LoadError::new("rego_compile_error", message, Some(location.clone())));
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
fn no_network(rule: &RuleFacts, errors: &mut Vec<LoadError>) {
    for call in &rule.calls {
        if let Some(name) = waits(call) {
            let message = format!(
                "{name} is not allowed: no host is listed; list those that policies may ask in \
                 `policy.http_send.allow`, or load what the policy needs as data"
            );
            errors.push(LoadError::new("rego_type_error", message, Some(call.location.clone())));
        }
    }
}

fn undefined_function(name: &str, hint: bool) -> String {
    let near = builtins::names().filter(|_| hint).map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    match near {
        Some((distance, known)) if distance <= 2 && name.len() > 3 => {
            format!("{UNDEFINED_FUNCTION} {name}; did you mean {known}?")
        }
        _ => format!("{UNDEFINED_FUNCTION} {name}"),
    }
}

/// A chain of rules that each evaluate the next one nests the interpreter as deep as the chain is long.
fn depth(graph: &Graph, rules: &[RuleFacts], errors: &mut Vec<LoadError>) {
    let mut refuse = |costs: &[usize], most: usize, what: &dyn Fn(usize) -> String| {
        if let Some((name, cost, fact)) = graph.worst(costs)
            && cost > most
        {
            let location = rules.get(fact).map(|rule| rule.location.clone());
            let message = format!("evaluating {name} would {}; shorten its chain of rules", what(cost));
            errors.push(LoadError::new("rego_limit_error", message, location));
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
