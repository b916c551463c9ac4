//! Typed reading of one mapping of the tree: `section.duration("leeway", …)`.
//!
//! Every getter returns something usable even after a problem, because the report holds the problem and no settings
//! leave [`super::load`] while the report is not empty. That is what makes "all errors at once" possible.

use std::{
    collections::{BTreeMap, btree_map},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use super::{
    problem::{Code, Report, join, list, nearest},
    tree::{Entry, Node, Place, Value, shorten},
    units,
};

/// One mapping: `limits`, or `issuers[0]`.
#[derive(Debug)]
pub(super) struct Section<'r> {
    report: &'r Report,
    base: &'r Bases,
    /// As a person writes it: `issuers[0].claims`; empty at the top.
    path: String,
    /// The same with `[]` for every index.
    shape: String,
    place: Place,
    /// `false`: something else stood there, which is reported; complaints about missing keys would only hide that.
    is_mapping: bool,
    entries: BTreeMap<String, Entry>,
    /// Where the values stand; those of sections below with their full keys.
    places: BTreeMap<String, Place>,
}

/// What relative paths are relative to.
#[derive(Debug)]
pub(super) struct Bases {
    /// For paths in the file: its directory.
    pub(super) file: PathBuf,
    /// For paths on the command line: the working directory.
    pub(super) argument: PathBuf,
}

/// A string and its place.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) place: Place,
    /// The key it stands under, with its index in a list.
    pub(super) key: String,
}

impl<'r> Section<'r> {
    /// The whole configuration.
    pub(super) fn root(node: Node, report: &'r Report, base: &'r Bases) -> Self {
        Self::new(node, report, base, String::new(), String::new())
    }

    fn new(node: Node, report: &'r Report, base: &'r Bases, path: String, shape: String) -> Self {
        let mut section = Self {
            report,
            base,
            path,
            shape,
            place: node.place.clone(),
            is_mapping: matches!(node.value, Value::Map(_) | Value::Null),
            entries: BTreeMap::new(),
            places: BTreeMap::new(),
        };
        match node.value {
            Value::Null => {}
            Value::Map(entries) => entries.into_iter().for_each(|entry| section.admit(entry)),
            _ => {
                let example = if section.path.is_empty() { "listen: 127.0.0.1:8181" } else { "key: value" };
                // The text is not shown: a key set in a place for a mapping may hold a secret.
                let found = if let Value::Text { .. } = node.value { "a string".to_owned() } else { node.describe() };
                report.add(
                    Code::WrongType,
                    &node.place,
                    &section.path,
                    format!("expected a mapping such as `{example}`, found {found}"),
                );
            }
        }
        section
    }

    fn admit(&mut self, entry: Entry) {
        if let Some(place) = self.places.get(&entry.key) {
            let first = match place {
                Place::File { line, .. } => format!("; it stands in line {line} already"),
                _ => String::new(),
            };
            let key = join(&self.path, &entry.key);
            self.report.add(
                Code::DuplicateKey,
                &entry.place,
                &key,
                format!("this key stands twice{first}; remove one"),
            );
            return;
        }
        let place = match entry.node.value {
            // An empty value has no place of its own that a person would look at.
            Value::Null => entry.place.clone(),
            _ => entry.node.place.clone(),
        };
        self.places.insert(entry.key.clone(), place);
        self.entries.insert(entry.key.clone(), entry);
    }

    /// Takes a value out; an empty one counts as not set.
    pub(super) fn take(&mut self, key: &str) -> Option<Node> {
        self.report.known(join(&self.shape, key));
        let entry = self.entries.remove(key)?;
        (!matches!(entry.node.value, Value::Null)).then_some(entry.node)
    }

    fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn wrong_type(&self, key: &str, node: &Node, expected: &str) {
        let found = node.describe();
        let key = self.key(key);
        self.report.add(Code::WrongType, &node.place, &key, format!("expected {expected}, found {found}"));
    }

    fn invalid(&self, key: &str, node: &Node, message: impl Into<String>) {
        self.report.add(Code::InvalidValue, &node.place, &self.key(key), message);
    }

