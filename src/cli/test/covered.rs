//! The end of `test --coverage`: what was covered, or why that is not told.

use std::fmt::Write as _;

use super::{CoverageFormat, TestArgs, TestResult, Verdict};
use crate::{
    cli::{Exit, coverage, output},
    policy::CoverageReport,
};

/// What to print; or, where there is nothing to report, how the verb ends. As in OPA, a failed test ends it.
pub(super) fn report(results: &[TestResult], report: &CoverageReport, args: &TestArgs) -> Result<String, Exit> {
    for result in results {
        if let Verdict::Error(complaint) = &result.verdict {
            output::note(&complaint.line());
            return Err(Exit::Failed);
        }
    }
    let is_failure = |result: &&TestResult| matches!(result.verdict, Verdict::Fail);
    if let Some(first) = results.iter().find(is_failure) {
        // Where stdout is gone, the exit code still tells it.
        let _ = output::answer(&super::report::failures(results, args.verbose));
        output::note(&first.title());
        return Err(Exit::Failed);
    }
    let percent = coverage::percent(report);
    if percent < args.threshold {
        let mut text = format!("Code coverage threshold not met: got {percent:.2} instead of {:.2}", args.threshold);
        if args.verbose && !report.files.is_empty() {
            text.push_str("\nLines not covered:");
            for (name, file) in &report.files {
                for (first, last) in file.gaps() {
                    let _ = write!(text, "\n\t{name}:{}", coverage::span(first, last));
                }
            }
        }
        output::note(&text);
        return Err(Exit::Usage);
    }
    Ok(match args.coverage_format {
        CoverageFormat::Json => coverage::json(report) + "\n",
        CoverageFormat::Text => coverage::text(report),
    })
}
