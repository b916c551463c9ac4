//! `claimgate test`: runs the `test_…` rules of policies and reports as `opa test` does. A test passes only when its
//! value is `true`; undefined, any other value and an error are no pass.

mod cases;
mod report;
mod steps;
mod twins;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use regex::Regex;

use super::{
    Exit, output,
    sources::{self, Complaint, Ignore},
};
use crate::{
    outbound::Host,
    policy::{EvalOptions, HttpSend, Location, Outcome, PolicySet, Source, TestRule, Value},
};

const EXAMPLES: &str = "\
Examples:
  claimgate test rego data            policies, their tests and their data
  claimgate test -v -r folders rego   some tests, each with its result
  claimgate test -b ./bundle.tar.gz

A test is a rule `test_…` in any package that is `true`; one named
`todo_test_…` is skipped. A rule `test_…[case]` has a result for each case.

Exit codes: 0 all pass, 1 the policies do not load, 2 a test fails or is
skipped, or wrong usage";

/// Arguments of `test`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TestArgs {
    /// Policy and data files or directories; with `-b` bundles
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// The paths are bundles: directories or `.tar.gz`
    #[arg(short, long)]
    bundle: bool,
    /// Report the tests that pass too
    #[arg(short, long)]
    verbose: bool,
    /// Report as text or as JSON
    #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
    format: Format,
    /// Run only tests whose `data.package.name` matches the regular expression
    #[arg(short, long, value_name = "REGEX", value_parser = Regex::new)]
    run: Option<Regex>,
    /// Longest time one test may take, such as `500ms` or `5s`; 0 for no limit
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = sources::parse_timeout)]
    timeout: Duration,
    /// Exit with 0 when tests were skipped but none failed
    #[arg(short = 'z', long)]
    exit_zero_on_skipped: bool,
    /// Exit with 2 when there was no test to run
    #[arg(long)]
    fail_on_empty: bool,
    /// Host that `http.send` may ask: `api.example.com` or `10.0.0.7:8443`; without one, it may be mocked by `with` but
    /// not called; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_http_send: Vec<Host>,
    /// Names of files and directories not to load, with `*` and `?`; may be repeated
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    ignore: Vec<String>,
}

/// Shapes of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text
    Pretty,
    /// OPA's JSON array
    Json,
}

/// One test, run.
#[derive(Debug)]
struct TestResult {
    location: Location,
    package: String,
    name: String,
    verdict: Verdict,
    /// Results of its cases, in the order of their names.
    cases: Vec<CaseResult>,
    duration: Duration,
    prints: Vec<String>,
    /// Where it failed, when the report is to say so.
    trace: String,
}

/// How a test ended.
#[derive(Debug)]
enum Verdict {
    Pass,
    Fail,
    Error(Complaint),
    Skipped,
}

/// One case of a test.
#[derive(Debug)]
struct CaseResult {
    name: String,
    passed: bool,
    cases: Vec<CaseResult>,
}

pub(super) fn run(args: &TestArgs) -> ExitCode {
    let ignore = match Ignore::new(&args.ignore) {
        Ok(ignore) => ignore,
        Err(message) => {
            output::complain(&message);
            return Exit::Usage.into();
        }
    };
    let http = sources::http(&args.allow_http_send);
    let (sources, set) = match load(args, &ignore, &http) {
        Ok(loaded) => loaded,
        Err(complaints) => {
            output::note(sources::errors_text(&complaints, " during loading").trim_end());
            return Exit::Failed.into();
        }
    };
    let results = run_all(args, &sources, &set, &http);
    let text = match args.format {
        Format::Pretty => report::pretty(&results, args.verbose),
        Format::Json => report::json(&results),
    };
    if let Err(error) = output::answer(&text) {
        output::complain(&format!("stdout cannot be written: {error}"));
        return Exit::Failed.into();
    }
    let failed = results.iter().any(|result| matches!(result.verdict, Verdict::Fail | Verdict::Error(_)));
    let skipped = results.iter().any(|result| matches!(result.verdict, Verdict::Skipped));
    let empty = results.is_empty() && args.fail_on_empty;
    // OPA's 2: the tests ran, and not all is well.
    if failed || empty || (skipped && !args.exit_zero_on_skipped) { Exit::Usage.into() } else { Exit::Done.into() }
}

fn load(
    args: &TestArgs,
    ignore: &Ignore,
    http: &Arc<dyn HttpSend>,
) -> Result<(Vec<Source>, PolicySet), Vec<Complaint>> {
    let (bundles, data): (&[String], &[String]) = if args.bundle { (&args.paths, &[]) } else { (&[], &args.paths) };
    let mut files = sources::read(bundles, data, ignore)?;
    let set = sources::load(files.clone(), args.timeout, http, false)?;
    // Two definitions of one name are two tests, and one rule: only under names of their own can they be told apart.
    let set = if twins::part(&mut files, &set.test_rules()) {
        sources::load(files.clone(), args.timeout, http, false)?
    } else {
        set
    };
    Ok((files, set))
}

fn run_all(args: &TestArgs, sources: &[Source], set: &PolicySet, http: &Arc<dyn HttpSend>) -> Vec<TestResult> {
    let mut results = Vec::new();
    for rule in set.test_rules() {
        let name = twins::shown(&rule.name);
        if args.run.as_ref().is_some_and(|regex| !regex.is_match(&format!("{}.{name}", rule.package))) {
            continue;
        }
        let Some(location) = rule.locations.first().cloned() else { continue };
        let mut result = TestResult {
            location,
            package: rule.package.clone(),
            name,
            verdict: Verdict::Skipped,
            cases: Vec::new(),
            duration: Duration::ZERO,
            prints: Vec::new(),
            trace: String::new(),
        };
        if !rule.skipped {
            let started = Instant::now();
            let run = set.run_test(&rule, &EvalOptions::default());
            result.duration = started.elapsed();
            result.prints = run.prints;
            match run.outcome {
                Ok(outcome) => {
                    if rule.has_cases {
                        result.cases = cases::of(&outcome, &cases::expected(sources, set, &rule, args.timeout, http));
                    }
                    result.verdict = verdict(&outcome, rule.has_cases, &result.cases);
                    let failed = matches!(result.verdict, Verdict::Fail);
                    if failed && args.verbose && args.format == Format::Pretty && !rule.has_cases {
                        let shown = TestRule { name: result.name.clone(), ..rule.clone() };
                        result.trace = steps::trace(sources, set, &shown, args.timeout, http);
                    }
                }
                Err(error) => result.verdict = Verdict::Error(Complaint::from(&error)),
            }
        }
        results.push(result);
    }
    results
}

fn verdict(outcome: &Outcome, has_cases: bool, cases: &[CaseResult]) -> Verdict {
    let passed = match outcome {
        _ if has_cases => !cases.is_empty() && cases.iter().all(|case| case.passed),
        Outcome::Value(value) => *value == Value::Bool(true),
        Outcome::Undefined => false,
    };
    if passed { Verdict::Pass } else { Verdict::Fail }
}
