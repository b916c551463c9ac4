//! The state directory: what outlives a restart, such as the last good keys of issuers and revocations.
//!
//! It belongs to this program alone: a directory that others may write into is refused, because whoever writes there
//! says which keys are believed. A file in it appears whole or not at all. Nothing here knows what the files mean.
//!
//! [`read_regular`] also reads the small files that operators name: credentials, certificates, keys.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Written to find out whether writing is possible.
const PROBE: &str = ".probe";
/// Bits by which others than the owner may write.
const SHARED: u32 = 0o022;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is missing, and so is the directory in which it would be made.
    #[error("`{}`: {}; make `{}`, or write another path", .path.display(), describe_io(.source), .parent.display())]
    NoParent {
        /// The directory.
        path: PathBuf,
        /// Where it would be made.
        parent: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// It cannot be looked at or made.
    #[error("`{}` cannot be used: {}; give this program's user the right to, or write another path", .path.display(), describe_io(.source))]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Something else stands there.
    #[error("`{}` is not a directory; write the path of a directory", .path.display())]
    NotADirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Group or others may write into it.
    #[error(
        "`{}` may be written by others (mode {mode:04o}), who could put keys there that would be believed; \
         `chmod go-w` it, or name a directory below it, which is then made with mode 0700",
        .path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is somebody else's.
    #[error("`{}` belongs to user {owner}, who could put keys there that would be believed; name a directory of this program's own user", .path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Files cannot be made in it.
    #[error("`{}` cannot be written: {}; give this program's user the right to, or write another path", .path.display(), describe_io(.source))]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// Looks at a directory without changing anything. One that is missing is fine when it could be made.
///
/// # Errors
/// The first thing that keeps it from being used.
pub fn examine(directory: &Path) -> Result<(), StateError> {
    let path = || directory.to_path_buf();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let parent = match directory.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            return match fs::metadata(parent) {
                Ok(above) if above.is_dir() => Ok(()),
                Ok(_) => Err(StateError::NotADirectory { path: parent.to_path_buf() }),
                Err(source) => Err(StateError::NoParent { path: path(), parent: parent.to_path_buf(), source }),
            };
        }
        Err(source) => return Err(StateError::Unusable { path: path(), source }),
    };
    if !metadata.is_dir() {
        return Err(StateError::NotADirectory { path: path() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & SHARED != 0 { Err(StateError::Shared { path: path(), mode }) } else { Ok(()) }
}

/// Makes the directory (mode 0700) when it is missing, and makes sure that it is private and can be written.
///
/// # Errors
/// As [`examine`]; also when it is another user's, or files cannot be made in it.
pub fn prepare(directory: &Path) -> Result<(), StateError> {
    examine(directory)?;
    let path = || directory.to_path_buf();
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(StateError::Unusable { path: path(), source }),
    }
    // Again: it may have come into being meanwhile.
    examine(directory)?;
    let ours = write_through(directory, PROBE, b"").map_err(|source| StateError::ReadOnly { path: path(), source })?;
    let owner = fs::metadata(directory).map_err(|source| StateError::Unusable { path: path(), source })?.uid();
    // The superuser can write everywhere anyhow.
    if owner == ours || owner == 0 { Ok(()) } else { Err(StateError::Foreign { path: path(), owner }) }
}

/// Puts a file (mode 0600) in place of what stood under this name: either the old content is there or the new one,
/// also after a loss of power.
///
/// # Errors
/// The system's; the old content stands.
pub fn replace(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = directory.join(format!(".{name}.new"));
    let mut file = create(&new)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    drop(file);
    let placed = written.and_then(|()| fs::rename(&new, directory.join(name)));
    if placed.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&new);
    }
    placed?;
    File::open(directory)?.sync_all()
}

/// The content of a regular file of at most `limit` bytes; `None` when there is no file.
///
/// # Errors
/// The system's; `InvalidData` when it is too long, is no regular file, or others may write it.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    // Without following a link.
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(invalid("it is not a regular file"));
    }
    if metadata.mode() & SHARED != 0 {
        return Err(invalid("others may write it"));
    }
    read_regular(path, limit).map(Some)
}

