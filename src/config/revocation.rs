//! The `revocation` section: the watched file, the tenant claim, and who may post revocations.

use std::path::PathBuf;

use super::section::Section;
use crate::{
    revocation::{Credentials, DEFAULT_MAX_ENTRIES},
    token::{Secret, SecretSource},
};

/// What the section says.
#[derive(Debug, Default)]
pub(super) struct Revocation {
    pub(super) file: Option<PathBuf>,
    pub(super) tenant_claim: Option<String>,
    pub(super) credentials: Option<Credentials>,
    pub(super) max_entries: usize,
}

pub(super) fn read(root: &mut Section<'_>) -> Revocation {
    let mut section = root.section("revocation");
    let file = section.text("file").map(|text| section.existing(&text));
    let tenant_claim = section.text("tenant_claim");
    if let Some(text) = tenant_claim.as_ref().filter(|text| text.text.is_empty()) {
        section.problem_at(text, "it is empty; write the name of the claim that names the tenant, such as `org_id`");
    }
    let revocation = Revocation {
        file,
        tenant_claim: tenant_claim.map(|text| text.text),
        credentials: read_credentials(&mut section),
        max_entries: section.count("max_entries", DEFAULT_MAX_ENTRIES, 1..=100_000_000),
    };
    section.finish();
    revocation
}

fn read_credentials(section: &mut Section<'_>) -> Option<Credentials> {
    let mut sources = Vec::new();
    for (key, is_file) in [("token_file", true), ("token", false)] {
        let Some(text) = section.text(key) else { continue };
        let source = match is_file {
            true => SecretSource::File(section.existing(&text)),
            false => SecretSource::Text(Secret::new(&text.text)),
        };
        if !section.concerns(key)
            && let Err(error) = Credentials::examine(&source)
        {
            section.problem_at(&text, error.to_string());
        }
        sources.push(source);
    }
    Credentials::new(sources)
}
