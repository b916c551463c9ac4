//! Symbolic links, followed one by one, so that every directory in which a change of one would show is known.
//!
//! `canonicalize` only tells where a path ends. A deployment that swaps `/etc/current -> releases/42` changes `/etc`,
//! and Kubernetes' `data.json -> ..data/data.json`, `..data -> ..2026_01_01` changes the directory that holds `..data`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Component, Path, PathBuf},
};

/// Links followed for one path before it is called a loop, as Linux does.
const MAX_LINKS: usize = 40;

/// Directories (real paths) to watch, and which of their entries matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Watched {
    directories: BTreeMap<PathBuf, Names>,
    /// Directories that were only passed through: a rename there changes where a path leads, so they are worth a watch,
    /// but one may be allowed to pass through a directory and not to watch it.
    passed: BTreeSet<PathBuf>,
}

/// Which entries of a watched directory matter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    All,
    Only(BTreeSet<OsString>),
}

// === impl Watched ===

impl Watched {
    /// Every entry of `directory` matters.
    pub(super) fn directory(&mut self, directory: &Path) {
        self.directories.insert(directory.to_owned(), Names::All);
        self.passed.remove(directory);
    }

    /// The entry `name` of `directory` matters.
    pub(super) fn entry(&mut self, directory: &Path, name: &OsStr) {
        self.name(directory, name);
        self.passed.remove(directory);
    }

    /// The way leads through the entry `name` of `directory`.
    fn passage(&mut self, directory: &Path, name: &OsStr) {
        if !self.directories.contains_key(directory) {
            self.passed.insert(directory.to_owned());
        }
        self.name(directory, name);
    }

    fn name(&mut self, directory: &Path, name: &OsStr) {
        let names = self.directories.entry(directory.to_owned()).or_insert_with(|| Names::Only(BTreeSet::new()));
        if let Names::Only(names) = names {
            names.insert(name.to_owned());
        }
    }

    /// The directories.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.keys().map(PathBuf::as_path)
    }

    /// Is it a fault when `directory` cannot be watched?
    pub(super) fn is_needed(&self, directory: &Path) -> bool {
        !self.passed.contains(directory)
    }

    /// Is `path` one of the directories?
    pub(super) fn watches(&self, path: &Path) -> bool {
        self.directories.contains_key(path)
    }

    /// Does a change of `path` matter? A watched directory itself always does.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        if self.directories.contains_key(path) {
            return true;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
        match self.directories.get(parent) {
            Some(Names::All) => true,
            Some(Names::Only(names)) => names.contains(name),
            None => false,
        }
    }

    /// Is `path` one that was asked for by name?
    pub(super) fn names(&self, path: &Path) -> bool {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return false };
        matches!(self.directories.get(parent), Some(Names::Only(names)) if names.contains(name))
    }
}

/// Where `path` really is. On the way, `watched` receives every directory that was passed; those of links, of the last
/// component and, when something is missing, of the first component that is, count as needed.
///
/// # Errors
/// The operating system's, or a loop of links.
pub(super) fn follow(path: &Path, watched: &mut Watched) -> io::Result<PathBuf> {
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    let mut at = PathBuf::from("/");
    push_front(&mut ahead, &std::path::absolute(path)?);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let metadata = fs::symlink_metadata(&next);
        let is_link = metadata.as_ref().is_ok_and(fs::Metadata::is_symlink);
        if is_link || ahead.is_empty() || metadata.is_err() {
            watched.entry(&at, &name);
        } else {
            watched.passage(&at, &name);
        }
        metadata?;
        if !is_link {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::other("too many levels of symbolic links"));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        push_front(&mut ahead, &target);
    }
    Ok(at)
}

fn push_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_in_which_a_link_could_change_is_watched() {
        let root = tempfile::TempDir::new().unwrap();
        let root = fs::canonicalize(root.path()).unwrap().join("r");
        fs::create_dir_all(root.join("releases/42/policy")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../releases/42", root.join("etc/current")).unwrap();
        symlink(root.join("etc/current/policy"), root.join("bundle")).unwrap();

        let mut watched = Watched::default();
        assert_eq!(follow(&root.join("bundle"), &mut watched).unwrap(), root.join("releases/42/policy"));
        for changed in ["", "bundle", "etc", "etc/current", "releases", "releases/42", "releases/42/policy"] {
            assert!(watched.concerns(&root.join(changed)), "{changed}");
        }
        for (directory, expected) in [("", true), ("etc", true), ("releases/42", true), ("releases", false)] {
            assert_eq!(watched.is_needed(&root.join(directory)), expected, "{directory}");
        }
        assert!(!watched.is_needed(Path::new("/")), "a machine may hide its root");
        for other in ["other", "etc/other", "releases/41"] {
            assert!(!watched.concerns(&root.join(other)), "{other}");
        }
    }

    #[test]
    fn what_is_missing_is_watched_for_where_it_would_appear() {
        let root = tempfile::TempDir::new().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let mut watched = Watched::default();
        let error = follow(&root.join("a/b/c"), &mut watched).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(watched.concerns(&root.join("a")));
        assert!(watched.is_needed(&root));
        assert!(!watched.concerns(&root.join("a/b")));
    }
}
