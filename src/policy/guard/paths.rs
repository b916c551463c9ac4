//! `graph.reachable_paths`: the number of paths of a graph can be exponential, and a path as long as the graph is large.

use std::collections::BTreeSet;

use regorus::{Value, value::Object};

use super::{Outcome, engine, limit, time_left};
use crate::policy::builtins::BuiltinError;

/// Longest path, and most steps.
const MAX_PATH: usize = 1_000;
const MAX_STEPS: usize = 1_000_000;

/// All paths of a graph: their number can be exponential, so steps are counted and the clock is looked at.
struct Paths<'g> {
    graph: &'g Object,
    path: Vec<Value>,
    found: BTreeSet<Value>,
    steps: usize,
}

pub(super) fn reachable_paths(args: &[Value]) -> Outcome {
    let [Value::Object(graph), initial] = args else { return engine("graph.reachable_paths", args) };
    let mut paths = Paths { graph, path: Vec::new(), found: BTreeSet::new(), steps: 0 };
    match initial {
        Value::Array(nodes) => nodes.iter().try_for_each(|node| paths.visit(node))?,
        Value::Set(nodes) => nodes.iter().try_for_each(|node| paths.visit(node))?,
        _ => return Err(BuiltinError::Type("graph.reachable_paths: operand 2 must be one of {set, array}".to_owned())),
    }
    Ok(Value::from(paths.found))
}

impl Paths<'_> {
    fn visit(&mut self, node: &Value) -> Result<(), BuiltinError> {
        self.steps += 1 + self.path.len();
        let late = self.steps.is_multiple_of(64) && time_left().is_zero();
        if late || self.steps > MAX_STEPS || self.path.len() > MAX_PATH {
            return Err(limit("graph.reachable_paths", "the graph has too many paths, or too long ones"));
        }
        let neighbours = match self.graph.get(node) {
            // A path ends before what is no node of the graph.
            None => return self.ends(),
            Some(_) if self.path.contains(node) => return self.ends(),
            Some(neighbours) => neighbours,
        };
        self.path.push(node.clone());
        let none = match neighbours {
            Value::Array(nodes) if !nodes.is_empty() => {
                nodes.iter().try_for_each(|node| self.visit(node))?;
                false
            }
            Value::Set(nodes) if !nodes.is_empty() => {
                nodes.iter().try_for_each(|node| self.visit(node))?;
                false
            }
            _ => true,
        };
        if none {
            self.ends()?;
        }
        self.path.pop();
        Ok(())
    }

    fn ends(&mut self) -> Result<(), BuiltinError> {
        if !self.path.is_empty() {
            self.found.insert(Value::from(self.path.clone()));
        }
        Ok(())
    }
}
