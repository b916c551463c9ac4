//! Sources → modules and one data document, with OPA's rules and words: what a bundle is made of, its manifest, its
//! roots, and what may not overlap. It parses documents but no Rego.

use std::{collections::BTreeMap, sync::Arc};

use regorus::Value;
use serde::Deserialize;

use super::{
    BundleInfo, LoadError, Location, Settings,
    document::{self, DocumentError},
    source::{self, Source, SourceFile, SourceKind},
};

/// A Rego file that waits for the parser.
#[derive(Debug, Clone)]
pub(super) struct RegoFile {
    /// `<bundle>/<path>`; the file as shown for plain sources.
    pub id: String,
    /// As shown to the operator.
    pub display: String,
    pub text: Arc<str>,
    /// Written for Rego v0.
    pub v0: bool,
    /// The roots its package must lie under; `None` for plain sources.
    pub roots: Option<Vec<String>>,
}

/// Everything that the sources hold.
#[derive(Debug)]
pub(super) struct Content {
    pub modules: Vec<RegoFile>,
    pub data: Value,
    pub bundles: Vec<BundleInfo>,
}

/// `.manifest`. Members that are not listed are tolerated, as OPA does.
#[derive(Debug, Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    revision: String,
    roots: Option<Vec<String>>,
    rego_version: Option<i64>,
    #[serde(default)]
    file_rego_versions: BTreeMap<String, i64>,
}

/// Reads every file of every source; all problems at once. Bytes that were read are dropped at once: a large document
/// and its text need not stand beside the texts of all others.
pub(super) fn read(sources: Vec<Source>, settings: &Settings) -> Result<Content, Vec<LoadError>> {
    let mut reader =
        Reader { settings, errors: Vec::new(), modules: Vec::new(), data: Value::new_object(), bundles: Vec::new() };
    for source in sources {
        reader.source(source);
    }
    reader.check_overlap();
    let Reader { errors, modules, data, bundles, .. } = reader;
    if errors.is_empty() { Ok(Content { modules, data, bundles }) } else { Err(errors) }
}

/// Do two roots share a document?
fn overlap(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.is_empty() || long == short || long.strip_prefix(short).is_some_and(|rest| rest.starts_with('/'))
}

