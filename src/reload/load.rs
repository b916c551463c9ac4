//! Settings and file content → [`Loaded`]: compiled policies, profiles and local keys, or every problem at once.
//!
//! Runs to the end on the thread that calls it, without waiting. It keeps nothing between calls but what the caller
//! hands back to it ([`Loaded`], to spare compiling what did not change).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use aws_lc_rs::digest::{self, SHA256};

use super::{
    BundleSpec, DataSpec, KeySource, RevocationFile, Settings, discovery,
    links::Watched,
    read::{Content, Limits, Picture, Place, PlaceKind, Reading},
    revoked,
};
use crate::{
    outbound::{self, Outbound},
    policy::{self, Entrypoint, HttpSend, LoadError, PolicySet, Source, SourceFile, SourceKind},
    snapshot::{Anonymous, Problem, SubjectSource},
    token::{IssuerProfile, KeyOrigin, KeySet, Profiles},
};

/// How often [`read_still`] reads again when the files change under it. It cannot wait, so this is for a lucky gap only.
const ATTEMPTS: usize = 5;

/// Issuers named in a message that concerns all of them.
const MAX_SHOWN_ISSUERS: usize = 5;

/// Everything that settings and files give. Remote keys are not in it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Compiled policies and base data.
    pub policies: Arc<PolicySet>,
    /// The configured entrypoint, which exists.
    pub entrypoint: Option<Entrypoint>,
    /// Issuer profiles.
    pub profiles: Arc<Profiles>,
    /// Keys from files and from the configuration, by issuer.
    pub local_keys: BTreeMap<String, Arc<KeySet>>,
    /// Where the caller's live record is.
    pub subject: Option<SubjectSource>,
    /// What happens to a request without a token.
    pub anonymous: Anonymous,
    /// What the revocation file takes back, as of this load.
    pub(super) revoked: RevocationFile,
    /// Who sends the requests of policies; kept, with what it remembers, for as long as its settings are the same.
    outbound: Option<Arc<Outbound>>,
    /// Digest of what the policies were compiled from: equal content is not compiled again.
    content: Vec<u8>,
}

/// What one reading of the files gave.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The whole world, or why not. Its `local_keys` are those that loaded.
    pub(super) world: Result<Loaded, Vec<Problem>>,
    /// Local keys that loaded, also when the world did not.
    pub(super) local_keys: BTreeMap<String, Arc<KeySet>>,
    /// Local keys that did not, by issuer.
    pub(super) key_problems: BTreeMap<String, Problem>,
    /// What the revocation file says, also when the world did not load; nothing without such a file.
    pub(super) revoked: Result<RevocationFile, Problem>,
}

/// A reading in memory, not yet compiled.
#[derive(Debug)]
pub(super) struct Gathered {
    sources: Result<Vec<Raw>, Vec<Problem>>,
    keys: BTreeMap<String, Result<Vec<u8>, Problem>>,
    revoked: Option<Result<Vec<u8>, Problem>>,
}

/// A place's content and how it is to be understood.
#[derive(Debug)]
struct Raw {
    name: String,
    origin: String,
    kind: SourceKind,
    content: Content,
}

/// Loads once, for `check` and start-up. Every problem is fatal here.
pub(super) fn once(settings: &Settings) -> Result<(Loaded, Picture), Vec<Problem>> {
    let (gathered, picture) = read_still(settings)?;
    let attempt = build(settings, gathered, None, None);
    let problems = attempt.problems();
    match attempt.world {
        Ok(loaded) if problems.is_empty() => Ok((loaded, picture)),
        _ => Err(problems),
    }
}

/// Reads the sources of the policies once, for whoever compiles them otherwise.
pub(super) fn sources(settings: &Settings) -> Result<Vec<Source>, Vec<Problem>> {
    // Neither keys nor revocations are sources.
    let settings = Settings { profiles: Vec::new(), revocation_file: None, ..settings.clone() };
    let (gathered, _) = read_still(&settings)?;
    into_sources(gathered.sources?, &settings)
}

/// Reads one state of everything.
fn read_still(settings: &Settings) -> Result<(Gathered, Picture), Vec<Problem>> {
    let take = || Picture::take(settings.places(), settings.limits(), &mut Watched::default());
    for _ in 0..ATTEMPTS {
        let picture = take();
        if let Some(gathered) = gather(settings, &picture)
            && take() == picture
        {
            return Ok((gathered, picture));
        }
    }
    Err(vec![unstable()])
}

