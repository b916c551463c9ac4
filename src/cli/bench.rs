//! `claimgate bench`: how long one query takes, many times over, reported as `opa bench` reports it. Allocations are not
//! counted: no allocator that counts can be had without unsafe code.

mod report;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{ArgAction, Args, ValueEnum};

use self::report::Run;
use super::{
    Exit, output,
    question::{Failure, QuestionArgs},
    sources::{self, Complaint, Loading},
};
use crate::policy::{DataPath, EvalOptions, Outcome, PolicySet, Value};

/// Runs before the first that counts.
const WARM_UP: u32 = 10;
/// Most runs that are kept apart.
const MOST_SAMPLES: usize = 2_000_000;

const EXAMPLES: &str = "\
Examples:
  claimgate bench -b ./rego -i input.json data.authz.allow

  # for benchstat, beside `opa bench -f gobench`
  claimgate bench -b ./rego -i input.json -f gobench --count 5 data.authz.allow

A query that is one reference, such as `data.authz.allow`, is timed as a
decision of the running gate is: policies and data stand ready. Any other query
is read and compiled each time. Tokens, doors and logs are not part of it.

Exit codes: 0 done, 1 the query is undefined or fails, 2 wrong usage";

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    question: QuestionArgs,
    /// Report as text, as JSON or in the Go Benchmark Data Format
    #[arg(short, long, value_enum, default_value_t = Format::Pretty)]
    format: Format,
    /// Measure so many times
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u32,
    /// How long each measurement goes on
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = sources::parse_duration)]
    duration: Duration,
    /// Report percentiles
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    metrics: bool,
    /// Exit with 1 when the query is undefined
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    fail: bool,
}

/// Shapes of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Pretty,
    /// OPA's JSON object
    Json,
    /// A line for benchstat
    Gobench,
}

pub(super) fn run(args: &BenchArgs) -> ExitCode {
    let (set, query, input) = match prepare(args) {
        Ok(prepared) => prepared,
        Err(Failure::Arguments(message)) => {
            output::complain(&message);
            return Exit::Usage.into();
        }
        Err(Failure::Rego(complaints)) => return failed(&complaints, args.format),
    };
    let question = Question::new(&set, &query, input);
    for _ in 0..args.count {
        let run = match measure(&question, args.duration, args.fail) {
            Ok(run) => run,
            Err(complaint) => return failed(&[complaint], args.format),
        };
        let text = match args.format {
            Format::Pretty => run.table(args.metrics),
            Format::Json => run.json(args.metrics),
            Format::Gobench => run.line(args.metrics),
        };
        if let Err(error) = output::answer(&text) {
            output::complain(&format!("stdout cannot be written: {error}"));
            return Exit::Failed.into();
        }
    }
    Exit::Done.into()
}

fn prepare(args: &BenchArgs) -> Result<(PolicySet, String, Option<Value>), Failure> {
    let question = args.question.read()?;
    let sources = args.question.sources(&question)?;
    let loading = Loading::new(sources::UNLIMITED, &[], args.question.v0_compatible);
    let set = loading.load(sources).map_err(Failure::Rego)?;
    Ok((set, question.query.trim().to_owned(), question.input))
}

fn failed(complaints: &[Complaint], format: Format) -> ExitCode {
    match format {
        // As `opa bench`: errors stand where the result would.
        Format::Json => {
            let _ = output::answer(&sources::errors_json(complaints));
        }
        _ => output::note(sources::errors_text(complaints, "").trim_end()),
    }
    Exit::Failed.into()
}

/// What is asked over and over.
struct Question<'s> {
    set: &'s PolicySet,
    query: &'s str,
    /// Where the query is one reference to a rule.
    path: Option<DataPath>,
    input: Option<Value>,
}

// === impl Question ===

impl<'s> Question<'s> {
    fn new(set: &'s PolicySet, query: &'s str, input: Option<Value>) -> Self {
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let path = query.strip_prefix("data.").map(|rest| rest.split('.').collect::<Vec<_>>());
        let path = path.filter(|names| names.iter().all(is_name));
        let path = path.map(|names| DataPath::new(names.into_iter().map(str::to_owned).collect()));
        Self { set, query, path: path.filter(|path| set.entrypoint(path).is_ok()), input }
    }

    /// Evaluates once: is it defined?
    fn ask(&self) -> Result<bool, Complaint> {
        let options = EvalOptions::default();
        let input = self.input.clone();
        let defined = match &self.path {
            Some(path) => self.set.evaluate(path, input, &options).map(|outcome| outcome != Outcome::Undefined),
            None => self.set.query(self.query, input, &options).map(|result| !result.rows.is_empty()),
        };
        defined.map_err(|error| Complaint::from(&error))
    }
}

fn measure(question: &Question<'_>, duration: Duration, fail: bool) -> Result<Run, Complaint> {
    for _ in 0..WARM_UP {
        if !question.ask()? && fail {
            return Err(Complaint::plain("undefined result"));
        }
    }
    let mut samples = Vec::new();
    let started = Instant::now();
    loop {
        let begun = Instant::now();
        question.ask()?;
        samples.push(begun.elapsed());
        if started.elapsed() >= duration || samples.len() >= MOST_SAMPLES {
            return Ok(Run::new(started.elapsed(), samples));
        }
    }
}
