//! Errors of the engine as people are told them: in the words of OPA, at a place of the text that they wrote.

use std::fmt;

use super::{PolicySet, machine::Machine};
use crate::policy::{EvalError, Location, blame, lower, syntax::Callee};

// === impl PolicySet ===

impl PolicySet {
    /// An error in the modules as people are told it.
    pub(super) fn explained(&self, mut error: EvalError, machine: &Machine) -> EvalError {
        let Some(at) = &error.location else { return error };
        if at.file == lower::LIBRARY {
            if let Some(name) = lower::in_library(&machine.lowered, at.row) {
                blame::in_library(&mut error, name);
                error.location = self.only_call(name);
            }
            return error;
        }
        let Some(file) = self.files.iter().find(|file| file.id == at.file) else { return error };
        blame::in_file(&mut error, file);
        if let Some(at) = &mut error.location {
            if machine.origins.has(&at.file) {
                machine.origins.original(at);
            } else {
                blame::in_characters(at, &file.text);
            }
        }
        error
    }

    /// Where a builtin is called, if that is one place.
    fn only_call(&self, name: &str) -> Option<Location> {
        let calls = self.facts.rules.iter().flat_map(|rule| &rule.calls);
        let mut calls = calls.filter(|call| matches!(&call.callee, Callee::Builtin(callee) if callee == name));
        let (call, None) = (calls.next()?, calls.next()) else { return None };
        let mut at = call.location.clone();
        let file = self.files.iter().find(|file| file.display == at.file)?;
        at.file.clone_from(&file.id);
        if !self.machines.origins().has(&file.id) {
            blame::in_characters(&mut at, &file.text);
        }
        Some(at)
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySet")
            .field("bundles", &self.bundles)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