/// Reads the content of every place of `picture`; `None` when the files are not those of the picture any more.
pub(super) fn gather(settings: &Settings, picture: &Picture) -> Option<Gathered> {
    let limits = settings.limits();
    let mut problems = Vec::new();
    let mut sources = Vec::new();
    for (place, name, kind) in settings.policy_places() {
        match picture.read(&place, limits) {
            Reading::Moved => return None,
            Reading::Done(Err(errors)) => problems.extend(errors.iter().map(super::read::ReadError::problem)),
            Reading::Done(Ok(content)) => {
                sources.push(Raw { name, origin: place.path.display().to_string(), kind, content });
            }
        }
    }
    let mut keys = BTreeMap::new();
    for (profile, source) in &settings.profiles {
        let bytes = match source {
            KeySource::Inline(text) => Ok(text.clone().into_bytes()),
            KeySource::File(path) => only_file(picture.read(&key_place(path), limits))?,
            KeySource::None | KeySource::Url { .. } | KeySource::Discovery { .. } => continue,
        };
        keys.insert(profile.issuer().to_owned(), bytes);
    }
    let revoked = match &settings.revocation_file {
        None => None,
        Some(path) => Some(only_file(picture.read(&revocation_place(path), limits))?),
    };
    Some(Gathered { sources: if problems.is_empty() { Ok(sources) } else { Err(problems) }, keys, revoked })
}

/// The bytes of a place that is one file; `None`: it is not the one of the picture any more.
fn only_file(reading: Reading) -> Option<Result<Vec<u8>, Problem>> {
    match reading {
        Reading::Moved => None,
        Reading::Done(Ok(content)) => Some(Ok(content.files.into_iter().next().map(|file| file.1).unwrap_or_default())),
        Reading::Done(Err(errors)) => {
            let first = errors.first().map(super::read::ReadError::problem);
            Some(Err(first.unwrap_or_else(|| problem("file_unreadable", "the file cannot be read", None))))
        }
    }
}

/// Compiles and checks. What `before` was compiled from is not compiled again.
///
/// `revoked`: what the revocation file said when it was last read.
pub(super) fn build(
    settings: &Settings,
    gathered: Gathered,
    before: Option<&Loaded>,
    revoked: Option<&RevocationFile>,
) -> Attempt {
    let mut local_keys = BTreeMap::new();
    let mut key_problems = BTreeMap::new();
    for (profile, source) in &settings.profiles {
        let Some(bytes) = gathered.keys.get(profile.issuer()) else { continue };
        match bytes.clone().and_then(|bytes| parse_local_keys(&bytes, profile, source)) {
            Ok(keys) => drop(local_keys.insert(profile.issuer().to_owned(), Arc::new(keys))),
            Err(problem) => drop(key_problems.insert(profile.issuer().to_owned(), problem)),
        }
    }
    let issuers = settings.profiles.iter().map(|(profile, _)| profile.issuer()).collect();
    let revoked = match (&settings.revocation_file, gathered.revoked) {
        (Some(path), Some(bytes)) => bytes.and_then(|bytes| revoked::load(path, &bytes, &issuers, revoked)),
        _ => Ok(RevocationFile::default()),
    };
    let mut world = build_world(settings, gathered.sources, local_keys.clone(), before);
    if let (Ok(world), Ok(revoked)) = (&mut world, &revoked) {
        world.revoked = revoked.clone();
    }
    Attempt { world, local_keys, key_problems, revoked }
}

fn build_world(
    settings: &Settings,
    sources: Result<Vec<Raw>, Vec<Problem>>,
    local_keys: BTreeMap<String, Arc<KeySet>>,
    before: Option<&Loaded>,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let profiles = Profiles::new(settings.profiles.iter().map(|(profile, _)| profile.clone()).collect());
    let profiles = profiles.map(|profiles| profiles.with_transmitters(settings.transmitters.clone()));
    let profiles = profiles.map_err(|e| problems.push(problem("issuer_profile_error", &e.to_string(), None))).ok();
    for (profile, source) in &settings.profiles {
        if let Err(error) = discovery::check_source(profile.issuer(), source) {
            problems.push(problem(error.code(), &format!("issuer `{}`: {error}", profile.issuer()), None));
        }
    }
    let outbound = outbound(&settings.outbound, before);
    let compiled = sources.and_then(|sources| compile(settings, sources, outbound.as_ref(), before));
    let (policies, content) = match compiled {
        Ok(compiled) => compiled,
        Err(more) => {
            problems.extend(more);
            return Err(problems);
        }
    };
    let entrypoint = settings.entrypoint.as_ref().map(|path| policies.entrypoint(path)).transpose();
    let missing = |error| {
        let problem = load_problem(&error);
        Problem { location: problem.location.or_else(|| settings.entrypoint_at.clone()), ..problem }
    };
    let entrypoint = entrypoint.map_err(|error| problems.push(missing(error))).ok().flatten();
    problems.extend(settings.subject.as_ref().and_then(|subject| unusable_records(&policies, subject)));
    if let (None, Some(subject), 2..) = (before, &settings.subject, settings.profiles.len()) {
        let (from, key) = (subject.from.join("."), &subject.key);
        tracing::warn!(
            "the records in `data.{from}` are found by `{key}` whoever issued the token; the issuers' names must not meet"
        );
    }
    if let Some(profiles) = &profiles {
        problems.extend(unprojected_claims(&policies, profiles));
    }
    match profiles {
        Some(profiles) if problems.is_empty() => Ok(Loaded {
            policies,
            entrypoint,
            profiles: Arc::new(profiles),
            local_keys,
            subject: settings.subject.clone(),
            anonymous: settings.anonymous,
            revoked: RevocationFile::default(),
            outbound,
            content,
        }),
        _ => Err(problems),
    }
}

