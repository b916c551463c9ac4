//! The `revocation` section: the watched file, the tenant claim, and who may post revocations.

use std::path::PathBuf;

use super::section::Section;
use crate::{
    revocation::{Credential, DEFAULT_MAX_ENTRIES},
    token::{Secret, SecretSource},
};

/// What the section says.
#[derive(Debug, Default)]
pub(super) struct Revocation {
    pub(super) file: Option<PathBuf>,
    pub(super) tenant_claim: Option<String>,
    pub(super) credential: Option<Credential>,
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
        credential: read_credential(&mut section),
        max_entries: section.count("max_entries", DEFAULT_MAX_ENTRIES, 1..=100_000_000),
    };
    section.finish();
    revocation
}

fn read_credential(section: &mut Section<'_>) -> Option<Credential> {
    let (file, given) = (section.text("token_file"), section.text("token"));
    if let (Some(_), Some(given)) = (&file, &given) {
        section.problem_at(given, "`token_file` is set too, and there is one credential; keep one of them");
        return None;
    }
    let source = |section: &Section<'_>| match (&file, &given) {
        (Some(file), _) => Some(SecretSource::File(section.existing(file))),
        (_, Some(given)) => Some(SecretSource::Text(Secret::new(&given.text))),
        (None, None) => None,
    };
    let credential = Credential::new(source(section)?);
    if let Some(text) = file.as_ref().or(given.as_ref())
        && !section.concerns("token_file")
        && let Err(error) = credential.examine()
    {
        section.problem_at(text, error.to_string());
    }
    Some(credential)
}
