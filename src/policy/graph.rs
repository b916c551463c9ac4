//! Which rule may reach which: built from the facts of [`super::syntax`], as OPA does. A reference reaches every rule
//! above and below its path; a computed segment reaches every rule that could stand there.
//!
//! Rules that form a circle would overflow the stack, and so would a long enough chain; both are found here.

use std::collections::{HashMap, HashSet, VecDeque};

use super::syntax::{Callee, Reference, Root, RuleFacts, Segment};

/// Vertices are rules (all definitions of one path together) and the nodes of the tree that their paths form; a tree
/// vertex stands for everything below it, so that `data[x]` costs one edge and not one per rule.
#[derive(Debug)]
pub(super) struct Graph {
    rules: Vec<Group>,
    tree: Vec<Node>,
    edges: Vec<Vec<usize>>,
    /// Every vertex after those it reaches, circles collapsed to one entry.
    order: Vec<Vec<usize>>,
}

/// All definitions of one path.
#[derive(Debug)]
struct Group {
    path: Vec<Segment>,
    facts: Vec<usize>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<String, usize>,
    computed: Option<usize>,
    rule: Option<usize>,
}

/// A circle of rules, found from one of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// Index into the facts: where to point.
    pub fact: usize,
    /// `rule data.p.a is recursive: data.p.a -> data.p.b -> data.p.a`.
    pub message: String,
}

// === impl Graph ===

impl Graph {
    pub(super) fn new(facts: &[RuleFacts]) -> Self {
        let mut graph = Self { rules: Vec::new(), tree: vec![Node::default()], edges: Vec::new(), order: Vec::new() };
        for (index, fact) in facts.iter().enumerate() {
            graph.insert(index, &fact.path);
        }
        let base = graph.rules.len();
        for group in &graph.rules {
            let mut targets = HashSet::new();
            for fact in group.facts.iter().filter_map(|i| facts.get(*i)) {
                for reference in &fact.references {
                    graph.targets(reference, &mut targets);
                }
                for call in &fact.calls {
                    if let Callee::Function(path) = &call.callee
                        && let Some(rule) = graph.exact(path)
                    {
                        targets.insert(rule);
                    }
                }
            }
            graph.edges.push(targets.into_iter().collect());
        }
        for node in &graph.tree {
            let below = node.children.values().chain(node.computed.iter()).map(|child| base + child);
            graph.edges.push(below.chain(node.rule).collect());
        }
        graph.order = components(&graph.edges);
        graph
    }

    fn insert(&mut self, index: usize, path: &[Segment]) {
        let mut at = 0;
        for segment in path {
            let next = self.tree.len();
            let Some(node) = self.tree.get_mut(at) else { return };
            at = match segment {
                Some(name) => *node.children.entry(name.clone()).or_insert(next),
                None => *node.computed.get_or_insert(next),
            };
            if at == next {
                self.tree.push(Node::default());
            }
        }
        let fresh = self.rules.len();
        let Some(node) = self.tree.get_mut(at) else { return };
        let rule = *node.rule.get_or_insert(fresh);
        match self.rules.get_mut(rule) {
            Some(group) => group.facts.push(index),
            None => self.rules.push(Group { path: path.to_vec(), facts: vec![index] }),
        }
    }

    fn exact(&self, path: &[String]) -> Option<usize> {
        let mut node = self.tree.first()?;
        for name in path {
            node = self.tree.get(*node.children.get(name)?)?;
        }
        node.rule
    }

    /// The facts of all rules, those first that others reach.
    pub(super) fn facts_in_order(&self) -> impl Iterator<Item = usize> {
        let groups = self.order.iter().flatten().filter_map(|vertex| self.rules.get(*vertex));
        groups.flat_map(|group| group.facts.iter().copied())
    }

    /// The vertices that a reference to data reaches.
    fn targets(&self, reference: &Reference, into: &mut HashSet<usize>) {
        if reference.root != Root::Data {
            return;
        }
        let base = self.rules.len();
        let mut front = vec![0];
        for segment in &reference.path {
            let mut next = Vec::new();
            for node in front.iter().filter_map(|at| self.tree.get(*at)) {
                into.extend(node.rule);
                match segment {
                    Some(name) => next.extend(node.children.get(name).copied()),
                    None => next.extend(node.children.values().copied()),
                }
                next.extend(node.computed);
            }
            front = next;
        }
        into.extend(front.into_iter().map(|at| base + at));
    }

    /// Every rule that reaches itself; at most `most` of them.
    pub(super) fn cycles(&self, most: usize) -> Vec<Cycle> {
        let mut found = Vec::new();
        for component in &self.order {
            for &rule in component {
                if found.len() >= most || rule >= self.rules.len() {
                    continue;
                }
                let itself = self.edges.get(rule).is_some_and(|edges| edges.contains(&rule));
                if (component.len() > 1 || itself)
                    && let Some(path) = self.way_back(rule)
                    && let Some(group) = self.rules.get(rule)
                {
                    let name = |r: &usize| self.rules.get(*r).map(|g| dotted(&g.path)).unwrap_or_default();
                    let way: Vec<String> = path.iter().map(name).collect();
                    found.push(Cycle {
                        fact: group.facts.first().copied().unwrap_or_default(),
                        message: format!("rule {} is recursive: {}", dotted(&group.path), way.join(" -> ")),
                    });
                }
            }
        }
        found.sort_by_key(|cycle| cycle.fact);
        found
    }

