//! Test rules: `test_…` and `todo_test_…` in any package, as `opa test` finds them, and one run of one of them. It judges
//! no result.

use regorus::{
    Value,
    unstable::{Expr, Literal, LiteralStmt, Rule, RuleHead},
};

use super::{
    DataPath, EvalError, EvalOptions, Location, Outcome, PolicySet, check, json,
    solutions::extent,
    syntax::{self, RuleKind},
};

const PREFIX: &str = "test_";
const SKIPPED_PREFIX: &str = "todo_test_";
/// The rule of a probe.
const CASES: &str = "claimgate_cases";

/// A rule that is a test, with all its definitions.
#[derive(Debug, Clone)]
pub struct TestRule {
    /// `data.a.b`.
    pub package: String,
    /// `test_x`.
    pub name: String,
    /// What to evaluate.
    pub path: DataPath,
    /// Where each definition starts; file as shown to the operator.
    pub locations: Vec<Location>,
    /// Named `todo_test_…`.
    pub skipped: bool,
    /// The head goes on below the name: the value is an object of cases.
    pub has_cases: bool,
}

/// One statement of a test.
#[derive(Debug, Clone)]
pub struct StepProbe {
    /// Where it stands.
    pub location: Location,
    /// As written.
    pub text: String,
    /// The module that asks.
    pub module: String,
    /// What the statement is made of that has a value of its own.
    pub terms: Vec<TermProbe>,
}

/// A variable, or a term of variables, in a statement.
#[derive(Debug, Clone)]
pub struct TermProbe {
    /// As written.
    pub text: String,
    /// Characters of its line before it.
    pub before: usize,
    /// A module that gives [`PolicySet::probe_path`] its values.
    pub module: String,
}

/// What one run gave.
#[derive(Debug)]
pub struct TestRun {
    /// The value.
    pub outcome: Result<Outcome, EvalError>,
    /// What `print` was given, a line each.
    pub prints: Vec<String>,
}

// === impl PolicySet ===

impl PolicySet {
    /// The tests, in the order of their first definitions.
    #[must_use]
    pub fn test_rules(&self) -> Vec<TestRule> {
        let mut found: Vec<TestRule> = Vec::new();
        let rules = self.facts.rules.iter().filter(|rule| !matches!(rule.kind, RuleKind::Default | RuleKind::Function));
        for rule in rules {
            let names = rule.path.iter().skip(rule.package_length);
            let position = names.map(Option::as_deref).position(|name| name.is_some_and(is_test));
            let Some(position) = position.map(|position| position + rule.package_length) else { continue };
            let constant: Vec<String> = rule.path.iter().take(position + 1).flatten().cloned().collect();
            let Some((name, above)) = constant.split_last() else { continue };
            // A variable above the name: there is no one document to ask.
            if above.len() != position {
                continue;
            }
            let path = DataPath::new(constant.clone());
            let has_cases = rule.path.len() > position + 1;
            if let Some(known) = found.iter_mut().find(|known| known.path == path) {
                known.locations.push(rule.location.clone());
                known.has_cases |= has_cases;
                continue;
            }
            let package: Vec<_> = above.iter().cloned().map(Some).collect();
            found.push(TestRule {
                package: super::graph::dotted(&package),
                name: name.clone(),
                path,
                locations: vec![rule.location.clone()],
                skipped: name.starts_with(SKIPPED_PREFIX),
                has_cases,
            });
        }
        found
    }

    /// Evaluates a test.
    #[must_use]
    pub fn run_test(&self, rule: &TestRule, options: &EvalOptions) -> TestRun {
        let mut prints = Vec::new();
        let outcome = self.evaluate_printing(&rule.path, None, options, &mut prints);
        let prints = prints.iter().map(|line| self.without_place(line).to_owned()).collect();
        TestRun { outcome, prints }
    }
}

// === probes ===

impl PolicySet {
    /// Modules that tell which cases each definition of a test has: a case that fails leaves no trace in the test's
    /// value. For each definition the modules to try, in this order, until one has cases when it is loaded beside the
    /// others: they take ever more of the body, and the first that binds the variables of the head has all. Each defines the set
    /// [`PolicySet::probe_path`] of arrays of case names.
    #[must_use]
    pub fn case_probes(&self, rule: &TestRule) -> Vec<Vec<String>> {
        rule.locations.iter().filter_map(|location| self.probes_of(rule, location)).collect()
    }

    /// What a probe defines.
    #[must_use]
    pub fn probe_path(&self, rule: &TestRule) -> DataPath {
        let mut path = rule.path.segments().to_vec();
        path.pop();
        path.push(CASES.to_owned());
        DataPath::new(path)
    }

    /// For each definition of a test without cases, its statements in order: where each stands, its text, and a module
    /// that gives [`PolicySet::probe_path`] a member when this statement and those before it hold.
    #[must_use]
    pub fn step_probes(&self, rule: &TestRule) -> Vec<Vec<StepProbe>> {
        rule.locations.iter().filter_map(|location| self.steps_of(location)).collect()
    }

