//! What is unwise about a token, even when it is valid: permissions and other things that change inside it, too many
//! bytes, too long a life, personal data, headers that other verifiers stumble over. Pure, and nothing is verified.
//!
//! A finding names the claim and counts what is in it; it never repeats a value. The rules only advise: what the gate
//! refuses is decided by the pipeline alone, though some rules say beforehand what it will refuse.

mod claims;
mod header;
mod rules;
mod shapes;

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{compact::RawToken, error::Untrusted, inspect::inspect, profile::IssuerProfile, profiles::Profiles};

pub use self::rules::Rule;

/// From which sizes on the rules about sizes speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LintLimits {
    /// Bytes of the whole token; default 2 KiB: some servers take 4 KiB of header fields in all.
    pub token_bytes: usize,
    /// `exp - iat`; default an hour.
    pub lifetime: Duration,
    /// Elements of any one list of roles or audiences; default 5.
    pub roles: usize,
    /// Elements of any other list, and scopes; default 16.
    pub list: usize,
    /// Claims; default 24.
    pub claims: usize,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Will hurt some day: stale permissions, leaked data, tokens that no revocation reaches.
    Warning,
    /// The gate or another strict verifier refuses it, or a weaker one is deceived by it.
    Error,
}

/// One thing that a rule objects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// Where: `token`, `header.alg`, `claims.permissions`, `issuers[https://idp.example].claims.keep.permissions`. ASCII.
    pub place: String,
    /// What was seen there, without any value of a claim. ASCII.
    pub detail: String,
}

/// Everything that was found, errors first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// At most [`Report::MOST`].
    pub findings: Vec<Finding>,
    /// Findings beyond that.
    pub left_out: usize,
}

/// Collects findings; one for each rule and place.
struct Found {
    limits: LintLimits,
    findings: Vec<Finding>,
    seen: BTreeSet<(&'static str, String)>,
    left_out: usize,
}

/// Looks at one token. What cannot be read as a signed token is a finding too.
#[must_use]
pub fn lint(raw: &RawToken, limits: LintLimits) -> Report {
    let mut found = Found::new(limits);
    size(raw.expose().len(), &mut found);
    match inspect(raw) {
        Ok(seen) => {
            header::lint(&seen.header, &seen.claims, &mut found);
            claims::lint(&seen.header, &seen.claims, &mut found);
        }
        Err(error) => found.add(&rules::NOT_A_TOKEN, "token", format!("{}: {error}", error.code())),
    }
    found.report()
}

/// Looks at what the profiles let policy see. `reads` are the claims that rules read, or `None` when some rule reads all
/// of them or a computed one, so that none can be called unread.
#[must_use]
pub fn lint_projection(profiles: &Profiles, reads: Option<&BTreeSet<&str>>) -> Report {
    let mut found = Found::new(LintLimits::default());
    for profile in profiles.iter() {
        projection(profile, reads, &mut found);
    }
    if reads.is_none() {
        let detail = "a rule reads `input.token.claims` as a whole or by a computed name".to_owned();
        found.add(&rules::CLAIMS_READ_AS_A_WHOLE, "policy", detail);
    }
    found.report()
}

fn size(bytes: usize, found: &mut Found) {
    let refused = super::Limits::default().token_bytes;
    if bytes > refused {
        let detail = format!("{bytes} bytes; the gate refuses more than {refused}");
        found.add(&rules::TOKEN_TOO_LARGE, "token", detail);
    } else if bytes > found.limits.token_bytes {
        let detail = format!("{bytes} bytes; advised are at most {}", found.limits.token_bytes);
        found.add(&rules::TOKEN_LARGE, "token", detail);
    }
}

fn projection(profile: &IssuerProfile, reads: Option<&BTreeSet<&str>>, found: &mut Found) {
    for (from, to) in profile.projection() {
        let key = if from == to { "keep" } else { "rename" };
        let place = format!("issuers[{}].claims.{key}.{}", plain(profile.issuer()), plain(from));
        if reads.is_some_and(|reads| !reads.contains(to)) {
            let detail = format!("no rule reads `input.token.claims.{}`", plain(to));
            found.add(&rules::CLAIM_NOT_READ, &place, detail);
        }
        if let Some(rule) = claims::rule_of_name(from) {
            found.add(rule, &place, "its name says so".to_owned());
        }
    }
}

/// Untrusted text without the quotes.
fn plain(text: &str) -> String {
    Untrusted::new(text).to_string().trim_matches('`').to_owned()
}

// === impl Found ===

impl Found {
    fn new(limits: LintLimits) -> Self {
        Self { limits, findings: Vec::new(), seen: BTreeSet::new(), left_out: 0 }
    }

    fn add(&mut self, rule: &'static Rule, place: &str, detail: String) {
        if self.findings.len() >= Report::MOST {
            self.left_out = self.left_out.saturating_add(1);
        } else if self.seen.insert((rule.id, place.to_owned())) {
            self.findings.push(Finding { rule, place: place.to_owned(), detail });
        }
    }

    fn report(mut self) -> Report {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.rule.severity));
        Report { findings: self.findings, left_out: self.left_out }
    }
}

// === impl Report ===

impl Report {
    /// More findings than a person reads.
    pub const MOST: usize = 100;

    /// The worst severity.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.rule.severity).max()
    }
}

// === impl LintLimits ===

impl Default for LintLimits {
    fn default() -> Self {
        Self { token_bytes: 2048, lifetime: Duration::from_secs(3600), roles: 5, list: 16, claims: 24 }
    }
}

// === impl Severity ===

impl Severity {
    /// `error`, `warning` or `note`: SARIF's words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
