//! A bearer credential that stands in a file, for doors that machines of the operator knock at. The file is looked at again
//! every ten seconds at most, so that it can be replaced while the program runs and a flood of requests reads nothing. What
//! is presented is compared by digest, in a time that says nothing about the credential; neither is ever shown.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::state::describe_io;

/// The credential.
pub(super) struct Credential {
    path: PathBuf,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// SHA-256 of the newest credential that could be read.
    digest: Option<Vec<u8>>,
    looked_at: Option<Instant>,
    /// The last problem was told.
    has_complained: bool,
}

/// Shortest credential: as many random letters cannot be guessed.
pub(super) const SHORTEST: usize = 16;
const LONGEST: u64 = 4096;
const LOOK_AGAIN: Duration = Duration::from_secs(10);

// === impl Credential ===

impl Credential {
    /// Reads nothing yet.
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, known: RwLock::default() })
    }

    /// Does the request present the credential, once, as `Authorization: Bearer`? While it could never be read, nobody
    /// does.
    pub(super) async fn is_presented(self: &Arc<Self>, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, presented)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return false;
        }
        if self.is_look_due() {
            let this = Arc::clone(self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.look()).await {
                tracing::error!(%error, "the credential cannot be looked at");
            }
        }
        let presented = digest_of(presented.trim_matches(' '));
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.digest.as_ref().is_some_and(|digest| verify_slices_are_equal(digest, &presented).is_ok())
    }

    fn is_look_due(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.looked_at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN)
    }

    fn look(&self) {
        let read = read(&self.path);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.looked_at = Some(Instant::now());
        match read {
            Ok(text) => {
                known.digest = Some(digest_of(&text));
                known.has_complained = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut known.has_complained, true) {
                    let (file, error) = (self.path.display(), describe_io(&error));
                    tracing::error!(%file, error, "the credential cannot be read; the one before it, if any, still holds");
                }
            }
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.path.display())
    }
}

/// The credential in a file: its text without the white space around it.
///
/// # Errors
/// The file cannot be read, or holds no credential.
pub fn read(path: &Path) -> io::Result<String> {
    // Opening a pipe waits for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    let credential = text.trim();
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it has more than 4096 bytes"));
    }
    if credential.len() < SHORTEST {
        return Err(io::Error::other("it holds a credential of fewer than 16 characters"));
    }
    if !credential.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::Error::other("it holds more than one word of ASCII characters"));
    }
    Ok(credential.to_owned())
}

fn digest_of(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(credential: &Arc<Credential>, values: &[&str], expected: bool) {
        let headers = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect();
        assert_eq!(credential.is_presented(&headers).await, expected, "{values:?}");
    }

    #[tokio::test]
    async fn only_the_whole_credential_presented_once_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credential");
        fs::write(&file, "  0123456789abcdef\n").unwrap();
        let credential = Credential::new(file.clone());
        check(&credential, &["Bearer 0123456789abcdef"], true).await;
        check(&credential, &["bearer  0123456789abcdef"], true).await;
        for values in [
            &[][..],
            &[""],
            &["0123456789abcdef"],
            &["Bearer"],
            &["Bearer "],
            &["Basic 0123456789abcdef"],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdefg"],
            &["Bearer 0123456789ABCDEF"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            check(&credential, values, false).await;
        }
        // A file that is gone takes nothing back.
        fs::remove_file(&file).unwrap();
        credential.look();
        check(&credential, &["Bearer 0123456789abcdef"], true).await;
        fs::write(&file, "another-credential").unwrap();
        credential.look();
        check(&credential, &["Bearer 0123456789abcdef"], false).await;
        check(&credential, &["Bearer another-credential"], true).await;
    }

    #[tokio::test]
    async fn nobody_presents_what_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        for (text, expected) in
            [(None, false), (Some(""), false), (Some("short"), false), (Some("two words of it"), false)]
        {
            let file = directory.path().join("credential");
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            let credential = Credential::new(file);
            check(&credential, &["Bearer "], expected).await;
            check(&credential, &["Bearer short"], expected).await;
        }
    }
}