/// Records that can never be looked up. None at all may come later, as data does.
fn unusable_records(policies: &PolicySet, subject: &SubjectSource) -> Option<Problem> {
    let place = subject.from.join(".");
    match policies.base_data(&subject.from) {
        Some(records) if records.as_object().is_ok() => None,
        Some(_) => {
            let message = format!("`data.{place}` (`subject.from`) is not an object of records by the callers' key");
            Some(problem("subject_not_an_object", &message, None))
        }
        None => {
            tracing::warn!("there is no `data.{place}` (`subject.from`) yet: no caller has a record");
            None
        }
    }
}

/// `None` when no host may be asked: policies that would ask do not load.
fn outbound(settings: &outbound::Settings, before: Option<&Loaded>) -> Option<Arc<Outbound>> {
    if settings.allow.is_empty() {
        return None;
    }
    let kept = before.and_then(|before| before.outbound.as_ref()).filter(|kept| kept.settings() == settings);
    Some(kept.map_or_else(|| Arc::new(Outbound::new(settings.clone())), Arc::clone))
}

fn compile(
    settings: &Settings,
    raws: Vec<Raw>,
    outbound: Option<&Arc<Outbound>>,
    before: Option<&Loaded>,
) -> Result<(Arc<PolicySet>, Vec<u8>), Vec<Problem>> {
    let digest = content_digest(settings, &raws);
    if let Some(before) = before.filter(|before| before.content == digest) {
        return Ok((Arc::clone(&before.policies), digest));
    }
    let http = outbound.map(|outbound| -> Arc<dyn HttpSend> { Arc::<Outbound>::clone(outbound) });
    let policy = policy::Settings { http, ..settings.policy.clone() };
    match PolicySet::load(into_sources(raws, settings)?, &policy) {
        Ok(policies) => {
            if let [first, ..] = policies.warnings() {
                let (warnings, place) = (policies.warnings().len(), first.location.as_ref().map(ToString::to_string));
                tracing::warn!(
                    warnings,
                    first = first.message,
                    place,
                    "policies have warnings; `claimgate check` lists them"
                );
            }
            Ok((Arc::new(policies), digest))
        }
        Err(errors) => Err(errors.iter().map(load_problem).collect()),
    }
}

