//! YAML → each module's own settings, or everything that is wrong with it, at once, with line and column.
//!
//! ```text
//! tree       text → nodes that know their place; `${ENV}` expanded
//! overrides  `--set key=value` and the flags of `run`, put into the tree
//! section    typed reading of one mapping; unknown and repeated keys
//! units      `30s`, `8KiB`
//! problem    what is wrong, where, and what was probably meant
//! issuers, notices, world, doors, sender, logs, tls, transport   the schema: one function per part
//! ```
//!
//! The settings types belong to the modules that use them; nothing here decides what a setting does. Every key is
//! shown with its default in `examples/claimgate.yaml`.

mod doors;
mod introspection;
mod issuers;
mod logs;
mod notices;
mod overrides;
mod problem;
mod revocation;
mod section;
mod sender;
mod tls;
mod transport;
mod tree;
mod units;
mod world;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

pub use self::{
    doors::{DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN},
    overrides::Override,
    problem::{Code, Problem},
};
use self::{
    problem::Report,
    section::{Bases, Section},
    tree::Environment,
};
use crate::{
    reload::{self, describe_io},
    revocation::Settings as Revocations,
    serve, snapshot, telemetry,
};

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The doors.
    pub serve: serve::Settings,
    /// What the snapshot is made from.
    pub reload: reload::Settings,
    /// Revocations that arrive while the program runs.
    pub revocation: Revocations,
    /// The decision log.
    pub decision_log: telemetry::DecisionLogSettings,
    /// The program's own log.
    pub log: telemetry::LogSettings,
    /// What outlives a restart is kept here. It was looked at; `run` makes it with [`crate::state::prepare`] before
    /// anything uses it.
    pub state_directory: Option<PathBuf>,
}

/// What a configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The configuration file; `None`: defaults and overrides only.
    pub file: Option<PathBuf>,
    /// What the command line says, in order; the last one wins.
    pub overrides: Vec<Override>,
}

/// The file is read into memory, and a configuration is never this long.
const LONGEST_FILE: u64 = 1 << 20;

/// Reads, expands and checks a configuration.
///
/// # Errors
/// Every problem, in the order of its place.
pub fn load(origin: &Origin, environment: Environment<'_>) -> Result<Settings, Vec<Problem>> {
    match examine(origin, environment) {
        Findings { settings: Some(settings), problems, .. } if problems.is_empty() => Ok(settings),
        findings => Err(findings.problems),
    }
}

/// Everything that can be said about a configuration.
#[derive(Debug)]
pub struct Findings {
    /// What could be understood; where there are problems, a default or nothing stands in for what could not. `None`
    /// when the file could not be read at all.
    pub settings: Option<Settings>,
    /// What is wrong, in the order of its place. Settings are for use only when there is nothing.
    pub problems: Vec<Problem>,
    /// Full names of all keys that the schema asked for (`issuers[].leeway`).
    pub keys: BTreeSet<String>,
}

/// [`load`] for those who want to look on after a problem: `check` goes on to the policies.
pub fn examine(origin: &Origin, environment: Environment<'_>) -> Findings {
    let shown = origin.file.as_deref().map_or_else(|| "configuration".to_owned(), |file| file.display().to_string());
    let report = Report::new(&shown);
    let settings = understand(origin, environment, &report);
    let (keys, problems) = report.finish();
    Findings { settings, problems, keys }
}

fn understand(origin: &Origin, environment: Environment<'_>, report: &Report) -> Option<Settings> {
    let text = match origin.file.as_deref().map(read_file).transpose() {
        Ok(text) => text.unwrap_or_default(),
        Err(message) => {
            report.add(Code::Unreadable, &tree::Place::Nowhere, "", message);
            return None;
        }
    };
    let mut root = tree::parse_file(&text, report);
    if !report.is_clean() {
        // A file that is no YAML has said nothing; complaints about missing keys would only hide the cause.
        return None;
    }
    overrides::apply(&mut root, &origin.overrides, report);
    root.expand("", environment, report);
    let directory = origin.file.as_deref().and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
    let bases = Bases { file: directory, argument: PathBuf::new() };
    Some(read(Section::root(root, report, &bases)))
}

