//! `claimgate token lint`: what is unwise about a token, or about what the issuer profiles let policy see, rule by rule,
//! with what to do instead. It verifies nothing and repeats no value of a claim; it never changes an answer of the gate.

mod report;

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};

use super::super::{Exit, output, run, settings, sources};
use crate::{
    reload::{self, Loaded},
    token::{self, LintLimits, Report, Rule, Severity},
};

const EXAMPLES: &str = "\
Examples:
  claimgate token lint - < token.txt

  # for CI: SARIF, and only errors fail
  claimgate token lint -f sarif --fail-on error - < token.txt > lint.sarif

  # kept claims that no rule reads
  claimgate token lint --policy -b rego -c claimgate.yaml

  # every rule, with the reason and what to do instead
  claimgate token lint --rules

Nothing is verified, and no claim's value is repeated.

Exit codes: 0 nothing was found that fails (`--fail-on`, warnings by default),
1 something was, or with --policy the policies do not load, 2 wrong usage or
configuration, or stdin cannot be read";

/// Arguments of `token lint`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LintArgs {
    /// Report as text, JSON or SARIF 2.1.0
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The least severity that makes the exit code 1
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Warning)]
    fail_on: FailOn,
    /// Rule to leave out; may be repeated
    #[arg(long, value_name = "RULE", value_parser = rule)]
    ignore: Vec<&'static Rule>,
    /// Bytes from which on a token is large
    #[arg(long, value_name = "BYTES", default_value_t = LintLimits::default().token_bytes, conflicts_with = "policy")]
    max_bytes: usize,
    /// Lifetime from which on a token lives long
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = sources::parse_timeout, conflicts_with = "policy")]
    max_lifetime: Duration,
    /// Look at the configuration and its policies: list kept claims that no rule reads
    #[arg(long)]
    policy: bool,
    /// List the rules
    #[arg(long, conflicts_with_all = ["policy", "token"])]
    rules: bool,
    #[command(flatten)]
    settings: settings::SettingsArgs,
    /// The token, or `-` for stdin
    #[arg(default_value = "-", conflicts_with_all = ["policy", "config", "bundles", "data", "allow_http_send", "set"])]
    token: String,
}

/// Shapes of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A paragraph for each finding
    Text,
    /// One object
    Json,
    /// SARIF 2.1.0
    Sarif,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Errors only
    Error,
    /// Errors and warnings
    Warning,
    /// Everything
    Note,
    /// Nothing
    Never,
}

pub(super) fn lint(args: &LintArgs) -> Result<ExitCode, String> {
    if args.rules {
        return Ok(output::finish(&match args.format {
            Format::Text => report::rules(),
            Format::Json => report::rules_json(),
            Format::Sarif => report::sarif(&Report::default(), None),
        }));
    }
    let mut report = if args.policy {
        match of_policy(args) {
            Ok(report) => report,
            Err(exit) => return Ok(exit.into()),
        }
    } else {
        let origin = args.settings.origin(Vec::new());
        if origin.file.is_some() || !origin.overrides.is_empty() {
            return Err(
                "a configuration says nothing about one token; give `--policy` too, or no configuration".to_owned()
            );
        }
        let raw = super::read_token(&args.token)?;
        token::lint(
            &raw,
            LintLimits { token_bytes: args.max_bytes, lifetime: args.max_lifetime, ..LintLimits::default() },
        )
    };
    report.findings.retain(|finding| !args.ignore.contains(&finding.rule));
    let file = args.settings.origin(Vec::new()).file;
    let text = match args.format {
        Format::Text => report::text(&report),
        Format::Json => report::json(&report),
        Format::Sarif => report::sarif(&report, file.as_deref()),
    };
    if let Err(error) = output::answer(&text) {
        output::complain(&format!("stdout cannot be written: {error}"));
        return Ok(Exit::Failed.into());
    }
    Ok(if args.fail_on.is_reached(report.worst()) { Exit::Failed } else { Exit::Done }.into())
}

/// Loads everything as `check` does.
fn of_policy(args: &LintArgs) -> Result<Report, Exit> {
    let settings = settings::load(&args.settings.origin(Vec::new())).map_err(|problems| {
        output::complain_of(&problems, "nothing was looked at");
        Exit::Usage
    })?;
    let loaded = reload::load_once(&settings.reload).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(run::line).collect();
        output::complain_of(&lines, "nothing was looked at");
        Exit::Failed
    })?;
    if loaded.profiles.is_empty() {
        output::complain("the configuration has no issuer, so no claim is kept; give one with --config");
        return Err(Exit::Usage);
    }
    Ok(token::lint_projection(&loaded.profiles, reads(&loaded).as_ref()))
}

/// The claims that rules read, and the one that finds the caller's live record. `None` when they cannot be told.
fn reads(loaded: &Loaded) -> Option<BTreeSet<&str>> {
    let named: Option<BTreeSet<&str>> =
        loaded.policies.claim_reads().iter().map(|read| read.claim.as_deref()).collect();
    named.map(|mut named| {
        named.extend(loaded.subject.as_ref().map(|subject| subject.key.as_str()));
        named
    })
}

fn rule(name: &str) -> Result<&'static Rule, String> {
    let found = Rule::ALL.iter().copied().find(|rule| rule.id == name);
    found.ok_or_else(|| "no such rule; `token lint --rules` lists them".to_owned())
}

// === impl FailOn ===

impl FailOn {
    fn is_reached(self, worst: Option<Severity>) -> bool {
        let least = match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Note => Severity::Note,
            Self::Never => return false,
        };
        worst.is_some_and(|worst| worst >= least)
    }
}
