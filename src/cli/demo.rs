//! `claimgate demo`: the whole gate with nothing but this binary. It writes the example policies, data and a
//! configuration into a fresh directory, makes an issuer's key, and then is `run`; once everything listens it prints
//! requests to paste.
//!
//! The issuer lives as long as the process: its key is in memory only, and nothing outside the demo trusts it.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{Exit, output, run, settings, story};
use crate::{
    config::{DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN, Origin},
    token::{KeySetError, SigningKey},
};

const EXAMPLES: &str = "\
Examples:
  claimgate demo
  claimgate demo --listen 127.0.0.1:9181 --admin-listen 127.0.0.1:9282

In a checkout of claimgate the demo serves the rego/ and data/ of the checkout,
elsewhere copies in a temporary directory. It prints where they are: change
them, and the next request sees it.

Exit codes: 0 ended by a signal, 1 an address is taken, 2 wrong usage";

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DemoArgs {
    /// Where to serve decisions
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    listen: String,
    /// Where to serve health, metrics, status and the demo issuer's keys
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_ADMIN_LISTEN)]
    admin_listen: String,
}

/// What the demo serves, relative to the repository; a test compares the list with the directories.
const SHIPPED: [(&str, &str); 9] = [
    ("rego/authz/account.rego", include_str!("../../rego/authz/account.rego")),
    ("rego/authz/decision.rego", include_str!("../../rego/authz/decision.rego")),
    ("rego/authz/decision_test.rego", include_str!("../../rego/authz/decision_test.rego")),
    ("rego/authz/folders.rego", include_str!("../../rego/authz/folders.rego")),
    ("rego/authz/question.rego", include_str!("../../rego/authz/question.rego")),
    ("data/folders.json", include_str!("../../data/folders.json")),
    ("data/limits.json", include_str!("../../data/limits.json")),
    ("data/roles.json", include_str!("../../data/roles.json")),
    ("data/users.json", include_str!("../../data/users.json")),
];

/// Where everything is.
#[derive(Debug)]
pub(super) struct Stage {
    /// The fresh directory: configuration, key set, decision log.
    pub(super) directory: PathBuf,
    /// Policies.
    pub(super) rego: PathBuf,
    /// Data.
    pub(super) data: PathBuf,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("`{}` cannot be written: {source}; `TMPDIR` chooses another place", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("no signing key can be made: {0}")]
    Key(#[from] KeySetError),
}

pub(super) fn run(args: &DemoArgs) -> ExitCode {
    let (stage, key) = match prepare() {
        Ok(prepared) => prepared,
        Err(failure) => {
            output::complain(&failure.to_string());
            return Exit::Failed.into();
        }
    };
    let flags = vec![
        settings::flag("--listen", "listen", &args.listen),
        settings::flag("--admin-listen", "admin.listen", &args.admin_listen),
    ];
    let origin = Origin { file: Some(stage.config()), overrides: flags };
    let mut settings = match settings::load(&origin) {
        Ok(settings) => settings,
        Err(problems) => {
            output::complain_of(&problems, "nothing was started");
            let _ = fs::remove_dir_all(&stage.directory);
            return Exit::Usage.into();
        }
    };
    settings.serve.published_jwks = key.public_jwks().ok();
    let mut has_served = false;
    let code = run::serve(settings, run::reconfigure(origin), |ready| {
        has_served = true;
        match story::tell(&stage, &key, ready) {
            // Whoever closed the pipe does not want to read it.
            Ok(text) => drop(output::answer(&text)),
            Err(error) => output::complain(&format!("the demo's tokens cannot be made: {error}")),
        }
    });
    if !has_served {
        // Nobody was told of it. What was served stays: somebody may have edited it.
        let _ = fs::remove_dir_all(&stage.directory);
    }
    code
}

fn prepare() -> Result<(Stage, SigningKey), Failure> {
    let key = SigningKey::generate_es256("demo")?;
    let directory = env::temp_dir().join(format!("claimgate-demo-{}", uuid::Uuid::new_v4().simple()));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&directory)
        .map_err(|source| Failure::Write { path: directory.clone(), source })?;
    let home = match repository() {
        Some(repository) => repository,
        None => {
            for (path, content) in SHIPPED {
                write(&directory.join(path), content)?;
            }
            directory.clone()
        }
    };
    let stage = Stage { rego: home.join("rego"), data: home.join("data"), directory };
    write(&stage.directory.join("jwks.json"), &key.public_jwks()?)?;
    write(&stage.config(), &configuration(&stage))?;
    Ok((stage, key))
}

/// The working directory, when it is a checkout of claimgate.
fn repository() -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    let manifest = fs::read_to_string(here.join("Cargo.toml")).ok()?;
    let is_ours = manifest.lines().any(|line| line.trim() == "name = \"claimgate\"");
    (is_ours && SHIPPED.iter().all(|(path, _)| here.join(path).is_file())).then_some(here)
}

fn write(path: &Path, content: &str) -> Result<(), Failure> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent.and_then(|()| fs::write(path, content)).map_err(|source| Failure::Write { path: path.to_owned(), source })
}

fn configuration(stage: &Stage) -> String {
    // JSON strings are YAML strings, and `$$` is a dollar sign.
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string().replace('$', "$$")).to_string();
    format!(
        "\
# Written by `claimgate demo`. Issuers, policy and subject are read again when this file changes.
issuers:
  - issuer: {issuer}
    audiences: [{audience}]
    algorithms: [ES256]
    jwks:
      file: jwks.json
    claims:
      keep: [org_id, role]
policy:
  bundles:
    - name: demo
      path: {rego}
  data: [{data}]
  entrypoint: authz/decision
subject:
  from: data.users
  key: sub
decision_log:
  path: decisions.log
log:
  # Every request whose caller is not accepted is logged with the reason, which the client never learns.
  level: info,claimgate::serve::identity=debug
",
        issuer = story::ISSUER,
        audience = story::AUDIENCE,
        rego = quoted(&stage.rego),
        data = quoted(&stage.data),
    )
}

impl Stage {
    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.directory.join("claimgate.yaml")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn files_below(directory: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("an entry").path();
            let name = path.to_str().expect("UTF-8").to_owned();
            if path.is_dir() { files_below(&name, found) } else { assert!(found.insert(name)) }
        }
    }

    #[test]
    fn everything_in_rego_and_data_is_shipped() {
        let mut found = BTreeSet::new();
        files_below("rego", &mut found);
        files_below("data", &mut found);
        let shipped: BTreeSet<String> = SHIPPED.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(shipped, found);
    }
}
