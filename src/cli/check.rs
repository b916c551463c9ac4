//! `claimgate check`: loads configuration, policies, data and local keys exactly as `run` would, and reports every
//! problem. Nothing listens, and nothing is fetched.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;

use super::{Exit, output, run, settings};
use crate::{
    policy,
    reload::{self, Loaded},
};

const EXAMPLES: &str = "\
Examples:
  claimgate check -c claimgate.yaml

  # policies and data only
  claimgate check -b ./rego -d ./data --set opa.identity=passthrough

Each problem is one line, `file:line:column: what is wrong`. What only OPA's
strict mode refuses is a warning, with --strict a problem. Keys that come from
a URL are not fetched.

Exit codes: 0 all is right, 1 a policy, data or key file is wrong, 2 wrong
usage or configuration";

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: settings::SettingsArgs,
    /// Refuse what OPA's strict mode refuses: unused imports, variables and arguments, old builtins
    #[arg(short = 'S', long)]
    strict: bool,
    /// Most policy errors to tell; 0 for all
    #[arg(short, long, value_name = "COUNT", default_value_t = 10)]
    max_errors: usize,
}

pub(super) fn run(args: &CheckArgs) -> ExitCode {
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
