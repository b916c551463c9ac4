//! Files of bundles, data, keys and configuration: what is there ([`Picture`]) and what is in it ([`Content`]).
//!
//! A picture is taken before and after reading; only when the two are equal has one state of the world been read.
//! Everything is bounded. Nothing here parses a file, waits, or decides what to do about a problem.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{links, links::Watched};
use crate::{snapshot::Problem, state::describe_io};

/// Files per place. A bundle of more is a mistake (`/` given as a bundle), not a policy.
const MAX_FILES: usize = 20_000;
/// Directory entries looked at per place, whatever their names.
const MAX_ENTRIES: usize = 200_000;
/// Directories below a place's root.
const MAX_DEPTH: usize = 32;
/// Largest key file. A JWKS of a hundred RSA keys with certificates is a quarter of it.
const MAX_KEY_FILE: u64 = 1 << 20;
/// Largest revocation file: a few million entries.
const MAX_REVOCATION_FILE: u64 = 512 << 20;
/// Largest configuration file that is looked at; its reader has a limit of its own.
const MAX_CONFIG_FILE: u64 = 4 << 20;

/// Something on disk that a snapshot depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// As the operator wrote it.
    pub(super) path: PathBuf,
    /// How it is read.
    pub(super) kind: PlaceKind,
}

/// How a place is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PlaceKind {
    /// A bundle directory or a `.tar.gz`.
    Bundle,
    /// A directory of policies and data, or one such file.
    Data,
    /// One JWKS file.
    Keys,
    /// One file of revocations.
    Revocations,
    /// The configuration file: watched here, read by its owner.
    Config,
}

/// Size limits of policy places, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// One file.
    pub(super) file: u64,
    /// All files of one place.
    pub(super) total: u64,
}

/// What stands in the places at one moment. Two equal pictures around a read mean that one state was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    places: BTreeMap<Place, Listing>,
    /// When a name last came or went in one of the directories: a sign of work under way, but names that are not read
    /// come and go too, so it does not count as a difference.
    newest_name: Time,
}

/// Seconds and nanoseconds since the epoch.
type Time = (i64, i64);

/// The files of one place and what kept us from seeing others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Listing {
    is_directory: bool,
    files: Vec<Found>,
    errors: Vec<ReadError>,
}

/// One file that will be read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    relative: String,
    stamp: Stamp,
}

/// What changes when a file changes. The change time cannot be set by a program, so a copy that keeps size and
/// modification time is still seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: Time,
    changed: Time,
}

/// The content of one place.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The place itself is a directory.
    pub(super) is_directory: bool,
    /// Path relative to the place (the file's own name when the place is a file) and bytes, sorted by path.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

/// Why a file could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("cannot read `{path}`: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("file `{path}` has {size} bytes, more than the limit of {limit}; make it smaller or raise the limit")]
    FileTooLarge { path: String, size: u64, limit: u64 },
    #[error("`{path}` holds more than {limit} bytes in all; make it smaller or raise the limit")]
    PlaceTooLarge { path: String, limit: u64 },
    #[error("`{path}` holds more than {limit} {what}; give the directory that holds the policies only")]
    TooMany { path: String, limit: usize, what: &'static str },
    #[error("symbolic link `{path}` leads back to a directory that contains it; remove it")]
    LinkLoop { path: String },
    #[error("`{path}` is not a regular file or directory")]
    NotAFile { path: String },
    #[error("the name of `{path}` is not UTF-8; rename it")]
    NameNotUtf8 { path: String },
    #[error("`{path}` is an archive; give it as a bundle")]
    ArchiveAsData { path: String },
    #[error("`{path}` is not a kind of file that data is read from; expected `.rego`, `.json`, `.yaml` or `.yml`")]
    UnknownKind { path: String },
}

/// What reading found.
#[derive(Debug)]
pub(super) enum Reading {
    /// The content, or what is wrong.
    Done(Result<Content, Vec<ReadError>>),
    /// The files changed since the picture was taken.
    Moved,
}

