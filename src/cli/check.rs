//! `claimgate check`: loads configuration, policies, data and local keys exactly as `run` would, and reports every
//! problem; with paths, checks what stands there as `opa check` does. Nothing listens, and nothing is fetched.

use std::{fmt::Write as _, process::ExitCode};

use clap::{Args, ValueEnum};

use super::{
    Exit, output, run, settings,
    sources::{self, Ignore, Loading},
};
use crate::{
    policy,
    reload::{self, Loaded},
};

const EXAMPLES: &str = "\
Examples:
  claimgate check -c claimgate.yaml

  # policies and data only
  claimgate check -b ./rego -d ./data --set opa.identity=passthrough

  # policies as `opa check` does, for an editor or CI
  claimgate check rego
  claimgate check --as-bundle -f json ./bundle.tar.gz

Each problem is one line, `file:line:column: what is wrong`. What only OPA's
strict mode refuses is a warning, with --strict a problem. Keys that come from
a URL are not fetched. With PATHs, the output is that of `opa check`.

Exit codes: 0 all is right, 1 a policy, data or key file is wrong, 2 wrong
usage or configuration";

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// Policy files or directories to check by themselves, without a configuration
    #[arg(value_name = "PATH", conflicts_with_all = ["config", "bundles", "data", "allow_http_send", "set"])]
    paths: Vec<String>,
    /// The paths are bundles: directories or `.tar.gz`
    #[arg(long, requires = "paths")]
    as_bundle: bool,
    /// Report as text or as JSON
    #[arg(short, long, value_enum, requires = "paths", default_value_t = Format::Pretty)]
    format: Format,
    /// Take files of which nothing says it for Rego v0
    #[arg(long, requires = "paths")]
    v0_compatible: bool,
    /// Names of files and directories not to load, with `*` and `?`; may be repeated
    #[arg(long, requires = "paths", value_name = "PATTERN", value_delimiter = ',')]
    ignore: Vec<String>,
    #[command(flatten)]
    settings: settings::SettingsArgs,
    /// Refuse what OPA's strict mode refuses: unused imports, variables and arguments, old builtins
    #[arg(short = 'S', long)]
    strict: bool,
    /// Most policy errors to tell; 0 for all
    #[arg(short, long, value_name = "COUNT", default_value_t = 10)]
    max_errors: usize,
}

/// Shapes of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text
    Pretty,
    /// OPA's JSON object
    Json,
}

pub(super) fn run(args: &CheckArgs) -> ExitCode {
    if args.paths.is_empty() { configuration(args) } else { files(args) }
}

/// As `opa check`: nothing is said where nothing is wrong, and problems go to stderr.
fn files(args: &CheckArgs) -> ExitCode {
    let ignore = match Ignore::new(&args.ignore) {
        Ok(ignore) => ignore,
        Err(message) => {
            output::complain(&message);
            return Exit::Usage.into();
        }
    };
    let (bundles, data): (&[String], &[String]) = if args.as_bundle { (&args.paths, &[]) } else { (&[], &args.paths) };
    let loaded = sources::read(bundles, data, &ignore).and_then(|mut sources| {
        if !args.as_bundle {
            // Data beside the policies is not checked.
            for source in &mut sources {
                source.files.retain(|file| file.path.ends_with(".rego"));
            }
        }
        // Nothing is evaluated.
        let mut loading = Loading::new(sources::UNLIMITED, &[], args.v0_compatible);
        (loading.is_strict, loading.max_errors) = (args.strict, args.max_errors);
        loading.load(sources)
    });
    let Err(complaints) = loaded else { return Exit::Done.into() };
    let during = sources::during(&complaints);
    output::note(
        match args.format {
            Format::Pretty => sources::errors_text(&complaints, during),
            Format::Json => sources::errors_json(&complaints),
        }
        .trim_end(),
    );
    Exit::Failed.into()
}

fn configuration(args: &CheckArgs) -> ExitCode {
    let found = settings::examine(&args.settings.origin(Vec::new()));
    let settings = match found.settings {
        Some(mut settings) if found.problems.is_empty() => {
            args.apply(&mut settings.reload.policy);
            settings
        }
        unusable => {
            let mut lines: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
            let policies = unusable.map(|mut settings| {
                args.apply(&mut settings.reload.policy);
                policy_problems(settings.reload)
            });
            lines.extend(policies.unwrap_or_default());
            output::complain_of(&lines, "`run` would not start");
            return Exit::Usage.into();
        }
    };
    match reload::load_once(&settings.reload) {
        Ok(loaded) => output::finish(&summary(&loaded, &settings.reload)),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(run::line).collect();
            output::complain_of(&lines, "`run` would not start");
            Exit::Failed.into()
        }
    }
}

impl CheckArgs {
    fn apply(&self, policy: &mut policy::Settings) {
        policy.is_strict |= self.strict;
        policy.max_errors = self.max_errors;
    }
}

/// What is wrong with policies and data, where the configuration is wrong too. Issuers are left out, because a half-read
/// one would be blamed for what it lacks; so are paths that do not exist, which the configuration was blamed for.
fn policy_problems(mut settings: reload::Settings) -> Vec<String> {
    settings.profiles.clear();
    let (bundles, data) = (settings.bundles.len(), settings.data.len());
    settings.bundles.retain(|bundle| bundle.path.exists());
    settings.data.retain(|data| data.path.exists());
    if (bundles, data) != (settings.bundles.len(), settings.data.len()) {
        // What is missing might define it.
        settings.entrypoint = None;
    }
    reload::load_once(&settings).err().unwrap_or_default().iter().map(run::line).collect()
}

fn summary(loaded: &Loaded, settings: &reload::Settings) -> String {
    let mut text = format!(
        "ok: {}, {}, entrypoint {}\n",
        counted(loaded.policies.modules().len(), "policy module"),
        counted(loaded.profiles.iter().count(), "issuer"),
        loaded.entrypoint.as_ref().map_or_else(|| "none".to_owned(), |entrypoint| entrypoint.path().to_string()),
    );
    for warning in loaded.policies.warnings() {
        let place = warning.location.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
        let _ = writeln!(text, "warning: {place}{}", warning.in_one_line());
    }
    for (issuer, keys) in &loaded.local_keys {
        for dropped in keys.dropped() {
            let name = dropped.kid.as_deref().unwrap_or("without `kid`");
            let _ = writeln!(text, "note: {issuer}: key {name} is not used: {}", dropped.reason);
        }
    }
    for (profile, _) in settings.profiles.iter().filter(|(_, source)| source.is_remote()) {
        let _ = writeln!(
            text,
            "note: {}: its keys are fetched when `run` starts, and were not looked at",
            profile.issuer()
        );
    }
    text
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
