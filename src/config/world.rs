//! Policies, data, the subject and the reload settings → what a snapshot is made from.

use std::{path::PathBuf, time::Duration};

use super::{
    problem::Code,
    section::{Section, Text},
    tree::shorten,
};
use crate::{
    outbound,
    policy::{self, DataPath},
    reload::{BundleSpec, DataSpec, Settings, WatchSettings},
    snapshot::{Anonymous, SubjectSource, UnknownSubject},
    state,
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Reads everything but the issuers.
pub(super) fn read(root: &mut Section<'_>) -> Settings {
    let mut section = root.section("policy");
    let bundles = read_bundles(&mut section);
    let data = section.texts("data", &[]);
    let data = data.iter().map(|text| read_data(&section, text)).collect();
    let entrypoint = section.text("entrypoint");
    let entrypoint_at = entrypoint.as_ref().map(|text| section.locate(text));
    let entrypoint = entrypoint.and_then(|text| data_path(&section, &text, "authz/allow"));
    refuse_other_shapes(&mut section);
    let outbound = read_outbound(&mut section);
    let is_strict = section.flag("strict", false);
    let policy = policy::Settings { is_strict, ..read_policy_limits(&mut section) };
    section.finish();

    let anonymous = [("deny", Anonymous::Deny), ("allow_to_policy", Anonymous::AllowToPolicy)];
    Settings {
        bundles,
        data,
        policy,
        outbound,
        entrypoint,
        entrypoint_at,
        anonymous: root.choice("anonymous", &anonymous, Anonymous::Deny),
        subject: read_subject(root),
        watch: read_reload(root),
        state_directory: read_state(root),
        ..Settings::default()
    }
}

fn read_bundles(section: &mut Section<'_>) -> Vec<BundleSpec> {
    let mut bundles: Vec<BundleSpec> = Vec::new();
    for item in section.mixed("bundles", "a list of paths, or of mappings with `name` and `path`") {
        let bundle = match item {
            // Named as it is written: clients see names, and not where the configuration's directory is.
            Ok(path) => Some(BundleSpec { path: section.existing(&path), name: path.text }),
            Err(mut bundle) => {
                let (name, path) = (bundle.text("name"), bundle.text("path"));
                let spec = match path {
                    Some(path) => {
                        let name = name.map_or_else(|| path.text.clone(), |name| name.text);
                        Some(BundleSpec { name, path: bundle.existing(&path) })
                    }
                    None => {
                        if !bundle.concerns("path") {
                            let message = "it is not set; write the directory or `.tar.gz` of the bundle";
                            bundle.problem(Code::MissingKey, "path", message);
                        }
                        None
                    }
                };
                bundle.finish();
                spec
            }
        };
        let Some(bundle) = bundle else { continue };
        if bundles.iter().any(|other| other.name == bundle.name) {
            let message = format!("`{}` stands in the list twice; each bundle needs a name of its own", bundle.name);
            section.problem(Code::DuplicateKey, "bundles", message);
        }
        bundles.push(bundle);
    }
    bundles
}

/// `path`, or `a.b:path`: what stands before the colon is where the data goes.
fn read_data(section: &Section<'_>, text: &Text) -> DataSpec {
    let Ok(spec) = text.text.parse::<DataSpec>();
    let path = Text { text: spec.path.display().to_string(), ..text.clone() };
    DataSpec { prefix: spec.prefix, path: section.existing(&path) }
}

/// `a/b`, the way OPA's REST API writes it. A dotted path is the usual slip.
pub(super) fn data_path(section: &Section<'_>, text: &Text, example: &str) -> Option<DataPath> {
    let path = text.text.trim_matches('/');
    if path.is_empty() || path.split('/').any(str::is_empty) {
        section.problem_at(text, format!("`{}` names nothing; write a path such as `{example}`", shorten(&text.text)));
        return None;
    }
    if !path.contains('/') && path.contains('.') {
        let slashed = path.strip_prefix("data.").unwrap_or(path).replace('.', "/");
        let message = format!("`{}` is written with dots; write `{slashed}`", shorten(&text.text));
        section.problem_at(text, message);
        return None;
    }
    Some(DataPath::from_slash(path))
}

fn refuse_other_shapes(section: &mut Section<'_>) {
    match section.text("input_shape") {
        Some(text) if text.text == "envoy" => section.problem_at(
            &text,
            "the shape of opa-envoy-plugin is not supported by this version; write `native`, or leave it out",
        ),
        Some(text) if text.text != "native" => {
            section.problem_at(&text, format!("`{}` is not an input shape; write `native`", shorten(&text.text)));
        }
        _ => {}
    }
}

fn read_policy_limits(section: &mut Section<'_>) -> policy::Settings {
    let default = policy::Settings::default();
    let mut limits = section.section("limits");
    let settings = policy::Settings {
        deadline: limits.duration("deadline", default.deadline, MILLI..=SECOND * 60),
        io_deadline: limits.duration("io_deadline", default.io_deadline, MILLI..=SECOND * 300),
        http: None,
        max_file_bytes: limits.size("file_bytes", default.max_file_bytes, 1 << 10..=4 << 30),
        max_bundle_bytes: limits.size("bundle_bytes", default.max_bundle_bytes, 1 << 10..=16 << 30),
        max_result_bytes: limits.size("result_bytes", default.max_result_bytes, 1 << 10..=1 << 30),
        max_memory_bytes: limits.size("memory", default.max_memory_bytes, 1 << 20..=4 << 30),
        ..default
    };
    limits.finish();
    settings
}

fn read_outbound(section: &mut Section<'_>) -> outbound::Settings {
    let default = outbound::Settings::default();
    let mut section = section.section("http_send");
    let allow = section.texts("allow", &[]);
    let hosts = allow.iter().filter_map(|text| match text.text.parse::<outbound::Host>() {
        Ok(host) => Some(host),
        Err(error) => {
            section.problem_at(text, error.to_string());
            None
        }
    });
    let settings = outbound::Settings {
        allow: hosts.collect(),
        max_response_bytes: section.size("response_bytes", default.max_response_bytes, 1 << 10..=64 << 20),
        max_cache_bytes: section.size("cache_bytes", default.max_cache_bytes, 0..=1 << 30),
    };
    section.finish();
    settings
}

fn read_subject(root: &mut Section<'_>) -> Option<SubjectSource> {
    let written = root.has("subject");
    let mut section = root.section("subject");
    let from = section.text("from");
    let key = section.text("key").map_or_else(|| "sub".to_owned(), |text| text.text);
    let status = section.text("status");
    if let Some(text) = status.as_ref().filter(|text| text.text.is_empty()) {
        section.problem_at(text, "it is empty; write the member of the records that says `active` or `suspended`");
    }
    let status = status.map(|text| text.text);
    let choices = [("deny", UnknownSubject::Deny), ("claims_only", UnknownSubject::ClaimsOnly)];
    // Where a record can keep a subject out, removing the record must not let it in.
    let default = if status.is_some() { UnknownSubject::Deny } else { UnknownSubject::ClaimsOnly };
    let unknown = section.choice("unknown", &choices, default);
    if written && from.is_none() && !section.concerns("from") {
        let message = "it is not set; write where the callers' records are, such as `data.users`";
        section.problem(Code::MissingKey, "from", message);
    }
    let source = from.and_then(|text| {
        let path = text.text.strip_prefix("data.").unwrap_or(&text.text);
        let names: Vec<String> = path.split(['.', '/']).map(str::to_owned).collect();
        if names.iter().any(String::is_empty) || path == "data" {
            let message = format!("`{}` names no place in `data`; write one such as `data.users`", shorten(&text.text));
            section.problem_at(&text, message);
            return None;
        }
        Some(SubjectSource { from: names, key, status, unknown })
    });
    section.finish();
    source
}

/// Looked at and not made: `check` leaves no traces.
fn read_state(root: &mut Section<'_>) -> Option<PathBuf> {
    let mut section = root.section("state");
    let directory = section.text("directory").map(|text| {
        let directory = section.resolve(&text);
        if text.text.is_empty() {
            section.problem_at(&text, "it is empty; write the path of a directory, or leave it out");
        } else if let Err(error) = state::examine(&directory) {
            section.problem_at(&text, error.to_string());
        }
        directory
    });
    section.finish();
    directory
}

fn read_reload(root: &mut Section<'_>) -> WatchSettings {
    let default = WatchSettings::default();
    let mut section = root.section("reload");
    let debounce = section.duration("debounce", default.debounce, MILLI..=SECOND * 60);
    let poll =
        section.duration("poll_interval", default.poll_interval.unwrap_or_default(), Duration::ZERO..=SECOND * 3600);
    let settings = WatchSettings {
        events: section.flag("events", default.events),
        debounce,
        max_debounce: section.duration("max_debounce", default.max_debounce.max(debounce), debounce..=SECOND * 60),
        poll_interval: (!poll.is_zero()).then_some(poll),
        settle: section.duration("settle", default.settle, Duration::ZERO..=SECOND * 60),
    };
    section.finish();
    settings
}