// === impl Picture ===

impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        self.places == other.places
    }
}

impl Picture {
    /// Looks at every place. `watched` receives the directories in which a change of them would show.
    pub(super) fn take(places: impl IntoIterator<Item = Place>, limits: Limits, watched: &mut Watched) -> Self {
        let mut picture = Self::default();
        for place in places {
            let (listing, newest_name) = Walker::new(&place, limits, watched).list();
            picture.newest_name = picture.newest_name.max(newest_name);
            picture.places.insert(place, listing);
        }
        picture
    }

    /// Adds what `other` saw.
    pub(super) fn merge(&mut self, other: Self) {
        self.places.extend(other.places);
        self.newest_name = self.newest_name.max(other.newest_name);
    }

    /// Shows this picture everything that `part` shows, in the same state?
    pub(super) fn contains(&self, part: &Self) -> bool {
        part.places.iter().all(|(place, listing)| self.places.get(place) == Some(listing))
    }

    /// Forgets every place that is not among `places`.
    pub(super) fn retain(&mut self, places: &[Place]) {
        self.places.retain(|place, _| places.contains(place));
    }

    /// The places that were looked at.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.keys()
    }

    /// Did the file system hide anything? Such a state may end without any file changing.
    pub(super) fn has_errors(&self) -> bool {
        self.places.values().any(|listing| !listing.errors.is_empty())
    }

    /// How long to wait until the newest change is at least `quiet` old. Times in the future say nothing.
    pub(super) fn too_fresh(&self, quiet: Duration, now: SystemTime) -> Option<Duration> {
        let files = self.places.values().flat_map(|listing| &listing.files);
        let newest = files.map(|file| file.stamp.changed.max(file.stamp.modified)).max().unwrap_or_default();
        let newest = newest.max(self.newest_name);
        let newest = SystemTime::UNIX_EPOCH
            + Duration::new(u64::try_from(newest.0).ok()?, u32::try_from(newest.1).unwrap_or_default());
        let age = now.duration_since(newest).ok()?;
        quiet.checked_sub(age).filter(|wait| !wait.is_zero())
    }

    /// Reads the content of one place of this picture.
    pub(super) fn read(&self, place: &Place, limits: Limits) -> Reading {
        let Some(listing) = self.places.get(place) else { return Reading::Moved };
        if !listing.errors.is_empty() {
            return Reading::Done(Err(listing.errors.clone()));
        }
        let limit = place.kind.file_limit(limits, listing.is_directory);
        let mut content =
            Content { is_directory: listing.is_directory, files: Vec::with_capacity(listing.files.len()) };
        for file in &listing.files {
            match read_file(file, limit) {
                Ok(Some(bytes)) => content.files.push((file.relative.clone(), bytes)),
                Ok(None) => return Reading::Moved,
                Err(error) => return Reading::Done(Err(vec![error])),
            }
        }
        Reading::Done(Ok(content))
    }
}

/// `None`: the file is not the one that was listed any more.
fn read_file(found: &Found, limit: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let unreadable = |error: &io::Error| ReadError::unreadable(&found.path, error);
    let file = match fs::File::open(&found.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    if Stamp::of(&file.metadata().map_err(|e| unreadable(&e))?) != found.stamp {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.stamp.size.min(limit)).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    Ok((u64::try_from(bytes.len()) == Ok(found.stamp.size)).then_some(bytes))
}

// === impl Walker ===

/// Lists one place.
struct Walker<'a> {
    place: &'a Place,
    limits: Limits,
    watched: &'a mut Watched,
    listing: Listing,
    /// Device and inode of every directory from the root to here: a repeat is a loop.
    trail: Vec<(u64, u64)>,
    newest_name: Time,
    entries: usize,
    bytes: u64,
}

impl<'a> Walker<'a> {
    fn new(place: &'a Place, limits: Limits, watched: &'a mut Watched) -> Self {
        let newest_name = Time::default();
        Self {
            place,
            limits,
            watched,
            listing: Listing::default(),
            trail: Vec::new(),
            newest_name,
            entries: 0,
            bytes: 0,
        }
    }

