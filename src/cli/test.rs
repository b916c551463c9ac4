//! `claimgate test`: runs the `test_…` rules of policies and reports as `opa test` does. A test passes only when its
//! value is `true`; undefined, any other value and an error are no pass.

mod cases;
mod covered;
mod report;
mod steps;
mod twins;
mod watch;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use regex::Regex;

use super::{
    Exit, output,
    sources::{self, Complaint, Ignore, Loading},
};
use crate::{
    outbound::Host,
    policy::{Coverage, EvalOptions, Location, Outcome, PolicySet, Source, TestRule, Value},
};

const EXAMPLES: &str = "\
Examples:
  claimgate test rego data            policies, their tests and their data
  claimgate test -v -r folders rego   some tests, each with its result
  claimgate test -b ./bundle.tar.gz

A test is a rule `test_…` in any package that is `true`; one named
`todo_test_…` is skipped. A rule `test_…[case]` has a result for each case.

Exit codes: 0 all pass, 1 the policies do not load, or with
--coverage a test fails, 2 a test fails or is skipped, or wrong usage";

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
    /// Report, instead of results, which statements the tests evaluated
    #[arg(short, long)]
    coverage: bool,
    /// How to report it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = CoverageFormat::Json)]
    coverage_format: CoverageFormat,
    /// Exit with 2 when fewer per cent of the lines are covered; with `-v` the others are listed
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    threshold: f64,
    /// Show the statement that fails, and the values of its variables
    #[arg(long)]
    var_values: bool,
    /// Run the tests so many times, until they fail
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u32,
    /// Run them again whenever a file changes
    #[arg(short, long)]
    watch: bool,
    /// Take files of which nothing says it for Rego v0
    #[arg(long)]
    v0_compatible: bool,
    /// Exit with 0 when tests were skipped but none failed
    #[arg(short = 'z', long)]
    exit_zero_on_skipped: bool,
    /// Exit with 1 when there was no test to run
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

/// Shapes of the coverage report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CoverageFormat {
    /// OPA's JSON object
    Json,
    /// The lines that were not covered, as text
    Text,
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
    /// What failed, with values, when the report is to say so.
    values: String,
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
    if !(0.0..=100.0).contains(&args.threshold) {
        output::note("Code coverage threshold must be between 0 and 100");
        return Exit::Failed.into();
    }
    let suite = Suite { args, ignore, loading: Loading::new(args.timeout, &args.allow_http_send, args.v0_compatible) };
    if args.watch { watch::run(&suite) } else { suite.run().into() }
}

/// What to run, and how.
#[derive(Debug)]
struct Suite<'a> {
    args: &'a TestArgs,
    ignore: Ignore,
    loading: Loading,
}

/// The tests, compiled.
struct Loaded {
    sources: Vec<Source>,
    set: PolicySet,
    coverage: Option<(PolicySet, Coverage)>,
}

// === impl Suite ===