/// The schema.
fn read(mut root: Section<'_>) -> Settings {
    let (mut serve, mode) = doors::read(&mut root);
    let taken_back = revocation::read(&mut root);
    serve.revocation_credentials = taken_back.credentials;
    let issuers_written = root.has("issuers");
    let mut profiles = issuers::read(&mut root, taken_back.tenant_claim.as_deref());
    if profiles.is_empty()
        && root.is_mapping()
        && !root.concerns("issuers")
        && !root.concerns("opa.identity")
        && serve.opa_identity == serve::OpaIdentity::Token
    {
        let message = if issuers_written { "the list is empty" } else { "no issuer is configured" };
        let message = format!(
            "{message}, so no token could be verified; add one with `issuer`, `audiences` and `jwks`, or set \
             `opa.identity: passthrough` to run without tokens"
        );
        root.problem(Code::MissingKey, "issuers", message);
    }
    let transmitters;
    (serve.events, transmitters) = notices::read_events(&mut root, mode, &serve, &mut profiles);
    let revocation_file = taken_back.file;
    let mut reload = reload::Settings { profiles, transmitters, revocation_file, ..world::read(&mut root) };
    let decision_log = logs::read_decision_log(&mut root);
    let log = logs::read_log(&mut root);
    root.finish();
    let state_directory = reload.state_directory.clone();
    pin(&mut reload.pinned, &serve, &decision_log, &log, &state_directory);
    let revocation = Revocations { directory: state_directory.clone(), max_entries: taken_back.max_entries };
    reload.pinned.set("revocation", &(&serve.revocation_credentials, revocation.max_entries));
    Settings { serve, reload, revocation, decision_log, log, state_directory }
}

/// What the doors and the logs are made of is fixed when the program starts: the keys whose change needs a restart.
fn pin(
    pinned: &mut reload::Pinned,
    serve: &serve::Settings,
    decision_log: &telemetry::DecisionLogSettings,
    log: &telemetry::LogSettings,
    state_directory: &Option<PathBuf>,
) {
    pinned.set("listen", &serve.listen);
    pinned.set("admin", &serve.admin);
    pinned.set("events", &serve.events);
    pinned.set("tls", &serve.tls);
    let token = (&serve.token_sources, &serve.realm, serve.token_cache, serve.token_lint, &serve.sender);
    pinned.set("token", &(token, &serve.status_lists));
    pinned.set("limits", &(&serve.limits, serve.key_patience));
    pinned.set("opa", &(&serve.opa_identity, &serve.default_decision));
    pinned.set("forward_auth", &(&serve.trusted_peers, &serve.forwarded_headers, &serve.identity_headers));
    pinned.set("shutdown", &(serve.shutdown_wait, serve.shutdown_grace));
    pinned.set("decision_log", decision_log);
    pinned.set("log", log);
    pinned.set("state", state_directory);
}

fn read_file(path: &Path) -> Result<String, String> {
    let unreadable = |error: &io::Error| format!("cannot be read: {}", describe_io(error));
    // Opening a pipe waits for a writer, and a reload that waits would never see another change.
    let kind = fs::metadata(path).map_err(|error| unreadable(&error))?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err("it is not a regular file; this cannot be a configuration".to_owned());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| unreadable(&error))?;
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST_FILE) {
        return Err(format!("it is longer than {}; this cannot be a configuration", units::show_size(1 << 20)));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text; this cannot be a configuration".to_owned())
}

impl From<Problem> for snapshot::Problem {
    fn from(problem: Problem) -> Self {
        let message =
            if problem.key.is_empty() { problem.message } else { format!("{}: {}", problem.key, problem.message) };
        Self { code: problem.code.as_str().to_owned(), message, location: Some(problem.location) }
    }
}