    fn list(mut self) -> (Listing, Time) {
        if let Err(error) = self.root() {
            self.listing.errors.push(error);
        }
        (self.listing, self.newest_name)
    }

    fn root(&mut self) -> Result<(), ReadError> {
        let path = &self.place.path;
        let real = links::follow(path, self.watched).map_err(|e| ReadError::unreadable(path, &e))?;
        let metadata = fs::metadata(&real).map_err(|e| ReadError::unreadable(path, &e))?;
        if metadata.is_dir() && matches!(self.place.kind, PlaceKind::Bundle | PlaceKind::Data) {
            self.listing.is_directory = true;
            return self.directory(path, &real, "", &metadata);
        }
        let name = path.file_name().unwrap_or_default().to_str();
        let name = name.ok_or_else(|| ReadError::NameNotUtf8 { path: show(path) })?;
        if self.place.kind == PlaceKind::Data {
            if is_archive(name) {
                return Err(ReadError::ArchiveAsData { path: show(path) });
            }
            if !is_plain_source(name) {
                return Err(ReadError::UnknownKind { path: show(path) });
            }
        }
        self.file(path, name.to_owned(), &metadata)
    }

    fn directory(
        &mut self,
        path: &Path,
        real: &Path,
        relative: &str,
        metadata: &fs::Metadata,
    ) -> Result<(), ReadError> {
        let identity = (metadata.dev(), metadata.ino());
        if self.trail.contains(&identity) {
            return Err(ReadError::LinkLoop { path: show(path) });
        }
        if self.trail.len() > MAX_DEPTH {
            return Err(self.too_many(MAX_DEPTH, "nested directories"));
        }
        self.trail.push(identity);
        self.newest_name = self.newest_name.max((metadata.mtime(), metadata.mtime_nsec()));
        self.watched.directory(real);
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| ReadError::unreadable(path, &e))? {
            let entry = entry.map_err(|e| ReadError::unreadable(path, &e))?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(self.too_many(MAX_ENTRIES, "directory entries"));
            }
            names.push(entry.file_name());
        }
        names.sort_unstable();
        for name in names {
            let path = path.join(&name);
            let Some(text) = name.to_str() else {
                if is_source_name(self.place.kind, &name.to_string_lossy()) || path.is_dir() {
                    return Err(ReadError::NameNotUtf8 { path: show(&path) });
                }
                continue;
            };
            if self.is_skipped(text) {
                continue;
            }
            let relative = if relative.is_empty() { text.to_owned() } else { format!("{relative}/{text}") };
            // One unreadable file does not hide the problems of the others.
            if let Err(error) = self.entry(&path, &real.join(&name), text, relative) {
                let fatal = matches!(error, ReadError::PlaceTooLarge { .. } | ReadError::TooMany { .. });
                if fatal {
                    return Err(error);
                }
                self.listing.errors.push(error);
            }
        }
        self.trail.pop();
        Ok(())
    }

    fn entry(&mut self, path: &Path, real: &Path, name: &str, relative: String) -> Result<(), ReadError> {
        let unreadable = |error: &io::Error| ReadError::unreadable(path, error);
        let mut metadata = fs::symlink_metadata(path).map_err(|e| unreadable(&e))?;
        let mut real = real.to_owned();
        if metadata.is_symlink() {
            real = links::follow(&real, self.watched).map_err(|e| unreadable(&e))?;
            metadata = fs::metadata(&real).map_err(|e| unreadable(&e))?;
        }
        if metadata.is_dir() {
            // A directory that fails must not leave its identity behind for its siblings.
            let depth = self.trail.len();
            let result = self.directory(path, &real, &relative, &metadata);
            self.trail.truncate(depth);
            return result;
        }
        if is_source_name(self.place.kind, name) { self.file(path, relative, &metadata) } else { Ok(()) }
    }

    fn file(&mut self, path: &Path, relative: String, metadata: &fs::Metadata) -> Result<(), ReadError> {
        // Opening a pipe would wait for ever.
        if !metadata.is_file() {
            return Err(ReadError::NotAFile { path: show(path) });
        }
        let (size, limit) = (metadata.len(), self.place.kind.file_limit(self.limits, self.listing.is_directory));
        if size > limit {
            return Err(ReadError::FileTooLarge { path: show(path), size, limit });
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.total.max(limit) {
            return Err(ReadError::PlaceTooLarge { path: show(&self.place.path), limit: self.limits.total });
        }
        if self.listing.files.len() >= MAX_FILES {
            return Err(self.too_many(MAX_FILES, "policy and data files"));
        }
        self.listing.files.push(Found { path: path.to_owned(), relative, stamp: Stamp::of(metadata) });
        Ok(())
    }

    /// Hidden entries (`.git`, Kubernetes' `..data`, editors' `.x.swp` and `.#x`) and editors' backups are not loaded.
    /// The manifest stands in the root of a bundle only.
    fn is_skipped(&self, name: &str) -> bool {
        let manifest = name == ".manifest" && self.place.kind == PlaceKind::Bundle && self.trail.len() == 1;
        (name.starts_with('.') && !manifest) || name.ends_with('~') || name.starts_with('#')
    }

    fn too_many(&self, limit: usize, what: &'static str) -> ReadError {
        ReadError::TooMany { path: show(&self.place.path), limit, what }
    }
}