/// Does a document path lie under one of the roots?
pub(super) fn under_roots(roots: &[String], path: &str) -> bool {
    roots.iter().any(|root| {
        root.is_empty() || path == root || path.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// OPA's sentence for a package outside of the roots.
pub(super) fn package_outside(roots: &[String], package: &str, file: &str) -> String {
    format!("manifest roots [{}] do not permit 'package {package}' in module '{file}'", roots.join(" "))
}

struct Reader<'s> {
    settings: &'s Settings,
    errors: Vec<LoadError>,
    modules: Vec<RegoFile>,
    data: Value,
    bundles: Vec<BundleInfo>,
}

impl Reader<'_> {
    fn source(&mut self, mut source: Source) {
        let total: usize = source.files.iter().map(|file| file.bytes.len()).sum();
        if total > self.settings.max_bundle_bytes {
            let max = self.settings.max_bundle_bytes;
            self.error(&source.origin, format!("bundle is larger than {max} bytes when unpacked"));
            return;
        }
        let files = std::mem::take(&mut source.files);
        match &source.kind {
            SourceKind::Bundle => self.bundle(&source, files),
            SourceKind::Plain { prefix } => self.plain(&source, files, prefix),
        }
    }

    fn bundle(&mut self, source: &Source, files: Vec<SourceFile>) {
        let Some((manifest, document)) = self.manifest(source, &files) else { return };
        let roots: Vec<String> = match &manifest.roots {
            None => vec![String::new()],
            Some(roots) => roots.iter().map(|root| root.trim_matches('/').to_owned()).collect(),
        };
        for (i, a) in roots.iter().enumerate() {
            for b in roots.iter().skip(i + 1) {
                if overlap(a, b) {
                    let file = source.display(".manifest");
                    self.error(&file, format!("manifest has overlapped roots: '{a}' and '{b}'"));
                }
            }
        }
        let mut own = Value::new_object();
        for file in files.into_iter().filter(|file| source::is_bundle_file(&file.path)) {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            if file.path == "patch.json" {
                let display = source.display(&file.path);
                self.error(&display, "delta bundles are not supported; serve a snapshot bundle".to_owned());
            } else if name.ends_with(".rego") {
                let v0 = manifest.is_v0(&file.path, self.settings.v0_compatible);
                self.module(source, &file, v0, Some(roots.clone()));
            } else if source::is_data_name(name) {
                let path: Vec<String> = directory(&file.path);
                self.document(source, &file, &path, &mut own);
            }
        }
        self.check_data_roots(source, &own, &roots);
        self.merge(&source.origin, &[], own);
        if !source.name.is_empty() {
            let path: Vec<String> =
                ["system", "bundles", &source.name, "manifest"].iter().map(|s| (*s).to_owned()).collect();
            self.merge(&source.origin, &path, document);
        }
        self.bundles.push(BundleInfo { name: source.name.clone(), revision: manifest.revision, roots });
    }

    fn plain(&mut self, source: &Source, files: Vec<SourceFile>, prefix: &[String]) {
        let mut own = Value::new_object();
        for file in files {
            if file.path.ends_with(".rego") {
                self.module(source, &file, self.settings.v0_compatible, None);
            } else if [".json", ".yaml", ".yml"].iter().any(|end| file.path.ends_with(end)) {
                let mut path = prefix.to_vec();
                path.extend(directory(&file.path));
                self.document(source, &file, &path, &mut own);
            }
        }
        self.merge(&source.origin, &[], own);
    }

    /// The manifest and the document that policies see at `data.system.bundles[name].manifest`.
    fn manifest(&mut self, source: &Source, files: &[SourceFile]) -> Option<(Manifest, Value)> {
        let Some(file) = files.iter().find(|file| file.path == ".manifest") else {
            let roots = Value::from(vec![Value::from("")]);
            let document = BTreeMap::from([(Value::from("revision"), Value::from("")), (Value::from("roots"), roots)]);
            return Some((Manifest::default(), Value::from(document)));
        };
        let display = source.display(&file.path);
        let parsed = document::utf8(&file.bytes).and_then(|text| {
            let mut document = document::parse_json(text)?;
            let manifest: Manifest = serde_json::from_str(text).map_err(|e| DocumentError {
                message: e.to_string(),
                row: line(e.line()),
                col: line(e.column()),
            })?;
            if let Ok(object) = document.as_object_mut() {
                object.insert(Value::from("revision"), Value::from(manifest.revision.as_str()));
                if manifest.roots.is_none() {
                    object.insert(Value::from("roots"), Value::from(vec![Value::from("")]));
                }
            }
            Ok((manifest, document))
        });
        let known = |version: i64| version == 0 || version == 1;
        match parsed {
            Err(error) => {
                self.document_error(&display, error);
                None
            }
            Ok((manifest, _))
                if !manifest.rego_version.is_none_or(known)
                    || !manifest.file_rego_versions.values().all(|v| known(*v)) =>
            {
                self.error(&display, "rego_version must be 0 or 1".to_owned());
                None
            }
            Ok(both) => Some(both),
        }
    }

    fn module(&mut self, source: &Source, file: &SourceFile, v0: bool, roots: Option<Vec<String>>) {
        let display = source.display(&file.path);
        if !self.size_ok(&display, file) {
            return;
        }
        match document::utf8(&file.bytes) {
            Err(error) => {
                self.errors.push(LoadError::new("rego_parse_error", error.message.clone(), at(&display, &error)));
            }
            Ok(text) if text.trim().is_empty() => {
                self.errors.push(LoadError::in_file("rego_parse_error", &display, "empty module"));
            }
            Ok(text) => {
                let id = source.module_id(&file.path);
                self.modules.push(RegoFile { id, display, text: Arc::from(text), v0, roots });
            }
        }
    }

    fn document(&mut self, source: &Source, file: &SourceFile, path: &[String], into: &mut Value) {
        let display = source.display(&file.path);
        if !self.size_ok(&display, file) {
            return;
        }
        let parsed = document::utf8(&file.bytes).and_then(|text| match text.trim() {
            "" => Err(DocumentError {
                message: "empty file; expected a JSON or YAML document".to_owned(),
                row: 0,
                col: 0,
            }),
            _ if file.path.ends_with(".json") => document::parse_json(text),
            _ => document::parse_yaml(text),
        });
        match parsed {
            Err(error) => self.document_error(&display, error),
            Ok(value) if path.is_empty() && value.as_object().is_err() => {
                self.error(&display, "a document at the root of data must be an object".to_owned());
            }
            Ok(value) => {
                if let Err(conflict) = insert(into, path, value) {
                    self.error(&display, format!("merge error: {conflict} has another value already"));
                }
            }
        }
    }

    fn size_ok(&mut self, display: &str, file: &SourceFile) -> bool {
        let max = self.settings.max_file_bytes;
        if file.bytes.len() > max {
            let size = u64::try_from(file.bytes.len()).unwrap_or(u64::MAX);
            self.error(display, source::oversized(&file.path, size, max));
            return false;
        }
        true
    }

    fn merge(&mut self, origin: &str, path: &[String], value: Value) {
        if let Err(conflict) = insert(&mut self.data, path, value) {
            self.error(origin, format!("merge error: {conflict} has another value already"));
        }
    }

    /// Every leaf of a bundle's data must lie under a root.
    fn check_data_roots(&mut self, source: &Source, data: &Value, roots: &[String]) {
        if roots.iter().any(String::is_empty) {
            return;
        }
        let mut pending = vec![(String::new(), data)];
        while let Some((path, value)) = pending.pop() {
            if under_roots(roots, &path) {
                continue;
            }
            let above = roots.iter().any(|root| path.is_empty() || root.starts_with(&format!("{path}/")));
            match value {
                Value::Object(members) if above => {
                    for (key, member) in members.iter() {
                        let Value::String(key) = key else { continue };
                        let below = if path.is_empty() { key.to_string() } else { format!("{path}/{key}") };
                        pending.push((below, member));
                    }
                }
                _ => {
                    let roots = roots.join(" ");
                    self.error(
                        &source.origin,
                        format!(
                            "manifest roots [{roots}] do not permit data at path '/{path}' (hint: check bundle directory structure)"
                        ),
                    );
                }
            }
        }
    }

    fn check_overlap(&mut self) {
        let mut names = Vec::new();
        let mut reasons = Vec::new();
        for (i, a) in self.bundles.iter().enumerate() {
            for b in self.bundles.iter().skip(i + 1) {
                for (ra, rb) in a.roots.iter().flat_map(|ra| b.roots.iter().map(move |rb| (ra, rb))) {
                    if overlap(ra, rb) {
                        names.extend([a.name.clone(), b.name.clone()]);
                        reasons.push(if ra == rb {
                            format!("root {ra} is in multiple bundles")
                        } else {
                            format!("root {ra} overlaps root {rb}")
                        });
                    }
                }
            }
        }
        if reasons.is_empty() {
            return;
        }
        names.sort();
        names.dedup();
        reasons.dedup();
        let message = format!(
            "detected overlapping roots in manifests for these bundles: [{}] ({})",
            names.join(", "),
            reasons.join(", ")
        );
        self.errors.push(LoadError::new("bundle_error", message, None));
    }

    fn document_error(&mut self, display: &str, error: DocumentError) {
        let location = at(display, &error);
        self.errors.push(LoadError::new("bundle_error", error.message, location));
    }

    fn error(&mut self, file: &str, message: String) {
        self.errors.push(LoadError::in_file("bundle_error", file, message));
    }
}

impl Manifest {
    /// The version of a file: its own entry, else the bundle's, else that of the settings.
    fn is_v0(&self, path: &str, default: bool) -> bool {
        let matching = self.file_rego_versions.iter().find(|(pattern, _)| {
            let pattern = pattern.trim_start_matches('/');
            pattern == path || glob(pattern.as_bytes(), path.as_bytes())
        });
        matching.map(|(_, version)| *version).or(self.rego_version).map_or(default, |version| version == 0)
    }
}

/// `*` and `?` stay in one directory, `**` does not.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', b'*', rest @ ..], _) => (0..=text.len()).any(|n| glob(rest, text.get(n..).unwrap_or_default())),
        ([b'*', rest @ ..], _) => {
            let span = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=span).any(|n| glob(rest, text.get(n..).unwrap_or_default()))
        }
        ([b'?', rest @ ..], [c, tail @ ..]) if *c != b'/' => glob(rest, tail),
        ([p, rest @ ..], [c, tail @ ..]) if p == c => glob(rest, tail),
        _ => false,
    }
}

