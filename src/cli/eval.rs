//! `claimgate eval`: one query against policies, data and an input, answered as `opa eval` answers. Nothing is served,
//! and no token is verified: the input is what was given.

mod format;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{
    Exit, output,
    sources::{self, Complaint, Ignore, Loading},
};
use crate::{
    outbound::Host,
    policy::{EvalOptions, QueryResult, Value, parse_json, parse_yaml},
    reload::describe_io,
};

/// Largest input and query.
const MAX_INPUT_BYTES: u64 = 256 << 20;

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
    /// The query: `data.authz.allow`, or anything that can stand in the body of a rule
    #[arg(required_unless_present = "stdin")]
    query: Option<String>,
    /// Bundle: a directory or a `.tar.gz`; may be repeated
    #[arg(short, long = "bundle", value_name = "PATH")]
    bundles: Vec<String>,
    /// Policy and data files; `a.b:PATH` mounts data at `data.a.b`; may be repeated
    #[arg(short, long, value_name = "PATH")]
    data: Vec<String>,
    /// Input document, JSON or YAML
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Read the input document from stdin
    #[arg(short = 'I', long, conflicts_with_all = ["input", "stdin"])]
    stdin_input: bool,
    /// Read the query from stdin
    #[arg(long, conflicts_with = "query")]
    stdin: bool,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Let the first error of a builtin end the evaluation
    #[arg(long)]
    strict_builtin_errors: bool,
    /// Exit with 1 when the query is undefined
    #[arg(long)]
    fail: bool,
    /// Exit with 1 when the query is defined
    #[arg(long, conflicts_with = "fail")]
    fail_defined: bool,
    /// Longest time the evaluation may take, such as `500ms` or `5s`; 0 for no limit
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = sources::parse_timeout)]
    timeout: Duration,
    /// Host that `http.send` may ask: `api.example.com` or `10.0.0.7:8443`; without one, it may be mocked by `with` but
    /// not called; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_http_send: Vec<Host>,
    /// Take files of which nothing says it for Rego v0
    #[arg(long)]
    v0_compatible: bool,
    /// Names of files and directories not to load, with `*` and `?`; may be repeated
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    ignore: Vec<String>,
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
}

pub(super) fn run(args: &EvalArgs) -> ExitCode {
    match evaluate(args) {
        Ok(result) => {
            for line in &result.prints {
                output::note(line);
            }
            let failed = if result.rows.is_empty() { args.fail } else { args.fail_defined };
            match output::answer(&args.format.render(&result)) {
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
            if args.format == Format::Json {
                // OPA's clients read errors off stdout.
                let _ = output::finish(&sources::errors_json(&complaints));
            } else {
                output::note(sources::errors_text(&complaints, "").trim_end());
            }
            Exit::Usage.into()
        }
    }
}

/// Why there is no answer.
enum Failure {
    /// What surrounds the query is wrong.
    Arguments(String),
    /// Policies, data or the query are, or their evaluation failed.
    Rego(Vec<Complaint>),
}

fn evaluate(args: &EvalArgs) -> Result<QueryResult, Failure> {
    let ignore = Ignore::new(&args.ignore).map_err(Failure::Arguments)?;
    let input = input(args).map_err(Failure::Arguments)?;
    let query = match &args.query {
        Some(query) => query.clone(),
        None => text(io::stdin(), "stdin").map_err(Failure::Arguments)?,
    };
    if query.trim().is_empty() {
        return Err(Failure::Rego(vec![Complaint::plain("cannot evaluate empty query")]));
    }
    let sources = sources::read(&args.bundles, &args.data, &ignore).map_err(Failure::Rego)?;
    let loading = Loading::new(args.timeout, &args.allow_http_send, args.v0_compatible);
    let set = loading.load(sources).map_err(Failure::Rego)?;
    let options = EvalOptions { strict_builtin_errors: args.strict_builtin_errors, ..EvalOptions::default() };
    // OPA leaves trailing white space out of the text of an expression.
    set.query(query.trim_end(), input, &options).map_err(|error| Failure::Rego(vec![Complaint::from(&error)]))
}

fn input(args: &EvalArgs) -> Result<Option<Value>, String> {
    let (text, name) = match &args.input {
        None if args.stdin_input => (text(io::stdin(), "stdin")?, "stdin".to_owned()),
        None => return Ok(None),
        Some(path) => (read_file(path)?, path.display().to_string()),
    };
    // YAML that is meant as JSON is told apart by whether it is JSON: the exact numbers of JSON must not go through YAML.
    match parse_json(&text) {
        Ok(value) => Ok(Some(value)),
        Err(json) => parse_yaml(&text).map(Some).map_err(|yaml| {
            let error = if text.trim_start().starts_with(['{', '[', '"']) { json } else { yaml };
            format!("unable to parse input: {name}:{}:{}: {}", error.row, error.col, error.message)
        }),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| format!("cannot read `{name}`: {}", describe_io(&error)))?;
    text(file, &format!("`{name}`"))
}

fn text(source: impl io::Read, name: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    source
        .take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read {name}: {}", describe_io(&error)))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_INPUT_BYTES) {
        return Err(format!("{name} has more than {MAX_INPUT_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| format!("{name} is not UTF-8 text: {error}"))
}
