//! The reports of `opa test`: text and JSON.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{CaseResult, TestResult, Verdict};
use crate::policy::{Location, quote};

const RULE: &str = "--------------------------------------------------------------------------------\n";

/// Tests that did not pass, or all when `verbose`, then the counts.
pub(super) fn pretty(results: &[TestResult], verbose: bool) -> String {
    pretty_of(&results.iter().collect::<Vec<_>>(), verbose)
}

fn pretty_of(results: &[&TestResult], verbose: bool) -> String {
    let mut text = String::new();
    for result in results {
        if verbose || !matches!(result.verdict, Verdict::Pass) {
            result.write(verbose, &mut text);
        }
    }
    if !text.is_empty() {
        text.push_str(RULE);
    }
    let explained = |result: &&TestResult| verbose || !result.values.is_empty();
    if results.iter().any(explained) && results.iter().any(|result| matches!(result.verdict, Verdict::Fail)) {
        text.push_str("FAILURES\n");
        text.push_str(RULE);
        for result in results.iter().filter(|result| matches!(result.verdict, Verdict::Fail)) {
            result.write_failure(&mut text);
        }
        text.push_str(RULE);
    }
    let mut counts = [0usize; 4];
    for result in results {
        if result.cases.is_empty() {
            if let Some(count) = counts.get_mut(result.verdict.index()) {
                *count += 1;
            }
        } else {
            count(&result.cases, &mut counts);
        }
    }
    let total: usize = counts.iter().sum();
    for (title, count) in ["PASS", "FAIL", "SKIPPED", "ERROR"].iter().zip(counts) {
        if count > 0 {
            let _ = writeln!(text, "{title}: {count}/{total}");
        }
    }
    text
}

/// The report of those that failed.
pub(super) fn failures(results: &[TestResult], verbose: bool) -> String {
    let failed: Vec<&TestResult> = results.iter().filter(|result| matches!(result.verdict, Verdict::Fail)).collect();
    pretty_of(&failed, verbose)
}

/// A group of cases counts as its cases.
fn count(cases: &[CaseResult], counts: &mut [usize; 4]) {
    let [pass, fail, ..] = counts;
    for case in cases {
        match (case.cases.as_slice(), case.passed) {
            ([], true) => *pass += 1,
            ([], false) => *fail += 1,
            (below, _) => {
                let mut more = [0; 4];
                count(below, &mut more);
                *pass += more[0];
                *fail += more[1];
            }
        }
    }
}

/// OPA's array of results.
pub(super) fn json(results: &[TestResult]) -> String {
    let items: Vec<String> = results.iter().map(TestResult::json).collect();
    if items.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", items.join(",\n")) }
}

/// A duration as Go prints it.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let scaled = |unit: u128, name: &str| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", nanos % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}{name}", nanos / unit)
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => scaled(1_000, "µs"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        _ => scaled(1_000_000_000, "s"),
    }
}

// === impl TestResult ===

impl TestResult {
    fn write(&self, verbose: bool, text: &mut String) {
        let _ = writeln!(text, "{}:{}:", self.location.file, self.location.row);
        let _ = writeln!(text, "{}", self.title());
        if let Verdict::Error(complaint) = &self.verdict {
            let _ = writeln!(text, "  {}", complaint.line());
        }
        for case in &self.cases {
            case.write(verbose, 1, text);
        }
        if !self.prints.is_empty() {
            text.push('\n');
            for line in &self.prints {
                let _ = writeln!(text, "  {line}");
            }
            text.push('\n');
        }
    }

    /// Its name, how it ended and how long it took.
    pub(super) fn title(&self) -> String {
        let title = format!("{}.{}: {}", self.package, self.name, self.verdict.title());
        match self.verdict {
            Verdict::Skipped => title,
            _ => format!("{title} ({})", go_duration(self.duration)),
        }
    }

    /// Which statement or which cases did not hold.
    fn write_failure(&self, text: &mut String) {
        let _ = writeln!(text, "{}\n", self.title());
        for line in self.trace.lines() {
            let _ = writeln!(text, "  {line}");
        }
        if !self.trace.is_empty() && !self.values.is_empty() {
            text.push('\n');
        }
        for line in self.values.lines() {
            let _ = writeln!(text, "  {line}");
        }
        for case in &self.cases {
            case.write(false, 1, text);
        }
        text.push('\n');
    }

    fn json(&self) -> String {
        let Location { file, row, col } = &self.location;
        let mut text = format!(
            "  {{\n    \"location\": {{\n      \"file\": {},\n      \"row\": {row},\n      \"col\": {col}\n    }},\n    \
             \"package\": {},\n    \"name\": {}",
            quote(file),
            quote(&self.package),
            quote(&self.name)
        );
        match &self.verdict {
            Verdict::Pass => {}
            Verdict::Fail => text.push_str(",\n    \"fail\": true"),
            Verdict::Skipped => text.push_str(",\n    \"skip\": true"),
            Verdict::Error(complaint) => {
                let _ = write!(text, ",\n    \"error\": {}", complaint.json(4));
            }
        }
        let _ = write!(text, ",\n    \"duration\": {}", self.duration.as_nanos());
        if !self.prints.is_empty() {
            let _ = write!(text, ",\n    \"output\": \"{}\"", BASE64_STANDARD.encode(self.prints.join("\n") + "\n"));
        }
        if !self.cases.is_empty() {
            let _ = write!(text, ",\n    \"sub_results\": {}", cases_json(&self.cases, 4));
        }
        text.push_str("\n  }");
        text
    }
}

fn cases_json(cases: &[CaseResult], indent: usize) -> String {
    let pad = " ".repeat(indent + 2);
    let mut text = String::from("{");
    for (index, case) in cases.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let name = quote(&case.name);
        let _ = write!(text, "{separator}\n{pad}{name}: {{\n{pad}  \"name\": {name}");
        if !case.passed {
            let _ = write!(text, ",\n{pad}  \"fail\": true");
        }
        if !case.cases.is_empty() {
            let _ = write!(text, ",\n{pad}  \"sub_results\": {}", cases_json(&case.cases, indent + 4));
        }
        let _ = write!(text, "\n{pad}}}");
    }
    let _ = write!(text, "\n{}}}", " ".repeat(indent));
    text
}

// === impl CaseResult ===

impl CaseResult {
    fn write(&self, verbose: bool, level: usize, text: &mut String) {
        if !verbose && self.passed {
            return;
        }
        let title = if self.passed { "PASS" } else { "FAIL" };
        let _ = writeln!(text, "{}{}: {title}", "  ".repeat(level), self.name);
        for case in &self.cases {
            case.write(verbose, level + 1, text);
        }
    }
}

// === impl Verdict ===

impl Verdict {
    fn title(&self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Error(_) => "ERROR",
            Self::Skipped => "SKIPPED",
        }
    }

    /// The place of its count.
    fn index(&self) -> usize {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Skipped => 2,
            Self::Error(_) => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, want) in [
            (0, "0s"),
            (999, "999ns"),
            (458_347, "458.347µs"),
            (458_000, "458µs"),
            (1_500_000, "1.5ms"),
            (2_000_000_001, "2.000000001s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), want);
        }
    }
}
