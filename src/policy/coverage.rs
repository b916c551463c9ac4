//! What of the modules was evaluated, in the shape of OPA's coverage reports. Modules that were loaded with
//! [`Settings::coverage`](super::Settings) note every statement that is reached; here the notes of evaluations are
//! collected and told as ranges of the text. It evaluates nothing.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use regorus::Value;

use super::{
    PolicySet,
    builtins::{Builtin, BuiltinError},
};

/// The builtin by which modules note what is reached. Only texts that claimgate made itself call it.
pub(super) const MARK: &str = "internal.claimgate_mark";
/// Its table.
pub(super) const BUILTINS: &[Builtin] = &[Builtin { name: MARK, arity: 1, call: mark }];

thread_local! {
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// A piece of a text: row and column where it starts, and behind its end; 1-based, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// Where it starts.
    pub start: (u32, u32),
    /// Behind its end.
    pub end: (u32, u32),
}

/// Why OPA did not evaluate what would hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The rule index left the definition out.
    IndexExcluded,
    /// Another definition had given the value.
    EarlyExit,
}

/// What was evaluated, by file as shown to the operator.
#[derive(Debug, Clone, Default)]
pub struct CoverageReport {
    /// All modules.
    pub files: BTreeMap<String, FileCoverage>,
}

/// What of one file was evaluated.
#[derive(Debug, Clone, Default)]
pub struct FileCoverage {
    /// Heads, statements and parts of statements that were evaluated, sorted.
    pub covered: Vec<Range>,
    /// Heads and statements that were not, sorted, and why if that is known.
    pub not_covered: Vec<(Range, Vec<Kind>)>,
}

/// Collects what evaluations note.
#[derive(Debug)]
pub struct Coverage {
    plan: Arc<Plan>,
    hits: Hits,
}

/// What the notes of a policy set mean.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// By file: its name, and what can be covered.
    pub files: Vec<(String, Vec<Range>)>,
    pub marks: Vec<Mark>,
    pub groups: usize,
    pub bodies: usize,
    /// The mark of the default of a group of definitions.
    pub defaults: BTreeMap<usize, usize>,
}

/// Which marks were reached.
#[derive(Debug, Default)]
struct Hits {
    by_opa: Vec<bool>,
    /// Reached only where the rule index is not asked.
    without_index: Vec<bool>,
    /// Reached only where all definitions are evaluated.
    without_exit: Vec<bool>,
}

/// One note.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark {
    pub file: usize,
    pub ranges: Vec<Range>,
    /// The definitions of one rule that it is in.
    pub group: Option<usize>,
    /// The body that it is in.
    pub body: Option<usize>,
    /// The rule index leaves a body out, until it is said that it does not.
    pub excludes: Option<(usize, bool)>,
    /// The evaluation of a group begins.
    pub begins: Option<usize>,
    /// A definition of a group gave its value.
    pub exits: Option<usize>,
    /// OPA evaluates no other definition then.
    pub stops: bool,
    /// The default of a group is its value, unless a definition gave one.
    pub default_of: Option<usize>,
}

/// One evaluation on this thread.
#[derive(Debug)]
struct Recording {
    plan: Arc<Plan>,
    hits: Hits,
    /// By group: a definition gave the value.
    exited: Vec<bool>,
    /// By body: the rule index leaves it out.
    excluded: Vec<bool>,
}

// === impl Coverage ===

impl Coverage {
    /// Nothing was evaluated yet; `None`: the set was not loaded for coverage.
    #[must_use]
    pub fn new(set: &PolicySet) -> Option<Self> {
        let plan = Arc::clone(set.coverage_plan()?);
        let none = vec![false; plan.marks.len()];
        let hits = Hits { by_opa: none.clone(), without_index: none.clone(), without_exit: none };
        Some(Self { plan, hits })
    }

    /// Runs an evaluation of the set on this thread, and notes what it reaches.
    pub fn record<T>(&mut self, evaluation: impl FnOnce() -> T) -> T {
        let recording = Recording {
            plan: Arc::clone(&self.plan),
            hits: std::mem::take(&mut self.hits),
            exited: vec![false; self.plan.groups],
            excluded: vec![false; self.plan.bodies],
        };
        RECORDING.with(|current| current.replace(Some(recording)));
        let result = evaluation();
        if let Some(recording) = RECORDING.with(RefCell::take) {
            self.hits = recording.hits;
        }
        result
    }

