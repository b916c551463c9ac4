//! The arguments that make a configuration: the file, the sources and `--set`. They say the same things to `run` and to
//! `check`; what they mean is [`config`]'s business.

use std::{env, path::PathBuf};

use clap::Args;

use crate::config::{self, Findings, Origin, Override, Problem, Settings};

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SettingsArgs {
    /// Configuration file (YAML or JSON)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bundle to load besides those of the file: a directory or a `.tar.gz`; may be repeated
    #[arg(short, long = "bundle", value_name = "PATH")]
    bundles: Vec<String>,
    /// Policy and data files to load besides those of the file; `a.b:PATH` mounts data at `data.a.b`; may be repeated
    #[arg(short, long, value_name = "PATH")]
    data: Vec<String>,
    /// Host that policies may ask with `http.send`, besides those of the file: `api.example.com` or
    /// `10.0.0.7:8443`; may be repeated
    #[arg(long, value_name = "HOST")]
    allow_http_send: Vec<String>,
    /// Override any key of the configuration: `limits.body_bytes=2MiB`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    /// The configuration's origin; `flags` are those of the verb itself and win over `--set`.
    pub(super) fn origin(&self, flags: Vec<Override>) -> Origin {
        let append = |flag: &str, key, value: &String| Override::Append {
            shown: format!("{flag} {value}"),
            key,
            value: literal(value),
        };
        let mut overrides: Vec<Override> =
            self.bundles.iter().map(|bundle| append("--bundle", "policy.bundles", bundle)).collect();
        overrides.extend(self.data.iter().map(|data| append("--data", "policy.data", data)));
        let hosts = self.allow_http_send.iter();
        overrides.extend(hosts.map(|host| append("--allow-http-send", "policy.http_send.allow", host)));
        overrides.extend(self.set.iter().cloned().map(Override::Set));
        overrides.extend(flags);
        Origin { file: self.config.clone(), overrides }
    }
}

/// A flag that stands for a key.
pub(super) fn flag(flag: &str, key: &'static str, value: &str) -> Override {
    Override::Flag { shown: format!("{flag} {value}"), key, value: literal(value) }
}

/// Reads the configuration with the process's environment.
pub(super) fn load(origin: &Origin) -> Result<Settings, Vec<Problem>> {
    config::load(origin, &variable)
}

/// The same, for who looks on after a problem.
pub(super) fn examine(origin: &Origin) -> Findings {
    config::examine(origin, &variable)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// A shell has expanded its variables already: what arrives in a flag is meant as it stands.
fn literal(value: &str) -> String {
    value.replace('$', "$$")
}
