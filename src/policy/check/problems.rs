//! What was found wrong, in OPA's order and number. Places of the parser's tree become places of the original text here,
//! once there are no more than a person reads: a place costs a walk along its line.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::policy::{LoadError, Location, bundle::RegoFile, core::Pos, lower::Origins, lower::characters};

/// Most problems that are told, whatever is asked for.
const MOST: usize = 1_000;

/// A problem and whether its place is one of the original text.
type Problem = (LoadError, bool);

#[derive(Debug)]
pub(super) struct Problems<'a> {
    origins: &'a Origins,
    /// The names of originals of which the parser got another text.
    rewritten: HashSet<&'a str>,
    texts: HashMap<&'a str, &'a Arc<str>>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(files: &'a [RegoFile], origins: &'a Origins, errors: Vec<LoadError>) -> Self {
        Self {
            origins,
            rewritten: origins.originals().collect(),
            texts: files.iter().map(|file| (file.display.as_str(), &file.text)).collect(),
            errors: errors.into_iter().map(|error| (error, true)).collect(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.errors.len()
    }

    /// A problem at a place that the parser told.
    pub(super) fn unparsed(&mut self, error: LoadError) {
        self.errors.push((error, false));
    }

    /// A problem at a place of the facts, which are told in original texts already where the parser got others.
    pub(super) fn fact(&mut self, error: LoadError) {
        let is_original = error.location.as_ref().is_none_or(|at| self.rewritten.contains(at.file.as_str()));
        self.errors.push((error, is_original));
    }

    /// A problem at a place of the parser's tree.
    pub(super) fn raw(&mut self, file: &str, code: &'static str, message: String, details: Vec<String>, at: Pos) {
        self.errors.push((Self::error(file, code, message, details, at), false));
    }

    /// As [`Self::raw`], for what is only a warning.
    pub(super) fn warn(&mut self, file: &str, code: &'static str, message: String, at: Pos) {
        self.warnings.push((Self::error(file, code, message, Vec::new(), at), false));
    }

    fn error(file: &str, code: &'static str, message: String, details: Vec<String>, at: Pos) -> LoadError {
        let location = Location { file: file.to_owned(), row: at.row, col: at.col };
        LoadError { details, ..LoadError::new(code, message, Some(location)) }
    }

    /// The errors, at most `most` of them (0: as many as are worth telling), and the warnings.
    pub(super) fn finish(self, most: usize) -> (Vec<LoadError>, Vec<LoadError>) {
        let told = |mut problems: Vec<Problem>, most: usize| {
            let key = |error: &LoadError| {
                let at = error.location.as_ref();
                (at.map(|at| at.file.clone()), at.map(|at| (at.row, at.col)), error.code, error.message.clone())
            };
            problems.sort_by_cached_key(|(error, _)| key(error));
            problems.dedup();
            let is_cut = problems.len() >= most;
            problems.truncate(most);
            let mut told: Vec<LoadError> =
                problems.into_iter().map(|(error, is_original)| self.told(error, is_original)).collect();
            if is_cut {
                told.push(LoadError::new("rego_compile_error", "error limit reached", None));
            }
            told
        };
        let most = if most == 0 { MOST } else { most.min(MOST) };
        (told(self.errors.clone(), most), told(self.warnings.clone(), MOST))
    }

    fn told(&self, mut error: LoadError, is_original: bool) -> LoadError {
        if let Some(at) = error.location.as_mut().filter(|at| !is_original && at.row > 0 && at.col > 0) {
            if self.origins.has(&at.file) {
                self.origins.original(at);
            } else if let Some(text) = self.texts.get(at.file.as_str()) {
                (at.row, at.col) = characters(text, at.row, at.col);
            }
        }
        error
    }
}
