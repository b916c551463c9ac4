//! Paths under `data`, and the tree that says what stands at each of them: a rule, packages with rules, or base data only.
//! It evaluates nothing.

use std::{collections::HashMap, fmt};

use regorus::Value;

use super::syntax::RuleFacts;

/// A path under `data`, as the OPA REST API and entrypoints write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DataPath(Vec<String>);

/// A rule that was checked to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint(DataPath);

/// What a path names.
#[derive(Debug)]
pub(super) enum Place<'t, 'p> {
    /// A rule, and what is asked of its value.
    Rule { engine_path: &'t str, rest: &'p [String] },
    /// Rules lie below: the document must be assembled.
    Virtual { query: &'t str, rest: &'p [String] },
    /// A function, or what would stand below it: never a document.
    Function,
    /// No rule is involved.
    Base,
}

/// All rule and package paths.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<String, Node>,
    kind: Kind,
    /// How the engine names this document: `data.a["b c"]`.
    engine_path: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[default]
    Interior,
    Rule,
    Function,
}

// === impl DataPath ===

impl DataPath {
    /// From already decoded segments.
    #[must_use]
    pub fn new(segments: Vec<String>) -> Self {
        Self(segments)
    }

    /// From `a/b/c` (optional leading `/`), no decoding.
    #[must_use]
    pub fn from_slash(path: &str) -> Self {
        Self(path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect())
    }

    /// Its segments, decoded.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

// === impl Entrypoint ===

impl Entrypoint {
    pub(super) fn new(path: DataPath) -> Self {
        Self(path)
    }

    /// The rule's path.
    #[must_use]
    pub fn path(&self) -> &DataPath {
        &self.0
    }
}

// === impl Tree ===

impl Tree {
    /// `packages` adds the packages that have no rule: they are empty documents.
    pub(super) fn new(rules: &[RuleFacts], packages: &[Vec<String>]) -> Self {
        let mut tree = Self { root: Node { engine_path: "data".to_owned(), ..Node::default() } };
        for package in packages {
            tree.node(package);
        }
        for rule in rules {
            // A head with variables makes its value below its constant part.
            let constant: Vec<String> = rule.path.iter().map_while(Clone::clone).collect();
            let node = tree.node(&constant);
            node.kind = if rule.function.is_some() { Kind::Function } else { Kind::Rule };
        }
        tree
    }

    fn node(&mut self, path: &[String]) -> &mut Node {
        let mut at = &mut self.root;
        for name in path {
            let above = at.engine_path.clone();
            at = at
                .children
                .entry(name.clone())
                .or_insert_with(|| Node { engine_path: step(&above, name), ..Node::default() });
        }
        at
    }

    /// What stands at a path.
    pub(super) fn find<'t, 'p>(&'t self, path: &'p [String]) -> Place<'t, 'p> {
        let mut at = &self.root;
        let mut mixed = None;
        for (index, name) in path.iter().enumerate() {
            match at.children.get(name) {
                Some(child) => at = child,
                None => return mixed.unwrap_or(Place::Base),
            }
            let rest = path.get(index + 1..).unwrap_or_default();
            match at.kind {
                Kind::Rule if at.children.is_empty() => return Place::Rule { engine_path: &at.engine_path, rest },
                // Other rules stand below a rule: the document is assembled from all of them.
                Kind::Rule => mixed = Some(Place::Virtual { query: &at.engine_path, rest }),
                Kind::Function => return Place::Function,
                Kind::Interior => {}
            }
        }
        Place::Virtual { query: &at.engine_path, rest: &[] }
    }

    /// Is there a rule exactly here?
    pub(super) fn is_rule(&self, path: &[String]) -> bool {
        let mut at = &self.root;
        for name in path {
            match at.children.get(name) {
                Some(child) => at = child,
                None => return false,
            }
        }
        at.kind == Kind::Rule
    }

    /// Every rule path, for "did you mean".
    pub(super) fn rules(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![(String::new(), &self.root)];
        while let Some((path, node)) = pending.pop() {
            for (name, child) in &node.children {
                let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                if child.kind == Kind::Rule {
                    found.push(below.clone());
                }
                pending.push((below, child));
            }
        }
        found.sort();
        found
    }
}

/// The engine's spelling of one step: a field where it is an identifier, else a quoted index.
fn step(above: &str, name: &str) -> String {
    if super::graph::is_identifier(name) {
        format!("{above}.{name}")
    } else {
        format!("{above}[{}]", serde_json::Value::from(name))
    }
}

/// The member of a value at a path of URL segments: an integer is an index of an array; sets have no members by path
/// but their strings, as in OPA.
pub(super) fn member<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let mut at = value;
    for segment in path {
        at = match at {
            Value::Object(members) => members.get(&Value::from(segment.as_str()))?,
            Value::Array(items) => items.get(segment.parse::<usize>().ok()?)?,
            Value::Set(items) => items.get(&Value::from(segment.as_str()))?,
            _ => return None,
        };
    }
    (*at != Value::Undefined).then_some(at)
}
