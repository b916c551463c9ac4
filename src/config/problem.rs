//! What is wrong with a configuration: every problem at once, each with a stable code and its place.

use std::{cell::RefCell, collections::BTreeSet, fmt};

use super::tree::Place;

/// Kinds of problems, with stable codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The file cannot be read.
    Unreadable,
    /// The text is not YAML.
    Syntax,
    /// A key that does not exist.
    UnknownKey,
    /// A key that stands twice in one mapping.
    DuplicateKey,
    /// A key that must be there.
    MissingKey,
    /// A list where a string belongs, and so on.
    WrongType,
    /// The right type, but not a value that works.
    InvalidValue,
    /// `${NAME}` that cannot be expanded.
    Variable,
    /// A path that does not exist.
    PathNotFound,
    /// A `--set` that does not name a key.
    Argument,
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// What kind.
    pub code: Code,
    /// `file:line:column`, `file`, or the command-line argument.
    pub location: String,
    /// The key: `issuers[0].leeway`; empty when it concerns no key.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Collects problems and the keys that the schema asked for.
#[derive(Debug)]
pub(super) struct Report {
    file: String,
    problems: RefCell<Vec<(Place, Problem)>>,
    unknown: RefCell<Vec<Unknown>>,
    /// Full paths of all keys that were asked for; list indices are `[]`.
    known: RefCell<BTreeSet<String>>,
}

/// A key that nobody asked for.
#[derive(Debug)]
struct Unknown {
    place: Place,
    /// Path of its section with indices, and as the schema writes it.
    section: String,
    section_shape: String,
    key: String,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            problems: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// Notes a problem.
    pub(super) fn add(&self, code: Code, place: &Place, key: &str, message: impl Into<String>) {
        let problem = Problem { code, location: self.locate(place), key: key.to_owned(), message: message.into() };
        self.problems.borrow_mut().push((place.clone(), problem));
    }

    /// A place, for a person.
    pub(super) fn locate(&self, place: &Place) -> String {
        match place {
            Place::File { line, column } => format!("{}:{line}:{column}", self.file),
            Place::Argument(argument) => argument.to_string(),
            Place::Nowhere => self.file.clone(),
        }
    }

    /// Notes that the schema has this key; `shape` is its full path with `[]` for indices.
    pub(super) fn known(&self, shape: String) {
        self.known.borrow_mut().insert(shape);
    }

    /// Notes a key that the schema does not have.
    pub(super) fn unknown(&self, place: &Place, section: &str, section_shape: &str, key: &str) {
        self.unknown.borrow_mut().push(Unknown {
            place: place.clone(),
            section: section.to_owned(),
            section_shape: section_shape.to_owned(),
            key: key.to_owned(),
        });
    }

    /// Is there no problem yet?
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Is there any problem at or below this key?
    pub(super) fn concerns(&self, key: &str) -> bool {
        self.problems.borrow().iter().any(|(_, problem)| {
            problem.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// All keys that were asked for, and all problems in the order of their places.
    pub(super) fn finish(self) -> (BTreeSet<String>, Vec<Problem>) {
        for unknown in self.unknown.take() {
            let path = join(&unknown.section, &unknown.key);
            let message = self.hint(&unknown);
            self.add(Code::UnknownKey, &unknown.place, &path, message);
        }
        let mut problems = self.problems.into_inner();
        problems.sort_by(|(a, _), (b, _)| a.cmp(b));
        (self.known.into_inner(), problems.into_iter().map(|(_, problem)| problem).collect())
    }

    fn hint(&self, unknown: &Unknown) -> String {
        let known = self.known.borrow();
        let prefix =
            if unknown.section_shape.is_empty() { String::new() } else { format!("{}.", unknown.section_shape) };
        let siblings: Vec<&str> = known
            .iter()
            .filter_map(|path| path.strip_prefix(&prefix))
            .filter(|rest| !rest.contains(['.', '[']))
            .collect();
        if let Some(near) = nearest(&unknown.key, siblings.iter().copied()) {
            return format!("there is no such key; did you mean `{near}`?");
        }
        // The right key at the wrong depth is the other common slip.
        let elsewhere = known.iter().find(|path| path.rsplit('.').next() == Some(unknown.key.as_str()));
        match elsewhere {
            Some(path) => format!("there is no such key here; did you mean `{path}`?"),
            None => format!("there is no such key here; the keys are {}", list(&siblings)),
        }
    }
}

/// The nearest of some words, when it is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = normal(word);
    candidates
        .map(|candidate| (strsim::jaro_winkler(&word, &normal(candidate)), candidate))
        .filter(|(similarity, _)| *similarity >= 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `` `a`, `b` and `c` ``.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [only] => format!("`{only}`"),
        [first @ .., last] => format!("`{}` and `{last}`", first.join("`, `")),
    }
}

/// `section.key`, or `key` at the top.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

// === impl Code ===

impl Code {
    /// All codes.
    pub const ALL: [Self; 10] = [
        Self::Unreadable,
        Self::Syntax,
        Self::UnknownKey,
        Self::DuplicateKey,
        Self::MissingKey,
        Self::WrongType,
        Self::InvalidValue,
        Self::Variable,
        Self::PathNotFound,
        Self::Argument,
    ];

    /// The stable code.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "config_unreadable",
            Self::Syntax => "config_syntax",
            Self::UnknownKey => "config_unknown_key",
            Self::DuplicateKey => "config_duplicate_key",
            Self::MissingKey => "config_missing_key",
            Self::WrongType => "config_wrong_type",
            Self::InvalidValue => "config_invalid_value",
            Self::Variable => "config_variable",
            Self::PathNotFound => "config_path_not_found",
            Self::Argument => "config_argument",
        }
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.location)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}
