//! The question of `eval` and `bench`: the query, the input, and the policies and data that are asked. It reads them and
//! evaluates nothing.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::sources::{self, Complaint, Ignore};
use crate::{
    policy::{Source, Value, parse_json, parse_yaml},
    reload::describe_io,
};

/// Largest input and query.
const MAX_INPUT_BYTES: u64 = 256 << 20;

/// Arguments that say what is asked of what.
#[derive(Debug, Args)]
pub(super) struct QuestionArgs {
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
    /// Take files of which nothing says it for Rego v0
    #[arg(long)]
    pub(super) v0_compatible: bool,
    /// Names of files and directories not to load, with `*` and `?`; may be repeated
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    ignore: Vec<String>,
}

/// A query with its input. Policies and data are read when they are needed, so that reading them can be timed.
pub(super) struct Question {
    pub(super) query: String,
    pub(super) input: Option<Value>,
    ignore: Ignore,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// What surrounds the query is wrong.
    Arguments(String),
    /// Policies, data or the query are, or their evaluation failed.
    Rego(Vec<Complaint>),
}

// === impl QuestionArgs ===

impl QuestionArgs {
    /// The query and the input.
    pub(super) fn read(&self) -> Result<Question, Failure> {
        let ignore = Ignore::new(&self.ignore).map_err(Failure::Arguments)?;
        let input = input(self.input.as_deref(), self.stdin_input).map_err(Failure::Arguments)?;
        let query = match &self.query {
            Some(query) => query.clone(),
            None => text(io::stdin(), "stdin").map_err(Failure::Arguments)?,
        };
        if query.trim().is_empty() {
            return Err(Failure::Rego(vec![Complaint::plain("cannot evaluate empty query")]));
        }
        Ok(Question { query, input, ignore })
    }

    /// The policies and data.
    pub(super) fn sources(&self, question: &Question) -> Result<Vec<Source>, Failure> {
        sources::read(&self.bundles, &self.data, &question.ignore).map_err(Failure::Rego)
    }
}

/// The input document of a file, or of stdin.
fn input(file: Option<&Path>, stdin: bool) -> Result<Option<Value>, String> {
    let (text, name) = match file {
        None if stdin => (text(io::stdin(), "stdin")?, "stdin".to_owned()),
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

/// All of a source, which must be text.
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