impl Suite<'_> {
    /// Bundles, and other paths.
    fn paths(&self) -> (&[String], &[String]) {
        if self.args.bundle { (&self.args.paths, &[]) } else { (&[], &self.args.paths) }
    }

    /// Runs everything as often as asked for, until something fails.
    fn run(&self) -> Exit {
        (0..self.args.count).map(|_| self.run_once()).find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done)
    }

    /// Loads and runs everything once, and reports it.
    fn run_once(&self) -> Exit {
        let Loaded { sources, set, coverage } = match self.load() {
            Ok(loaded) => loaded,
            Err(complaints) => {
                output::note(sources::errors_text(&complaints, sources::during(&complaints)).trim_end());
                return Exit::Failed;
            }
        };
        let (results, coverage) = match coverage {
            None => (self.run_all(&sources, &set, None), None),
            Some((noting, mut coverage)) => {
                (self.run_all(&sources, &noting, Some(&mut coverage)), Some(coverage.report()))
            }
        };
        let text = match (&coverage, self.args.format) {
            (Some(report), _) => match covered::report(&results, report, self.args) {
                Ok(text) => text,
                Err(exit) => return exit,
            },
            (None, Format::Pretty) => report::pretty(&results, self.args.verbose),
            (None, Format::Json) => report::json(&results),
        };
        if let Err(error) = output::answer(&text) {
            output::complain(&format!("stdout cannot be written: {error}"));
            return Exit::Failed;
        }
        let failed = results.iter().any(|result| matches!(result.verdict, Verdict::Fail | Verdict::Error(_)));
        let skipped = results.iter().any(|result| matches!(result.verdict, Verdict::Skipped));
        if results.is_empty() && self.args.fail_on_empty {
            output::note("no tests were run");
            return Exit::Failed;
        }
        // OPA's 2: the tests ran, and not all is well.
        if failed || (skipped && !self.args.exit_zero_on_skipped) { Exit::Usage } else { Exit::Done }
    }

    fn load(&self) -> Result<Loaded, Vec<Complaint>> {
        let args = self.args;
        let (bundles, data) = self.paths();
        let mut files = sources::read(bundles, data, &self.ignore)?;
        let set = self.loading.load(files.clone())?;
        // Two definitions of one name are two tests, and one rule: only under names of their own can they be told apart.
        let set = if twins::part(&mut files, &set.test_rules()) { self.loading.load(files.clone())? } else { set };
        let coverage = if args.coverage || args.threshold > 0.0 {
            let noting = self.loading.load_for_coverage(files.clone())?;
            Coverage::new(&noting).map(|coverage| (noting, coverage))
        } else {
            None
        };
        Ok(Loaded { sources: files, set, coverage })
    }

    fn run_all(&self, sources: &[Source], set: &PolicySet, mut coverage: Option<&mut Coverage>) -> Vec<TestResult> {
        let mut results = Vec::new();
        for rule in set.test_rules() {
            let name = twins::shown(&rule.name);
            let full = format!("{}.{name}", rule.package);
            if self.args.run.as_ref().is_some_and(|regex| !regex.is_match(&full)) {
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
                values: String::new(),
            };
            if !rule.skipped {
                let started = Instant::now();
                let evaluate = || set.run_test(&rule, &EvalOptions::default());
                let run = match coverage.as_deref_mut() {
                    Some(coverage) => coverage.record(evaluate),
                    None => evaluate(),
                };
                result.duration = started.elapsed();
                result.prints = run.prints;
                match run.outcome {
                    Ok(outcome) => self.judge(sources, set, &rule, &outcome, &mut result),
                    Err(error) => result.verdict = Verdict::Error(Complaint::from(&error)),
                }
            }
            results.push(result);
        }
        results
    }

    fn judge(&self, sources: &[Source], set: &PolicySet, rule: &TestRule, outcome: &Outcome, result: &mut TestResult) {
        if rule.has_cases {
            result.cases = cases::of(outcome, &cases::expected(sources, set, rule, &self.loading));
        }
        result.verdict = verdict(outcome, rule.has_cases, &result.cases);
        let failed = matches!(result.verdict, Verdict::Fail);
        if !failed || self.args.format != Format::Pretty || rule.has_cases {
            return;
        }
        let shown = TestRule { name: result.name.clone(), ..rule.clone() };
        if self.args.verbose {
            result.trace = steps::trace(sources, set, &shown, &self.loading);
        }
        if self.args.var_values {
            result.values = steps::values(sources, set, &shown, &self.loading);
        }
    }
}

fn verdict(outcome: &Outcome, has_cases: bool, cases: &[CaseResult]) -> Verdict {
    let passed = match outcome {
        _ if has_cases => !cases.is_empty() && cases.iter().all(|case| case.passed),
        Outcome::Value(value) => *value == Value::Bool(true),
        Outcome::Undefined => false,
    };
    if passed { Verdict::Pass } else { Verdict::Fail }
}