    fn steps_of(&self, location: &Location) -> Option<Vec<StepProbe>> {
        let file = self.files.iter().find(|file| file.display == location.file)?;
        let module = check::module(file).ok()?;
        let statements = module.policy.iter().find_map(|rule| match &**rule {
            Rule::Spec { span, bodies, .. } => {
                let at = syntax::location(span);
                let found = (at.row, at.col) == (location.row, location.col);
                found.then(|| bodies.first().map_or(&[][..], |body| &body.query.stmts))
            }
            Rule::Default { .. } => None,
        })?;
        let first = module.policy.iter().map(|rule| rule.span().start).min()?;
        let header = file.text.get(..usize::try_from(first).ok()?)?;
        let package = syntax::package_path(&module);
        let imports: Vec<String> = module.imports.iter().filter_map(syntax::imported_name).collect();
        let is_local = |name: &str| {
            !matches!(name, "input" | "data" | "_")
                && !imports.iter().any(|import| import == name)
                && !self.facts.names.is_rule(&package, name)
        };
        let mut text = format!("{header}\n{CASES} contains true if {{\n");
        let mut steps = Vec::new();
        for statement in statements {
            let (start, end) = extent(&file.text, statement);
            let shown = file.text.get(start..end)?;
            let before = text.split_once('\n').map_or("", |_| text.get(header.len()..).unwrap_or_default());
            let before = before.trim_start().split_once('\n').map_or("", |(_, statements)| statements);
            let terms = terms_of(statement, &file.text, &is_local).into_iter().map(|(from, term)| {
                let line = file.text.get(..from).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
                let module = format!("{header}\n{CASES} contains {term} if {{\ntrue\n{before}}}\n");
                TermProbe { text: term, before: line.chars().count(), module }
            });
            let terms = terms.collect();
            text.push_str(shown);
            text.push('\n');
            let at = Location { file: file.display.clone(), ..syntax::location(&statement.span) };
            steps.push(StepProbe { location: at, text: shown.to_owned(), module: format!("{text}}}\n"), terms });
        }
        Some(steps)
    }

    fn probes_of(&self, test: &TestRule, location: &Location) -> Option<Vec<String>> {
        let file = self.files.iter().find(|file| file.display == location.file)?;
        let module = check::module(file).ok()?;
        let package = syntax::package_path(&module).len();
        let mut found = module.policy.iter().filter_map(|rule| match &**rule {
            Rule::Spec { span, head: RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. }, bodies } => {
                Some((span, refr, bodies))
            }
            _ => None,
        });
        let (_, head, bodies) = found.find(|(span, ..)| {
            let at = syntax::location(span);
            (at.row, at.col) == (location.row, location.col)
        })?;
        let names = names_below(head, &file.text, test.path.segments().len().checked_sub(package + 1)?)?;
        let statements: &[LiteralStmt] = bodies.first().map_or(&[], |body| &body.query.stmts);
        let first = module.policy.iter().map(|rule| rule.span().start).min()?;
        let header = file.text.get(..usize::try_from(first).ok()?)?;
        let mut text = format!("{header}\n{CASES} contains [{}] if {{\ntrue\n", names.join(", "));
        let mut probes = vec![format!("{text}}}\n")];
        for statement in statements {
            let (start, end) = extent(&file.text, statement);
            text.push_str(file.text.get(start..end)?);
            text.push('\n');
            probes.push(format!("{text}}}\n"));
        }
        Some(probes)
    }
}

/// The terms of a head after its root and `skip` names more, as Rego.
fn names_below(head: &Expr, text: &str, skip: usize) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = head;
    loop {
        at = match at {
            Expr::RefDot { refr, field, .. } => {
                names.push(json::quote(field.0.text()));
                refr
            }
            Expr::RefBrack { refr, index, .. } => {
                names.push(match &**index {
                    Expr::String { value: Value::String(name), .. }
                    | Expr::RawString { value: Value::String(name), .. } => json::quote(name),
                    other => {
                        let offset = |at: u32| usize::try_from(at).ok();
                        text.get(offset(other.span().start)?..offset(other.span().end)?)?.to_owned()
                    }
                });
                refr
            }
            _ => break,
        };
    }
    names.reverse();
    (names.len() > skip).then(|| names.split_off(skip))
}

/// The variables, the references that start with one and the calls of a statement of one line, with their offsets.
fn terms_of(statement: &LiteralStmt, text: &str, is_local: &dyn Fn(&str) -> bool) -> Vec<(usize, String)> {
    let (start, end) = extent(text, statement);
    let mut found = Vec::new();
    if text.get(start..end).is_some_and(|own| !own.contains('\n'))
        && let Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } = &statement.literal
    {
        match &**expr {
            // Its own value is no news.
            Expr::Call { .. } | Expr::BoolExpr { .. } | Expr::AssignExpr { .. } | Expr::Membership { .. } => {
                syntax::parts(expr).into_iter().for_each(|part| terms(part, text, is_local, &mut found));
            }
            _ => terms(expr, text, is_local, &mut found),
        }
        statement.with_mods.iter().for_each(|with| terms(&with.r#as, text, is_local, &mut found));
    }
    found.sort();
    found.dedup_by(|a, b| a.1 == b.1);
    found
}

fn terms(expr: &Expr, text: &str, is_local: &dyn Fn(&str) -> bool, found: &mut Vec<(usize, String)>) {
    let offset = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    let mut add = |from: u32, to: u32| {
        let (from, to) = (offset(from), offset(to));
        found.extend(text.get(from..to).map(|own| (from, own.to_owned())));
    };
    let end = expr.span().end;
    match expr {
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
            let Some((root, links)) = syntax::flatten(expr) else { return };
            if is_local(root.text()) {
                add(root.start, end);
                add(root.start, root.end);
            }
            for link in links {
                if let syntax::Link::Computed(index) = link {
                    terms(index, text, is_local, found);
                }
            }
            return;
        }
        Expr::Call { fcn, .. } => add(syntax::flatten(fcn).map_or(fcn.span(), |(root, _)| root).start, end),
        Expr::ArithExpr { .. } | Expr::BinExpr { .. } => add(expr.span().start, end),
        _ => {}
    }
    syntax::parts(expr).into_iter().for_each(|part| terms(part, text, is_local, found));
}

fn is_test(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with(SKIPPED_PREFIX)
}
