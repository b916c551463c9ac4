//! Coverage as OPA reports it, in JSON, and the lines that were not covered, as text.

use std::fmt::Write as _;

use crate::policy::{CoverageKind, CoverageReport, FileCoverage, Range, quote};

/// Per cent of the lines.
pub(super) fn percent(coverage: &CoverageReport) -> f64 {
    Totals::all(coverage).percent()
}

/// OPA's JSON object, without an end of line.
pub(super) fn json(coverage: &CoverageReport) -> String {
    let files: Vec<String> =
        coverage.files.iter().map(|(name, file)| format!("{}: {}", quote(name), file_json(file))).collect();
    let mut members = vec![format!("\"files\": {}", object(&files, 2))];
    members.extend(Totals::all(coverage).members(true));
    object(&members, 0)
}

/// A line for each file.
pub(super) fn text(coverage: &CoverageReport) -> String {
    let found = Totals::all(coverage);
    let mut text = String::new();
    for (name, file) in &coverage.files {
        let own = Totals::of(&[file]);
        if own.covered + own.not_covered == 0 {
            continue;
        }
        let gaps: Vec<String> = file.gaps().into_iter().map(|(first, last)| span(first, last)).collect();
        let missing = if gaps.is_empty() { String::new() } else { format!("  not covered: {}", gaps.join(", ")) };
        let _ = writeln!(text, "{:>6.2} %  {name}{missing}", own.percent());
    }
    let _ = writeln!(
        text,
        "{:>6.2} %  in all: {} of {} lines",
        found.percent(),
        found.covered,
        found.covered + found.not_covered
    );
    text
}

/// Lines from the first to the last.
pub(super) fn span(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Lines in all.
#[derive(Debug, Default)]
struct Totals {
    covered: usize,
    not_covered: usize,
}

// === impl Totals ===

impl Totals {
    fn all(coverage: &CoverageReport) -> Self {
        Self::of(&coverage.files.values().collect::<Vec<_>>())
    }

    fn of(files: &[&FileCoverage]) -> Self {
        files.iter().fold(Self::default(), |total, file| Self {
            covered: total.covered + file.covered_lines(),
            not_covered: total.not_covered + file.not_covered_lines(),
        })
    }

    fn percent(&self) -> f64 {
        let float = |count: usize| u32::try_from(count).map_or(f64::INFINITY, f64::from);
        match self.covered + self.not_covered {
            0 => 0.0,
            all => 100.0 * float(self.covered) / float(all),
        }
    }

    /// The three members of a report; OPA leaves zeros out of those of files.
    fn members(&self, zeros: bool) -> Vec<String> {
        let mut members = Vec::new();
        for (name, count) in [("covered_lines", self.covered), ("not_covered_lines", self.not_covered)] {
            if zeros || count > 0 {
                members.push(format!("\"{name}\": {count}"));
            }
        }
        if zeros || self.covered > 0 {
            members.push(format!("\"coverage\": {}", self.percent()));
        }
        members
    }
}

fn file_json(file: &FileCoverage) -> String {
    let mut members = Vec::new();
    let none: &[CoverageKind] = &[];
    let covered: Vec<String> = file.covered.iter().map(|range| range_json(range, none)).collect();
    let not_covered: Vec<String> = file.not_covered.iter().map(|(range, kinds)| range_json(range, kinds)).collect();
    for (name, ranges) in [("covered", covered), ("not_covered", not_covered)] {
        if !ranges.is_empty() {
            members.push(format!("\"{name}\": {}", array(&ranges, 6)));
        }
    }
    members.extend(Totals::of(&[file]).members(false));
    object(&members, 4)
}

fn range_json(range: &Range, kinds: &[CoverageKind]) -> String {
    let place = |(row, col): (u32, u32)| object(&[format!("\"row\": {row}"), format!("\"col\": {col}")], 10);
    let mut members = vec![format!("\"start\": {}", place(range.start)), format!("\"end\": {}", place(range.end))];
    if !kinds.is_empty() {
        let names: Vec<String> = kinds
            .iter()
            .map(|kind| match kind {
                CoverageKind::IndexExcluded => "\"index_excluded\"".to_owned(),
                CoverageKind::EarlyExit => "\"early_exit\"".to_owned(),
            })
            .collect();
        members.push(format!("\"kinds\": {}", array(&names, 10)));
    }
    object(&members, 8)
}

fn object(members: &[String], indent: usize) -> String {
    list(members, indent, ('{', '}'))
}

fn array(members: &[String], indent: usize) -> String {
    list(members, indent, ('[', ']'))
}

fn list(members: &[String], indent: usize, (open, close): (char, char)) -> String {
    if members.is_empty() {
        return format!("{open}{close}");
    }
    let pad = " ".repeat(indent);
    format!("{open}\n{pad}  {}\n{pad}{close}", members.join(&format!(",\n{pad}  ")))
}