// === impl PlaceKind, Stamp, ReadError ===

impl PlaceKind {
    fn file_limit(self, limits: Limits, in_directory: bool) -> u64 {
        match self {
            // An archive is one compressed file; its members are bounded when it is unpacked.
            Self::Bundle if !in_directory => limits.total,
            Self::Bundle | Self::Data => limits.file,
            Self::Keys => MAX_KEY_FILE,
            Self::Revocations => MAX_REVOCATION_FILE,
            Self::Config => MAX_CONFIG_FILE,
        }
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl ReadError {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable { path: show(path), reason: describe_io(error) }
    }

    /// Stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "file_unreadable",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::PlaceTooLarge { .. } => "bundle_too_large",
            Self::TooMany { .. } => "too_many_files",
            Self::LinkLoop { .. } => "symlink_loop",
            Self::NotAFile { .. } => "not_a_file",
            Self::NameNotUtf8 { .. } => "file_name_not_utf8",
            Self::ArchiveAsData { .. } | Self::UnknownKind { .. } => "unknown_file_kind",
        }
    }

    /// For the operator.
    pub(super) fn problem(&self) -> Problem {
        let (Self::Unreadable { path, .. }
        | Self::FileTooLarge { path, .. }
        | Self::PlaceTooLarge { path, .. }
        | Self::TooMany { path, .. }
        | Self::LinkLoop { path }
        | Self::NotAFile { path }
        | Self::NameNotUtf8 { path }
        | Self::ArchiveAsData { path }
        | Self::UnknownKind { path }) = self;
        Problem { code: self.code().to_owned(), message: self.to_string(), location: Some(path.clone()) }
    }
}

/// Would a file of this name be read?
pub(super) fn is_source_name(kind: PlaceKind, name: &str) -> bool {
    match kind {
        PlaceKind::Bundle => is_rego(name) || matches!(name, "data.json" | "data.yaml" | "data.yml" | ".manifest"),
        PlaceKind::Data => is_plain_source(name),
        PlaceKind::Keys | PlaceKind::Revocations | PlaceKind::Config => true,
    }
}

fn is_plain_source(name: &str) -> bool {
    is_rego(name) || [".json", ".yaml", ".yml"].iter().any(|end| name.ends_with(end))
}

fn is_rego(name: &str) -> bool {
    name.ends_with(".rego")
}

fn is_archive(name: &str) -> bool {
    name.ends_with(".tar.gz") || name.ends_with(".tgz")
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