    /// Was the key written, with a value?
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| !matches!(entry.node.value, Value::Null))
    }

    /// Notes a problem at the value of `key`, or at the section when it is not set. `key` may have more than one part.
    pub(super) fn problem(&self, code: Code, key: &str, message: impl Into<String>) {
        let first = key.split(['.', '[']).next().unwrap_or(key);
        let place = self.places.get(key).or_else(|| self.places.get(first)).unwrap_or(&self.place);
        self.report.add(code, place, &self.key(key), message);
    }

    /// Is it a mapping, or not set?
    pub(super) fn is_mapping(&self) -> bool {
        self.is_mapping
    }

    /// Is there a problem at or below `key` already?
    pub(super) fn concerns(&self, key: &str) -> bool {
        self.report.concerns(&self.key(key))
    }

    /// Is there a problem anywhere in this section already?
    pub(super) fn has_problems(&self) -> bool {
        self.report.concerns(&self.path)
    }

    /// A mapping below; empty when not set.
    pub(super) fn section(&mut self, key: &str) -> Section<'r> {
        let path = self.key(key);
        let shape = join(&self.shape, key);
        let node = self.take(key).unwrap_or(Node { place: self.place.clone(), value: Value::Null });
        let section = Self::new(node, self.report, self.base, path, shape);
        for (below, place) in &section.places {
            self.places.insert(join(key, below), place.clone());
        }
        section
    }

    /// A list of mappings.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Section<'r>> {
        let path = self.key(key);
        let shape = format!("{}[]", join(&self.shape, key));
        self.items(key, "a list of mappings")
            .into_iter()
            .enumerate()
            .map(|(index, node)| {
                let path = format!("{path}[{index}]");
                if matches!(node.value, Value::Null) {
                    self.report.add(Code::WrongType, &node.place, &path, "expected a mapping, found nothing");
                }
                let is_mapping = matches!(node.value, Value::Map(_));
                Self { is_mapping, ..Self::new(node, self.report, self.base, path, shape.clone()) }
            })
            .collect()
    }

    /// A list whose items are either a string or a mapping.
    pub(super) fn mixed(&mut self, key: &str, expected: &str) -> Vec<Result<Text, Section<'r>>> {
        let path = self.key(key);
        let shape = format!("{}[]", join(&self.shape, key));
        let items = self.items(key, expected);
        let mut out = Vec::with_capacity(items.len());
        for (index, node) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Value::Map(_) = node.value {
                out.push(Err(Self::new(node, self.report, self.base, path, shape.clone())));
            } else if let Some(text) = self.text_of(&path, node) {
                out.push(Ok(text));
            }
        }
        out
    }

    fn items(&mut self, key: &str, expected: &str) -> Vec<Node> {
        let Some(node) = self.take(key) else { return Vec::new() };
        if let Value::List(items) = node.value {
            return items;
        }
        self.wrong_type(key, &node, expected);
        Vec::new()
    }

    fn text_of(&self, key: &str, node: Node) -> Option<Text> {
        match node.value {
            Value::Text { text, .. } => Some(Text { text, place: node.place, key: key.to_owned() }),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
                let message = format!("expected a string, found {}; put it in quotes", node.describe());
                self.report.add(Code::WrongType, &node.place, key, message);
                None
            }
            _ => {
                let message = format!("expected a string, found {}", node.describe());
                self.report.add(Code::WrongType, &node.place, key, message);
                None
            }
        }
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str) -> Option<Text> {
        let node = self.take(key)?;
        self.text_of(&self.key(key), node)
    }

    /// Text that the environment gave: a secret does not stand in the file, and is never shown.
    pub(super) fn secret(&mut self, key: &str) -> Option<Text> {
        let node = self.take(key)?;
        match node.value {
            Value::Text { text, expanded: true } => Some(Text { text, place: node.place, key: self.key(key) }),
            _ => {
                let message =
                    "a secret does not stand in a configuration; write `${NAME}` for one that the environment holds";
                self.report.add(Code::InvalidValue, &node.place, &self.key(key), message);
                None
            }
        }
    }

    /// A list of strings, or `default` when not set.
    pub(super) fn texts(&mut self, key: &str, default: &[&str]) -> Vec<Text> {
        if !self.has(key) {
            self.take(key);
            let place = self.place.clone();
            let text = |text: &&str| Text { text: (*text).to_owned(), place: place.clone(), key: self.key(key) };
            return default.iter().map(text).collect();
        }
        let path = self.key(key);
        let items = self.items(key, "a list of strings such as `[a, b]`");
        items.into_iter().enumerate().filter_map(|(i, node)| self.text_of(&format!("{path}[{i}]"), node)).collect()
    }

    /// One string or a list of strings.
    pub(super) fn text_or_texts(&mut self, key: &str, default: &str) -> Vec<Text> {
        match self.entries.get(key).map(|entry| &entry.node.value) {
            Some(Value::Text { .. }) => self.text(key).into_iter().collect(),
            Some(Value::List(_)) => self.texts(key, &[]),
            Some(Value::Null) | None => self.texts(key, &[default]),
            Some(_) => self.text(key).into_iter().collect(),
        }
    }

    /// A mapping from strings to strings.
    pub(super) fn text_map(&mut self, key: &str) -> BTreeMap<String, String> {
        let path = self.key(key);
        let mut map = BTreeMap::new();
        let Some(node) = self.take(key) else { return map };
        let Value::Map(entries) = node.value else {
            self.wrong_type(key, &node, "a mapping such as `name: value`");
            return map;
        };
        for Entry { key, place, node } in entries {
            let path = join(&path, &key);
            match map.entry(key) {
                btree_map::Entry::Occupied(_) => {
                    self.report.add(Code::DuplicateKey, &place, &path, "this key stands twice; remove one");
                }
                btree_map::Entry::Vacant(vacant) => {
                    if let Some(value) = self.text_of(&path, node) {
                        vacant.insert(value.text);
                    }
                }
            }
        }
        map
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        let Some(node) = self.take(key) else { return default };
        match &node.value {
            Value::Bool(flag) => *flag,
            Value::Text { text, expanded: true } if text == "true" => true,
            Value::Text { text, expanded: true } if text == "false" => false,
            _ => {
                self.wrong_type(key, &node, "`true` or `false`");
                default
            }
        }
    }

    /// `true` (`Ok`, with its place), a string (`Err`), or nothing: `false` and not set.
    pub(super) fn flag_or_text(&mut self, key: &str) -> Option<Result<Text, Text>> {
        let node = self.take(key)?;
        let text = |text: String| Text { text, place: node.place.clone(), key: self.key(key) };
        match &node.value {
            Value::Bool(true) => Some(Ok(text(String::new()))),
            Value::Bool(false) => None,
            Value::Text { text: value, .. } => Some(Err(text(value.clone()))),
            _ => {
                self.wrong_type(key, &node, "`true`, or the URL of the metadata document");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else { return default };
        self.choose(&text, choices).unwrap_or(default)
    }

    /// The meaning of one word out of a few.
    pub(super) fn choose<T: Clone>(&self, text: &Text, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(word, _)| *word == text.text);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let hint = match nearest(&text.text, words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the choices are {}", list(&words)),
            };
            let message = format!("`{}` is not one of the choices; {hint}", shorten(&text.text));
            self.report.add(Code::InvalidValue, &text.place, &text.key, message);
        }
        found.map(|(_, value)| value.clone())
    }

    /// A duration such as `30s`.
    pub(super) fn duration(&mut self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let Some(node) = self.take(key) else { return default };
        let parsed = match &node.value {
            Value::Text { text, .. } => units::parse_duration(text),
            Value::Integer(number) => Err(format!("`{number}` has no unit; write `{number}s` or `{number}ms`")),
            _ => {
                self.wrong_type(key, &node, "a duration such as `30s`, `5m` or `100ms`");
                return default;
            }
        };
        match parsed {
            Ok(value) if range.contains(&value) => value,
            Ok(value) => {
                let (from, to) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
                let value = units::show_duration(value);
                self.invalid(key, &node, format!("`{value}` is out of range; write a duration from {from} to {to}"));
                default
            }
            Err(message) => {
                self.invalid(key, &node, message);
                default
            }
        }
    }

    /// A size such as `8KiB`; a bare number is bytes.
    pub(super) fn size(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        let Some(node) = self.take(key) else { return default };
        let parsed = match &node.value {
            Value::Text { text, .. } => units::parse_size(text),
            Value::Integer(number) => usize::try_from(*number).map_err(|_| format!("`{number}` is not a size")),
            _ => {
                self.wrong_type(key, &node, "a size such as `8KiB` or `1MiB`");
                return default;
            }
        };
        match parsed {
            Ok(value) if range.contains(&value) => value,
            Ok(value) => {
                let (from, to) = (units::show_size(*range.start()), units::show_size(*range.end()));
                let value = units::show_size(value);
                self.invalid(key, &node, format!("`{value}` is out of range; write a size from {from} to {to}"));
                default
            }
            Err(message) => {
                self.invalid(key, &node, message);
                default
            }
        }
    }

    /// A whole number.
    pub(super) fn count(&mut self, key: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        let Some(node) = self.take(key) else { return default };
        let parsed = match &node.value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Text { text, expanded: true } => text.parse().ok(),
            Value::Text { text, .. } if text.parse::<usize>().is_ok() => {
                self.invalid(key, &node, format!("`{text}` stands in quotes; write the number without them"));
                return default;
            }
            _ => {
                self.wrong_type(key, &node, "a whole number");
                return default;
            }
        };
        match parsed {
            Some(value) if range.contains(&value) => value,
            _ => {
                let found = node.describe();
                let (from, to) = (range.start(), range.end());
                self.invalid(key, &node, format!("{found} is out of range; write a number from {from} to {to}"));
                default
            }
        }
    }

    /// A value that is text or a whole document, as JSON text: an inline JWKS.
    pub(super) fn document(&mut self, key: &str) -> Option<String> {
        let node = self.take(key)?;
        match &node.value {
            Value::Text { text, .. } => Some(text.clone()),
            Value::Map(_) => Some(to_json(&node).to_string()),
            _ => {
                // The value may be a secret, so it is not shown.
                let message = "expected a JWKS: a mapping with `keys`, or its JSON text";
                self.report.add(Code::WrongType, &node.place, &self.key(key), message);
                None
            }
        }
    }

    /// A path, resolved against the directory that belongs to where it was written.
    pub(super) fn resolve(&self, text: &Text) -> PathBuf {
        let base = match text.place {
            Place::Argument(_) => &self.base.argument,
            Place::File { .. } | Place::Nowhere => &self.base.file,
        };
        // `./` and a base of `.` would only lengthen what messages show.
        let path = text.text.strip_prefix("./").unwrap_or(&text.text);
        if base.as_os_str().is_empty() || base.as_os_str() == "." { PathBuf::from(path) } else { base.join(path) }
    }

    /// A path that must exist.
    pub(super) fn existing(&self, text: &Text) -> PathBuf {
        let path = self.resolve(text);
        if let Err(error) = std::fs::metadata(&path) {
            let relative = PathBuf::from(&text.text).is_relative();
            let hint = match text.place {
                Place::File { .. } if relative => "; relative paths start at the configuration file's directory",
                _ => "",
            };
            let message = format!("`{}`: {}{hint}", path.display(), crate::reload::describe_io(&error));
            self.report.add(Code::PathNotFound, &text.place, &text.key, message);
        }
        path
    }

    /// Where a string was written, for a person.
    pub(super) fn locate(&self, text: &Text) -> String {
        self.report.locate(&text.place)
    }

    /// Notes a problem at a string.
    pub(super) fn problem_at(&self, text: &Text, message: impl Into<String>) {
        self.report.add(Code::InvalidValue, &text.place, &text.key, message);
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self) {
        for entry in self.entries.values() {
            self.report.unknown(&entry.place, &self.path, &self.shape, &entry.key);
        }
    }
}

fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        // JSON text of any integer; a key set has no such numbers that matter.
        Value::Integer(number) => i64::try_from(*number).map_or(serde_json::Value::Null, Into::into),
        Value::Float(number) => (*number).into(),
        Value::Text { text, .. } => text.as_str().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.node))).collect(),
    }
}
