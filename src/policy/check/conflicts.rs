//! Rules, packages and base data that stand in each other's place, in OPA's words.

use std::collections::{BTreeMap, HashMap};

use regorus::Value;

use super::problems::Problems;
use crate::policy::{
    LoadError, Location,
    graph::dotted,
    syntax::{RuleFacts, RuleKind, Segment},
};

/// A rule with its path as it is written.
pub(super) struct Named<'a> {
    pub facts: &'a RuleFacts,
    pub name: String,
}

/// Where rules start that have a path's first steps in common, up to the first computed one.
#[derive(Default)]
struct Node<'a> {
    rules: Vec<&'a Named<'a>>,
    children: BTreeMap<&'a str, Node<'a>>,
}

pub(super) fn rules(rules: &[Named<'_>], packages: &[(Vec<String>, Location)], problems: &mut Problems<'_>) {
    let mut root = Node::default();
    for rule in rules {
        let mut node = &mut root;
        for name in rule.facts.path.iter().map_while(Option::as_deref) {
            node = node.children.entry(name).or_default();
        }
        node.rules.push(rule);
    }
    root.check(packages, problems);
}

impl Node<'_> {
    /// Nesting is as deep as paths are long, which the parser limits.
    fn check(&self, packages: &[(Vec<String>, Location)], problems: &mut Problems<'_>) {
        if let (Some(first), Some(last)) = (self.rules.first(), self.rules.last()) {
            let name = &last.name;
            let fail = |message: String, at: &Location| LoadError::new("rego_type_error", message, Some(at.clone()));
            let location = &first.facts.location;
            let below = self.conflicting();
            let facts = || self.rules.iter().map(|rule| rule.facts);
            let is_set = |rule: &RuleFacts| rule.kind == RuleKind::Set;
            let is_ground = |rule: &RuleFacts| rule.path.iter().all(Option::is_some);
            let differ = |by: &dyn Fn(&RuleFacts) -> usize| {
                let mut all = facts().map(by);
                let first = all.next();
                all.any(|other| Some(other) != first)
            };
            let defaults: Vec<&RuleFacts> = facts().filter(|rule| rule.kind == RuleKind::Default).collect();
            if !below.is_empty() {
                let place = |rule: &&Named<'_>| {
                    let at = &rule.facts.location;
                    format!("\n  rule {} at {}:{}", rule.name, at.file, at.row)
                };
                let list: String = below.iter().map(place).collect();
                problems.fact(fail(format!("rule {name} conflicts with:{list}"), location));
            } else if differ(&|rule| usize::from(is_set(rule)))
                || differ(&|rule| rule.function.unwrap_or_default())
                || differ(&|rule| usize::from(!is_set(rule) && is_ground(rule)))
                || (facts().any(is_set) && differ(&|rule| usize::from(is_ground(rule))))
            {
                problems.fact(fail(format!("conflicting rules {name} found"), location));
            } else if let [_, _, ..] = defaults.as_slice() {
                let places: Vec<String> =
                    defaults.iter().map(|rule| format!("{}:{}", rule.location.file, rule.location.row)).collect();
                let message = format!("multiple default rules {name} found at {}", places.join(", "));
                let package = defaults.first().and_then(|rule| {
                    let own = rule.path.get(..rule.package_length).unwrap_or_default();
                    packages.iter().find(|(path, at)| {
                        at.file == rule.location.file && path.iter().map(Some).eq(own.iter().map(Option::as_ref))
                    })
                });
                problems.fact(fail(message, package.map_or(location, |(_, at)| at)));
            }
        }
        self.children.values().for_each(|child| child.check(packages, problems));
    }

    /// The rules below that may not be there.
    fn conflicting(&self) -> Vec<&Named<'_>> {
        let mut found = Vec::new();
        let is_ground = |rule: &&Named<'_>| rule.facts.path.iter().all(Option::is_some);
        if self.children.is_empty() || self.rules.is_empty() {
            return found;
        }
        let is_whole = self.rules.iter().any(is_ground);
        // Below a computed step only functions are in the way.
        let counts = |rule: &Named<'_>| is_whole || rule.facts.function.is_some();
        self.children.values().for_each(|child| child.gather(&counts, &mut found));
        found
    }

    /// The rules in a node and below it, without those below one that is listed.
    fn gather<'s>(&'s self, counts: &dyn Fn(&Named<'_>) -> bool, found: &mut Vec<&'s Named<'s>>) {
        match self.rules.iter().find(|rule| counts(rule)) {
            Some(rule) => found.push(rule),
            None => self.children.values().for_each(|child| child.gather(counts, found)),
        }
    }
}

/// A package may not have the path of a rule, nor one below it.
pub(super) fn packages(rules: &[RuleFacts], packages: &[(Vec<String>, Location)], problems: &mut Problems<'_>) {
    let mut by_path: HashMap<&[Segment], &RuleFacts> = HashMap::new();
    for rule in rules {
        by_path.entry(&rule.path).or_insert(rule);
    }
    let mut seen = HashMap::new();
    for (package, _) in packages {
        let path: Vec<Segment> = package.iter().cloned().map(Some).collect();
        for length in 1..=path.len() {
            if let Some(rule) = by_path.get(path.get(..length).unwrap_or_default())
                && seen.insert((package, length), ()).is_none()
            {
                let (at, name) = (&rule.location, head_text(rule));
                let package = package.join(".");
                let message = format!("package {package} conflicts with rule {name} defined at {}:{}", at.file, at.row);
                // OPA points at the package of the rule.
                let own = packages.iter().find(|(_, package)| package.file == at.file);
                problems.fact(LoadError::new("rego_type_error", message, own.map(|(_, package)| package.clone())));
            }
        }
    }
}

/// A rule's name within its package.
fn head_text(rule: &RuleFacts) -> String {
    let own = rule.path.get(rule.package_length..).unwrap_or_default();
    dotted(own).trim_start_matches("data").trim_start_matches('.').to_owned()
}

/// No rule may stand where base data has a value, nor below a value that is no object.
pub(super) fn base(rules: &[RuleFacts], data: &Value, problems: &mut Problems<'_>) {
    let mut seen = HashMap::new();
    for rule in rules.iter().filter(|rule| rule.function.is_none()) {
        if seen.insert(&rule.path, ()).is_some() {
            continue;
        }
        let mut at = data;
        let constant: Vec<&str> = rule.path.iter().map_while(Option::as_deref).collect();
        let is_free = constant.iter().any(|name| match at {
            Value::Object(members) => match members.get(&Value::from(*name)) {
                Some(next) => {
                    at = next;
                    false
                }
                None => true,
            },
            _ => false,
        });
        if !is_free {
            let message = format!("conflicting rule for data path {} found", constant.join("/"));
            problems.fact(LoadError::new("rego_compile_error", message, Some(rule.location.clone())));
        }
    }
}