/// All of a regular file of at most `limit` bytes. Nothing else is opened: opening a pipe waits for a writer.
///
/// # Errors
/// The system's; `InvalidData` when it is too long or no regular file.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if !fs::metadata(path)?.is_file() {
        return Err(invalid("it is not a regular file".to_owned()));
    }
    let mut content = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > limit) {
        return Err(invalid(format!("it has more than {limit} bytes")));
    }
    Ok(content)
}

/// The operating system's word on a file or connection, without its number.
#[must_use]
pub fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => {
            let text = error.to_string();
            text.rsplit_once(" (os error ").map_or(text.clone(), |(word, _)| word.to_lowercase())
        }
    }
}

// === impl StateError ===

impl StateError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoParent { .. } => "state_directory_missing",
            Self::Unusable { .. } => "state_directory_unusable",
            Self::NotADirectory { .. } => "state_not_a_directory",
            Self::Shared { .. } => "state_directory_shared",
            Self::Foreign { .. } => "state_directory_foreign",
            Self::ReadOnly { .. } => "state_directory_read_only",
        }
    }
}

// === helpers ===

fn create(path: &Path) -> io::Result<File> {
    // What a program that was killed left behind, or a link that leads elsewhere.
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a file and removes it again. The user it belonged to.
fn write_through(directory: &Path, name: &str, content: &[u8]) -> io::Result<u32> {
    let path = directory.join(name);
    let mut file = create(&path)?;
    let owner = file.write_all(content).and_then(|()| file.metadata()).map(|metadata| metadata.uid());
    fs::remove_file(&path)?;
    owner
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_missing_directory_is_made_for_its_owner_alone_and_only_when_asked() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state");
        examine(&directory).unwrap();
        assert!(!directory.exists());
        prepare(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
        prepare(&directory).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "the probe is gone");
    }

    #[test]
    fn a_directory_that_is_not_private_or_is_none_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state");
        let check = |want: Option<&str>| {
            assert_eq!(examine(&directory).err().map(|error| error.code()), want);
            assert_eq!(prepare(&directory).err().map(|error| error.code()), want);
        };
        fs::create_dir(&directory).unwrap();
        for (mode, want) in [
            (0o700, None),
            (0o755, None),
            (0o770, Some("state_directory_shared")),
            (0o777, Some("state_directory_shared")),
            (0o1777, Some("state_directory_shared")),
            (0o702, Some("state_directory_shared")),
        ] {
            set_mode(&directory, mode);
            check(want);
        }
        fs::remove_dir(&directory).unwrap();
        fs::write(&directory, "").unwrap();
        check(Some("state_not_a_directory"));
        let below = directory.join("more");
        assert_eq!(examine(&below).unwrap_err().code(), "state_directory_unusable");
        assert_eq!(examine(&home.path().join("a/b")).unwrap_err().code(), "state_directory_missing");
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        assert!(read(&path, 10).unwrap().is_none());
        for content in [&b"one"[..], b"", b"three"] {
            replace(home.path(), "a", content).unwrap();
            assert_eq!(read(&path, 10).unwrap().unwrap(), content);
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing is left over");
        // What was left over by a program that was killed is in nobody's way, and a link is not written through.
        let victim = home.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, home.path().join(".a.new")).unwrap();
        replace(home.path(), "a", b"four").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert!(replace(&home.path().join("none"), "a", b"").is_err());
    }

    #[test]
    fn what_could_not_be_ours_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        let check = |why: &str| assert!(read(&path, 4).unwrap_err().to_string().contains(why), "{why}");
        fs::write(&path, "12345").unwrap();
        check("more than 4 bytes");
        assert!(read_regular(home.path(), 4).unwrap_err().to_string().contains("regular"));
        fs::write(&path, "1234").unwrap();
        set_mode(&path, 0o666);
        check("others");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        check("regular");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        check("regular");
    }
}
