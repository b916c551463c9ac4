//! The credential of whoever may revoke. It is compared in constant time and shown nowhere.

use std::{io, path::Path};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};

use crate::{
    state::read_regular,
    token::{Secret, SecretSource},
};

/// Shorter ones can be guessed.
pub const SHORTEST_CREDENTIAL: usize = 16;
/// A longer file holds something else.
const MOST_BYTES: u64 = 4096;

/// Bearer credentials, each of which is enough: given, or in a file that is read anew for each request. So a new one counts
/// at once, and an old one can go on for as long as its senders need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials(Vec<SecretSource>);

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("it cannot be read: {}", crate::state::describe_io(.0))]
    Unreadable(#[from] io::Error),
    /// It could be guessed.
    #[error("it has fewer than {SHORTEST_CREDENTIAL} characters; use one such as `openssl rand -hex 32` prints")]
    TooShort,
}

// === impl Credentials ===

impl Credentials {
    /// Wraps what was configured; `None` when nothing was, because then nothing is a credential.
    #[must_use]
    pub fn new(sources: Vec<SecretSource>) -> Option<Self> {
        (!sources.is_empty()).then_some(Self(sources))
    }

    /// Can this be used as it stands? Reads the file.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn examine(source: &SecretSource) -> Result<(), CredentialError> {
        secret(source).map(drop)
    }

    /// SHA-256 of each that can be read now, for doors that keep them for a while. Blocks while files are read.
    ///
    /// # Errors
    /// [`CredentialError`]: none could be read.
    pub fn digests(&self) -> Result<Vec<Vec<u8>>, CredentialError> {
        let mut digests = Vec::new();
        let mut problem = None;
        for source in &self.0 {
            match secret(source) {
                Ok(secret) => digests.push(digest(&SHA256, secret.expose().as_bytes()).as_ref().to_vec()),
                Err(error) => problem = Some(error),
            }
        }
        match problem {
            Some(error) if digests.is_empty() => Err(error),
            _ => Ok(digests),
        }
    }

    /// Is this one of them? Blocks while files are read.
    ///
    /// # Errors
    /// [`CredentialError`]: it is none of those that could be read, and one could not.
    pub fn accept(&self, presented: &str) -> Result<bool, CredentialError> {
        let presented = digest(&SHA256, presented.as_bytes());
        let mut answer = Ok(false);
        for source in &self.0 {
            match secret(source) {
                Ok(secret) => {
                    // Digests have one length, so that not even the length of the secret shows in the time.
                    let ours = digest(&SHA256, secret.expose().as_bytes());
                    if verify_slices_are_equal(ours.as_ref(), presented.as_ref()).is_ok() {
                        answer = Ok(true);
                    }
                }
                Err(error) if !matches!(answer, Ok(true)) => answer = Err(error),
                Err(_) => {}
            }
        }
        answer
    }
}

fn secret(source: &SecretSource) -> Result<Secret, CredentialError> {
    let secret = match source {
        SecretSource::Text(secret) => secret.clone(),
        SecretSource::File(path) => Secret::new(&read(path)?),
    };
    if secret.expose().chars().count() < SHORTEST_CREDENTIAL { Err(CredentialError::TooShort) } else { Ok(secret) }
}

fn read(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
    String::from_utf8(read_regular(path, MOST_BYTES)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_credential_is_itself_and_nothing_else() {
        let given = Credentials::new(vec![SecretSource::Text(Secret::new("correct horse battery"))]).unwrap();
        for (presented, want) in [
            ("correct horse battery", true),
            ("correct horse batterz", false),
            ("correct horse batter", false),
            ("correct horse battery ", false),
            ("Correct horse battery", false),
            ("", false),
        ] {
            assert_eq!(given.accept(presented).unwrap(), want, "{presented}");
        }
        assert!(!format!("{given:?}").contains("horse"));
    }

    #[test]
    fn a_file_is_read_anew_each_time_and_a_bad_one_lets_nobody_in() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("credential");
        let credential = Credentials::new(vec![SecretSource::File(path.clone())]).unwrap();
        assert!(matches!(credential.accept("x"), Err(CredentialError::Unreadable(_))));
        for (content, presented, want) in [
            ("first-credential-1\n", "first-credential-1", Some(true)),
            ("second-credential", "first-credential-1", Some(false)),
            ("second-credential\r\n\n", "second-credential", Some(true)),
            ("too-short", "too-short", None),
            ("\n", "", None),
            ("", "", None),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(credential.accept(presented).ok(), want, "{content:?}");
        }
        // The other one counts all the same.
        let other = SecretSource::Text(Secret::new("another-credential"));
        let both = [SecretSource::File(path.clone()), other];
        for order in [both.clone(), [both[1].clone(), both[0].clone()]] {
            let credentials = Credentials::new(order.to_vec()).unwrap();
            assert!(credentials.accept("another-credential").unwrap());
            assert!(credentials.accept("something-else").is_err());
        }
        assert_eq!(Credentials::new(Vec::new()), None);
    }
}
