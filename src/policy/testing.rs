//! Test rules: `test_…` and `todo_test_…` in any package, as `opa test` finds them, and one run of one of them. It judges
//! no result.

use super::{DataPath, EvalError, EvalOptions, Location, Outcome, PolicySet, syntax::RuleKind};

const PREFIX: &str = "test_";
const SKIPPED_PREFIX: &str = "todo_test_";

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

fn is_test(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with(SKIPPED_PREFIX)
}