    /// The shortest way from a rule back to itself, tree vertices left out.
    fn way_back(&self, start: usize) -> Option<Vec<usize>> {
        let mut came_from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &next in self.edges.get(at)? {
                if next == start {
                    let mut way = vec![start];
                    let mut back = at;
                    while back != start {
                        way.push(back);
                        back = *came_from.get(&back)?;
                    }
                    way.push(start);
                    way.reverse();
                    way.retain(|v| *v < self.rules.len());
                    return Some(way);
                }
                if next != start && !came_from.contains_key(&next) {
                    came_from.insert(next, at);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Folds a cost over everything that each vertex reaches, callees first. `own` is asked once per fact. The answer is
    /// by vertex.
    pub(super) fn fold(&self, own: impl Fn(usize) -> usize, join: impl Fn(usize, usize) -> usize) -> Vec<usize> {
        let mut costs = vec![0; self.edges.len()];
        for component in &self.order {
            for &vertex in component {
                let below = self.edges.get(vertex).into_iter().flatten();
                let below = below.filter_map(|next| costs.get(*next)).max().copied().unwrap_or_default();
                let facts = self.rules.get(vertex).map(|group| group.facts.as_slice()).unwrap_or_default();
                let own = facts.iter().map(|fact| own(*fact)).max().unwrap_or_default();
                if let Some(cost) = costs.get_mut(vertex) {
                    *cost = join(own, below);
                }
            }
        }
        costs
    }

    /// What can pile up in a value, by vertex: what the rule adds itself, what each function that it calls adds (once per
    /// call, because calls can be nested) and the most of what it refers to.
    pub(super) fn heights(&self, facts: &[RuleFacts], own: impl Fn(&RuleFacts) -> usize) -> Vec<usize> {
        let mut heights = vec![0_usize; self.edges.len()];
        for &vertex in self.order.iter().flatten() {
            let group = self.rules.get(vertex).map(|group| group.facts.as_slice()).unwrap_or_default();
            let mut called = HashSet::new();
            let mut most = 0;
            for fact in group.iter().filter_map(|fact| facts.get(*fact)) {
                let mut sum = own(fact);
                for call in &fact.calls {
                    if let Callee::Function(path) = &call.callee
                        && let Some(function) = self.exact(path)
                    {
                        called.insert(function);
                        sum = sum.saturating_add(heights.get(function).copied().unwrap_or_default());
                    }
                }
                most = most.max(sum);
            }
            let below = self.edges.get(vertex).into_iter().flatten().filter(|next| !called.contains(next));
            let below = below.filter_map(|next| heights.get(*next)).max().copied().unwrap_or_default();
            if let Some(height) = heights.get_mut(vertex) {
                *height = most.saturating_add(below);
            }
        }
        heights
    }

    /// The paths of the rules that have a cost.
    pub(super) fn with_cost(&self, costs: &[usize]) -> impl Iterator<Item = &[Segment]> {
        let costly = self.rules.iter().zip(costs).filter(|(_, cost)| **cost > 0);
        costly.map(|(group, _)| group.path.as_slice())
    }

    /// The rule with the largest cost, as `data.p.x`, with the index of its first fact.
    pub(super) fn worst(&self, costs: &[usize]) -> Option<(String, usize, usize)> {
        let (rule, cost) = costs.iter().take(self.rules.len()).enumerate().max_by_key(|(_, cost)| **cost)?;
        let group = self.rules.get(rule)?;
        Some((dotted(&group.path), *cost, *group.facts.first()?))
    }
}

/// `data.a["b c"][_]`.
pub(super) fn dotted(path: &[Segment]) -> String {
    let mut out = String::from("data");
    for segment in path {
        match segment {
            Some(name) if is_identifier(name) => {
                out.push('.');
                out.push_str(name);
            }
            Some(name) => {
                out.push('[');
                out.push_str(&super::json::quote(name));
                out.push(']');
            }
            None => out.push_str("[_]"),
        }
    }
    out
}

pub(super) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Strongly connected components, each after those it reaches (Tarjan, without recursion: chains may be long).
fn components(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let count = edges.len();
    let (mut index, mut low, mut on_stack) = (vec![UNSEEN; count], vec![0; count], vec![false; count]);
    let mut stack = Vec::new();
    let mut found = Vec::new();
    let mut clock = 0;
    let set = |list: &mut Vec<usize>, at: usize, value: usize| {
        if let Some(slot) = list.get_mut(at) {
            *slot = value;
        }
    };
    let get = |list: &Vec<usize>, at: usize| list.get(at).copied().unwrap_or_default();
    for root in 0..count {
        if get(&index, root) != UNSEEN {
            continue;
        }
        let mut work = vec![(root, 0)];
        while let Some((vertex, next)) = work.pop() {
            if next == 0 {
                set(&mut index, vertex, clock);
                set(&mut low, vertex, clock);
                clock += 1;
                stack.push(vertex);
                if let Some(flag) = on_stack.get_mut(vertex) {
                    *flag = true;
                }
            }
            if let Some(&to) = edges.get(vertex).and_then(|e| e.get(next)) {
                work.push((vertex, next + 1));
                if get(&index, to) == UNSEEN {
                    work.push((to, 0));
                } else if on_stack.get(to) == Some(&true) {
                    let least = get(&low, vertex).min(get(&index, to));
                    set(&mut low, vertex, least);
                }
                continue;
            }
            if get(&low, vertex) == get(&index, vertex) {
                let mut component = Vec::new();
                while let Some(member) = stack.pop() {
                    if let Some(flag) = on_stack.get_mut(member) {
                        *flag = false;
                    }
                    component.push(member);
                    if member == vertex {
                        break;
                    }
                }
                found.push(component);
            }
            if let Some(&(parent, _)) = work.last() {
                let least = get(&low, parent).min(get(&low, vertex));
                set(&mut low, parent, least);
            }
        }
    }
    found
}
