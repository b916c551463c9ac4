//! The command line: verbs, their arguments and exit codes. Everything that does the work stands in the modules below;
//! a verb puts them together. Nothing else in the crate prints or chooses an exit code.
//!
//! ```text
//! run, demo, story     serve until SIGTERM; what the demo prints
//! check, healthcheck   say whether something is right
//! version, completion  say what this is
//! eval, test, bench    ask policies something, run their tests and time them, as OPA's verbs do
//! token                verify, inspect and make tokens
//! settings, sources    arguments that make a configuration; what `eval` and `test` evaluate
//! coverage             what of policies was evaluated, as text and JSON
//! output               stdout and stderr
//! ```

mod bench;
mod check;
mod completion;
mod coverage;
mod demo;
mod eval;
mod healthcheck;
mod output;
mod question;
mod run;
mod settings;
mod sources;
mod story;
mod test;
mod token;
mod version;

use std::{process::ExitCode, thread};

use clap::{Parser, Subcommand};

use crate::policy;

/// Rego is evaluated, and policies are compiled, by recursion: every thread that does so gets a stack of this size,
/// whatever the platform's default is.
const STACK_BYTES: usize = 8 << 20;

const OVERVIEW: &str = "\
Examples:
  claimgate demo                      the whole gate, with requests to paste
  claimgate check -c claimgate.yaml   everything that would stop `run`
  claimgate run -c claimgate.yaml     serve

Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage or configuration";

/// An authorization sidecar: verifies JWTs and decides in Rego over live data.
#[derive(Debug, Parser)]
#[command(name = "claimgate", version, after_help = OVERVIEW, disable_help_subcommand = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve decisions until SIGTERM or SIGINT; SIGHUP forces a reload
    Run(run::RunArgs),
    /// Try the whole gate with example policies, data and tokens; needs no files
    Demo(demo::DemoArgs),
    /// Load everything as `run` would and report every problem; nothing is served
    Check(check::CheckArgs),
    /// Evaluate one query against policies, data and an input, as `opa eval` does
    Eval(eval::EvalArgs),
    /// Run the `test_` rules of policies, as `opa test` does
    Test(test::TestArgs),
    /// Measure how long a query takes, as `opa bench` does
    Bench(bench::BenchArgs),
    /// Verify, inspect and make tokens
    Token(token::TokenArgs),
    /// Ask a running claimgate whether it is ready, for exec probes
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Print the versions of claimgate and of its Rego engine
    Version(version::VersionArgs),
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
}

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Done.
    Done,
    /// What was asked for failed: a check found problems, a port is taken.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
}

/// The program. `main` has nothing else to do.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and they are no errors. A closed pipe is nobody's fault.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    policy::install_panic_hook();
    // The main thread's stack is the system's choice.
    let verb = thread::Builder::new().name("claimgate".to_owned()).stack_size(STACK_BYTES).spawn(|| cli.verb.run());
    match verb.map(thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // The panic hook has reported it.
        Ok(Err(_)) => Exit::Failed.into(),
        Err(error) => {
            output::complain(&format!("no thread can be started: {error}"));
            Exit::Failed.into()
        }
    }
}

impl Verb {
    fn run(self) -> ExitCode {
        match self {
            Self::Run(args) => run::run(&args),
            Self::Demo(args) => demo::run(&args),
            Self::Check(args) => check::run(&args),
            Self::Eval(args) => eval::run(&args),
            Self::Test(args) => test::run(&args),
            Self::Bench(args) => bench::run(&args),
            Self::Token(args) => token::run(&args),
            Self::Healthcheck(args) => healthcheck::run(&args),
            Self::Version(args) => version::run(&args),
            Self::Completion(args) => completion::run(&args),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}