fn directory(path: &str) -> Vec<String> {
    path.rsplit_once('/').map_or_else(Vec::new, |(dir, _)| dir.split('/').map(str::to_owned).collect())
}

/// Puts a value at a path; objects merge, anything else that is there already is a conflict, named by its path.
fn insert(root: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let mut at = root;
    let mut walked = String::from("data");
    for part in path {
        walked = format!("{walked}.{part}");
        let object = at.as_object_mut().map_err(|_| format!("`{walked}`"))?;
        at = object.get_or_insert_with(Value::from(part.as_str()), Value::new_object);
    }
    merge(at, value, &mut walked, true)
}

fn merge(into: &mut Value, value: Value, walked: &mut String, fresh: bool) -> Result<(), String> {
    let Value::Object(members) = &value else {
        let empty = fresh && into.as_object().is_ok_and(regorus::value::Object::is_empty);
        if empty {
            *into = value;
            return Ok(());
        }
        return Err(format!("`{walked}`"));
    };
    if into.as_object().is_ok_and(regorus::value::Object::is_empty) {
        *into = value;
        return Ok(());
    }
    let object = into.as_object_mut().map_err(|_| format!("`{walked}`"))?;
    for (key, member) in members.iter() {
        match object.get_mut(key) {
            None => {
                object.insert(key.clone(), member.clone());
            }
            Some(existing) => {
                let length = walked.len();
                walked.push('.');
                walked.push_str(key.as_string().map_or("?", |k| k.as_ref()));
                merge(existing, member.clone(), walked, false)?;
                walked.truncate(length);
            }
        }
    }
    Ok(())
}

fn at(display: &str, error: &DocumentError) -> Option<Location> {
    Some(Location { file: display.to_owned(), row: error.row, col: error.col })
}

fn line(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