fn into_sources(raws: Vec<Raw>, settings: &Settings) -> Result<Vec<Source>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut sources = Vec::with_capacity(raws.len());
    for raw in raws {
        match raw.into_source(settings) {
            Ok(source) => sources.push(source),
            Err(error) => problems.push(load_problem(&error)),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

/// A claim that policy reads and no profile lets through is always undefined: a rule that can never be true, or, under
/// `not`, one that always is.
fn unprojected_claims(policies: &PolicySet, profiles: &Profiles) -> Vec<Problem> {
    // Without any issuer no token is verified here, and `input.token` is the application's own.
    if profiles.is_empty() {
        return Vec::new();
    }
    let issuers: Vec<String> = profiles.iter().map(|profile| format!("`{}`", profile.issuer())).collect();
    let more = issuers.len().saturating_sub(MAX_SHOWN_ISSUERS);
    let mut shown = issuers.into_iter().take(MAX_SHOWN_ISSUERS).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    let projected: BTreeSet<&str> = profiles.iter().flat_map(IssuerProfile::projected_names).collect();
    let hidden = policies.claim_reads().iter().filter_map(|read| {
        let claim = read.claim.as_deref()?;
        (!projected.contains(claim)).then_some((claim, &read.location))
    });
    hidden
        .map(|(claim, location)| {
            let nearest = projected.iter().map(|name| (strsim::damerau_levenshtein(name, claim), *name)).min();
            let hint = match nearest {
                Some((distance, name)) if distance <= 2 && distance < claim.chars().count() => {
                    format!("; did you mean `{name}`?")
                }
                _ => String::new(),
            };
            let message = format!(
                "policy reads `input.token.claims.{claim}`, but no issuer ({shown}) lets policy see it; add it to \
                 `claims.keep` of the issuer whose tokens carry it, or rename a claim to it in `claims.rename`{hint}"
            );
            problem("claim_not_projected", &message, Some(location.to_string()))
        })
        .collect()
}

fn parse_local_keys(bytes: &[u8], profile: &IssuerProfile, source: &KeySource) -> Result<KeySet, Problem> {
    KeySet::parse(bytes, KeyOrigin::Local, profile.algorithms()).map_err(|error| {
        let location = match source {
            KeySource::File(path) => Some(path.display().to_string()),
            _ => None,
        };
        problem(error.code, &format!("keys of issuer `{}`: {error}", profile.issuer()), location)
    })
}

fn content_digest(settings: &Settings, raws: &[Raw]) -> Vec<u8> {
    let mut context = digest::Context::new(&SHA256);
    let mut field = |bytes: &[u8]| {
        context.update(&bytes.len().to_le_bytes());
        context.update(bytes);
    };
    field(format!("{:?} {:?}", settings.policy, settings.outbound).as_bytes());
    for raw in raws {
        field(raw.name.as_bytes());
        field(raw.origin.as_bytes());
        field(format!("{:?} {} {}", raw.kind, raw.content.is_directory, raw.content.files.len()).as_bytes());
        for (path, bytes) in &raw.content.files {
            field(path.as_bytes());
            field(bytes);
        }
    }
    context.finish().as_ref().to_vec()
}

/// The files did not hold still long enough to be read.
pub(super) fn unstable() -> Problem {
    let message = "files keep changing while they are read; a state is used only when it holds still";
    problem("files_unstable", message, None)
}

pub(super) fn problem(code: &str, message: &str, location: Option<String>) -> Problem {
    Problem { code: code.to_owned(), message: message.to_owned(), location }
}

fn load_problem(error: &LoadError) -> Problem {
    problem(error.code, &error.in_one_line(), error.location.as_ref().map(ToString::to_string))
}

fn revocation_place(path: &Path) -> Place {
    Place { path: path.to_owned(), kind: PlaceKind::Revocations }
}

fn key_place(path: &Path) -> Place {
    Place { path: path.to_owned(), kind: PlaceKind::Keys }
}

// === impl Attempt, Raw, Settings ===

impl Attempt {
    /// Everything that is wrong.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let world = self.world.as_ref().err().into_iter().flatten();
        self.key_problems.values().chain(world).chain(self.revoked.as_ref().err()).cloned().collect()
    }
}

impl Raw {
    fn into_source(self, settings: &Settings) -> Result<Source, LoadError> {
        let mut files = self.content.files.into_iter();
        if self.kind == SourceKind::Bundle && !self.content.is_directory {
            let bytes = files.next().map(|(_, bytes)| bytes).unwrap_or_default();
            return Source::from_archive(&self.name, &self.origin, &bytes, &settings.policy);
        }
        let files = files.map(|(path, bytes)| SourceFile { path, bytes }).collect();
        Ok(Source { name: self.name, origin: self.origin, kind: self.kind, files })
    }
}

impl Settings {
    /// Everything on disk that a snapshot is made from.
    pub(super) fn places(&self) -> Vec<Place> {
        let keys = self.profiles.iter().filter_map(|(_, source)| match source {
            KeySource::File(path) => Some(key_place(path)),
            _ => None,
        });
        let revoked = self.revocation_file.as_deref().map(revocation_place);
        self.policy_places().map(|(place, ..)| place).chain(keys).chain(revoked).collect()
    }

    fn policy_places(&self) -> impl Iterator<Item = (Place, String, SourceKind)> {
        let bundles = self.bundles.iter().map(|BundleSpec { name, path }| {
            let place = Place { path: path.clone(), kind: PlaceKind::Bundle };
            (place, name.clone(), SourceKind::Bundle)
        });
        let data = self.data.iter().map(|DataSpec { prefix, path }| {
            let place = Place { path: path.clone(), kind: PlaceKind::Data };
            (place, path.display().to_string(), SourceKind::Plain { prefix: prefix.clone() })
        });
        bundles.chain(data)
    }

    pub(super) fn limits(&self) -> Limits {
        let bytes = |limit: usize| u64::try_from(limit).unwrap_or(u64::MAX);
        Limits { file: bytes(self.policy.max_file_bytes), total: bytes(self.policy.max_bundle_bytes) }
    }

    /// Equal for equal settings. Inline keys count, though `Debug` hides them.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let mut context = digest::Context::new(&SHA256);
        context.update(format!("{self:?}").as_bytes());
        for (_, source) in &self.profiles {
            if let KeySource::Inline(text) = source {
                context.update(&text.len().to_le_bytes());
                context.update(text.as_bytes());
            }
        }
        context.finish().as_ref().to_vec()
    }
}