    /// What was evaluated so far.
    #[must_use]
    pub fn report(&self) -> CoverageReport {
        let covered = self.ranges(&[&self.hits.by_opa]);
        let without_index = self.ranges(&[&self.hits.by_opa, &self.hits.without_index]);
        let without_exit = self.ranges(&[&self.hits.by_opa, &self.hits.without_exit]);
        let mut report = CoverageReport::default();
        for (index, (name, candidates)) in self.plan.files.iter().enumerate() {
            let is_in = |ranges: &[BTreeSet<Range>], range: &Range| {
                ranges.get(index).is_some_and(|ranges| ranges.iter().any(|outer| outer.contains(range)))
            };
            let not_covered: BTreeSet<Range> =
                candidates.iter().filter(|range| !is_in(&covered, range)).copied().collect();
            let kinds = |range: &Range| {
                let index = is_in(&without_index, range).then_some(Kind::IndexExcluded);
                let exit = is_in(&without_exit, range).then_some(Kind::EarlyExit);
                index.into_iter().chain(exit).collect()
            };
            let file = FileCoverage {
                covered: covered.get(index).into_iter().flatten().copied().collect(),
                not_covered: not_covered.into_iter().map(|range| (range, kinds(&range))).collect(),
            };
            report.files.insert(name.clone(), file);
        }
        report
    }

    /// By file, what is behind marks that were reached.
    fn ranges(&self, hits: &[&Vec<bool>]) -> Vec<BTreeSet<Range>> {
        let mut found = vec![BTreeSet::new(); self.plan.files.len()];
        for (index, mark) in self.plan.marks.iter().enumerate() {
            if hits.iter().any(|hits| hits.get(index) == Some(&true))
                && let Some(found) = found.get_mut(mark.file)
            {
                found.extend(&mark.ranges);
            }
        }
        found
    }
}

// === impl FileCoverage ===

impl FileCoverage {
    /// How many lines have something that was evaluated.
    #[must_use]
    pub fn covered_lines(&self) -> usize {
        rows(self.covered.iter().copied()).len()
    }

    /// How many lines have something that was not evaluated.
    #[must_use]
    pub fn not_covered_lines(&self) -> usize {
        rows(self.not_covered.iter().map(|(range, _)| *range)).len()
    }

    /// The lines with something that was not evaluated, as first and last of each run.
    #[must_use]
    pub fn gaps(&self) -> Vec<(u32, u32)> {
        let mut gaps: Vec<(u32, u32)> = Vec::new();
        for row in rows(self.not_covered.iter().map(|(range, _)| *range)) {
            match gaps.last_mut() {
                Some((_, last)) if *last + 1 == row => *last = row,
                _ => gaps.push((row, row)),
            }
        }
        gaps
    }
}

impl Range {
    fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl Plan {
    /// The number of a file.
    pub(super) fn file(&mut self, name: &str) -> usize {
        if let Some(known) = self.files.iter().position(|(known, _)| known == name) {
            return known;
        }
        self.files.push((name.to_owned(), Vec::new()));
        self.files.len() - 1
    }
}

fn rows(ranges: impl Iterator<Item = Range>) -> BTreeSet<u32> {
    ranges.flat_map(|range| range.start.0..=range.end.0).collect()
}

// === impl Recording ===

impl Recording {
    fn hit(&mut self, number: usize) {
        let Some(mark) = self.plan.marks.get(number) else { return };
        let flag = |flags: &[bool], index: Option<usize>| index.and_then(|index| flags.get(index)) == Some(&true);
        if let Some((body, excluded)) = mark.excludes {
            if let Some(flag) = self.excluded.get_mut(body) {
                *flag = excluded;
            }
            return;
        }
        if let Some(exited) = mark.begins.and_then(|group| self.exited.get_mut(group)) {
            *exited = false;
        }
        if flag(&self.exited, mark.default_of) {
            return;
        }
        let exited = mark.stops && flag(&self.exited, mark.group);
        let excluded = flag(&self.excluded, mark.body);
        let hits = match (excluded, exited) {
            (false, false) => &mut self.hits.by_opa,
            (true, false) => &mut self.hits.without_index,
            (false, true) => &mut self.hits.without_exit,
            (true, true) => return,
        };
        if let Some(hit) = hits.get_mut(number) {
            *hit = true;
        }
        if let Some(exited) = mark.exits.and_then(|group| self.exited.get_mut(group)) {
            *exited = true;
        }
    }
}

/// The builtin: always true.
fn mark(args: &[Value]) -> Result<Value, BuiltinError> {
    let number = args.first().and_then(|number| number.as_u32().ok()).and_then(|number| usize::try_from(number).ok());
    if let Some(number) = number {
        RECORDING.with(|recording| {
            if let Some(recording) = recording.borrow_mut().as_mut() {
                recording.hit(number);
            }
        });
    }
    Ok(Value::Bool(true))
}
