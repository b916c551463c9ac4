//! `claimgate eval`: one query against policies, data and an input, answered as `opa eval` answers. Nothing is served,
//! and no token is verified: the input is what was given.

mod format;
mod scope;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};

use super::{
    Exit, output,
    question::{Failure, QuestionArgs},
    sources::{self, Complaint, Loading},
};
use crate::{
    outbound::Host,
    policy::{Coverage, CoverageReport, EvalOptions, QueryResult},
};

const EXAMPLES: &str = "\
Examples:
  claimgate eval -b ./rego -i input.json 'data.authz.allow'

  # with data, as a script wants it
  claimgate eval -b ./rego -d data.json -f raw 'data.authz.reason'

  # input from a pipe; exit code 1 unless the rule is defined
  echo '{\"user\":\"ann\"}' | claimgate eval -b ./rego -I --fail 'data.authz.allow'

Exit codes: 0 done, 1 asked for by --fail or --fail-defined, 2 an error in the
policies, the input, the query or its evaluation";

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct EvalArgs {
    #[command(flatten)]
    question: QuestionArgs,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Let the first error of a builtin end the evaluation
    #[arg(long)]
    strict_builtin_errors: bool,
    /// Refuse what OPA's strict mode refuses: unused imports, variables and arguments, old builtins
    #[arg(short = 'S', long)]
    strict: bool,
    /// Exit with 1 when the query is undefined
    #[arg(long)]
    fail: bool,
    /// Exit with 1 when the query is defined
    #[arg(long, conflicts_with = "fail")]
    fail_defined: bool,
    /// Package in which the query stands: it names the rules of that package without a path
    #[arg(long, value_name = "PACKAGE", value_parser = scope::package)]
    package: Option<scope::Package>,
    /// Import for the query, such as `data.lib` or `input.user as user`; may be repeated
    #[arg(long = "import", value_name = "IMPORT", value_parser = scope::import)]
    imports: Vec<scope::Import>,
    /// Report how long the steps took
    #[arg(long)]
    metrics: bool,
    /// Report which statements of the policies were evaluated
    #[arg(long)]
    coverage: bool,
    /// Longest time the evaluation may take, such as `500ms` or `5s`; 0 for no limit
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = sources::parse_timeout)]
    timeout: Duration,
    /// Host that `http.send` may ask: `api.example.com` or `10.0.0.7:8443`; without one, it may be mocked by `with` but
    /// not called; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_http_send: Vec<Host>,
    #[command(flatten)]
    refused: Refused,
}

/// Flags of `opa eval` for what is not here: to be told apart from mistakes.
#[derive(Debug, Args)]
struct Refused {
    #[arg(short, long, hide = true)]
    partial: bool,
    #[arg(short, long, hide = true, value_name = "PATH")]
    unknowns: Vec<String>,
    #[arg(short, long, hide = true, value_name = "PATH")]
    schema: Option<String>,
    #[arg(long, hide = true, value_name = "MODE")]
    explain: Option<String>,
    #[arg(long, hide = true)]
    profile: bool,
    #[arg(short = 'O', long, hide = true, value_name = "LEVEL")]
    optimize: Option<String>,
    #[arg(short, long, hide = true, value_name = "TARGET")]
    target: Option<String>,
}

// === impl Refused ===

impl Refused {
    /// Why it cannot be done.
    fn reason(&self) -> Option<&'static str> {
        [
            (
                self.partial || !self.unknowns.is_empty(),
                "a query is evaluated as a whole; for partial evaluation use OPA",
            ),
            (self.schema.is_some(), "schemas are not read; `opa check --schema` holds policies against them"),
            (
                self.explain.is_some(),
                "the engine keeps no trace; `print` shows values, and `test -v` where a test fails",
            ),
            (
                self.profile,
                "single expressions are not timed; `bench` times a query, and `opa eval --profile` its parts",
            ),
            (self.optimize.as_deref().is_some_and(|level| level != "0"), "policies run as they are written"),
            (self.target.as_deref().is_some_and(|target| target != "rego"), "policies are not compiled to WebAssembly"),
        ]
        .into_iter()
        .find_map(|(asked, reason)| asked.then_some(reason))
    }
}

/// Shapes of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// OPA's result set, or its errors
    Json,
    /// The value, or a table of values and variables
    Pretty,
    /// Values, strings without quotes, a line for each way to satisfy the query
    Raw,
    /// The values of the expressions, as an array for each way to satisfy the query
    Values,
    /// The query's variables, as an object for each way to satisfy the query
    Bindings,
    /// Only whether there is a result
    Discard,
}

/// What is answered.
struct Answer {
    result: QueryResult,
    /// Nanoseconds, under OPA's names.
    metrics: Vec<(&'static str, u128)>,
    coverage: Option<CoverageReport>,
}

pub(super) fn run(args: &EvalArgs) -> ExitCode {
    match evaluate(args) {
        Ok(answer) => {
            for line in &answer.result.prints {
                output::note(line);
            }
            let failed = if answer.result.rows.is_empty() { args.fail } else { args.fail_defined };
            match output::answer(&args.format.render(&answer)) {
                Ok(()) if failed => Exit::Failed.into(),
                Ok(()) => Exit::Done.into(),
                Err(error) => {
                    output::complain(&format!("stdout cannot be written: {error}"));
                    Exit::Usage.into()
                }
            }
        }
        Err(Failure::Arguments(message)) => {
            output::complain(&message);
            Exit::Usage.into()
        }
        Err(Failure::Rego(complaints)) => {
            if matches!(args.format, Format::Json | Format::Discard) {
                // OPA's clients read errors off stdout.
                let _ = output::finish(&sources::errors_json(&complaints));
            } else {
                output::note(sources::errors_text(&complaints, "").trim_end());
            }
            Exit::Usage.into()
        }
    }
}

fn evaluate(args: &EvalArgs) -> Result<Answer, Failure> {
    if let Some(reason) = args.refused.reason() {
        return Err(Failure::Arguments(reason.to_owned()));
    }
    let question = args.question.read()?;
    let begun = Instant::now();
    let sources = args.question.sources(&question)?;
    let read = begun.elapsed();
    let mut loading = Loading::new(args.timeout, &args.allow_http_send, args.question.v0_compatible);
    loading.is_strict = args.strict;
    let load = |sources| if args.coverage { loading.load_for_coverage(sources) } else { loading.load(sources) };
    let begun = Instant::now();
    let set = load(sources).map_err(Failure::Rego)?;
    let compiled = begun.elapsed();
    let options = EvalOptions {
        strict_builtin_errors: args.strict_builtin_errors,
        scope: scope::of(args.package.as_ref(), &args.imports),
        ..EvalOptions::default()
    };
    let mut coverage = Coverage::new(&set);
    let begun = Instant::now();
    // OPA leaves trailing white space out of the text of an expression.
    let ask = || set.query(question.query.trim_end(), question.input.clone(), &options);
    let result = match &mut coverage {
        Some(coverage) => coverage.record(ask),
        None => ask(),
    };
    let result = result.map_err(|error| {
        let error = set.with_conflicting_values(error, question.input.as_ref(), &options);
        Failure::Rego(vec![Complaint::from(&error)])
    })?;
    let metrics = [
        ("timer_rego_load_files_ns", read),
        ("timer_rego_module_compile_ns", compiled),
        ("timer_rego_query_eval_ns", begun.elapsed()),
    ];
    let metrics = metrics.into_iter().filter(|_| args.metrics).map(|(name, time)| (name, time.as_nanos()));
    Ok(Answer { result, metrics: metrics.collect(), coverage: coverage.map(|coverage| coverage.report()) })
}
